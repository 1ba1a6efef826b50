import pytest

from sklearn_hss.datasets import make_poisson


@pytest.fixture(scope="session")
def poisson():
    """Forty small samples (F, U): enough to see whether training works, small enough to do it often."""
    F, U = make_poisson(40, 32, modes=(1, 5), random_state=0)
    F.flags.writeable = U.flags.writeable = False
    return F, U

"""Orders of convergence: asserted by the tests, and shown as the table of the documentation.

``pytest tests/datasets -k order`` prints it below the results of the tests.
"""

import numpy as np
import pytest

_OBSERVED: dict[str, tuple] = {}


@pytest.fixture(scope="session")
def check_order():
    """Assert an observed order of convergence, and note it for the table."""

    def check(problem, resolutions, errors, nominal, atol=0.15, fitted=False):
        """`errors` belong to `resolutions`: numbers of points per axis, or of time steps.

        The order is asserted from each resolution to the next; `fitted` stands for a line through all of them, where
        errors also depend on how a grid happens to lie.
        """
        n, e = np.log(resolutions), -np.log(errors)
        observed = np.polyfit(n, e, 1)[:1] if fitted else np.diff(e) / np.diff(n)
        _OBSERVED[problem] = (nominal, observed[-1], errors[-1], resolutions[-1])
        np.testing.assert_allclose(observed, nominal, atol=atol, err_msg=problem)

    return check


def pytest_terminal_summary(terminalreporter):
    if _OBSERVED:
        terminalreporter.section("observed orders of convergence")
        terminalreporter.line(f"{'problem and scheme':<70} {'nominal':>8} {'observed':>9} {'last error':>11} {'at':>5}")
        for problem, (nominal, observed, error, resolution) in _OBSERVED.items():
            terminalreporter.line(f"{problem:<70} {nominal:>8} {observed:>9.2f} {error:>11.1e} {resolution:>5}")

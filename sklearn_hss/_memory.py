"""How much memory there is, for requests that cannot fit into it."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

# Limits of the container or batch job that the process runs in, where Linux has one.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def machine_memory():
    """Bytes of memory of this machine, or of the container; None where the system does not tell (Windows)."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # the text "max" stands for no limit
            sizes.append(int(Path(path).read_text()))
    return min(sizes, default=None)


def check_memory(n_bytes, what):
    """Refuse what needs more memory than there is, before any work.

    Parameters
    ----------
    n_bytes : int
        At least so much is needed.
    what : str
        The parameters that say so, with their values, such as "n_samples=5, n_points=64".

    Raises
    ------
    ValueError
        If the machine has less memory.
    """
    available = machine_memory()
    if available is not None and n_bytes > available:
        raise ValueError(
            f"{what} needs {gibibytes(n_bytes)} of memory, and this machine has {gibibytes(available)}; ask for less."
        )


def gibibytes(n_bytes):
    """The number as text, in GiB."""
    return f"{n_bytes / 2**30:,.1f} GiB"

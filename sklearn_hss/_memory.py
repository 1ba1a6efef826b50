"""Available memory, to reject requests that exceed it."""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path

# Limits of the container or batch job that the process runs in, where Linux has one.
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@cache
def machine_memory():
    """Bytes of memory of this machine or container; None if the system does not report it (Windows)."""
    sizes = []
    with suppress(AttributeError, ValueError, OSError):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # the text "max" means no limit
            sizes.append(int(Path(path).read_text()))
    return min(sizes, default=None)


def check_memory(n_bytes, what):
    """Reject a request that needs more memory than the machine has, before any work starts.

    Parameters
    ----------
    n_bytes : int
        Lower bound on the memory needed.
    what : str
        The parameters that determine the request, with their values, such as "n_samples=5, n_points=64".

    Raises
    ------
    ValueError
        If the machine has less memory.
    """
    available = machine_memory()
    if available is not None and n_bytes > available:
        raise ValueError(
            f"{what} needs {gibibytes(n_bytes)} of memory, but this machine has {gibibytes(available)}; reduce these."
        )


def gibibytes(n_bytes):
    """The number as text, in GiB."""
    return f"{n_bytes / 2**30:,.1f} GiB"

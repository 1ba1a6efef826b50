"""Files that are complete or not there, and the rubbish of processes that were killed while they wrote some."""

import glob
import hashlib
import os
import platform
import shutil
import uuid
from contextlib import suppress


def partial_name(path):
    """Name beside `path` under which to write a file or folder until it is complete.

    It tells where it is written, so that :func:`delete_abandoned` knows the files that nobody will complete.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path
    """
    return path.with_name(f"{path.name}.partial-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


def delete_abandoned(path):
    """Delete what processes of this machine that are gone have left under a :func:`partial_name` of `path`.

    Parameters
    ----------
    path : Path
    """
    for partial in path.parent.glob(f"{glob.escape(path.name)}.partial-*-*-*"):
        machine, pid, _ = partial.name.removeprefix(f"{path.name}.partial-").split("-", 2)
        if machine == _machine() and pid.isdecimal() and not _is_running(int(pid)):
            with suppress(OSError):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def _machine():
    # Containers may share the name of their host, but not its process numbers.
    name = platform.node()
    with suppress(OSError):
        name += os.readlink("/proc/self/ns/pid")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _is_running(pid):
    if os.name != "posix":  # there, asking with os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to somebody else, or is no process number
        return True
    return True

"""Atomic writes of files, and removal of the incomplete files of processes that were killed."""

import glob
import hashlib
import os
import platform
import shutil
import uuid
from contextlib import contextmanager, suppress


def partial_name(path):
    """Name next to `path` under which a file or folder is written until it is complete.

    It identifies the machine and the process, so that :func:`delete_abandoned` recognises files that will never be
    completed.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Path
    """
    return path.with_name(f"{path.name}.partial-{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}")


@contextmanager
def complete_file(path):
    """Context that writes a temporary file and moves it to `path` at the end; after an error, nothing has changed.

    Parameters
    ----------
    path : Path

    Yields
    ------
    file
        Binary, to write and read.

    Raises
    ------
    OSError
        If the file cannot be written; FileNotFoundError if its folder does not exist, and IsADirectoryError if `path`
        is a folder.
    """
    refuse_folder(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} of {path.name!r} does not exist; create it first.")
    delete_abandoned(path)
    # Not by `tempfile`, whose files only their owner may read.
    temporary = partial_name(path)
    try:
        with open(temporary, "x+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise OSError(error.errno, f"{error.strerror or error}; nothing was written", str(path)) from error
    except BaseException:
        _remove(temporary)
        raise


def refuse_folder(path):
    """Raise IsADirectoryError if `path` is a folder."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; pass the name of a file.")


def _remove(temporary):
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def delete_abandoned(path):
    """Delete files with a :func:`partial_name` of `path` that terminated processes of this machine left behind.

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
    if os.name != "posix":  # elsewhere, os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to another user, or is not a process number
        return True
    return True

"""Files that are complete or not there, and the rubbish of processes that were killed while they wrote some."""

import glob
import hashlib
import os
import platform
import shutil
import uuid
from contextlib import contextmanager, suppress


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


@contextmanager
def complete_file(path):
    """Context that writes a file beside `path`, and puts it in its place at the end; on an error, nothing has changed.

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
        With `path`, if the file cannot be written; of a kind of its own for a folder that is not there, or is there
        in place of the file.
    """
    refuse_folder(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(path.parent)!r} to write {path.name!r} into; make it first.")
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
    """Raise IsADirectoryError if there is a folder where a file is meant."""
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder; give the name of a file.")


def _remove(temporary):
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


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

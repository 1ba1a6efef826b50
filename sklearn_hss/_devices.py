"""The `device` parameter of estimators and generators. Torch is imported when it is needed."""

import threading
from contextlib import contextmanager

_LOCK = threading.Lock()
# torch's setting from before `full_float32`, once for every thread inside this context.
_BEFORE: list[bool] = []


@contextmanager
def full_float32(device):
    """Context in which convolutions in float32 on a GPU do not round their factors to the ten bits of TF32.

    This is torch's default for matrix products, but not for convolutions. The setting is global, so the last of
    several threads to leave the context restores it.

    Parameters
    ----------
    device : torch.device or str
    """
    import torch

    if torch.device(device).type != "cuda":
        yield
        return
    with _LOCK:
        _BEFORE.append(_BEFORE[0] if _BEFORE else torch.backends.cudnn.allow_tf32)
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        with _LOCK:
            before = _BEFORE.pop()
            if not _BEFORE:
                torch.backends.cudnn.allow_tf32 = before


def resolve_device(device):
    """Turn the `device` parameter into a torch device that can be used here.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the first CUDA device if there is one, otherwise the CPU.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If torch does not know the device or cannot use it on this machine.
    """
    import torch

    if isinstance(device, str) and device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved).cpu()  # the meta device, for one, cannot give its data back
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        usable = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise ValueError(f"device={device!r} cannot be used here; use 'auto' or one of {usable}.") from error
    return resolved


def available(device):
    """Device from which an object was saved, or the CPU if it is not available.

    Parameters
    ----------
    device : str

    Returns
    -------
    torch.device
    """
    try:
        return resolve_device(device)
    except ValueError:
        return resolve_device("cpu")

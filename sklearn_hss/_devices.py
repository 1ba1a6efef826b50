"""The `device` parameter of estimators and generators. Torch is imported when it is needed."""


def resolve_device(device):
    """Turn the `device` parameter into a torch device that can be used here.

    Parameters
    ----------
    device : str or torch.device
        "auto" is the first CUDA device where there is one, else the CPU.

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
    """Device that something was on when it was kept, or the CPU where there is none of the kind.

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

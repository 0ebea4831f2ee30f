"""Where and in what precision the network runs."""

import contextlib

import torch


def resolve_device(device: str) -> torch.device:
    """The device to run on; "auto" takes the accelerator if there is one.

    Raises
    ------
    ValueError
        If the device is unknown to torch or not present.
    """
    if device == "auto":
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        resolved = torch.device(device)
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The 'device' parameter is {device!r}, which cannot be used here; accepted are 'auto', 'cpu' and the devices "
            f"that torch finds, such as 'cuda' or 'cuda:1'. torch says: {str(error).splitlines()[0]}"
        ) from error
    if resolved.type == "meta":
        raise ValueError("The 'device' parameter is 'meta', which holds no numbers; accepted are 'auto', 'cpu', 'cuda', ...")
    return resolved


def training_precision(precision: str, device: torch.device):
    """A context for the forward pass in training.

    "auto" computes in bfloat16 on CUDA devices that have it and in float32 elsewhere.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)

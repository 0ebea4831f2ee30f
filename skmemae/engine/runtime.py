"""Where and in what precision the network runs."""

import contextlib
import warnings

import torch
from torch import nn

_MANY_STEPS = 50_000


def resolve_device(device: str, local_rank: int = 0) -> torch.device:
    """The device to run on; "auto" takes the accelerator if there is one.

    Of several the one with this process's number on its machine, if the device has no number of its own.

    Raises
    ------
    ValueError
        If the device is unknown to torch or not present.
    """
    if device == "auto":
        device = torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        if resolved.type == "cuda" and resolved.index is None and local_rank:
            resolved = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"The 'device' parameter is {device!r}, which cannot be used here; accepted are 'auto', 'cpu' and the devices "
            f"that torch finds, such as 'cuda' or 'cuda:1'. torch says: {str(error).splitlines()[0]}"
        ) from error
    if resolved.type == "meta":
        raise ValueError("The 'device' parameter is 'meta', which holds no numbers; accepted are 'auto', 'cpu', 'cuda', ...")
    return resolved


def place(networks: nn.ModuleList, device: torch.device) -> nn.ModuleList:
    """Networks on a device; on CUDA with the channels of convolutions last, as its matrix units want them."""
    networks.to(device)
    if device.type == "cuda":
        for layer in networks.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.to(memory_format=torch.channels_last)
            elif isinstance(layer, nn.Conv3d | nn.ConvTranspose3d):
                layer.to(memory_format=torch.channels_last_3d)
    return networks


def scoring_precision(device: torch.device):
    """A context for scores: float32 through and through, where CUDA's convolutions would round their factors to ten bits."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    now = {name: getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    return torch.backends.cudnn.flags(**now, allow_tf32=False)


def training_precision(precision: str, device: torch.device):
    """A context for the forward pass in training.

    "auto" computes in bfloat16 on CUDA devices that have it and in float32 elsewhere.
    """
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def compiling_pays(device: torch.device, family: str, steps: int) -> bool:
    """Whether so many steps make up for the half minute that torch takes to compile a network.

    That is for vectors on CUDA, where a small layer takes longer to launch than to run. On the CPU it does not pay: with tanh a
    step takes four fifths of the time, with LeakyReLU more than it did.
    """
    return device.type == "cuda" and family == "fc" and steps >= _MANY_STEPS


def compiled(network: nn.Module, x: torch.Tensor) -> nn.Module:
    """The compiled network, or the network itself, with a warning, where a step with it fails."""
    try:
        found = torch.compile(network, dynamic=False)
        found(x).reconstruction.sum().backward()
    except Exception as error:
        warnings.warn(f"Training goes on without torch.compile, which failed: {error}", UserWarning, stacklevel=2)
        return network
    finally:
        network.zero_grad()
    return found


class Pieces:
    """Batches cut into pieces, once the device has turned out to have no room for them whole.

    Parameters
    ----------
    least : int
        Samples that a piece must have.
    may_grow : bool, default=True
        Whether batches may be cut; where processes work in step they may not.
    """

    def __init__(self, least, may_grow=True):
        self.least = least
        self.may_grow = may_grow
        self.count = 1

    def size(self, batch_size: int) -> int:
        """Samples of a piece of a batch, for which there is room."""
        return max(1, batch_size // self.count)

    def apply(self, function, x, undo=lambda: None) -> list:
        """What the function gives for each piece of x; ``undo`` takes back what it did before memory ran out.

        Raises
        ------
        MemoryError
            If memory runs out and the batch cannot be halved.
        """
        while True:
            try:
                return [function(part) for part in x.tensor_split(max(1, min(self.count, len(x) // self.least)))]
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                self._halve(len(x), x.device, error)
            # Only here, where the error and the tensors that it keeps alive are gone, is memory free again.
            undo()
            if x.device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, n, device, error):
        size = -(-n // self.count)
        if not self.may_grow or n // (2 * self.count) < self.least:
            raise MemoryError(
                f"{device} has no room for {size} sample(s), which cannot be halved"
                f"{'' if self.may_grow else ' where several processes train together: lower batch_size'}. torch says: {error}"
            ) from error
        self.count *= 2
        warnings.warn(
            f"{device} has no room for {size} samples at a time; batches are cut into {self.count} pieces from here on.",
            UserWarning,
            stacklevel=2,
        )


def _is_out_of_memory(error: RuntimeError) -> bool:
    # Only CUDA has a class for it.
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)

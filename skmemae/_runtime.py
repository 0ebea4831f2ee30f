"""Where and in what precision networks run, apart from the settings that the caller has given torch."""

import contextlib
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from skmemae._warnings import warn_caller


def resolve_device(device: str, local_rank: int = 0) -> torch.device:
    """The device to run on.

    Parameters
    ----------
    device : str
        "auto" takes the accelerator if there is one.
    local_rank : int, default=0
        Number of this process on its machine, which is the number of the GPU if ``device`` has none of its own.

    Raises
    ------
    ValueError
        If the device is unknown to torch or not present.
    """
    if device == "auto":
        device = _fastest()
    try:
        resolved = torch.device(device)
        if resolved.type == "cuda" and resolved.index is None and local_rank:
            resolved = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(
            f"The 'device' parameter is {device!r}, which cannot be used here; accepted are 'auto', 'cpu' and the devices "
            f"that torch finds, such as 'cuda' or 'cuda:1'. torch says: {str(error).splitlines()[0]}"
        ) from error
    if resolved.type == "meta":
        raise ValueError("The 'device' parameter is 'meta', which holds no numbers; accepted are 'auto', 'cpu', 'cuda', ...")
    return resolved


def _fastest():
    """Type of the accelerator, or "cpu" where there is none."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def move_to_device(networks: nn.ModuleList, device: torch.device) -> nn.ModuleList:
    """Networks on a device; on CUDA with the channels of convolutions last, as its matrix units want them."""
    networks.to(device)
    if device.type == "cuda":
        for layer in networks.modules():
            if isinstance(layer, nn.modules.conv._ConvNd):
                form = torch.channels_last if layer.weight.ndim == 4 else torch.channels_last_3d
                layer.weight.data = layer.weight.data.contiguous(memory_format=form)
    return networks


def scoring_precision(device: torch.device):
    """Disable TF32 in cuDNN convolutions while scoring."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    now = {name: getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    return torch.backends.cudnn.flags(**now, allow_tf32=False)


def resolve_precision(precision: str, device: torch.device) -> str:
    """The precision of training: "auto" is bfloat16 on CUDA devices that have it and float32 elsewhere."""
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def training_precision(precision: str, device: torch.device):
    """A context for the forward pass in training, of a resolved precision."""
    if precision == "float32":
        return contextlib.nullcontext()
    # Inside an autocast of the caller's, copies of the weights would be kept from step to step.
    return torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def isolated(function: Callable, *args: Any) -> Any:
    """Call a function under torch's own settings, whatever the caller's are: gradients, autocast, default device and dtype.

    The caller's settings are back afterwards, also after an interruption at any moment: where one interrupts the restoring
    itself, the outer ``finally`` does it again.
    """
    caller = _ThreadSettings()
    try:
        try:
            with contextlib.ExitStack() as settings:
                if torch.is_inference_mode_enabled():
                    settings.enter_context(torch.inference_mode(False))
                new = torch.empty(0)
                if new.dtype != torch.float32:
                    settings.enter_context(_Float32())
                if new.device.type != "cpu":
                    settings.enter_context(torch.device("cpu"))
                torch.set_grad_enabled(True)
                for device in caller.autocast:
                    torch.set_autocast_enabled(device, False)
                return function(*args)
        finally:
            caller.restore()
    finally:
        caller.restore()


class _ThreadSettings:
    """Gradients and autocast as the calling thread has them set."""

    def __init__(self):
        devices = {"cpu", _fastest()}
        self.autocast = {device: (torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in devices}
        self.cache = torch.is_autocast_cache_enabled()
        self.grad = torch.is_grad_enabled()
        self.nesting = self._nesting()

    def restore(self):
        for device, (enabled, dtype) in self.autocast.items():
            torch.set_autocast_enabled(device, enabled)
            torch.set_autocast_dtype(device, dtype)
        torch.set_autocast_cache_enabled(self.cache)
        torch.set_grad_enabled(self.grad)
        while self._nesting() > self.nesting:  # an autocast that was interrupted keeps its copies of the weights
            torch.autocast_decrement_nesting()
            torch.clear_autocast_cache()

    @staticmethod
    def _nesting():
        # Both in one call of C, between which no interruption comes.
        return tuple(map(operator.call, (torch.autocast_increment_nesting, torch.autocast_decrement_nesting)))[1]


class _Float32(TorchFunctionMode):
    """float32 for new tensors without a dtype, in this thread alone, where the default dtype of the process is another."""

    _DRAWN = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.linspace, torch.eye)
    _READ = (torch.tensor, torch.full, torch.arange)  # integers stay integers

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        has_dtype = kwargs.get("dtype") is not None
        if func in self._DRAWN and not has_dtype:
            kwargs["dtype"] = torch.float32
        result = func(*args, **kwargs)
        return result.float() if func in self._READ and not has_dtype and result.is_floating_point() else result


class MicroBatches:
    """Batches in parts, once the device has turned out to have no room for them whole.

    Parameters
    ----------
    least : int
        Samples that a part must have.
    may_split : bool, default=True
        Whether batches may be split; where processes work in step they may not.
    """

    def __init__(self, least: int, may_split: bool = True):
        self.least = least
        self.may_split = may_split
        self.count = 1

    def state_dict(self) -> dict:
        """Parts that batches have been cut into, for a checkpoint."""
        return {"count": self.count}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a state."""
        self.count = state["count"]

    def size(self, batch_size: int) -> int:
        """Samples of a part of a batch, for which there is room."""
        return max(1, batch_size // self.count)

    def map(self, function: Callable, x: Tensor, undo: Callable = lambda: None) -> list:
        """The results of the function for each part of x; ``undo`` takes back what it did before memory ran out.

        Raises
        ------
        MemoryError
            If memory runs out and the batch cannot be split.
        """
        while True:
            try:
                return [function(part) for part in x.tensor_split(max(1, min(self.count, len(x) // self.least)))]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(x), x.device, error)
            # Only here, where the error and the tensors that it keeps alive are gone, is memory free again.
            undo()
            if x.device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, n, device, error):
        size = -(-n // self.count)
        if not self.may_split or n // (2 * self.count) < self.least:
            raise MemoryError(
                f"{device} has no room for {size} sample(s), which cannot be halved"
                f"{'' if self.may_split else ' where several processes train together: lower batch_size'}. torch says: {error}"
            ) from error
        self.count *= 2
        warn_caller(f"{device} has no room for {size} samples at a time; batches are cut into {self.count} parts from here on.")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch has run out of memory, for which only CUDA has a class of its own."""
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)

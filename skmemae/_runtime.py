"""How the package behaves in the caller's process: warnings, files, devices, precision, memory, and settings of torch."""

import contextlib
import functools
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__version__ = "0.1.0"
_PASSED = ("skmemae", "sklearn", "pyod", "joblib", "contextlib", "functools", "torch")  # between the caller's line and ours
_UNFINISHED = ".skmemae-"  # begins the name of a folder for a file that is not complete
P = ParamSpec("P")
R = TypeVar("R")


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the position of the innermost line outside this package and the packages that call it."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def replacing(path: str | bytes | os.PathLike, name: str | None = None) -> Iterator[BinaryIO]:
    """Open a file that takes the place of the one at the path, once the block has ended without an error.

    Raises
    ------
    OSError
        If there is no such folder, or it cannot be written to; at the start of the block. The error names ``name`` or, if that
        is None, the path.
    """
    target = os.path.realpath(os.fsdecode(path))
    try:
        with tempfile.TemporaryDirectory(dir=os.path.dirname(target), prefix=_UNFINISHED) as folder:
            unfinished = os.path.join(folder, "unfinished")
            with open(unfinished, "wb") as file:  # tempfile would make a file that only its owner can read
                yield file
            os.replace(unfinished, target)
    except OSError as error:
        if error.errno is None or (error.filename is not None and _UNFINISHED not in os.fsdecode(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, os.fsdecode(path if name is None else name)) from None


@contextlib.contextmanager
def writing(target: Any) -> Iterator[BinaryIO]:
    """A binary file object itself, to write at its position; for a path the file of :func:`replacing`.

    Raises
    ------
    TypeError
        If the target is neither a path nor a binary file object.
    ValueError
        If the file object is closed or cannot be written to.
    OSError
        If the path cannot be written to.
    """
    if isinstance(target, str | bytes | os.PathLike):
        with replacing(target) as file:
            yield file
        return
    _check_binary(target, "write", lambda: target.write(b""))
    yield target


def read_all(source: Any) -> bytes:
    """The content of the file at a path, or of a binary file object from its position on.

    Raises
    ------
    TypeError
        If the source is neither a path nor a binary file object.
    ValueError
        If the file object is closed or cannot be read.
    OSError
        If the file cannot be read.
    """
    if isinstance(source, str | bytes | os.PathLike):
        with open(source, "rb") as file:
            return file.read()
    _check_binary(source, "read", lambda: memoryview(source.read(0)))
    return bytes(source.read())


def name_of(file: Any) -> str:
    """The path of a file, the name of a file object, or else its class."""
    if isinstance(file, str | bytes | os.PathLike):
        return os.fsdecode(file)
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"{type(file).__name__} object"


def _check_binary(file: Any, method: str, call: Callable[[], Any]) -> None:
    """Raise unless an object has a method for bytes, which ``call`` tries."""
    accepted = f"The 'path' parameter must be a path or a binary file object with a {method} method. Got {file!r} instead."
    if not callable(getattr(file, method, None)):
        raise TypeError(accepted)
    try:
        call()
    except ValueError as error:
        raise ValueError(f"{accepted} It is closed, or was not opened to {method}.") from error
    except TypeError as error:  # text files write and read no bytes
        raise TypeError(f"{accepted} A text file must be opened in binary mode.") from error


def resolve_device(device: str, local_rank: int = 0) -> torch.device:
    """The device to run on.

    Parameters
    ----------
    device : str
        "auto" takes the accelerator if there is one.
    local_rank : int, default=0
        Number of this process on its machine. It selects the GPU if ``device`` is "cuda" without a number.

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


def _fastest() -> str:
    """Type of the accelerator, or "cpu" where there is none."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def move_to_device(module: nn.Module, device: torch.device) -> None:
    """Move a module; on CUDA with the weights of convolutions in the channels-last format of its matrix units."""
    module.to(device)
    if device.type == "cuda":
        for layer in module.modules():
            if isinstance(layer, nn.modules.conv._ConvNd):
                form = torch.channels_last if layer.weight.ndim == 4 else torch.channels_last_3d
                layer.weight.data = layer.weight.data.contiguous(memory_format=form)


def scoring_precision(device: torch.device) -> contextlib.AbstractContextManager:
    """Disable TF32 in cuDNN convolutions while scoring."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    now = {name: getattr(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
    return torch.backends.cudnn.flags(**now, allow_tf32=False)


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype of convolutions and matrix products in training.

    Parameters
    ----------
    precision : {"auto", "float32", "bfloat16"}
        "auto" is bfloat16 on CUDA devices that have it, else float32.
    device : torch.device

    Raises
    ------
    ValueError
        If the device does not have it.
    """
    lacks = device.type == "mps" or (device.type == "cuda" and not torch.cuda.is_bf16_supported())
    if precision == "bfloat16" and lacks:
        raise ValueError(
            f"The 'precision' parameter is 'bfloat16', which device '{device}' does not have; 'float32' is accepted."
        )
    is_half = precision == "bfloat16" or (precision == "auto" and device.type == "cuda" and not lacks)
    return torch.bfloat16 if is_half else torch.float32


def training_precision(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """A context for the forward pass in training, with convolutions and matrix products in this dtype."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    # Inside an autocast of the caller's, copies of the weights would be kept from step to step.
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def isolated(method: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run under torch's default settings of gradients, autocast, device and dtype.

    The settings of the caller are restored afterwards.
    """

    @functools.wraps(method)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with contextlib.ExitStack() as settings:
            if torch.is_inference_mode_enabled():
                settings.enter_context(torch.inference_mode(False))
            settings.enter_context(torch.enable_grad())
            for device in {"cpu", _fastest()}:
                if torch.is_autocast_enabled(device):
                    settings.enter_context(torch.autocast(device, enabled=False))
            if torch.get_default_dtype() != torch.float32:
                settings.enter_context(_Float32())
            if torch.get_default_device().type != "cpu":
                settings.enter_context(torch.device("cpu"))
            return method(*args, **kwargs)

    return wrapped


class _Float32(TorchFunctionMode):
    """Makes new tensors without a dtype float32, in this thread alone, while the process has another default dtype."""

    _DRAWN = (torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.linspace, torch.eye)
    _READ = (torch.tensor, torch.full, torch.arange)  # integers stay integers

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        has_dtype = kwargs.get("dtype") is not None
        if func in self._DRAWN and not has_dtype:
            kwargs["dtype"] = torch.float32
        result = func(*args, **kwargs)
        return result.float() if func in self._READ and not has_dtype and result.is_floating_point() else result


class MicroBatches:
    """Cuts batches into parts after the device has run out of memory for a larger part.

    Parameters
    ----------
    least : int
        Smallest number of samples in a part.
    may_split : bool, default=True
        Whether batches may be split; False where several processes train together.
    """

    def __init__(self, least: int, may_split: bool = True):
        self.least = least
        self.may_split = may_split
        self.count = 1

    def size(self, batch_size: int) -> int:
        """Number of samples of a batch that fit onto the device together."""
        return max(1, batch_size // self.count)

    def map(self, function: Callable, x: Tensor, *beside: Tensor | None, undo: Callable = lambda: None) -> list:
        """Results of the function for each part of x and of the tensors ``beside`` it, which have as many samples.

        ``undo`` reverts the effects of calls before one that ran out of memory; then all parts are computed again.

        Raises
        ------
        MemoryError
            If memory runs out and the batch cannot be split.
        """
        while True:
            try:
                count = max(1, min(self.count, len(x) // self.least))
                columns = [[None] * count if tensor is None else tensor.tensor_split(count) for tensor in (x, *beside)]
                return [function(*parts) for parts in zip(*columns, strict=True)]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(len(x), x.device, error)
            # Memory is free only here, after the error and the tensors that it keeps alive are gone.
            undo()
            if x.device.type == "cuda":
                torch.cuda.empty_cache()

    def _halve(self, n: int, device: torch.device, error: RuntimeError) -> None:
        size = -(-n // self.count)
        if not self.may_split or n // (2 * self.count) < self.least:
            raise MemoryError(
                f"{device} has no room for {size} sample(s), which cannot be halved"
                f"{'' if self.may_split else ' where several processes train together: lower batch_size'}. torch says: {error}"
            ) from error
        self.count *= 2
        warn_caller(f"{device} has no room for {size} samples at a time; batches are cut into {self.count} parts from here on.")


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory has run out; only CUDA has an exception class of its own for this."""
    said = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)

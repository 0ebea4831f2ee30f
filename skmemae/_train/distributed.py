"""Several processes that fit one detector: who does what, and how they stay equal.

The rest of the package knows an object with the methods of :class:`SingleProcess`, which is what it gets without ``torchrun``.
"""

import contextlib
import hashlib
import multiprocessing
import os
from collections.abc import Callable
from contextvars import ContextVar
from datetime import timedelta
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend
from torch import Tensor, nn

_ENTRY = timedelta(seconds=45)  # within which all processes must enter a fit
_alone: ContextVar[bool] = ContextVar("skmemae_single_process", default=False)
_fits_entered = 0


@contextlib.contextmanager
def single_process():
    """Fit in this process alone, also where ``torchrun`` has started others, within a ``with`` block.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector, single_process
    >>> with single_process():
    ...     detector = MemAEDetector(max_epochs=1, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 3)))
    """
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


class SingleProcess:
    """In a single process every method is a no-op, or returns its argument."""

    rank = 0
    size = 1
    local_rank = 0

    def barrier(self) -> None:
        """Wait for all processes."""

    def all_reduce(self, values):
        """Sum of a tensor or an array over the processes, in place."""
        return values

    def broadcast(self, *tensors: Tensor) -> None:
        """Give all processes the first one's numbers, to the bit."""

    def compute_on_first(self, function: Callable, *args: Any) -> Any:
        """The function's result in the first process, in all of them."""
        return function(*args)

    def shard(self, rows: Tensor) -> Tensor:
        """The part of the rows that this process works on."""
        return rows

    def contiguous_shard(self, n: int) -> tuple[int, int]:
        """First row, and the one after the last, of this process's part where neighbours stay together."""
        return 0, n

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are averaged over the processes."""
        return module

    def shared_statistics(self, module: nn.Module):
        """A context in which batch normalisation sees the batch of all processes."""
        return contextlib.nullcontext()

    def check_equal(self, **named: str) -> None:
        """Raise a ValueError, in all processes, unless all have come with the same values."""

    def checked(self, function: Callable, *args: Any) -> Any:
        """The function's result; if it fails in one process, a RuntimeError that names that process in the others."""
        return function(*args)


class Processes(SingleProcess):
    """The processes of one fit, with the words of ``torch.distributed``.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    local_rank : int
        Number of this process on its machine.
    group : torch.distributed.ProcessGroup or None, default=None
    """

    def __init__(self, rank: int, size: int, local_rank: int, group=None):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.group = group

    def barrier(self):
        dist.all_reduce(torch.zeros(1), group=self.group)

    def all_reduce(self, values):
        dist.all_reduce(torch.from_numpy(values) if isinstance(values, np.ndarray) else values, group=self.group)
        return values

    def broadcast(self, *tensors):
        for tensor in tensors:
            dist.broadcast(tensor.detach(), group=self.group, group_src=0)

    def compute_on_first(self, function, *args):
        result = [self.checked(lambda: function(*args) if self.rank == 0 else None)]
        dist.broadcast_object_list(result, group=self.group, group_src=0, device=torch.device("cpu"))
        return result[0]

    def shard(self, rows):
        return rows[self.rank :: self.size]

    def contiguous_shard(self, n):
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def wrap(self, module):
        parallel = nn.parallel.DistributedDataParallel
        name = "forward_sync_buffers" if "forward_sync_buffers" in signature(parallel).parameters else "broadcast_buffers"
        buffers: dict[str, Any] = {name: False}  # they are equal already
        return parallel(module, process_group=self.group, **buffers)

    @contextlib.contextmanager
    def shared_statistics(self, module):
        if next(module.parameters()).is_cuda:
            nn.SyncBatchNorm.convert_sync_batchnorm(module, self.group)
            yield
            return
        layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        for layer in layers:  # SyncBatchNorm supports CUDA only
            vars(layer)["forward"] = _SharedNormalisation(layer, self)
        try:
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)

    def check_equal(self, **named):
        for name, value in named.items():
            values = self._gather(value)
            for rank, other in enumerate(values):
                if other != values[0]:
                    raise ValueError(
                        f"All processes of a distributed fit need the same data and parameters; {name} is {values[0]} in "
                        f"process 0 and {other} in process {rank}."
                    )

    def checked(self, function, *args):
        try:
            result, failure = function(*args), None
        except Exception as error:
            self._gather(f"{type(error).__name__}: {error}")
            raise
        for rank, failure in enumerate(self._gather(None)):
            if failure is not None:
                raise RuntimeError(_failure(rank, self.size, failure))
        return result

    def _gather(self, text):
        texts = [None] * self.size
        dist.all_gather_object(texts, text, group=self.group)
        return texts


class _SharedNormalisation:
    """Forward pass of a batch normalisation in training, with the statistics of the batch of all processes."""

    def __init__(self, layer, processes):
        self.layer = layer
        self.processes = processes

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return type(layer).forward(layer, x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x.float()
        count = self.processes.all_reduce(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _Sum.apply(values.sum(axes), self.processes) / count
        centered = values - mean.view(shape)
        variance = _Sum.apply(centered.square().sum(axes), self.processes) / count
        if layer.track_running_stats:
            with torch.no_grad():
                layer.num_batches_tracked += 1
                momentum = 1 / layer.num_batches_tracked if layer.momentum is None else layer.momentum
                layer.running_mean.lerp_(mean, momentum)
                layer.running_var.lerp_(variance * (count / (count - 1)), momentum)
        normalised = centered * torch.rsqrt(variance + layer.eps).view(shape)
        if layer.affine:
            normalised = normalised * layer.weight.view(shape) + layer.bias.view(shape)
        return normalised.to(x.dtype)


class _Sum(torch.autograd.Function):
    """Sum over the processes, with its gradient."""

    @staticmethod
    def forward(ctx, values, processes):
        ctx.processes = processes
        return processes.all_reduce(values.clone())

    @staticmethod
    def backward(ctx, grad):
        return ctx.processes.all_reduce(grad.clone()), None


def fingerprint(X) -> str:
    """A digest of shape, dtype, and the first and the last row."""
    rows = b"".join(np.ascontiguousarray(X[i : i + 1]).tobytes() for i in (0, X.shape[0] - 1))
    return f"{X.shape} {X.dtype} {hashlib.sha256(rows).hexdigest()[:8]}"


def plain_parameters(params: dict[str, Any]) -> str:
    """Parameters as text that is the same in another process; of an object, its class, and of a function, its name."""
    return str({name: _plain(value) for name, value in params.items()})


def _plain(value):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | int | float | None):
        return value
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    if isinstance(value, partial):
        return _plain([value.func, *value.args, *value.keywords.items()])
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


@contextlib.contextmanager
def processes_of_fit():
    """The processes of this fit: all that ``torchrun`` has started or that share a process group, or this one alone.

    Inside a worker of joblib and inside :func:`single_process` a fit is always alone.

    Raises
    ------
    RuntimeError
        If a process does not enter the fit within 45 seconds, or one of the others fails; names the process.
    """
    if not _several():
        yield SingleProcess()
        return
    started = dist.is_initialized()
    if started:
        store, rank, size = dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size()
    else:
        store, rank, size = next(iter(dist.rendezvous("env://")))
    prefix = _wait_for_all(store, rank, size)
    store = dist.PrefixStore(prefix, store)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    processes = Processes(rank, size, int(os.environ.get("LOCAL_RANK", rank)))
    if started:
        processes.group = dist.new_group(backend=backend)
    else:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
        processes.group = dist.group.WORLD
    try:
        yield processes
        processes.barrier()  # nobody leaves while others still ask for something
    except BaseException as error:
        with contextlib.suppress(dist.DistError):  # the store may be gone with the process that kept it
            first = store.compare_set("failure", "", f"{rank}:{type(error).__name__}: {error}").decode()
            failed, _, text = first.partition(":")
            # The connection to a process that has failed is closed, which is an error of torch's here.
            if int(failed) != rank and isinstance(error, RuntimeError):
                raise RuntimeError(_failure(int(failed), size, text)) from error
        raise
    finally:
        dist.destroy_process_group(processes.group)


def _several() -> bool:
    if _alone.get() or not dist.is_available() or get_active_backend()[0].nesting_level:
        return False
    if dist.is_initialized():
        return dist.get_world_size() > 1
    # Workers of other kinds inherit torchrun's variables from their parent.
    ours = dist.is_torchelastic_launched() and multiprocessing.parent_process() is None
    return ours and int(os.environ["WORLD_SIZE"]) > 1


def _wait_for_all(store, rank, size) -> str:
    """Wait until all processes are here; a prefix for the keys of this fit."""
    global _fits_entered  # the processes count alike: a fit that somebody misses is counted by nobody
    prefix = f"skmemae/{_fits_entered}"
    keys = [f"{prefix}/entered/{other}" for other in range(size)]
    store.set(keys[rank], "")
    try:
        store.wait(keys, _ENTRY)
    except dist.DistStoreError as error:
        missing = [other for other, key in enumerate(keys) if not store.check([key])]
        if missing:  # or the last has come just now
            store.delete_key(keys[rank])
            raise RuntimeError(
                f"Process {rank} of {size} waited {_ENTRY.seconds} s for process(es) {missing} to enter fit. Call fit in every "
                "process that torchrun has started, or inside skmemae.single_process() to fit in one process alone."
            ) from error
    _fits_entered += 1
    return prefix


def _failure(rank, size, text):
    return f"Process {rank} of {size} failed in fit: {text}"

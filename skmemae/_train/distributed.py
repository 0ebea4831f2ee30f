"""Several processes that fit one detector: their parts of the work, and how they stay equal.

The rest of the package calls the methods of :class:`SingleProcess`. Without ``torchrun`` it gets an object of this class.
"""

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from inspect import signature
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend
from torch import Tensor, nn

_ENTRY = timedelta(seconds=45)  # within which all processes must enter a fit
_FAREWELL = 2.0  # seconds in which processes that all fail by the same check get their own errors
_WATCH = 2.0  # seconds between two looks for a failure of another process, with NCCL
_CLOSING_TAG = 2**20  # of messages that nobody sends
_alone: ContextVar[bool] = ContextVar("skmemae_single_process", default=False)
_fits_entered = 0


@contextlib.contextmanager
def single_process() -> Iterator[None]:
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
    """A single process: each method does nothing, returns its argument, or calls the function that it gets."""

    rank = 0
    size = 1
    local_rank = 0

    def barrier(self) -> None:
        """Wait for all processes."""

    def all_reduce(self, values: Any) -> Any:
        """Sum of a tensor or an array over the processes, in place."""
        return values

    def broadcast(self, *tensors: Tensor) -> None:
        """Copy the numbers of the first process to all processes, in place."""

    def compute_on_first(self, function: Callable, *args: Any) -> Any:
        """Run a function in the first process, and return its result in all processes."""
        return function(*args)

    def shard(self, rows: Tensor) -> Tensor:
        """The part of the rows that this process works on."""
        return rows

    def contiguous_shard(self, n: int) -> tuple[int, int]:
        """Start and stop of this process's part of ``n`` rows, a contiguous one."""
        return 0, n

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are averaged over the processes."""
        return module

    def share_statistics(self, module: nn.Module) -> None:
        """Let batch normalisation see the batch of all processes, on CUDA devices; elsewhere each process sees its own part."""

    def check_equal(self, **named: str) -> None:
        """Raise a ValueError in all processes, unless all have given the same values."""

    def checked(self, function: Callable, *args: Any) -> Any:
        """The function's result; if it fails in one process, a RuntimeError that names that process in the others."""
        return function(*args)


class Processes(SingleProcess):
    """The processes of one fit, which communicate by ``torch.distributed``.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    local_rank : int
        Number of this process on its machine.
    group : torch.distributed.ProcessGroup or None, default=None

    Attributes
    ----------
    is_aborted : bool
        Whether the group was closed in this process because another one has failed; results since then mean nothing.
    """

    def __init__(self, rank: int, size: int, local_rank: int, group: Any = None):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.group = group
        self.is_aborted = False  # as another process has failed

    def barrier(self) -> None:
        dist.all_reduce(torch.zeros(1), group=self.group)

    def all_reduce(self, values: Any) -> Any:
        dist.all_reduce(torch.from_numpy(values) if isinstance(values, np.ndarray) else values, group=self.group)
        return values

    def broadcast(self, *tensors: Tensor) -> None:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), group=self.group, group_src=0)

    def compute_on_first(self, function: Callable, *args: Any) -> Any:
        result = [self.checked(lambda: function(*args) if self.rank == 0 else None)]
        dist.broadcast_object_list(result, group=self.group, group_src=0, device=torch.device("cpu"))
        return result[0]

    def shard(self, rows: Tensor) -> Tensor:
        return rows[self.rank :: self.size]

    def contiguous_shard(self, n: int) -> tuple[int, int]:
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def wrap(self, module: nn.Module) -> nn.Module:
        parallel = nn.parallel.DistributedDataParallel
        name = "forward_sync_buffers" if "forward_sync_buffers" in signature(parallel).parameters else "broadcast_buffers"
        buffers: dict[str, Any] = {name: False}  # they are equal already
        return parallel(module, process_group=self.group, **buffers)

    def share_statistics(self, module: nn.Module) -> None:
        if next(module.parameters()).is_cuda:
            nn.SyncBatchNorm.convert_sync_batchnorm(module, self.group)

    def check_equal(self, **named: str) -> None:
        for name, value in named.items():
            values = self._gather(value)
            for rank, other in enumerate(values):
                if other != values[0]:
                    raise ValueError(
                        f"All processes of a distributed fit need the same data and parameters; {name} is {values[0]} in "
                        f"process 0 and {other} in process {rank}."
                    )

    def checked(self, function: Callable, *args: Any) -> Any:
        try:
            result, failure = function(*args), None
        except Exception as error:
            self._gather(f"{type(error).__name__}: {error}")
            raise
        for rank, failure in enumerate(self._gather(None)):
            if failure is not None:
                raise RuntimeError(_failure(rank, self.size, failure))
        return result

    def close(self) -> None:
        """Close the connections of the group, so that the other processes no longer wait for this one.

        ``destroy_process_group`` does not close them while anything holds the group, such as the traceback of an error.
        """
        self.group.abort()  # does something for NCCL alone
        # Gloo has no function for this, but closes all connections of a group once a receive has run out of time.
        with contextlib.suppress(RuntimeError, ValueError):  # the time is over, or the connections are closed already
            waiting = dist.irecv(torch.zeros(1), group=self.group, group_src=(self.rank + 1) % self.size, tag=_CLOSING_TAG)
            if waiting is not None:
                waiting.wait(timedelta(milliseconds=1))

    def _gather(self, text: str | None) -> list[str | None]:
        texts: list[str | None] = [None] * self.size
        dist.all_gather_object(texts, text, group=self.group)
        return texts


@contextlib.contextmanager
def processes_of_fit() -> Iterator[SingleProcess]:
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
        with _watching(store, processes) if "nccl" in backend else contextlib.nullcontext():
            yield processes
            processes.barrier()  # no process leaves while others still need it
    except BaseException as error:
        failure = _report(store, processes, error)
        processes.close()
        if failure is not None and (isinstance(error, RuntimeError) or processes.is_aborted):
            raise RuntimeError(failure) from error  # what torch says of closed connections is only the consequence
        raise
    finally:
        dist.destroy_process_group(processes.group)


def _report(store: Any, processes: Processes, error: BaseException) -> str | None:
    """Tell the other processes of an error; return the message if another process had failed before, else None."""
    rank, size = processes.rank, processes.size
    with contextlib.suppress(dist.DistError):  # the store may be gone with the process that kept it
        first = store.compare_set("failure", "", f"{rank}:{type(error).__name__}: {error}").decode()
        failed, _, text = first.partition(":")
        if int(failed) != rank:
            store.set(f"failed/{rank}", "")
            return _failure(int(failed), size, text)
        # Where all fail by the same check, each is to raise its own error, and not the one of closed connections.
        others, start = [f"failed/{other}" for other in range(size) if other != rank], time.monotonic()
        while not store.check(others) and time.monotonic() - start < _FAREWELL:
            time.sleep(0.02)
    return None


@contextlib.contextmanager
def _watching(store: Any, processes: Processes) -> Iterator[None]:
    """Close the group within the block once another process has failed: NCCL does not notice that the other has closed it."""
    ended = threading.Event()

    def watch() -> None:
        with contextlib.suppress(dist.DistError):  # the store may be gone with the process that kept it
            while not ended.wait(_WATCH):
                if store.check(["failure"]):
                    processes.is_aborted = True
                    processes.close()
                    return

    thread = threading.Thread(target=watch, name="skmemae watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _several() -> bool:
    if _alone.get() or not dist.is_available() or get_active_backend()[0].nesting_level:
        return False
    if dist.is_initialized():
        return dist.get_world_size() > 1
    # Workers of other kinds inherit torchrun's variables from their parent.
    ours = dist.is_torchelastic_launched() and multiprocessing.parent_process() is None
    return ours and int(os.environ["WORLD_SIZE"]) > 1


def _wait_for_all(store: Any, rank: int, size: int) -> str:
    """Wait until all processes have entered the fit; return a prefix for the keys of this fit."""
    global _fits_entered  # incremented only after all ranks have entered, so counters agree
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


def _failure(rank: int, size: int, text: str) -> str:
    return f"Process {rank} of {size} failed in fit: {text}"

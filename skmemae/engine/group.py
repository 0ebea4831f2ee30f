"""Several processes that fit one detector together: who does what, and how they stay the same."""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import pickle
from datetime import timedelta
from inspect import signature

import numpy as np
import torch
import torch.distributed as dist
from joblib.parallel import get_active_backend
from torch import Tensor, nn

_PATIENCE = timedelta(seconds=45)  # that a process waits for what all do at the same time; a failure is told within a minute
_GLANCE = timedelta(seconds=1)  # between looks at whether another process has failed, where it waits for longer work
_fits = itertools.count()


class Group:
    """The processes of one fit; by default this one alone, for which every method is the obvious thing.

    Parameters
    ----------
    rank, size : int
        Number of this process, and how many there are.
    local_rank : int
        Number of this process on its machine.
    processes : torch.distributed.ProcessGroup or None
    store : torch.distributed.Store or None
    """

    def __init__(self, rank=0, size=1, local_rank=0, processes=None, store=None):
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self.processes = processes
        self.store = store
        self.raised = None  # the error of another process, once it is known
        self._meetings = itertools.count()

    def meet(self) -> None:
        """Wait for all, however long they take; raise the error of one that has failed."""
        if self.size == 1:
            return
        here = f"meeting/{next(self._meetings)}"
        if self.store.add(here, 1) == self.size:
            self.store.set(here + "/complete", b"")
        while True:
            self.raise_told()
            try:
                return self.store.wait([here + "/complete"], _GLANCE)
            except dist.DistStoreError:
                continue

    def once(self, function, *args):
        """What the function gives in the first process, in all of them."""
        told = [function(*args) if self.rank == 0 else None]
        if self.size > 1:
            self.meet()
            dist.broadcast_object_list(told, group=self.processes, group_src=0, device=torch.device("cpu"))
        return told[0]

    def check_same(self, **named) -> None:
        """Raise a ValueError, in all processes, unless all have come with the same values."""
        if self.size == 1:
            return
        self.meet()
        found = [None] * self.size
        dist.all_gather_object(found, named, group=self.processes)
        for name, value in named.items():
            values = [other[name] for other in found]
            if any(other != values[0] for other in values):
                raise ValueError(
                    f"All processes of a distributed fit need the same data and parameters; {name} is {value} in process "
                    f"{self.rank} and {values[0]} in process 0."
                )

    def share(self, rows: Tensor) -> Tensor:
        """The part of the rows that is this process's."""
        return rows[self.rank :: self.size]

    def span(self, n: int) -> tuple[int, int]:
        """First and last plus one of this process's rows where neighbours stay together."""
        return n * self.rank // self.size, n * (self.rank + 1) // self.size

    def sum(self, values):
        """Sum of a tensor or an array over the processes, in place."""
        if self.size > 1:
            tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
            dist.all_reduce(tensor, group=self.processes)
        return values

    def same(self, *tensors: Tensor) -> None:
        """Give all processes the first one's numbers, to the bit."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), group=self.processes, group_src=0)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, with gradients that are averaged over the processes."""
        if self.size == 1:
            return module
        parallel = nn.parallel.DistributedDataParallel
        name = "forward_sync_buffers" if "forward_sync_buffers" in signature(parallel).parameters else "broadcast_buffers"
        return parallel(module, process_group=self.processes, **{name: False})  # they are equal already

    @contextlib.contextmanager
    def shared_statistics(self, module: nn.Module):
        """Let batch normalisation see the batch of all processes; torch's own way of it knows no CPU."""
        layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        if self.size > 1:
            for layer in layers:
                layer.forward = _SharedNormalisation(layer, self)
        try:
            yield
        finally:
            for layer in layers:
                vars(layer).pop("forward", None)

    def tell(self, error: BaseException) -> None:
        """Leave an error for the others to find."""
        try:
            told = pickle.dumps(error)
            if not isinstance(pickle.loads(told), Exception):  # an interruption is no error of theirs
                raise TypeError
        except Exception:
            told = pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
        self.store.compare_set("error", "", f"{self.rank}:{told.hex()}")

    def told(self) -> BaseException | None:
        """The error that another process has left."""
        if not self.store.check(["error"]):
            return None
        rank, told = self.store.get("error").decode().split(":")
        if int(rank) == self.rank:
            return None
        error = pickle.loads(bytes.fromhex(told))
        error.add_note(f"Raised in process {rank} of {self.size}.")
        return error

    def raise_told(self) -> None:
        """Raise the error that another process has left."""
        error = self.told()
        if error is not None:
            self.raised = error
            raise error


class _SharedNormalisation:
    """Forward pass of a batch normalisation in training, with the statistics of the batch of all processes."""

    def __init__(self, layer, group):
        self.layer = layer
        self.group = group

    def __call__(self, x: Tensor) -> Tensor:
        layer = self.layer
        if not layer.training:
            return type(layer).forward(layer, x)
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x.float()
        count = self.group.sum(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
        mean = _Sum.apply(values.sum(axes), self.group) / count
        centered = values - mean.view(shape)
        variance = _Sum.apply(centered.square().sum(axes), self.group) / count
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
    def forward(ctx, values, group):
        ctx.group = group
        return group.sum(values.clone())

    @staticmethod
    def backward(ctx, grad):
        return ctx.group.sum(grad.clone()), None


def fingerprint(X) -> str:
    """A digest of shape, dtype, and the first and the last row."""
    rows = b"".join(np.ascontiguousarray(X[i : i + 1]).tobytes() for i in (0, X.shape[0] - 1))
    return f"{X.shape} {X.dtype} {hashlib.sha256(rows).hexdigest()[:8]}"


@contextlib.contextmanager
def joined():
    """The group of this fit: all processes that ``torchrun`` has started or that share a process group; else this one alone.

    Inside a worker of joblib a fit is always alone: other processes know nothing of it.
    """
    if not dist.is_available() or get_active_backend()[0].nesting_level:
        several = False
    elif dist.is_initialized():
        several = dist.get_world_size() > 1
    else:
        # Workers of other kinds inherit torchrun's variables from their parent.
        ours = dist.is_torchelastic_launched() and multiprocessing.parent_process() is None
        several = ours and int(os.environ["WORLD_SIZE"]) > 1
    if not several:
        yield Group()
        return
    with _processes() as group:
        try:
            yield group
            group.meet()  # nobody leaves while others still ask for something
        except BaseException as error:
            if error is group.raised:
                raise
            told = None
            with contextlib.suppress(dist.DistError):  # the store may be gone with the process that kept it
                told = group.told()
                if told is None:
                    group.tell(error)
            if told is not None:
                raise told from error
            raise


@contextlib.contextmanager
def _processes():
    """A process group for one fit, beside the caller's or in place of none."""
    prefix = f"skmemae/{next(_fits)}"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and dist.is_nccl_available() else "gloo"
    ours = not dist.is_initialized()
    if ours:
        store, rank, size = next(iter(dist.rendezvous("env://")))
    else:
        store, rank, size = dist.distributed_c10d._get_default_store(), dist.get_rank(), dist.get_world_size()
    group = Group(rank, size, int(os.environ.get("LOCAL_RANK", rank)), store=dist.PrefixStore(prefix + "/fit", store))
    group.meet()  # some may have taken minutes to come here
    if ours:
        options = {"store": dist.PrefixStore(prefix, store), "rank": rank, "world_size": size}
        dist.init_process_group(backend, timeout=_PATIENCE, **options)
        group.processes = dist.group.WORLD
    else:
        group.processes = dist.new_group(backend=backend, timeout=_PATIENCE)
    try:
        yield group
    finally:
        dist.destroy_process_group(group.processes)

"""One fit as a run: its processes, random numbers, observers and checkpoint."""

import contextlib
import hashlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from skmemae._data.sources import Samples, row_blocks
from skmemae._runtime import replacing, training_dtype, warn_caller
from skmemae._train.distributed import SingleProcess
from skmemae._train.timing import LEAST_STEPS, LongFit, Part, Timing
from skmemae.network import RandomStream

_WAY_OUT = "Remove it, or give another path."
_OUTPUT_ONLY = ("verbose", "convention")  # parameters on which training does not depend


class Observer:
    """Base class of objects that are notified of the progress of a fit; its methods do nothing."""

    def begin(self, model: Any, n_epochs: int, score: Callable[[Any], Any]) -> None:
        """A fit begins to train the networks of a model; ``score`` takes a model and scores the training samples."""

    def end(self, model: Any) -> None:
        """The fit of the model has ended."""

    def begin_network(self) -> None:
        """Training of the next network begins."""

    def begin_epoch(self) -> None:
        """The next epoch begins."""

    def end_epoch(self, network: nn.Module, loss: float, validation: float | None) -> bool:
        """An epoch has ended; return whether the observer wants to stop the training of the network."""
        return False

    def end_network(self, network: nn.Module) -> None:
        """Training of the network has ended."""

    def begin_features(self) -> None:
        """Training of the network of reference features begins."""

    def close(self) -> None:
        """Training of all networks has ended, with or without an error."""


class Progress(Observer):
    """A bar of all training (verbose 1), with the time that is left, or a line per epoch (verbose 2).

    Parameters
    ----------
    n_networks, n_epochs : int
    verbose : {1, 2}
    """

    def __init__(self, n_networks: int, n_epochs: int, verbose: int):
        self.n_networks = n_networks
        self.n_epochs = n_epochs
        self.network = self.epoch = 0
        self.bar = None
        if verbose == 1:
            from tqdm.auto import tqdm  # warns where notebooks have no widgets, and starts a thread

            form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"
            self.bar = tqdm(total=1.0, desc="MemAE", bar_format=form)

    def step(self, done: float) -> None:
        """A step has ended, after which a share of the training is done."""
        if self.bar is not None:
            self.bar.update(done - self.bar.n)

    def begin_network(self) -> None:
        self.network, self.epoch = self.network + 1, 0

    def begin_features(self) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str("reference features")

    def end_epoch(self, network: nn.Module, loss: float, validation: float | None) -> bool:
        self.epoch += 1
        shown = {"loss": f"{loss:.4g}"}
        if validation is not None:
            shown["validation"] = f"{validation:.4g}"
        place = {"network": f"{self.network}/{self.n_networks}"} if self.n_networks > 1 else {}
        place["epoch"] = f"{self.epoch}/{self.n_epochs}"
        if self.bar is not None:
            self.bar.set_postfix({**place, **shown}, refresh=False)
        else:
            where, numbers = (", ".join(f"{name} {value}" for name, value in part.items()) for part in (place, shown))
            print(f"{where}: {numbers}", file=sys.stdout)
        return False

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


class Checkpoint:
    """A file that holds the state of training, written at most every two seconds, from which a killed fit goes on.

    Parameters
    ----------
    path : str or PathLike
    identity : str
        Data, parameters and versions on which the fit depends.

    Raises
    ------
    TypeError
        If the path is none.
    ValueError
        If the file is no checkpoint, is damaged, or is one of another fit.
    OSError
        If the file cannot be read or written.

    Attributes
    ----------
    seconds : float
        Shortest time between two writes.
    """

    seconds = 2.0

    def __init__(self, path: str | os.PathLike, identity: str):
        if not isinstance(path, str | bytes | os.PathLike):
            raise TypeError(f"The 'checkpoint' parameter must be a path or None. Got {path!r} instead.")
        self.given = os.fsdecode(path)  # for messages
        self.path = os.path.abspath(self.given)
        self.identity = identity
        self.stored: dict[str, Any] = {}
        if os.path.exists(self.path):
            self.stored = self._read()
        else:
            self.write({})  # so that an error is raised before training
        self._written = time.monotonic()

    def is_due(self) -> bool:
        """Whether the last write was long enough ago."""
        return time.monotonic() - self._written >= self.seconds

    def write(self, state: dict[str, Any]) -> None:
        """Replace the content of the file."""
        with replacing(self.path, self.given) as file:
            content = io.BytesIO()
            torch.save({"identity": self.identity, **state}, content)
            file.write(hashlib.sha256(content.getbuffer()).digest())
            file.write(content.getbuffer())
        self._written = time.monotonic()

    def remove(self) -> None:
        """Remove the file of a fit that is complete."""
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)

    def _read(self) -> dict[str, Any]:
        with open(self.given, "rb") as file:
            checksum, content = file.read(hashlib.sha256().digest_size), file.read()
        try:
            if hashlib.sha256(content).digest() != checksum:
                raise ValueError("its checksum differs")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            check_state(state)
            theirs = state.pop("identity")
        except Exception as error:  # a file that somebody else has written may be wrong in any way
            raise ValueError(f"{self.given} is no checkpoint of a fit, or is damaged. {_WAY_OUT}") from error
        if theirs != self.identity:
            fits = f"of {theirs[:2000]}, where this one is of {self.identity}"
            raise ValueError(f"{self.given} is the checkpoint of another fit: {fits}. {_WAY_OUT}")
        return state


def check_state(state: dict[str, Any]) -> None:
    """Raise unless a state is one that a fit stores: its identity, then also its seed, then all of its training.

    Raises
    ------
    ValueError, RuntimeError
    """
    form: dict[Any, Any] = {"identity": str}
    if len(state) > 1:
        form |= {"seed": int}
    if len(state) > 2:
        form |= _STATE
    if not _fits(state, form) or not 0 <= state.get("seed", 0) < 2**31 or not 0 <= state.get("used", 0.0) < math.inf:
        raise ValueError("it lacks items, or has items of other types than a fit stores")
    if "training" in state:
        training = state["training"]
        for random_state in (training["generator"], *(training["stream"] or [])[:1]):
            torch.Generator().set_state(random_state)


_CURVES = [[float], [float]]
_STATE = {  # [a] is a list of any number of a, [a, b] one of two, and (a, b) is a or b
    "curves": [_CURVES],
    "number": int,
    "used": float,
    "model": {str: object},
    "training": {
        "curves": _CURVES,
        "epoch": int,
        "has_stopped": bool,
        "part": [float, float, float],
        "optimiser": {"means": [torch.Tensor], "squares": [torch.Tensor], "steps": [torch.Tensor]},
        "stopping": {"best": float, "best_state": (type(None), {str: object}), "waited": int},
        "generator": torch.Tensor,
        "stream": (type(None), [torch.Tensor]),
    },
}


def _fits(value: Any, form: Any) -> bool:
    """Whether a value has a form of ``_STATE``."""
    if isinstance(form, tuple):
        return any(_fits(value, one) for one in form)
    if isinstance(form, list):
        forms = form * len(value) if isinstance(value, list) and len(form) == 1 else form
        return isinstance(value, list) and len(value) == len(forms) and all(map(_fits, value, forms))
    if isinstance(form, dict):
        if not isinstance(value, dict) or (str not in form and value.keys() != form.keys()):
            return False
        return all(isinstance(name, str) and _fits(item, form.get(name, object)) for name, item in value.items())
    return isinstance(value, form) and not (form is int and isinstance(value, bool))


class Run:
    """A fit or an update: everything that its steps share.

    Parameters
    ----------
    device : torch.device
    seed : int
        Seed of all random numbers; the seed in a checkpoint replaces it.
    processes : SingleProcess, default=SingleProcess()
        Processes that train together.
    verbose : {0, 1, 2}, default=0
    observers : sequence of Observer, default=()
        Notified of epochs and networks of this process.
    checkpoint : Checkpoint or None, default=None
        Given to the first process alone.
    timing : Timing or None, default=None
        Its time and what that is bounded by; None has no limit.

    Attributes
    ----------
    precision : torch.dtype
        Of convolutions and matrix products in training; the usual one of the device unless it is set.
    generator : torch.Generator
        On the CPU.
    stream : RandomStream or None
        Random numbers of the user's modules in a forward pass; None for the package's own modules, which draw none.
    stored : dict
        State that the checkpoint held at the start, the same on all processes; empty if there was none.
    """

    def __init__(
        self,
        device: torch.device,
        seed: int,
        processes: SingleProcess | None = None,
        verbose: int = 0,
        observers: Sequence[Observer] = (),
        checkpoint: Checkpoint | None = None,
        timing: Timing | None = None,
    ):
        self.device = device
        self.precision = training_dtype("auto", device)
        self.timing = Timing() if timing is None else timing
        self.processes = SingleProcess() if processes is None else processes
        self.stored: dict[str, Any] = self.processes.compute_on_first(lambda: {} if checkpoint is None else checkpoint.stored)
        self.seed = self.stored.get("seed", seed)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.stream: RandomStream | None = None
        self.verbose = verbose if self.processes.rank == 0 else 0
        self.is_quiet = verbose == 0 and self.processes.rank == 0
        self.observers = list(observers)
        self.is_watched = self.processes.compute_on_first(bool, self.observers)  # equal on all processes
        self.checkpoint = checkpoint
        if checkpoint is not None and not self.stored:
            checkpoint.write({"seed": self.seed})

    @property
    def resolved(self) -> dict[str, str]:
        """Parameters of ``MemAEDetector`` that the machine decides."""
        return {"device": str(self.device), "precision": str(self.precision).removeprefix("torch.")}

    def on_first(self, function: Any, *args: Any) -> Any:
        """Run a function in the first process, and return its result in all processes."""
        return self.processes.compute_on_first(function, *args)

    @contextlib.contextmanager
    def observed(self, n_networks: int, n_epochs: int, more: float = 0.0) -> Iterator[None]:
        """Show progress of the training within the block, and warn if it may take long or had too little time.

        Parameters
        ----------
        n_networks, n_epochs : int
        more : float, default=0.0
            Time that the network of reference features takes, where that of another network is 1.
        """
        progress = [Progress(n_networks, n_epochs, self.verbose)] if self.verbose else []
        listeners = [bar.step for bar in progress]
        if self.is_quiet:
            listeners.append(LongFit(self.timing, self.device).step)
        self.timing.begin(n_networks + more, *listeners)
        if "used" in self.stored:
            self.timing.resume(self.stored["used"])
        self.observers = [*progress, *self.observers]
        try:
            yield
        finally:
            for observer in progress:
                observer.close()
            self.observers = self.observers[len(progress) :]
        if self.processes.rank == 0:
            self._report_time()

    def _report_time(self) -> None:
        """Say that the time was up: in a line with verbose 2, in a warning if there was hardly any."""
        limit = self.timing.limit
        if self.timing.is_up and self.verbose == 2:
            print(f"training stopped: time_limit={limit:g} seconds are over", file=sys.stdout)
        if self.timing.is_short:
            warn_caller(
                f"time_limit={limit:g} seconds were over before a network had made {LEAST_STEPS + 1} steps of training, so the "
                "scores may mean little. Raise time_limit."
            )

    def part(self, weight: float = 1.0) -> Part:
        """Begin the training of a network by all processes."""
        return Part(self.timing, weight, self.processes)

    def end_epoch(self, network: nn.Module, loss: float, validation: float | None) -> bool:
        """Notify observers that an epoch has ended; return whether one wants to stop the training of the network."""
        stops = [observer.end_epoch(network, loss, validation) for observer in self.observers]
        return self.on_first(any, stops) if self.is_watched else False


def identity_of(X: Samples, parameters: dict[str, Any], version: str) -> str:
    """Versions, parameters, and shape, dtype and a digest of X, as text."""
    kept = plain_parameters({name: value for name, value in parameters.items() if name not in _OUTPUT_ONLY})
    return f"skmemae {version}, torch {torch.__version__}, X {digest(X)}, {kept}"


def digest(X: Samples) -> str:
    """Shape, dtype, and a digest of all numbers of X; takes about 0.6 seconds for a gigabyte."""
    sha = hashlib.sha256()
    for _, block in row_blocks(X):
        sha.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return f"{X.shape} {X.dtype} {sha.hexdigest()[:16]}"


def plain_parameters(params: dict[str, Any]) -> str:
    """Parameters as text that is the same in every process; objects by their class, functions by their name."""
    return str({name: _plain(value) for name, value in params.items()})


def _plain(value: Any) -> Any:
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

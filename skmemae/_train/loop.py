"""The training loop: objective, epochs, and early stopping."""

import math
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from itertools import zip_longest
from statistics import fmean
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.loader import Loader
from skmemae._model.copies import Copies
from skmemae._runtime import MicroBatches, training_precision
from skmemae._train.items import Items, random_queries
from skmemae._train.optimiser import Adam, schedule
from skmemae._train.run import Run
from skmemae.network import MemAE, Output, RowMemAE

_DIVERGED = 100.0  # times the error of a blank reconstruction
_USUAL_RATE = 0.01  # a learning rate that is seldom to blame
_OFF_SCALE = 1000.0  # scaled values of this size are to blame, and not the learning rate


class Settings(NamedTuple):
    """Resolved parameters of ``MemAEDetector`` of the same names, and further constants of the loop."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    validation_fraction: float
    entropy_weight: float
    power: float  # of the absolute errors that training makes small
    patience: int = 20  # epochs without a smaller held-out error after which training stops
    tolerance: float = 1e-4  # relative decrease of the held-out error that counts


class Split(NamedTuple):
    """Rows of the loader that are trained on, and rows that are held out."""

    training: Tensor
    held_out: Tensor


class Curves(NamedTuple):
    """Loss and held-out error of each epoch of a network."""

    loss: list[float]  # objective per training sample
    validation: list[float]  # error per held-out sample


def train_networks(
    networks: Iterable[MemAE | RowMemAE],
    loader: Loader,
    split: Split,
    settings: Settings,
    run: Run,
    items_of: Callable[["Training"], Items],
    state: Callable[[], dict[str, Any]] = dict,
) -> Curves:
    """Train the networks of an ensemble in place, one after the other, with the same rows held out.

    Parameters
    ----------
    networks : iterable of MemAE, or of one RowMemAE
        On the device of the loader.
    loader : Loader
    split : Split
    settings : Settings
    run : Run
    items_of : callable
        Takes the training of a network and returns the maintenance of its memory items.
    state : callable, default=dict
        Gives the ``state_dict`` of the model that holds the networks, for checkpoints.

    Returns
    -------
    curves : Curves
        For each epoch the means over the networks that ran it.
    """
    networks, curves = list(networks), [Curves(*done) for done in run.stored.get("curves", [])]
    with run.observed(len(networks), settings.max_epochs):
        for number, network in enumerate(networks):
            for observer in run.observers:
                observer.begin_network()
            training = Training(network, loader, split, settings, run)
            training.items = items_of(training)

            def kept(number: int = number) -> dict[str, Any]:
                return {"seed": run.seed, "curves": [list(done) for done in curves], "number": number, "model": state()}

            if number == run.stored.get("number"):
                training.load_state_dict(run.stored["training"])
            if number >= len(curves):
                run.processes.share_statistics(network)
                curves.append(training.train(kept))
                run.processes.broadcast(*network.parameters(), *network.buffers())
            network.eval()
            for observer in run.observers:
                observer.end_network(network)
    return Curves(_mean_curve([c.loss for c in curves]), _mean_curve([c.validation for c in curves]))


def _mean_curve(curves: list[list[float]]) -> list[float]:
    return [fmean(value for value in epoch if value is not None) for epoch in zip_longest(*curves)]


def split_rows(loader: Loader, rows: Tensor, fraction: float, run: Run, copies: Copies | None = None) -> Split:
    """Rows to train on, at least two for batch normalisation, and rows to hold out, at most ``loader.max_held_out``.

    Rows that have parts in common are held out together: windows of a video, and copies.
    """
    rows = rows[torch.randperm(len(rows), generator=run.generator)]
    count = min(int(fraction * len(rows)), len(rows) - 2, loader.max_held_out)
    if count < run.processes.size:
        return Split(rows, rows[:0])
    same = torch.arange(len(loader)) if copies is None else copies.first[copies.group]
    windows = getattr(loader.X, "groups", None)
    if windows is not None:
        rows = _side_by_side(rows, torch.as_tensor(windows)[same], same)
    elif copies is not None and len(copies.counts) < len(same):
        small = copies.counts[copies.group[rows]] <= count  # others cannot be held out whole
        rows = torch.cat([_side_by_side(rows[small], same, same), rows[~small]])
    if copies is not None:  # the cut is between copies
        ends = torch.nonzero(same[rows[1 : count + 1]] != same[rows[:count]]).flatten() + 1
        count = int(ends[-1]) if len(ends) else 0
    return Split(rows[count:], rows[:count])


def _side_by_side(rows: Tensor, group: Tensor, same: Tensor) -> Tensor:
    """The rows, group by group in the order of first appearance, and in each group by the first row that is the same."""
    _, first, number = np.unique(group[rows].numpy(), return_index=True, return_inverse=True)
    return rows[torch.from_numpy(np.lexsort((rows.numpy(), same[rows].numpy(), first[number])))]


class Means(NamedTuple):
    """Means of an epoch over the training samples."""

    loss: float  # the objective
    error: float
    energy: float  # the error of a blank reconstruction


class Training:
    """Training of one network in place: warm up without the memory, fill the memory with queries, then train all together.

    A memory of rows is used from the start.

    Parameters
    ----------
    network : MemAE or RowMemAE
        On the device of the loader.
    loader : Loader
    split : Split
    settings : Settings
    run : Run
    """

    def __init__(self, network: MemAE | RowMemAE, loader: Loader, split: Split, settings: Settings, run: Run):
        self.network = network
        self.loader = loader
        self.split = split
        self.settings = settings
        self.run = run
        self.held_out_rows = run.processes.shard(split.held_out)
        self.held_out = loader.hold_out(self.held_out_rows) if len(split.held_out) else None
        self.optimiser = Adam(network)
        self.micro = MicroBatches(least=2, may_split=run.processes.size == 1)
        self.stopping = EarlyStopping(network, settings)
        self.items = Items()
        self.curves = Curves([], [])
        self.has_stopped = False  # before the last epoch

    def train(self, kept: Callable[[], dict[str, Any]] = dict) -> Curves:
        """Train for all epochs, or until the held-out error no longer falls.

        Parameters
        ----------
        kept : callable, default=dict
            Returns what a checkpoint holds beside the state of this training.

        Raises
        ------
        ValueError
            If training diverges: the objective is not finite, or the error ends far above that of a blank reconstruction.
        MemoryError
            If the device has no room for two samples.
        """
        s, run, items = self.settings, self.run, self.items
        wrapped: dict[bool, nn.Module] = {}
        first = len(self.curves.loss)
        means = Means(math.inf, math.inf, math.inf)
        for epoch in range(first, first if self.has_stopped else s.max_epochs):
            for observer in run.observers:
                observer.begin_epoch()
            warms_up = epoch < items.first_epoch
            model = self.network.without_memory() if warms_up and isinstance(self.network, MemAE) else self.network
            items.begin_epoch(epoch)
            if warms_up not in wrapped:
                wrapped[warms_up] = run.processes.wrap(model)
            means, mass = self.train_epoch(wrapped[warms_up], epoch)
            check_divergence(means, math.isfinite(means.loss), self.loader, s)
            self.curves.loss.append(means.loss)
            items.end_epoch(epoch, mass)
            error = None if self.held_out is None else self.held_out_error(model, self.held_out)
            if error is not None:
                self.curves.validation.append(error)
            stops = run.end_epoch(model, means.loss, error)
            if error is not None and epoch >= items.settled_epoch:
                stops = self.stopping.should_stop(error) or stops
            self.has_stopped = stops and model is self.network
            if run.checkpoint is not None and run.checkpoint.is_due():
                run.checkpoint.write({**kept(), "training": self.state_dict()})
            if self.has_stopped:
                break
        if len(self.curves.loss) > first:
            kept_error = min(means.error, self.stopping.best)
            check_divergence(means, kept_error <= _DIVERGED * max(means.energy, 1.0), self.loader, s)
        self.stopping.restore_best()
        self.network.eval()
        return self.curves

    def train_epoch(self, model: nn.Module, epoch: int) -> tuple[Means, Tensor | None]:
        """One pass over the training rows: means over the samples, and the summed addressing weights of each item."""
        s, run, rows = self.settings, self.run, self.split.training
        model.train()
        order = self.loader.shuffle(rows, s.batch_size, run.generator)
        batches = split_batches(order, s.batch_size, max(2, run.processes.size))
        totals, masses = torch.zeros(3, device=self.loader.device), None
        for number, (x, some) in enumerate(self.loader.stream([run.processes.shard(batch) for batch in batches])):
            scale = run.processes.size / len(batches[number])

            def backward(x: Tensor, some: Tensor, scale: float = scale) -> tuple[Tensor, Tensor | None]:
                return self.backward(model, x, some, scale)

            for sums, mass in self.micro.map(backward, x, some, undo=self.optimiser.clear):
                totals += sums
                if mass is not None:
                    masses = mass if masses is None else masses.add_(mass)
            self.optimiser.step(s.learning_rate * schedule((epoch + (number + 1) / len(batches)) / s.max_epochs))
        run.processes.all_reduce(totals)
        if masses is not None:
            run.processes.all_reduce(masses)
        return Means(*(totals / len(rows)).tolist()), masses  # the one synchronisation of an epoch

    def backward(self, model: nn.Module, x: Tensor, rows: Tensor, scale: float) -> tuple[Tensor, Tensor | None]:
        """Add gradients of the summed objective times ``scale``; return sums of objective, error and energy, and the mass."""
        s = self.settings
        with training_precision(x.device), nullcontext() if self.run.stream is None else self.run.stream.active():
            output = self.items.forward(model, x, rows)
        loss, error = objective(output, x, s.entropy_weight, s.power)
        (loss * (scale * len(x))).backward()
        energy = summed_error(x.new_zeros(1).expand_as(x), x, s.power)
        return torch.stack([loss.detach() * len(x), error.detach() * len(x), energy]), output.mass

    @torch.no_grad()
    def held_out_error(self, model: nn.Module, held_out: Tensor) -> float:
        """Mean error over the samples that are held out."""
        model.eval()
        total = torch.zeros((), device=self.loader.device)
        size = self.micro.size(self.settings.batch_size)
        for x, rows in self.loader.minibatches(held_out, self.held_out_rows, size):
            total += summed_error(model(x, **self.items.hidden(rows)).reconstruction, x, self.settings.power)
        return float(self.run.processes.all_reduce(total)) / len(self.split.held_out)

    def random_queries(self, count: int) -> Tensor:
        """Queries of random training samples, slightly moved, the same on all processes: (count, C)."""
        rows, generator = self.split.training, self.run.generator
        rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
        batches = [self.loader.samples(batch) for batch in rows.split(self.micro.size(self.settings.batch_size))]
        queries = random_queries(cast(MemAE, self.network), batches, count, generator)
        self.run.processes.broadcast(queries)
        return queries

    def state_dict(self) -> dict[str, Any]:
        """All state of the training except that of the network."""
        stream = self.run.stream
        return {
            "curves": list(self.curves),
            "has_stopped": self.has_stopped,
            "optimiser": self.optimiser.state_dict(),
            "stopping": self.stopping.state_dict(),
            "generator": self.run.generator.get_state(),
            "stream": None if stream is None else stream.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.curves = Curves(*state["curves"])
        self.has_stopped = state["has_stopped"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.stopping.load_state_dict(state["stopping"])
        self.run.generator.set_state(state["generator"])
        if self.run.stream is not None:
            self.run.stream.set_state(state["stream"])


def check_divergence(means: Means, fine: bool, loader: Loader, s: Settings) -> None:
    """Raise a ValueError that names the likely cause, unless ``fine`` is true."""
    if fine:
        return
    cause = f"Lower learning_rate (now {s.learning_rate})"
    if s.learning_rate <= _USUAL_RATE:
        cause += f" or entropy_weight (now {s.entropy_weight:.3g}), or raise temperature"
    size = (means.energy / math.prod(loader.layout.sample_shape)) ** (1 / s.power)
    if size > _OFF_SCALE:
        cause = f"Scaled values are {size:.3g} in the mean: let scaling='auto' bring X to unit scale, or rescale X"
    raise ValueError(
        f"Training diverged: the mean loss is {means.loss:.3g} and the error {means.error:.3g}, where that of a blank "
        f"reconstruction is {means.energy:.3g}. {cause}."
    )


def objective(output: Output, x: Tensor, entropy_weight: float, power: float = 2.0) -> tuple[Tensor, Tensor]:
    """Equation 10 of the paper: squared error of a sample plus alpha times the entropy of its weights, as a mean over samples.

    With one query per location the entropy of a sample is the mean over its locations. ``power`` replaces the square. With
    several members, error and entropy are means over the members.

    Returns
    -------
    loss, error : Tensor
        The objective, and the error alone.
    """
    error = summed_error(output.reconstruction.float(), x, power) / len(x)
    if output.entropy is None or not entropy_weight:
        return error, error
    return error + entropy_weight * output.entropy.mean(), error


def summed_error(reconstruction: Tensor, x: Tensor, power: float) -> Tensor:
    """Absolute errors to a power, summed over samples and their numbers, the mean over the members."""
    residual = reconstruction - x
    error = residual.square() if power == 2.0 else residual.abs() ** power
    return error.sum() / (reconstruction.numel() / x.numel())


def split_batches(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Batches of rows; no row is dropped, and a last batch of fewer than ``least`` rows joins the batch before it."""
    batches = list(order.split(min(batch_size, len(order))))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


class EarlyStopping:
    """Keeps the parameters with the smallest held-out error, and tells when it no longer falls.

    Parameters
    ----------
    network : nn.Module
    settings : Settings
    """

    def __init__(self, network: nn.Module, settings: Settings):
        self.network = network
        self.settings = settings
        self.best = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self.waited = 0

    def should_stop(self, error: float) -> bool:
        """Record the held-out error of an epoch; return whether ``patience`` epochs have passed without a smaller one."""
        if error < self.best * (1 - self.settings.tolerance):
            self.best, self.waited = error, 0
            self.best_state = {name: value.clone() for name, value in self.network.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.settings.patience

    def state_dict(self) -> dict[str, Any]:
        """Best error and parameters, and epochs since."""
        return {"best": self.best, "best_state": self.best_state, "waited": self.waited}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.best, self.best_state, self.waited = state["best"], state["best_state"], state["waited"]

    def restore_best(self) -> None:
        """Put the parameters of the best epoch back, if there is one."""
        if self.best_state is not None:
            self.network.load_state_dict(self.best_state)

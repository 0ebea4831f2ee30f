"""The training loop: objective, epochs, and early stopping."""

import math
from collections.abc import Callable, Iterable
from contextlib import closing, nullcontext
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
_MANY_BATCHES = 1000  # after which nothing is left of the initial statistics of batch normalisation
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

    Each has the same share of the time, and what others have left of theirs.

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
        For each whole epoch the means over the networks that ran it; the first may be a part of an epoch.
    """
    networks, curves = list(networks), [Curves(*done) for done in run.stored.get("curves", [])]
    for number, network in enumerate(networks):
        for observer in run.observers:
            observer.begin_network()
        training = Training(network, loader, split, settings, run)
        training.items = items_of(training)

        def kept(number: int = number) -> dict[str, Any]:
            done = {"seed": run.seed, "curves": [list(curve) for curve in curves], "number": number}
            return {**done, "used": run.timing.used(), "model": state()}

        if number == run.stored.get("number"):
            training.load_state_dict(run.stored["training"])
        if number >= len(curves):
            run.processes.share_statistics(network)
            curves.append(training.train(kept))
            run.processes.broadcast(*network.parameters(), *network.buffers())
        training.part.end()
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

    If time is short, epochs are skipped: the number of the present one is the share of ``max_epochs`` that is over of the time.
    So warm-up, maintenance of items and the learning rate come to their ends with the time. An epoch ends early where one of
    these phases does.

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
        self.part = run.part()
        self.epoch = -1  # the last one
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
        means = None
        while not self.has_stopped and (epoch := self.next_epoch()) < s.max_epochs:
            self.epoch = epoch
            for observer in run.observers:
                observer.begin_epoch()
            warms_up = epoch < items.first_epoch
            model = self.network.without_memory() if warms_up and isinstance(self.network, MemAE) else self.network
            items.begin_epoch(epoch)
            if warms_up not in wrapped:
                wrapped[warms_up] = run.processes.wrap(model)
            means, mass, is_whole = self.train_epoch(wrapped[warms_up], epoch)
            check_divergence(means, math.isfinite(means.loss), self.loader, s)
            items.end_epoch(epoch, mass)
            error = self.record(model, means, is_whole)
            stops = run.end_epoch(model, means.loss, error)
            if error is not None and epoch >= items.settled_epoch:
                stops = self.stopping.should_stop(error) or stops
            self.has_stopped = stops and model is self.network
            if run.checkpoint is not None and run.checkpoint.is_due():
                run.checkpoint.write({**kept(), "training": self.state_dict()})
        if means is not None:
            kept_error = min(means.error, self.stopping.best)
            check_divergence(means, kept_error <= _DIVERGED * max(means.energy, 1.0), self.loader, s)
        self.stopping.restore_best()
        if self.part.is_up:
            correct_statistics(self.network)
        self.network.eval()
        return self.curves

    def next_epoch(self) -> int:
        """Number of the next epoch, by the steps or by the time; the one in which the memory comes in is never skipped."""
        epoch = max(self.epoch + 1, int(self.part.progress * self.settings.max_epochs))
        return min(epoch, self.items.first_epoch) if self.epoch < self.items.first_epoch else epoch

    def record(self, model: nn.Module, means: Means, is_whole: bool) -> float | None:
        """Add an epoch to the curves; return its held-out error if there is one.

        Of epochs that the time has cut short, only the first is in the curves, so that they are never empty. Its error is that
        of a single batch. For others there is no time, unless the error decides which parameters are kept.
        """
        error, is_first = None, not self.curves.loss
        if self.held_out is not None and (is_whole or is_first or self.stopping.best_state is not None):
            error = self.held_out_error(model, is_brief=is_first and not is_whole)
        if is_whole or is_first:
            self.curves.loss.append(means.loss)
            self.curves.validation.extend([] if error is None else [error])
        return error

    def train_epoch(self, model: nn.Module, epoch: int) -> tuple[Means, Tensor | None, bool]:
        """One pass over the training rows, or a part of it if the time of a phase is over.

        Returns
        -------
        means : Means
            Over the samples of the pass.
        mass : Tensor of shape (N,) or None
            Summed addressing weights of each item.
        is_whole : bool
            Whether the pass was over all rows.
        """
        s, run, rows = self.settings, self.run, self.split.training
        model.train()
        order = self.loader.shuffle(rows, s.batch_size, run.generator)
        batches = split_batches(order, s.batch_size, max(2, run.processes.size))
        phases = (self.items.first_epoch, self.items.settled_epoch, s.max_epochs)
        end = next(phase for phase in phases if phase > epoch) / s.max_epochs
        totals, masses, n_seen = torch.zeros(3, device=self.loader.device), None, 0
        with closing(self.loader.stream([run.processes.shard(batch) for batch in batches])) as stream:
            for number, (x, some) in enumerate(stream):
                scale = run.processes.size / len(batches[number])

                def backward(x: Tensor, some: Tensor, scale: float = scale) -> tuple[Tensor, Tensor | None]:
                    return self.backward(model, x, some, scale)

                for sums, mass in self.micro.map(backward, x, some, undo=self.optimiser.clear):
                    totals += sums
                    if mass is not None:
                        masses = mass if masses is None else masses.add_(mass)
                progress = self.part.step((epoch + (number + 1) / len(batches)) / s.max_epochs)
                self.optimiser.step(s.learning_rate * schedule(progress))
                n_seen += len(batches[number])
                if progress >= end and run.timing.limit is not None:
                    break
        run.processes.all_reduce(totals)
        if masses is not None:
            run.processes.all_reduce(masses)
        # The one synchronisation of an epoch.
        return Means(*(totals / n_seen).tolist()), masses, n_seen == len(rows)

    def backward(self, model: nn.Module, x: Tensor, rows: Tensor, scale: float) -> tuple[Tensor, Tensor | None]:
        """Add gradients of the summed objective times ``scale``; return sums of objective, error and energy, and the mass."""
        s = self.settings
        stream = nullcontext() if self.run.stream is None else self.run.stream.active()
        with training_precision(x.device, self.run.precision), stream:
            output, target = self.items.forward(model, x, rows)
        loss, error = objective(output, target, s.entropy_weight, s.power, x.numel() / target.numel())
        (loss * (scale * len(x))).backward()
        energy = summed_error(x.new_zeros(1).expand_as(x), x, s.power)
        return torch.stack([loss.detach() * len(x), error.detach() * len(x), energy]), output.mass

    @torch.no_grad()
    def held_out_error(self, model: nn.Module, is_brief: bool = False) -> float:
        """Mean error over the samples that are held out, or over a batch of them."""
        model.eval()
        total = torch.zeros((), device=self.loader.device)
        processes, size = self.run.processes, self.settings.batch_size
        some = self.split.held_out[: processes.size * size] if is_brief else self.split.held_out
        count = len(processes.shard(some))
        held_out, held_out_rows = cast(Tensor, self.held_out)[:count], self.held_out_rows[:count]
        for x, rows in self.loader.minibatches(held_out, held_out_rows, self.micro.size(size)):
            total += summed_error(model(x, **self.items.hidden(rows)).reconstruction, x, self.settings.power)
        return float(processes.all_reduce(total)) / len(some)

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
            "epoch": self.epoch,
            "part": self.part.state(),
            "has_stopped": self.has_stopped,
            "optimiser": self.optimiser.state_dict(),
            "stopping": self.stopping.state_dict(),
            "generator": self.run.generator.get_state(),
            "stream": None if stream is None else stream.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self.curves = Curves(*state["curves"])
        self.epoch = state["epoch"]
        self.part.load_state(state["part"])
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


def objective(
    output: Output, x: Tensor, entropy_weight: float, power: float = 2.0, weight: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Equation 10 of the paper: squared error of a sample plus alpha times the entropy of its weights, as a mean over samples.

    With one query per location the entropy of a sample is the mean over its locations. ``power`` replaces the square. With
    several members, error and entropy are means over the members. ``weight`` multiplies the error; it is above
    1 if x holds some columns only.

    Returns
    -------
    loss, error : Tensor
        The objective, and the error alone.
    """
    error = weight * summed_error(output.reconstruction.float(), x, power) / len(x)
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


@torch.no_grad()
def correct_statistics(network: nn.Module) -> None:
    """Take out of the statistics of batch normalisation what is left of their initial values after few batches."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.momentum is not None and layer.num_batches_tracked:
            left = (1 - layer.momentum) ** int(layer.num_batches_tracked)
            cast(Tensor, layer.running_mean).div_(1 - left)  # a mean of 0 at first
            cast(Tensor, layer.running_var).sub_(left).div_(1 - left).clamp_min_(0)  # a variance of 1
            layer.num_batches_tracked += _MANY_BATCHES  # so that nothing is left, should this be called again

"""The training loop: objective and early stopping."""

import math
from contextlib import nullcontext
from functools import partial
from itertools import zip_longest
from statistics import fmean
from typing import Any, NamedTuple

import torch
from torch import Tensor

from skmemae._data.loader import Loader
from skmemae._data.sources import neighbours_together
from skmemae._runtime import MicroBatches, training_precision
from skmemae._train.checkpoint import NO_CHECKPOINT
from skmemae._train.optimiser import Adam, schedule
from skmemae._train.progress import Progress
from skmemae._train.upkeep import Items, LearnedItems, RowItems, random_queries
from skmemae.network import MemAE

_DIVERGED = 100.0  # times the error of a blank reconstruction
_USUAL_RATE = 0.01  # a learning rate that is seldom to blame
_OFF_SCALE = 1000.0  # scaled values of this size are to blame, and not the learning rate


class Settings(NamedTuple):
    """What the loop must know: parameters of the same names of ``MemAEDetector``, with "auto" resolved, and ``power``."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    entropy_weight: float
    latent_l1: float
    power: float  # of the absolute errors that training makes small
    precision: str
    verbose: int


class History(NamedTuple):
    """What training learned besides the network's parameters."""

    loss_curve: list[float]  # objective per training sample, one number per epoch
    validation_curve: list[float]  # error per held-out sample, one number per epoch
    held_out_rows: Tensor  # the rows that no network was trained on

    def trained(self, rows: Tensor) -> Tensor:
        """Those of the rows that were given to train on which were not held out."""
        return rows[~torch.isin(rows, self.held_out_rows)]


def train_members(
    networks,
    loader: Loader,
    settings: Settings,
    generator,
    rows,
    processes,
    stream=None,
    choice=None,
    usage=None,
    tasks=None,
    checkpoint=NO_CHECKPOINT,
) -> History:
    """Train the networks of an ensemble in place, one after the other, with the same rows held out.

    Parameters
    ----------
    networks : list of MemAE
        On the device of the loader.
    loader : Loader
    settings : Settings
    generator : torch.Generator
        On the CPU; the only source of randomness of the loop.
    rows : Tensor of int
        The rows to train on.
    processes : SingleProcess or Processes
        Which train together, all with the same arguments.
    stream : RandomStream or None, default=None
        What modules of users draw from in a forward pass.
    choice : Choice or None, default=None
        The rows that the memory items of a network with members are made of (:class:`RowItems`).
    usage : ndarray of shape (n_networks, N) or None, default=None
        Of networks that have been trained before, the share of the queries that used each item; None for fresh ones.
    tasks : FitTasks or None, default=None
        On the first process, what tells callbacks of networks and epochs.
    checkpoint : Checkpoint, default=NO_CHECKPOINT
        From which networks with learned items, or none, go on.

    Returns
    -------
    history : History
        Means over the networks that ran so many epochs.
    """
    verbose = settings.verbose if processes.rank == 0 else 0
    split, histories = _split_rows(loader, rows, settings, generator, processes.size), []
    is_watched = processes.compute_on_first(bool, tasks)
    with Progress(len(networks), settings.max_epochs, verbose, tasks, is_watched) as progress:
        for number, network in enumerate(networks):
            progress.begin_network()
            used = None if usage is None else torch.as_tensor(usage[number], device=loader.device)
            stage = (checkpoint if choice is None else NO_CHECKPOINT), f"network {number}"
            with processes.shared_statistics(network):
                tools = processes, stream, progress, choice, used, *stage
                histories.append(train(network, loader, settings, generator, split, *tools))
            processes.broadcast(*network.parameters(), *network.buffers())
            progress.end_network(network)
    loss_curves, validation_curves = ([history[i] for history in histories] for i in (0, 1))
    return History(_mean_curve(loss_curves), _mean_curve(validation_curves), split[1])


def _mean_curve(curves) -> list[float]:
    return [fmean(value for value in epoch if value is not None) for epoch in zip_longest(*curves)]


def train(
    network: MemAE,
    loader: Loader,
    settings: Settings,
    generator,
    split,
    processes,
    stream,
    progress,
    choice,
    usage,
    checkpoint,
    stage: str,
) -> History:
    """Train in place: warm up without the memory, fill it with encodings, then train everything together.

    A memory of rows is there from the start. Parameters as those of :func:`train_members`, but the rows to train on and those
    that are held out in ``split``, ``progress`` to go on with, and the ``usage`` of the items of this network. Each epoch is
    kept in the ``checkpoint``, under the name of the ``stage``.

    Raises
    ------
    ValueError
        If training diverges: the objective is not finite, or the error ends far above that of a blank reconstruction.
    MemoryError
        If the device has no room for two samples.
    """
    s, (rows, held_out_rows) = settings, split
    held_out = loader.hold_out(processes.shard(held_out_rows)) if len(held_out_rows) else None
    optimiser, micro = Adam(network), MicroBatches(least=2, may_split=processes.size == 1)

    def draw(count):
        return random_queries(count, network, loader, rows, micro.size(s.batch_size), generator, processes)

    items = _items_of(network, loader, optimiser, draw, s.max_epochs, choice, usage)
    stopping = EarlyStopping(network, s)
    parts = {"network": network, "optimiser": optimiser, "micro": micro, "stopping": stopping, "generator": generator}
    parts |= {} if stream is None else {"stream": stream}
    run: dict[str, Any] = {"loss_curve": [], "validation_curve": [], "means": None, "stops": False}
    checkpoint.begin(stage, parts, run)
    loss_curve, validation_curve, first = run["loss_curve"], run["validation_curve"], len(run["loss_curve"])
    for epoch in range(first, s.max_epochs):
        if run["stops"]:
            break
        progress.begin_epoch()
        model = MemAE(network.encoder, network.decoder) if epoch < items.first_epoch else network
        items.begin_epoch(epoch)
        if epoch in (first, items.first_epoch):
            step = processes.wrap(model)
        means, mass = _train_epoch(step, loader, rows, s, optimiser, epoch, generator, processes, micro, stream, items)
        check_divergence(means, math.isfinite(means.loss), loader, s)
        loss_curve.append(means.loss)
        items.end_epoch(epoch, mass)
        if held_out is not None:
            total = held_out_error(model, loader, held_out, s, micro.size(s.batch_size), processes, items)
            validation_curve.append(total / len(held_out_rows))
        progress.show(means.loss, validation_curve)
        stops = progress.is_watched and processes.compute_on_first(progress.end_epoch, model)
        if held_out is not None and epoch >= items.settled_epoch:
            stops = stopping.should_stop(validation_curve[-1]) or stops
        run |= {"means": list(means), "stops": stops and model is network}
        checkpoint.keep(stage, parts, run, is_last=run["stops"] or epoch == s.max_epochs - 1)
    means = Means(*run["means"])
    kept_error = min(means.error, stopping.best)
    check_divergence(means, kept_error <= _DIVERGED * max(means.energy, 1.0), loader, s)
    stopping.restore_best()
    network.eval()
    return History(loss_curve, validation_curve, held_out_rows)


def _items_of(network: MemAE, loader: Loader, optimiser, draw, max_epochs: int, choice, usage) -> Items:
    """What becomes of the network's items."""
    if network.memory is None:
        return Items()
    if choice is None:
        return LearnedItems(network, optimiser, draw, max_epochs, usage)
    return RowItems(network, loader, choice.rows, choice.training)


def _split_rows(loader, rows, s: Settings, generator, n_processes) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to hold out, no more of these than fit; batch normalisation needs two of the former.

    Of rows that have parts in common with their neighbours, neighbours are held out.
    """
    rows = rows[torch.randperm(len(rows), generator=generator)]
    count = min(int(s.validation_fraction * len(rows)), len(rows) - 2, loader.max_held_out)
    if count < n_processes:
        return rows, rows[:0]
    rows = torch.from_numpy(neighbours_together(loader.X, rows.numpy()))
    return rows[count:], rows[:count]


class Means(NamedTuple):
    """Means of an epoch over the training samples."""

    loss: float  # the objective
    error: float
    energy: float  # the error of a blank reconstruction


def _train_epoch(model, loader, rows, s, optimiser, epoch, generator, processes, micro, stream, items):
    """One pass over the rows: means over the samples, and the mass that each item carried."""
    model.train()
    batches = split_batches(loader.shuffle(rows, s.batch_size, generator), s.batch_size, max(2, processes.size))
    totals, masses = torch.zeros(3, device=loader.device), None
    for number, x in enumerate(loader.stream([processes.shard(batch) for batch in batches])):
        backward = partial(_backward, model, s, processes.size / len(batches[number]), stream, items)
        for sums, mass in micro.map(backward, x, optimiser.clear):
            totals += sums
            if mass is not None:
                masses = mass if masses is None else masses.add_(mass)
        optimiser.step(s.learning_rate * schedule((epoch + (number + 1) / len(batches)) / s.max_epochs))
    processes.all_reduce(totals)
    if masses is not None:
        processes.all_reduce(masses)
    return Means(*(totals / len(rows)).tolist()), masses  # the one synchronisation of an epoch


def _backward(model, s, scale, stream, items, x):
    """Leave gradients of the summed objective times ``scale``; sums of objective, error and energy, and the items' mass."""
    with training_precision(s.precision, x.device), nullcontext() if stream is None else stream.active():
        output = items.forward(model, x)
    loss, error = objective(output, x, s.entropy_weight, s.latent_l1, s.power)
    (loss * (scale * len(x))).backward()
    energy = summed_error(x.new_zeros(1).expand_as(x), x, s.power)
    return torch.stack([loss.detach() * len(x), error.detach() * len(x), energy]), output.mass


def check_divergence(means: Means, fine: bool, loader: Loader, s: Settings) -> None:
    """Raise a ValueError that names what is at fault, unless all is fine."""
    if fine:
        return
    cause = f"Lower learning_rate (now {s.learning_rate})"
    if s.learning_rate <= _USUAL_RATE:
        cause += f", entropy_weight (now {s.entropy_weight:.3g}) or latent_l1 (now {s.latent_l1:.3g}), or raise temperature"
    size = (means.energy / math.prod(loader.layout.sample_shape)) ** (1 / s.power)
    if size > _OFF_SCALE:
        cause = f"Scaled values are {size:.3g} in the mean: let scaling='auto' bring X to unit scale, or rescale X"
    raise ValueError(
        f"Training diverged: the mean loss is {means.loss:.3g} and the error {means.error:.3g}, where that of a blank "
        f"reconstruction is {means.energy:.3g}. {cause}."
    )


def objective(output, x: Tensor, entropy_weight: float, latent_l1: float, power: float = 2.0) -> tuple[Tensor, Tensor]:
    """Equation 10 of the paper: squared error of a sample plus alpha times the entropy of its weights, as a mean over samples.

    With one query per location the entropy of a sample is the mean over its locations. ``latent_l1`` adds the l1 norm of
    the encoding (the AE-l1 ablation), ``power`` replaces the square. With members all are means over the members.

    Returns
    -------
    loss, error : Tensor
        The objective, and the error in it.
    """
    error = summed_error(output.reconstruction.float(), x, power) / len(x)
    loss = error
    if output.entropy is not None and entropy_weight:
        loss = loss + entropy_weight * output.entropy.mean()
    if latent_l1:
        n_members = output.reconstruction.numel() / x.numel()
        loss = loss + latent_l1 * output.encoding.float().abs().sum() / (n_members * len(x))
    return loss, error


def summed_error(reconstruction: Tensor, x: Tensor, power: float) -> Tensor:
    """Absolute errors to a power, summed over the samples, the mean over the members."""
    residual = reconstruction - x
    error = residual.square() if power == 2.0 else residual.abs() ** power
    return error.sum() / (reconstruction.numel() / x.numel())


def split_batches(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Batches of rows; nothing is dropped, and a last batch of fewer than ``least`` joins its neighbour."""
    batches = list(order.split(min(batch_size, len(order))))
    if len(batches) > 1 and len(batches[-1]) < least:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.no_grad()
def held_out_error(model: MemAE, loader: Loader, held_out: Tensor, settings, batch_size: int, processes, items) -> float:
    """Error summed over the samples that the processes hold out."""
    model.eval()
    total = torch.zeros((), device=loader.device)
    for x in loader.minibatches(held_out, batch_size):
        total += summed_error(model(x, hidden=items.find_own(x)).reconstruction, x, settings.power)
    return float(processes.all_reduce(total))


class EarlyStopping:
    """Keep the parameters with the smallest held-out error, and stop when it no longer falls.

    Parameters
    ----------
    network : MemAE
    settings : Settings
    """

    def __init__(self, network: MemAE, settings: Settings):
        self.network = network
        self.settings = settings
        self.best = math.inf
        self.best_state: dict[str, Tensor] | None = None
        self.waited = 0

    def should_stop(self, error: float) -> bool:
        """Take note of an epoch's held-out error; whether enough epochs have passed without a smaller one."""
        if error < self.best * (1 - self.settings.tol):
            self.best, self.waited = error, 0
            self.best_state = {name: value.clone() for name, value in self.network.state_dict().items()}
        else:
            self.waited += 1
        return self.waited >= self.settings.n_iter_no_change

    def state_dict(self) -> dict:
        """What it knows."""
        return {"best": self.best, "best_state": self.best_state, "waited": self.waited}

    def load_state_dict(self, state: dict) -> None:
        """Know what another knew."""
        self.best, self.best_state, self.waited = state["best"], state["best_state"], state["waited"]

    def restore_best(self) -> None:
        """Put the parameters of the best epoch back, if there is one."""
        if self.best_state is not None:
            self.network.load_state_dict(self.best_state)

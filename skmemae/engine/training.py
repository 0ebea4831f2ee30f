"""The training loop: objective, early stopping, progress."""

import math
import sys
from functools import partial
from itertools import zip_longest
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from tqdm.auto import tqdm

from skmemae.engine.batches import Batches
from skmemae.engine.care import fill_memory, revive_items
from skmemae.engine.group import Group
from skmemae.engine.optimiser import Adam, schedule
from skmemae.engine.runtime import Pieces, compiled, compiling_pays, training_precision
from skmemae.network.memae import MemAE

_WARM_UP = 0.1  # share of the epochs before the memory comes in
_CARE = 0.6  # share of the epochs after which the items are left alone


class Settings(NamedTuple):
    """What the loop must know; the meaning of each is told by ``MemAEDetector``."""

    learning_rate: float
    batch_size: int
    max_epochs: int
    validation_fraction: float
    n_iter_no_change: int
    tol: float
    entropy_weight: float
    latent_l1: float
    precision: str
    verbose: int


class History(NamedTuple):
    """What training learned besides the network's parameters."""

    loss_curve: list[float]  # objective per training sample, one number per epoch
    validation_curve: list[float]  # squared error per held-out sample, one number per epoch


def train_members(networks, batches: Batches, settings: Settings, generator, rows=None, group=None) -> History:
    """Train the members of an ensemble in place, one after the other, each with rows of its own held out.

    Parameters
    ----------
    networks : list of MemAE
        On the device of the batches.
    batches : Batches
    settings : Settings
    generator : torch.Generator
        On the CPU; the only source of randomness.
    rows : Tensor of int or None, default=None
        The rows of the batches to train on, all for None.
    group : Group or None, default=None
        Processes that train together, all with the same arguments; None for this one alone.

    Returns
    -------
    history : History
        Means over the members that ran so many epochs.
    """
    group = group or Group()
    verbose = settings.verbose if group.rank == 0 else 0
    histories = []
    with Progress(len(networks) * settings.max_epochs, verbose) as progress:
        for network in networks:
            with group.shared_statistics(network):
                histories.append(train(network, batches, settings, generator, rows, group, progress))
            group.same(*network.parameters(), *network.buffers())
    return History(_mean_curve([h.loss_curve for h in histories]), _mean_curve([h.validation_curve for h in histories]))


def _mean_curve(curves) -> list[float]:
    return [fmean(value for value in epoch if value is not None) for epoch in zip_longest(*curves)]


def train(network: MemAE, batches: Batches, settings: Settings, generator, rows=None, group=None, progress=None) -> History:
    """Train in place: warm up without the memory, fill it with encodings, then train everything together.

    Parameters as those of :func:`train_members`, and ``progress`` to go on with.

    Raises
    ------
    FloatingPointError
        If the objective stops being finite.
    MemoryError
        If the device has no room for two samples.
    """
    s = settings
    group = group or Group()
    progress = progress or Progress(s.max_epochs, s.verbose)
    rows, held_out = _hold_out(batches, torch.arange(len(batches)) if rows is None else rows, s, generator, group)
    held = batches.hold(group.share(held_out)) if len(held_out) else None
    epochs_alone, epochs_of_care = _phases(network, s)
    optimiser, pieces = Adam(network), Pieces(least=2, may_grow=group.size == 1)
    loss_curve, validation_curve = [], []
    best, best_state, waited = math.inf, None, 0
    for epoch in range(s.max_epochs):
        group.meet()
        model = MemAE(network.encoder, network.decoder) if epoch < epochs_alone else network
        if epoch in (0, epochs_alone):
            step = group.wrap(_compiled(model, batches, rows, s, group))
        if epoch == epochs_alone and network.memory is not None:
            fill_memory(network, batches, rows, pieces.size(s.batch_size), generator, group)
        loss, mass = _train_epoch(step, batches, rows, s, optimiser, epoch, generator, group, pieces)
        loss_curve.append(loss)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"Training diverged: the loss is {loss} in epoch {epoch + 1}. Lower learning_rate "
                f"(now {s.learning_rate}) or let scaling='auto' bring X to unit scale."
            )
        revive = model.memory is not None and epoch < epochs_of_care
        if revive:
            revive_items(network, mass, batches, rows, pieces.size(s.batch_size), optimiser, generator, group)
        if held is not None:
            validation_curve.append(held_out_error(model, batches, held, pieces.size(s.batch_size), group) / len(held_out))
        progress.epoch(loss, validation_curve)
        if held is not None and model is network and not revive:
            if validation_curve[-1] < best * (1 - s.tol):
                best, waited = validation_curve[-1], 0
                best_state = {name: value.clone() for name, value in network.state_dict().items()}
            else:
                waited += 1
            if waited >= s.n_iter_no_change:
                break
    if best_state is not None:
        network.load_state_dict(best_state)
    network.eval()
    return History(loss_curve, validation_curve)


def _compiled(model, batches, rows, s: Settings, group):
    """The model, compiled where that pays."""
    steps = s.max_epochs * len(rows) // s.batch_size
    if group.size > 1 or not compiling_pays(batches.device, batches.layout.family, steps):
        return model
    with training_precision(s.precision, batches.device):
        return compiled(model, batches.take(rows[: s.batch_size]))


def objective(output, x: Tensor, entropy_weight: float, latent_l1: float) -> Tensor:
    """Equation 10 of the paper: squared error of a sample plus alpha times the entropy of its weights, as a mean over samples.

    With one query per location the entropy of a sample is the mean over its locations. ``latent_l1`` adds the l1 norm of
    the encoding (the AE-l1 ablation).
    """
    loss = SquaredError.apply(output.reconstruction.float(), x) / len(x)
    if output.entropy is not None and entropy_weight:
        loss = loss + entropy_weight * output.entropy.mean()
    if latent_l1:
        loss = loss + latent_l1 * output.encoding.float().abs().sum() / len(x)
    return loss


class SquaredError(torch.autograd.Function):
    """Sum of squared differences, in half as many passes over the numbers as torch's loss function and its gradient take."""

    @staticmethod
    def forward(ctx, reconstruction, x):
        ctx.residual = reconstruction - x
        flat = ctx.residual.flatten()
        return torch.dot(flat, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return ctx.residual.mul_(2 * grad), None


def _hold_out(batches, rows, s: Settings, generator, group) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows to stop by, no more of these than can be held; batch normalisation needs two of the former."""
    rows = rows[torch.randperm(len(rows), generator=generator)]
    count = min(int(s.validation_fraction * len(rows)), len(rows) - 2, batches.most_held)
    count = count if count >= group.size else 0
    return rows[count:], rows[:count]


def _phases(network: MemAE, s: Settings) -> tuple[int, int]:
    """Epochs without the memory, and the epoch from which its items are no longer revived."""
    if network.memory is None:
        return 0, 0
    return int(_WARM_UP * s.max_epochs), max(1, int(_CARE * s.max_epochs))


def _train_epoch(model, batches, rows, s, optimiser, epoch, generator, group, pieces):
    """One pass over the rows; the mean objective, and the mass that each item carried."""
    model.train()
    steps = split_rows(batches.shuffled(rows, s.batch_size, generator), s.batch_size, max(2, group.size))
    total, masses = torch.zeros((), device=batches.device), None
    for step, x in enumerate(batches.stream([group.share(batch) for batch in steps])):
        backward = partial(_backward, model, s, group.size / len(steps[step]))
        for loss, mass in pieces.apply(backward, x, optimiser.clear):
            total += loss
            if mass is not None:
                masses = mass if masses is None else masses.add_(mass)
        optimiser.step(s.learning_rate * schedule((epoch + (step + 1) / len(steps)) / s.max_epochs))
    group.sum(total)
    if masses is not None:
        group.sum(masses)
    return float(total) / len(rows), masses  # the one synchronisation of an epoch


def _backward(model, s, scale, x):
    """Leave gradients of the summed objective times ``scale``; that sum, and the mass that each item carried."""
    with training_precision(s.precision, x.device):
        output = model(x)
    loss = objective(output, x, s.entropy_weight, s.latent_l1) * len(x)
    (loss * scale).backward()
    return loss.detach(), output.mass


def split_rows(order: Tensor, batch_size: int, least: int = 2) -> list[Tensor]:
    """Batches of rows; nothing is dropped, and a last batch of fewer than ``least`` joins its neighbour."""
    steps = list(order.split(batch_size))
    if len(steps) > 1 and len(steps[-1]) < least:
        steps[-2:] = [torch.cat(steps[-2:])]
    return steps


@torch.inference_mode()
def held_out_error(model: MemAE, batches: Batches, held: Tensor, batch_size: int, group: Group) -> float:
    """Squared error summed over the samples that the processes hold."""
    model.eval()
    total = torch.zeros((), device=batches.device)
    for x in batches.parts(held, batch_size):
        residual = model(x).reconstruction - x
        total += torch.dot(residual.flatten(), residual.flatten())
    return float(group.sum(total))


class Progress:
    """Nothing, a bar (verbose 1) or a line per epoch (verbose 2)."""

    def __init__(self, n_epochs: int, verbose: int):
        self.verbose = verbose
        self.bar = tqdm(total=n_epochs, desc="MemAE", unit="epoch", disable=verbose != 1)
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def epoch(self, loss: float, validation_curve: list[float]) -> None:
        """Show one epoch."""
        self.count += 1
        if not self.verbose:
            return
        shown = {"loss": f"{loss:.4g}"}
        if validation_curve:
            shown["validation"] = f"{validation_curve[-1]:.4g}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()
        if self.verbose > 1:
            numbers = ", ".join(f"{name} {value}" for name, value in shown.items())
            print(f"epoch {self.count}/{self.bar.total}: {numbers}", file=sys.stdout)

"""The training loop: objective, optimiser, care of the memory, early stopping, progress."""

import math
import sys
from itertools import zip_longest
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim.adam import adam
from tqdm.auto import tqdm

from skmemae.engine.batches import Batches
from skmemae.engine.runtime import training_precision
from skmemae.network.memae import MemAE

_WARM_UP = 0.1  # share of the epochs before the memory comes in
_CARE = 0.6  # share of the epochs after which the items are left alone
_FAIR_SHARE = 0.05  # items that carry less than this part of 1/N are revived


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


def train_members(networks, batches: Batches, settings: Settings, generator: torch.Generator, rows=None) -> History:
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

    Returns
    -------
    history : History
        Means over the members that ran so many epochs.
    """
    with Progress(len(networks) * settings.max_epochs, settings.verbose) as progress:
        histories = [train(network, batches, settings, generator, rows, progress) for network in networks]
    return History(_mean_curve([h.loss_curve for h in histories]), _mean_curve([h.validation_curve for h in histories]))


def _mean_curve(curves) -> list[float]:
    return [fmean(value for value in epoch if value is not None) for epoch in zip_longest(*curves)]


def train(network: MemAE, batches: Batches, settings: Settings, generator, rows=None, progress=None) -> History:
    """Train in place: warm up without the memory, fill it with encodings, then train everything together.

    Parameters as those of :func:`train_members`, and ``progress`` to go on with.

    Raises
    ------
    FloatingPointError
        If the objective stops being finite.
    """
    s = settings
    progress = progress or Progress(s.max_epochs, s.verbose)
    rows = torch.arange(len(batches)) if rows is None else rows
    rows = rows[torch.randperm(len(rows), generator=generator)]
    n_held_out = min(int(s.validation_fraction * len(rows)), len(rows) - 2)  # batch normalisation needs two rows
    held_out, rows = rows[:n_held_out], rows[n_held_out:]
    epochs_alone, epochs_of_care = _phases(network, s)
    optimiser = Adam(network)
    alone = MemAE(network.encoder, network.decoder)
    loss_curve, validation_curve = [], []
    best, best_state, waited = math.inf, None, 0
    for epoch in range(s.max_epochs):
        model = alone if epoch < epochs_alone else network
        if epoch == epochs_alone and network.memory is not None:
            fill_memory(network, batches, rows, s.batch_size, generator)
        revive = model.memory is not None and epoch < epochs_of_care
        loss, usage = _train_epoch(model, batches, rows, s, optimiser, epoch, generator, track_usage=revive)
        loss_curve.append(loss)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"Training diverged: the loss is {loss} in epoch {epoch + 1}. Lower learning_rate "
                f"(now {s.learning_rate}) or let scaling='auto' bring X to unit scale."
            )
        if revive:
            revive_items(network, usage, batches, rows, s.batch_size, optimiser, generator)
        if n_held_out:
            validation_curve.append(held_out_error(model, batches, held_out, s.batch_size))
        progress.epoch(loss, validation_curve)
        if n_held_out and model is network and not revive:
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


def objective(output, x: Tensor, entropy_weight: float, latent_l1: float) -> Tensor:
    """Equation 10 of the paper: squared error of a sample plus alpha times the entropy of its weights, as a mean over samples.

    With one query per location the entropy of a sample is the mean over its locations. ``latent_l1`` adds the l1 norm of
    the encoding (the AE-l1 ablation).
    """
    loss = torch.nn.functional.mse_loss(output.reconstruction.float(), x, reduction="sum") / len(x)
    if output.entropy is not None and entropy_weight:
        loss = loss + entropy_weight * output.entropy.mean()
    if latent_l1:
        loss = loss + latent_l1 * output.encoding.float().abs().sum() / len(x)
    return loss


def _phases(network: MemAE, s: Settings) -> tuple[int, int]:
    """Epochs without the memory, and the epoch from which its items are no longer revived."""
    if network.memory is None:
        return 0, 0
    return int(_WARM_UP * s.max_epochs), max(1, int(_CARE * s.max_epochs))


def _train_epoch(model, batches, rows, s, optimiser, epoch, generator, track_usage):
    """One pass over the rows; the mean objective and, if tracked, the mass that each item carried."""
    model.train()
    order = rows[torch.randperm(len(rows), generator=generator)]
    steps = split_rows(order, s.batch_size)
    total = torch.zeros((), device=batches.device)
    usage = torch.zeros(len(model.memory.items), device=batches.device) if track_usage else None
    for step, batch in enumerate(steps):
        x = batches.take(batch)
        with training_precision(s.precision, batches.device):
            output = model(x)
        loss = objective(output, x, s.entropy_weight, s.latent_l1)
        loss.backward()
        optimiser.step(s.learning_rate * schedule((epoch + (step + 1) / len(steps)) / s.max_epochs))
        total += loss.detach() * len(batch)
        if track_usage:
            usage += output.weights.detach().flatten(0, -2).sum(dim=0)
    return float(total) / len(rows), usage  # the one synchronisation of an epoch


def split_rows(order: Tensor, batch_size: int) -> list[Tensor]:
    """Batches of rows; nothing is dropped, and a last batch of one joins its neighbour."""
    steps = list(order.split(batch_size))
    if len(steps) > 1 and len(steps[-1]) == 1:
        steps[-2:] = [torch.cat(steps[-2:])]
    return steps


def schedule(progress: float) -> float:
    """Factor of the learning rate: a short linear rise, then a cosine down to zero."""
    rise = 0.1
    if progress < rise:
        return progress / rise
    return 0.5 + 0.5 * math.cos(math.pi * (progress - rise) / (1 - rise))


class Adam:
    """Adam over a network's parameters, from torch's functional form.

    ``torch.optim.Adam`` imports torch's compiler at its first use, which takes longer than most fits.
    """

    def __init__(self, network):
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.means = [torch.zeros_like(p) for p in self.parameters]
        self.squares = [torch.zeros_like(p) for p in self.parameters]
        self.steps = [torch.zeros((), device=p.device) for p in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Move the parameters that have a gradient, and clear the gradients."""
        live = [i for i, p in enumerate(self.parameters) if p.grad is not None]
        columns = [[column[i] for i in live] for column in (self.parameters, self.means, self.squares, self.steps)]
        parameters, means, squares, steps = columns
        adam(
            parameters,
            [p.grad for p in parameters],
            means,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )
        for p in parameters:
            p.grad = None

    def forget(self, parameter: Tensor, rows: Tensor) -> None:
        """Clear the moments of some rows of a parameter."""
        at = next(i for i, p in enumerate(self.parameters) if p is parameter)
        self.means[at][rows] = 0
        self.squares[at][rows] = 0


@torch.no_grad()
def fill_memory(network, batches, rows, batch_size, generator) -> None:
    """Start the items at encodings of random samples."""
    items = network.memory.items
    items.copy_(_random_queries(network, batches, rows, batch_size, len(items), generator))


@torch.no_grad()
def revive_items(network, usage, batches, rows, batch_size, optimiser, generator) -> None:
    """Put items that hardly anybody uses at queries of random samples.

    Random, not badly reconstructed ones: where the training data holds outliers, those would fill the memory.
    """
    idle = torch.nonzero(usage < _FAIR_SHARE * usage.sum() / len(usage)).flatten()
    if len(idle) == 0:
        return
    network.memory.items[idle] = _random_queries(network, batches, rows, batch_size, len(idle), generator)
    optimiser.forget(network.memory.items, idle)


def _random_queries(network, batches, rows, batch_size, count, generator) -> Tensor:
    """Queries of random samples at random locations, (count, C), slightly moved; several of a sample only where it must be."""
    network.eval()
    rows = rows[torch.randperm(len(rows), generator=generator)[:count]]
    of_each = -(-count // len(rows))
    queries = []
    for batch in rows.split(batch_size):
        found = network.queries(network.encoder(batches.take(batch))).movedim(1, -1)
        found = found.reshape(len(batch), -1, found.shape[-1]).float()  # (b, locations, C)
        at = torch.randint(found.shape[1], (len(batch), of_each), generator=generator).to(found.device)
        queries.append(found.take_along_dim(at.unsqueeze(-1), dim=1))
    queries = torch.cat(queries).transpose(0, 1).flatten(0, 1)  # one of each sample before a second of any
    return _jitter(queries[:count], generator)


def _jitter(items: Tensor, generator: torch.Generator) -> Tensor:
    """Items moved by a hundredth of their size: equal items would share every weight for ever."""
    noise = torch.randn(items.shape, generator=generator).to(items.device)
    return items + 0.01 * items.square().mean().sqrt() * noise


@torch.inference_mode()
def held_out_error(model: MemAE, batches: Batches, rows: Tensor, batch_size: int) -> float:
    """Squared error of the rows, summed over a sample and averaged over samples."""
    model.eval()
    total = torch.zeros((), device=batches.device)
    for batch in rows.split(batch_size):
        x = batches.take(batch)
        total += (model(x).reconstruction - x).square().sum()
    return float(total) / len(rows)


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

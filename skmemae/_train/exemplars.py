"""Training of the network of exemplars, which learns to tell changed samples apart."""

import copy
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmemae._data.loader import Loader
from skmemae._runtime import MicroBatches, move_to_device, training_precision
from skmemae._train.checkpoint import NO_CHECKPOINT, Checkpoint
from skmemae._train.loop import split_batches
from skmemae._train.optimiser import Adam, schedule
from skmemae.network.backbones import initialise
from skmemae.network.exemplars import KINDS, Exemplars


class _Plan(NamedTuple):
    """How a kind of exemplars is trained."""

    batch_size: int
    learning_rate: float
    share: float  # of the steps of the network that reconstructs


_PLANS = {"turns": _Plan(32, 3e-3, 0.875), "paces": _Plan(16, 2e-3, 2.25)}
_ENCODED = 64  # samples that are encoded at a time


def train_exemplars(
    kind: str,
    loader: Loader,
    rows: Tensor,
    steps: int,
    precision: str,
    generator: torch.Generator,
    verbose: int = 0,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> Exemplars:
    """Train on changed samples, and keep features of the samples as memory items.

    Parameters
    ----------
    kind : {"turns", "paces"}
    loader : Loader
        Of images or clips.
    rows : Tensor of int
        The rows to train on.
    steps : int
        Of the network that reconstructs.
    precision : {"float32", "bfloat16"}
    generator : torch.Generator
        On the CPU.
    verbose : int, default=0
        1 shows a bar.
    checkpoint : Checkpoint, default=NO_CHECKPOINT
        From which training goes on.

    Returns
    -------
    exemplars : Exemplars
        On the device of the loader, in evaluation mode.
    """
    exemplars = KINDS[kind](loader.layout.sample_shape, 0)
    initialise(exemplars, generator)
    exemplars.mean += _subtracted(loader, kind)
    move_to_device(nn.ModuleList([exemplars]), loader.device)
    optimiser, micro, plan = Adam(exemplars), MicroBatches(least=2), _PLANS[kind]
    exemplars.train()
    steps = max(1, round(plan.share * steps))
    parts, run = {"network": exemplars, "optimiser": optimiser, "micro": micro, "generator": generator}, {"step": 0}
    checkpoint.begin("exemplars", parts, run)
    bar = _bar(steps, run["step"]) if verbose == 1 else None
    while run["step"] < steps:
        batches = split_batches(loader.shuffle(rows, plan.batch_size, generator), plan.batch_size)
        for x in loader.stream(batches[: steps - run["step"]]):
            micro.map(partial(_backward, exemplars, precision, len(x), generator), x, optimiser.clear)
            run["step"] += 1
            optimiser.step(plan.learning_rate * schedule(run["step"] / steps))
            if bar is not None:
                bar.update()
        checkpoint.keep("exemplars", parts, run)
    if bar is not None:
        bar.close()
    exemplars.eval().requires_grad_(False)
    with torch.no_grad():
        exemplars.keep(_features(exemplars, loader, rows, generator))
    return exemplars


def _bar(steps: int, done: int):
    """A bar of steps."""
    from tqdm.auto import tqdm  # warns where notebooks have no widgets, and starts a thread

    return tqdm(total=steps, initial=done, desc="exemplars", unit="step")


def _subtracted(loader: Loader, kind: str) -> Tensor:
    """What scaling has subtracted: from images the mean image, which tells how they are turned; from clips the black."""
    scaling = loader.scaling
    if kind == "turns":
        return torch.zeros(()) if scaling.mean_sample is None else torch.as_tensor(scaling.mean_sample).float()
    return torch.as_tensor(scaling.center / scaling.scale).float()


@torch.no_grad()
def with_more(exemplars: Exemplars, loader: Loader, rows: Tensor, generator: torch.Generator) -> Exemplars:
    """A copy that keeps features of more samples, and of the earlier ones as many of the latest as there is room for."""
    more = copy.deepcopy(exemplars)
    queries = more.queries(_features(more, loader, rows, generator))
    more.items = torch.cat([more.items, queries], dim=1)[:, -more.most_items :]
    return more


def _features(exemplars: Exemplars, loader: Loader, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Features of random samples, of each as many as it takes to have enough: (groups, n, width)."""
    most = exemplars.most_items
    rows = rows[torch.randperm(len(rows), generator=generator)[:most]]
    parts, taken = [], -(-most // len(rows))
    for x in loader.stream(list(rows.split(_ENCODED))):
        features = exemplars.features(x)
        some = torch.randperm(features.shape[1], generator=generator)[: taken * len(x)]
        parts.append(features[:, some.to(features.device)])
    return torch.cat(parts, dim=1)[:, :most]


def _backward(exemplars: Exemplars, precision: str, total: int, generator: torch.Generator, x: Tensor) -> None:
    """Leave the gradient of the mean loss over a batch of so many samples, of which these are a part."""
    with training_precision(precision, x.device):
        loss = exemplars.loss(x, generator)
    (loss * (len(x) / total)).backward()

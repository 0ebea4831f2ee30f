"""Training of the network of reference features, which learns to recognise changes of samples."""

import copy
from contextlib import closing
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from skmemae._data.loader import Loader
from skmemae._model.scaling import FAR_LIMIT, Scaling
from skmemae._runtime import MicroBatches, move_to_device, training_precision
from skmemae._train.loop import correct_statistics, split_batches
from skmemae._train.optimiser import Adam, schedule
from skmemae._train.run import Run
from skmemae._train.timing import Part
from skmemae.network.backbones import initialise
from skmemae.network.features import KINDS, ReferenceFeatures


class _Plan(NamedTuple):
    """Settings of training for a kind of features."""

    batch_size: int
    learning_rate: float
    share: float  # of the steps of the network that reconstructs
    weight: float  # time of training, where that of the network that reconstructs is 1; measured, within a factor of two


_PLANS = {"turns": _Plan(32, 3e-3, 0.875, 1.4), "paces": _Plan(16, 2e-3, 2.25, 1.1)}
_ENCODED = 64  # samples that are encoded at a time


def train_features(kind: str, loader: Loader, scaling: Scaling, rows: Tensor, steps: int, run: Run) -> ReferenceFeatures:
    """Train a network to recognise changes of samples, and keep its features of the samples as memory items.

    Parameters
    ----------
    kind : {"turns", "paces"}
    loader : Loader
        Holds images or clips.
    scaling : Scaling
        Scaling of the loader.
    rows : Tensor of int
        The rows to train on.
    steps : int
        Optimiser steps of the network that reconstructs; the steps here are a multiple of them.
    run : Run

    Returns
    -------
    features : ReferenceFeatures
        On the device of the loader, in evaluation mode.
    """
    features, plan = KINDS[kind](loader.layout.sample_shape, 0), _PLANS[kind]
    initialise(features, run.generator)
    features.mean += _subtracted(scaling, kind)
    move_to_device(features, loader.device)
    optimiser, micro = Adam(features), MicroBatches(least=2)
    features.train()
    steps, step = max(1, round(plan.share * steps)), 0
    for observer in run.observers:
        observer.begin_features()
    part = Part(run.timing, weight_of(kind))  # of this process alone
    while part.progress < 1:
        batches = split_batches(loader.shuffle(rows, plan.batch_size, run.generator), plan.batch_size)
        with closing(loader.stream(batches[: steps - step])) as stream:
            for x, _ in stream:
                micro.map(partial(_backward, features, len(x), run.generator), x, undo=optimiser.clear)
                step += 1
                optimiser.step(plan.learning_rate * schedule(part.step(step / steps)))
                if part.is_up:
                    break
    part.end()
    if part.is_up:
        correct_statistics(features)
    features.eval().requires_grad_(False)
    with torch.no_grad():
        features.learn(_features(features, loader, rows, run.generator))
    return features


def weight_of(kind: str | None) -> float:
    """Time of training features of a kind, where that of a network that reconstructs is 1; 0 for no kind of features."""
    return _PLANS[kind].weight if kind in _PLANS else 0.0


def _subtracted(scaling: Scaling, kind: str) -> Tensor:
    """What scaling has subtracted: the mean image, which shows how images are turned; for clips the center, so black is 0."""
    if kind == "turns":
        return torch.zeros(()) if scaling.mean_sample is None else scaling.mean_sample.cpu().float()
    return (scaling.center / scaling.scale).clamp(-FAR_LIMIT, FAR_LIMIT).cpu().float()


@torch.no_grad()
def with_more(
    features: ReferenceFeatures, share_left: float, loader: Loader, rows: Tensor, generator: torch.Generator
) -> ReferenceFeatures:
    """A copy with features of more samples as items, and with the latest share of the items that it has."""
    more = copy.deepcopy(features)
    more.extend(_features(more, loader, rows, generator), keep=round(share_left * more.size))
    return more


def _features(features: ReferenceFeatures, loader: Loader, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Features of random samples, in the order of X, with as many of each as fill the memory: (groups, n, width)."""
    most = features.most_items
    rows = rows[torch.randperm(len(rows), generator=generator)[:most]].sort().values
    parts, taken = [], -(-most // len(rows))
    for x, _ in loader.stream(list(rows.split(_ENCODED))):
        found = features.features(x)
        some = torch.randperm(found.shape[1], generator=generator)[: taken * len(x)].sort().values
        parts.append(found[:, some.to(found.device)])
    return torch.cat(parts, dim=1)[:, :most]


def _backward(features: ReferenceFeatures, total: int, generator: torch.Generator, x: Tensor) -> None:
    """Add the gradient of the mean loss of a batch of ``total`` samples, of which ``x`` is a part."""
    with training_precision(x.device):
        loss = features.loss(x, generator)
    (loss * (len(x) / total)).backward()

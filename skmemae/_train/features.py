"""Reference features: training of a network that learns to recognise changes of samples, and features of patches."""

import copy
import math
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
from skmemae.network import PatchFeatures
from skmemae.network.backbones import averages, initialise
from skmemae.network.features import KINDS, ReferenceFeatures


class _Plan(NamedTuple):
    """Settings of training for a kind of features."""

    batch_size: int
    learning_rate: float
    epochs: float
    steps: tuple[int, float]  # fewest and most
    share: float  # largest number of steps for one of the network that reconstructs
    weight: float  # time of training, where that of the network that reconstructs is 1; measured, within a factor of two
    may_settle: bool = True  # whether training is shorter once the ranking of samples no longer changes

    def steps_for(self, n: int, steps: int) -> int:
        """Steps with n samples, if the network that reconstructs has so many."""
        fewest, most = self.steps
        return max(1, round(min(most, self.share * steps, max(fewest, self.epochs * n / self.batch_size))))


_PLANS = {
    "turns of clips": _Plan(16, 3e-3, math.inf, (1, math.inf), 3.5, 1.9),
    "few turns": _Plan(8, 3e-3, 10, (240, 240), 5, 2),
    "turns": _Plan(16, 3e-3, 12, (240, 1400), 5, 2),
    "paces": _Plan(16, 2e-3, math.inf, (1, math.inf), 2.25, 1.1, may_settle=False),  # it finds fewer outliers then
}
_FEW = 400  # samples
_RANKED, _COMPARED = 128, 256  # samples that are ranked by their distance from others, at most
_LEAST = 100  # samples, without which none are ranked
_INTERVAL = 100  # steps between rankings
_SETTLED, _FASTER = 0.95, 3  # correlation of rankings above which the rest of training is so many times shorter
_ENCODED = 64  # samples that are encoded at a time
_PATCHED, _PATCHED_NUMBERS = 500, 2**25  # images, and pixels as they are compared, of which features of patches are learned


def _plan(kind: str, family: str, n: int) -> _Plan:
    if kind == "turns" and (family == "conv3d" or n < _FEW):
        return _PLANS["turns of clips" if family == "conv3d" else "few turns"]
    return _PLANS[kind]


def train_features(
    kind: str, loader: Loader, subtracted: Tensor, rows: Tensor, steps: int, share: float, run: Run
) -> ReferenceFeatures:
    """Train a network to recognise changes of samples, and keep its features of the samples as memory items.

    Parameters
    ----------
    kind : {"turns", "paces"}
    loader : Loader
        Holds images, or averages of their pixels, or clips.
    subtracted : Tensor
        What scaling has subtracted from the samples of the loader, see :func:`subtracted_by`.
    rows : Tensor of int
        The rows to train on.
    steps : int
        Optimiser steps of the network that reconstructs.
    share : float
        Share of outliers in the rows.
    run : Run

    Returns
    -------
    features : ReferenceFeatures
        On the device of the loader, in evaluation mode.
    """
    features, plan = KINDS[kind](loader.layout.sample_shape, 0), _plan(kind, loader.layout.family, len(rows))
    initialise(features, run.generator)
    features.share = share if kind == "turns" else 0.0
    features.mean += subtracted
    move_to_device(features, loader.device)
    optimiser, micro = Adam(features), MicroBatches(least=2)
    features.train()
    steps, step = plan.steps_for(len(rows), steps), 0
    for observer in run.observers:
        observer.begin_features()
    part = Part(run.timing, plan.weight)  # of this process alone
    may_settle = plan.may_settle and steps >= 3 * _INTERVAL and len(rows) >= _LEAST
    pace = _Pace(loader, rows, run.generator, may_settle)
    while part.progress < 1:
        batches = split_batches(loader.shuffle(rows, plan.batch_size, run.generator), plan.batch_size)
        with closing(loader.stream(batches)) as stream:
            for x, _ in stream:
                micro.map(partial(_backward, features, len(x), run), x, undo=optimiser.clear)
                step = min(steps, step + pace.of_step(features))
                optimiser.step(plan.learning_rate * schedule(part.step(step / steps)))
                if part.progress >= 1:
                    break
    part.end()
    if part.is_up:
        correct_statistics(features)
    features.eval().requires_grad_(False)
    with torch.no_grad():
        features.learn(_features(features, loader, rows, run.generator))
    return features


class _Pace:
    """Steps that count for one: more once the ranking of samples by their distance from others no longer changes.

    Parameters
    ----------
    loader : Loader
    rows : Tensor of int
        Rows that are trained on; some of them are ranked.
    generator : torch.Generator
    may_settle : bool
        If it is false, each step counts for one.
    """

    def __init__(self, loader: Loader, rows: Tensor, generator: torch.Generator, may_settle: bool):
        self.loader, self.generator = loader, generator
        self.is_settled, self.may_settle = False, may_settle
        if may_settle:
            some = rows[torch.randperm(len(rows), generator=generator)[: _RANKED + _COMPARED]]
            self.ranked, self.compared = (part.sort().values for part in some.tensor_split([len(some) // 3]))
        self.n_steps = 0
        self.ranks: Tensor | None = None

    def of_step(self, features: ReferenceFeatures) -> int:
        """Take the network before a step; return for how many the step counts."""
        self.n_steps += 1
        if self.n_steps % _INTERVAL == 0 and self.may_settle and not self.is_settled:
            before, self.ranks = self.ranks, self.rank(features)
            if before is not None:  # Spearman's correlation
                self.is_settled = bool(torch.stack([before, self.ranks]).corrcoef()[0, 1] > _SETTLED)
        return _FASTER if self.is_settled else 1

    @torch.no_grad()
    def rank(self, features: ReferenceFeatures) -> Tensor:
        """Ranks of samples by their distance from others in the present features: (n_ranked,), float64."""
        features = copy.deepcopy(features)
        correct_statistics(features)
        features.eval().learn(_features(features, self.loader, self.compared, self.generator))
        parts = [features(x) for x, _ in self.loader.stream(list(self.ranked.split(_ENCODED)))]
        return torch.cat(parts).argsort(stable=True).argsort().double().cpu()


def learn_patches(loader: Loader, scaling: Scaling, rows: Tensor, run: Run) -> PatchFeatures:
    """Features of the patches of images, learned from random rows without training; on the device of the loader."""
    features = PatchFeatures(loader.layout.sample_shape)
    features.mean += subtracted_by(scaling, "patches")
    move_to_device(features, loader.device)
    count = min(_PATCHED, max(_PATCHED_NUMBERS // math.prod(features.seen), _ENCODED))
    rows = rows[torch.randperm(len(rows), generator=run.generator)[:count]].sort().values
    batches = list(rows.split(features.batch_size))
    features.eval().learn(lambda: (x for x, _ in loader.stream(batches)), run.generator)
    return features


def weight_of(kind: str | None, family: str, n: int) -> float:
    """Time of training features with n samples, where that of a network that reconstructs is 1; 0 if none are trained."""
    return _plan(kind, family, n).weight if kind in KINDS else 0.0


def subtracted_by(scaling: Scaling, kind: str, pixel_size: int = 1) -> Tensor:
    """What scaling has subtracted: the mean image, which shows how images are turned; for clips the center, so black is 0."""
    if kind != "paces":
        mean = scaling.mean_sample
        return torch.zeros(()) if mean is None else averages(mean.cpu().float().unsqueeze(0), pixel_size)[0]
    return (scaling.center / scaling.scale).clamp(-FAR_LIMIT, FAR_LIMIT).cpu().float()


@torch.no_grad()
def with_more(
    features: ReferenceFeatures | PatchFeatures, share_left: float, loader: Loader, rows: Tensor, generator: torch.Generator
) -> ReferenceFeatures | PatchFeatures:
    """A copy with features of more samples as items, and with the latest share of its items; patches stay as they are."""
    if isinstance(features, PatchFeatures):
        return features
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


def _backward(features: ReferenceFeatures, total: int, run: Run, x: Tensor) -> None:
    """Add the gradient of the mean loss of a batch of ``total`` samples, of which ``x`` is a part."""
    with training_precision(x.device, run.precision):
        loss = features.loss(x, run.generator) * (len(x) / total)
    loss.backward()

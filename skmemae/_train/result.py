"""After training: units of the score, calibration, scores of the training samples, and use of the memory items."""

import math
from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from skmemae._data.loader import Loader
from skmemae._model.copies import Copies
from skmemae._model.fitted import Batch, FittedModel, collected
from skmemae._model.known import Calibration
from skmemae._model.places import PlaceCalibration
from skmemae._runtime import MicroBatches, scoring_precision, warn_caller
from skmemae._train.distributed import SingleProcess
from skmemae._train.loop import Split

_TYPICAL_ROWS, _TYPICAL_NUMBERS = 2**14, 2**26  # samples, and numbers of them at most, that give a typical distance
_ASKING_ROWS = {"row": 2**9, "learned": 2**13}  # at most so many samples show which items are used
_ROUNDING = 1e-8  # of a query's squared norm: a distance below it is rounding
_MANY_REPEATS, _MANY_NEAR = 0.05, 0.2  # shares of the samples


class MemoryCollapseWarning(UserWarning):
    """The memory has collapsed: one item answers every sample, or most queries have no weight above the threshold."""


class UseOfMemory(NamedTuple):
    """Use of the memory items by some training samples."""

    usage: np.ndarray  # (members, N), share of the queries that used each item
    zero_row_fraction: float  # share of the queries whose weights all missed the threshold
    effective: float  # effective number of items that answer a query, a median; 0 without a memory


class TrainingScores(NamedTuple):
    """Scores of the training samples, and use of the memory."""

    scores: np.ndarray  # (n_samples,), float64
    as_new: np.ndarray  # (n_samples,), without the part of a sample in the frequency of its kind
    calibrating: np.ndarray  # (n_calibration,), rows that were held out from the networks that score them, ascending
    use: UseOfMemory

    def without_repeats(self, copies: Copies, is_record: Tensor) -> "TrainingScores":
        """The scores, calibrated by one row of each record that came several times: records are independent, not rows."""
        group = copies.group[self.calibrating]
        is_last = torch.zeros(len(copies.group), dtype=torch.bool)
        is_last[copies.distinct(torch.arange(len(is_last)))] = True
        once = ~is_record[group] | is_last[self.calibrating]
        return self._replace(calibrating=self.calibrating[once.numpy()])

    def after(self, n: int) -> "TrainingScores":
        """The scores of all rows after the first n."""
        return self._replace(
            scores=self.scores[n:], as_new=self.as_new[n:], calibrating=self.calibrating[self.calibrating >= n] - n
        )


def score_training(
    model: FittedModel,
    loader: Loader,
    split: Split,
    group: Tensor,
    processes: SingleProcess,
    typical: Tensor | None = None,
) -> TrainingScores:
    """Learn the units of the score and the calibration of the model, and score the training samples.

    Parameters
    ----------
    model : FittedModel
        Units of its score and subsets, and its calibration, are set here.
    loader : Loader
        Holds all training samples; each process scores its part.
    split : Split
    group : Tensor of int of shape (n_samples,)
        The known sample that each row is, -1 for none.
    processes : SingleProcess
    typical : Tensor of int or None, default=None
        Rows whose medians are the units of the terms; a row may occur several times. With None typical query distances stay as
        they are, and the units of other terms are medians over all rows.

    Raises
    ------
    ValueError
        If a score is not finite.
    """
    if typical is not None and model.score.factor == "query" and model.networks.memories:
        rows = torch.cat(split).sort().values
        model.score.learn(typical_query_distances=processes.compute_on_first(_typical_query_distances, model, loader, rows))
    typical = torch.arange(len(loader)) if typical is None else typical
    use = processes.compute_on_first(usage_of, model, loader, group)
    errors, distances = _errors_and_distances(model, loader, group, processes)
    subsets = None
    if model.subsets is not None:
        error = float(np.median(errors[typical])) or 1.0
        model.score.learn(typical_error=torch.tensor(error, dtype=torch.float64, device=model.device))
        model.subsets.learn_units(distances[typical])
        subsets = model.subsets.in_units(_like_units(distances, model))
    features = _like_units(distances[:, 0], model) if model.features is not None else None
    plain, on_device = model.score(_like_units(errors, model), subsets, features), group.to(model.device)
    scores, as_new = (model.known.discounted(plain, on_device, counted).numpy(force=True) for counted in (False, True))

    has_items = model.known.item_rows is not None
    held_out = split.held_out.sort().values.numpy()
    if not has_items and len(held_out):
        model.calibration = Calibration().learn_quantiles(scores[split.training.numpy()], scores[held_out]).to(model.device)
    if model.calibration is not None:
        is_known = (group >= 0).to(model.device)
        scores = as_new = model.calibration(_like_units(scores, model), is_known).numpy(force=True)
    calibrating = np.arange(len(scores)) if has_items else held_out
    return TrainingScores(scores, as_new, calibrating, use)


def calibrate_places(model: FittedModel, loader: Loader, split: Split, processes: SingleProcess) -> None:
    """Learn p-values of places from held-out images or clips; without any of these the model stays as it is."""
    if model.layout.place_shape and len(split.held_out):
        rows = split.held_out.sort().values
        model.places = processes.compute_on_first(_places_of, model, loader, rows).to(model.device)


@torch.no_grad()
def _places_of(model: FittedModel, loader: Loader, rows: Tensor) -> PlaceCalibration:
    micro = MicroBatches(least=1)

    def maps() -> Iterator[Tensor]:
        for part in rows.split(model.height(len(rows))):
            with scoring_precision(loader.device):
                yield torch.cat(micro.map(lambda x: model.place_errors(model.batch(x)), loader.samples(part)))

    return model.empty_places().learn_maps(maps(), len(rows))


@torch.inference_mode()
def _errors_and_distances(
    model: FittedModel, loader: Loader, group: Tensor, processes: SingleProcess
) -> tuple[np.ndarray, np.ndarray]:
    """Errors, (n_samples,), and distances from subsets or features, (n_samples, n_distances), of all samples."""

    def parts(batch: Batch) -> tuple[Tensor, ...]:
        terms = model.terms(batch)
        shared = terms.subset_distances if terms.feature_distances is None else terms.feature_distances.unsqueeze(1)
        found = model.score.errors(terms), torch.isfinite(terms.errors).all(dim=1)
        return found if shared is None else (*found, shared.double().to(found[0].device))

    start, stop = processes.contiguous_shard(len(loader))
    some_errors, is_finite, *some_distances = collected(model.passes(loader, parts, start, stop, group), stop - start)
    if not is_finite.all():
        raise ValueError(
            "Training ended with scores that are not finite: lower learning_rate, or check backbone and temperature."
        )
    errors = np.zeros(len(loader))
    errors[start:stop] = some_errors
    processes.all_reduce(errors)
    distances = np.zeros((len(loader), some_distances[0].shape[1] if some_distances else 0))
    if some_distances:
        distances[start:stop] = some_distances[0]
        processes.all_reduce(distances)
    return errors, distances


def _like_units(values: np.ndarray, model: FittedModel) -> Tensor:
    """Values as a tensor on the device of the score's units, which is the CPU if the model's device has no float64."""
    device = model.device if model.device.type != "mps" else "cpu"
    return torch.from_numpy(values).to(device)


@torch.no_grad()
def _typical_query_distances(model: FittedModel, loader: Loader, rows: Tensor) -> Tensor:
    """Median over some training samples of each member's squared distance between query and read-out: (members,)."""
    n = max(1, min(_TYPICAL_ROWS, _TYPICAL_NUMBERS // math.prod(model.layout.sample_shape)))
    micro, parts = MicroBatches(least=1), []

    def distances(x: Tensor) -> Tensor:
        batch = model.batch(x)
        norms = batch.output.query.flatten(2).square().sum(dim=2).mT
        distance = cast(Tensor, model.score.terms(x, batch.output, model.scaling).query_distances)
        return torch.stack([distance, norms.to(distance)])

    for part in rows[:: max(1, len(rows) // n)].split(model.height(len(rows))):
        with scoring_precision(loader.device):
            parts += [values.cpu() for values in micro.map(distances, loader.samples(part))]
    distance, norm = np.median(torch.cat(parts, dim=1).numpy(), axis=1)
    typical = torch.from_numpy(np.maximum(distance, _ROUNDING * norm))
    return torch.where(typical > 0, typical, 1.0).to(model.device)


@torch.no_grad()
def usage_of(model: FittedModel, loader: Loader, group: Tensor | None) -> UseOfMemory:
    """Use of the memory items by some of the samples, each without its own item."""
    networks = model.networks
    if not networks.memories:
        return UseOfMemory(np.zeros((networks.members, 0)), 0.0, 0.0)
    most = _ASKING_ROWS["learned" if networks.rows is None else "row"]
    rows = torch.arange(0, len(loader), -(-len(loader) // most))
    micro = MicroBatches(least=1)
    used = torch.zeros(networks.members, networks.config["memory_size"], dtype=torch.float64)
    missed, effective = torch.zeros(networks.members, dtype=torch.float64), []

    def use(x: Tensor, group: Tensor | None) -> list[Tensor]:
        found = networks.use(x, None if group is None else model.known.own_items(group))
        return [found.used.sum(dim=1), found.missed.sum(dim=1), found.effective]

    for part in rows.split(model.height(len(rows))):
        some = None if group is None else group[part].to(loader.device)
        with scoring_precision(loader.device):
            for some_used, some_missed, some_effective in micro.map(use, loader.samples(part), some):
                used, missed = used + some_used.cpu().double(), missed + some_missed.cpu().double()
                effective.append(some_effective.cpu())
    shares, median = (used / len(rows)).numpy(), float(torch.cat(effective, dim=1).median())
    return UseOfMemory(shares, float(missed.mean()) / len(rows), median)


def warn_of_repeats(copies: Copies, is_record: Tensor, near: float) -> None:
    """Warn if many samples are copies of records, or a share ``near`` of the rows of a table are nearly so."""
    if near >= _MANY_NEAR:
        warn_caller(
            f"About {near:.0%} of the distinct rows of X have a near copy, a row that is thirty times as near as the next. "
            "Such copies answer for each other, so thresholds and p-values promise too much: keep one of them, or set the "
            "threshold on rows that were not used in fit."
        )
    share = float(copies.counts[is_record].sum()) / len(copies.group)
    if share >= _MANY_REPEATS:
        warn_caller(
            f"{share:.0%} of the samples of X are records that occur more than once, up to rounding. Each record is compared "
            "with other records alone, and counts once in calibration_scores_. If the copies are a mistake, fit without them."
        )


def warn_of_collapse(use: UseOfMemory, shrink_threshold: float) -> None:
    """Warn if the training queries show a collapse.

    Parameters
    ----------
    use : UseOfMemory
    shrink_threshold : float
        The threshold as a multiple of 1/N.
    """
    usage, zero_row_fraction, _ = use
    if usage.shape[1] < 2:
        return
    if zero_row_fraction > 0.5:
        warn_caller(
            f"{zero_row_fraction:.0%} of the training queries have no weight above the threshold of {shrink_threshold}/N, so "
            "each is answered by its best item alone. Lower shrink_threshold or temperature for a mixture of items.",
            MemoryCollapseWarning,
        )
    if (np.count_nonzero(usage, axis=1) == 1).any():
        warn_caller(
            "A single memory item answers every training sample, so all reconstructions are equal. "
            "Lower temperature, or train longer.",
            MemoryCollapseWarning,
        )

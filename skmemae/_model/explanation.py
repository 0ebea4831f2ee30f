"""Explanations of scores: the share of each number, its expected value, and the memory items with the largest weights."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from skmemae._data.sources import Samples
from skmemae._model.fitted import Batch, FittedModel
from skmemae._model.score import Terms
from skmemae.network import PatchFeatures

if TYPE_CHECKING:
    import pandas as pd

_LARGEST_RATIO = 0.9  # of successive changes of an expected value
_WEIGHTS = 2**18  # addressing weights that are sorted at a time
_BLURRED = 24  # deviation of the blur of a map before regions are found: the smaller side of the image divided by this


@dataclass(frozen=True)
class Explanation:
    """Explanations of anomaly scores, the result of :meth:`MemAEDetector.explain`.

    Attributes
    ----------
    scores : ndarray of shape (n_samples,)
        Anomaly scores, higher = more abnormal, under either convention.
    shares : ndarray of the shape of X
        The part of each number of a sample in its score, not negative. They sum to the score. For images and clips a map; with
        "patches" it shows where patches are unlike those of training images, the same in all channels.
    values : ndarray of the shape of X
        The samples.
    expected : ndarray of the shape of X
        Values that the memory expects in their place, in the units of X. For images and clips, the reconstruction. For a row of
        a table, the column with the largest share is replaced by the value expected from the others, and the result is
        reconstructed.
    items : ndarray of int of shape (n_samples, n_items)
        The memory items with the largest addressing weights for each sample, as rows of ``memory_``, the largest first. In a
        memory of rows, one item stands for all items that are made of the same training row.
    weights : ndarray of shape (n_samples, n_items)
        Their addressing weights, in [0, 1]: means over the members and locations, sums over the items of a training row.
    rows : ndarray of int of shape (n_samples, n_items) or None
        The training rows that these items are made of; None where items are learned.
    regions : ndarray of int of shape (n_samples, n_axes, 2) or None
        The region with the largest share of the score of an image or clip, as a box: start and stop along the axes (H, W) or
        (T, H, W). The map is blurred a little; of the connected parts above half of its maximum, the box encloses the one with
        the largest sum. None for tables.
    feature_names : ndarray of str or None
        Names of the columns, if ``fit`` saw them.
    index : pandas Index or None
        Labels of the samples, if X was a DataFrame.
    """

    scores: np.ndarray
    shares: np.ndarray
    values: np.ndarray
    expected: np.ndarray
    items: np.ndarray
    weights: np.ndarray
    rows: np.ndarray | None = None
    regions: np.ndarray | None = None
    feature_names: np.ndarray | None = None
    index: Any = None

    def to_frame(self, n_features: int | None = None) -> "pd.DataFrame":
        """A DataFrame of the columns with the largest shares of the score of each row of a table.

        Parameters
        ----------
        n_features : int or None, default=None
            Number of columns for each row, those with the largest shares; None for all.

        Returns
        -------
        frame : pandas DataFrame
            With the columns "sample" (label or number of the row), "feature", "share", "value" and "expected", the samples in
            their order, the largest share of each first.

        Raises
        ------
        ValueError
            If the samples are not rows of a table, or ``n_features`` is no positive int.
        """
        import pandas as pd

        if self.shares.ndim != 2:
            raise ValueError(f"to_frame is for rows of a table; these samples have shape {self.shares.shape[1:]}.")
        count = self.shares.shape[1]
        if n_features is not None and (not isinstance(n_features, int | np.integer) or n_features < 1):
            raise ValueError(
                f"The 'n_features' parameter of to_frame must be None or a positive int. Got {n_features!r} instead."
            )
        largest = np.argsort(-self.shares, axis=1, kind="stable")[:, :n_features]
        names = np.array([f"x{i}" for i in range(count)]) if self.feature_names is None else self.feature_names
        samples = np.arange(len(self.scores)) if self.index is None else self.index
        columns = {"sample": np.repeat(samples, largest.shape[1]), "feature": names[largest].ravel()}
        for name, values in (("share", self.shares), ("value", self.values), ("expected", self.expected)):
            columns[name] = np.take_along_axis(values, largest, axis=1).ravel()
        return pd.DataFrame(columns)


def explain(model: FittedModel, X: Samples, n_items: int) -> Explanation:
    r"""Explain the scores of samples, in one pass over them.

    Parameters
    ----------
    model : FittedModel
    X : ndarray or RowSource of shape (n_samples, \*array_shape)
    n_items : int
        Memory items to name for each sample.
    """
    rows = model.known.item_rows
    item_rows = None if rows is None else rows.flatten().numpy(force=True)
    first, group = np.arange(0), np.arange(0)
    if model.networks.memories:
        numbers = np.arange(model.networks.members * model.networks.config["memory_size"])
        first, group = (
            (numbers, numbers) if item_rows is None else np.unique(item_rows, return_index=True, return_inverse=True)[1:]
        )
    of_rows = torch.from_numpy(group.ravel()).to(model.device)

    def explained(batch: Batch) -> tuple[Tensor, ...]:
        terms = model.terms(batch)
        shares = _shares(model, batch, terms)
        return (
            model.combine(terms, batch.group),
            shares,
            _expected(model, batch, shares),
            *_largest_weights(model, batch, of_rows, len(first), min(n_items, len(first))),
        )

    scores, shares, expected, places, weights = model.collect(X, explained)
    # Sums of float32 shares differ from the scores in the last digits.
    sums = shares.reshape(len(shares), -1).sum(axis=1)
    shares *= (scores / np.where(sums > 0, sums, 1.0)).reshape(-1, *[1] * (shares.ndim - 1))
    items = first[places]
    return Explanation(
        scores=scores,
        shares=model.layout.from_network(torch.from_numpy(shares)).numpy(),
        values=np.array(X),
        expected=model.unscaled(X, expected),
        items=items,
        weights=weights,
        rows=None if item_rows is None else item_rows[items],
        regions=None if model.layout.family == "fc" else _regions(shares.sum(axis=1)),
    )


def _shares(model: FittedModel, batch: Batch, terms: Terms) -> Tensor:
    """Part of each number in the score, except for one factor per sample: like x, float64, on the CPU."""
    if isinstance(model.features, PatchFeatures):  # the worst places make the score
        excess = model.features.excess(batch.x).cpu().double()
        return excess.unsqueeze(1).expand_as(batch.x)
    shares = model.score.shares(batch.x, batch.output, terms.scoring)
    if model.subsets is None:
        return shares
    errors = (model.score.errors(terms) / model.score.typical_error).cpu()
    return (
        errors.view(-1, *[1] * (shares.ndim - 1)) * shares
        + model.subsets.shares(batch.x, cast(Tensor, batch.group)).cpu().double()
    )


def _expected(model: FittedModel, batch: Batch, shares: Tensor) -> Tensor:
    """The reconstruction; a row of a table is reconstructed with its worst column replaced by the expected value: like x.

    A wrong value is part of the query and pulls the reconstruction towards itself. The expected value is one that is equal to
    its own reconstruction. Aitken's method extrapolates it from the given value, its reconstruction and the reconstruction of
    that reconstruction.
    """
    given, first = batch.x, batch.output.reconstruction.mean(dim=0)
    if given.ndim > 2:
        return first
    worst = torch.nn.functional.one_hot(shares.argmax(dim=1), given.shape[1]).bool().to(given.device)

    def reconstruction(column: Tensor) -> Tensor:
        return model.networks(torch.where(worst, column, given), batch.own_items).reconstruction.mean(dim=0)

    second = reconstruction(first)
    step, change = first - given, second - first
    ratio = (change / torch.where(step == 0, 1.0, step)).clamp(0, _LARGEST_RATIO)  # below 1, as for a sequence that converges
    return reconstruction(first + change / (1 - ratio))


def _largest_weights(model: FittedModel, batch: Batch, of_rows: Tensor, n_groups: int, count: int) -> tuple[Tensor, Tensor]:
    """Numbers of the groups of items with the largest summed weights, and these weights: (batch, count) each."""
    if not len(of_rows):
        return torch.zeros(len(batch.x), 0, dtype=torch.int64), torch.zeros(len(batch.x), 0, dtype=torch.float64)
    found = []
    for part in batch.parts(max(1, _WEIGHTS // len(of_rows))):
        weights = model.batch_weights(part)
        weights = weights.flatten(1, -2).mean(dim=1) if weights.ndim > 2 else weights
        summed = weights.new_zeros(len(weights), n_groups).index_add_(1, of_rows, weights)
        found.append(summed.topk(count, dim=1))
    largest, places = (torch.cat(column) for column in zip(*found, strict=True))
    return places, largest.double()


def _regions(maps: np.ndarray) -> np.ndarray:
    """Boxes around the worst regions of maps of shape (n, H, W) or (n, T, H, W): (n, axes, 2)."""
    sigma = min(maps.shape[-2:]) / _BLURRED
    maps = ndimage.gaussian_filter(maps, (*[0] * (maps.ndim - 2), sigma, sigma))
    inside = np.ones((3,) * maps.ndim)
    inside[[0, 2]] = 0  # regions are connected within a sample, not between samples
    axes = tuple(range(1, maps.ndim))
    labels, count = ndimage.label(maps >= maps.max(axis=axes, keepdims=True) / 2, inside)
    boxes = np.array([[(side.start, side.stop) for side in box] for box in ndimage.find_objects(labels)])
    samples, sums = boxes[:, 0, 0], ndimage.sum_labels(maps, labels, np.arange(1, count + 1))
    order = np.lexsort((sums, samples))
    return boxes[order[np.searchsorted(samples[order], np.arange(len(maps)), side="right") - 1], 1:]

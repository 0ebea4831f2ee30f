"""Why a sample has its score: what each of its numbers adds, what was expected instead, and which memory items answered."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from skmemae._model import FittedModel
from skmemae._runtime import isolated

_REPAIRS = 5  # times that the worst column of a row is replaced by its reconstruction
_BLURRED = 24  # parts of the smaller side of an image: a region is sought in a map blurred by one of them


@dataclass(frozen=True)
class Explanation:
    """Why samples have their anomaly scores; what :meth:`MemAEDetector.explain` returns.

    Attributes
    ----------
    scores : ndarray of shape (n_samples,)
        Anomaly scores, higher = more abnormal, under either convention.
    shares : ndarray of the shape of X
        What each number of a sample adds to its score, not negative: they sum to the score. For images and clips the map.
    values : ndarray of the shape of X
        The samples.
    expected : ndarray of the shape of X
        What the memory expects in their place, in the units of X. Of rows of a table the reconstruction of the row once the
        column with the largest share is replaced by what is expected there, given the others; else the reconstruction.
    items : ndarray of int of shape (n_samples, n_items)
        The memory items, as rows of ``memory_``, that answered each sample with the largest addressing weights, the largest
        first. Where items are rows, one for each training row.
    weights : ndarray of shape (n_samples, n_items)
        Their addressing weights, in [0, 1]: means over the members and locations, of a training row the sum over its items.
    rows : ndarray of int of shape (n_samples, n_items) or None
        The training rows that these items are made of; None where items are learned.
    regions : ndarray of int of shape (n_samples, n_axes, 2) or None
        Of images and clips the place that adds most: start and stop along the axes (H, W) or (T, H, W), the box around the
        connected part of the map, slightly blurred, that is above half of its maximum and sums to most. None for tables.
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

    def to_frame(self, n_features=None):
        """The columns that add most to the score of each row of a table.

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


def explain(model: FittedModel, X, n_items: int, item_rows: np.ndarray | None) -> dict[str, np.ndarray | None]:
    r"""The attributes of :class:`Explanation` that a model knows.

    Parameters
    ----------
    model : FittedModel
    X : ndarray or RowSource of shape (n_samples, \*array_shape)
    n_items : int
    item_rows : ndarray of int of shape (ensemble_size * N,) or None
        The training row that each item is made of.
    """
    scores = model.scores(X)
    shares = isolated(model.collect, X, lambda x, outputs: _shares(model, x, outputs))
    # Sums of float32 differ from those of the score in the last digits.
    sums = shares.reshape(len(shares), -1).sum(axis=1)
    shares *= (scores / np.where(sums > 0, sums, 1.0)).reshape(-1, *[1] * (shares.ndim - 1))
    items, weights = _answers(model, X, n_items, item_rows)
    return {
        "scores": scores,
        "shares": model.layout.from_network(torch.from_numpy(shares)).numpy(),
        "values": np.array(X),
        "expected": model.unscaled(X, isolated(model.collect, X, lambda x, outputs: _expected(model, x, outputs))),
        "items": items,
        "weights": weights,
        "rows": None if item_rows is None else item_rows[items],
        "regions": None if model.layout.family == "fc" else _regions(shares.sum(axis=1)),
    }


def _shares(model: FittedModel, x: Tensor, outputs) -> Tensor:
    return model.score.shares(x, outputs, model.network_list, model.terms(x, outputs))


def _expected(model: FittedModel, x: Tensor, outputs) -> Tensor:
    """The reconstruction; of a row of a table that of the row with its worst column replaced by what is expected there.

    A wrong value is part of the query, and draws the reconstruction to itself.
    """
    if x.ndim > 2:
        return model.reconstruction(outputs)
    worst = torch.nn.functional.one_hot(_shares(model, x, outputs).argmax(dim=1), x.shape[1]).bool().to(x.device)
    hidden = outputs[0].hidden
    for _ in range(_REPAIRS):
        x = torch.where(worst, model.reconstruction(outputs), x)
        outputs = model.outputs(x, hidden)
    return model.reconstruction(outputs)


def _answers(model: FittedModel, X, n_items: int, item_rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The items that answer each sample with the largest weights, and these: (n_samples, n_items) each."""
    if not model.memories:
        return np.zeros((len(X), 0), dtype=np.int64), np.zeros((len(X), 0))
    numbers = np.arange(sum(memory.items[..., 0].numel() for memory in model.memories))
    first, rows = (numbers, numbers) if item_rows is None else np.unique(item_rows, return_index=True, return_inverse=True)[1:]
    count, group = min(n_items, len(first)), torch.from_numpy(rows).to(model.device)

    def largest(x, outputs):
        weights = model.answers(outputs)
        weights = weights.flatten(1, -2).mean(dim=1) if weights.ndim > 2 else weights
        of_rows = weights.new_zeros(len(weights), len(first)).index_add_(1, group, weights)
        return torch.stack(of_rows.topk(count), dim=1).double()

    found = isolated(model.collect, X, largest)
    return first[found[:, 1].astype(np.int64)], found[:, 0]


def _regions(maps: np.ndarray) -> np.ndarray:
    """Boxes around what is worst in maps of shape (n, H, W) or (n, T, H, W): (n, axes, 2)."""
    sigma = min(maps.shape[-2:]) / _BLURRED
    maps = ndimage.gaussian_filter(maps, (*[0] * (maps.ndim - 2), sigma, sigma))
    inside = np.ones((3,) * maps.ndim)
    inside[[0, 2]] = 0  # what touches, within a sample
    axes = tuple(range(1, maps.ndim))
    labels, count = ndimage.label(maps >= maps.max(axis=axes, keepdims=True) / 2, inside)
    boxes = np.array([[(side.start, side.stop) for side in box] for box in ndimage.find_objects(labels)])
    samples, sums = boxes[:, 0, 0], ndimage.sum_labels(maps, labels, np.arange(1, count + 1))
    order = np.lexsort((sums, samples))
    return boxes[order[np.searchsorted(samples[order], np.arange(len(maps)), side="right") - 1], 1:]

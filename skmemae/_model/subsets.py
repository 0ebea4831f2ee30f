"""Distances of samples from random subsets of the training rows, and from the median row."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmemae._model.learned import Learned

_LEAST_SCALE = 0.05  # smallest scale of a row, before its root, in parts of the median
_WEIGHTS = 2.0, 1.0  # usual ones of the distances from subsets and from the median row, where that of the error is 1
_NUMBERS = 2**27  # numbers of pairs of samples and rows that are compared at a time
_NUMBERS_OF_EXPORT = 2**14


class RandomSubsets(Learned):
    """Random subsets of a few training rows each.

    A row that is far from all rows of most subsets is abnormal. Most subsets are too small to hold a row of a small cluster of
    outliers, so rows of the cluster are abnormal although they have near neighbours [1]_. A distance that is usual where rows
    are few is large where they are many, so it is divided by the root of the distance that the row of the subset has from the
    other subsets: half-way to a local scale.

    Parameters
    ----------
    sample_shape : sequence of int

    Attributes
    ----------
    rows : Tensor of shape (n_subsets, size, \\*sample_shape), float32
        Scaled.
    groups : Tensor of shape (n_subsets, size), int64
        The known sample that each row is. A sample is not compared with itself.
    scales : Tensor of shape (n_subsets, size), float32
        Units of the distances from each row.
    median : Tensor of shape sample_shape, float32
        Median of all these rows, column by column.
    weights : Tensor of shape (2,), float64
        Weights of the distances from subsets and from the median row in the score.
    typical_distances : Tensor of shape (2,), float64
        Units of the distances from subsets and from the median row: their medians over the training samples.

    References
    ----------
    .. [1] Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013.
    """

    rows: Tensor
    groups: Tensor
    scales: Tensor
    median: Tensor
    weights: Tensor
    typical_distances: Tensor

    def __init__(self, sample_shape: Sequence[int]):
        super().__init__()
        self.declare("rows", torch.float32, "n_subsets", "size", *sample_shape)
        self.declare("groups", torch.int64, "n_subsets", "size")
        self.declare("scales", torch.float32, "n_subsets", "size")
        self.declare("median", torch.float32, *sample_shape)
        self.declare("weights", torch.float64, 2)
        self.declare("typical_distances", torch.float64, 2)

    def learn_rows(self, rows: Tensor, groups: Tensor, weights: Sequence[float] = (1.0, 1.0)) -> "RandomSubsets":
        """Store rows, and learn their scales.

        Parameters
        ----------
        rows : Tensor of shape (n_subsets, size, \\*sample_shape)
            Scaled.
        groups : Tensor of int of shape (n_subsets, size)
            The known sample that each row is.
        weights : sequence of two float, default=(1.0, 1.0)
            Of the distances from subsets and from the median row, in parts of their usual weights.
        """
        groups, device = groups.to(rows.device), rows.device
        median = torch.from_numpy(np.median(rows.numpy(force=True), axis=(0, 1))).to(device)
        usual = torch.tensor(_WEIGHTS, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)
        ones = torch.ones(2, dtype=torch.float64)
        own = distance_from(rows, groups, rows.flatten(0, 1), groups.flatten())
        positive = own[own > 0]
        typical = own.median() if own.median() > 0 else positive.mean() if len(positive) else own.new_ones(())
        scales = (own / typical).clamp_min(_LEAST_SCALE).sqrt().view_as(groups)
        self.learn(rows=rows, groups=groups, scales=scales, median=median)
        self.learn(weights=usual.to(device), typical_distances=ones.to(device))
        return self

    def learn_units(self, distances: np.ndarray) -> None:
        """Learn the units of distances from the distances of the training samples, (n_samples, 2)."""
        typical = torch.from_numpy(np.median(distances.astype(np.float64), axis=0)).to(self.typical_distances)
        self.learn(typical_distances=torch.where(typical > 0, typical, 1.0))

    def forward(self, x: Tensor, group: Tensor) -> Tensor:
        """City-block distances of scaled samples from the subsets and from the median row: (batch, 2).

        Parameters
        ----------
        x : Tensor of shape (batch, \\*sample_shape)
        group : Tensor of int of shape (batch,)
            The known sample that each one is, -1 for none.
        """
        from_median = (x - self.median).abs().flatten(1).sum(dim=1)
        return torch.stack([distance_from(self.rows, self.groups, x, group, self.scales), from_median], dim=1)

    def in_units(self, distances: Tensor) -> Tensor:
        """The weighted sum of the distances, (batch, 2), each in its unit: (batch,), float64."""
        return (distances.double() / self.typical_distances * self.weights).sum(dim=1)

    def shares(self, x: Tensor, group: Tensor) -> Tensor:
        """Part of each number of scaled samples in the result of :meth:`in_units`: like x."""
        places, parts = torch.arange(len(self.rows), device=x.device), []
        from_subsets, from_median = (self.typical_distances / self.weights).tolist()
        for part, distances in _distances(self.rows, self.groups, x, group, self.scales):
            nearest, number = distances.min(dim=2)
            gaps = (part.unsqueeze(1) - self.rows.flatten(2)[places, number]).abs() / self.scales[places, number].unsqueeze(2)
            gaps.masked_fill_(nearest.isinf().unsqueeze(2), 0.0)
            parts.append(gaps.mean(dim=1) / from_subsets + (part - self.median.flatten()).abs() / from_median)
        return torch.cat(parts).view_as(x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        groups = state_dict.get(prefix + "groups")
        if groups is not None:  # the model of an older file has neither scales nor weights
            state_dict.setdefault(prefix + "scales", torch.ones(groups.shape))
            state_dict.setdefault(prefix + "weights", torch.ones(2, dtype=torch.float64))
        super()._load_from_state_dict(state_dict, prefix, *args)


def distance_from(subsets: Tensor, groups: Tensor, x: Tensor, group: Tensor, scales: Tensor | None = None) -> Tensor:
    """City-block distance from the nearest row of a subset, without the sample itself; mean over the subsets: (batch,).

    Parameters
    ----------
    subsets : Tensor of shape (n_subsets, size, \\*sample_shape)
    groups : Tensor of int of shape (n_subsets, size)
        The sample that each row is.
    x : Tensor of shape (batch, \\*sample_shape)
    group : Tensor of int of shape (batch,)
        The sample that each one is, -1 for none of these.
    scales : Tensor of shape (n_subsets, size) or None, default=None
        Units of the distances from each row; None is 1.
    """
    scales = torch.ones(groups.shape, device=x.device) if scales is None else scales
    if torch.compiler.is_compiling():
        return _distance_in_export(subsets.flatten(2), groups, x.flatten(1), group, scales)
    nearest = [distances.amin(dim=2) for _, distances in _distances(subsets, groups, x, group, scales)]
    return torch.cat([torch.nan_to_num(part, posinf=0.0).mean(dim=1) for part in nearest])


def _distances(subsets: Tensor, groups: Tensor, x: Tensor, group: Tensor, scales: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some flat samples, (b, d), and their scaled distances from the rows, (b, n_subsets, size), inf from themselves."""
    rows, count = subsets.flatten(2).flatten(0, 1), max(1, _NUMBERS // subsets.numel())
    for part, own in zip(x.flatten(1).split(count), group.split(count), strict=True):
        distances = torch.cdist(part, rows, p=1.0) / scales.flatten()
        distances.masked_fill_(own.unsqueeze(1) == groups.flatten(), torch.inf)
        yield part, distances.unflatten(1, subsets.shape[:2])


def _distance_in_export(rows: Tensor, groups: Tensor, flat: Tensor, group: Tensor, scales: Tensor) -> Tensor:
    """:func:`distance_from` without ``cdist``, which ONNX does not have; computes differences from a few subsets at a time."""
    nearest, count = [], max(1, _NUMBERS_OF_EXPORT // rows[0].numel())
    for some, own, units in zip(rows.split(count), groups.split(count), scales.split(count), strict=True):
        distances = (flat[:, None, None] - some).abs().sum(dim=3) / units
        nearest.append(distances.masked_fill(group[:, None, None] == own, torch.inf).amin(dim=2))
    together = torch.cat(nearest, dim=1)
    return together.masked_fill(together.isinf(), 0.0).mean(dim=1)

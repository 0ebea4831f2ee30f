"""Distances of samples from random subsets of the training rows, and from the median row."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from skmemae._model.learned import Learned

_NUMBERS = 2**27  # numbers of pairs of samples and rows that are compared at a time
_NUMBERS_OF_EXPORT = 2**14
_SAME = (
    1e-7,
    1e-12,
)  # relative and absolute difference of equal rows in an exported graph: runtimes round logarithms differently


class RandomSubsets(Learned):
    """Random subsets of a few training rows each.

    A row that is far from all rows of most subsets is abnormal. A cluster of outliers vanishes in most subsets, so that its
    rows do not speak for each other [1]_.

    Parameters
    ----------
    sample_shape : sequence of int

    Attributes
    ----------
    rows : Tensor of shape (n_subsets, size, \\*sample_shape), float32
        Scaled.
    median : Tensor of shape sample_shape, float32
        Of all these rows, column by column.
    typical_distances : Tensor of shape (2,), float64
        Medians over the training samples of the distances from subsets and from the median row, which are their units.

    References
    ----------
    .. [1] Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013.
    """

    rows: Tensor
    median: Tensor
    typical_distances: Tensor

    def __init__(self, sample_shape: Sequence[int]):
        super().__init__()
        self.declare("rows", torch.float32, "n_subsets", "size", *sample_shape)
        self.declare("median", torch.float32, *sample_shape)
        self.declare("typical_distances", torch.float64, 2)

    def learn_rows(self, rows: Tensor) -> "RandomSubsets":
        """Take scaled rows of shape (n_subsets, size, \\*sample_shape)."""
        median = torch.from_numpy(np.median(rows.numpy(force=True), axis=(0, 1)))
        ones = torch.ones(2, dtype=torch.float64)
        self.learn(rows=rows, median=median.to(rows.device), typical_distances=ones.to(rows.device))
        return self

    def learn_units(self, distances: np.ndarray) -> None:
        """Learn the units of distances from those of the training samples, (n_samples, 2)."""
        typical = torch.from_numpy(np.median(distances.astype(np.float64), axis=0)).to(self.typical_distances)
        self.learn(typical_distances=torch.where(typical > 0, typical, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        """City-block distances of scaled samples from the subsets and from the median row: (batch, 2)."""
        return torch.stack([distance_from(self.rows, x), (x - self.median).abs().flatten(1).sum(dim=1)], dim=1)

    def in_units(self, distances: Tensor) -> Tensor:
        """The sum of the distances, (batch, 2), each in its unit: (batch,), float64."""
        return (distances.double() / self.typical_distances).sum(dim=1)

    def shares(self, x: Tensor) -> Tensor:
        """Part of each number of scaled samples in the sum of their distances in units: like x."""
        places, parts = torch.arange(len(self.rows), device=x.device), []
        for part, distances in _distances(self.rows, x):
            nearest, number = distances.min(dim=2)
            gaps = (part.unsqueeze(1) - self.rows.flatten(2)[places, number]).abs()
            gaps.masked_fill_(nearest.isinf().unsqueeze(2), 0.0)
            from_subsets, from_median = self.typical_distances.tolist()
            parts.append(gaps.mean(dim=1) / from_subsets + (part - self.median.flatten()).abs() / from_median)
        return torch.cat(parts).view_as(x)


def distance_from(subsets: Tensor, x: Tensor) -> Tensor:
    """City-block distance to the nearest row of a subset that differs from the sample, the mean over the subsets: (batch,).

    Parameters
    ----------
    subsets : Tensor of shape (n_subsets, size, \\*sample_shape)
    x : Tensor of shape (batch, \\*sample_shape)
    """
    if torch.compiler.is_compiling():
        return _distance_in_export(subsets.flatten(2), x.flatten(1))
    nearest = [distances.amin(dim=2) for _, distances in _distances(subsets, x)]
    return torch.cat([torch.nan_to_num(part, posinf=0.0).mean(dim=1) for part in nearest])


def _distances(subsets: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some flat samples, (b, d), and their distances from the rows, (b, n_subsets, size), inf from those they equal."""
    rows = subsets.flatten(2).flatten(0, 1)
    for part in x.flatten(1).split(max(1, _NUMBERS // rows.numel())):
        distances = torch.cdist(part, rows, p=1.0)
        distances.masked_fill_(distances == 0, torch.inf)
        yield part, distances.unflatten(1, subsets.shape[:2])


def _distance_in_export(rows: Tensor, flat: Tensor) -> Tensor:
    """The same from operations of ONNX, which has no ``cdist``; differences are made for a few subsets at a time."""
    size, (relative, absolute) = flat.abs().sum(dim=1)[:, None, None], _SAME
    nearest = []
    for some in rows.split(max(1, _NUMBERS_OF_EXPORT // rows[0].numel())):
        distances = (flat[:, None, None] - some).abs().sum(dim=3)
        is_same = distances <= relative * size + absolute
        nearest.append(distances.masked_fill(is_same, torch.inf).amin(dim=2))
    together = torch.cat(nearest, dim=1)
    return together.masked_fill(together.isinf(), 0.0).mean(dim=1)

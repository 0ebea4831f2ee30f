"""Distances of samples from random subsets of the training rows, and from the median row."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae._model.learned import Learned

_LEAST_SCALE = 0.05  # smallest scale of a row, before its root, in parts of the median
_WEIGHTS = 2.0, 1.0  # usual ones of the distances from subsets and from the median row, where that of the error is 1
_PAIRS, _NUMBERS = 2**20, 2**27  # pairs of samples and rows that are compared at a time, and numbers of such pairs
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
    rows : Tensor of shape (n_rows, \\*sample_shape), float32
        The rows that are in a subset, scaled.
    places : Tensor of shape (n_subsets, size), int64
        Which of the rows each subset holds. A row may be in several subsets, and is compared once.
    groups : Tensor of shape (n_rows,), int64
        The known sample that each row is. A sample is not compared with itself.
    scales : Tensor of shape (n_rows,), float32
        Units of the distances from each row.
    median : Tensor of shape sample_shape, float32
        Median of the rows of all subsets, column by column.
    weights : Tensor of shape (2,), float64
        Weights of the distances from subsets and from the median row in the score.
    typical_distances : Tensor of shape (2,), float64
        Units of the distances from subsets and from the median row: their medians over the training samples.

    References
    ----------
    .. [1] Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013.
    """

    rows: Tensor
    places: Tensor
    groups: Tensor
    scales: Tensor
    median: Tensor
    weights: Tensor
    typical_distances: Tensor

    def __init__(self, sample_shape: Sequence[int]):
        super().__init__()
        self.declare("rows", torch.float32, "n_rows", *sample_shape)
        self.declare("places", torch.int64, "n_subsets", "size")
        self.declare("groups", torch.int64, "n_rows")
        self.declare("scales", torch.float32, "n_rows")
        self.declare("median", torch.float32, *sample_shape)
        self.declare("weights", torch.float64, 2)
        self.declare("typical_distances", torch.float64, 2)

    def learn_rows(
        self, rows: Tensor, places: Tensor, groups: Tensor, weights: Sequence[float] = (1.0, 1.0)
    ) -> "RandomSubsets":
        """Store rows, and learn their scales.

        Parameters
        ----------
        rows : Tensor of shape (n_rows, \\*sample_shape)
            Scaled.
        places : Tensor of int of shape (n_subsets, size)
            Which of the rows each subset holds.
        groups : Tensor of int of shape (n_rows,)
            The known sample that each row is.
        weights : sequence of two float, default=(1.0, 1.0)
            Of the distances from subsets and from the median row, in parts of their usual weights.
        """
        device = rows.device
        places, groups = places.to(device), groups.to(device)
        median = torch.from_numpy(np.median(rows[places].numpy(force=True), axis=(0, 1))).to(device)
        usual = torch.tensor(_WEIGHTS, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64)
        ones = torch.ones(2, dtype=torch.float64)
        own = distance_from(Subsets(rows, places, groups), rows, groups)
        drawn = own[places]
        positive = drawn[drawn > 0]
        typical = drawn.median() if drawn.median() > 0 else positive.mean() if len(positive) else own.new_ones(())
        scales = (own / typical).clamp_min(_LEAST_SCALE).sqrt()
        self.learn(rows=rows, places=places, groups=groups, scales=scales, median=median)
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
        return torch.stack([distance_from(self.subsets, x, group), from_median], dim=1)

    def in_units(self, distances: Tensor) -> Tensor:
        """The weighted sum of the distances, (batch, 2), each in its unit: (batch,), float64."""
        return (distances.double() / self.typical_distances * self.weights).sum(dim=1)

    @property
    def subsets(self) -> "Subsets":
        """The rows that are compared."""
        return Subsets(self.rows, self.places, self.groups, self.scales)

    def shares(self, x: Tensor, group: Tensor) -> Tensor:
        """Part of each number of scaled samples in the result of :meth:`in_units`: like x."""
        rows, parts, subset = self.rows.flatten(1), [], torch.arange(len(self.places), device=x.device).unsqueeze(1)
        from_subsets, from_median = (self.typical_distances / self.weights).tolist()
        for part, distances in _distances(self.subsets, x, group):
            nearest, number = distances[self.places].min(dim=1)  # (n_subsets, batch)
            of_row = self.places[subset, number]
            gaps = (part - rows[of_row]).abs() / self.scales[of_row].unsqueeze(2)
            gaps.masked_fill_(nearest.isinf().unsqueeze(2), 0.0)
            parts.append(gaps.mean(dim=0) / from_subsets + (part - self.median.flatten()).abs() / from_median)
        return torch.cat(parts).view_as(x)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        groups = state_dict.get(prefix + "groups")
        if groups is not None:  # older files hold the rows subset by subset, or have neither scales nor weights
            if groups.ndim == 2 and prefix + "places" not in state_dict:
                state_dict[prefix + "places"] = torch.arange(groups.numel()).view_as(groups)
                for name in ("rows", "groups", "scales"):
                    if prefix + name in state_dict:
                        state_dict[prefix + name] = state_dict[prefix + name].flatten(0, 1)
            state_dict.setdefault(prefix + "scales", torch.ones(groups.numel()))
            state_dict.setdefault(prefix + "weights", torch.ones(2, dtype=torch.float64))
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.places is not None and self.rows is not None and self.places.numel():
            least, most = self.places.aminmax()
            if least < 0 or most >= len(self.rows):
                args[-1].append(f"{prefix}places must be numbers of {len(self.rows)} rows. Got {int(least)} to {int(most)}.")


class Subsets(NamedTuple):
    """Rows of subsets, each once, and which of them a subset holds."""

    rows: Tensor  # (n_rows, *sample_shape)
    places: Tensor  # (n_subsets, size), numbers of rows
    groups: Tensor  # (n_rows,), the sample that each row is
    scales: Tensor | None = None  # (n_rows,), units of the distances from each row; None is 1


def distance_from(subsets: Subsets, x: Tensor, group: Tensor) -> Tensor:
    """City-block distance from the nearest row of a subset, without the sample itself; mean over the subsets: (batch,).

    Parameters
    ----------
    subsets : Subsets
    x : Tensor of shape (batch, \\*sample_shape)
    group : Tensor of int of shape (batch,)
        The sample that each one is, -1 for none of these.
    """
    means = []
    for _, distances in _distances(subsets, x, group):
        nearest = distances[subsets.places].amin(dim=1)
        means.append(nearest.masked_fill(nearest.isinf(), 0.0).mean(dim=0))
    return torch.cat(means)


def _distances(subsets: Subsets, x: Tensor, group: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some flat samples, (b, d), and their distances from the rows, (n_rows, b), inf from themselves."""
    rows, places, groups, scales = subsets
    rows, x = rows.flatten(1), x.flatten(1)
    count = max(1, min(_PAIRS // places.numel(), _NUMBERS // (places.numel() * rows.shape[1])))
    whole = torch.compiler.is_compiling()  # with any number of samples
    for part, own in [(x, group)] if whole else zip(x.split(count), group.split(count), strict=True):
        distances = _city_block(rows, part)
        if scales is not None:
            distances = distances / scales.unsqueeze(1)
        yield part, distances.masked_fill(own == groups.unsqueeze(1), torch.inf)


def _city_block(rows: Tensor, x: Tensor) -> Tensor:
    """City-block distances: (n_rows, batch)."""
    if not torch.compiler.is_compiling():
        return torch.cdist(rows, x, p=1.0)
    count = max(1, _NUMBERS_OF_EXPORT // rows.shape[1])  # ONNX has no ``cdist``: differences from a few rows at a time
    return torch.cat([(some.unsqueeze(1) - x).abs().sum(dim=2) for some in rows.split(count)])

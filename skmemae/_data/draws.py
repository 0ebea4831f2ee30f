"""How far samples are from random draws of a few rows, and from the middle of all."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

_NUMBERS = 2**27  # of samples and drawn rows that are compared at a time, as many as 2^20 pairs of 128 columns have


@dataclass(frozen=True)
class Draws:
    """Random draws of a few rows, which an anomaly score adds to its error.

    Attributes
    ----------
    rows : ndarray of shape (draws, size, \\*sample_shape), float32
        Scaled.
    median : ndarray of shape sample_shape, float32
        Of all drawn rows, column by column.
    typical_error : float, default=1.0
    typical_distances : tuple of float, default=(1.0, 1.0)
        Medians over the training samples, in which error and distances are counted.
    """

    rows: np.ndarray
    median: np.ndarray
    typical_error: float = 1.0
    typical_distances: tuple[float, ...] = (1.0, 1.0)

    @classmethod
    def of(cls, rows: Tensor) -> "Draws":
        """Draws of the rows of (draws, size, \\*sample_shape)."""
        array = rows.numpy(force=True)
        return cls(array, np.median(array, axis=(0, 1)))

    def distances(self, x: Tensor) -> Tensor:
        """City-block distances of each sample from the draws and from the median: (batch, 2)."""
        rows, median = (torch.as_tensor(array, device=x.device) for array in (self.rows, self.median))
        return torch.stack([distance_from(rows, x), (x - median).abs().flatten(1).sum(dim=1)], dim=1)

    def shares(self, x: Tensor) -> Tensor:
        """What each number of a sample adds to the distances, in the units in which :meth:`add` counts them: like x."""
        rows, median = (torch.as_tensor(array, device=x.device) for array in (self.rows, self.median))
        places, parts = torch.arange(len(rows), device=x.device), []
        for part, distances in _distances(rows, x):
            nearest, number = distances.min(dim=2)
            gaps = (part.unsqueeze(1) - rows.flatten(2)[places, number]).abs().masked_fill_(nearest.isinf().unsqueeze(2), 0.0)
            from_draws, from_median = self.typical_distances
            parts.append(gaps.mean(dim=1) / from_draws + (part - median.flatten()).abs() / from_median)
        return torch.cat(parts).view_as(x)

    def in_units_of(self, errors: np.ndarray, distances: np.ndarray) -> "Draws":
        """The same draws, with the medians of the training samples' errors, (n_samples,), and distances, (n_samples, 2)."""
        error, *typical = (float(np.median(column)) or 1.0 for column in (errors, *distances.T))
        return replace(self, typical_error=error, typical_distances=tuple(typical))

    def add(self, errors: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """The sum of errors and distances, each in units of its median."""
        with np.errstate(over="ignore"):
            return errors / self.typical_error + (distances.astype(np.float64) / self.typical_distances).sum(axis=1)


def distance_from(drawn: Tensor, x: Tensor) -> Tensor:
    """City-block distance to the nearest of the drawn rows that differs from the sample, the mean over the draws: (batch,).

    What equals the sample is passed over, itself and copies of it.

    Parameters
    ----------
    drawn : Tensor of shape (draws, size, \\*sample_shape)
    x : Tensor of shape (batch, \\*sample_shape)
    """
    nearest = [distances.amin(dim=2) for _, distances in _distances(drawn, x)]
    return torch.cat([torch.nan_to_num(part, posinf=0.0).mean(dim=1) for part in nearest])


def _distances(drawn: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some flat samples, (b, d), and their distances from the drawn rows, (b, draws, size), inf from those they equal."""
    rows = drawn.flatten(2).flatten(0, 1)
    for part in x.flatten(1).split(max(1, _NUMBERS // rows.numel())):
        distances = torch.cdist(part, rows, p=1.0)
        distances.masked_fill_(distances == 0, torch.inf)
        yield part, distances.unflatten(1, drawn.shape[:2])

"""How far samples are from random draws of a few rows."""

from dataclasses import dataclass

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
    typical_error, typical_distance : float, default=1.0
        Medians over the training samples, in which error and distance are counted.
    """

    rows: np.ndarray
    typical_error: float = 1.0
    typical_distance: float = 1.0

    def distance(self, x: Tensor) -> Tensor:
        """Distance of each sample as in :func:`distance_from`: (batch,)."""
        return distance_from(torch.as_tensor(self.rows, device=x.device), x)

    def add(self, error: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Error and distance in units of their medians."""
        return error / self.typical_error + distance / self.typical_distance


def distance_from(drawn: Tensor, x: Tensor) -> Tensor:
    """City-block distance to the nearest of the drawn rows that differs from the sample, the mean over the draws: (batch,).

    What equals the sample is passed over, itself and copies of it.

    Parameters
    ----------
    drawn : Tensor of shape (draws, size, \\*sample_shape)
    x : Tensor of shape (batch, \\*sample_shape)
    """
    x, rows = x.flatten(1), drawn.flatten(2).flatten(0, 1)
    parts = []
    for part in x.split(max(1, _NUMBERS // rows.numel())):
        distances = torch.cdist(part, rows, p=1.0)
        distances.masked_fill_(distances == 0, torch.inf)
        nearest = distances.unflatten(1, drawn.shape[:2]).amin(dim=2)
        parts.append(torch.nan_to_num(nearest, posinf=0.0).mean(dim=1))
    return torch.cat(parts)

"""P-values of the places of images and clips, from error maps of held-out samples."""

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from skmemae._model.learned import Learned, at_least, at_most
from skmemae.network.smoothing import gaussian_blur

_SMOOTHING = 1 / 32  # deviation of the Gaussian in smaller sides of an image
_LEAST_SMOOTHING = 0.5  # pixels
_REACH = 3  # deviations
_TYPICAL_MAPS = 5.0  # the mean over all places counts as much as the errors of so many maps in the level of a place
_LEAST_LEVEL, _LARGEST_ERROR = 1e-12, 1e20  # squared rounding errors of scaled values; more would overflow
_MOST_VALUES = 2**22  # of held-out maps that are kept while quantiles are learned
_MOST_KNOTS = 1000


class PlaceCalibration(Learned):
    """P-values of error maps: how likely a normal sample has so large an error in a place.

    A map is smoothed in height and width, as errors of single pixels say little, and divided by the typical error of each
    place, as edges are reconstructed less well than plain parts. What is left is compared with the places of all held-out
    maps together.

    Parameters
    ----------
    shape : tuple of int
        Shape of a map: (H, W), or (T, H, W) for clips.
    smooths : bool, default=True
        Whether maps are smoothed; those of local features are smooth.

    Attributes
    ----------
    level : Tensor of shape ``shape``, float32
        Typical smoothed error of each place.
    quantiles : Tensor of shape (n_quantiles,), float32
        Smoothed errors of held-out samples over the level, ascending, and last a value above all of them.
    log_p_values : Tensor of shape (n_quantiles,), float32
        Logarithms of the p-values of ``quantiles``, from 0 downwards.
    """

    level: Tensor
    quantiles: Tensor
    log_p_values: Tensor

    def __init__(self, shape: tuple[int, ...], smooths: bool = True):
        super().__init__()
        self.shape, self.smooths = shape, smooths
        self.declare("level", torch.float32, *shape)
        for name in ("quantiles", "log_p_values"):
            self.declare(name, torch.float32, "n_quantiles")

    def learn_maps(self, batches: Iterable[Tensor], n: int) -> "PlaceCalibration":
        """Learn from batches of the error maps of ``n`` held-out samples, at least one."""
        size = math.prod(self.shape)
        step = min(size, -(-n * size // _MOST_VALUES))  # so many neighbours are alike where there are many
        total, kept = torch.zeros(size, dtype=torch.float64), []
        for errors in batches:
            smooth = self.smoothed(errors).flatten(1).double().cpu()
            total += smooth.sum(dim=0)
            places = _every(step, size, len(smooth))
            kept.append((smooth.gather(1, places).float(), places))
        prior = _TYPICAL_MAPS * total.mean() / n
        ratios = []
        for values, places in kept:
            # A new map is no part of the level that it is compared with, so a held-out one must not be either.
            others = (total[places] - values + prior) / (n - 1 + _TYPICAL_MAPS)
            ratios.append(_ratios(values, others.float()).flatten())
        quantiles, log_p_values = upper_quantiles(torch.cat(ratios).numpy())
        level = at_least((total + prior) / (n + _TYPICAL_MAPS), _LEAST_LEVEL)
        self.learn(level=level.view(self.shape), quantiles=quantiles, log_p_values=log_p_values)
        return self

    def smoothed(self, errors: Tensor) -> Tensor:
        """Error maps, (batch, \\*shape), after a Gaussian blur of the last two axes if they need one: the same shape."""
        if not self.smooths:
            return at_most(errors, _LARGEST_ERROR)
        sigma = max(_LEAST_SMOOTHING, _SMOOTHING * min(self.shape[-2:]))
        return gaussian_blur(at_most(errors, _LARGEST_ERROR), sigma, math.ceil(_REACH * sigma))

    def forward(self, errors: Tensor) -> Tensor:
        """P-values of error maps: (batch, \\*shape), in (0, 1], lower = more abnormal; they fall as the error grows."""
        ratios = _ratios(self.smoothed(errors), self.level)
        above = torch.searchsorted(self.quantiles, ratios).clamp_max(len(self.quantiles) - 1)
        below = (above - 1).clamp_min(0)
        step = self.quantiles[above] - self.quantiles[below]
        share = ((ratios - self.quantiles[below]) / at_least(step, torch.finfo(step.dtype).tiny)).clamp(0, 1)
        return torch.lerp(self.log_p_values[below], self.log_p_values[above], share).exp()


def upper_quantiles(values: np.ndarray) -> tuple[Tensor, Tensor]:
    """Quantiles of values, dense in the upper tail, and logarithms of their p-values: two of (n_quantiles,).

    The p-value of x is ``(1 + k) / (1 + n)`` if k of the n values are at least x. The last quantile is above all values.
    """
    ascending, n = np.sort(values), len(values)
    ranks = np.unique(np.geomspace(1, n, _MOST_KNOTS).round().astype(int))  # from the largest value down
    knots = np.unique(ascending[n - ranks])
    counts = np.append(n - np.searchsorted(ascending, knots), 0)
    knots = np.append(knots, np.nextafter(knots[-1], np.float32(np.inf)))
    return torch.from_numpy(knots), torch.from_numpy(np.log1p(counts) - np.log1p(n))


def _every(step: int, size: int, n: int) -> Tensor:
    """Every ``step``-th place of each of n flat maps, from another place on in each: (n, size // step)."""
    return torch.arange(size // step) * step + (torch.arange(n) % step).unsqueeze(1)


def _ratios(smooth: Tensor, level: Tensor) -> Tensor:
    return smooth / at_least(level, _LEAST_LEVEL)

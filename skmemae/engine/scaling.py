"""What samples are compared by: scaling statistics, learned in ``fit`` and applied to every batch."""

import math
from typing import NamedTuple

import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from skmemae.engine.samples import Layout
from skmemae.engine.sources import numbered_blocks

_BLANK = 0.2  # of the typical deviation of a sample, added to each sample's own
_EXCESS = 50.0, 10.0  # excess kurtosis from which a tail is heavy, and from which it is where values span two decades
_UNIT = 0.05  # quantile of the positive values that a logarithm counts in
_TAIL_ROWS, _TAIL_NUMBERS = 100_000, 2**24  # rows that are enough to see a tail, and how many numbers are looked at at most


class Scaling(NamedTuple):
    """An affine scaling of the samples, learned in ``fit``, and what may go before and after it.

    Attributes
    ----------
    center, scale : ndarray that broadcasts against a sample of the network
    limit : float
        Scaled values beyond it are compressed logarithmically, so that one wild column of one row cannot drown the rest and
        no square overflows, while the order of values is kept. Infinite for no limit.
    unit : ndarray of shape (d,) or None, default=None
        Where columns are first compressed to ``log(1 + |x| / unit)`` with the sign of x: their units, infinite for columns
        that stay as they are.
    typical : (float, float) or None, default=None
        Where each sample is first scaled by its own mean and deviation: those of a typical sample. A share of the typical
        deviation is added to the sample's own, so that the noise of a blank sample stays noise.
    """

    center: np.ndarray
    scale: np.ndarray
    limit: float
    unit: np.ndarray | None = None
    typical: tuple[float, float] | None = None

    def apply(self, samples: Tensor) -> Tensor:
        """To scaled float32, computed in the samples' own precision."""
        center, scale, _ = self._tensors(samples)
        samples = self.compress(samples)
        if self.typical is not None:
            mean, deviation = self._own(samples)
            samples = (samples - mean).div_(deviation)
        scaled = (samples - center).div_(scale)
        if np.isfinite(self.limit) and max(-scaled.min(), scaled.max()) > self.limit:
            beyond = (scaled.abs() - self.limit).clamp_min_(0)
            scaled = scaled.clamp_(-self.limit, self.limit) + torch.sign(scaled) * torch.log1p(beyond)
        return scaled.float()

    def on(self, device) -> "Scaling":
        """The same with float32 tensors on a device in place of arrays, for samples that are there."""
        arrays = {name: getattr(self, name) for name in ("center", "scale", "unit")}
        return self._replace(
            **{name: None if a is None else torch.tensor(a, dtype=torch.float32, device=device) for name, a in arrays.items()}
        )

    def compress(self, samples: Tensor) -> Tensor:
        """Logarithms of the columns that have a unit."""
        if self.unit is None:
            return samples
        *_, unit = self._tensors(samples)
        return torch.where(unit.isinf(), samples, samples.sign() * torch.log1p(samples.abs() / unit))

    def undo(self, scaled: Tensor, samples: Tensor | None = None) -> Tensor:
        """Back to the samples' units.

        Parameters
        ----------
        scaled : Tensor of shape (batch, \\*sample_shape)
        samples : Tensor of the same shape or None, default=None
            The samples that ``scaled`` is about, whose own mean and deviation it may get; None for typical ones.
        """
        if np.isfinite(self.limit):
            beyond = (scaled.abs() - self.limit).clamp_min(0)
            scaled = scaled.clamp(-self.limit, self.limit) + torch.sign(scaled) * torch.expm1(beyond)
        center, scale, unit = self._tensors(scaled)
        scaled = scaled * scale + center
        if unit is not None:
            scaled = torch.where(unit.isinf(), scaled, scaled.sign() * torch.expm1(scaled.abs()) * unit)
        if self.typical is None:
            return scaled
        mean, deviation = self.typical if samples is None else self._own(samples)
        return scaled * deviation + mean

    def distance_from_mean(self, scaled: Tensor) -> Tensor:
        """Squared distance of each sample's shape from the mean sample, per number: (batch,), in (0, 4).

        The sample is taken to have unit norm, however flat it is, so that nothing but its likeness to the mean sample counts.
        One for all where no mean sample is subtracted.
        """
        if self.typical is None:
            return scaled.new_ones(len(scaled))
        center, *_ = self._tensors(scaled)
        # 1 + |m|^2 - 2 <s, m> with s the sample and m the mean sample, of which scaled is the difference.
        return 1 - center.square().mean() - 2 * (scaled * center).flatten(1).mean(dim=1)

    def _tensors(self, like: Tensor):
        def there(array):
            known = array is None or isinstance(array, Tensor)
            return array if known else torch.tensor(array, dtype=like.dtype, device=like.device)

        return map(there, (self.center, self.scale, self.unit))

    def _own(self, samples: Tensor):
        deviation, mean = torch.std_mean(samples, dim=tuple(range(1, samples.ndim)), correction=0, keepdim=True)
        return mean, deviation + _BLANK * self.typical[1]


def learn_scaling(X, layout: Layout, kind: str | None, rows=None) -> Scaling:
    """Statistics of X: per column for vectors, per channel for images and clips, or sample by sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, \\*array_shape)
        Read in blocks of rows.
    layout : Layout
    kind : {"contrast", "log", "standard", "minmax"} or None
        Each sample's own mean and deviation, with the mean sample subtracted; logarithms of the columns with a heavy tail, and
        then as "standard": mean and standard deviation of all samples; minimum and range; or nothing. Constant columns keep
        their units. Where no sample varies within itself, "contrast" is "standard".
    rows : ndarray of bool or None, default=None
        Which samples to learn from, all for None.

    Raises
    ------
    ValueError
        If the values are too large for a float64 variance.
    """
    table = layout.family == "fc"
    limit = 10.0 if table and kind in ("log", "standard") else np.inf
    shape = layout.sample_shape if table else (layout.sample_shape[0], *[1] * (len(layout.sample_shape) - 1))
    scaling = Scaling(np.zeros(shape), np.ones(shape), limit)
    if kind is None:
        return scaling
    if kind == "contrast":
        return _learn_contrast(X, layout, rows)
    if kind == "log":
        scaling = scaling._replace(unit=_heavy_tails(X, layout, rows))
    scaler = MinMaxScaler(copy=False) if kind == "minmax" else StandardScaler(copy=False)
    with np.errstate(over="ignore", invalid="ignore"):
        for samples in _sample_blocks(X, layout, rows):
            samples = scaling.compress(samples)
            scaler.partial_fit(samples.movedim(1, -1).reshape(-1, samples.shape[1]).numpy())
    if kind == "minmax":
        center, scale, spread = scaler.data_min_, 1 / scaler.scale_, scaler.data_range_
    else:
        center, scale, spread = scaler.mean_, scaler.scale_, scaler.var_
    _check_finite(center, spread)
    return scaling._replace(center=center.reshape(shape), scale=scale.reshape(shape))


def _learn_contrast(X, layout: Layout, rows) -> Scaling:
    mean = deviation = total = count = 0.0
    for samples in _sample_blocks(X, layout, rows):
        deviations, means = torch.std_mean(samples.flatten(1), dim=1, correction=0)
        mean, deviation, count = mean + float(means.sum()), deviation + float(deviations.sum()), count + len(samples)
    _check_finite(mean, deviation)
    if deviation == 0:
        return learn_scaling(X, layout, "standard", rows)
    typical = (mean / count, deviation / count)
    scaling = Scaling(np.zeros(layout.sample_shape), np.ones(1), np.inf, typical=typical)
    for samples in _sample_blocks(X, layout, rows):
        total = total + scaling.apply(samples).double().sum(dim=0).numpy()
    return scaling._replace(center=total / count)


def _heavy_tails(X, layout: Layout, rows) -> np.ndarray | None:
    """Units of the columns that are never negative and have a heavy tail, infinite for the others; None if there are none.

    The unit is a small one of the values that are not zero, so that amounts are told apart by how many times as large they are.
    """
    kept = np.arange(X.shape[0]) if rows is None else np.flatnonzero(rows)
    enough = max(1, min(_TAIL_ROWS, _TAIL_NUMBERS // math.prod(layout.sample_shape)))
    some = np.array(X[kept[:: max(1, len(kept) // enough)]], dtype=np.float64).reshape(-1, *layout.sample_shape)
    unit = np.full(some.shape[1], np.inf)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        fourth = some - some.mean(axis=0)
        fourth /= some.std(axis=0)
        np.square(np.square(fourth, out=fourth), out=fourth)
        excess = fourth.mean(axis=0) - 3
    for column in np.flatnonzero((some.min(axis=0) >= 0) & (excess > _EXCESS[1])):
        values = some[some[:, column] > 0, column]
        small = np.quantile(values, _UNIT)
        if excess[column] > _EXCESS[0] or values.max() > 100 * small:
            unit[column] = small
    return unit if np.isfinite(unit).any() else None


def _sample_blocks(X, layout: Layout, rows):
    for start, block in numbered_blocks(X):
        if rows is not None:
            block = block[rows[start : start + len(block)]]
        if len(block):
            yield layout.to_network(torch.from_numpy(np.array(block, dtype=np.float64)))


def _check_finite(*statistics):
    if not all(np.isfinite(values).all() for values in statistics):
        raise ValueError("Input X contains values too large for the statistics of scaling; use scaling=None or rescale X.")

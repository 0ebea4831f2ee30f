"""Scaling learned from X, in one or two passes over its blocks."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from torch import Tensor

from skmemae._data.layout import Layout
from skmemae._data.sources import Samples, row_blocks
from skmemae._model.scaling import FAR_LIMIT, TABLE_LIMIT, Scaling, unit_shape

_EXCESS = 50.0, 10.0  # excess kurtosis of a heavy tail, and of one whose values span two decades
_UNIT = 0.05  # quantile of the positive values that is the unit of a logarithm
_TAIL_ROWS, _TAIL_NUMBERS = 100_000, 2**24  # largest number of rows, and of numbers, in which tails are found
_REFERENCE_NUMBERS = 2**20, 2**22  # largest number of numbers that give a typical value, and quartiles
_REACH = 3.0  # interquartile ranges beyond the quartiles up to which values count; normal ones are within 2.5
_LIGHT = 0.03  # share of the largest value that is the unit of the logarithm of light
_LARGEST, _SMALLEST = np.finfo(np.float64).max, np.finfo(np.float64).tiny


def learn_scaling(X: Samples, layout: Layout, kind: str | None, training_mask: np.ndarray | None = None) -> Scaling:
    """Learn a scaling per column for vectors, per channel for images and clips, or sample by sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, \\*array_shape)
        Read in blocks of rows.
    layout : Layout
    kind : {"contrast", "log-contrast", "log", "standard", "minmax"} or None
        "contrast": each sample's own mean and deviation, with the mean sample subtracted; "log-contrast": the same of
        logarithms of channels that are never negative, of which 3 % of the largest value is the unit; "log": logarithms of the
        columns or channels with a heavy tail, and then "standard"; "standard": mean and standard deviation; "minmax": minimum
        and range; None: no scaling. If all samples are constant, "contrast" is "standard". In tables "log" and "standard" clip
        values to three interquartile ranges beyond the quartiles before they learn, so that a few extreme values do not hide
        the rest; a constant column gets such a small unit that any other value becomes a large one. Other constant columns and
        channels keep their units.
    training_mask : ndarray of bool or None, default=None
        True for the samples to learn from; None for all samples.

    Returns
    -------
    scaling : Scaling
    """
    table = layout.family == "fc"
    robust = table and kind in ("log", "standard")
    scaling = Scaling(layout.sample_shape, table, TABLE_LIMIT if robust else FAR_LIMIT)
    scaling.learn_units(np.zeros(1), np.ones(1))
    if kind is None:
        return scaling
    if kind == "log-contrast":
        scaling.learn(log_unit=_light_units(X, layout, training_mask))
    if kind in ("contrast", "log-contrast"):
        return _learn_contrast(X, layout, training_mask, scaling)
    if kind == "log":
        scaling.learn(log_unit=_heavy_tails(X, layout, scaling.unit_shape, training_mask))
    some = _flat(scaling.log(_some_samples(X, layout, training_mask, _REFERENCE_NUMBERS[robust])))
    reach = _reach(some) if robust else None

    def blocks() -> Iterator[np.ndarray]:
        for samples in _sample_blocks(X, layout, training_mask):
            columns = _flat(scaling.log(samples))
            yield columns if reach is None else np.clip(columns, *reach)

    if kind == "minmax":
        smallest, greatest = _extremes(blocks())
        with np.errstate(over="ignore"):
            center, spread = smallest, np.minimum(greatest - smallest, _LARGEST)
    else:
        center, spread = _moments(blocks(), some)
    unit = np.ones(len(center))
    if robust:
        size = np.where(center == 0, 1.0, np.abs(center))
        # Smaller than the deviation of a flag that is set in a single row.
        unit = np.maximum(size / (2 * math.sqrt(len(X))), _SMALLEST)
    scaling.learn_units(center, np.where(spread > 0, spread, unit))
    return scaling


def _reach(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits of each column for clipping; if quartiles are equal, quartiles of the other values are used."""
    unit = _power_of_two(np.abs(columns).max(axis=0))
    low, middle, high = np.quantile(columns / unit, [0.25, 0.5, 0.75], axis=0)
    for column in np.flatnonzero(low == high):
        values = columns[:, column] / unit[column]
        rest = values[values != middle[column]]
        if len(rest):
            quartiles = np.quantile(rest, [0.25, 0.75])
            low[column], high[column] = min(quartiles[0], middle[column]), max(quartiles[1], middle[column])
    reach = _REACH * (high - low)
    with np.errstate(over="ignore"):
        return (low - reach) * unit, (high + reach) * unit


def _extremes(blocks: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    scaler = MinMaxScaler()
    with np.errstate(all="ignore"):
        for columns in blocks:
            scaler.partial_fit(columns)
    return scaler.data_min_, scaler.data_max_


def _moments(blocks: Iterable[np.ndarray], some: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns; the deviation of a constant column is exactly 0.

    Values are divided by a large value of ``some`` and shifted by a typical one, so that an offset costs no digits and no
    square leaves the range of float64.
    """
    scaler, unit = StandardScaler(copy=False), _power_of_two(np.abs(some).max(axis=0))
    shift = np.median(some / unit, axis=0)
    for columns in blocks:
        with np.errstate(over="ignore"):
            scaler.partial_fit(np.clip(columns / unit - shift, -1e100, 1e100))
    with np.errstate(over="ignore"):
        return np.clip((scaler.mean_ + shift) * unit, -_LARGEST, _LARGEST), np.minimum(np.sqrt(scaler.var_) * unit, _LARGEST)


def _power_of_two(values: np.ndarray) -> np.ndarray:
    """The largest power of two that is not above each value; 1 for 0. Division by a power of two is exact."""
    _, exponents = np.frexp(values)
    return np.where(values > 0, np.ldexp(1.0, exponents - 1), 1.0)


def _light_units(X: Samples, layout: Layout, training_mask: np.ndarray | None) -> Tensor | None:
    """Units of the logarithms of channels that are never negative, infinite for others; None if all are infinite."""
    columns = _flat(_some_samples(X, layout, training_mask, _TAIL_NUMBERS))
    largest = columns.max(axis=0)
    units = np.where((columns.min(axis=0) >= 0) & (largest > 0), np.maximum(_LIGHT * largest, _SMALLEST), np.inf)
    return torch.from_numpy(units.reshape(unit_shape(layout.sample_shape, False))) if np.isfinite(units).any() else None


def _learn_contrast(X: Samples, layout: Layout, training_mask: np.ndarray | None, scaling: Scaling) -> Scaling:
    unit, mean, deviation, count = None, 0.0, 0.0, 0
    for samples in map(scaling.log, _sample_blocks(X, layout, training_mask)):
        if unit is None:
            unit = float(_power_of_two(samples.abs().max().numpy()))
        deviations, means = torch.std_mean((samples / unit).clamp_(-1e100, 1e100).flatten(1), dim=1, correction=0)
        mean, deviation, count = mean + float(means.sum()), deviation + float(deviations.sum()), count + len(samples)
    if unit is None or deviation == 0:
        return learn_scaling(X, layout, "standard", training_mask)
    center, scale = (np.array(min(value / count * unit, _LARGEST)) for value in (mean, deviation))
    scaling.learn_units(center, np.maximum(scale, np.nextafter(0, 1)))
    scaling.learn(mean_sample=torch.zeros(layout.sample_shape, dtype=torch.float64))
    total = torch.zeros(layout.sample_shape, dtype=torch.float64)
    for samples in _sample_blocks(X, layout, training_mask):
        total = total + scaling(samples).double().sum(dim=0)
    scaling.learn(mean_sample=total / count)
    return scaling


def _heavy_tails(X: Samples, layout: Layout, shape: tuple[int, ...], training_mask: np.ndarray | None) -> Tensor | None:
    """Units of the columns that are never negative and have a heavy tail, infinite for the others; None if there are none.

    The unit is the 5 % quantile of the positive values, so that logarithms compare amounts by their ratios.
    """
    columns = _flat(_some_samples(X, layout, training_mask, _TAIL_NUMBERS))
    unit = _power_of_two(np.abs(columns).max(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        fourth = columns / unit
        fourth -= fourth.mean(axis=0)
        fourth /= fourth.std(axis=0)
        np.square(np.square(fourth, out=fourth), out=fourth)
        excess = fourth.mean(axis=0) - 3
    log_unit = np.full(columns.shape[1], np.inf)
    for column in np.flatnonzero((columns.min(axis=0) >= 0) & (excess > _EXCESS[1])):
        values = columns[columns[:, column] > 0, column]
        small = max(np.quantile(values, _UNIT), _SMALLEST)
        if excess[column] > _EXCESS[0] or values.max() / 100 > small:
            log_unit[column] = small
    return torch.from_numpy(log_unit.reshape(shape)) if np.isfinite(log_unit).any() else None


def _some_samples(X: Samples, layout: Layout, training_mask: np.ndarray | None, numbers: int) -> Tensor:
    kept = np.arange(X.shape[0]) if training_mask is None else np.flatnonzero(training_mask)
    enough = max(1, min(_TAIL_ROWS, numbers // math.prod(layout.sample_shape)))
    return layout.to_network(_float64(X[kept[:: max(1, len(kept) // enough)]]))


def _flat(samples: Tensor) -> np.ndarray:
    """Values by column or channel: (n, channels)."""
    return samples.movedim(1, -1).reshape(-1, samples.shape[1]).numpy()


def _sample_blocks(X: Samples, layout: Layout, training_mask: np.ndarray | None) -> Iterator[Tensor]:
    for start, block in row_blocks(X):
        if training_mask is not None:
            block = block[training_mask[start : start + len(block)]]
        if len(block):
            yield layout.to_network(_float64(block))


def _float64(block: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(block, dtype=np.float64))

"""A warning where samples to score come in other units than the training samples, such as bytes and floats from 0 to 1."""

import math

import numpy as np
import torch

from skmemae._data.layout import Layout
from skmemae._data.sources import RowSource, Samples
from skmemae._model.scaling import Scaling
from skmemae._runtime import warn_caller

_FAR = 50.0  # bytes are 255 times as large as floats from 0 to 1
_SHARE = 0.9  # of the samples, which must all be far from the training samples
_LOOKED_AT = 100, 2**22  # samples, and numbers, at most; two samples in any case
_LARGEST_LOG = 600.0
_LARGEST = 1e100  # of scaled values, whose squares are finite


def warn_of_other_units(X: Samples, layout: Layout, scaling: Scaling) -> None:
    """Warn if images or clips have values, and deviations, far smaller or far larger than those of the training samples.

    A single sample gives no warning, because it may just be an abnormal one. Nor do samples of integers that are too small,
    which are dark: other units would have fractions. The scaling tells nothing about training if it is off.

    Parameters
    ----------
    X : array-like of shape (n_samples, \\*array_shape)
        At most a hundred samples are looked at: the first ones if they are made on request, else samples spread over X.
    layout : Layout
    scaling : Scaling
        Center and scale of the training samples.
    """
    if layout.family == "fc" or len(X) < 2:
        return
    center, scale = (unit.numpy(force=True) for unit in (scaling.center, scaling.scale))
    if scaling.log_unit is not None:
        unit = scaling.log_unit.numpy(force=True)
        center = np.where(np.isinf(unit), center, unit * np.expm1(np.minimum(center, _LARGEST_LOG)))
        scale = np.where(np.isinf(unit), scale, scale * (center + unit))  # to first order
    if (center == 0).all() and (scale == 1).all():  # no scaling
        return
    count = max(2, min(_LOOKED_AT[0], _LOOKED_AT[1] // math.prod(layout.sample_shape)))
    some = np.array(X[:count] if isinstance(X, RowSource) else X[:: -(-len(X) // count)], dtype=np.float64)
    samples = layout.to_network(torch.from_numpy(some)).numpy()
    places = tuple(range(2, samples.ndim))
    with np.errstate(over="ignore"):
        deviations = np.clip(samples / scale, -_LARGEST, _LARGEST).std(axis=places).mean(axis=1)  # channels may lie far apart
        sizes = np.abs(samples).max(axis=(1, *places)) / (np.abs(center) + 2 * scale).max()
    factors = np.minimum(deviations, sizes), np.maximum(deviations, sizes)
    are_larger = np.quantile(factors[0], 1 - _SHARE, method="lower") > _FAR
    smaller = np.quantile(factors[1], _SHARE, method="higher")
    if are_larger or (0 < smaller < 1 / _FAR and X.dtype.kind == "f"):
        warn_caller(
            f"X has values from {some.min():.3g} to {some.max():.3g}, but those of the training samples were about "
            f"{center.mean():.3g}, give or take {scale.mean():.3g}. Give samples in the units of those of fit: bytes from 0 to "
            "255 and floats from 0 to 1 do not go together."
        )

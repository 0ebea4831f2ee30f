"""Whether images show a surface, such as a texture or a part that is always photographed alike, or objects that differ."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.layout import Layout
from skmemae._data.sources import Samples

_LOOKED_AT, _FEWEST = 200, 10  # images
_NUMBERS = 2**24  # of them at most
_LEAST_SIDE = 16  # pixels; smaller images have no texture
_VARIED = 0.66  # variation of the contents of surfaces is smaller
_RANGE = 0.001, 0.999  # quantiles of all values
_DARK = 0.03  # added before logarithms of values from 0 to 1
_PLAIN = 0.02  # share of the mean contrast of an image that is added to that of a place
_COARSE, _FINE = (32, 4, False), (64, 8, True)  # smaller side, places along a side, and whether logarithms are compared


def shows_surface(X: Samples, layout: Layout) -> bool:
    """Whether the contents of images vary little from image to image.

    Flaws are the usual anomalies of surfaces and of parts in a fixed place, which a comparison of patches finds. Objects that
    differ are told from other objects by their form.
    """
    if layout.family != "conv2d" or min(layout.place_shape) < _LEAST_SIDE or len(X) < _FEWEST:
        return False
    count = max(_FEWEST, min(_LOOKED_AT, _NUMBERS // math.prod(layout.sample_shape)))
    block = np.array(X[np.arange(0, len(X), -(-len(X) // count))], dtype=np.float64)
    images = layout.to_network(torch.from_numpy(block))
    return variation(images) < _VARIED


def variation(images: Tensor) -> float:
    """How much the local contrast of images differs from that of other images at the same places, in logarithms.

    It is what the place and the image as a whole do not explain: the deviation of a typical image, geometric mean of a coarse
    and a fine grid of places. As places are parts of an image, it does not depend on the number of pixels.

    Parameters
    ----------
    images : Tensor of shape (n, C, H, W)
        At least two images, finite.

    Returns
    -------
    variation : float
        Not negative. About 0.1 to 0.6 for textures and parts in place, 0.7 to 1.3 for digits and photographs of objects.
    """
    flat = images.flatten()
    low, high = np.quantile(flat[:: max(1, len(flat) // 2**20)].numpy(), _RANGE)
    unit = max(high / 2 - low / 2, float(np.finfo(np.float64).tiny))
    values = ((images / unit - low / unit) / 2).clamp(0, 1).float()
    return float(np.sqrt(np.prod([_deviation(_contrasts(values, *grid)) for grid in (_COARSE, _FINE)])))


def _contrasts(values: Tensor, side: int, places: int, logarithmic: bool) -> Tensor:
    """Logarithms of the mean squared gradients around each place: (n, places * places)."""
    factor = side / min(values.shape[2:])
    size = [max(side, round(length * factor)) for length in values.shape[2:]]
    mode = "area" if factor < 1 else "bilinear"
    values = nn.functional.interpolate(values, size=size, mode=mode)
    if logarithmic:
        values = (values + _DARK).log()
    across, down = values[..., 1:-1, 2:] - values[..., 1:-1, :-2], values[..., 2:, 1:-1] - values[..., :-2, 1:-1]
    grid = round(places * size[0] / side), round(places * size[1] / side)  # of square places
    squares = nn.functional.adaptive_avg_pool2d((across.square() + down.square()).mean(dim=1, keepdim=True), grid)
    contrast = squares.flatten(1)
    return (contrast + _PLAIN * contrast.mean(dim=1, keepdim=True) + 1e-12).log()


def _deviation(contrasts: Tensor) -> float:
    """Deviation within a typical image of what neither the image nor the place explains."""
    rest = contrasts - contrasts.mean(dim=1, keepdim=True)
    rest = rest - rest.mean(dim=0)
    return float(rest.square().mean(dim=1).median().sqrt()) * float(np.sqrt(len(rest) / (len(rest) - 1)))

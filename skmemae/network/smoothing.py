"""Gaussian blur of images and maps."""

import math

import torch
from torch import Tensor, nn


def gaussian_blur(images: Tensor, sigma: float, reach: int | None = None) -> Tensor:
    """Blur the last two axes, with the values at the border continued.

    Parameters
    ----------
    images : Tensor of shape (..., H, W)
    sigma : float
        Deviation in pixels.
    reach : int or None, default=None
        Pixels from its centre at which the Gaussian ends; None for three deviations.
    """
    height, width = images.shape[-2:]
    reach = math.ceil(3 * sigma) if reach is None else reach
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    padded = nn.functional.pad(images.reshape(-1, 1, height, width), (reach,) * 4, mode="replicate")
    blurred = nn.functional.conv2d(nn.functional.conv2d(padded, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return blurred.reshape(images.shape)

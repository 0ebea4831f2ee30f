"""Gaussian blur."""

import pytest
import torch
from scipy import ndimage

from skmemae.network.smoothing import gaussian_blur


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(9, 13), (2, 1, 12), (3, 2, 20, 7), (1, 2, 3, 8, 8)])
@pytest.mark.parametrize("sigma, reach", [(0.5, None), (1.5, 4), (6.0, None)])
def test_the_last_two_axes_are_blurred_as_scipy_does(shape, sigma, reach):
    x = images(*shape)
    radius = -(-3 * sigma // 1) if reach is None else reach
    sigmas = (*[0] * (x.ndim - 2), sigma, sigma)
    radii = (*[0] * (x.ndim - 2), int(radius), int(radius))
    expected = ndimage.gaussian_filter(x.numpy(), sigmas, mode="nearest", radius=radii)
    torch.testing.assert_close(gaussian_blur(x, sigma, reach), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


def test_constant_images_stay_as_they_are():
    torch.testing.assert_close(gaussian_blur(torch.full((2, 5, 5), 7.0), 2.0), torch.full((2, 5, 5), 7.0))

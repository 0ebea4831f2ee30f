"""The three families of encoder and decoder, fully connected, 2-D and 3-D convolutional, and a fast one for clips."""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

_CONVOLUTION = {2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)}


class Backbone(NamedTuple):
    """An encoder and the decoder that undoes it."""

    encoder: nn.Module
    decoder: nn.Module


class Layer(NamedTuple):
    """A convolution as the paper writes it, Conv(kernel, stride, channels)."""

    kernel: int
    stride: int | tuple[int, ...]  # one for all axes, or one for each
    channels: int

    def strides(self, n_axes) -> tuple[int, ...]:
        """One for each axis."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * n_axes


def fully_connected(sample_shape, widths, activation=lambda: nn.LeakyReLU(0.1), bare_code=True) -> Backbone:
    """Linear layers d - widths[0] - ... - widths[-1] and back, with an activation after each but the last.

    Samples of any shape are flattened on the way in and get their shape back on the way out.

    Parameters
    ----------
    sample_shape, widths : tuple of int
    activation : callable
        Makes an activation module.
    bare_code : bool, default=True
        No activation after the encoder's last layer.
    """
    sizes = (math.prod(sample_shape), *widths)
    encoder: list[nn.Module] = [nn.Flatten()]
    decoder: list[nn.Module] = []
    for before, after in pairwise(sizes):
        encoder += [nn.Linear(before, after), activation()]
    for before, after in pairwise(sizes[::-1]):
        decoder += [nn.Linear(before, after), activation()]
    if bare_code:
        encoder.pop()
    return Backbone(nn.Sequential(*encoder), nn.Sequential(*decoder[:-1], nn.Unflatten(1, tuple(sample_shape))))


def convolutional(sample_shape, widths, bottleneck: bool) -> Backbone:
    """Convolutions of stride 2 with batch normalisation and LeakyReLU, mirrored by transposed convolutions.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, \\*positions) with two positions axes for images and three for clips; any sizes.
    widths : tuple of int
        Channels of the layers. With ``bottleneck`` the last number is the width of a linear code instead.
    bottleneck : bool
        End in a linear layer that sees the whole sample: one query per sample, narrower than the sample.
    """
    channels = widths[:-1] if bottleneck else widths
    layers = [Layer(3, 2, c) for c in channels]
    mirrored = [Layer(3, 2, c) for c in (*channels[-2::-1], sample_shape[0])]
    if not bottleneck:
        return stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1))
    encoder, decoder = stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1), bare_code=False)
    map_shape = (channels[-1], *position_sizes(sample_shape, layers)[-1])
    numbers = math.prod(map_shape)
    norm = _CONVOLUTION[len(sample_shape) - 1][2]
    return Backbone(
        nn.Sequential(encoder, nn.Flatten(), nn.Linear(numbers, widths[-1])),
        nn.Sequential(
            nn.Linear(widths[-1], numbers), nn.Unflatten(1, map_shape), norm(channels[-1]), nn.LeakyReLU(0.1), decoder
        ),
    )


def frames_as_channels(sample_shape, widths=(48, 96, 128, 128)) -> Backbone:
    """Clips by 2-D convolutions that see all frames at once, at a fraction of the cost of 3-D ones.

    The second and the third of four layers have stride 2, so what moves keeps its place.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, frames, height, width)
    widths : tuple of four int, default=(48, 96, 128, 128)
        Channels of the layers, of which the last is the width of a query.
    """
    channels, frames, *size = sample_shape
    strides = (1, 2, 2, 1)
    layers = [Layer(3, stride, width) for stride, width in zip(strides, widths, strict=True)]
    outputs = (*widths[-2::-1], channels * frames)
    mirrored = [Layer(3, stride, width) for stride, width in zip(strides[::-1], outputs, strict=True)]
    encoder, decoder = stacked_convolutions((channels * frames, *size), layers, mirrored, lambda: nn.LeakyReLU(0.1))
    return Backbone(
        nn.Sequential(nn.Flatten(1, 2), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (channels, frames))),
    )


def stacked_convolutions(sample_shape, layers, mirrored, activation, bare_code=True) -> Backbone:
    """Encoder and decoder from lists of layers, with batch normalisation and an activation after each but the last.

    Parameters
    ----------
    sample_shape : tuple of int
    layers, mirrored : list of Layer
        Of the encoder and of the decoder; the decoder undoes the encoder's strides in reverse order.
    activation : callable
        Makes an activation module.
    bare_code : bool, default=True
        No batch normalisation and activation after the encoder's last layer: a rectified query loses half of the
        directions that the memory could tell apart.
    """
    conv, transposed, norm = _CONVOLUTION[len(sample_shape) - 1]
    sizes = position_sizes(sample_shape, layers)
    encoder, decoder, before = [], [], sample_shape[0]
    # A bias before batch normalisation changes nothing, but its gradient is noise, which Adam makes as large as any other.
    for step, (kernel, stride, after) in enumerate(layers, start=1):
        bias = bare_code and step == len(layers)
        encoder += [conv(before, after, kernel, stride, padding=kernel // 2, bias=bias), norm(after), activation()]
        before = after
    for step, layer in enumerate(mirrored):
        kernel, stride, after = layer
        strides = zip(sizes[-1 - step], layer.strides(len(sizes[0])), sizes[-2 - step], strict=True)
        # What a transposed convolution falls short of the larger map, so that odd sizes come back exactly.
        padding = kernel // 2
        missing = [large - ((small - 1) * stride - 2 * padding + kernel) for small, stride, large in strides]
        options = {"padding": padding, "output_padding": tuple(missing), "bias": step == len(mirrored) - 1}
        decoder += [transposed(before, after, kernel, stride, **options), norm(after), activation()]
        before = after
    return Backbone(nn.Sequential(*(encoder[:-2] if bare_code else encoder)), nn.Sequential(*decoder[:-2]))


def position_sizes(sample_shape, layers) -> list[tuple[int, ...]]:
    """Sizes of the positions axes before the first layer and after each."""
    sizes = [tuple(sample_shape[1:])]
    for layer in layers:
        sizes.append(tuple(-(-size // stride) for size, stride in zip(sizes[-1], layer.strides(len(sizes[-1])), strict=True)))
    return sizes


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fill every parameter of the module's standard layers from one generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            fan_in = layer.weight[0].numel() if not getattr(layer, "transposed", False) else layer.weight[:, 0].numel()
            bound = 1 / math.sqrt(fan_in)
            _uniform(layer.weight, math.sqrt(3) * bound, generator)
            if layer.bias is not None:
                _uniform(layer.bias, bound, generator)
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.reset_running_stats()
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    nn.init.uniform_(parameter, -bound, bound, generator=generator)

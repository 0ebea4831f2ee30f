"""Encoders and decoders: fully connected, alone and side by side, 2-D and 3-D convolutional, and 2-D ones for clips."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_MOST_PIXELS = 64  # root of the number of pixels that the networks of images see; pixels of larger images are averaged
_CONVOLUTION: dict[int, tuple[type[Any], type[Any], type[Any]]] = {
    2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d),
}


class Backbone(NamedTuple):
    """An encoder, the decoder that inverts it, and the number of memory heads."""

    encoder: nn.Module
    decoder: nn.Module
    heads: int = 1  # parts of a query, each of which the memory addresses on its own


class Layer(NamedTuple):
    """Convolution in the paper's notation, Conv(kernel, stride, channels)."""

    kernel: int
    stride: int | tuple[int, ...]  # for all axes, or a tuple with one for each
    channels: int

    def strides(self, n_axes: int) -> tuple[int, ...]:
        """Strides, one for each axis."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * n_axes


def fully_connected(
    sample_shape: Sequence[int],
    widths: Sequence[int],
    activation: Callable[[], nn.Module] = lambda: nn.LeakyReLU(0.1),
    bare_code: bool = True,
) -> Backbone:
    """Fully connected backbone d - widths[0] - ... - widths[-1] and back, with an activation after each layer but the last.

    The encoder flattens samples of any shape; the decoder restores the shape.

    Parameters
    ----------
    sample_shape : tuple of int
    widths : tuple of int
        Output widths of the encoder's layers.
    activation : callable
        Returns an activation module.
    bare_code : bool, default=True
        Omit the activation after the encoder's last layer.

    Returns
    -------
    backbone : Backbone
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


class MemberLinear(nn.Module):
    """Linear layers side by side, one for each member: (members, rows, before) -> (members, rows, after)."""

    def __init__(self, members: int, before: int, after: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(members, before, after))
        self.bias = nn.Parameter(torch.empty(members, 1, after))

    def forward(self, x: Tensor, columns: slice = slice(None)) -> Tensor:
        return torch.baddbmm(self.bias[..., columns], x, self.weight[..., columns])


def member_layers(members: int, sizes: tuple[int, ...]) -> nn.Sequential:
    """Fully connected layers of several members side by side, with an activation after each layer but the last.

    Parameters
    ----------
    members : int
    sizes : tuple of int
        Widths before the first layer and after each layer.

    Returns
    -------
    layers : nn.Sequential
        (members, rows, sizes[0]) -> (members, rows, sizes[-1])
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [MemberLinear(members, before, after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers[:-1])


def usual_pixel_size(sample_shape: Sequence[int]) -> int:
    """How many pixels of an image, (C, H, W), are averaged along each side, so that at most about 64 x 64 are left."""
    return max(1, round(math.sqrt(math.prod(sample_shape[1:])) / _MOST_PIXELS))


def averaged_shape(sample_shape: Sequence[int], pixel_size: int) -> tuple[int, ...]:
    """Shape of an image whose pixels are averaged."""
    return (sample_shape[0], *(-(-side // pixel_size) for side in sample_shape[1:]))


def averages(x: Tensor, pixel_size: int) -> Tensor:
    """Images of averages of pixels: (batch, \\*sample_shape) -> (batch, \\*averaged_shape(sample_shape, pixel_size))."""
    if pixel_size == 1:
        return x
    return nn.functional.avg_pool2d(x, pixel_size, ceil_mode=True, count_include_pad=False)


def convolutional(sample_shape: Sequence[int], widths: Sequence[int], bottleneck: bool, pixel_size: int = 1) -> Backbone:
    """Convolutional backbone: stride 2, batch normalisation and LeakyReLU, mirrored by transposed convolutions.

    Layers that see averages of pixels cost less, and a decoder of averages cannot copy fine detail.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, height, width) for images or (channels, frames, height, width) for clips, of any size.
    widths : tuple of int
        Output channels of the encoder's layers. With ``bottleneck`` the last number is the width of the linear layer.
    bottleneck : bool
        End the encoder in a linear layer over the whole sample, for one query per sample.
    pixel_size : int, default=1
        For images: the encoder sees means of squares of so many pixels a side, and what the decoder reconstructs of them is
        interpolated to all pixels.

    Returns
    -------
    backbone : Backbone
    """
    if pixel_size > 1:
        encoder, decoder, heads = convolutional(averaged_shape(sample_shape, pixel_size), widths, bottleneck)
        average = nn.AvgPool2d(pixel_size, ceil_mode=True, count_include_pad=False)
        interpolate = nn.Upsample(tuple(sample_shape[1:]), mode="bilinear")
        return Backbone(nn.Sequential(average, encoder), nn.Sequential(decoder, interpolate), heads)
    channels = widths[:-1] if bottleneck else widths
    layers = [Layer(3, 2, c) for c in channels]
    mirrored = [Layer(3, 2, c) for c in (*channels[-2::-1], sample_shape[0])]
    if not bottleneck:
        return stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1))
    encoder, decoder, _ = stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1), bare_code=False)
    map_shape = (channels[-1], *position_sizes(sample_shape, layers)[-1])
    map_size = math.prod(map_shape)
    norm = _CONVOLUTION[len(sample_shape) - 1][2]
    return Backbone(
        nn.Sequential(encoder, nn.Flatten(), nn.Linear(map_size, widths[-1])),
        nn.Sequential(
            nn.Linear(widths[-1], map_size), nn.Unflatten(1, map_shape), norm(channels[-1]), nn.LeakyReLU(0.1), decoder
        ),
    )


def frames_as_channels(sample_shape: Sequence[int], widths: Sequence[int] = (32, 64, 64, 64)) -> Backbone:
    """Backbone for clips that takes frames as channels of 2-D convolutions, at a fraction of the cost of 3-D convolutions.

    Only the second and third of the four layers have stride 2, so that encodings keep the positions of moving objects. The
    memory has a head for every eight numbers of a query, so that a few items can compose many kinds of normal motion.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, frames, height, width)
    widths : tuple of four int, default=(32, 64, 64, 64)
        Output channels of the encoder's layers; the last is the width of a query.

    Returns
    -------
    backbone : Backbone
    """
    channels, frames, *size = sample_shape
    strides = (1, 2, 2, 1)
    layers = [Layer(3, stride, width) for stride, width in zip(strides, widths, strict=True)]
    outputs = (*widths[-2::-1], channels * frames)
    mirrored = [Layer(3, stride, width) for stride, width in zip(strides[::-1], outputs, strict=True)]
    encoder, decoder, _ = stacked_convolutions((channels * frames, *size), layers, mirrored, lambda: nn.LeakyReLU(0.1))
    return Backbone(
        nn.Sequential(nn.Flatten(1, 2), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (channels, frames))),
        heads=max(1, widths[-1] // 8),
    )


def stacked_convolutions(
    sample_shape: Sequence[int],
    layers: list[Layer],
    mirrored: list[Layer],
    activation: Callable[[], nn.Module],
    bare_code: bool = True,
) -> Backbone:
    """Backbone from lists of layers, with batch normalisation and an activation after each layer but the last.

    Parameters
    ----------
    sample_shape : tuple of int
        Channels first.
    layers, mirrored : list of Layer
        Layers of the encoder and of the decoder. The decoder has the encoder's strides in reverse order.
    activation : callable
        Returns an activation module.
    bare_code : bool, default=True
        Omit batch normalisation and activation after the encoder's last layer: rectified queries cover only part of the
        directions that the memory can distinguish.

    Returns
    -------
    backbone : Backbone
    """
    conv, transposed, norm = _CONVOLUTION[len(sample_shape) - 1]
    sizes = position_sizes(sample_shape, layers)
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    before = sample_shape[0]
    # A bias before batch normalisation has no effect. Its gradient is rounding noise, which Adam scales up to full steps.
    for step, (kernel, stride, after) in enumerate(layers, start=1):
        bias = bare_code and step == len(layers)
        encoder += [conv(before, after, kernel, stride, padding=kernel // 2, bias=bias), norm(after), activation()]
        before = after
    for step, layer in enumerate(mirrored):
        kernel, stride, after = layer
        strides = zip(sizes[-1 - step], layer.strides(len(sizes[0])), sizes[-2 - step], strict=True)
        # Output padding makes up for the rounding of odd sizes, so that the decoder restores them exactly.
        padding = kernel // 2
        extra = [large - ((small - 1) * stride - 2 * padding + kernel) for small, stride, large in strides]
        options = {"padding": padding, "output_padding": tuple(extra), "bias": step == len(mirrored) - 1}
        decoder += [transposed(before, after, kernel, stride, **options), norm(after), activation()]
        before = after
    return Backbone(nn.Sequential(*(encoder[:-2] if bare_code else encoder)), nn.Sequential(*decoder[:-2]))


def position_sizes(sample_shape: Sequence[int], layers: list[Layer]) -> list[tuple[int, ...]]:
    """Sizes of the axes other than channels, before the first layer and after each layer."""
    sizes = [tuple(sample_shape[1:])]
    for layer in layers:
        sizes.append(tuple(-(-size // stride) for size, stride in zip(sizes[-1], layer.strides(len(sizes[-1])), strict=True)))
    return sizes


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise the parameters of linear, convolution and batch normalisation layers in place from one generator."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.modules.conv._ConvNd | MemberLinear):
            if isinstance(layer, MemberLinear):
                fan_in = layer.weight.shape[1]
            else:
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

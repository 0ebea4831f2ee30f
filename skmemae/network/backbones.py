"""Encoders and decoders: fully connected, alone and side by side, 2-D and 3-D convolutional, and a fast 2-D one for clips."""

import math
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

_CORRECTION = 0.1  # of the usual size of a decoder's first weights, where it corrects a sample
_CONVOLUTION = {2: (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d)}


class Backbone(NamedTuple):
    """Encoder and the decoder that inverts it."""

    encoder: nn.Module
    decoder: nn.Module


class Layer(NamedTuple):
    """Convolution in the paper's notation, Conv(kernel, stride, channels)."""

    kernel: int
    stride: int | tuple[int, ...]  # for all axes, or a tuple with one for each
    channels: int

    def strides(self, n_axes) -> tuple[int, ...]:
        """Strides, one for each axis."""
        return self.stride if isinstance(self.stride, tuple) else (self.stride,) * n_axes


def fully_connected(sample_shape, widths, activation=lambda: nn.LeakyReLU(0.1), bare_code=True) -> Backbone:
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

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class MemberEncoder(nn.Module):
    """Encoders side by side: (batch, \\*sample_shape) -> (members, batch, C), with the sample in it (members, batch, C + d).

    Samples may have a leading axis of members of their own.
    """

    def __init__(self, layers: nn.Sequential, members: int, n_axes: int, with_sample: bool):
        super().__init__()
        self.layers = layers
        self.members = members
        self.n_axes = n_axes
        self.with_sample = with_sample

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(-self.n_axes)
        flat = flat.expand(self.members, *flat.shape[-2:])
        query = self.layers(flat)
        return torch.cat([query, flat.to(query.dtype)], dim=-1) if self.with_sample else query


class MemberDecoder(nn.Module):
    """Decoders side by side; with the sample in the encoding, what they give is a correction of it."""

    layers: nn.Sequential

    def __init__(self, layers: nn.Sequential, sample_shape: tuple[int, ...], with_sample: bool):
        super().__init__()
        self.layers = layers
        self.sample_shape = tuple(sample_shape)
        self.with_sample = with_sample

    def forward(self, encoding: Tensor) -> Tensor:
        if not self.with_sample:
            return self.layers(encoding).unflatten(-1, self.sample_shape)
        size = math.prod(self.sample_shape)
        query, sample = encoding.split([encoding.shape[-1] - size, size], dim=-1)
        return (sample + self.layers(query)).unflatten(-1, self.sample_shape)


def side_by_side(sample_shape, widths, members: int, with_sample: bool) -> Backbone:
    """Fully connected backbones of several members as one, with an activation after each layer but the last.

    With ``with_sample`` the encoding is a short query, by which the memory addresses, and beside it the sample itself. The
    decoder gives back the sample that the memory has read out, plus a correction that it makes of the read-out query.

    Parameters
    ----------
    sample_shape : tuple of int
    widths : tuple of int
        Output widths of the encoder's layers; the last is the width of the query.
    members : int
    with_sample : bool

    Returns
    -------
    backbone : Backbone
    """
    sizes = (math.prod(sample_shape), *widths)

    def layers(sizes):
        stack: list[nn.Module] = []
        for before, after in pairwise(sizes):
            stack += [MemberLinear(members, before, after), nn.LeakyReLU(0.1)]
        return nn.Sequential(*stack[:-1])

    encoder = MemberEncoder(layers(sizes), members, len(sample_shape), with_sample)
    return Backbone(encoder, MemberDecoder(layers(sizes[::-1]), sample_shape, with_sample))


def convolutional(sample_shape, widths, bottleneck: bool) -> Backbone:
    """Convolutional backbone: stride 2, batch normalisation and LeakyReLU, mirrored by transposed convolutions.

    Parameters
    ----------
    sample_shape : tuple of int
        (channels, height, width) for images or (channels, frames, height, width) for clips, of any size.
    widths : tuple of int
        Output channels of the encoder's layers. With ``bottleneck`` the last number is the width of the linear layer.
    bottleneck : bool
        End the encoder in a linear layer over the whole sample, for one query per sample.

    Returns
    -------
    backbone : Backbone
    """
    channels = widths[:-1] if bottleneck else widths
    layers = [Layer(3, 2, c) for c in channels]
    mirrored = [Layer(3, 2, c) for c in (*channels[-2::-1], sample_shape[0])]
    if not bottleneck:
        return stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1))
    encoder, decoder = stacked_convolutions(sample_shape, layers, mirrored, lambda: nn.LeakyReLU(0.1), bare_code=False)
    map_shape = (channels[-1], *position_sizes(sample_shape, layers)[-1])
    map_size = math.prod(map_shape)
    norm = _CONVOLUTION[len(sample_shape) - 1][2]
    return Backbone(
        nn.Sequential(encoder, nn.Flatten(), nn.Linear(map_size, widths[-1])),
        nn.Sequential(
            nn.Linear(widths[-1], map_size), nn.Unflatten(1, map_shape), norm(channels[-1]), nn.LeakyReLU(0.1), decoder
        ),
    )


def frames_as_channels(sample_shape, widths=(32, 64, 64, 64)) -> Backbone:
    """Backbone for clips of 2-D convolutions with the frames as channels, at a fraction of the cost of 3-D convolutions.

    Only the second and third of the four layers have stride 2, so that codes keep the positions of moving objects.

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
    encoder, decoder = stacked_convolutions((channels * frames, *size), layers, mirrored, lambda: nn.LeakyReLU(0.1))
    return Backbone(
        nn.Sequential(nn.Flatten(1, 2), encoder),
        nn.Sequential(decoder, nn.Unflatten(1, (channels, frames))),
    )


def stacked_convolutions(sample_shape, layers, mirrored, activation, bare_code=True) -> Backbone:
    """Backbone from lists of layers, with batch normalisation and an activation after each layer but the last.

    Parameters
    ----------
    sample_shape : tuple of int
        Channels first.
    layers, mirrored : list of Layer
        Layers of the encoder and of the decoder, whose strides are the encoder's in reverse order.
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
    encoder, decoder, before = [], [], sample_shape[0]
    # A bias before batch normalisation has no effect, but its gradient is noise, which Adam scales up like any other.
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


def position_sizes(sample_shape, layers) -> list[tuple[int, ...]]:
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
    if isinstance(module, MemberDecoder) and module.with_sample:
        with torch.no_grad():  # a small correction to begin with
            last = cast(MemberLinear, module.layers[-1])
            last.weight.mul_(_CORRECTION)
            last.bias.zero_()


def _uniform(parameter: Tensor, bound: float, generator: torch.Generator) -> None:
    nn.init.uniform_(parameter, -bound, bound, generator=generator)

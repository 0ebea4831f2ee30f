"""The networks of section 4 of the paper.

Each function takes the sample shape, channels first, and returns an encoder and a decoder, a ``backbone`` for
``MemAEDetector``. Batch normalisation and ReLU follow every layer except the last; for KDDCUP99, tanh alone.
"""

from collections.abc import Sequence

from torch import nn

from skmemae.network.backbones import Backbone, Layer, fully_connected, stacked_convolutions

MNIST = [(1, 2, 16), (3, 2, 32), (3, 2, 64)], [(3, 2, 64), (3, 2, 32), (3, 2, 1)]
CIFAR10 = [(3, 2, 64), (3, 2, 128), (3, 2, 128), (3, 2, 256)], [(3, 2, 256), (3, 2, 128), (3, 2, 128), (3, 2, 3)]
VIDEO = [(3, 2, 96), (3, 2, 128), (3, 2, 256), (3, 2, 256)], [(3, 2, 256), (3, 2, 256), (3, 2, 128), (3, 2, 1)]
KDDCUP99 = (60, 30, 10, 3)


def mnist(sample_shape: Sequence[int]) -> Backbone:
    """Network for MNIST (section 4.1): three convolutions, the first with kernel 1."""
    return _convolutions(sample_shape, *MNIST)


def cifar10(sample_shape: Sequence[int]) -> Backbone:
    """Network for CIFAR-10 (section 4.1): four convolutions of kernel 3."""
    return _convolutions(sample_shape, *CIFAR10)


def video(sample_shape: Sequence[int]) -> Backbone:
    """Network for video (section 4.2): four 3-D convolutions of kernel 3."""
    return _convolutions(sample_shape, *VIDEO)


def kddcup99(sample_shape: Sequence[int]) -> Backbone:
    """Network for KDDCUP99 (section 4.3): fully connected, 120-60-30-10-3 and back, with tanh."""
    return fully_connected(sample_shape, KDDCUP99, nn.Tanh, bare_code=False)


def _convolutions(sample_shape: Sequence[int], encoder: list[tuple], decoder: list[tuple]) -> Backbone:
    # The output has as many channels as the samples; those of the paper fit its own data.
    kernel, stride, _ = decoder[-1]
    mirrored = [Layer(*layer) for layer in decoder[:-1]] + [Layer(kernel, stride, sample_shape[0])]
    return stacked_convolutions(sample_shape, [Layer(*layer) for layer in encoder], mirrored, nn.ReLU, bare_code=False)

"""The whole network: encoder, memory, decoder."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmemae.network.backbones import Backbone, convolutional, fully_connected, initialise
from skmemae.network.memory import Memory


class Output(NamedTuple):
    """What one pass through the network gives."""

    reconstruction: Tensor  # like the samples
    encoding: Tensor  # (batch, C) or (batch, C, *positions)
    read_out: Tensor | None = None  # like the queries; None without a memory
    entropy: Tensor | None = None  # of the addressing weights, in training: (batch,) or (batch, *positions)
    mass: Tensor | None = None  # what each item carried, in training: (N,)


class MemAE(nn.Module):
    """A memory-augmented autoencoder (figure 2 of the paper).

    The decoder sees the memory's read-out and nothing else of the encoding.

    Parameters
    ----------
    encoder, decoder : nn.Module
    memory : Memory or None, default=None
        None makes the plain autoencoder.
    memory_unit : {"sample", "location"}, default="sample"
        One query per sample (the encoding, flattened) or one per position of the feature map.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import build_network
    >>> network = build_network((1, 8, 8), "conv2d", (8, 16, 4), memory_size=10)
    >>> network(torch.zeros(2, 1, 8, 8)).reconstruction.shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, encoder, decoder, memory=None, memory_unit="sample"):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.memory = memory
        self.memory_unit = memory_unit

    def queries(self, encoding: Tensor) -> Tensor:
        """The encoding as the memory reads it: (batch, C) or (batch, C, \\*positions)."""
        return encoding.flatten(1) if self.memory_unit == "sample" else encoding

    def forward(self, x: Tensor) -> Output:
        encoding = self.encoder(x)
        if self.memory is None:
            return Output(self.decoder(encoding), encoding)
        read_out, entropy, mass = self.memory(self.queries(encoding))
        return Output(self.decoder(read_out.reshape(encoding.shape)), encoding, read_out, entropy, mass)

    def decode_items(self, encoding_shape: tuple[int, ...]) -> Tensor:
        """What each memory item decodes to when it answers alone: (N, \\*sample_shape) (figure 3 of the paper).

        Parameters
        ----------
        encoding_shape : tuple of int
            Shape of one encoding, (C,) or (C, \\*positions).
        """
        items = self.memory.items
        if self.memory_unit == "location":
            items = items.reshape(*items.shape, *[1] * (len(encoding_shape) - 1))
            return self.decoder(items.expand(-1, *encoding_shape))
        return self.decoder(items.reshape(-1, *encoding_shape))


def build_network(
    sample_shape,
    family,
    widths,
    *,
    memory_size,
    memory_unit="sample",
    similarity="cosine",
    temperature=1.0,
    shrink_threshold=1.0,
    memory_heads=1,
    generator=None,
) -> MemAE:
    """A network with fresh parameters, drawn from ``generator`` alone.

    Parameters
    ----------
    sample_shape : tuple of int
        (d,), (C, H, W) or (C, T, H, W).
    family : {"fc", "conv2d", "conv3d"} or callable
        A callable takes the sample shape and returns an encoder and a decoder.
    widths : tuple of int
    memory_size : int
        0 leaves the memory out.
    memory_unit : {"sample", "location"}, default="sample"
    similarity, temperature, shrink_threshold, memory_heads
        See :class:`skmemae.network.Memory`.
    generator : torch.Generator or None, default=None
        None draws from a generator of seed 0.

    Raises
    ------
    ValueError
        If a backbone's decoder does not give the sample's shape back, or the heads do not divide the width of an item.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if callable(family):
        encoder, decoder = _call_backbone(family, sample_shape, generator)
    else:
        # Made without numbers first: a layer's own initialisation would draw from the global generator.
        with torch.device("meta"):
            encoder, decoder = _known_backbone(family, sample_shape, widths, memory_unit)
        encoder.to_empty(device="cpu")
        decoder.to_empty(device="cpu")
        initialise(encoder, generator)
        initialise(decoder, generator)
    shape = _check_shapes(encoder, decoder, sample_shape)
    if memory_size == 0:
        return MemAE(encoder, decoder, None, memory_unit)
    width = shape.numel() if memory_unit == "sample" else shape[0]
    memory = Memory(
        memory_size,
        width,
        similarity=similarity,
        temperature=temperature,
        shrink_threshold=shrink_threshold,
        heads=memory_heads,
    )
    nn.init.uniform_(memory.items, -(width**-0.5), width**-0.5, generator=generator)
    return MemAE(encoder, decoder, memory, memory_unit)


def build_members(count, **spec) -> nn.ModuleList:
    """Networks of one shape with parameters of their own; ``spec`` as for :func:`build_network`."""
    return nn.ModuleList(build_network(**spec) for _ in range(count))


def _known_backbone(family, sample_shape, widths, memory_unit) -> Backbone:
    if family == "fc":
        return fully_connected(sample_shape, widths)
    return convolutional(sample_shape, widths, bottleneck=memory_unit == "sample")


def _call_backbone(factory, sample_shape, generator):
    """The user's modules, initialised by themselves from a seed of ours; the global generator is put back."""
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return factory(tuple(sample_shape))


def _check_shapes(encoder, decoder, sample_shape) -> torch.Size:
    """Shape of one encoding, from a pass of two blank samples."""
    encoder.eval()
    decoder.eval()
    with torch.inference_mode():
        encoding = encoder(torch.zeros(2, *sample_shape))
        reconstruction = decoder(encoding)
    if tuple(reconstruction.shape[1:]) != tuple(sample_shape):
        raise ValueError(
            f"backbone's decoder gives samples of shape {tuple(reconstruction.shape[1:])}, "
            f"but samples have shape {tuple(sample_shape)}."
        )
    return encoding.shape[1:]

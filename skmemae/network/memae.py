"""The whole network: encoder, memory, decoder."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmemae.network.backbones import Backbone, convolutional, fully_connected, initialise, side_by_side
from skmemae.network.memory import Memory
from skmemae.network.randomness import RandomStream, draw_seed


class Output(NamedTuple):
    """What one pass through the network gives; all with a leading axis of members if the network has one."""

    reconstruction: Tensor  # like the samples
    encoding: Tensor  # (batch, C) or (batch, C, *positions)
    read_out: Tensor | None = None  # like the queries; None without a memory
    entropy: Tensor | None = None  # of the addressing weights, in training: (batch,) or (batch, *positions)
    mass: Tensor | None = None  # what each item carried, in training: (N,)
    hidden: Tensor | None = None  # the item that did not answer, -1 for none: (batch,)


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
    members : int or None, default=None
        Networks side by side in these modules, which then give encodings and reconstructions with a leading axis of members.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import build_network
    >>> network = build_network((1, 8, 8), "conv2d", (8, 16, 4), memory_size=10)
    >>> network(torch.zeros(2, 1, 8, 8)).reconstruction.shape
    torch.Size([2, 1, 8, 8])
    """

    memory: Memory | None

    def __init__(self, encoder, decoder, memory=None, memory_unit="sample", members=None):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.memory = memory
        self.memory_unit = memory_unit
        self.members = members

    def queries(self, encoding: Tensor) -> Tensor:
        """The encoding as the memory reads it: ([members,] batch, C) or (batch, C, \\*positions)."""
        return encoding.flatten(1) if self.memory_unit == "sample" and self.members is None else encoding

    def forward(self, x: Tensor, examples: Tensor | None = None, hidden: Tensor | None = None) -> Output:
        """Reconstruct samples.

        Parameters
        ----------
        x : Tensor of shape (batch, \\*sample_shape)
        examples : Tensor of shape ([members,] N, \\*sample_shape) or None, default=None
            Samples whose encodings answer in the place of the memory items, with their gradient.
        hidden : Tensor of int of shape ([members,] batch) or None, default=None
            The memory item that must not answer a sample, -1 for none.
        """
        encoding = self.encoder(x)
        if self.memory is None:
            return Output(self.decoder(encoding), encoding)
        items = None if examples is None else self.queries(self.encoder(examples))
        read_out, entropy, mass = self.memory(self.queries(encoding), items, hidden)
        return Output(self.decoder(read_out.reshape(encoding.shape)), encoding, read_out, entropy, mass, hidden)

    def decode_items(self, items: Tensor, encoding_shape: tuple[int, ...]) -> Tensor:
        """Decode memory items as if each answered alone (figure 3 of the paper).

        Parameters
        ----------
        items : Tensor of shape (n, C)
        encoding_shape : tuple of int
            Shape of one encoding, (C,) or (C, \\*positions).

        Returns
        -------
        samples : Tensor of shape (n, \\*sample_shape)
        """
        if self.memory_unit == "location":
            items = items.reshape(*items.shape, *[1] * (len(encoding_shape) - 1))
            return self.decoder(items.expand(-1, *encoding_shape))
        return self.decoder(items.reshape(-1, *encoding_shape))


def build_network(
    sample_shape,
    backbone,
    widths,
    *,
    memory_size,
    memory_unit="sample",
    similarity="cosine",
    temperature=1.0,
    shrink_threshold=1.0,
    memory_heads=1,
    members=None,
    generator=None,
) -> MemAE:
    """Build a network with fresh parameters, drawn from ``generator`` alone.

    Parameters
    ----------
    sample_shape : tuple of int
        (d,), (C, H, W) or (C, T, H, W).
    backbone : {"fc", "conv2d", "conv3d"} or callable
        A callable takes the sample shape and returns an encoder and a decoder.
    widths : tuple of int
        Ignored by a callable.
    memory_size : int
        0 leaves the memory out.
    memory_unit : {"sample", "location"}, default="sample"
    similarity, temperature, shrink_threshold, memory_heads
        See :class:`skmemae.network.Memory`.
    members : int or None, default=None
        None builds one network. A number builds fully connected networks side by side whose memory items are encodings of
        samples, which are not trained (``skmemae.network.backbones.side_by_side``).
    generator : torch.Generator or None, default=None
        None draws from a generator of seed 0.

    Returns
    -------
    network : MemAE
        On the CPU, in evaluation mode.

    Raises
    ------
    TypeError
        If a callable backbone does not return two modules.
    ValueError
        If its decoder does not give the sample's shape back, or the heads do not divide the width of an item.
    """
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    if callable(backbone):
        stream = RandomStream(draw_seed(generator))
        encoder, decoder = _call_backbone(backbone, sample_shape, stream)
        with stream.active():
            shape = _encoding_shape(encoder, decoder, sample_shape)
    else:
        encoder, decoder = _meta_backbone(backbone, sample_shape, widths, memory_unit, members, memory_size)
        for module in (encoder, decoder):
            empty = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in module.state_dict().items()}
            module.load_state_dict(empty, assign=True)
            initialise(module, generator)
        if members is None:
            shape = _encoding_shape(encoder, decoder, sample_shape)
        else:
            shape = torch.Size((widths[-1] + math.prod(sample_shape),))
    width = shape.numel() if memory_unit == "sample" else shape[0]
    memory = _memory(
        width,
        memory_size,
        similarity,
        temperature,
        shrink_threshold,
        memory_heads,
        members,
        None if members is None else widths[-1],
    )
    if memory is not None:
        nn.init.uniform_(memory.items, -(width**-0.5), width**-0.5, generator=generator)
    return MemAE(encoder, decoder, memory, memory_unit, members).eval()


def restore_network(parameters, sample_shape, backbone, widths, *, memory_unit="sample", members=None, **memory) -> MemAE:
    """Build a network around parameters that are there already; runs no computation, so that no thread of torch starts.

    Parameters
    ----------
    parameters : dict of str to Tensor
        The ``state_dict`` of the network.
    sample_shape, backbone, widths, memory_unit, members, **memory
        Those of :func:`build_network`, without the generator.

    Returns
    -------
    network : MemAE
        On the device of the parameters, in evaluation mode.

    Raises
    ------
    RuntimeError
        If the parameters are not those of such a network.
    """
    if callable(backbone):
        encoder, decoder = _call_backbone(backbone, sample_shape, RandomStream(0))
    else:
        encoder, decoder = _meta_backbone(backbone, sample_shape, widths, memory_unit, members, memory["memory_size"])
    width = parameters["memory.items"].shape[-1] if memory["memory_size"] else 0
    key_width = None if members is None else widths[-1]
    with torch.device("meta"):
        kept = _memory(width, **memory, members=members, key_width=key_width)
        network = MemAE(encoder, decoder, kept, memory_unit, members).eval()
    network.load_state_dict(parameters, assign=True)
    return network


def _memory(
    width,
    memory_size,
    similarity="cosine",
    temperature=1.0,
    shrink_threshold=1.0,
    memory_heads=1,
    members=None,
    key_width=None,
) -> Memory | None:
    if memory_size == 0:
        return None
    memory = Memory(
        memory_size,
        width,
        similarity=similarity,
        temperature=temperature,
        shrink_threshold=shrink_threshold,
        heads=memory_heads,
        members=members,
        key_width=key_width,
    )
    memory.items.requires_grad_(members is None)
    return memory


def _meta_backbone(family, sample_shape, widths, memory_unit, members, memory_size) -> Backbone:
    """A backbone of a known family without numbers: the initialisation of torch's layers draws from the global generator."""
    with torch.device("meta"):
        if members is not None:
            return side_by_side(sample_shape, widths, members, with_sample=memory_size > 0)
        if family == "fc":
            return fully_connected(sample_shape, widths)
        return convolutional(sample_shape, widths, bottleneck=memory_unit == "sample")


def _call_backbone(backbone, sample_shape, stream: RandomStream) -> Backbone:
    """The user's modules, which initialise themselves from the stream."""
    with stream.active():
        pair = backbone(tuple(sample_shape))
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(module, nn.Module) for module in pair)):
        raise TypeError(
            "The 'backbone' parameter must return a pair of torch.nn.Module, the encoder and the decoder. "
            f"Got {pair!r} instead."
        )
    return Backbone(*(module.float() for module in pair))


@torch.no_grad()  # in inference mode a lazy module would get parameters that cannot be trained
def _encoding_shape(encoder, decoder, sample_shape) -> torch.Size:
    """Shape of one encoding, from a pass of two blank samples."""
    encoder.eval()
    decoder.eval()
    encoding = encoder(torch.zeros(2, *sample_shape))
    reconstruction = decoder(encoding)
    if tuple(reconstruction.shape[1:]) != tuple(sample_shape):
        raise ValueError(
            f"The 'backbone' parameter returns a decoder that gives samples of shape {tuple(reconstruction.shape[1:])}, "
            f"but samples have shape {tuple(sample_shape)}."
        )
    return encoding.shape[1:]

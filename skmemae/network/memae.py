"""The networks: encoder, memory, decoder; one alone, or those of several members side by side."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from skmemae.network.backbones import Backbone, MemberLinear, convolutional, fully_connected, initialise, member_layers
from skmemae.network.memory import Memory, RowMemory
from skmemae.network.randomness import RandomStream, draw_seed

_ALL = slice(None)
_CORRECTION = 0.1  # factor of the initial weights of a decoder's last layer, where the decoder corrects a row
Backbones = str | Callable[[tuple[int, ...]], tuple[nn.Module, nn.Module]]


class Output(NamedTuple):
    """Result of one pass through a network; for several members all tensors have a leading axis of members."""

    reconstruction: Tensor  # like the samples
    query: Tensor  # encoding as the memory reads it: (batch, C) or (batch, C, *positions)
    read_out: Tensor | None = None  # of the memory, for the queries; None without a memory
    entropy: Tensor | None = None  # of the addressing weights, in training: (batch,) or (batch, *positions)
    mass: Tensor | None = None  # weights of each item summed over the queries, in training: (N,)


class MemAE(nn.Module):
    """A memory-augmented autoencoder (figure 2 of the paper).

    The decoder receives the read-out of the memory, and not the encoding.

    Parameters
    ----------
    encoder, decoder : nn.Module
    memory : Memory or None, default=None
        None makes the plain autoencoder.
    per_sample : bool, default=True
        One query per sample (the encoding, flattened) rather than one per position of the feature map.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import build_network
    >>> network = build_network((1, 8, 8), "conv2d", (8, 16, 4), memory_size=10)
    >>> network(torch.zeros(2, 1, 8, 8)).reconstruction.shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, memory: Memory | None = None, per_sample: bool = True):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.memory = memory
        self.per_sample = per_sample

    def queries(self, x: Tensor) -> Tensor:
        """Queries of samples: (batch, \\*sample_shape) -> (batch, C) or (batch, C, \\*positions)."""
        encoding = self.encoder(x)
        return encoding.flatten(1) if self.per_sample else encoding

    def forward(self, x: Tensor) -> Output:
        """Reconstruct samples of shape (batch, \\*sample_shape)."""
        encoding = self.encoder(x)
        query = encoding.flatten(1) if self.per_sample else encoding
        if self.memory is None:
            return Output(self.decoder(encoding), query)
        read_out, entropy, mass = self.memory(query)
        return Output(self.decoder(read_out.reshape(encoding.shape)), query, read_out, entropy, mass)

    def without_memory(self) -> "MemAE":
        """The plain autoencoder with the same encoder and decoder."""
        return MemAE(self.encoder, self.decoder)

    def decode_items(self, items: Tensor, sample_shape: Sequence[int]) -> Tensor:
        """Decode memory items as if each answered alone (figure 3 of the paper).

        Parameters
        ----------
        items : Tensor of shape (n, C)
        sample_shape : sequence of int

        Returns
        -------
        samples : Tensor of shape (n, \\*sample_shape)
        """
        encoding_shape = self.encoder(items.new_zeros(1, *sample_shape)).shape[1:]
        if not self.per_sample:
            items = items.reshape(*items.shape, *[1] * (len(encoding_shape) - 1))
        return self.decoder(items.expand(-1, *encoding_shape) if not self.per_sample else items.reshape(-1, *encoding_shape))


class RowMemAE(nn.Module):
    """Autoencoders of vectors, several members side by side, with a memory of rows or without a memory.

    The encoder turns a row into a short query. The reconstruction is the mixture of rows that the memory reads out, plus a
    correction that the decoder computes from the mixture of their keys. Without a memory the decoder decodes the query.

    Parameters
    ----------
    row_width : int
        Numbers of a row.
    widths : sequence of int
        Output widths of the encoder's layers; the last is the width of the query.
    members : int
    memory : RowMemory or None, default=None

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import RowMemAE
    >>> network = RowMemAE(row_width=6, widths=(4,), members=3)
    >>> network(torch.zeros(2, 6)).reconstruction.shape
    torch.Size([3, 2, 6])
    """

    def __init__(self, row_width: int, widths: Sequence[int], members: int, memory: RowMemory | None = None):
        super().__init__()
        sizes = (row_width, *widths)
        self.encoder = member_layers(members, sizes)
        self.decoder = member_layers(members, sizes[::-1])
        self.memory = cast(RowMemory, memory)  # None without a memory
        self.members = members

    def queries(self, x: Tensor) -> Tensor:
        """Queries of rows, (batch, d), or of separate rows for each member, (members, batch, d): (members, batch, C)."""
        return self.encoder(x.expand(self.members, *x.shape[-2:]))

    def forward(self, x: Tensor, hidden: Tensor | None = None, examples: Tensor | None = None, columns: slice = _ALL) -> Output:
        """Reconstruct rows.

        Parameters
        ----------
        x : Tensor of shape (batch, d)
        hidden : Tensor of int of shape (members, batch) or None, default=None
            The memory item that is left out for a row, -1 for none.
        examples : Tensor of shape (members, n, d) or None, default=None
            Rows to use in place of those of the memory; gradients flow through their keys, which the encoder makes.
        columns : slice, default=slice(None)
            Columns of the rows to reconstruct.
        """
        query = self.queries(x)
        if self.memory is None:
            return Output(self.decoder(query)[..., columns], query)
        items = None
        if examples is not None:
            keys = self.queries(examples)
            items = keys, examples[..., columns].to(keys.dtype)
        elif columns != _ALL:
            items = self.memory.keys, self.memory.rows[..., columns]
        read_out, entropy, mass = self.memory(query, items, hidden)
        return Output(self.decode(read_out, columns), query, read_out, entropy, mass)

    def decode(self, read_out: Tensor, columns: slice = _ALL) -> Tensor:
        """Reconstruct rows, or some columns of them, from read-outs: (members, batch, C + d) -> (members, batch, d)."""
        width = cast(MemberLinear, self.decoder[0]).weight.shape[1]
        key, row = read_out.split([width, read_out.shape[-1] - width], dim=-1)
        last = cast(MemberLinear, self.decoder[-1])
        return row + last(self.decoder[:-1](key), columns)


def build_network(
    sample_shape: Sequence[int],
    backbone: Backbones,
    widths: Sequence[int] | None = None,
    *,
    memory_size: int,
    memory_unit: str = "sample",
    similarity: str = "cosine",
    temperature: float = 1.0,
    shrink_threshold: float = 1.0,
    memory_heads: int = 1,
    pixel_size: int = 1,
    generator: torch.Generator | None = None,
) -> MemAE:
    """Build a network with fresh parameters, drawn from ``generator`` alone.

    Parameters
    ----------
    sample_shape : sequence of int
        (d,), (C, H, W) or (C, T, H, W).
    backbone : {"fc", "conv2d", "conv3d"} or callable
        A callable takes the sample shape and returns an encoder and a decoder, or a
        :class:`~skmemae.network.backbones.Backbone`, which also has the number of memory heads.
    widths : sequence of int or None, default=None
        Ignored by a callable.
    memory_size : int
        0 leaves the memory out.
    memory_unit : {"sample", "location"}, default="sample"
    similarity, temperature, shrink_threshold, memory_heads
        See :class:`skmemae.network.Memory`.
    pixel_size : int, default=1
        How many pixels of a side are averaged for the first layer, of images alone.
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
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    settings: dict[str, Any] = {"similarity": similarity, "temperature": temperature, "shrink_threshold": shrink_threshold}
    per_sample = memory_unit == "sample"
    if callable(backbone):
        stream = RandomStream(draw_seed(generator))
        encoder, decoder, heads = call_backbone(backbone, sample_shape, stream)
        with stream.active():
            shape = _encoding_shape(encoder, decoder, sample_shape)
    else:
        encoder, decoder, heads = meta_backbone(backbone, sample_shape, widths or (), per_sample, pixel_size)
        heads = memory_heads
        for module in (encoder, decoder):
            fill_empty(module)
            initialise(module, generator)
        shape = _encoding_shape(encoder, decoder, sample_shape)
    memory = None
    if memory_size:
        memory = Memory(memory_size, shape.numel() if per_sample else shape[0], heads=heads, **settings)
        draw_items(memory.items, generator)
    return MemAE(encoder, decoder, memory, per_sample).eval()


def build_row_network(
    row_width: int,
    widths: Sequence[int],
    members: int,
    memory_size: int,
    generator: torch.Generator,
    **settings: Any,
) -> RowMemAE:
    """Build networks of members side by side with fresh parameters, drawn from ``generator`` alone.

    Parameters
    ----------
    row_width, widths, members
        See :class:`RowMemAE`.
    memory_size : int
        0 leaves the memory out.
    generator : torch.Generator
    **settings
        Of :class:`skmemae.network.RowMemory`: ``similarity``, ``temperature`` and ``shrink_threshold``.

    Returns
    -------
    network : RowMemAE
        On the CPU, in evaluation mode. Its memory holds random numbers.
    """
    with torch.device("meta"):
        memory = RowMemory(members, memory_size, widths[-1], row_width, **settings) if memory_size else None
        network = RowMemAE(row_width, widths, members, memory)
    fill_empty(network)
    for module in (network.encoder, network.decoder):
        initialise(module, generator)
    if network.memory is not None:
        with torch.no_grad():  # a small correction to begin with
            last = cast(MemberLinear, network.decoder[-1])
            last.weight.mul_(_CORRECTION)
            last.bias.zero_()
        items = torch.empty(members, memory_size, widths[-1] + row_width)
        draw_items(items, generator)
        network.memory.keys, network.memory.rows = (part.clone() for part in items.split([widths[-1], row_width], dim=2))
    return network.eval()


def draw_items(items: Tensor, generator: torch.Generator) -> None:
    """Fill memory items of shape (..., C) with random numbers, in place."""
    bound = items.shape[-1] ** -0.5
    nn.init.uniform_(items, -bound, bound, generator=generator)


def fill_empty(module: nn.Module) -> None:
    """Replace the tensors of a module on the meta device by uninitialised ones on the CPU."""
    empty = {name: torch.empty(value.shape, dtype=value.dtype) for name, value in module.state_dict().items()}
    module.load_state_dict(empty, assign=True)


def meta_backbone(
    family: str, sample_shape: Sequence[int], widths: Sequence[int], per_sample: bool, pixel_size: int = 1
) -> Backbone:
    """A backbone of a known family on the meta device, so that torch's layers draw no random numbers."""
    with torch.device("meta"):
        if family == "fc":
            return fully_connected(sample_shape, widths)
        return convolutional(sample_shape, widths, per_sample, pixel_size)


def call_backbone(backbone: Callable, sample_shape: Sequence[int], stream: RandomStream) -> Backbone:
    """The user's modules, whose initial values are drawn from the stream.

    Raises
    ------
    TypeError
        If the callable returns anything but a pair of modules or a :class:`Backbone`.
    """
    with stream.active():
        found = backbone(tuple(sample_shape))
    pair = found[:2] if isinstance(found, Backbone) else found
    if not (isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(module, nn.Module) for module in pair)):
        raise TypeError(
            "The 'backbone' parameter must return a pair of torch.nn.Module, the encoder and the decoder. "
            f"Got {found!r} instead."
        )
    encoder, decoder = (module.float() for module in pair)
    return Backbone(encoder, decoder, found.heads if isinstance(found, Backbone) else 1)


@torch.no_grad()  # in inference mode a lazy module would get parameters that cannot be trained
def _encoding_shape(encoder: nn.Module, decoder: nn.Module, sample_shape: Sequence[int]) -> torch.Size:
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

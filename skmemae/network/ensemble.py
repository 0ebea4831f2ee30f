"""The networks of all members as one module, with one axis of members."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from skmemae.network.addressing import Use
from skmemae.network.memae import MemAE, Output, RowMemAE, build_network, build_row_network, call_backbone, meta_backbone
from skmemae.network.memory import Memory, RowMemory
from skmemae.network.randomness import RandomStream

_SETTINGS = ("similarity", "temperature", "shrink_threshold")
_ABSENT = {"pixel_size": 1}  # of configs in the first files


class Ensemble(nn.Module):
    """Networks of the same kind and sizes, each a member, or one :class:`RowMemAE` that holds all members.

    Every output has a leading axis of members, also that of a single network.

    Parameters
    ----------
    networks : sequence of MemAE, or of one RowMemAE
    config : dict
        Kinds and sizes, from which :meth:`empty` makes an ensemble of the same shapes: ``sample_shape``, ``backbone``,
        ``widths``, ``members``, ``side_by_side`` (whether one network holds all members), ``memory_size``, ``per_sample``,
        ``memory_heads``, ``query_width``, ``pixel_size`` (1 if it is not there), and settings of the memory.
    """

    def __init__(self, networks: Sequence[MemAE | RowMemAE], config: dict[str, Any]):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.config = {**_ABSENT, **config}

    @classmethod
    def build(cls, config: dict[str, Any], generator: torch.Generator) -> "Ensemble":
        """Fresh networks, all random numbers from the generator; ``query_width`` and ``memory_heads`` are set here."""
        c = {**_ABSENT, **config}
        settings = {name: c[name] for name in _SETTINGS} if c["memory_size"] else {}
        if c["side_by_side"]:
            row = build_row_network(c["sample_shape"][0], c["widths"], c["members"], c["memory_size"], generator, **settings)
            return cls([row], {**c, "query_width": c["widths"][-1]})
        settings |= {"memory_unit": "sample" if c["per_sample"] else "location", "memory_heads": c["memory_heads"]}
        settings |= {"memory_size": c["memory_size"], "pixel_size": c["pixel_size"], "generator": generator}
        shape, backbone, widths = c["sample_shape"], c["backbone"], c["widths"]
        networks = [build_network(shape, backbone, widths, **settings) for _ in range(c["members"])]
        memory = networks[0].memory
        found = {} if memory is None else {"query_width": memory.items.shape[1], "memory_heads": memory.heads}
        return cls(networks, {**c, "query_width": None, **found}).arrange()

    @classmethod
    def empty(cls, config: dict[str, Any]) -> "Ensemble":
        """Networks without values, in evaluation mode, to load a ``state_dict`` into; runs no computation."""
        c = {**_ABSENT, **config}
        networks: list[MemAE | RowMemAE] = []
        settings = {name: c[name] for name in _SETTINGS} if c["memory_size"] else {}
        for _ in range(1 if c["side_by_side"] else c["members"]):
            if c["side_by_side"]:
                with torch.device("meta"):
                    sizes, width = (c["members"], c["memory_size"], c["query_width"]), c["sample_shape"][0]
                    memory = RowMemory(*sizes, width, **settings) if c["memory_size"] else None
                    networks.append(RowMemAE(width, c["widths"], c["members"], memory))
                continue
            if callable(c["backbone"]):
                encoder, decoder, _ = call_backbone(c["backbone"], c["sample_shape"], RandomStream(0))
            else:
                sizes = c["widths"], c["per_sample"], c["pixel_size"]
                encoder, decoder, _ = meta_backbone(c["backbone"], c["sample_shape"], *sizes)
            with torch.device("meta"):
                learned = None
                if c["memory_size"]:
                    learned = Memory(c["memory_size"], c["query_width"], heads=c["memory_heads"], **settings)
                networks.append(MemAE(encoder, decoder, learned, c["per_sample"]))
        return cls(networks, config).eval()

    def arrange(self) -> "Ensemble":
        """Lay out the weights of 2-D convolutions with channels last, which is faster, also after values were loaded."""
        if self.config["backbone"] == "conv2d":
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not declare it
        return self

    @property
    def pixel_size(self) -> int:
        """Pixels of a side that are averaged before the first layer of a network."""
        return self.config["pixel_size"]

    @property
    def of_averages(self) -> list[MemAE | RowMemAE]:
        """The networks without the layers that average pixels and interpolate between averages, with the same parameters."""
        if self.pixel_size == 1:
            return self.all
        parts = [(cast(nn.Sequential, n.encoder)[1], cast(nn.Sequential, n.decoder)[0], n) for n in self.learned]
        return [MemAE(encoder, decoder, n.memory, n.per_sample) for encoder, decoder, n in parts]

    @property
    def all(self) -> list[MemAE | RowMemAE]:
        """The networks as a list."""
        return cast(list[MemAE | RowMemAE], list(self.networks))

    @property
    def learned(self) -> list[MemAE]:
        """The networks, where each is a member."""
        return cast(list[MemAE], list(self.networks))

    @property
    def rows(self) -> RowMemAE | None:
        """The network that holds all members; None where each member is a network."""
        first = self.networks[0]
        return first if isinstance(first, RowMemAE) else None

    @property
    def members(self) -> int:
        """Number of members."""
        return self.config["members"]

    @property
    def memories(self) -> list[Memory | RowMemory]:
        """Memories of the networks; empty without a memory."""
        return [cast(Memory | RowMemory, network.memory) for network in self.networks if network.memory is not None]

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Output:
        """Outputs of all members for samples of shape (batch, \\*sample_shape), with a leading axis of members.

        ``hidden``, (members, batch), holds the memory items that are left out, -1 for none; only for a memory of rows.
        """
        if self.rows is not None:
            return self.rows(x, hidden)
        outputs = [network(x) for network in self.networks]
        return Output(*(_together(list(column)) for column in zip(*outputs, strict=True)))

    def weights(self, query: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Addressing weights of queries as :meth:`forward` gives them: (members, batch, [\\*positions,] N)."""
        if self.rows is not None:
            return self.rows.memory.weights(query, hidden)
        return torch.stack([memory.weights(part) for memory, part in zip(self.memories, query, strict=True)])

    def use(self, x: Tensor, hidden: Tensor | None = None) -> Use:
        """How the queries of each sample use the items: (members, batch, N) and twice (members, batch)."""
        if self.rows is not None:
            return self.rows.memory.use(self.rows.queries(x), hidden)
        uses = [cast(Memory, network.memory).use(network.queries(x)) for network in self.learned]
        return Use(*(torch.stack(column) for column in zip(*uses, strict=True)))

    def items(self) -> Tensor:
        """Memory items of all members, one member after the other: (members * N, C); of rows key, then row."""
        if not self.memories:
            return torch.zeros(0, 0)
        if self.rows is not None:
            return torch.cat([self.rows.memory.keys, self.rows.memory.rows], dim=-1).flatten(0, 1)
        return torch.cat([cast(Memory, memory).items for memory in self.memories])

    def decode_items(self, numbers: Tensor) -> Tensor:
        """Decode single memory items, given by their numbers in :meth:`items`: (n,) -> (n, \\*sample_shape)."""
        member, place = numbers // self.config["memory_size"], numbers % self.config["memory_size"]
        if self.rows is not None:
            memory = self.rows.memory
            items = torch.cat([memory.keys[member, place], memory.rows[member, place]], dim=-1)
            # The decoder computes the results of all members; the one of the item's own member is kept.
            return self.rows.decode(items.expand(self.members, -1, -1))[member, torch.arange(len(numbers), device=items.device)]
        c, decoded = self.config, torch.empty(len(numbers), *self.config["sample_shape"], device=numbers.device)
        for number, network in enumerate(self.learned):
            here = torch.nonzero(member == number).flatten()
            if len(here):
                decoded[here] = network.decode_items(cast(Memory, network.memory).items[place[here]], c["sample_shape"]).float()
        return decoded


def _together(values: list) -> Any:
    """Tensors of the members with a leading axis of members; None of None."""
    if values[0] is None:
        return None
    return values[0].unsqueeze(0) if len(values) == 1 else torch.stack(values)

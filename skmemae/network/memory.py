"""The memory, of learned items or of rows: both answer queries by a sparse mixture of their items."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skmemae.network.addressing import AddressAndReadOut, Keys, Use, hide, prepare_keys, prepare_queries, shrunk_softmax, usage


class Answer(NamedTuple):
    """Read-out of a memory for a batch of queries; a memory of rows has a leading axis of members everywhere."""

    read_out: Tensor  # (batch, C, *positions), like the query; of a memory of rows (members, batch, C + d)
    entropy: Tensor | None  # (batch, *positions), mean over the heads, in nats (equation 9); None outside training
    mass: Tensor | None  # (N,), weights summed over the queries, mean over the heads; None outside training


class _Addressed(nn.Module):
    """Sizes and settings of addressing."""

    def __init__(self, size: int, similarity: str, temperature: float, shrink_threshold: float):
        super().__init__()
        self.size = size
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.keep_best = True

    @property
    def threshold(self) -> float:
        """Lambda: the weight that an item must exceed to be kept."""
        return self.shrink_threshold / self.size

    def _prepared(self, keys: Tensor) -> Keys:
        return prepare_keys(keys, self.similarity, self.temperature)

    def _factors(self, query: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        prepared = self._prepared(keys)
        return prepare_queries(query, prepared, self.similarity, self.temperature), prepared.factors

    def extra_repr(self) -> str:
        return (
            f"size={self.size}, similarity={self.similarity!r}, temperature={self.temperature}, "
            f"shrink_threshold={self.shrink_threshold}"
        )


class Memory(_Addressed):
    """N learned memory items of width C that answer queries of any rank.

    Parameters
    ----------
    size : int
        N, the number of memory items.
    width : int
        C, the width of an item and of a query.
    similarity : {"cosine", "dot", "distance"}, default="cosine"
        Equation 5 of the paper is the cosine; the authors' released code takes the dot product. "distance" is minus the mean
        squared difference, with which addressing is a kernel regression.
    temperature : float, default=1.0
        Divides the similarities before the softmax (equation 4 has 1).
    shrink_threshold : float, default=1.0
        Lambda of equation 6 as a multiple of 1/N; 0 switches shrinkage off. The best item of a query is always kept. Without
        this, a query whose weights all miss the threshold passes no gradient, and whole memories can stop learning.
    heads : int, default=1
        Parts of equal width that query and items are cut into. Each part is addressed and answered on its own, so a few items
        can answer many combinations of their parts. The paper has 1.

    Raises
    ------
    ValueError
        If the width cannot be cut into so many parts.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import Memory
    >>> memory = Memory(size=10, width=4)
    >>> _ = torch.nn.init.normal_(memory.items)
    >>> query = torch.randn(2, 4, 5, 5)
    >>> read_out, entropy, mass = memory(query)
    >>> read_out.shape, entropy.shape, mass.shape
    (torch.Size([2, 4, 5, 5]), torch.Size([2, 5, 5]), torch.Size([10]))
    >>> memory.weights(query).shape
    torch.Size([2, 5, 5, 10])
    """

    def __init__(
        self,
        size: int,
        width: int,
        *,
        similarity: str = "cosine",
        temperature: float = 1.0,
        shrink_threshold: float = 1.0,
        heads: int = 1,
    ):
        super().__init__(size, similarity, temperature, shrink_threshold)
        if width % heads:
            raise ValueError(f"{heads} memory heads do not divide the width of a memory item, which is {width}.")
        self.items = nn.Parameter(torch.empty(size, width))
        self.heads = heads

    def split_heads(self, vectors: Tensor) -> Tensor:
        """Cut vectors into parts, one for each head: (rows, C) -> (heads, rows, C / heads)."""
        return vectors.unflatten(-1, (self.heads, -1)).movedim(-2, 0)

    def logits(self, query: Tensor) -> Tensor:
        """Similarities over temperature, plus a constant of each row: (batch, C, \\*positions) -> (heads, rows, N)."""
        rows = query.movedim(1, -1).flatten(0, -2)
        with torch.autocast(query.device.type, enabled=False):
            query, keys = self._factors(self.split_heads(rows), self.split_heads(self.items))
            return query @ keys.mT

    @torch.no_grad()
    def weights(self, query: Tensor) -> Tensor:
        """Addressing weights, mean over the heads, without gradient: (batch, C, \\*positions) -> (batch, \\*positions, N).

        The weights of a query sum to 1.
        """
        weights, _ = shrunk_softmax(self.logits(query), self.threshold, self.keep_best)
        return weights.mean(dim=0).unflatten(0, (query.shape[0], *query.shape[2:]))

    @torch.no_grad()
    def use(self, query: Tensor) -> Use:
        """How a batch of queries uses the items.

        Parameters
        ----------
        query : Tensor of shape (batch, C, \\*positions)

        Returns
        -------
        used : Tensor of shape (batch, N)
            Share of each sample's queries that use each item, in any head.
        missed : Tensor of shape (batch,)
            Share of each sample's queries and heads whose weights all miss the threshold.
        effective : Tensor of shape (batch,)
            Effective number of items, a mean over each sample's queries and heads.
        """
        found, samples = usage(self.logits(query), self.threshold, self.keep_best), (query.shape[0], -1)
        used = found.used.any(dim=0).unflatten(0, samples).float().mean(dim=1)
        return Use(used, *(values.unflatten(1, samples).float().mean(dim=(0, 2)) for values in found[1:]))

    def forward(self, query: Tensor) -> Answer:
        """Answer queries of shape (batch, C, \\*positions)."""
        rows, positions = query.movedim(1, -1).flatten(0, -2), (query.shape[0], *query.shape[2:])
        with torch.autocast(query.device.type, enabled=False):
            values = self.split_heads(self.items)
            queries, keys = self._factors(self.split_heads(rows), values)
            read_out, entropy, mass = AddressAndReadOut.apply(
                queries, keys, values.to(keys.dtype), None, self.threshold, self.keep_best, self.training
            )
        read_out = read_out.transpose(0, 1).flatten(1).unflatten(0, positions).movedim(-1, 1)
        if entropy is None:
            return Answer(read_out, None, None)
        return Answer(read_out, entropy.mean(dim=0).unflatten(0, positions), mass.mean(dim=0))

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, width={self.items.shape[1]}, heads={self.heads}"


class RowMemory(_Addressed):
    """Memories of several members side by side, whose items are rows of a table: short keys, and the rows themselves.

    A query is compared with the keys of its member. The read-out is the mixture of the items, each a key followed by its row.
    No optimiser moves keys and rows, so in evaluation mode they are prepared for addressing once.

    Parameters
    ----------
    members : int
    size : int
        N, the number of rows in the memory of a member.
    key_width, row_width : int
        Numbers of a key, and of a row.
    similarity : {"cosine", "dot", "distance"}, default="distance"
    temperature, shrink_threshold : float, default=1.0
        See :class:`Memory`.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import RowMemory
    >>> memory = RowMemory(members=3, size=10, key_width=2, row_width=4)
    >>> _ = torch.nn.init.normal_(memory.keys), torch.nn.init.normal_(memory.rows)
    >>> memory(torch.randn(3, 5, 2)).read_out.shape
    torch.Size([3, 5, 6])
    """

    keys: Tensor
    rows: Tensor

    def __init__(
        self,
        members: int,
        size: int,
        key_width: int,
        row_width: int,
        *,
        similarity: str = "distance",
        temperature: float = 1.0,
        shrink_threshold: float = 1.0,
    ):
        super().__init__(size, similarity, temperature, shrink_threshold)
        self.register_buffer("keys", torch.empty(members, size, key_width))
        self.register_buffer("rows", torch.empty(members, size, row_width))
        self._cache: dict[str, tuple[list, Any]] = {}

    def _once(self, name: str, compute: Callable[[], Any], *sources: Tensor) -> Any:
        """The result of ``compute``, kept in evaluation mode without gradients as long as ``sources`` do not change."""
        is_plain = not any(tensor.requires_grad or tensor.is_inference() for tensor in sources)
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling() or not is_plain:
            return compute()
        # The tensors themselves are kept, because a new tensor may get the address of one that was freed.
        before, result = self._cache.get(name, ([], None))
        state = [(tensor, tensor._version, tensor.data_ptr(), tensor.dtype, tensor.shape) for tensor in sources]
        if not (len(before) == len(state) and all(a[0] is b[0] and a[1:] == b[1:] for a, b in zip(before, state, strict=True))):
            with torch.inference_mode(False), torch.no_grad():
                result = compute()
            self._cache[name] = state, result
        return result

    def _prepared(self, keys: Tensor) -> Keys:
        return self._once("keys", lambda: super(RowMemory, self)._prepared(keys), keys)

    def logits(self, query: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Similarities over temperature, plus a constant of each row: (members, batch, C) -> (members, batch, N)."""
        with torch.autocast(query.device.type, enabled=False):
            query, keys = self._factors(query, self.keys)
            return hide(query @ keys.mT, hidden)

    @torch.no_grad()
    def weights(self, query: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Addressing weights without gradient, with sum 1 for each query: (members, batch, C) -> (members, batch, N)."""
        return shrunk_softmax(self.logits(query, hidden), self.threshold, self.keep_best)[0]

    @torch.no_grad()
    def use(self, query: Tensor, hidden: Tensor | None = None) -> Use:
        """How queries, (members, batch, C), use the items: (members, batch, N) and twice (members, batch)."""
        return Use(*(values.float() for values in usage(self.logits(query, hidden), self.threshold, self.keep_best)))

    def forward(self, query: Tensor, examples: tuple[Tensor, Tensor] | None = None, hidden: Tensor | None = None) -> Answer:
        """Answer queries.

        Parameters
        ----------
        query : Tensor of shape (members, batch, C)
        examples : tuple of Tensor or None, default=None
            Keys, (members, n, C), and rows, (members, n, d), to use in place of those of the memory.
        hidden : Tensor of int of shape (members, batch) or None, default=None
            The item that is left out for a query, -1 for none.
        """
        keys, rows = (self.keys, self.rows) if examples is None else examples
        with torch.autocast(query.device.type, enabled=False):
            queries, factors = self._factors(query, keys)
            values = self._once(
                "values", lambda: torch.cat([keys.to(factors.dtype), rows.to(factors.dtype)], dim=-1), keys, rows
            )
            return Answer(
                *AddressAndReadOut.apply(queries, factors, values, hidden, self.threshold, self.keep_best, self.training)
            )

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_cache": {}}

    def extra_repr(self) -> str:
        return f"members={len(self.keys)}, {super().extra_repr()}, key_width={self.keys.shape[-1]}"

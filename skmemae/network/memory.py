"""The memory: addressing, hard shrinkage and read-out, for feature maps of any rank."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TINY = 1e-12
_JUST_BELOW = 1 - 1e-6
_NARROW = 16
_BLOCK_WEIGHTS = {"cpu": 2**18, "other": 2**24}  # weights of a block: what a CPU's cache holds, or keeps a GPU busy
_KEPT_WEIGHTS = 2**24  # above this the backward pass computes the weights again instead of keeping them
_HIDDEN = -1e30  # logit of an item that must not answer


class Answer(NamedTuple):
    """What the memory answers to a query."""

    read_out: Tensor  # ([members,] batch, C, *positions), like the query
    entropy: Tensor | None  # ([members,] batch, *positions), mean over the heads, in nats (equation 9); None outside training
    mass: Tensor | None  # ([members,] N), weights summed over the queries, mean over the heads; None outside training


def shrunk_softmax(logits: Tensor, threshold: float, keep_best: bool) -> tuple[Tensor, Tensor]:
    """Softmax, hard shrinkage and renormalisation in one (equations 4, 6 and 7).

    The paper shrinks by a relu quotient, ``max(w - t, 0) * w / (|w - t| + eps)``. Its value is the mask ``w * (w > t)``, but
    its gradient explodes next to the threshold. With the mask, renormalised weights are the softmax of the kept logits alone.

    Parameters
    ----------
    logits : Tensor of shape (..., N)
        Overwritten by their differences from the largest of their row, which have the same softmax.
    threshold : float
        Lambda: the weight that an item must exceed to be kept.
    keep_best : bool
        Whether a row whose weights all miss the threshold keeps its best one, or becomes zero.

    Returns
    -------
    weights : Tensor of shape (..., N)
    log_sum : Tensor of shape (...,)
        Logarithm of the sum of the kept differences' exponentials; -inf for a row of zeros.
    """
    weights = logits.sub_(logits.amax(dim=-1, keepdim=True)).exp()
    total = weights.sum(dim=-1, keepdim=True)
    scale: float | Tensor = 1.0
    if threshold > _TINY:
        # The best weight is one here. In units of the cut all rows have one threshold, for which torch has a fast function.
        scale = total * threshold
        if keep_best:
            scale.clamp_max_(_JUST_BELOW)
        weights /= scale
        nn.functional.threshold(weights, 1.0, 0.0, inplace=True)
        total = weights.sum(dim=-1, keepdim=True)
    weights /= total.clamp_min(_TINY)
    return weights, torch.log(total * scale).squeeze(-1)


class AddressAndReadOut(torch.autograd.Function):
    """Addressing and read-out with the gradients in closed form, block by block over the queries.

    With ``g`` the gradient of the weights, that of the logits is ``w * (g - <g, w>)``, and that of the entropy
    ``-w * (logit - <logit, w>)``. A block's weights are kept for the backward pass if all blocks together are small, and
    computed again there if not, so memory grows with the queries and not with queries times items.
    ``benchmarks/speed.py --figures addressing`` measures both against the same equations in plain torch.
    """

    @staticmethod
    def forward(ctx, query, keys, values, hidden, threshold, keep_best, training):
        """(heads, rows, c) queries, (heads, N, c) keys, (heads, N, v) values; the heads of all members share one axis.

        ``hidden`` of shape (heads, rows) holds the number of the item that must not answer a query, or -1; None hides none.

        Returns
        -------
        read_out : Tensor of shape (heads, rows, v)
        entropy : Tensor of shape (heads, rows), or None outside training
        mass : Tensor of shape (heads, N), without gradient, or None outside training
        """
        needs_grad = any(ctx.needs_input_grad)
        exporting = torch.compiler.is_compiling()  # with any number of rows
        keep = needs_grad and not exporting and query[..., 0].numel() * keys.shape[1] <= _KEPT_WEIGHTS
        ctx.threshold, ctx.keep_best, ctx.hidden, ctx.kept = threshold, keep_best, hidden, []
        read_outs, entropies, masses, start = [], [], [], 0
        for block in _blocks(query, keys):
            logits = hide(block @ keys.mT, hidden, start)
            start += block.shape[1]
            weights, log_sum = shrunk_softmax(logits, threshold, keep_best)
            read_outs.append(_product(weights, values))
            if training:
                # A row of zeros has the entropy 0.
                entropies.append((log_sum - torch.linalg.vecdot(weights, logits)).clamp_min_(0))
                masses.append(weights.sum(dim=1))
            if keep:
                ctx.kept.append((logits, weights))
        if needs_grad:
            ctx.save_for_backward(query, keys, values)
        if not training:
            return _concatenate(read_outs), None, None
        mass = torch.stack(masses).sum(dim=0)
        ctx.mark_non_differentiable(mass)
        return _concatenate(read_outs), _concatenate(entropies), mass

    @staticmethod
    @once_differentiable
    def backward(ctx, read_out_grad, entropy_grad, _):
        """Gradients of queries, keys and values."""
        query, keys, values = ctx.saved_tensors
        query_grads, keys_grad, values_grad, start = [], 0.0, 0.0, 0
        for number, block in enumerate(_blocks(query, keys)):
            rows = slice(start, start + block.shape[1])
            start = rows.stop
            if ctx.kept:
                logits, weights = ctx.kept[number]
            else:
                logits = hide(block @ keys.mT, ctx.hidden, rows.start)
                weights, _ = shrunk_softmax(logits, ctx.threshold, ctx.keep_best)
            grad = read_out_grad[:, rows] @ values.mT
            if entropy_grad is not None:
                grad.addcmul_(logits, entropy_grad[:, rows].unsqueeze(-1), value=-1)
            grad.mul_(weights)
            grad.addcmul_(weights, grad.sum(dim=-1, keepdim=True), value=-1)
            query_grads.append(_product(grad, keys))
            keys_grad = keys_grad + _product(grad.mT, block)
            values_grad = values_grad + _product(weights.mT, read_out_grad[:, rows])
        return _concatenate(query_grads), keys_grad, values_grad, None, None, None, None


def hide(logits: Tensor, hidden: Tensor | None, start: int = 0) -> Tensor:
    """Logits of (heads, rows, N), in place, with an item of each row out of the softmax.

    Parameters
    ----------
    logits : Tensor of shape (heads, rows, N)
        Of the rows from ``start`` on.
    hidden : Tensor of int of shape (heads, all rows) or None
        The item of each row; -1 for none.
    start : int, default=0
    """
    if hidden is None:
        return logits
    hidden = hidden[:, start : start + logits.shape[1]].unsqueeze(-1)
    item = hidden.clamp_min(0)
    return logits.scatter_(-1, item, logits.gather(-1, item).masked_fill_(hidden >= 0, _HIDDEN))


def _blocks(query: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    """The queries in blocks; while torch traces the network for export, all of them in one."""
    if torch.compiler.is_compiling():
        return (query,)
    weights = _BLOCK_WEIGHTS.get(query.device.type, _BLOCK_WEIGHTS["other"])
    return query.split(max(1, weights // (len(keys) * keys.shape[1])), dim=1)


def _product(left, right):
    """``left @ right``; with few columns on the right, by their transposes, at which BLAS is up to four times as fast."""
    return left @ right if right.shape[-1] > _NARROW else (right.mT @ left.mT).mT


def _concatenate(blocks):
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def _direction(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1; a zero vector stays zero, with a finite gradient."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + _TINY).rsqrt()


class Memory(nn.Module):
    """N memory items of width C that answer queries of any rank.

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
        Lambda of equation 6 as a multiple of 1/N; 0 switches shrinkage off.
    heads : int, default=1
        Parts of equal width that query and items are cut into. Each part is addressed and answered on its own, so a few items
        can answer many combinations of what they hold. The paper has 1.
    keep_best : bool, default=True
        Always keep the largest weight of a row. Without it a row whose weights all miss the threshold becomes zero and
        passes no gradient, which is how the published formula dies.
    members : int or None, default=None
        Memories side by side, each with queries of its own: items, queries and answers then have a leading axis of members.
    key_width : int or None, default=None
        How many of the numbers of a query are compared with those of the items, from the first on; None for all.

    Raises
    ------
    ValueError
        If the width cannot be cut into so many parts, or parts are asked for beside a ``key_width``.

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

    items: nn.Parameter

    def __init__(
        self,
        size,
        width,
        *,
        similarity="cosine",
        temperature=1.0,
        shrink_threshold=1.0,
        heads=1,
        keep_best=True,
        members=None,
        key_width=None,
    ):
        super().__init__()
        if width % heads:
            raise ValueError(f"memory_heads={heads} does not divide the width of a memory item, which is {width}.")
        if heads > 1 and key_width is not None:
            raise ValueError(f"memory_heads={heads} is for items that are compared in all their numbers; 1 is accepted here.")
        lead = () if members is None else (members,)
        self.items = nn.Parameter(torch.empty(*lead, size, width))
        self.size = size
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.heads = heads
        self.keep_best = keep_best
        self.key_width = key_width

    @property
    def threshold(self) -> float:
        """Lambda: the weight that an item must exceed to be kept."""
        return self.shrink_threshold / self.size

    def rows(self, query: Tensor) -> Tensor:
        """Queries with all but members and channels in one axis: (..., C, \\*positions) -> ([members,] rows, C)."""
        lead = self.items.ndim - 2
        return query.movedim(lead + 1, -1).flatten(lead, -2)

    def split_heads(self, vectors: Tensor) -> Tensor:
        """What each head sees: ([members,] rows, C) -> (members * heads, rows, C / heads)."""
        parts = vectors.reshape(*vectors.shape[:-1], self.heads, vectors.shape[-1] // self.heads)
        return parts.movedim(-2, -3).flatten(0, -3)

    def factors(self, query: Tensor, items: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Factors of the logits (equation 5): ([members,] rows, C) -> (heads, rows, c) queries, (heads, N, c) keys.

        In float32 at least: in half precision the weights near the threshold cannot be told apart. Of squared distances the
        square of the query is left out, which is the same for all items.
        """
        items = self.items if items is None else items
        dtype = torch.promote_types(query.dtype, torch.float32)
        query, keys = (self.split_heads(vectors[..., : self.key_width].to(dtype)) for vectors in (query, items))
        if self.similarity == "distance":
            center = keys.detach().mean(dim=-2, keepdim=True)  # far from zero the squares would leave no digits
            query, keys = query - center, keys - center
            scale = 1 / (self.temperature * keys.shape[-1])
            query = torch.cat([2 * scale * query, torch.ones_like(query[..., :1])], dim=-1)
            return query, torch.cat([keys, -scale * keys.square().sum(dim=-1, keepdim=True)], dim=-1)
        if self.similarity == "cosine":
            query, keys = _direction(query), _direction(keys)
        return query / self.temperature, keys

    def logits(self, query: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Similarities over temperature, up to a number of each row's own: ([members,] rows, C) -> (heads, rows, N)."""
        with torch.autocast(query.device.type, enabled=False):
            query, keys = self.factors(query)
            return hide(query @ keys.mT, self._of_heads(hidden))

    @torch.no_grad()
    def weights(self, query: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Addressing weights, the mean over the heads, without gradient; every row sums to 1.

        ([members,] batch, C, \\*positions) -> ([members,] batch, \\*positions, N)
        """
        weights, _ = shrunk_softmax(self.logits(self.rows(query), hidden), self.threshold, self.keep_best)
        return self._join(weights.unflatten(0, (-1, self.heads)).mean(dim=1), query, self.size)

    @torch.no_grad()
    def use(self, query: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Which items a batch of queries uses.

        Parameters
        ----------
        query : Tensor of shape ([members,] batch, C, \\*positions)
        hidden : Tensor of int of shape ([members,] batch) or None, default=None
            As in :meth:`forward`.

        Returns
        -------
        used : Tensor of shape ([members,] batch, N)
            Share of each sample's queries that use each item, in any head.
        missed : Tensor of shape ([members,] batch)
            Share of each sample's queries and heads whose weights all miss the threshold.
        """
        lead = self.items.shape[:-2]
        logits = self.logits(self.rows(query), hidden).unflatten(0, (*lead, self.heads))
        samples = (query.shape[len(lead)], -1)
        best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1)).unflatten(-1, samples)
        weights, _ = shrunk_softmax(logits, self.threshold, self.keep_best)
        used = (weights > 0).any(dim=-3).unflatten(-2, samples)
        missed = best < self.threshold * (1 - 1e-4)  # equal weights are 1/N but for rounding
        return used.float().mean(dim=-2), missed.float().mean(dim=(-3, -1))

    def forward(self, query: Tensor, items: Tensor | None = None, hidden: Tensor | None = None) -> Answer:
        """Answer queries of shape ([members,] batch, C, \\*positions).

        Parameters
        ----------
        query : Tensor
        items : Tensor of shape ([members,] N, C) or None, default=None
            What to answer from; None for the items.
        hidden : Tensor of int of shape ([members,] batch) or None, default=None
            The item that must not answer a query, -1 for none; with one query per sample.
        """
        rows = self.rows(query)
        with torch.autocast(query.device.type, enabled=False):
            items = self.items if items is None else items
            keyed, keys = self.factors(rows, items)
            values = self.split_heads(items.to(keys.dtype))
            read_out, entropy, mass = AddressAndReadOut.apply(
                keyed, keys, values, self._of_heads(hidden), self.threshold, self.keep_best, self.training
            )
        lead = self.items.shape[:-2]
        read_out = read_out.reshape(-1, self.heads, *read_out.shape[1:]).transpose(1, 2)
        read_out = self._join(read_out.flatten(2), query, rows.shape[-1]).movedim(-1, len(lead) + 1)
        if entropy is None:
            return Answer(read_out, None, None)
        entropy, mass = (values.unflatten(0, (*lead, self.heads)).mean(dim=len(lead)) for values in (entropy, mass))
        return Answer(read_out, self._join(entropy.unsqueeze(-1), query, 1).squeeze(-1), mass)

    def _join(self, rows: Tensor, query: Tensor, width: int) -> Tensor:
        """Rows in the axes of the queries, channels last: (members, rows, width) -> ([members,] batch, *positions, width)."""
        return rows.reshape(*query.movedim(self.items.ndim - 1, -1).shape[:-1], width)

    def _of_heads(self, hidden: Tensor | None) -> Tensor | None:
        """The hidden items of the queries, for each head: ([members,] rows) -> (members * heads, rows)."""
        if hidden is None:
            return None
        return hidden.reshape(-1, hidden.shape[-1]).repeat_interleave(self.heads, dim=0)

    def extra_repr(self) -> str:
        members = "" if self.items.ndim == 2 else f"members={self.items.shape[0]}, "
        return (
            f"{members}size={self.size}, width={self.items.shape[-1]}, similarity={self.similarity!r}, "
            f"temperature={self.temperature}, shrink_threshold={self.shrink_threshold}, heads={self.heads}"
        )

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


class Answer(NamedTuple):
    """What the memory answers to a query."""

    read_out: Tensor  # (batch, C, *positions), like the query
    entropy: Tensor | None  # (batch, *positions), mean entropy of a head's weights, in nats (equation 9); None outside training
    mass: Tensor | None  # (N,), the weights summed over the queries, the mean over the heads; None outside training


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
    def forward(ctx, query, keys, values, threshold, keep_best, training):
        """(heads, rows, c) queries, (heads, N, c) keys and values.

        Returns
        -------
        read_out : Tensor of shape (heads, rows, c)
        entropy : Tensor of shape (heads, rows), or None outside training
        mass : Tensor of shape (N,), without gradient, or None outside training
        """
        needs_grad = any(ctx.needs_input_grad)
        exporting = torch.compiler.is_compiling()  # with any number of rows
        keep = needs_grad and not exporting and query[..., 0].numel() * keys.shape[1] <= _KEPT_WEIGHTS
        ctx.threshold, ctx.keep_best, ctx.kept = threshold, keep_best, []
        read_outs, entropies, masses = [], [], []
        for block in _blocks(query, keys):
            logits = block @ keys.mT
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
        mass = torch.stack(masses).sum(dim=0).mean(dim=0)
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
                logits = block @ keys.mT
                weights, _ = shrunk_softmax(logits, ctx.threshold, ctx.keep_best)
            grad = read_out_grad[:, rows] @ values.mT
            if entropy_grad is not None:
                grad.addcmul_(logits, entropy_grad[:, rows].unsqueeze(-1), value=-1)
            grad.mul_(weights)
            grad.addcmul_(weights, grad.sum(dim=-1, keepdim=True), value=-1)
            query_grads.append(_product(grad, keys))
            keys_grad = keys_grad + _product(grad.mT, block)
            values_grad = values_grad + _product(weights.mT, read_out_grad[:, rows])
        return _concatenate(query_grads), keys_grad, values_grad, None, None, None


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
    similarity : {"cosine", "dot"}, default="cosine"
        Equation 5 of the paper is the cosine; the authors' released code takes the dot product.
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

    items: nn.Parameter

    def __init__(self, size, width, *, similarity="cosine", temperature=1.0, shrink_threshold=1.0, heads=1, keep_best=True):
        super().__init__()
        if width % heads:
            raise ValueError(f"memory_heads={heads} does not divide the width of a memory item, which is {width}.")
        self.items = nn.Parameter(torch.empty(size, width))
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.heads = heads
        self.keep_best = keep_best

    @property
    def threshold(self) -> float:
        """Lambda: the weight that an item must exceed to be kept."""
        return self.shrink_threshold / len(self.items)

    def split_heads(self, vectors: Tensor) -> Tensor:
        """What each head sees: (\\*rows, C) -> (heads, rows, C / heads), with all rows in one axis."""
        return vectors.reshape(-1, self.heads, vectors.shape[-1] // self.heads).transpose(0, 1)

    def factors(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of the logits (equation 5): (\\*rows, C) -> (heads, rows, c) queries over temperature, (heads, N, c) keys.

        In float32 at least: in half precision the weights near the threshold cannot be told apart.
        """
        dtype = torch.promote_types(query.dtype, torch.float32)
        query, keys = self.split_heads(query.to(dtype)), self.split_heads(self.items.to(dtype))
        if self.similarity == "cosine":
            query, keys = _direction(query), _direction(keys)
        return query / self.temperature, keys

    def logits(self, query: Tensor) -> Tensor:
        """Similarities over temperature: (\\*rows, C) -> (heads, rows, N)."""
        with torch.autocast(query.device.type, enabled=False):
            query, keys = self.factors(query)
            return query @ keys.mT

    @torch.no_grad()
    def weights(self, query: Tensor) -> Tensor:
        """Addressing weights, the mean over the heads, without gradient; every row sums to 1.

        (batch, C, \\*positions) -> (batch, \\*positions, N)
        """
        query = query.movedim(1, -1)
        weights, _ = shrunk_softmax(self.logits(query), self.threshold, self.keep_best)
        return weights.mean(dim=0).unflatten(0, query.shape[:-1])

    @torch.no_grad()
    def use(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Which items a batch of queries uses.

        Parameters
        ----------
        query : Tensor of shape (batch, C, \\*positions)

        Returns
        -------
        used : Tensor of shape (batch, N)
            Share of each sample's queries that use each item, in any head.
        missed : Tensor of shape (batch,)
            Share of each sample's queries and heads whose weights all miss the threshold.
        """
        n = len(query)
        logits = self.logits(query.movedim(1, -1))
        best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1)).unflatten(1, (n, -1))
        weights, _ = shrunk_softmax(logits, self.threshold, self.keep_best)
        used = (weights > 0).any(dim=0).unflatten(0, (n, -1))
        missed = best < self.threshold * (1 - 1e-4)  # equal weights are 1/N but for rounding
        return used.float().mean(dim=1), missed.float().mean(dim=(0, 2))

    def forward(self, query: Tensor) -> Answer:  # (batch, C, *positions)
        query = query.movedim(1, -1)
        with torch.autocast(query.device.type, enabled=False):
            keyed, keys = self.factors(query)
            values = self.split_heads(self.items.to(keys.dtype))
            read_out, entropy, mass = AddressAndReadOut.apply(
                keyed, keys, values, self.threshold, self.keep_best, self.training
            )
        read_out = read_out.transpose(0, 1).reshape(query.shape).movedim(-1, 1)
        return Answer(read_out, None if entropy is None else entropy.mean(dim=0).unflatten(0, query.shape[:-1]), mass)

    def extra_repr(self) -> str:
        return (
            f"size={self.items.shape[0]}, width={self.items.shape[1]}, similarity={self.similarity!r}, "
            f"temperature={self.temperature}, shrink_threshold={self.shrink_threshold}, heads={self.heads}"
        )

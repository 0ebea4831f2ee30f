"""The memory: addressing, hard shrinkage and read-out, for feature maps of any rank."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TINY = 1e-12
_JUST_BELOW = 1 - 1e-6


class Retrieval(NamedTuple):
    """What the memory answers to a query."""

    read_out: Tensor  # (batch, C, *positions), like the query
    entropy: Tensor | None  # (batch, *positions), mean entropy of a head's weights, in nats (equation 9); None outside training
    mass: Tensor | None  # (N,), the weights summed over the queries, the mean over the heads; None outside training


class SparseSoftmax(torch.autograd.Function):
    """Softmax, hard shrinkage and renormalisation in one step, and the entropy of the result (equations 4, 7 and 9).

    The paper shrinks by a relu quotient, ``max(w - t, 0) * w / (|w - t| + eps)``. Its value is the mask ``w * (w > t)``, but
    its gradient explodes next to the threshold. With the mask, renormalised weights are the softmax of the kept logits alone,
    so the gradients are those of a softmax: ``w * (g - <g, w>)``, and ``-w * (logit - <logit, w>)`` for the entropy.
    """

    @staticmethod
    def forward(ctx, logits, threshold, keep_best, with_entropy):
        """(..., N) logits to (..., N) weights and their (...) entropy, or None for the latter."""
        weights = torch.softmax(logits, dim=-1)
        best = weights.amax(dim=-1, keepdim=True)
        kept = 1.0
        if threshold > _TINY:
            # A row whose best weight misses the threshold is cut right below its best weight instead. In units of the cut all
            # rows have the same threshold, for which torch has a fast function.
            cut = (best * _JUST_BELOW).clamp_max_(threshold) if keep_best else threshold
            weights /= cut
            nn.functional.threshold(weights, 1.0, 0.0, inplace=True)
            total = weights.sum(dim=-1, keepdim=True).clamp_min_(_TINY)
            weights /= total
            kept = total * cut
        ctx.save_for_backward(logits, weights)
        if not with_entropy:
            return weights, None
        # log of the kept logits' exponential sum, less the mean logit; 0 for a row of zeros.
        log_sum = logits.amax(dim=-1) - torch.log(best / kept).squeeze(-1)
        entropy = log_sum - torch.linalg.vecdot(weights, logits)
        if not keep_best:
            entropy *= weights.amax(dim=-1) > 0
        return weights, entropy.clamp_min_(0)

    @staticmethod
    @once_differentiable
    def backward(ctx, weights_grad, entropy_grad):
        """Gradient of the logits."""
        logits, weights = ctx.saved_tensors
        if entropy_grad is None:
            weighted = weights_grad * weights
        else:
            weighted = torch.addcmul(weights_grad, logits, entropy_grad.unsqueeze(-1), value=-1).mul_(weights)
        return weighted.addcmul_(weights, weighted.sum(dim=-1, keepdim=True), value=-1), None, None, None


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length one; a zero vector stays zero, with a finite gradient."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + _TINY).rsqrt()


def retrieve(query, keys, values, threshold, keep_best, training):
    """Address and read out: (heads, rows, c) queries, (heads, N, c) keys and values.

    Returns
    -------
    read_out : Tensor of shape (heads, rows, c)
    entropy : Tensor of shape (heads, rows), or None outside training
    mass : Tensor of shape (N,), without gradient, or None outside training
    """
    weights, entropy = SparseSoftmax.apply(query @ keys.mT, threshold, keep_best, training)
    mass = weights.detach().sum(dim=1).mean(dim=0) if training else None
    return weights @ values, entropy, mass


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

    def parts(self, vectors: Tensor) -> Tensor:
        """What each head sees: (\\*rows, C) -> (heads, rows, C / heads), with all rows in one axis."""
        return vectors.reshape(-1, self.heads, vectors.shape[-1] // self.heads).transpose(0, 1)

    def keys(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """What is multiplied to compare queries and items (equation 5): (\\*rows, C) -> (heads, rows, c) and (heads, N, c).

        In float32 at least: in half precision the weights near the threshold cannot be told apart.
        """
        dtype = torch.promote_types(query.dtype, torch.float32)
        query, items = self.parts(query.to(dtype)), self.parts(self.items.to(dtype))
        if self.similarity == "cosine":
            query, items = unit(query), unit(items)
        return query / self.temperature, items

    def logits(self, query: Tensor) -> Tensor:
        """Similarities over temperature: (\\*rows, C) -> (heads, rows, N)."""
        with torch.autocast(query.device.type, enabled=False):
            query, items = self.keys(query)
            return query @ items.mT

    def weights(self, query: Tensor) -> Tensor:
        """The mean over the heads, every row sums to 1: (batch, C, \\*positions) -> (batch, \\*positions, N)."""
        query = query.movedim(1, -1)
        weights, _ = SparseSoftmax.apply(self.logits(query), self.threshold, self.keep_best, False)
        return weights.mean(dim=0).unflatten(0, query.shape[:-1])

    def best_weights(self, query: Tensor) -> Tensor:
        """The largest of each query and head before shrinkage: (batch, C, \\*positions) -> (heads, batch * positions)."""
        logits = self.logits(query.movedim(1, -1))
        return torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1))

    def forward(self, query: Tensor) -> Retrieval:  # (batch, C, *positions)
        query = query.movedim(1, -1)
        with torch.autocast(query.device.type, enabled=False):
            keys, items = self.keys(query)
            read_out, entropy, mass = retrieve(
                keys, items, self.parts(self.items), self.threshold, self.keep_best, self.training
            )
        read_out = read_out.transpose(0, 1).reshape(query.shape).movedim(-1, 1)
        return Retrieval(read_out, None if entropy is None else entropy.mean(dim=0).unflatten(0, query.shape[:-1]), mass)

    def extra_repr(self) -> str:
        return (
            f"size={self.items.shape[0]}, width={self.items.shape[1]}, similarity={self.similarity!r}, "
            f"temperature={self.temperature}, shrink_threshold={self.shrink_threshold}, heads={self.heads}"
        )

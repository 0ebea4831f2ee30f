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
    weights: Tensor  # (batch, *positions, N), the mean over the heads; every row sums to 1
    entropy: Tensor | None  # (batch, *positions), mean entropy of a head's weights, in nats (equation 9); None outside training


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
    >>> read_out, weights, entropy = memory(torch.randn(2, 4, 5, 5))
    >>> read_out.shape, weights.shape, entropy.shape
    (torch.Size([2, 4, 5, 5]), torch.Size([2, 5, 5, 10]), torch.Size([2, 5, 5]))
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

    def logits(self, query: Tensor) -> Tensor:
        """Similarities over temperature (equation 5): (\\*rows, C) -> (heads, rows, N).

        Computed in float32 at least: in half precision the weights near the threshold cannot be told apart.
        """
        with torch.autocast(query.device.type, enabled=False):
            dtype = torch.promote_types(query.dtype, torch.float32)
            query, items = self.parts(query.to(dtype)), self.parts(self.items.to(dtype))
            if self.similarity == "cosine":
                query, items = unit(query), unit(items)
            return (query / self.temperature) @ items.mT

    def forward(self, query: Tensor) -> Retrieval:  # (batch, C, *positions)
        query = query.movedim(1, -1)
        weights, entropy = SparseSoftmax.apply(self.logits(query), self.threshold, self.keep_best, self.training)
        read_out = (weights @ self.parts(self.items)).transpose(0, 1).reshape(query.shape)
        rows = query.shape[:-1]
        return Retrieval(
            read_out.movedim(-1, 1),
            weights.mean(dim=0).unflatten(0, rows),
            None if entropy is None else entropy.mean(dim=0).unflatten(0, rows),
        )

    def extra_repr(self) -> str:
        return (
            f"size={self.items.shape[0]}, width={self.items.shape[1]}, similarity={self.similarity!r}, "
            f"temperature={self.temperature}, shrink_threshold={self.shrink_threshold}, heads={self.heads}"
        )

"""The memory: addressing, hard shrinkage and read-out, for feature maps of any rank."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

_TINY = 1e-12


class Retrieval(NamedTuple):
    """What the memory answers to a query."""

    read_out: Tensor  # (batch, C, *positions), like the query
    weights: Tensor  # (batch, *positions, N), every row sums to 1


def shrink(weights: Tensor, threshold: float, keep_best: bool = True) -> Tensor:
    """Zero the weights that do not exceed the threshold and renormalise each row (equations 6 and 7).

    The paper writes a relu quotient, ``max(w - t, 0) * w / (|w - t| + eps)``. Its value is the mask ``w * (w > t)``, but its
    gradient explodes next to the threshold, so the mask is used here.

    Parameters
    ----------
    weights : Tensor of shape (..., N)
        Addressing weights, each row sums to 1.
    threshold : float
        Lambda of the paper; 0 leaves the weights as they are.
    keep_best : bool, default=True
        Always keep the largest weight of a row. Without it a row whose weights all miss the threshold becomes zero and
        passes no gradient, which is how the published formula dies.

    Returns
    -------
    Tensor of shape (..., N)
    """
    if threshold == 0:
        return weights
    keep = weights > threshold
    if keep_best:
        keep |= weights == weights.amax(dim=-1, keepdim=True)
    kept = weights * keep
    return kept / kept.sum(dim=-1, keepdim=True).clamp_min(_TINY)


def entropy(weights: Tensor) -> Tensor:
    """Entropy of each row of weights in nats (equation 9), with a finite gradient at zero weights.

    Parameters
    ----------
    weights : Tensor of shape (..., N)

    Returns
    -------
    Tensor of shape (...,)
        Between 0 (one item answers alone) and log(N) (all items answer alike).
    """
    return -(weights * weights.clamp_min(_TINY).log()).sum(dim=-1)


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
        Lambda as a multiple of 1/N; 0 switches shrinkage off.
    keep_best : bool, default=True
        See :func:`shrink`.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network.memory import Memory
    >>> memory = Memory(size=10, width=4)
    >>> _ = torch.nn.init.normal_(memory.items)
    >>> read_out, weights = memory(torch.randn(2, 4, 5, 5))
    >>> read_out.shape, weights.shape
    (torch.Size([2, 4, 5, 5]), torch.Size([2, 5, 5, 10]))
    """

    def __init__(self, size, width, *, similarity="cosine", temperature=1.0, shrink_threshold=1.0, keep_best=True):
        super().__init__()
        self.items = nn.Parameter(torch.empty(size, width))
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.keep_best = keep_best

    def address(self, query: Tensor) -> Tensor:
        """Softmax of the similarities (equations 4 and 5), before shrinkage: (..., C) -> (..., N).

        Computed in float32 at least: in half precision the weights near the threshold cannot be told apart.
        """
        with torch.autocast(query.device.type, enabled=False):
            dtype = torch.promote_types(query.dtype, torch.float32)
            query, items = query.to(dtype), self.items.to(dtype)
            if self.similarity == "cosine":
                query, items = unit(query), unit(items)
            return torch.softmax((query / self.temperature) @ items.T, dim=-1)

    def forward(self, query: Tensor) -> Retrieval:  # (batch, C, *positions)
        weights = self.address(query.movedim(1, -1))  # (batch, *positions, N)
        weights = shrink(weights, self.shrink_threshold / len(self.items), self.keep_best)
        return Retrieval((weights @ self.items).movedim(-1, 1), weights)

    def extra_repr(self) -> str:
        return (
            f"size={self.items.shape[0]}, width={self.items.shape[1]}, similarity={self.similarity!r}, "
            f"temperature={self.temperature}, shrink_threshold={self.shrink_threshold}"
        )

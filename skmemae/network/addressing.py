"""Addressing, hard shrinkage and read-out, for both kinds of memory, from queries, keys and values."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TINY = 1e-12
_JUST_BELOW = 1 - 1e-6
_NARROW = 16
_BLOCK_WEIGHTS = {"cpu": 2**18, "other": 2**24}  # weights of a block: they fit into a CPU's cache, or keep a GPU busy
_KEPT_WEIGHTS = 2**24  # with more weights the backward pass computes them again instead of keeping them
_HIDDEN = -1e30  # logit of a hidden item


class Keys(NamedTuple):
    """Memory items in the form in which queries are compared with them."""

    factors: Tensor  # (groups, N, c)
    center: Tensor | None  # (groups, 1, C), subtracted from queries; None for no subtraction


def shrunk_softmax(logits: Tensor, threshold: float, keep_best: bool) -> tuple[Tensor, Tensor]:
    """Softmax, hard shrinkage and renormalisation in one (equations 4, 6 and 7).

    The paper shrinks by a relu quotient, ``max(w - t, 0) * w / (|w - t| + eps)``. Its value is the mask ``w * (w > t)``, but
    its gradient explodes next to the threshold. With the mask, renormalised weights are the softmax of the kept logits alone.

    Parameters
    ----------
    logits : Tensor of shape (..., N)
        Overwritten: the largest logit of each row is subtracted, which leaves the softmax unchanged.
    threshold : float
        Lambda: the weight that an item must exceed to be kept.
    keep_best : bool
        Whether a row whose weights all miss the threshold keeps its largest weight, or becomes zero.

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
        # The largest weight is 1 here. Division gives all rows the same threshold, 1, for which torch has a fast function.
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

    With ``g`` the gradient with respect to the weights, the gradient with respect to the logits is ``w * (g - <g, w>)``. The
    gradient of the entropy is ``-w * (logit - <logit, w>)``. The weights are kept for the backward pass if all blocks together
    are small, and else computed again there, so memory grows with the queries and not with queries times items.
    ``benchmarks/speed.py --figures addressing`` compares both with the same equations in plain torch.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        hidden: Tensor | None,
        threshold: float,
        keep_best: bool,
        training: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Address keys, (heads, N, c), by queries, (heads, rows, c), and read out values, (heads, N, v).

        In a memory of rows the members take the place of heads. ``hidden`` of shape (heads, rows) holds the number of the item
        that is left out for a query, or -1 for none; None leaves out no item.

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
    def backward(ctx: Any, read_out_grad: Tensor, entropy_grad: Tensor | None, _: Any) -> tuple:
        """Gradients of queries, keys and values."""
        query, keys, values = ctx.saved_tensors
        query_grads: list[Tensor] = []
        keys_grad, values_grad, start = torch.zeros_like(keys), torch.zeros_like(values), 0
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
    """Take one item of each row out of the softmax: set its logit to a large negative number, in place.

    Parameters
    ----------
    logits : Tensor of shape (heads, rows, N)
        Logits of the rows from ``start`` on.
    hidden : Tensor of int of shape (heads, all rows) or None
        The item to take out of each row; -1 for none.
    start : int, default=0
    """
    if hidden is None:
        return logits
    hidden = hidden[:, start : start + logits.shape[1]].unsqueeze(-1)
    item = hidden.clamp_min(0)
    return logits.scatter_(-1, item, logits.gather(-1, item).masked_fill_(hidden >= 0, _HIDDEN))


def _blocks(query: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
    """The queries in blocks; in a single block while torch traces the network for export."""
    if torch.compiler.is_compiling():
        return (query,)
    weights = _BLOCK_WEIGHTS.get(query.device.type, _BLOCK_WEIGHTS["other"])
    return query.split(max(1, weights // (len(keys) * keys.shape[1])), dim=1)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right``; if ``right`` has few columns, by the transposes, for which BLAS is up to four times as fast."""
    return left @ right if right.shape[-1] > _NARROW else (right.mT @ left.mT).mT


def _concatenate(blocks: list[Tensor]) -> Tensor:
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=1)


def prepare_keys(keys: Tensor, similarity: str, temperature: float) -> Keys:
    """Keys of (groups, N, C) as factors of the logits (equation 5), in float32 at least.

    Half precision cannot distinguish weights near the threshold. The square of the query is left out of squared distances, as
    it is the same for all items.
    """
    keys = keys.to(torch.promote_types(keys.dtype, torch.float32))
    if similarity == "distance":
        center = keys.detach().mean(dim=-2, keepdim=True)  # squares of numbers far from zero would lose the digits
        keys = keys - center
        scale = 1 / (temperature * keys.shape[-1])
        return Keys(torch.cat([keys, -scale * keys.square().sum(dim=-1, keepdim=True)], dim=-1), center)
    return Keys(_direction(keys) if similarity == "cosine" else keys, None)


def prepare_queries(query: Tensor, keys: Keys, similarity: str, temperature: float) -> Tensor:
    """Queries of (groups, rows, C) as factors of the logits: (groups, rows, c)."""
    query = query.to(torch.promote_types(query.dtype, torch.float32))
    if keys.center is not None:
        scale = 1 / (temperature * query.shape[-1])
        return torch.cat([2 * scale * (query - keys.center), torch.ones_like(query[..., :1])], dim=-1)
    return (_direction(query) if similarity == "cosine" else query) / temperature


class Use(NamedTuple):
    """How queries use memory items."""

    used: Tensor  # (..., N), whether a weight is above zero, or the share of a sample's queries in which it is
    missed: Tensor  # (...,), whether all weights miss the threshold, or the share of a sample's queries in which they do
    effective: Tensor  # (...,), effective number of items, the exponential of the entropy of the weights; 1 to N


def usage(logits: Tensor, threshold: float, keep_best: bool) -> Use:
    """How each row of logits, (..., N), uses the items."""
    best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1))
    weights, _ = shrunk_softmax(logits, threshold, keep_best)
    missed = best < threshold * (1 - 1e-4)  # equal weights are 1/N but for rounding
    return Use(weights > 0, missed, torch.special.entr(weights).sum(dim=-1).exp())


def _direction(vectors: Tensor) -> Tensor:
    """Vectors scaled to length 1; a zero vector stays zero, with a finite gradient."""
    return vectors * (vectors.square().sum(dim=-1, keepdim=True) + _TINY).rsqrt()

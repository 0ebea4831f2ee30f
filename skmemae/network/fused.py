"""Addressing and read-out on a GPU without the (queries x N) weights in memory.

Memory is read and written for queries and items only: the weights of a block of queries and a tile of items live in registers,
and every step that needs them computes them anew.

1. `cut_kernel` goes over all items and finds per row the cut, which is the logit that an item must exceed to be kept.
2. `read_out_kernel` adds up what is kept, `mass_kernel` its sum over the rows. Both, like the gradients, skip a block and a
   tile where nothing is kept.
3. Going back, one kernel takes blocks of queries for their gradient, another tiles of items for theirs. Sums over the queries
   are made in parts that torch adds up, with no atomic operation, so the same input gives the same bits.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TINY = 1e-12
_TILE = 64  # items, and queries, of a piece that is skipped where it has nothing kept
_ROWS = 128  # queries that a program answers
_PROGRAMS = 1024  # that sums over the queries are spread over: enough for any GPU, few enough for their partial sums


class _Sizes(NamedTuple):
    """What fits registers and shared memory for one width, found by compiling for compute capability 9.0."""

    padded: int  # the width
    grad_rows: int  # queries and items of a step, and warps, of the gradient of the queries
    grad_items: int
    grad_warps: int
    item_warps: int
    stages: int
    shared: int  # KiB of shared memory that the largest kernel takes


def _sizes(width: int) -> _Sizes | None:
    """None beyond 256: the pairs and float32 sums of so wide a block would fit neither shared memory nor registers."""
    padded = max(16, 1 << (width - 1).bit_length())
    if padded > 256:
        return None
    if padded == 256:
        return _Sizes(padded, 64, 32, 4, 8, 1, 224)
    return _Sizes(padded, _ROWS, _TILE, 8, 4, 1 if padded > 32 else 2, {128: 164, 64: 84}.get(padded, 64))


@functools.cache
def _kernels():
    """The module of kernels, or None without triton; imported on first use, since triton takes a while."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return None
    from skmemae.network import _kernels

    return _kernels


def _interpreted() -> bool:
    import triton

    return not isinstance(_kernels().cut_kernel, triton.JITFunction)


def available(query: Tensor) -> bool:
    """Whether `retrieve` can answer a query.

    Parameters
    ----------
    query : Tensor of shape (heads, rows, c)

    Returns
    -------
    bool
        True for float32 on an NVIDIA GPU with bfloat16 products and enough shared memory for the width, which is 224 KiB
        beyond c = 128, as on an H100. False without triton, without rows, beyond c = 256, and while a graph is traced. Where
        triton interprets its kernels, tensors of the CPU count too.
    """
    sizes = _sizes(query.shape[-1]) if query.numel() and query.dtype == torch.float32 else None
    if sizes is None or torch.compiler.is_compiling() or query.device.type not in ("cpu", "cuda") or _kernels() is None:
        return False
    if _interpreted():
        return True
    if query.device.type == "cpu" or torch.version.hip:
        return False
    device = torch.cuda.get_device_properties(query.device)
    return device.major >= 8 and device.shared_memory_per_block_optin >= sizes.shared * 1024


def retrieve(
    query: Tensor, keys: Tensor, values: Tensor, threshold: float, keep_best: bool, training: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Address the memory and read it out, with gradients for all three tensors.

    Parameters
    ----------
    query : Tensor of shape (heads, rows, c)
        In float32, normalised and divided by the temperature already.
    keys : Tensor of shape (heads, N, c)
        What queries are compared with.
    values : Tensor of shape (heads, N, c)
        What is read out.
    threshold : float
        Lambda: the addressing weight that an item must exceed to be kept.
    keep_best : bool
        Whether a row whose weights all miss the threshold keeps its best one, or becomes zero.
    training : bool
        Whether entropy and mass are asked for.

    Returns
    -------
    read_out : Tensor of shape (heads, rows, c)
    entropy : Tensor of shape (heads, rows), or None
        Of the weights after shrinkage, in nats.
    mass : Tensor of shape (N,), or None
        The weights summed over the rows, the mean over the heads; without gradient.
    """
    return _Retrieve.apply(query, keys, values, threshold, keep_best, training)


class _Retrieve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, query, keys, values, threshold, keep_best, training):
        kernels, sizes = _kernels(), _sizes(query.shape[-1])
        (heads, rows, width), size = query.shape, keys.shape[1]
        with torch.cuda.device_of(query):
            (query, _), (keys, _), (values, _) = _pairs(query), _pairs(keys), _pairs(values)
            length, padded_size = query.shape[2], keys.shape[2]
            tiles, grid = padded_size // _TILE, (length // _ROWS, heads)
            constants = {"PADDED": sizes.padded, "ROWS": _ROWS, "ITEMS": _TILE, "num_warps": 8, "num_stages": sizes.stages}
            best, cut, log_total = query.new_empty(3, heads, rows, dtype=torch.float32)
            peaks = best.new_empty(heads, tiles, rows)
            shrink = threshold > _TINY
            kernels.cut_kernel[grid](
                query, keys, best, cut, peaks, rows, length, size, padded_size, heads,
                float(torch.tensor(threshold).log()) if shrink else 0.0, SHRINK=shrink, KEEP_BEST=keep_best, **constants,
            )  # fmt: skip
            kept = torch.nn.functional.pad(peaks > cut.unsqueeze(1), (0, length - rows))
            active = kept.unflatten(-1, (-1, _TILE)).any(dim=-1)
            del peaks, kept
            read_out = best.new_empty(rows, heads, width)
            entropy = torch.empty_like(best) if training else None
            kernels.read_out_kernel[grid](
                query, keys, values, best, cut, *_agenda_of_rows(active, _ROWS), read_out, entropy, log_total,
                rows, length, size, padded_size, heads, WITH_ENTROPY=training, WIDTH=width, TILE=_TILE, **constants,
            )  # fmt: skip
            mass = None
            if training:
                parts, blocks = _parts(active), active.shape[-1]
                mass = best.new_empty(parts, heads, size)
                kernels.mass_kernel[tiles, parts, heads](
                    query, keys, cut, log_total, *_agenda(active), mass, rows, length, size, padded_size, heads, blocks,
                    PADDED=sizes.padded, ROWS=_TILE, ITEMS=_TILE, num_warps=sizes.item_warps, num_stages=sizes.stages,
                )  # fmt: skip
                mass = mass.sum(dim=(0, 1)) / heads
                ctx.mark_non_differentiable(mass)
        ctx.save_for_backward(query, keys, values, cut, log_total, entropy, read_out, active)
        ctx.size = size
        return read_out.transpose(0, 1), entropy, mass

    @staticmethod
    @once_differentiable
    def backward(ctx, read_out_grad, entropy_grad, _):
        query, keys, values, cut, log_total, entropy, read_out, active = ctx.saved_tensors
        kernels, sizes = _kernels(), _sizes(read_out.shape[-1])
        (rows, heads, width), length, padded_size = read_out.shape, query.shape[2], keys.shape[2]
        tiles, blocks = active.shape[1:]
        extent = rows, length, ctx.size, padded_size, heads
        constants = {"WITH_ENTROPY": entropy is not None, "WIDTH": width, "PADDED": sizes.padded, "num_stages": sizes.stages}
        gradients = [None, None, None]
        with torch.cuda.device_of(query):
            read_out_grad, mean_grad = _pairs(read_out_grad, read_out)
            entropy_grad = None if entropy is None else entropy_grad.contiguous()
            given = query, keys, values, read_out_grad, cut, log_total, mean_grad, entropy, entropy_grad
            if ctx.needs_input_grad[0]:
                gradient = torch.empty_like(read_out)
                kernels.query_grad_kernel[length // sizes.grad_rows, heads](
                    *given, *_agenda_of_rows(active, sizes.grad_rows), gradient, *extent,
                    ROWS=sizes.grad_rows, ITEMS=sizes.grad_items, TILE=_TILE, num_warps=sizes.grad_warps, **constants,
                )  # fmt: skip
                gradients[0] = gradient.transpose(0, 1)
            parts, agenda = _parts(active), _agenda(active)
            for place, of_keys in [(1, True), (2, False)]:
                if ctx.needs_input_grad[place]:
                    gradient = read_out.new_empty(parts, ctx.size, heads, width)
                    kernels.item_grad_kernel[tiles, parts, heads](
                        *given, *agenda, gradient, *extent, blocks,
                        OF_KEYS=of_keys, ROWS=_TILE, ITEMS=_TILE, num_warps=sizes.item_warps, **constants,
                    )  # fmt: skip
                    gradients[place] = gradient.sum(dim=0).transpose(0, 1)
        return *gradients, None, None, None


def _pairs(vectors, other=None):
    """(heads, rows, c) as pairs of high parts and remainders (2, heads, length, padded), and the products with another's rows.

    The other is (rows, heads, c), as are vectors in memory where they are parts of rows.
    """
    heads, rows, width = vectors.shape
    length = -(-rows // _ROWS) * _ROWS
    padded = _sizes(width).padded
    # Interpreted kernels have no products of bfloat16; they hold the same parts in float32.
    pairs = vectors.new_empty(2, heads, length, padded, dtype=torch.float32 if _interpreted() else torch.bfloat16)
    dots = None if other is None else vectors.new_empty(heads, rows)
    _kernels().split_kernel[length // 32, heads](
        vectors.transpose(0, 1).contiguous(), other, pairs, dots, rows, length, heads,
        WITH_DOTS=other is not None, WIDTH=width, PADDED=padded, ROWS=32,
    )  # fmt: skip
    return pairs, dots


def _agenda(active):
    """(..., n) flags as the places of those that are set, first to last, followed by the others; and how many are set."""
    active = active.contiguous()
    order = active.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
    return order.to(torch.int32), active.sum(dim=-1, dtype=torch.int32)


def _agenda_of_rows(active, rows):
    return _agenda(active.unflatten(-1, (-1, rows // _TILE)).any(dim=-1).mT)


def _parts(active):
    """Into how many parts the queries of a tile of items are cut; a matter of shapes alone."""
    heads, tiles, blocks = active.shape
    return max(1, min(_PROGRAMS // (heads * tiles), blocks))

"""Triton kernels of `skmemae.network.fused`; importable without triton, where none of them can run.

Queries are cut into blocks and items into tiles. No kernel stores a weight: each computes the logits that it needs anew, and
only where the agenda says that a block keeps something of a tile. All sums over the width run in the same order, so that the
kernels agree on a logit and on what is kept; should they differ by rounding, it is about an item whose weight is the threshold,
for the cut leaves the best item more room than that.

Factors of a product are pairs of bfloat16, a high part and the remainder: three products of parts, summed in float32, err by
some 2^-17 of a factor, which is near float32, at the speed of half precision. Pairs are (2, heads, length, PADDED), padded with
zeros. What is read or written in float32 is (rows, heads, WIDTH); statistics of rows are (heads, rows).
"""

try:
    import triton.language as tl
    from triton import jit
    from triton.language import constexpr
except ImportError:
    tl = constexpr = None

    def jit(function):
        return function


@jit
def _at(row, column, head, heads, WIDTH: constexpr):
    return (row.to(tl.int64) * heads + head)[:, None] * WIDTH + column[None, :]


@jit
def _rounded(values, TYPE: constexpr):
    if TYPE == tl.bfloat16:  # noqa: SIM300
        rounded = values.to(TYPE)
    else:  # Interpreted: triton would cut off there, and cannot multiply bfloat16. What is no number stays so.
        bits = (values.to(tl.int32, bitcast=True) + 0x8000) & -0x10000
        rounded = tl.where(values == values, bits.to(tl.float32, bitcast=True), values)
    return rounded


@jit
def _pair(values, TYPE: constexpr):
    """High part and remainder."""
    high = _rounded(values, TYPE)
    return high, _rounded(values - high.to(tl.float32), TYPE)


@jit
def _high(source, first, length, head, heads, COUNT: constexpr, PADDED: constexpr):
    """High parts of COUNT vectors from the first on; source is padded, so nothing is masked."""
    start = source + (head.to(tl.int64) * length + first) * PADDED
    return tl.load(start + tl.arange(0, COUNT)[:, None] * PADDED + tl.arange(0, PADDED)[None, :])


@jit
def _low(source, first, length, head, heads, COUNT: constexpr, PADDED: constexpr):
    return _high(source + length.to(tl.int64) * heads * PADDED, first, length, head, heads, COUNT, PADDED)


# The two products of queries with items differ in what is at hand and what is loaded, and when: a part at a time, for registers
# are scarce. The order of the terms is the same.


@jit
def _times_items(q_high, q_low, items, first, length, head, heads, ROWS: constexpr, ITEMS: constexpr, PADDED: constexpr):
    """Queries, given, by items, loaded."""
    high = tl.trans(_high(items, first, length, head, heads, ITEMS, PADDED))
    total = tl.dot(q_low, high, tl.zeros((ROWS, ITEMS), tl.float32))
    total = tl.dot(q_high, high, total)
    return tl.dot(q_high, tl.trans(_low(items, first, length, head, heads, ITEMS, PADDED)), total)


@jit
def _times_queries(k_high, k_low, queries, first, length, head, heads, ROWS: constexpr, ITEMS: constexpr, PADDED: constexpr):
    """Queries, loaded, by items, given."""
    high = tl.trans(k_high)
    total = tl.dot(_low(queries, first, length, head, heads, ROWS, PADDED), high, tl.zeros((ROWS, ITEMS), tl.float32))
    q_high = _high(queries, first, length, head, heads, ROWS, PADDED)
    total = tl.dot(q_high, high, total)
    return tl.dot(q_high, tl.trans(k_low), total)


@jit
def _add_items(total, weights, items, first, length, head, heads, ITEMS: constexpr, PADDED: constexpr):
    """Total (rows, PADDED) + weights @ items."""
    w_high, w_low = _pair(weights, items.dtype.element_ty)
    high = _high(items, first, length, head, heads, ITEMS, PADDED)
    total = tl.dot(w_low, high, total)
    total = tl.dot(w_high, high, total)
    return tl.dot(w_high, _low(items, first, length, head, heads, ITEMS, PADDED), total)


@jit
def _add_queries(total, weights, queries, first, length, head, heads, ROWS: constexpr, PADDED: constexpr):
    """Total (PADDED, items) + queries^T @ weights."""
    w_high, w_low = _pair(weights, queries.dtype.element_ty)
    high = tl.trans(_high(queries, first, length, head, heads, ROWS, PADDED))
    total = tl.dot(high, w_low, total)
    total = tl.dot(high, w_high, total)
    return tl.dot(tl.trans(_low(queries, first, length, head, heads, ROWS, PADDED)), w_high, total)


@jit
def split_kernel(
    source, other, pairs, dots, rows, length, heads,
    WITH_DOTS: constexpr, WIDTH: constexpr, PADDED: constexpr, ROWS: constexpr,
):  # fmt: skip
    """(rows, heads, WIDTH) in float32 to pairs, and on the way the dot products with another tensor of this shape."""
    head = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    row, column = first + tl.arange(0, ROWS), tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    values = tl.load(source + _at(row, column, head, heads, WIDTH), mask=inside, other=0.0)
    if WITH_DOTS:
        values_of_other = tl.load(other + _at(row, column, head, heads, WIDTH), mask=inside, other=0.0)
        tl.store(dots + head.to(tl.int64) * rows + row, tl.sum(values * values_of_other, 1), mask=row < rows)
    high, low = _pair(values, pairs.dtype.element_ty)
    target = pairs + (head.to(tl.int64) * length + row)[:, None] * PADDED + column[None, :]
    tl.store(target, high, mask=(row < length)[:, None])
    tl.store(target + length.to(tl.int64) * heads * PADDED, low, mask=(row < length)[:, None])


@jit
def cut_kernel(
    query, keys, best, cut, peaks, rows, length, size, padded_size, heads, log_threshold,
    SHRINK: constexpr, KEEP_BEST: constexpr, PADDED: constexpr, ROWS: constexpr, ITEMS: constexpr,
):  # fmt: skip
    """Per row the largest logit, the logit that an item must exceed to be kept, and the largest logit of every tile."""
    head = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    row = first + tl.arange(0, ROWS)
    statistic = head.to(tl.int64) * rows + row
    q_high = _high(query, first, length, head, heads, ROWS, PADDED)
    q_low = _low(query, first, length, head, heads, ROWS, PADDED)
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    tiles = padded_size // ITEMS
    for tile in range(tiles):
        logits = _times_items(q_high, q_low, keys, tile * ITEMS, padded_size, head, heads, ROWS, ITEMS, PADDED)
        logits = tl.where((tile * ITEMS + tl.arange(0, ITEMS) < size)[None, :], logits, float("-inf"))
        peak = tl.max(logits, 1)
        tl.store(peaks + (head.to(tl.int64) * tiles + tile) * rows + row, peak, mask=row < rows)
        higher = tl.maximum(highest, peak)
        total = total * tl.exp(highest - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        highest = higher
    least = tl.full((ROWS,), float("-inf"), tl.float32)
    if SHRINK:
        least = log_threshold + highest + tl.log(total)
        if KEEP_BEST:
            # Some units in the last place, so that the best item is above the cut even if its logit were rounded otherwise.
            least = tl.minimum(least, highest - 1e-6 * (1.0 + tl.abs(highest)))
    least = tl.where(total == total, least, float("nan"))
    tl.store(best + statistic, highest, mask=row < rows)
    tl.store(cut + statistic, least, mask=row < rows)


@jit
def read_out_kernel(
    query, keys, values, best, cut, agenda, counts, read_out, entropy, log_total, rows, length, size, padded_size, heads,
    WITH_ENTROPY: constexpr, WIDTH: constexpr, PADDED: constexpr, ROWS: constexpr, ITEMS: constexpr, TILE: constexpr,
):  # fmt: skip
    """Read-out and entropy of a block of rows, and per row the logarithm of the kept logits' exponential sum."""
    head = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    row = first + tl.arange(0, ROWS)
    statistic = head.to(tl.int64) * rows + row
    q_high = _high(query, first, length, head, heads, ROWS, PADDED)
    q_low = _low(query, first, length, head, heads, ROWS, PADDED)
    highest = tl.load(best + statistic, mask=row < rows, other=0.0)
    least = tl.load(cut + statistic, mask=row < rows, other=float("inf"))
    total = tl.where(least == least, 0.0, float("nan"))  # a row with a logit that is no number has no read-out
    moment = tl.zeros((ROWS,), tl.float32)
    out = tl.zeros((ROWS, PADDED), tl.float32)
    place = head * tl.num_programs(0) + tl.program_id(0)
    agenda += place.to(tl.int64) * (padded_size // TILE)
    for step in range(tl.load(counts + place) * (TILE // ITEMS)):
        start = tl.load(agenda + step // (TILE // ITEMS)) * TILE + step % (TILE // ITEMS) * ITEMS
        logits = _times_items(q_high, q_low, keys, start, padded_size, head, heads, ROWS, ITEMS, PADDED)
        kept = (logits > least[:, None]) & (start + tl.arange(0, ITEMS) < size)[None, :]
        logits -= highest[:, None]
        weights = tl.where(kept, tl.exp(logits), 0.0)
        total += tl.sum(weights, 1)
        if WITH_ENTROPY:
            moment += tl.sum(weights * logits, 1)
        out = _add_items(out, weights, values, start, padded_size, head, heads, ITEMS, PADDED)
    none = total == 0
    total = tl.where(none, 1.0, total)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    tl.store(read_out + _at(row, column, head, heads, WIDTH), out / total[:, None], mask=inside)
    tl.store(log_total + statistic, tl.where(none, float("inf"), highest + tl.log(total)), mask=row < rows)
    if WITH_ENTROPY:
        spread = tl.log(total) - moment / total
        tl.store(entropy + statistic, tl.where(spread < 0, 0.0, spread), mask=row < rows)


@jit
def mass_kernel(
    query, keys, cut, log_total, agenda, counts, mass, rows, length, size, padded_size, heads, blocks,
    PADDED: constexpr, ROWS: constexpr, ITEMS: constexpr,
):  # fmt: skip
    """Sum of the weights of a tile of items over one part of its blocks."""
    tile, part, head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts = tl.num_programs(1)
    k_high = _high(keys, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
    k_low = _low(keys, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
    place = head * tl.num_programs(0) + tile
    agenda += place.to(tl.int64) * blocks
    count = tl.load(counts + place)
    total = tl.zeros((ITEMS,), tl.float32)
    for step in range(count * part // parts, count * (part + 1) // parts):
        first = tl.load(agenda + step) * ROWS
        row = first + tl.arange(0, ROWS)
        statistic = head.to(tl.int64) * rows + row
        least = tl.load(cut + statistic, mask=row < rows, other=float("inf"))
        normalizer = tl.load(log_total + statistic, mask=row < rows, other=0.0)
        logits = _times_queries(k_high, k_low, query, first, length, head, heads, ROWS, ITEMS, PADDED)
        total += tl.sum(tl.where(logits > least[:, None], tl.exp(logits - normalizer[:, None]), 0.0), 0)
    item = tile * ITEMS + tl.arange(0, ITEMS)
    tl.store(mass + (part * heads + head) * size + item, total, mask=item < size)


@jit
def query_grad_kernel(
    query, keys, values, read_out_grad, cut, log_total, mean_grad, entropy, entropy_grad, agenda, counts, query_grad,
    rows, length, size, padded_size, heads,
    WITH_ENTROPY: constexpr, WIDTH: constexpr, PADDED: constexpr, ROWS: constexpr, ITEMS: constexpr, TILE: constexpr,
):  # fmt: skip
    """Gradient of a block of queries."""
    head = tl.program_id(1)
    first = tl.program_id(0) * ROWS
    row = first + tl.arange(0, ROWS)
    statistic = head.to(tl.int64) * rows + row
    q_high = _high(query, first, length, head, heads, ROWS, PADDED)
    q_low = _low(query, first, length, head, heads, ROWS, PADDED)
    g_high = _high(read_out_grad, first, length, head, heads, ROWS, PADDED)
    g_low = _low(read_out_grad, first, length, head, heads, ROWS, PADDED)
    least = tl.load(cut + statistic, mask=row < rows, other=float("inf"))
    normalizer = tl.load(log_total + statistic, mask=row < rows, other=0.0)
    mean = tl.load(mean_grad + statistic, mask=row < rows, other=0.0)
    if WITH_ENTROPY:
        spread = tl.load(entropy + statistic, mask=row < rows, other=0.0)
        slant = tl.load(entropy_grad + statistic, mask=row < rows, other=0.0)
    out = tl.zeros((ROWS, PADDED), tl.float32)
    place = head * tl.num_programs(0) + tl.program_id(0)
    agenda += place.to(tl.int64) * (padded_size // TILE)
    for step in range(tl.load(counts + place) * (TILE // ITEMS)):
        start = tl.load(agenda + step // (TILE // ITEMS)) * TILE + step % (TILE // ITEMS) * ITEMS
        slope = _times_items(g_high, g_low, values, start, padded_size, head, heads, ROWS, ITEMS, PADDED) - mean[:, None]
        logits = _times_items(q_high, q_low, keys, start, padded_size, head, heads, ROWS, ITEMS, PADDED)
        kept = (logits > least[:, None]) & (start + tl.arange(0, ITEMS) < size)[None, :]
        logits -= normalizer[:, None]
        if WITH_ENTROPY:  # logits are now log w, whose mean is minus the entropy
            slope -= slant[:, None] * (logits + spread[:, None])
        grad = tl.where(kept, tl.exp(logits) * slope, 0.0)
        out = _add_items(out, grad, keys, start, padded_size, head, heads, ITEMS, PADDED)
    column = tl.arange(0, PADDED)
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    tl.store(query_grad + _at(row, column, head, heads, WIDTH), out, mask=inside)


@jit
def item_grad_kernel(
    query, keys, values, read_out_grad, cut, log_total, mean_grad, entropy, entropy_grad, agenda, counts, item_grad,
    rows, length, size, padded_size, heads, blocks,
    OF_KEYS: constexpr, WITH_ENTROPY: constexpr, WIDTH: constexpr, PADDED: constexpr, ROWS: constexpr, ITEMS: constexpr,
):  # fmt: skip
    """Gradient of a tile of keys, or of values, from one part of its blocks. Both at once would not fit the registers."""
    tile, part, head = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    parts = tl.num_programs(1)
    k_high = _high(keys, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
    k_low = _low(keys, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
    if OF_KEYS:
        v_high = _high(values, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
        v_low = _low(values, tile * ITEMS, padded_size, head, heads, ITEMS, PADDED)
    place = head * tl.num_programs(0) + tile
    agenda += place.to(tl.int64) * blocks
    count = tl.load(counts + place)
    out = tl.zeros((PADDED, ITEMS), tl.float32)
    for step in range(count * part // parts, count * (part + 1) // parts):
        first = tl.load(agenda + step) * ROWS
        row = first + tl.arange(0, ROWS)
        statistic = head.to(tl.int64) * rows + row
        logits = _times_queries(k_high, k_low, query, first, length, head, heads, ROWS, ITEMS, PADDED)
        kept = logits > tl.load(cut + statistic, mask=row < rows, other=float("inf"))[:, None]
        logits -= tl.load(log_total + statistic, mask=row < rows, other=0.0)[:, None]
        weights = tl.where(kept, tl.exp(logits), 0.0)
        if OF_KEYS:
            slope = _times_queries(v_high, v_low, read_out_grad, first, length, head, heads, ROWS, ITEMS, PADDED)
            slope -= tl.load(mean_grad + statistic, mask=row < rows, other=0.0)[:, None]
            if WITH_ENTROPY:
                spread = tl.load(entropy + statistic, mask=row < rows, other=0.0)
                slant = tl.load(entropy_grad + statistic, mask=row < rows, other=0.0)
                slope -= slant[:, None] * (logits + spread[:, None])
            out = _add_queries(out, tl.where(kept, weights * slope, 0.0), query, first, length, head, heads, ROWS, PADDED)
        else:
            out = _add_queries(out, weights, read_out_grad, first, length, head, heads, ROWS, PADDED)
    item, column = tile * ITEMS + tl.arange(0, ITEMS), tl.arange(0, PADDED)
    target = item_grad + part.to(tl.int64) * size * heads * WIDTH + _at(item, column, head, heads, WIDTH)
    tl.store(target, tl.trans(out), mask=(item < size)[:, None] & (column < WIDTH)[None, :])

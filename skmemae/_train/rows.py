"""Selection of the rows of a table: which of them to train on, and which the memory of each member is made of."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae._data.loader import Loader
from skmemae._model.copies import Copies
from skmemae._model.subsets import Subsets, distance_from

_LEAST_ROWS = 100  # fewest rows that thinning may leave
_SMALLEST, _DRAWN = 8, (256, 4000)  # rows of a subset at least, and rows of all subsets together
_FEWEST, _MOST = 4, 50  # subsets
_PART = 4  # a subset holds at most a fourth of the rows
_NUMBERS = 2**30  # differences of numbers that the selection may compute
_HEIGHT = 512
_MOST_ROWS = 80 * 256  # largest number of rows that train a memory of rows
_COMPARED, _ASKING = 4096, 512  # rows that are compared to find near copies, and rows that look for one
_NEAR = 30  # times as far as a near copy is the next row
_CROSS_FITTED = 500, 4  # with at most so many rows and at least so many members, some members are not trained on a row


class Selection(NamedTuple):
    """Rows to learn from."""

    rows: Tensor  # (n_selected,), ascending
    subsets: Tensor | None  # rows of random subsets, (n_subsets, size), if the score uses them


class Choice(NamedTuple):
    """Rows that the memories are made of."""

    rows: Tensor  # (members, N)
    n_training: int  # the first so many of each member are trained on


def thin_copies(copies: Copies, power: float) -> Tensor | None:
    """Keep some of the equal rows, so that frequent rows do not dominate training.

    Parameters
    ----------
    copies : Copies
    power : float in [0, 1]
        Of k equal rows ``ceil(k ** power)`` are kept.

    Returns
    -------
    training_mask : Tensor of bool of shape (n_samples,) or None
        The rows to train on; None if all rows are kept, also because fewer than 100 would be left.
    """
    if power == 1 or len(copies.counts) == len(copies.group):
        return None
    order = torch.argsort(copies.group, stable=True)
    counts = copies.counts[copies.group[order]]
    starts = (copies.counts.cumsum(0) - copies.counts)[copies.group[order]]
    mask = torch.empty(len(order), dtype=torch.bool)
    mask[order] = torch.arange(len(order)) - starts < counts.double().pow(power).ceil()
    return None if bool(mask.all()) or int(mask.sum()) < _LEAST_ROWS else mask


def some_rows(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows, or a random selection of 20,480 of them if there are more."""
    if len(rows) <= _MOST_ROWS:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:_MOST_ROWS].sort().values]


@torch.no_grad()
def share_of_near_copies(loader: Loader, rows: Tensor, generator: torch.Generator) -> float:
    """Share of distinct rows that have a near copy: a row that is far nearer than the next ones, in [0, 1].

    A row with one near copy has a far neighbour among a random half of the rows, where its copy is not in that half.
    """
    x = loader.samples(rows[torch.randperm(len(rows), generator=generator)[:_COMPARED]]).flatten(1)
    asking = x[:_ASKING]
    distances = torch.cdist(asking, x, p=1.0)
    distances.diagonal().fill_(torch.inf)
    nearest = distances.amin(dim=1)
    in_half = torch.rand(len(x), generator=generator) < 0.5
    among_half = distances.masked_fill(~in_half.to(x.device), torch.inf).amin(dim=1)
    return min(1.0, 2 * float((among_half.isfinite() & (_NEAR * nearest < among_half)).float().mean()))


@torch.no_grad()
def select_rows(
    loader: Loader,
    rows: Tensor,
    copies: Copies,
    share: float,
    needs_subsets: bool,
    generator: torch.Generator,
    n_trusted: int = 0,
) -> Selection:
    """Select all rows except a share: the rows that are farthest from random subsets of rows.

    The distance from a subset is the distance from its nearest row. As most subsets are too small to hold a row of a small
    cluster of outliers, rows of such a cluster are far from most subsets.

    Parameters
    ----------
    loader : Loader
    rows : Tensor of int
        Rows that may be selected, ascending.
    copies : Copies
        Equal rows of the loader.
    share : float
        Largest share of the rows that are not trusted, copies included, that is left out.
    needs_subsets : bool
        Whether the anomaly score adds the distances from subsets.
    generator : torch.Generator
    n_trusted : int, default=0
        Number of rows at the start of the loader that are trusted: they are always selected.
    """
    leaves_out = share * len(loader) >= 1
    if not (leaves_out or needs_subsets):
        return Selection(rows, None)
    subsets = _draw(loader, share, len(rows), generator)
    if not leaves_out:
        return Selection(rows, subsets)
    trusted, rows = rows[rows < n_trusted], rows[rows >= n_trusted]
    numbers, places = subsets.unique(return_inverse=True)
    drawn = loader.samples(numbers)
    device = drawn.device
    compared = Subsets(drawn, places.to(device), copies.group[numbers].to(device))
    distances = torch.empty(len(rows), device=device)
    for start in range(0, len(rows), _HEIGHT):
        part = slice(start, start + _HEIGHT)
        distances[part] = distance_from(compared, loader.samples(rows[part]), copies.group[rows[part]].to(device))
    order = distances.argsort(descending=True, stable=True).cpu()
    stands_for = _rows_for_each(copies, rows)[order.numpy()]
    left_out = np.count_nonzero(np.cumsum(stands_for) <= share * (len(loader) - n_trusted))
    selected = torch.cat([trusted, rows[order[left_out:].sort().values]])
    return Selection(selected, subsets if needs_subsets else None)


def _rows_for_each(copies: Copies, rows: Tensor) -> np.ndarray:
    """How many rows of the table each given row stands for: the count of its copies, shared among those that are given."""
    given, counts = copies.group[rows].numpy(), copies.counts.numpy()
    return counts[given] / np.bincount(given, minlength=len(counts))[given]


def _draw(loader: Loader, share: float, n_asking: int, generator: torch.Generator) -> Tensor:
    """Rows of random subsets, (n_subsets, size), with about one row in each of the ``share`` that is left out."""
    least, most = _DRAWN
    total = min(max(_NUMBERS // (n_asking * math.prod(loader.layout.sample_shape)), least), most)
    size = max(1, min(max(_SMALLEST, round(1 / share)), total // _FEWEST, len(loader) // _PART))
    count = min(total // size, _MOST)
    return torch.stack([torch.randperm(len(loader), generator=generator)[:size] for _ in range(count)])


def choose_items(rows: Tensor, members: int, size: int, generator: torch.Generator) -> Choice:
    """Choose random distinct rows for the memory of each member.

    With few rows and four or more members, each trains on the first three quarters of its items only. The last quarter differs
    between four successive members, so each row has members that were not trained on it. These score the row.

    Parameters
    ----------
    rows : Tensor of int
        Rows to choose from.
    members, size : int
        The size is that of each memory, at most.
    generator : torch.Generator
    """
    size = min(size, len(rows))
    quarter, chosen = torch.randperm(len(rows), generator=generator) % 4, []
    for member in range(members):
        places = torch.randperm(len(rows), generator=generator)[:size]
        last = quarter[places] == member % 4
        chosen.append(rows[places[last.argsort(stable=True)]])
    most, fewest = _CROSS_FITTED
    return Choice(torch.stack(chosen), size - size // 4 if len(rows) <= most and members >= fewest else size)

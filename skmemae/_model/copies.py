"""Rows of the training data that are copies of each other."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_ROUNDING = 5e-6  # in deviations of the columns: copies may differ in the last of six digits
_COMPARED_NUMBERS = 2**22  # numbers of rows that tell records from kinds
_FEWEST_GROUPS = 30
_FEWEST_USUAL, _MANY, _STATE = 10, 10, 4  # a state has above ten rows, and four times those of the usual of ten repeated groups
_IDENTIFYING = 0.25  # share of the groups that have a value of their own in a column that identifies records


class Copies(NamedTuple):
    """Groups of rows that are equal up to rounding."""

    prints: Tensor  # (n_groups, 4), fingerprints, the first projection ascending
    counts: Tensor  # (n_groups,), rows of each group
    group: Tensor  # (n_samples,), the group of each row
    first: Tensor  # (n_groups,), the first row of each group

    def distinct(self, rows: Tensor) -> Tensor:
        """The last of the given ascending rows of each group: (n,) -> (n_distinct,), ascending.

        The last one stays in the window of a stream for the longest time.
        """
        backwards = rows.flip(0)
        _, last = np.unique(self.group[backwards].numpy(), return_index=True)
        return backwards[torch.from_numpy(last)].sort().values


def group_copies(prints: Tensor) -> Copies:
    """Group fingerprints, (n_samples, 4), that are equal up to rounding."""
    columns = prints[:, :-1].numpy()
    group, n_groups = np.zeros(len(columns), dtype=np.int64), 1
    for column in columns.T:
        order = np.lexsort((column, group)) if n_groups > 1 else np.argsort(column, kind="stable")
        values = column[order]
        apart = np.concatenate([[True], (np.diff(values) > _ROUNDING) | (np.diff(group[order]) > 0)])
        # Dense rows are a long chain without a gap, which is cut into short pieces.
        start = np.maximum.accumulate(np.where(apart, np.arange(len(values)), 0))
        piece = np.floor((values - values[start]) / (2 * _ROUNDING))
        apart[1:] |= np.diff(piece) > 0
        group[order] = np.cumsum(apart) - 1
        n_groups = int(np.count_nonzero(apart))
        if n_groups == len(columns):  # no two rows are equal
            break
    _, first, counts = np.unique(group, return_index=True, return_counts=True)
    ascending = np.argsort(columns[first, 0], kind="stable")
    place = np.empty_like(ascending)
    place[ascending] = np.arange(len(ascending))
    found = (prints.numpy()[first[ascending]], counts[ascending], place[group], first[ascending])
    return Copies(*(torch.from_numpy(array) for array in found))


def repeated_records(copies: Copies, samples: Callable[[Tensor], Tensor] | None) -> Tensor:
    """Which groups are one record that came several times, rather than several samples of one kind: (n_groups,), bool.

    Samples of columns with few values are equal by chance. A group is taken for a record if a column has a value in it that no
    other group has, and such values in a good part of all groups. A single column does not tell, nor do a few groups. A group
    of far more rows than others is a state that comes again and again, such as a machine that stands still.

    Parameters
    ----------
    copies : Copies
    samples : callable or None
        Returns the rows of a table with given numbers, (n, d). None for images and clips, which are not equal by chance.
    """
    repeated = copies.counts > 1
    usual = copies.counts[repeated].median() if int(repeated.sum()) >= _FEWEST_USUAL else 0
    if samples is None or not bool(repeated.any()):
        return repeated
    repeated &= copies.counts <= max(_MANY, _STATE * usual)
    n_groups, width = len(repeated), samples(copies.first[:1]).shape[1]
    if width == 1 or n_groups < _FEWEST_GROUPS:
        return torch.zeros_like(repeated)
    most = max(2, _COMPARED_NUMBERS // width)
    some = torch.arange(0, n_groups, -(-n_groups // most))
    ascending, place = samples(copies.first[some]).cpu().sort(dim=0)
    equal, shared = ascending[1:] == ascending[:-1], torch.zeros(ascending.shape, dtype=torch.bool)
    shared[1:] |= equal
    shared[:-1] |= equal
    unique = ~shared.scatter(0, place, shared)
    found = unique[:, unique.double().mean(dim=0) >= _IDENTIFYING].any(dim=1)
    among = repeated[some]
    most_are = bool(among.any()) and 2 * int(found[among].sum()) > int(among.sum())
    is_record = torch.full((n_groups,), most_are)
    is_record[some] = found
    return repeated & is_record

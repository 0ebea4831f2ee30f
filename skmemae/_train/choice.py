"""Which rows the memory of each member is made of."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae._data.signatures import OwnItems

_MOST_ROWS = 80 * 256  # that train a memory of rows
_CROSS_FITTED = 8  # members from which on each is trained without a quarter of the rows, which it scores


class Choice(NamedTuple):
    """Rows of the memories, and what tells them again."""

    rows: Tensor  # (members, N), the rows that the items are made of
    training: OwnItems  # the item of each row
    scoring: OwnItems  # likewise, but for rows that the data holds more than once, whose copies may answer for them


def some_rows(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The rows, or as many random ones as training has a use for."""
    if len(rows) <= _MOST_ROWS:
        return rows
    return rows[torch.randperm(len(rows), generator=generator)[:_MOST_ROWS].sort().values]


def choose_items(signatures: np.ndarray, rows: Tensor, members: int, size: int, generator: torch.Generator) -> Choice:
    """Random rows for the memory of each member.

    Of eight and more members each is trained on the first three quarters of its items, and the last quarter is another one for
    each of four members: a row of a small table is scored by those that were not trained on it.

    Parameters
    ----------
    signatures : ndarray of int64 of shape (n_samples,)
        Of all rows of the table.
    rows : Tensor of int
        To choose from.
    members, size : int
    generator : torch.Generator

    Returns
    -------
    choice : Choice
    """
    quarter, chosen = torch.randperm(len(rows), generator=generator) % 4, []
    for member in range(members):
        places = torch.randperm(len(rows), generator=generator)[:size]
        last = quarter[places] == member % 4
        chosen.append(rows[places[last.argsort(stable=True)]])
    n_training = size - size // 4 if members >= _CROSS_FITTED else size
    seen = signatures[torch.stack(chosen).numpy()]
    values, counts = np.unique(signatures, return_counts=True)
    repeated = counts[np.searchsorted(values, seen)] > 1
    return Choice(torch.stack(chosen), OwnItems.of(seen, n_training), OwnItems.of(seen, n_training, repeated))

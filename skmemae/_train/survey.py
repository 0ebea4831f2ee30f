"""A first look at the rows of a table: which are equal, and which are like hardly any others."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae._data.loader import Loader
from skmemae._data.signatures import signatures

_DRAW, _DRAWN, _FEWEST_DRAWS = 32, 2000, 4  # rows of a small draw, rows of all draws together, draws of many rows
_LARGEST_DRAW = 1000
_HEIGHT = 512
_PAIRS = 2**27  # numbers of rows and drawn rows that are compared at a time, as much as 2^20 pairs of 128 columns


class Survey(NamedTuple):
    """What is known of the rows before training."""

    signatures: np.ndarray  # (n_samples,) int64, of all rows
    trusted: Tensor  # rows to learn from
    distinct: Tensor  # the first of equal ones among these


@torch.no_grad()
def survey(loader: Loader, rows: Tensor, share: float, generator: torch.Generator) -> Survey:
    """Choose the rows to learn from: all but a share, of those that random draws find most abnormal.

    A draw is a few random rows, and finds a row abnormal that is far from all of them. A cluster of outliers that vanishes in
    most draws of so few rows is found, which it would not be among all rows [1]_.

    Parameters
    ----------
    loader : Loader
    rows : Tensor of int
        Ascending; those that may be chosen.
    share : float
        Of all rows, copies included, the most that is left out.
    generator : torch.Generator

    Returns
    -------
    survey : Survey

    References
    ----------
    .. [1] Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013.
    """
    n = len(loader)
    seen, distances = np.empty(n, dtype=np.int64), np.zeros(n)
    drawn = _draw(loader, share, generator) if share * n >= 1 else None
    done = 0
    for x, count in loader.chunks(_HEIGHT, 0, n):
        seen[done : done + count] = signatures(x)[:count].numpy(force=True)
        if drawn is not None:
            distances[done : done + count] = distance_from(drawn, x)[:count].numpy(force=True)
        done += count
    if drawn is not None:
        order = rows.numpy()[np.argsort(-distances[rows.numpy()], kind="stable")]
        left_out = np.cumsum(_copies(seen, rows.numpy())[order]) <= share * n
        rows = torch.from_numpy(np.sort(order[~left_out]))
    _, first = np.unique(seen[rows.numpy()], return_index=True)
    return Survey(seen, rows, rows[torch.from_numpy(np.sort(first))])


def _copies(seen, rows) -> np.ndarray:
    """How many rows of the table each of the given ones stands for: equal rows are shared among those that are given."""
    values, number, counts = np.unique(seen, return_inverse=True, return_counts=True)
    given = np.bincount(number[rows], minlength=len(values))
    return counts[number] / np.maximum(given[number], 1)


def _draw(loader, share, generator) -> Tensor:
    """Rows of all draws, (draws, size, d): about one outlier in each if they are as many as is said, and never few rows."""
    size = max(1, min(max(_DRAW, round(1 / share)), _LARGEST_DRAW, len(loader) // 2))
    n_draws = min(max(_DRAWN // size, _FEWEST_DRAWS), 50)
    places = torch.stack([torch.randperm(len(loader), generator=generator)[:size] for _ in range(n_draws)])
    return loader.samples(places.flatten()).flatten(1).unflatten(0, places.shape)


def distance_from(drawn: Tensor, x: Tensor) -> Tensor:
    """City-block distance to the nearest of the drawn rows that differs from the sample, the mean over the draws: (batch,).

    What equals the sample is passed over, itself and copies of it.
    """
    x, flat = x.flatten(1), drawn.flatten(0, 1)
    parts = []
    for part in x.split(max(1, _PAIRS // flat.numel())):
        distances = torch.cdist(part, flat, p=1.0)
        distances.masked_fill_(distances == 0, torch.inf)
        nearest = distances.unflatten(1, drawn.shape[:2]).amin(dim=2)
        parts.append(torch.nan_to_num(nearest, posinf=0.0).mean(dim=1))
    return torch.cat(parts)

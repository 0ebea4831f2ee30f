"""A first look at the rows of a table: which are equal, and which are like hardly any others."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae._data.draws import Draws, distance_from
from skmemae._data.loader import Loader
from skmemae._data.signatures import signatures

_DRAW, _DRAWN = 8, (256, 2000)  # fewest rows of a draw, fewest and most rows of all draws together
_FEWEST_DRAWS, _MOST_DRAWS = 4, 50
_NUMBERS = 2**30  # differences of numbers that choosing may take
_HEIGHT = 512
_FEW = 0.005  # share of outliers below which the rows are trusted


class Survey(NamedTuple):
    """What is known of the rows before training."""

    signatures: np.ndarray  # (n_samples,) int64, of all rows
    trusted: Tensor  # rows to learn from
    draws: Draws | None  # None where hardly any outliers are said to be among the rows


@torch.no_grad()
def survey(
    loader: Loader, rows: Tensor, share: float, generator: torch.Generator, n_trusted: int = 0, keeps_draws: bool | None = None
) -> Survey:
    """Choose the rows to learn from: all but a share, of those that random draws find most abnormal.

    A draw is a few random rows, and finds a row abnormal that is far from all of them. A cluster of outliers that vanishes in
    most draws of so few rows is found, which it would not be among all rows [1]_.

    Parameters
    ----------
    loader : Loader
    rows : Tensor of int
        Ascending; those that may be chosen.
    share : float
        Of all rows that are not trusted already, copies included, the most that is left out.
    generator : torch.Generator
    n_trusted : int, default=0
        The first so many rows are trusted already.
    keeps_draws : bool or None, default=None
        Whether the anomaly score adds the distances from draws; None where the share of outliers decides.

    Returns
    -------
    survey : Survey

    References
    ----------
    .. [1] Sugiyama and Borgwardt, "Rapid distance-based outlier detection via sampling", NeurIPS 2013.
    """
    # Small results that are kept between large ones that come and go would tear holes into the heap, which then grows.
    seen, done = np.empty(len(loader), dtype=np.int64), 0
    for x, count in loader.chunks(_HEIGHT, 0, len(loader)):
        seen[done : done + count] = signatures(x)[:count].numpy(force=True)
        done += count
    leaves_out = share * len(loader) >= 1
    keeps_draws = (leaves_out and share >= _FEW) if keeps_draws is None else keeps_draws
    if not (leaves_out or keeps_draws):
        return Survey(seen, rows, None)
    drawn = _draw(loader, share, len(rows), generator)
    trusted, rows = rows[rows < n_trusted], rows[rows >= n_trusted]
    distances = torch.empty(len(rows), device=drawn.device)
    for start in range(0, len(rows), _HEIGHT):
        part = slice(start, start + _HEIGHT)
        distances[part] = distance_from(drawn, loader.samples(rows[part]))
    order = distances.argsort(descending=True, stable=True).cpu()
    copies = _copies(seen, rows.numpy())[order.numpy()]
    left_out = np.count_nonzero(np.cumsum(copies) <= share * (len(loader) - n_trusted))
    trusted = torch.cat([trusted, rows[order[left_out:].sort().values]])
    return Survey(seen, trusted, Draws.of(drawn) if keeps_draws else None)


def _copies(seen, rows) -> np.ndarray:
    """How many rows of the table each of the given ones stands for: equal rows are shared among those that are given."""
    values, number, counts = np.unique(seen, return_inverse=True, return_counts=True)
    given = number[rows]
    return counts[given] / np.bincount(given, minlength=len(values))[given]


def _draw(loader, share, n_asking, generator) -> Tensor:
    """Rows of all draws, (draws, size, d): about one outlier in each, if they are as many as is said."""
    least, most = _DRAWN
    total = min(max(_NUMBERS // (n_asking * math.prod(loader.layout.sample_shape)), least), most)
    size = max(1, min(max(_DRAW, round(1 / share)), total // _FEWEST_DRAWS, len(loader) // 2))
    n_draws = min(total // size, _MOST_DRAWS)
    places = torch.stack([torch.randperm(len(loader), generator=generator)[:size] for _ in range(n_draws)])
    return loader.samples(places.flatten()).unflatten(0, places.shape)

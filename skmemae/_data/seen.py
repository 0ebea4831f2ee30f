"""Samples that a network was trained on, and how abnormal they would be if it had not been."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

PRINT_SIZE = 3
SAME = 1e-7  # of the third number of a print, how far the others are apart at most for one sample: devices round differently
TINY = 1e-300
LARGEST = 1e300  # score in place of what is not finite, as where a user's module overflows
_SEED = 0x5EED
_MOST_KNOTS = 100


@lru_cache(maxsize=2)
def directions(size: int) -> Tensor:
    """What samples are projected on for their prints: (size, 2), float64."""
    generator = torch.Generator().manual_seed(_SEED)
    return torch.rand(size, PRINT_SIZE - 1, generator=generator, dtype=torch.float64) + 0.5


def prints(x: Tensor, along: Tensor | None = None) -> Tensor:
    """Two projections and the mean size of each sample, the same for the same sample but for rounding.

    Parameters
    ----------
    x : Tensor of shape (batch, \\*sample_shape)
    along : Tensor of shape (size, 2) or None, default=None
        What :func:`directions` gives; for a graph that is traced, in which nothing may be computed once and kept.

    Returns
    -------
    prints : Tensor of shape (batch, 3), float64
        Projections per number, and the mean absolute value.
    """
    flat = (x.cpu() if x.device.type == "mps" else x).flatten(1).double()  # which has no float64
    along = directions(flat.shape[1]) if along is None else along
    projections = flat @ (along / flat.shape[1]).to(flat.device)
    return torch.cat([projections, flat.abs().mean(dim=1, keepdim=True)], dim=1)


@dataclass(frozen=True)
class SeenSamples:
    """Samples that were trained on, and scores of these and of samples that were not.

    A network reconstructs what it was trained on better than other samples of the same kind. The score that such a sample would
    have otherwise is taken to be the quantile of the scores of samples that were held out at which it is among those that were
    not: ranks stay, and between quantiles logarithms of scores are interpolated.

    Attributes
    ----------
    prints : ndarray of shape (n, 3)
        Of the samples that were trained on, the first column ascending.
    seen_scores, unseen_scores : ndarray of shape (n_quantiles,)
        The same quantiles of the scores of samples that were trained on and of samples that were held out.
    """

    prints: np.ndarray
    seen_scores: np.ndarray
    unseen_scores: np.ndarray

    @classmethod
    def of(cls, prints: np.ndarray, scores: np.ndarray, seen: np.ndarray, unseen: np.ndarray) -> "SeenSamples":
        """From the prints and scores of all samples, the numbers of those trained on and of those held out, one at least."""
        count = min(len(unseen), _MOST_KNOTS)
        levels = np.arange(1, count + 1) / (count + 1)
        # A new score exceeds such a quantile of a few with just this probability.
        quantiles = (np.quantile(scores[rows], levels, method="weibull") for rows in (seen, unseen))
        below, above = (np.maximum(values, TINY) for values in quantiles)
        return cls._of_quantiles(prints[seen], below, np.maximum(above, below))

    @classmethod
    def _of_quantiles(cls, prints, seen, unseen):
        return cls(prints[np.argsort(prints[:, 0], kind="stable")], seen, unseen)

    def of_others(self, prints: np.ndarray) -> "SeenSamples":
        """The same quantiles for other samples."""
        return self._of_quantiles(prints, self.seen_scores, self.unseen_scores)

    def find(self, prints: np.ndarray) -> np.ndarray:
        """Whether each sample was trained on: (n_samples, 3) -> (n_samples,), bool."""
        place = np.searchsorted(self.prints[:, 0], prints[:, 0]).clip(1, max(1, len(self.prints) - 1))
        found = np.zeros(len(prints), dtype=bool)
        for candidate in (place - 1, np.minimum(place, len(self.prints) - 1)):
            found |= (np.abs(self.prints[candidate] - prints) <= SAME * prints[:, 2:]).all(axis=1)
        return found

    def as_unseen(self, scores: np.ndarray, prints: np.ndarray) -> np.ndarray:
        """Scores with those of samples that were trained on raised to what they would be otherwise: (n_samples,)."""
        raised = np.log(np.maximum(scores, TINY))
        raised += np.interp(raised, np.log(self.seen_scores), np.log(self.unseen_scores / self.seen_scores))
        return np.where(self.find(prints), np.exp(np.minimum(raised, math.log(LARGEST))), scores)

"""Recognition of training samples by fingerprints of their raw numbers, and calibration of their scores."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from skmemae._data.layout import Layout
from skmemae._data.sources import Samples, row_blocks
from skmemae._model.copies import Copies
from skmemae._model.learned import LARGEST, TINY, Learned, at_least, at_most

_SEED = 0x5EED
_PROJECTIONS = 3
_PRECISION = 1e-6  # of a number that was printed with seven significant digits, with some room
_FLOOR = 5.0  # in a column's deviations: added to the size of values, so that copies that differ by rounding have one print
_OFFSET = 1e3  # deviations from zero, above which an offset no longer widens the precision of a column
_BESIDE = 4  # neighbours on either side that are compared with a sample
_FARTHEST, _LARGEST = 1e100, 1e307  # in units, and of values, so that no sum and no difference overflows
_REFERENCE_NUMBERS = 2**17  # that show typical values
_MOST_KNOTS = 100


class Fingerprint(Learned):
    """Projections of raw samples in units of their columns or channels, by which a training sample is recognised.

    A sample is also recognised after conversion to float32 or printing with seven significant digits.

    Parameters
    ----------
    unit_shape : tuple of int
        Shape that broadcasts against a sample: one unit for each column of a table, or for each channel.
    size : int
        How many numbers a sample has.

    Attributes
    ----------
    center, scale : Tensor of shape unit_shape, float64
        A typical value and deviation of each column or channel.
    directions : Tensor of shape (size, 3), float32
        Random weights of the numbers of a sample in each projection.
    """

    center: Tensor
    scale: Tensor
    directions: Tensor

    def __init__(self, unit_shape: tuple[int, ...], size: int):
        super().__init__()
        self.unit_shape, self.size = unit_shape, size
        for name in ("center", "scale"):
            self.declare(name, torch.float64, *unit_shape)
        self.declare("directions", torch.float32, size, _PROJECTIONS)

    def learn_units(self, X: Samples, layout: Layout) -> None:
        """Learn typical values and deviations from some samples of X."""
        enough = max(1, _REFERENCE_NUMBERS // self.size)
        some = np.array(X[:: max(1, len(X) // enough)], dtype=np.float64)
        columns = layout.to_network(torch.from_numpy(some)).movedim(1, -1).flatten(0, -2).clamp(-_LARGEST, _LARGEST)
        center = columns.median(dim=0).values
        deviations = (columns - center).abs()
        scale = deviations.masked_fill(deviations == 0, torch.nan).nanmedian(dim=0).values
        scale = torch.where(scale > 0, scale, center.abs())
        generator = torch.Generator().manual_seed(_SEED)
        self.learn(
            center=center.view(self.unit_shape),
            scale=torch.where(scale > 0, scale, 1.0).view(self.unit_shape),
            directions=torch.rand(self.size, _PROJECTIONS, generator=generator, dtype=torch.float32) + 0.5,
        )

    def forward(self, samples: Tensor) -> Tensor:
        """Fingerprints of samples: three projections, and the precision of them.

        Parameters
        ----------
        samples : Tensor of shape (batch, \\*sample_shape), float64
            In the units of X.

        Returns
        -------
        prints : Tensor of shape (batch, 4), float64
        """
        center, scale = self.center.to(samples), self.scale.to(samples)
        scaled = (at_least(at_most((samples / scale), _LARGEST), -_LARGEST) - center / scale).flatten(1)
        scaled = at_least(at_most(scaled, _FARTHEST), -_FARTHEST)
        sizes = (samples.abs() / scale).flatten(1).minimum(_OFFSET + scaled.abs())
        projections = scaled @ (self.directions.to(samples) / self.size)
        return torch.cat([projections, _PRECISION * (sizes.mean(dim=1, keepdim=True) + _FLOOR)], dim=1)


def take_prints(X: Samples, layout: Layout, fingerprint: Fingerprint) -> Tensor:
    """Fingerprints of all samples of X, read in blocks: (n_samples, 4)."""
    prints = torch.empty(len(X), _PROJECTIONS + 1, dtype=torch.float64)
    for start, block in row_blocks(X):
        samples = layout.to_network(torch.from_numpy(np.array(block, dtype=np.float64)))
        prints[start : start + len(block)] = fingerprint(samples)
    return prints


class KnownSamples(Learned):
    """The training samples, and the memory items that are made of them.

    A training row in a memory of rows is reconstructed without its own item, in training and whenever it is scored. With its
    own item even a row that resembles no other row would be reconstructed well. Rows that are equal up to rounding share one
    item, so no copy answers for a row either: training rows and new rows are treated alike, whether copies are frequent kinds
    or one record that came several times.

    Parameters
    ----------
    fingerprint : Fingerprint
    n_training : int or None, default=None
        In a memory of rows, the first ``n_training`` items of each member are made of rows that it was trained on, and the
        others of rows that it was not trained on. None if items are learned.

    Attributes
    ----------
    prints : Tensor of shape (3, n_groups), float64
        Fingerprints of the samples, the first projection ascending.
    counts : Tensor of shape (n_groups,), float64, or None
        Training rows that are this sample, 1 for a record that came several times. None if items are learned.
    item_groups, item_rows : Tensor of shape (members, N), int64, or None
        The sample that each item of a memory of rows is made of, and its row in the training data.
    """

    prints: Tensor
    counts: Tensor
    item_groups: Tensor
    item_rows: Tensor
    own_item: Tensor
    n_training: int

    def __init__(self, fingerprint: Fingerprint, n_training: int | None = None):
        super().__init__()
        self.fingerprint = fingerprint
        self.n_training = n_training  # type: ignore[assignment]
        self.declare("prints", torch.float64, _PROJECTIONS, "n_groups")
        self.declare("counts", torch.float64, "n_groups", optional=n_training is None)
        for name in ("item_groups", "item_rows"):
            self.declare(name, torch.int64, "members", "N", optional=n_training is None)
        # (members, n_groups + 1): -1 for none, and in the last column for unknown samples.
        self.register_buffer("own_item", None, persistent=False)

    def learn_samples(self, copies: Copies, rows: Tensor, is_record: Tensor | None = None) -> Tensor:
        """Store the samples of some rows; return the known sample that each row of the data is, -1 for none: (n_samples,).

        Parameters
        ----------
        copies : Copies
        rows : Tensor of int
        is_record : Tensor of bool of shape (n_groups,) or None, default=None
            Result of :func:`repeated_records`, for a memory of rows.
        """
        groups = torch.unique(copies.group[rows])
        self.learn(prints=copies.prints[groups, :_PROJECTIONS].T.contiguous())
        if is_record is not None:
            self.learn(counts=copies.counts[groups].masked_fill(is_record[groups], 1))
        if not len(groups):
            return torch.full_like(copies.group, -1)
        return self.find(copies.prints)[copies.group]  # as they are found when they are scored

    def learn_items(self, group: Tensor, chosen: Tensor, numbers: Tensor) -> None:
        """Store the rows that memory items are made of.

        Parameters
        ----------
        group : Tensor of int of shape (n_samples,)
            Result of :meth:`learn_samples` with these rows.
        chosen : Tensor of int of shape (members, N)
            The row of each item.
        numbers : Tensor of int of shape (n_samples,)
            Numbers of the rows among all training data of a stream.
        """
        self.learn(item_groups=group[chosen], item_rows=numbers[chosen])
        self.own_item = self._own_items_of_groups()

    def _own_items_of_groups(self) -> Tensor:
        """The item of each member that is made of each sample: (members, n_groups + 1), -1 for none."""
        members, n_groups = len(self.item_groups), self.prints.shape[1]
        items = torch.full((members, n_groups + 1), -1, dtype=torch.int64, device=self.prints.device)
        places = torch.arange(self.item_groups.shape[1], device=items.device).expand(members, -1)
        return items.scatter_(1, self.item_groups, places)

    def find(self, prints: Tensor) -> Tensor:
        """The known sample with each fingerprint: (batch, 4) -> (batch,), int64, -1 for unknown samples."""
        wanted = prints[:, :-1].T.contiguous()
        place = _bisect(self.prints[0], wanted[0])
        beside = place.unsqueeze(1) + torch.arange(-_BESIDE, _BESIDE, device=place.device)
        beside = beside.clamp(0, self.prints.shape[1] - 1)
        gaps = (self.prints[:, beside] - wanted.unsqueeze(2)).abs().amax(dim=0)
        gap, nearest = gaps.min(dim=1)
        group = beside.gather(1, nearest.unsqueeze(1)).squeeze(1)
        return torch.where(gap <= prints[:, -1], group, -1)

    def own_items(self, group: Tensor) -> Tensor | None:
        """The item of each member that is made of each sample: (batch,) -> (members, batch); None where items are learned."""
        return None if self.own_item is None else self.own_item[:, group]

    def discounted(self, scores: Tensor, group: Tensor | None, is_counted: bool = False) -> Tensor:
        """Scores over the root of the frequency of samples: (batch,), float64 -> (batch,).

        A kind of sample is normal if it is frequent, however far it is from other kinds. Its frequency is counted from two
        standard deviations below the count, so a kind of up to four rows is as rare as a new one. With ``is_counted`` the
        samples do not count themselves: a score as of a new sample.
        """
        if self.counts is None or group is None:
            return scores
        counts = self.counts - 1 if is_counted else self.counts
        frequency = 1 + (counts - 2 * counts.sqrt()).clamp_min(0)
        return torch.where(group >= 0, scores / frequency[group.clamp_min(0)].sqrt().to(scores.device), scores)

    def scoring_members(self, own_items: Tensor) -> Tensor:
        """Which members score a sample: those that were not trained on it if there are any, else all.

        (members, batch) of :meth:`own_items` -> (members, batch), bool
        """
        untrained = own_items >= self.n_training
        return untrained | ~untrained.any(dim=0)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if self.item_groups is not None and not self.item_groups.is_meta:
            self.own_item = self._own_items_of_groups()


class Calibration(Learned):
    """Raises scores of training samples to those that they would have if they had not been trained on.

    A network reconstructs training samples better than other samples of the same kind. So the score of a training sample, a
    quantile of the scores of training samples, is replaced by the same quantile of the held-out scores, unless this is lower.
    The order of scores is kept, and between quantiles logarithms of scores are interpolated.

    Attributes
    ----------
    trained, held_out : Tensor of shape (n_quantiles,), float64
        The same quantiles of the logarithms of the scores of training samples and of held-out samples.
    """

    trained: Tensor
    held_out: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("trained", "held_out"):
            self.declare(name, torch.float64, "n_quantiles")

    def learn_quantiles(self, trained: np.ndarray, held_out: np.ndarray) -> "Calibration":
        """Learn from the scores of training samples and of held-out samples, at least one of each."""
        count = min(len(held_out), _MOST_KNOTS)
        levels = np.arange(1, count + 1) / (count + 1)
        # A new score is below such a quantile, also one of few scores, with exactly the probability that is its level.
        below, above = (np.quantile(scores, levels, method="weibull") for scores in (trained, held_out))
        below = np.maximum(below, TINY)
        above = np.maximum(np.maximum(above, TINY), below)
        self.learn(trained=torch.from_numpy(np.log(below)), held_out=torch.from_numpy(np.log(above)))
        return self

    def forward(self, scores: Tensor, is_known: Tensor) -> Tensor:
        """Scores with those of known samples raised: (batch,), float64 and bool -> (batch,)."""
        logarithms = at_least(scores, TINY).log()
        raised = self.held_out - self.trained
        inner = self.trained[1:-1]
        if torch.compiler.is_compiling():  # ONNX has no search
            place = (logarithms.unsqueeze(1) >= inner).sum(dim=1)
        else:
            place = torch.searchsorted(inner, logarithms, right=True)
        following = (place + 1).clamp_max(len(self.trained) - 1)
        step = at_least(self.trained[following] - self.trained[place], TINY)
        share = ((logarithms - self.trained[place]) / step).clamp(0, 1)
        raised = raised[place] + share * (raised[following] - raised[place])
        return torch.where(is_known, at_most((logarithms + raised).exp(), LARGEST), scores)


def _bisect(ascending: Tensor, values: Tensor) -> Tensor:
    """Number of ascending values below each value: (n,), (batch,) -> (batch,)."""
    if not torch.compiler.is_compiling():
        return torch.searchsorted(ascending, values)
    place, step = torch.zeros_like(values, dtype=torch.int64), 2 ** (len(ascending).bit_length() - 1)
    padded = torch.cat([ascending, ascending.new_full((2 * step - len(ascending),), torch.inf)])  # ONNX has no search
    while step:
        place = torch.where(padded[place + step - 1] < values, place + step, place)
        step //= 2
    return place

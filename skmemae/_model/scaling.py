"""The units in which samples are compared: learned in ``fit``, applied to every batch."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from skmemae._model.learned import Learned

TABLE_LIMIT = 10.0
FAR_LIMIT = 1e9  # of scaled values that have no limit of their own: their squares still fit into float32
_FLAT = (
    0.2  # share of a typical deviation, added to the deviation of each sample, so that noise in flat images is not amplified
)
_FARTHEST = 1000.0  # typical deviations, to which brightness offsets and deviations of a sample are clipped


class Scaling(Learned):
    """An affine scaling of the samples, with optional logarithms before it and each sample's own units after it.

    Parameters
    ----------
    sample_shape : sequence of int
        Shape of a sample of the network.
    table : bool
        Whether units are learned per column, as for tables, or per channel.
    limit : float
        Scaled values beyond the limit grow logarithmically: one extreme value of a row cannot dominate the rest, no square
        overflows, and the order of values is kept.

    Attributes
    ----------
    center, scale : Tensor that broadcasts against a sample, float64
    log_unit : Tensor that broadcasts against a sample, float64, or None
        Units of the columns or channels x that are first replaced by ``log(1 + |x| / unit)`` with the sign of x; infinite for
        columns and channels that stay as they are.
    mean_sample : Tensor of shape sample_shape, float64, or None
        If there is one, each scaled sample is brought to mean 0 and about unit deviation by its own mean and deviation. Then
        ``mean_sample``, the mean of such samples, is subtracted.
    """

    center: Tensor
    scale: Tensor
    log_unit: Tensor
    mean_sample: Tensor

    def __init__(self, sample_shape: Sequence[int], table: bool, limit: float):
        super().__init__()
        self.sample_shape = tuple(sample_shape)
        self.unit_shape = unit_shape(self.sample_shape, table)
        self.limit = limit
        for name in ("center", "scale"):
            self.declare(name, torch.float64, *self.unit_shape)
        self.declare("log_unit", torch.float64, *self.unit_shape, optional=True)
        self.declare("mean_sample", torch.float64, *self.sample_shape, optional=True)

    def learn_units(self, center: np.ndarray, scale: np.ndarray) -> None:
        """Set center and scale, each an array with one number for every unit, or with one number for all."""
        units = (torch.from_numpy(np.array(np.broadcast_to(unit, math.prod(self.unit_shape)))) for unit in (center, scale))
        self.center, self.scale = (unit.view(self.unit_shape) for unit in units)

    @property
    def fits_bytes(self) -> bool:
        """Whether scaled bytes cannot exceed the limit, so that no check is needed."""
        return self.limit >= FAR_LIMIT

    def forward(self, samples: Tensor, are_bytes: bool = False) -> Tensor:
        """Scaled float32 samples, computed in the precision of ``samples``; finite for finite samples.

        Parameters
        ----------
        samples : Tensor of shape (batch, \\*sample_shape), float64
            float32 where the device has no float64.
        are_bytes : bool, default=False
            Whether values are in [0, 255] and :attr:`fits_bytes` is true, so that none is beyond the limit.
        """
        scaled = (self.log(samples) - self.center.to(samples)).div_(self.scale.to(samples))
        if not are_bytes and self._exceeded(scaled):
            scaled = _compress(scaled, self.limit)
        if self.mean_sample is not None:
            mean, deviation = _own_units(scaled)
            scaled = (scaled - mean).div_(deviation).sub_(self.mean_sample.to(samples))
        return scaled.float()

    def inverse(self, scaled: Tensor, samples: Tensor | None = None) -> Tensor:
        """Bring scaled samples back to the units of X: (batch, \\*sample_shape), float64.

        Parameters
        ----------
        scaled : Tensor of shape (batch, \\*sample_shape), float64
        samples : Tensor of the same shape or None, default=None
            The samples that ``scaled`` reconstructs. The result gets their means and deviations if a mean sample is subtracted;
            None gives a typical mean and deviation.
        """
        center, scale = self.center.to(scaled), self.scale.to(scaled)
        if self.mean_sample is not None:
            scaled = scaled + self.mean_sample.to(scaled)
            if samples is not None:
                mean, deviation = _own_units(_compress((self.log(samples) - center).div_(scale), self.limit))
                scaled = scaled * deviation + mean
        beyond = (scaled.abs() - self.limit).clamp_min(0)
        scaled = scaled.clamp(-self.limit, self.limit) + torch.sign(scaled) * torch.expm1(beyond)
        samples = _finite(scaled * scale + center)
        if self.log_unit is None:
            return samples
        log_unit = self.log_unit.to(scaled)
        return _finite(torch.where(log_unit.isinf(), samples, samples.sign() * torch.expm1(samples.abs()) * log_unit))

    def log(self, samples: Tensor) -> Tensor:
        """Samples in which columns or channels with a finite ``log_unit`` are replaced by their logarithms."""
        if self.log_unit is None:
            return samples
        log_unit = self.log_unit.to(samples)
        return torch.where(log_unit.isinf(), samples, samples.sign() * torch.log1p(_finite(samples.abs() / log_unit)))

    def distance_from_mean(self, scaled: Tensor) -> Tensor:
        """Squared distance per number of each sample from the mean sample: (batch,), in (0, 4).

        The mean square of the sample counts as 1, so a flat sample is not nearer for being flat. The result is 1 for all
        samples if no mean sample is subtracted.
        """
        if self.mean_sample is None:
            return scaled.new_ones(scaled.shape[0])
        mean_sample = self.mean_sample.to(scaled)
        energy = mean_sample.square().mean()
        # |s - m|^2 = 1 + |m|^2 - 2 <s, m> with s the sample, of which scaled is the difference from m.
        likeness = (scaled * mean_sample).flatten(1).mean(dim=1) + energy
        norm = (scaled + mean_sample).square().flatten(1).mean(dim=1).sqrt()
        return 1 + energy - 2 * likeness / norm.clamp_min(1)

    def _exceeded(self, scaled: Tensor) -> bool:
        if not scaled.numel():
            return False
        if torch.compiler.is_compiling():  # an exporter cannot look at values
            return True
        least, greatest = torch.aminmax(scaled)
        return bool(max(-least, greatest) > self.limit)


def unit_shape(sample_shape: Sequence[int], table: bool) -> tuple[int, ...]:
    """Shape of the units of a sample: one for each column of a table, or for each channel."""
    return tuple(sample_shape) if table else (sample_shape[0], *[1] * (len(sample_shape) - 1))


def _own_units(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each sample, and its deviation plus a share of a typical one, for samples in typical deviations."""
    deviation, mean = torch.std_mean(samples, dim=tuple(range(1, samples.ndim)), correction=0, keepdim=True)
    return mean.clamp(-_FARTHEST, _FARTHEST), deviation.clamp_max(_FARTHEST) + _FLAT


def _compress(scaled: Tensor, limit: float) -> Tensor:
    """Values in which the part b beyond the limit is replaced by ``log(1 + b)``."""
    beyond = _finite((scaled.abs() - limit).clamp_min_(0))
    return scaled.clamp(-limit, limit) + torch.sign(scaled) * torch.log1p(beyond)


def _finite(values: Tensor) -> Tensor:
    """Values with infinities replaced by the largest number."""
    # A tensor on the device: the exporter to ONNX would round a number to float32, where this one is infinite.
    largest = values.new_full((), torch.finfo(values.dtype).max)
    return values.clamp(-largest, largest)

"""The units in which samples are compared: learned in ``fit``, applied to every batch."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

TABLE_LIMIT = 10.0
FAR_LIMIT = 1e9  # for what has no limit of its own: its squares still fit into float32
_BLANK = (
    0.2  # of the typical deviation of a sample, added to each sample's own, so that the noise of a blank sample stays noise
)
_DARKEST = 1000.0  # typical deviations: what is farther from the typical light is no matter of light


@dataclass(frozen=True)
class Scaling:
    """An affine scaling of the samples, and what may go before and after it.

    Attributes
    ----------
    center, scale : ndarray that broadcasts against a sample of the network, float64
    limit : float
        Scaled values beyond it grow logarithmically: one wild column of one row cannot drown the rest, no square overflows,
        and the order of values is kept.
    log_unit : ndarray that broadcasts against a sample of the network, or None, default=None
        Where columns or channels x are replaced by ``log(1 + |x| / unit)`` with the sign of x before all else: their units,
        infinite for those that stay as they are.
    mean_sample : ndarray of shape sample_shape or None, default=None
        Where each scaled sample is brought to mean 0 and about unit deviation by its own mean and deviation: the mean of such
        samples, which is then subtracted.
    """

    center: np.ndarray
    scale: np.ndarray
    limit: float = FAR_LIMIT
    log_unit: np.ndarray | None = None
    mean_sample: np.ndarray | None = None

    def apply(self, samples: Tensor) -> Tensor:
        """Scaled float32 samples, computed in the precision of ``samples``; finite for finite samples.

        Parameters
        ----------
        samples : Tensor of shape (batch, \\*sample_shape), float64
            float32 where the device has no float64.
        """
        center, scale, _, mean_sample = self._tensors(samples)
        scaled = (self.log(samples) - center).div_(scale)
        if self._exceeded(scaled):
            scaled = _compress(scaled, self.limit)
        if mean_sample is not None:
            mean, deviation = _light(scaled)
            scaled = (scaled - mean).div_(deviation).sub_(mean_sample)
        return scaled.float()

    def inverse(self, scaled: Tensor, samples: Tensor | None = None) -> Tensor:
        """Samples in their own units.

        Parameters
        ----------
        scaled : Tensor of shape (batch, \\*sample_shape), float64
        samples : Tensor of the same shape or None, default=None
            The samples that ``scaled`` reconstructs, whose own mean and deviation it gets; None for typical ones.
        """
        center, scale, log_unit, mean_sample = self._tensors(scaled)
        if mean_sample is not None:
            scaled = scaled + mean_sample
            if samples is not None:
                mean, deviation = _light(_compress((self.log(samples) - center).div_(scale), self.limit))
                scaled = scaled * deviation + mean
        beyond = (scaled.abs() - self.limit).clamp_min(0)
        scaled = scaled.clamp(-self.limit, self.limit) + torch.sign(scaled) * torch.expm1(beyond)
        samples = _finite(scaled * scale + center)
        if log_unit is None:
            return samples
        return _finite(torch.where(log_unit.isinf(), samples, samples.sign() * torch.expm1(samples.abs()) * log_unit))

    def log(self, samples: Tensor) -> Tensor:
        """Logarithms of the columns or channels that have a unit."""
        if self.log_unit is None:
            return samples
        *_, log_unit, _ = self._tensors(samples)
        return torch.where(log_unit.isinf(), samples, samples.sign() * torch.log1p(_finite(samples.abs() / log_unit)))

    def distance_from_mean(self, scaled: Tensor) -> Tensor:
        """Squared distance of each sample's shape from the mean sample, per number: (batch,), in (0, 4).

        The sample is taken to have unit norm, however flat it is, so that nothing but its likeness to the mean sample counts.
        One for all where no mean sample is subtracted.
        """
        if self.mean_sample is None:
            return scaled.new_ones(scaled.shape[0])
        *_, mean_sample = self._tensors(scaled)
        energy = mean_sample.square().mean()
        # |s - m|^2 = 1 + |m|^2 - 2 <s, m> with s the sample, of which scaled is the difference from m.
        likeness = (scaled * mean_sample).flatten(1).mean(dim=1) + energy
        norm = (scaled + mean_sample).square().flatten(1).mean(dim=1).sqrt()
        return 1 + energy - 2 * likeness / norm.clamp_min(1)

    def to(self, device, dtype) -> "Scaling":
        """The same with tensors on a device in place of arrays, for samples that are there."""
        tensors: dict[str, Any] = {}
        for name in ("center", "scale", "log_unit", "mean_sample"):
            array = getattr(self, name)
            tensors[name] = None if array is None else torch.tensor(array, dtype=dtype, device=device)
        return replace(self, **tensors)

    def _exceeded(self, scaled):
        if math.isinf(self.limit) or not scaled.numel():
            return False
        if torch.compiler.is_compiling():  # for export, which cannot look
            return True
        least, greatest = torch.aminmax(scaled)
        return max(-least, greatest) > self.limit

    def _tensors(self, reference: Tensor):
        def tensor(array):
            is_ready = array is None or isinstance(array, Tensor)
            return array if is_ready else torch.tensor(array, dtype=reference.dtype, device=reference.device)

        return map(tensor, (self.center, self.scale, self.log_unit, self.mean_sample))


def _light(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each sample, and its deviation with the share of a typical one, of samples in typical deviations."""
    deviation, mean = torch.std_mean(samples, dim=tuple(range(1, samples.ndim)), correction=0, keepdim=True)
    return mean.clamp(-_DARKEST, _DARKEST), deviation.clamp_max(_DARKEST) + _BLANK


def _compress(scaled: Tensor, limit: float) -> Tensor:
    """Values beyond the limit by the logarithm of what they are beyond it."""
    beyond = _finite((scaled.abs() - limit).clamp_min_(0))
    return scaled.clamp(-limit, limit) + torch.sign(scaled) * torch.log1p(beyond)


def _finite(values: Tensor) -> Tensor:
    """Values with infinities replaced by the largest number."""
    # A tensor, as the exporter to ONNX rounds numbers to float32, where this one is infinite; made on the device.
    largest = values.new_full((), torch.finfo(values.dtype).max)
    return values.clamp(-largest, largest)

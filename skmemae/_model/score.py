"""The anomaly score: from residuals to named terms, from terms to scores and shares."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from skmemae._model.learned import LARGEST, TINY, Learned, at_least, at_most
from skmemae._model.scaling import Scaling
from skmemae.network import Output
from skmemae.network.smoothing import gaussian_blur

ERRORS = ("reconstruction", "absolute", "power", "smooth", "local", "relative")
FACTORS = ("query", "subsets", "turns", "paces", "patches")


class Terms(NamedTuple):
    """Terms of the anomaly scores of a batch."""

    errors: Tensor  # (batch, members), float64
    query_distances: Tensor | None = None  # squared, between query and read-out: (batch, members), float64
    scoring: Tensor | None = None  # members that score the sample: (batch, members), float64, 0 or 1
    subset_distances: Tensor | None = None  # from random subsets and from the median row: (batch, 2)
    feature_distances: Tensor | None = None  # from the reference features: (batch,)


class Score(Learned):
    """An anomaly score, higher = more abnormal: an error, with an optional factor or summand.

    Parameters
    ----------
    name : str
        An error, or an error and a factor with a hyphen between them. Errors, in scaled units:

        * "reconstruction": squared l2 error, the criterion of the paper;
        * "absolute": l1 error;
        * "power": sum of the absolute errors to the power 1.5;
        * "smooth": squared l2 error after a Gaussian blur of the last two axes, times :meth:`Scaling.distance_from_mean`;
        * "local": l4 norm of the mean squares of patches, of a clip the median over its frames;
        * "relative": squared l2 error divided by the l2 norm of the sample, where 1 per number is added under the root, so
          that scores of blank samples are finite.

        Factors:

        * "query": ``1 + q / (10 q_0)`` with q the squared distance between query and read-out, q_0 its median in training;
        * "subsets": adds the distances from random subsets and the median row, with their weights and all terms in units of
          their medians in training;
        * "turns", "paces": the square root of the error, times the distance from the training samples in reference features;
        * "patches": the same with the distance in local features.

    members : int

    Attributes
    ----------
    typical_query_distances : Tensor of shape (members,), float64, or None
        q_0 of each member.
    typical_error : Tensor of shape (), float64, or None
        Median error in training, the unit of errors with "subsets".
    """

    typical_query_distances: Tensor
    typical_error: Tensor

    def __init__(self, name: str, members: int):
        super().__init__()
        self.name, self.members = name, members
        self.error, _, factor = name.partition("-")
        self.factor = factor or None
        self.declare("typical_query_distances", torch.float64, members, optional=self.factor != "query")
        self.declare("typical_error", torch.float64, optional=self.factor != "subsets")
        ones = torch.ones(members, dtype=torch.float64)
        self.learn(typical_query_distances=ones if self.factor == "query" else None)
        self.learn(typical_error=ones[0] if self.factor == "subsets" else None)

    @property
    def trained_power(self) -> float:
        """Power of the absolute errors that training makes small."""
        return {"absolute": 1.0, "power": 1.5}.get(self.error, 2.0) if self.name != "absolute-query" else 2.0

    def terms(self, x: Tensor, output: Output, scaling: Scaling) -> Terms:
        """Errors of scaled samples, and query distances if the score uses them."""
        residual = self._weighed((output.reconstruction - x).flatten(0, 1))
        errors = _local_error(residual) if self.error == "local" else _sum(self._powers(residual))
        errors = errors.unflatten(0, output.reconstruction.shape[:2])
        if self.error == "smooth":
            errors = errors * scaling.distance_from_mean(x).to(errors)
        elif self.error == "relative":
            errors = errors / (_sum(x.square()) + x[0].numel()).sqrt()
        distances = None
        if self.factor == "query" and output.read_out is not None:
            gaps = output.query - output.read_out
            distances = _sum(gaps.square().flatten(0, 1)).unflatten(0, gaps.shape[:2]).mT
        return Terms(errors.mT, distances)

    def _weighed(self, residual: Tensor) -> Tensor:
        """Residuals that enter the error: blurred for "smooth"."""
        return _blur(residual) if self.error == "smooth" else residual

    def _powers(self, residual: Tensor) -> Tensor:
        """Summands of the error: powers of the residuals."""
        if self.error == "absolute":
            return residual.abs()
        return residual.abs() ** 1.5 if self.error == "power" else residual.square()

    def errors(self, terms: Terms) -> Tensor:
        """Errors with the query's factor, geometric mean over the members that score: (batch,), float64, finite."""
        errors = terms.errors
        if terms.query_distances is not None:
            errors = errors * (1 + 0.1 * terms.query_distances / self.typical_query_distances)
        errors = at_most(torch.where(errors.isnan(), LARGEST, errors), LARGEST)
        if errors.shape[1] == 1:
            return errors[:, 0]
        logarithms = at_least(errors, TINY).log()
        if terms.scoring is None:
            return logarithms.mean(dim=1).exp()
        return ((logarithms * terms.scoring).sum(dim=1) / terms.scoring.sum(dim=1)).exp()

    def forward(self, errors: Tensor, subsets: Tensor | None, features: Tensor | None) -> Tensor:
        """Scores from errors, (batch,), distances from subsets in units, and distances from features: (batch,), finite."""
        if subsets is not None:
            errors = errors / self.typical_error + subsets
        elif features is not None:
            errors = errors.sqrt() * features.to(errors)
        return at_most(errors, LARGEST)

    def shares(self, x: Tensor, output: Output, scoring: Tensor | None) -> Tensor:
        """Part of each number of a sample in its error: like x, float64, not negative, with sum 1.

        Shares of a member's error are in proportion to the summands of the error. Shares of the geometric mean over the members
        are the means of their shares.

        Parameters
        ----------
        x : Tensor of shape (batch, \\*sample_shape)
        output : Output
        scoring : Tensor of shape (batch, members) or None
            As in :class:`Terms`.
        """
        residual = (output.reconstruction - x).cpu()
        weighed = self._weighed(residual.flatten(0, 1)).double()
        if self.error == "local":
            # The error is homogeneous in the residual: by Euler's theorem the residual times its gradient sums to it.
            with torch.inference_mode(False), torch.enable_grad():
                leaf = weighed.clone().requires_grad_()
                (gradient,) = torch.autograd.grad(_local_error(leaf).sum(), leaf)
            parts = (weighed * gradient).clamp_min_(0)
        else:
            parts = self._powers(weighed)
        total = parts.flatten(1).sum(dim=1).view(-1, *[1] * (parts.ndim - 1))
        members = torch.where(total > 0, parts / total, 1 / parts[0].numel()).unflatten(0, residual.shape[:2])
        if scoring is None:
            return members.mean(dim=0)
        weights = scoring.mT.cpu().view(*members.shape[:2], *[1] * (x.ndim - 1))
        return (members * weights).sum(dim=0) / weights.sum(dim=0)


def _blur(images: Tensor) -> Tensor:
    """Gaussian blur of the last two axes, its deviation a 24th of the smaller side, and at most 1.5 pixels of 64 x 64.

    It makes errors small at edges that are reconstructed one pixel off, which are no anomalies.
    """
    height, width = images.shape[-2:]
    sigma = max(min(1.5, min(height, width) / 24), 1.5 * math.sqrt(height * width) / 64 if height * width > 64**2 else 0)
    return gaussian_blur(images, sigma, max(4, math.ceil(2.6 * sigma)))


def _local_error(residual: Tensor) -> Tensor:
    """The l4 norm of the mean squares of patches, a seventh of the smaller side wide and half overlapping.

    An error in one place counts for more than the same error spread over the image, as spread errors grow with the content of
    an image. For a clip it is the median over the frames: an abnormal event lasts, unlike a frame that was lost or shaken.
    """
    if residual.ndim == 4:  # an image is a clip of one frame
        residual = residual.unsqueeze(2)
    side = max(1, round(min(residual.shape[-2:]) / 7))
    patches = nn.functional.avg_pool2d(residual.square().mean(dim=1), side, stride=max(1, side // 2)).flatten(2)
    worst = patches.amax(dim=2, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)  # divided by it, no power overflows
    error = (worst.squeeze(2) * torch.linalg.vector_norm(patches / worst, ord=4, dim=2)).quantile(0.5, dim=1)
    return _sum(error.unsqueeze(1))


def _sum(values: Tensor) -> Tensor:
    """Sum over a sample in float64; on the CPU where the device has no float64."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)

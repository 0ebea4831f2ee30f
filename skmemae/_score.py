"""How a residual becomes an anomaly score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.draws import Draws
from skmemae._data.scaling import Scaling
from skmemae._data.seen import LARGEST, TINY
from skmemae.network import MemAE, Output

# The error that counts, and the exemplars whose distance its root is multiplied by.
_BY_EXEMPLARS = {
    ("combined", "conv2d"): ("smooth", "turns"),
    ("combined", "conv3d"): ("relative", "turns"),
    ("motion", "conv3d"): ("local", "paces"),
}


@dataclass(frozen=True)
class Score:
    """How a residual becomes an anomaly score, higher = more abnormal.

    Attributes
    ----------
    kind : {"reconstruction", "absolute", "power", "smooth", "local", "relative", "combined"}
        "reconstruction" is the squared l2 error in scaled units, the paper's criterion. "absolute" is the l1 error, and "power"
        lies between the two, the sum of the absolute errors to the power 1.5. "smooth" is the squared error after a Gaussian
        blur in the last two axes, times ``Scaling.distance_from_mean``. "local" is the l4 norm of the mean squares of patches,
        of a clip the median over its frames. "relative" divides the error by the l2 norm of the sample, with one unit a number
        added under the root so that blank samples stay finite. "combined" is the l1 error times ``1 + distance / (10 *
        typical_distance)``, with the squared distance between query and read-out.
    typical_distances : tuple of float
        Median of that distance over the training samples, for each member.
    draws : Draws or None, default=None
        Whose distances are added to the error.
    exemplars : {"turns", "paces"} or None, default=None
        What the root of the error is multiplied by the distance from.
    """

    kind: str
    typical_distances: tuple[float, ...]
    draws: Draws | None = None
    exemplars: str | None = None

    @classmethod
    def of(
        cls, anomaly_score: str, members: int, family: str = "fc", of_rows: bool = False, draws: Draws | None = None
    ) -> "Score":
        """From the parameter of ``MemAEDetector``: "combined" has other meanings for images and where items are rows."""
        units = (1.0,) * members
        if of_rows and anomaly_score == "combined":
            return cls("power", units, draws)
        kind, exemplars = _BY_EXEMPLARS.get((anomaly_score, family), (anomaly_score, None))
        return cls(kind, units, exemplars=exemplars)

    @property
    def trained_power(self) -> float:
        """Power of the absolute errors that training makes small."""
        return {"absolute": 1.0, "power": 1.5}.get(self.kind, 2.0)

    @property
    def needs_distances(self) -> bool:
        """Whether the score has a use for typical distances."""
        return self.kind == "combined"

    def terms(self, x: Tensor, outputs: Sequence[Output], networks: Sequence[MemAE], scaling: Scaling) -> Tensor:
        """Error and distance of each sample for each member, (batch, ensemble_size, 2), summed in float64."""
        pairs = list(zip(outputs, networks, strict=True))
        errors = [self._error(x, with_members(output.reconstruction, network), scaling) for output, network in pairs]
        distances = [self._distance(output, network, errors[0]) for output, network in pairs]
        return torch.stack([torch.cat(errors).mT, torch.cat(distances).mT], dim=2)

    def _error(self, x: Tensor, reconstructions: Tensor, scaling: Scaling) -> Tensor:
        """Errors of shape (members, batch)."""
        residual = self._counted((reconstructions - x).flatten(0, 1))
        error = _local_error(residual) if self.kind == "local" else _sum(self._powers(residual))
        error = error.unflatten(0, reconstructions.shape[:2])
        if self.kind == "smooth":
            return error * scaling.distance_from_mean(x).to(error)
        return error / (_sum(x.square()) + x[0].numel()).sqrt() if self.kind == "relative" else error

    def _counted(self, residual: Tensor) -> Tensor:
        """The residual as it counts."""
        return _blur(residual) if self.kind == "smooth" else residual

    def _powers(self, residual: Tensor) -> Tensor:
        """What is summed of the residual as it counts."""
        if self.kind in ("absolute", "combined"):
            return residual.abs()
        return residual.abs() ** 1.5 if self.kind == "power" else residual.square()

    def shares(self, x: Tensor, outputs: Sequence[Output], networks: Sequence[MemAE], terms: Tensor) -> Tensor:
        """What each number of a sample adds to the score: like x, float64, not negative.

        The error of a member is shared out in proportion to what it sums, and the geometric mean over the members in
        proportion to the mean of their shares; what multiplies the error of a sample multiplies its shares. Distances from
        draws and median are sums over the numbers themselves.

        Parameters
        ----------
        x, outputs, networks
            As for :meth:`terms`.
        terms : Tensor of shape (batch, ensemble_size, 3 or more)
            As for :meth:`combine`.
        """
        counts, members = terms[..., 2].mT.cpu().double(), []
        for output, network in zip(outputs, networks, strict=True):
            residual = (with_members(output.reconstruction, network) - x).cpu()
            counted = self._counted(residual.flatten(0, 1)).double()
            members.append(_fractions(counted, self._powers, self.kind == "local").unflatten(0, residual.shape[:2]))
        fractions, counts = torch.cat(members), counts.view(*counts.shape, *[1] * (x.ndim - 1))
        fractions = (fractions * counts).sum(dim=0) / counts.sum(dim=0)
        errors = torch.from_numpy(self.errors(terms.numpy(force=True))).view(-1, *[1] * (x.ndim - 1))
        if self.draws is None:
            return errors * fractions
        return errors / self.draws.typical_error * fractions + self.draws.shares(x).cpu().double()

    def _distance(self, output: Output, network: MemAE, like: Tensor) -> Tensor:
        """Distances of shape (members, batch)."""
        if not self.needs_distances or output.read_out is None:
            return torch.zeros_like(like[:1]).expand(network.members or 1, -1)
        gaps = with_members(network.queries(output.encoding) - output.read_out, network)
        return _sum(gaps.square().flatten(0, 1)).unflatten(0, gaps.shape[:2])

    def combine(self, terms: np.ndarray) -> np.ndarray:
        """Scores from terms: (n_samples, ensemble_size, 2 or more) -> (n_samples,), finite.

        The third term says which members count; what follows are the distances from draws or exemplars.
        """
        return self.finish(self.errors(terms), terms[:, 0, 3:])

    def finish(self, errors: np.ndarray, distances: np.ndarray) -> np.ndarray:
        """Scores from errors, (n_samples,), and the distances from draws or exemplars, (n_samples, n_distances)."""
        if self.draws is not None:
            errors = self.draws.add(errors, distances)
        elif self.exemplars is not None:
            errors = np.sqrt(errors) * distances[:, 0]
        return np.minimum(errors, LARGEST)

    def errors(self, terms: np.ndarray) -> np.ndarray:
        """The scores without the distances from draws or exemplars: the geometric mean over the members."""
        error, distance, *counts = np.moveaxis(terms[..., :3].astype(np.float64), -1, 0)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = error * (1 + 0.1 * distance / self.typical_distances)
        scores = np.nan_to_num(scores, nan=LARGEST, posinf=LARGEST)
        if scores.shape[1] == 1:
            return scores[:, 0]
        weights = counts[0] if counts else np.ones_like(scores)
        return np.exp((np.log(np.maximum(scores, TINY)) * weights).sum(axis=1) / weights.sum(axis=1))


def with_members(values: Tensor, network: MemAE) -> Tensor:
    """Values of a network with a leading axis of members, of one where the network has none."""
    return values.unsqueeze(0) if network.members is None else values


def _blur(images: Tensor) -> Tensor:
    """Gaussian blur of the last two axes, its deviation a 24th of the smaller side and at most 1.5 pixels.

    An edge of a stroke or of an object that comes back a pixel beside its place is no anomaly.
    """
    height, width = images.shape[-2:]
    sigma = min(1.5, min(height, width) / 24)
    offsets = torch.arange(-4, 5, dtype=torch.float32, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    padded = nn.functional.pad(images.reshape(-1, 1, height, width), (4, 4, 4, 4), mode="replicate")
    blurred = nn.functional.conv2d(nn.functional.conv2d(padded, kernel.view(1, 1, 9, 1)), kernel.view(1, 1, 1, 9))
    return blurred.reshape(images.shape)


def _local_error(residual: Tensor) -> Tensor:
    """The l4 norm of the mean squares of patches, a seventh of the smaller side wide and half overlapping.

    What is wrong in one place counts for more than the same amount spread out, which grows with how much there is to see. Of
    the frames of a clip it is the median: what is abnormal lasts, unlike a frame that was lost or shaken.
    """
    if residual.ndim == 4:  # an image is a clip of one frame
        residual = residual.unsqueeze(2)
    side = max(1, round(min(residual.shape[-2:]) / 7))
    patches = nn.functional.avg_pool2d(residual.square().mean(dim=1), side, stride=max(1, side // 2)).flatten(2)
    worst = patches.amax(dim=2, keepdim=True).clamp_min(torch.finfo(patches.dtype).tiny)  # in its units no power overflows
    error = (worst.squeeze(2) * torch.linalg.vector_norm(patches / worst, ord=4, dim=2)).quantile(0.5, dim=1)
    return _sum(error.unsqueeze(1))


def _fractions(residual: Tensor, powers: Callable[[Tensor], Tensor], is_local: bool) -> Tensor:
    """Part of each number in the error of its sample, like the residual: the same for all where the error is zero.

    A local error is homogeneous in the residual, so by Euler's theorem the residual times its gradient sums to it.
    """
    if is_local:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = residual.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(_local_error(leaf).sum(), leaf)
        parts = (residual * gradient).clamp_min_(0)
    else:
        parts = powers(residual)
    total = parts.flatten(1).sum(dim=1).view(-1, *[1] * (parts.ndim - 1))
    return torch.where(total > 0, parts / total, 1 / parts[0].numel())


def _sum(values: Tensor) -> Tensor:
    """Sum over a sample in float64; on the CPU where the device has no float64."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)

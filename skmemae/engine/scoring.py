"""From a trained network to numbers: scores, reconstructions, residuals, addressing weights."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skmemae.engine.batches import Batches, Scaling
from skmemae.engine.samples import Layout
from skmemae.network.memae import MemAE, Output

_ROWS = 1024  # of vectors that are scored together
_NUMBERS = 2**16  # of images and clips; more of them at once are no faster on a CPU, and cost a single one its padding
_NUMBERS_ACCELERATED = 2**22
_TINY = 1e-300


class Score(NamedTuple):
    """How a residual becomes an anomaly score, higher = more abnormal.

    Attributes
    ----------
    kind : {"reconstruction", "smooth", "local", "relative", "combined"}
        "reconstruction" is the squared l2 error in scaled units, the paper's criterion. "smooth" is that of the residual after
        a Gaussian blur in the last two axes, times ``Scaling.distance_from_mean``. "local" is the l4 norm of the mean squares
        of patches, of a clip the median over its frames. "relative" divides the error by the l2 norm of the sample, with one
        unit a number added under the root so that blank samples stay finite. "combined" is the l1 error times
        ``1 + distance / (10 * typical_distance)``, with the squared distance between query and read-out.
    typical_distance : tuple of float
        Median of that distance over the training samples, for each member of the ensemble.
    """

    kind: str
    typical_distance: tuple[float, ...]

    def terms(self, x: Tensor, outputs: list[Output], networks, scaling: Scaling) -> Tensor:
        """Error and distance of one chunk for each member, (batch, members, 2), summed in float64."""
        return torch.stack([self._terms(x, *pair, scaling) for pair in zip(outputs, networks, strict=True)], dim=1)

    def _terms(self, x: Tensor, output: Output, network: MemAE, scaling: Scaling) -> Tensor:
        residual = output.reconstruction - x
        if self.kind == "smooth":
            residual = _blur(residual)
        if self.kind == "local":
            error = _local_error(residual)
        else:
            error = _sum(residual.abs() if self.kind == "combined" else residual.square())
        if self.kind == "smooth":
            error = error * scaling.distance_from_mean(x).to(error)
        if self.kind == "relative":
            error = error / (_sum(x.square()) + x[0].numel()).sqrt()
        if self.kind != "combined" or output.read_out is None:
            return torch.stack([error, torch.zeros_like(error)], dim=1)
        return torch.stack([error, _sum((network.queries(output.encoding) - output.read_out).square())], dim=1)

    def combine(self, terms: np.ndarray) -> np.ndarray:
        """(n_samples, members, 2) terms to (n_samples,) scores: the geometric mean over the members."""
        error, distance = np.moveaxis(terms, -1, 0)
        scores = error * (1 + 0.1 * distance / self.typical_distance)
        return scores[:, 0] if scores.shape[1] == 1 else np.exp(np.log(np.maximum(scores, _TINY)).mean(axis=1))


class TrainingScores(NamedTuple):
    """What one pass over the training samples finds out."""

    score: Score  # with the typical distance filled in
    scores: np.ndarray  # (n_samples,) anomaly scores, float64
    usage: np.ndarray  # (members, N) share of the queries that used each item
    zero_row_fraction: float  # share of the queries whose weights all missed the threshold


@torch.inference_mode()
def training_scores(networks, batches: Batches, kind: str, rows: Tensor) -> TrainingScores:
    """Anomaly scores and the state of the memories in one pass; a distance is typical of the ``rows`` that were trained on."""
    score, terms, start = Score(kind, (1.0,) * len(networks)), np.empty((len(batches), len(networks), 2)), 0
    n_items = 0 if networks[0].memory is None else len(networks[0].memory.items)
    usage = torch.zeros(len(networks), n_items, device=batches.device)
    missed = asked = answered = 0
    for x, count, outputs in _passes(networks, batches):
        terms[start : start + count] = score.terms(x, outputs, networks, batches.scaling)[:count].cpu().numpy()
        start += count
        for member, (network, output) in enumerate(zip(networks, outputs, strict=True)):
            if network.memory is None:
                continue
            used = output.weights[:count].reshape(-1, n_items) > 0
            logits = network.memory.logits(network.queries(output.encoding[:count]).movedim(1, -1))
            best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1))
            usage[member] += used.sum(dim=0)
            missed += (best < network.memory.threshold * (1 - 1e-4)).sum()  # equal weights are 1/N but for rounding
            answered += best.numel()
            asked += len(used)
    score = score._replace(typical_distance=tuple(float(d) or 1.0 for d in np.median(terms[rows.numpy(), :, 1], axis=0)))
    usage = usage.cpu().double().numpy() / max(asked / len(networks), 1)
    return TrainingScores(score, score.combine(terms), usage, float(missed) / max(answered, 1))


def anomaly_scores(networks, batches: Batches, score: Score) -> np.ndarray:
    """Anomaly score of each sample: (n_samples,), float64, higher = more abnormal."""
    return score.combine(_collect(networks, batches, lambda x, outputs: score.terms(x, outputs, networks, batches.scaling)))


@torch.inference_mode()
def reconstructions(networks, batches: Batches) -> np.ndarray:
    """Reconstructions, the mean over the members, in the units and the shape of X, float32."""
    layout, scaling, found = batches.layout, batches.scaling, []
    for (_, count, outputs), raw in zip(_passes(networks, batches), batches.raw_chunks(_chunk(batches)), strict=True):
        scaled = sum(output.reconstruction for output in outputs)[:count].cpu().double() / len(outputs)
        found.append(layout.from_network(scaling.undo(scaled, raw)).float().numpy())
    return np.concatenate(found)


def squared_residuals(networks, batches: Batches) -> np.ndarray:
    """Squared residuals, the mean over the members, in scaled units and the shape of X; a sample's sum is its squared error."""

    def squares(x, outputs):
        return batches.layout.from_network(sum((output.reconstruction - x).square() for output in outputs) / len(outputs))

    return _collect(networks, batches, squares)


def addressing_weights(networks, batches: Batches) -> np.ndarray:
    """Weights after shrinkage, of all members side by side: (n_samples, [\\*positions,] members * N)."""
    return _collect(networks, batches, lambda x, outputs: torch.cat([o.weights for o in outputs], dim=-1) / len(outputs))


@torch.inference_mode()
def decoded_items(networks, layout: Layout, scaling: Scaling, device) -> np.ndarray:
    """What each memory item decodes to when it answers alone, in X's units and shape: (members * N, \\*array_shape)."""
    decoded = []
    for network in networks:
        network.eval()
        encoding = network.encoder(torch.zeros(1, *layout.sample_shape, device=device))
        decoded.append(network.decode_items(encoding.shape[1:]))
    return layout.from_network(scaling.undo(torch.cat(decoded))).cpu().numpy()


def _passes(networks, batches: Batches):
    """Yield (samples, how many of them are real, output of each member) chunk by chunk.

    The caller switches gradients off: a generator that is left half-way, as by Ctrl-C, would leave them off for ever.
    """
    for network in networks:
        network.eval()
    for x, count in batches.chunks(_chunk(batches)):
        yield x, count, [network(x) for network in networks]


def _chunk(batches: Batches) -> int:
    """How many samples are scored together."""
    if batches.layout.family == "fc":
        return _ROWS
    numbers = _NUMBERS if batches.device.type == "cpu" else _NUMBERS_ACCELERATED
    return max(1, numbers // math.prod(batches.layout.sample_shape))


@torch.inference_mode()
def _collect(networks, batches: Batches, function) -> np.ndarray:
    """Apply a function of (samples, outputs) to all chunks and drop the padding.

    Small results that are kept between large ones that come and go would tear holes into the heap, which then grows.
    """
    found, start = None, 0
    for x, count, outputs in _passes(networks, batches):
        part = function(x, outputs)[:count].cpu().numpy()
        if found is None:
            found = np.empty((len(batches), *part.shape[1:]), dtype=part.dtype)
        found[start : start + count] = part
        start += count
    return found


def _blur(images: Tensor) -> Tensor:
    """Gaussian blur of the last two axes, its deviation a 24th of the smaller side and at most 1.5 pixels.

    An edge of a stroke or of an object that comes back a pixel beside its place is no anomaly.
    """
    height, width = images.shape[-2:]
    sigma = min(1.5, min(height, width) / 24)
    offsets = torch.arange(-4.0, 5.0, device=images.device)
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
    return (worst.squeeze(2) * torch.linalg.vector_norm(patches / worst, ord=4, dim=2)).quantile(0.5, dim=1)


def _sum(values: Tensor) -> Tensor:
    """Sum over a sample in float64; on the CPU where the device has no float64."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)

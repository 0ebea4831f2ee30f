"""From a trained network to numbers: scores, reconstructions, residuals, addressing weights."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from skmemae.engine.batches import Batches
from skmemae.engine.group import Group
from skmemae.engine.runtime import Pieces, scoring_precision
from skmemae.engine.samples import Layout
from skmemae.engine.scaling import Scaling
from skmemae.network.memae import MemAE, Output

_ROWS = 1024  # of vectors that are scored together
_FEW = 8  # samples that are
_NUMBERS = 2**16  # of images and clips; more of them at once are no faster on a CPU, and cost a single one its padding
_NUMBERS_ACCELERATED = 2**22
_TYPICAL_ROWS = 2**14  # that tell a typical distance
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
def training_scores(networks, batches: Batches, kind: str, rows: Tensor, group: Group) -> TrainingScores:
    """Anomaly scores of the training samples, of which each process scores its part, and the state of the memories."""
    score = Score(
        kind, group.once(_typical_distances, networks, batches, rows) if kind == "combined" else (1.0,) * len(networks)
    )
    start, stop = group.span(len(batches))
    terms, done = np.empty((stop - start, len(networks), 2)), 0
    n_items = 0 if networks[0].memory is None else len(networks[0].memory.items)
    usage, missed = (torch.zeros(len(networks), *shape, dtype=torch.float64) for shape in [(n_items,), ()])

    def look(x, outputs):
        states = [_memory_state(*pair) for pair in zip(networks, outputs, strict=True)]
        return score.terms(x, outputs, networks, batches.scaling), *(
            torch.stack(column, dim=1) for column in zip(*states, strict=True)
        )

    for count, parts in _passes(networks, batches, look, start, stop):
        found, used, missing = (torch.cat(column)[:count].cpu() for column in zip(*parts, strict=True))
        terms[done : done + count] = found.numpy()
        usage += used.sum(dim=0, dtype=torch.float64)
        missed += missing.sum(dim=0, dtype=torch.float64)
        done += count
    scores = np.zeros(len(batches))
    scores[start:stop] = score.combine(terms)
    group.meet()
    for found in (scores, usage, missed):
        group.sum(found)
    return TrainingScores(score, scores, usage.numpy() / len(batches), float(missed.mean()) / len(batches))


def _memory_state(network: MemAE, output: Output) -> tuple[Tensor, Tensor]:
    """Of each sample the share of its queries that used each item, (batch, N), and the share that missed the threshold."""
    n = len(output.encoding)
    if network.memory is None:
        return output.encoding.new_zeros(n, 0), output.encoding.new_zeros(n)
    query = network.queries(output.encoding)
    used = network.memory.weights(query).reshape(n, -1, len(network.memory.items)) > 0
    best = network.memory.best_weights(query).unflatten(1, (n, -1))
    missed = best < network.memory.threshold * (1 - 1e-4)  # equal weights are 1/N but for rounding
    return used.float().mean(dim=1), missed.float().mean(dim=(0, 2))


@torch.inference_mode()
def _typical_distances(networks, batches: Batches, rows: Tensor) -> tuple[float, ...]:
    """Median of each member's squared distance between query and read-out, over some of the rows that were trained on."""
    score, pieces, distances = Score("combined", ()), Pieces(least=1), []

    def terms(x):
        return score.terms(x, [network(x) for network in networks], networks, batches.scaling)

    for part in rows[:: max(1, len(rows) // _TYPICAL_ROWS)].split(_ROWS):
        with scoring_precision(batches.device):
            distances += [found[..., 1].cpu() for found in pieces.apply(terms, batches.take(part))]
    return tuple(float(d) or 1.0 for d in np.median(torch.cat(distances), axis=0))


def anomaly_scores(networks, batches: Batches, score: Score) -> np.ndarray:
    """Anomaly score of each sample: (n_samples,), float64, higher = more abnormal."""
    return score.combine(_collect(networks, batches, lambda x, outputs: score.terms(x, outputs, networks, batches.scaling)))


def reconstructions(networks, batches: Batches) -> np.ndarray:
    """Reconstructions, the mean over the members, in the units and the shape of X, float32."""
    found = _collect(networks, batches, lambda x, outputs: sum(output.reconstruction for output in outputs) / len(outputs))
    X = np.empty((len(batches), *batches.layout.array_shape), dtype=np.float32)
    for rows, samples in batches.raw_blocks():
        scaled = torch.from_numpy(found[rows]).double()
        X[rows] = batches.layout.from_network(batches.scaling.undo(scaled, samples)).numpy()
    return X


def squared_residuals(networks, batches: Batches) -> np.ndarray:
    """Squared residuals, the mean over the members, in scaled units and the shape of X; a sample's sum is its squared error."""

    def squares(x, outputs):
        return batches.layout.from_network(sum((output.reconstruction - x).square() for output in outputs) / len(outputs))

    return _collect(networks, batches, squares)


def addressing_weights(networks, batches: Batches) -> np.ndarray:
    """Weights after shrinkage, of all members side by side: (n_samples, [\\*positions,] members * N)."""

    def weights(x, outputs):
        pairs = zip(networks, outputs, strict=True)
        found = [network.memory.weights(network.queries(output.encoding)) for network, output in pairs]
        return torch.cat(found, dim=-1) / len(found)

    return _collect(networks, batches, weights)


@torch.inference_mode()
def decoded_items(networks, layout: Layout, scaling: Scaling, device) -> np.ndarray:
    """What each memory item decodes to when it answers alone, in X's units and shape: (members * N, \\*array_shape)."""
    decoded = []
    for network in networks:
        network.eval()
        encoding = network.encoder(torch.zeros(1, *layout.sample_shape, device=device))
        decoded.append(network.decode_items(encoding.shape[1:]))
    return layout.from_network(scaling.undo(torch.cat(decoded))).cpu().numpy()


def _passes(networks, batches: Batches, function, start, stop):
    """Yield (number of samples, what the function of (samples, output of each member) gives for the pieces of a chunk).

    Pieces may come again if memory runs out, so the function changes nothing. The last chunk is padded. The caller switches
    gradients off: a generator that is left half-way, as by Ctrl-C, would leave them off for ever.
    """
    for network in networks:
        if network.training:
            network.eval()
    pieces = Pieces(least=1)
    for x, count in batches.chunks(_chunk(batches, stop - start), start, stop):
        with scoring_precision(batches.device):
            found = pieces.apply(lambda part: function(part, [network(part) for network in networks]), x)
        yield count, found


@torch.inference_mode()
def _collect(networks, batches: Batches, function) -> np.ndarray:
    """What the function gives for all samples.

    Small results that are kept between large ones that come and go would tear holes into the heap, which then grows.
    """
    found, done = None, 0
    for count, parts in _passes(networks, batches, function, 0, len(batches)):
        part = torch.cat(parts)[:count].cpu().numpy()
        if found is None:
            found = np.empty((len(batches), *part.shape[1:]), dtype=part.dtype)
        found[done : done + count] = part
        done += count
    return found


def _chunk(batches: Batches, n: int) -> int:
    """How many samples are scored together: two sizes, so that a few samples do not cost the padding of many."""
    numbers = _NUMBERS if batches.device.type == "cpu" else _NUMBERS_ACCELERATED
    many = _ROWS if batches.layout.family == "fc" else max(1, numbers // math.prod(batches.layout.sample_shape))
    return min(many, _FEW) if n <= _FEW else many


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

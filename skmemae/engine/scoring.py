"""From a trained network to numbers: scores, reconstructions, residuals, addressing weights."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae.engine.batches import Batches, Scaling
from skmemae.engine.samples import Layout
from skmemae.network.memae import MemAE, Output

_CHUNK = {"fc": 1024, "conv2d": 64, "conv3d": 4}


class Score(NamedTuple):
    """How a residual becomes an anomaly score, higher = more abnormal.

    Attributes
    ----------
    kind : {"reconstruction", "relative", "combined"}
        "reconstruction" is the squared l2 error in scaled units, the paper's criterion. "relative" divides it by the l2 norm
        of the sample, with one unit a number added under the root so that blank samples stay finite. "combined" is the l1
        error times ``1 + distance / (10 * typical_distance)``, with the squared distance between query and read-out.
    typical_distance : float
        Median of that distance over the training samples.
    """

    kind: str
    typical_distance: float = 1.0

    def terms(self, x: Tensor, output: Output, network: MemAE) -> Tensor:
        """Error and distance of one chunk, (batch, 2), summed in float64."""
        residual = output.reconstruction - x
        error = _sum(residual.abs() if self.kind == "combined" else residual.square())
        if self.kind == "relative":
            error = error / (_sum(x.square()) + x[0].numel()).sqrt()
        if self.kind != "combined" or output.read_out is None:
            return torch.stack([error, torch.zeros_like(error)], dim=1)
        return torch.stack([error, _sum((network.queries(output.encoding) - output.read_out).square())], dim=1)

    def combine(self, terms: np.ndarray) -> np.ndarray:
        """(n_samples, 2) terms to (n_samples,) scores."""
        error, distance = terms.T
        return error * (1 + 0.1 * distance / self.typical_distance)


class TrainingScores(NamedTuple):
    """What one pass over the training samples finds out."""

    score: Score  # with the typical distance filled in
    scores: np.ndarray  # (n_samples,) anomaly scores, float64
    usage: np.ndarray  # (N,) share of the queries that used each item
    zero_row_fraction: float  # share of the queries whose weights all missed the threshold


@torch.inference_mode()
def training_scores(network: MemAE, batches: Batches, kind: str) -> TrainingScores:
    """Anomaly scores and the state of the memory in one pass."""
    score, terms = Score(kind), []
    memory = network.memory
    n_items = 0 if memory is None else len(memory.items)
    usage = torch.zeros(n_items, device=batches.device)
    missed = queries = 0
    for x, count, output in _passes(network, batches):
        terms.append(score.terms(x, output, network)[:count].cpu().numpy())
        if memory is None:
            continue
        used = output.weights[:count].reshape(-1, n_items) > 0
        logits = memory.logits(network.queries(output.encoding[:count]).movedim(1, -1))
        best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1))
        usage += used.sum(dim=0)
        missed += (best < memory.threshold * (1 - 1e-4)).sum()  # equal weights are 1/N but for rounding
        queries += len(used)
    terms = np.concatenate(terms)
    score = score._replace(typical_distance=float(np.median(terms[:, 1])) or 1.0)
    usage = usage.cpu().double().numpy() / max(queries, 1)
    return TrainingScores(score, score.combine(terms), usage, float(missed) / max(queries, 1))


def anomaly_scores(network: MemAE, batches: Batches, score: Score) -> np.ndarray:
    """Anomaly score of each sample: (n_samples,), float64, higher = more abnormal."""
    return score.combine(_collect(network, batches, lambda x, output: score.terms(x, output, network)))


def reconstructions(network: MemAE, batches: Batches) -> np.ndarray:
    """Reconstructions in the units and the shape of X."""
    layout, scaling = batches.layout, batches.scaling
    return _collect(network, batches, lambda x, output: layout.from_network(scaling.undo(output.reconstruction)))


def squared_residuals(network: MemAE, batches: Batches) -> np.ndarray:
    """Squared residuals in scaled units and the shape of X; a sample's sum is its squared error."""
    layout = batches.layout
    return _collect(network, batches, lambda x, output: layout.from_network((output.reconstruction - x).square()))


def addressing_weights(network: MemAE, batches: Batches) -> np.ndarray:
    """Weights after shrinkage: (n_samples, N), or (n_samples, \\*positions, N)."""
    return _collect(network, batches, lambda x, output: output.weights)


@torch.inference_mode()
def decoded_items(network: MemAE, layout: Layout, scaling: Scaling, device) -> np.ndarray:
    """What each memory item decodes to when it answers alone, in the units and the shape of X: (N, \\*array_shape)."""
    network.eval()
    encoding = network.encoder(torch.zeros(1, *layout.sample_shape, device=device))
    decoded = network.decode_items(encoding.shape[1:])
    return layout.from_network(scaling.undo(decoded)).cpu().numpy()


def _passes(network: MemAE, batches: Batches):
    """Yield (samples, how many of them are real, output) chunk by chunk.

    The caller switches gradients off: a generator that is left half-way, as by Ctrl-C, would leave them off for ever.
    """
    network.eval()
    for x, count in batches.chunks(_CHUNK[batches.layout.family]):
        yield x, count, network(x)


@torch.inference_mode()
def _collect(network: MemAE, batches: Batches, function) -> np.ndarray:
    """Apply a function of (samples, output) to all chunks and drop the padding."""
    return np.concatenate([function(x, output)[:count].cpu().numpy() for x, count, output in _passes(network, batches)])


def _sum(values: Tensor) -> Tensor:
    """Sum over a sample in float64; on the CPU where the device has no float64."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)

"""From a trained network to numbers: scores, reconstructions, residuals, addressing weights."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from skmemae.engine.batches import Batches, Scaling
from skmemae.engine.samples import Layout
from skmemae.network.memae import MemAE

_CHUNK = {"fc": 256, "conv2d": 64, "conv3d": 4}


class TrainingScores(NamedTuple):
    """What one pass over the training samples finds out."""

    scores: np.ndarray  # (n_samples,) anomaly scores, float64
    usage: np.ndarray  # (N,) share of the queries that used each item
    zero_row_fraction: float  # share of the queries whose weights all missed the threshold


def training_scores(network: MemAE, batches: Batches, kind: str) -> TrainingScores:
    """Anomaly scores and the state of the memory in one pass."""
    if network.memory is None:
        return TrainingScores(anomaly_scores(network, batches, kind), np.zeros(0), 0.0)
    items, missed, queries, scores = network.memory.items, 0, 0, []
    usage = torch.zeros(len(items), device=batches.device)
    for x, count, output in _passes(network, batches):
        used = output.weights[:count].reshape(-1, len(items)) > 0
        logits = network.memory.logits(network.queries(output.encoding[:count]).movedim(1, -1))
        best = torch.exp(logits.amax(dim=-1) - logits.logsumexp(dim=-1))
        usage += used.sum(dim=0)
        missed += (best < network.memory.threshold).sum()
        queries += len(used)
        scores.append(score(x, output.reconstruction, kind)[:count].cpu().numpy())
    return TrainingScores(np.concatenate(scores), usage.double().cpu().numpy() / queries, float(missed) / queries)


def anomaly_scores(network: MemAE, batches: Batches, kind: str) -> np.ndarray:
    """Anomaly score of each sample, higher = more abnormal.

    Parameters
    ----------
    network : MemAE
    batches : Batches
    kind : {"reconstruction", "relative"}
        Squared l2 error in scaled units (the paper's criterion), or that error divided by the l2 norm of the sample.

    Returns
    -------
    ndarray of shape (n_samples,), float64
    """
    return _collect(network, batches, lambda x, output: score(x, output.reconstruction, kind))


def score(x: Tensor, reconstruction: Tensor, kind: str) -> Tensor:
    """Scores of one chunk, summed in float64."""
    errors = _sum((reconstruction - x).square())
    return errors / (_sum(x.square()) + x[0].numel()).sqrt() if kind == "relative" else errors


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


def decoded_items(network: MemAE, layout: Layout, scaling: Scaling, device) -> np.ndarray:
    """What each memory item decodes to when it answers alone, in the units and the shape of X: (N, \\*array_shape)."""
    network.eval()
    with torch.inference_mode():
        encoding = network.encoder(torch.zeros(1, *layout.sample_shape, device=device))
        decoded = network.decode_items(encoding.shape[1:])
        return layout.from_network(scaling.undo(decoded)).cpu().numpy()


def _passes(network: MemAE, batches: Batches):
    """Yield (samples, how many of them are real, output) chunk by chunk."""
    network.eval()
    with torch.inference_mode():
        for x, count in batches.chunks(_CHUNK[batches.layout.family]):
            yield x, count, network(x)


def _collect(network: MemAE, batches: Batches, function) -> np.ndarray:
    """Apply a function of (samples, output) to all chunks and drop the padding."""
    return np.concatenate(
        [function(x, output)[:count].cpu().numpy() for x, count, output in _passes(network, batches)]
    )


def _sum(values: Tensor) -> Tensor:
    """Sum over a sample in float64; on the CPU where the device has no float64."""
    if values.device.type == "mps":
        values = values.cpu()
    return values.flatten(1).sum(dim=1, dtype=torch.float64)

"""Training of the network that knows what samples show: which of four quarter turns an image was given."""

from functools import partial

import torch
from torch import Tensor, nn

from skmemae._data.loader import Loader
from skmemae._runtime import MicroBatches, move_to_device, training_precision
from skmemae._train.optimiser import Adam, schedule
from skmemae.network import Exemplars
from skmemae.network.backbones import initialise

_BATCH_SIZE = 32  # images, each turned four ways
_LEARNING_RATE = 3e-3
_SHIFT = 14  # parts of a side, by one of which images are moved at most
_LIGHT = 0.2  # deviation of the factor and of the offset of a channel's values
_MOST_ITEMS = 4000
_ENCODED = 256  # samples that are encoded at a time


def train_exemplars(loader: Loader, rows: Tensor, steps: int, precision: str, generator: torch.Generator) -> Exemplars:
    """Train on moved, mirrored and relit samples, and keep the samples as memory items.

    Parameters
    ----------
    loader : Loader
        Of images or clips.
    rows : Tensor of int
        The rows to train on.
    steps : int
    precision : {"float32", "bfloat16"}
    generator : torch.Generator
        On the CPU.

    Returns
    -------
    exemplars : Exemplars
        On the device of the loader, in evaluation mode.
    """
    kept = rows[torch.randperm(len(rows), generator=generator)[:_MOST_ITEMS]]
    exemplars = Exemplars(loader.layout.sample_shape, len(kept))
    initialise(exemplars, generator)
    if loader.scaling.mean_sample is not None:
        exemplars.mean = torch.as_tensor(loader.scaling.mean_sample).float()
    move_to_device(nn.ModuleList([exemplars]), loader.device)
    optimiser, micro = Adam(exemplars), MicroBatches(least=2)
    exemplars.train()
    for step in range(steps):
        batch = rows[torch.randint(len(rows), (min(_BATCH_SIZE, len(rows)),), generator=generator)]
        images = _varied(exemplars.images(loader.samples(batch)), generator)
        micro.map(partial(_backward, exemplars, precision, len(images)), images, optimiser.clear)
        optimiser.step(_LEARNING_RATE * schedule((step + 1) / steps))
    exemplars.eval().requires_grad_(False)
    with torch.no_grad():
        exemplars.keep(torch.cat([exemplars.features(loader.samples(part)) for part in kept.split(_ENCODED)], dim=1))
    return exemplars


def _backward(exemplars: Exemplars, precision: str, total: int, images: Tensor) -> None:
    """Leave the gradient of the mean cross-entropy of the turns over a batch of so many images, of which these are a part."""
    with training_precision(precision, images.device):
        logits = exemplars.head(exemplars.encode(images))
    turns = torch.arange(len(logits), device=images.device).repeat_interleave(len(images))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), turns)
    (loss * (len(images) / total)).backward()


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images moved a little, all alike, mirrored at random, and in another light."""
    side, (count, channels) = images.shape[-1], images.shape[:2]
    most = max(1, round(side / _SHIFT))
    down, right = torch.randint(2 * most + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    moved = padded[:, :, down : down + side, right : right + side]
    mirrored = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).to(images.device)
    factor, offset = (_LIGHT * torch.randn(2, count, channels, 1, 1, generator=generator)).to(images.device)
    return torch.where(mirrored, moved.flip(3), moved) * (1 + factor) + offset

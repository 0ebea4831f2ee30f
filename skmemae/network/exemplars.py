"""A memory of training samples by what they show, in the features of a network that tells quarter turns apart."""

import math

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 128)
N_TURNS = 4
_MOST_PIXELS = 32  # along a side; larger images are averaged down to it
_NEAREST = 3
_SAME = 1e-4  # of a squared distance per number: what is as near is the sample itself
_SHRINKAGE = 0.05  # of the mean variance, added to that of each direction
_TINY = 1e-12


class Exemplars(nn.Module):
    """How unlike the training samples a sample is, by what it shows.

    To tell which way up an image is, a network has to know what images of this kind show [1]_, [2]_. Its features of an image
    and of its three quarter turns are the queries, and features of training samples are the memory items. Features are compared
    by their directions, in units of the deviations of the training samples along each axis of their variation.

    Parameters
    ----------
    sample_shape : tuple of int
        (C, H, W), or (C, T, H, W), of which frames count as channels.
    size : int
        How many training samples are kept.

    References
    ----------
    .. [1] Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018.
    .. [2] Golan and El-Yaniv, "Deep anomaly detection using geometric transformations", NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import Exemplars
    >>> exemplars = Exemplars((1, 12, 12), size=5)
    >>> with torch.no_grad():
    ...     exemplars.keep(exemplars.eval().features(torch.rand(5, 1, 12, 12)))
    ...     exemplars(torch.rand(2, 1, 12, 12)).shape
    torch.Size([2])
    """

    mean: Tensor
    rows: Tensor
    columns: Tensor
    centers: Tensor
    whitening: Tensor
    items: Tensor

    def __init__(self, sample_shape, size):
        super().__init__()
        *channels, height, width = sample_shape
        side = min(height, width, _MOST_PIXELS)
        layers: list[nn.Module] = []
        before, strides = math.prod(channels), (2, 2, 1)
        for kernel, stride, after in zip((5, 3, 3), strides, WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            before = after
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(before, N_TURNS)
        self.size = size
        self.register_buffer("mean", torch.zeros(sample_shape))  # added to samples, from which it was subtracted
        self.register_buffer("rows", _averages(height, side))
        self.register_buffer("columns", _averages(width, side).mT.contiguous())
        self.register_buffer("centers", torch.zeros(N_TURNS, 1, before))
        self.register_buffer("whitening", torch.zeros(N_TURNS, before, before))
        self.register_buffer("items", torch.zeros(N_TURNS, size, before))

    def images(self, x: Tensor) -> Tensor:
        """Square images of the samples, as they are compared: (batch, \\*sample_shape) -> (batch, channels, side, side)."""
        return self.rows @ (x + self.mean).flatten(1, -3) @ self.columns

    def encode(self, images: Tensor) -> Tensor:
        """What each image shows, whichever way up: (batch, channels, side, side) -> (4, batch, width)."""
        turned = torch.cat([images.rot90(turn, (2, 3)) for turn in range(N_TURNS)])
        maps = self.encoder(turned.contiguous(memory_format=torch.channels_last))
        return maps.mean(dim=(2, 3)).unflatten(0, (N_TURNS, -1))

    def features(self, x: Tensor) -> Tensor:
        """Directions of the encodings: (batch, \\*sample_shape) -> (4, batch, width), each of length 1."""
        return nn.functional.normalize(self.encode(self.images(x)), dim=-1)

    def keep(self, features: Tensor) -> None:
        """Learn the units of features of training samples, (4, n, width), and keep them as the memory items."""
        self.centers = features.mean(dim=1, keepdim=True)
        centered = (features - self.centers).double()
        variance, axes = torch.linalg.eigh(centered.mT @ centered / features.shape[1])
        variance = variance.clamp_min(0) + _SHRINKAGE * variance.mean(dim=1, keepdim=True) + _TINY
        self.whitening = (axes * variance.rsqrt().unsqueeze(1)).float()
        self.items = self.queries(features)

    def queries(self, features: Tensor) -> Tensor:
        """Features in the units of the training samples: (4, n, width) -> (4, n, width)."""
        return (features - self.centers) @ self.whitening

    def forward(self, x: Tensor) -> Tensor:
        """Mean squared distance from the nearest memory items, but the one of the sample itself: (batch,), positive."""
        queries = self.queries(self.features(x))
        squares = queries.square().sum(dim=-1, keepdim=True) + self.items.square().sum(dim=-1).unsqueeze(1)
        distances = (squares - 2 * queries @ self.items.mT).clamp_min(0) / queries.shape[-1]
        count = min(_NEAREST + 1, self.items.shape[1])
        nearest = distances.topk(count, dim=-1, largest=False).values
        others = nearest[..., 1:] if count > 1 else nearest
        near = torch.where(nearest[..., :1] < _SAME, others, nearest[..., : others.shape[-1]])
        return near.mean(dim=(0, 2)).clamp_min(_SAME)


def _averages(before: int, after: int) -> Tensor:
    """The matrix that averages ``before`` pixels to ``after`` ones that cover the same length: (after, before)."""
    edges = torch.arange(after + 1, dtype=torch.float64) * before / after
    pixels = torch.arange(before, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp_min(0) * after / before).float()


def restore_exemplars(sample_shape, parameters) -> Exemplars:
    """Build exemplars around parameters that are there already; runs no computation.

    Parameters
    ----------
    sample_shape : tuple of int
    parameters : dict of str to Tensor
        The ``state_dict``.

    Returns
    -------
    exemplars : Exemplars
        On the CPU, in evaluation mode.

    Raises
    ------
    RuntimeError
        If the parameters are not those of such a network.
    """
    with torch.device("meta"):
        exemplars = Exemplars(sample_shape, parameters["items"].shape[1]).eval().requires_grad_(False)
    exemplars.load_state_dict(parameters, assign=True)
    return exemplars

"""Reference features: networks that learn to recognise a change of a sample, and memories of training samples in them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WIDTHS = (32, 64, 128)
_STRIDES = (2, 2, 1)
_MOST_PIXELS = 32  # along a side of an image that is turned; larger ones are averaged down to it
_NEAREST, _OF_OUTLIERS = 3, 0.2  # items that are compared, and more of them for each item that may be one of an outlier
_SAME = 1e-4  # squared distance per number: an item nearer than half of it is the sample itself, one at 1.5 times it another
_SHRINKAGE = 0.05  # share of the mean variance that is added to the variance of each direction
_TINY = 1e-12
_TURNS = 4
_SHIFT = 14  # images are moved by at most a side divided by this
_LIGHT = 0.2  # deviation of the random factor and offset of a channel's values
_WINDOW = 5  # largest number of frames whose motion is compared, in clips of nine frames and more
_ACTIVE = 4  # places of a window divided by those that are compared, which change most
_STILL = 0.15  # a place that changes by less does not move; in deviations of all values


class ReferenceFeatures(nn.Module):
    """Base class: an encoder, the changes that it learns to recognise, and its features of training samples.

    To recognise how a sample was changed, a network has to know the content of such samples. Its features of training samples
    are memory items. Features are compared by their directions, in units of the deviations of the training samples along each
    principal axis (a Mahalanobis distance).

    Parameters
    ----------
    size : int
        Memory items of each group.
    channels : int
        Channels of the images that the encoder sees.
    n_changes : int
        Number of changes to recognise.
    groups : int
        Kinds of features, each compared with its own items.

    Attributes
    ----------
    share : float
        Share of the items that may be outliers.
    """

    most_items = 4000  # of each group
    mean: Tensor  # the scaling has subtracted it from samples; it is added again
    centers: Tensor
    whitening: Tensor
    items: Tensor
    norms: Tensor

    def __init__(self, size: int, channels: int, n_changes: int, groups: int):
        super().__init__()
        self.share = 0.0
        layers: list[nn.Module] = []
        for kernel, stride, after in zip((5, 3, 3), _STRIDES, WIDTHS, strict=True):
            layers += [nn.Conv2d(channels, after, kernel, stride, padding=kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            channels = after
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Linear(channels, n_changes)
        self.register_buffer("centers", torch.zeros(groups, 1, channels))
        self.register_buffer("whitening", torch.zeros(groups, channels, channels))
        self.register_buffer("items", torch.zeros(groups, size, channels))
        self.register_buffer("norms", torch.zeros(groups, 1, size))

    @property
    def size(self) -> int:
        """Memory items of each group."""
        return self.items.shape[1]

    @property
    def n_nearest(self) -> int:
        """Number of nearest items that a sample is compared with: a few items of outliers do not vouch for more of them."""
        return _NEAREST + round(_OF_OUTLIERS * self.share * self.size)

    def features(self, x: Tensor) -> Tensor:
        """Directions of the encodings, of length 1: (batch, \\*sample_shape) -> (groups, n, width)."""
        raise NotImplementedError

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the changes that the network has to recognise."""
        raise NotImplementedError

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps: (n, channels, H, W) -> (n, width, h, w)."""
        return self.encoder(images.contiguous(memory_format=torch.channels_last))

    def learn(self, features: Tensor) -> None:
        """Learn the units from features of training samples, (groups, n, width), and keep the features as memory items."""
        self.centers = features.mean(dim=1, keepdim=True)
        centered = (features - self.centers).double()
        variance, axes = torch.linalg.eigh(centered.mT @ centered / features.shape[1])
        variance = variance.clamp_min(0) + _SHRINKAGE * variance.mean(dim=1, keepdim=True) + _TINY
        self.whitening = (axes * variance.rsqrt().unsqueeze(1)).float()
        self.extend(features)

    def extend(self, features: Tensor, keep: int = 0) -> None:
        """Add features of samples, (groups, n, width), to the latest memory items; too many drop the oldest of them."""
        kept = self.items[:, self.size - keep :]
        self.items = torch.cat([kept, self.queries(features)], dim=1)[:, -self.most_items :]
        self.norms = self.items.square().sum(dim=-1).unsqueeze(1)

    def queries(self, features: Tensor) -> Tensor:
        """Features in the units of the training samples: (groups, n, width) -> (groups, n, width)."""
        return (features - self.centers) @ self.whitening

    def nearest(self, features: Tensor) -> Tensor:
        """Mean squared distance per number from the nearest items, without the sample's own item: (groups, n)."""
        queries = self.queries(features)
        squares = queries.square().sum(dim=-1, keepdim=True) + self.norms
        distances = (squares - 2 * queries @ self.items.mT).clamp_min(0) / queries.shape[-1]
        count = min(self.n_nearest + 1, self.items.shape[1])
        nearest, numbers = distances.topk(count, dim=-1, largest=False)
        others = nearest[..., 1:] if count > 1 else nearest
        # The score is continuous in the sample: otherwise rounding would decide whether an item at the limit is the sample.
        gaps = queries - self.items.gather(1, numbers[..., :1].expand(-1, -1, queries.shape[-1]))  # more exact than distances
        differs = (gaps.square().mean(dim=-1) / _SAME - 0.5).clamp(0, 1)
        near = torch.lerp(others.mean(dim=-1), nearest[..., : others.shape[-1]].mean(dim=-1), differs)
        return near.clamp_min(_SAME)


class TurnFeatures(ReferenceFeatures):
    """Distance of an image from the training images in the features of a network that recognises quarter turns [1]_, [2]_.

    Features of an image at each of the four quarter turns are compared with those of training images after the same turn.

    Parameters
    ----------
    sample_shape : tuple of int
        (C, H, W), or (C, T, H, W), of which frames count as channels.
    size : int
        Number of training samples in the memory.

    References
    ----------
    .. [1] Gidaris, Singh, Komodakis, "Unsupervised representation learning by predicting image rotations", ICLR 2018.
    .. [2] Golan and El-Yaniv, "Deep anomaly detection using geometric transformations", NeurIPS 2018.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import TurnFeatures
    >>> features = TurnFeatures((1, 12, 12), size=5).eval()
    >>> with torch.no_grad():
    ...     features.learn(features.features(torch.rand(5, 1, 12, 12)))
    ...     features(torch.rand(2, 1, 12, 12)).shape
    torch.Size([2])
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, sample_shape: Sequence[int], size: int):
        *channels, height, width = sample_shape
        super().__init__(size, math.prod(channels), n_changes=_TURNS, groups=_TURNS)
        side = min(height, width, _MOST_PIXELS)
        self.register_buffer("mean", torch.zeros(sample_shape))
        self.register_buffer("rows", _averages(height, side))
        self.register_buffer("columns", _averages(width, side).mT.contiguous())

    def images(self, x: Tensor) -> Tensor:
        """Square images of the samples, as they are compared: (batch, \\*sample_shape) -> (batch, channels, side, side)."""
        return self.rows @ (x + self.mean).flatten(1, -3) @ self.columns

    def encode(self, images: Tensor) -> Tensor:
        """Encodings of each image after 0, 1, 2 and 3 quarter turns: (batch, channels, side, side) -> (4, batch, width)."""
        turned = torch.cat([images.rot90(turn, (2, 3)) for turn in range(_TURNS)])
        return self.maps(turned).mean(dim=(2, 3)).unflatten(0, (_TURNS, -1))

    def features(self, x: Tensor) -> Tensor:
        """Directions of the encodings: (batch, \\*sample_shape) -> (4, batch, width), each of length 1."""
        return nn.functional.normalize(self.encode(self.images(x)), dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """Mean squared distance from the nearest training samples: (batch,), positive."""
        return self.nearest(self.features(x)).mean(dim=0)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the turns of samples that are moved, mirrored and changed in brightness and contrast."""
        logits = self.head(self.encode(_varied(self.images(x), generator)))
        turns = torch.arange(_TURNS, device=x.device).repeat_interleave(len(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), turns)


class PaceFeatures(ReferenceFeatures):
    """Distance of the motion in a clip from that in training clips, in the features of a network that recognises the pace [1]_.

    The network sees a few frames of a clip: successive ones (pace 1), every second one (pace 2), and so on. To recognise the
    pace at each place, it has to know how things move there. For the score, the window of frames in the middle of the clip is
    compared. Values of a clip have to be changes from frame to frame: a place is weighted by its largest changes, and places
    with the largest weighted distances count most.

    Parameters
    ----------
    sample_shape : tuple of int
        (C, T, H, W), with at least three frames.
    size : int
        Number of places of training clips in the memory.

    References
    ----------
    .. [1] Wang, Jiao, Liu, "Self-supervised video representation learning by pace prediction", ECCV 2020.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import PaceFeatures
    >>> features = PaceFeatures((1, 9, 16, 16), size=5).eval()
    >>> with torch.no_grad():
    ...     features.learn(features.features(torch.rand(5, 1, 9, 16, 16)))
    ...     features(torch.rand(2, 1, 9, 16, 16)).shape
    torch.Size([2])
    """

    most_items = 2000

    def __init__(self, sample_shape: Sequence[int], size: int):
        channels, frames = sample_shape[:2]
        self.length = min(_WINDOW, (frames + 1) // 2)
        self.paces = range(1, (frames - 1) // (self.length - 1) + 1)
        super().__init__(size, channels * self.length, n_changes=len(self.paces), groups=1)
        self.register_buffer("mean", torch.zeros(channels, 1, 1, 1))
        self.middle = (frames - self.length) // 2

    def windows(self, x: Tensor, start: Tensor, pace: Tensor) -> Tensor:
        """A window of each clip with frames as channels, from its own start at its own pace: (batch, C * length, H, W)."""
        frames = start.unsqueeze(1) + pace.unsqueeze(1) * torch.arange(self.length, device=x.device)
        clips = torch.arange(len(x), device=x.device).unsqueeze(1)
        return ((x + self.mean).transpose(1, 2)[clips, frames]).transpose(1, 2).flatten(1, 2)

    def places(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the places that change most, (1, batch * places, width), and their changes, (batch, places)."""
        window = (x + self.mean)[:, :, self.middle : self.middle + self.length].flatten(1, 2)
        maps = self.maps(window)
        change = self.change(window, maps).flatten(1)
        most, where = change.topk(-(-change.shape[1] // _ACTIVE), dim=1)
        features = maps.flatten(2).gather(2, where.unsqueeze(1).expand(-1, maps.shape[1], -1)).mT
        return nn.functional.normalize(features.flatten(0, 1), dim=-1).unsqueeze(0), most

    def change(self, windows: Tensor, maps: Tensor) -> Tensor:
        """The largest values of a window at each place of the maps, means over its pixels: (batch, h, w)."""
        largest = windows.unflatten(1, (-1, self.length)).amax(dim=2).mean(dim=1, keepdim=True)
        side = math.prod(_STRIDES)
        missing = [side * size - length for size, length in zip(maps.shape[2:], largest.shape[2:], strict=True)]
        padded = nn.functional.pad(largest, (0, missing[1], 0, missing[0]))
        return nn.functional.avg_pool2d(padded, side).squeeze(1)

    def features(self, x: Tensor) -> Tensor:
        """Directions of encodings at the places that change most: (batch, \\*sample_shape) -> (1, batch * places, width)."""
        return self.places(x)[0]

    def forward(self, x: Tensor) -> Tensor:
        """Norm over the places of squared distance times squared change: (batch,), positive."""
        features, change = self.places(x)
        weighed = self.nearest(features).view_as(change) * change.square()
        worst = weighed.amax(dim=1, keepdim=True).clamp_min(_SAME)  # after division by it no square overflows
        return worst.squeeze(1) * torch.linalg.vector_norm(weighed / worst, dim=1).clamp_min(_SAME)

    def loss(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the pace of clips, some of them mirrored, over the places where something moves."""
        number = torch.randint(len(self.paces), (len(x),), generator=generator)
        pace = torch.tensor(self.paces)[number]
        latest = x.shape[2] - 1 - pace * (self.length - 1)
        start = (torch.rand(len(x), generator=generator) * (latest + 1)).long()
        window = self.windows(x, start.to(x.device), pace.to(x.device))
        mirrored = (torch.rand(len(x), 1, 1, 1, generator=generator) < 0.5).to(x.device)
        window = torch.where(mirrored, window.flip(3), window)
        maps = self.maps(window)
        moves = (self.change(window, maps) > _STILL).float()
        logits = self.head(maps.movedim(1, -1)).float().movedim(-1, 1)
        wanted = number.to(x.device).view(-1, 1, 1).expand_as(moves)
        losses = nn.functional.cross_entropy(logits, wanted, reduction="none")
        return (losses * moves).sum() / moves.sum().clamp_min(1)


KINDS: dict[str, Callable[..., ReferenceFeatures]] = {"turns": TurnFeatures, "paces": PaceFeatures}  # trained


def _averages(before: int, after: int) -> Tensor:
    """The matrix that averages ``before`` pixels to ``after`` ones that cover the same length: (after, before)."""
    edges = torch.arange(after + 1, dtype=torch.float64) * before / after
    pixels = torch.arange(before, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp_min(0) * after / before).float()


def _varied(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images moved by a few pixels, the same for all, mirrored at random, and with random brightness and contrast."""
    side, (count, channels) = images.shape[-1], images.shape[:2]
    most = max(1, round(side / _SHIFT))
    down, right = torch.randint(2 * most + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(images, (most,) * 4, mode="replicate")
    moved = padded[:, :, down : down + side, right : right + side]
    mirrored = (torch.rand(count, 1, 1, 1, generator=generator) < 0.5).to(images.device)
    factor, offset = (_LIGHT * torch.randn(2, count, channels, 1, 1, generator=generator)).to(images.device)
    return torch.where(mirrored, moved.flip(3), moved) * (1 + factor) + offset

"""Local features: patches of images of surfaces, compared with those of training images, place by place."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from skmemae.network.backbones import averages
from skmemae.network.smoothing import gaussian_blur

_MOST_SIDE, _LEAST_SIDE = 512, 64  # of the images that are compared; larger ones are averaged, smaller ones interpolated
_CELLS = 32  # along a side of the coarsest images
_NEAR, _WIDE = 1 / 16, 1 / 4  # deviations of local normalisation, in sides
_CONTRAST, _TINY = 0.25, 1e-3  # share of the mean contrast, and the contrast, that are added to local contrast
_RIDGE = 0.01  # share of the mean variance that is added to the variance of each direction
_DRAWN = 400  # patches of an image of which the directions are learned
_SMOOTH = 0.75  # places, deviation of the blur of distances
_SHARP, _SPREAD = 1.5, 6.0  # deviations of the blurs of units, in places
_PRIOR = 20.0  # images that the wider blur counts for
_WORST, _FEWEST = 0.001, 4  # share of the places, and number of them at least, that make the score
_BLANK = 0.25  # weight of a distance that is smaller than usual
_STEEP = 20.0  # a score above it grows linearly, so that nothing overflows
_NUMBERS = 2**19  # of images that are encoded at a time
Images = Callable[[], Iterable[Tensor]]


class Branch(NamedTuple):
    """Patches at one resolution."""

    side: int  # of a patch, in averages
    averaged: int  # pixels of a side that are averaged
    normalised: float  # deviation of local normalisation, in sides


def branches_of(side: int) -> list[Branch]:
    """Patches of 5 x 5 pixels, of averages of 2 x 2 pixels, and so on, and coarse ones with wide normalisation."""
    coarsest = max(1, side // _CELLS)
    near = [Branch(5, 2**level, _NEAR) for level in range(int(math.log2(coarsest)) + 1)]
    return [*near, Branch(3, coarsest, _WIDE)]


class PlaceUnits(nn.Module):
    """Units of maps: the mean and the deviation at each place over training maps.

    Both are means of a sharp and a wide blur, as few maps say little about a single place.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("deviation", torch.ones(shape))

    def learn(self, maps: list[Tensor]) -> None:
        """Learn from batches of maps: (batch, \\*shape) each."""
        n = sum(map(len, maps))
        self.mean = self._blurred(torch.stack([batch.sum(dim=0) for batch in maps]).sum(dim=0) / n, n)
        variance = torch.stack([(batch - self.mean).square().sum(dim=0) for batch in maps]).sum(dim=0) / n
        self.deviation = self._blurred(variance, n).sqrt() + 1e-6

    def forward(self, maps: Tensor) -> Tensor:
        """Maps in deviations from the mean."""
        return (maps - self.mean) / self.deviation

    @staticmethod
    def _blurred(values: Tensor, n: int) -> Tensor:
        return (n * gaussian_blur(values, _SHARP) + _PRIOR * gaussian_blur(values, _SPREAD)) / (n + _PRIOR)


class PatchFeatures(nn.Module):
    """Distance of the patches of an image from those of the training images.

    An image is normalised by the mean and the deviation around each place. Its patches at several resolutions are compared
    with the distribution of all training patches by their Mahalanobis distance, as in [1]_ without a trained network, and the
    logarithm of the distance with that at the same place of training images. The score is that of the worst places, so a small
    flaw counts as much as a large one.

    Parameters
    ----------
    sample_shape : tuple of int
        (C, H, W)

    References
    ----------
    .. [1] Defard, Setkov, Loesch, Audigier, "PaDiM: a patch distribution modeling framework for anomaly detection and
       localization", ICPR 2021.

    Examples
    --------
    >>> import torch
    >>> from skmemae.network import PatchFeatures
    >>> images = torch.rand(20, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    >>> features = PatchFeatures((1, 64, 64))
    >>> features.learn(lambda: [images], torch.Generator().manual_seed(0))
    >>> flawed = images[:1].clone()
    >>> flawed[:, :, 20:26, 20:26] = 0.5
    >>> bool(features(flawed) > features(images).max())
    True
    >>> features.places(flawed).shape
    torch.Size([1, 64, 64])
    """

    mean: Tensor
    center: Tensor
    scale: Tensor

    def __init__(self, sample_shape: Sequence[int]):
        super().__init__()
        channels, *self.shape = sample_shape
        self.averaged = max(1, round(min(self.shape) / _MOST_SIDE))
        shape = [-(-side // self.averaged) for side in self.shape]
        enlarged = max(1.0, _LEAST_SIDE / min(shape))
        self.seen = tuple(round(side * enlarged) for side in shape)  # shape of the images that are compared
        self.places_shape = tuple(max(1, side // 2) for side in self.seen)
        self.branches = branches_of(min(self.seen))
        self.register_buffer("mean", torch.zeros(tuple(sample_shape)))
        self.directions = nn.ModuleList(
            nn.Conv2d(channels, channels * branch.side**2, branch.side).requires_grad_(False) for branch in self.branches
        )
        self.units = PlaceUnits((len(self.branches), *self.places_shape))
        self.joint_units = PlaceUnits(self.places_shape)
        self.register_buffer("center", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    @property
    def batch_size(self) -> int:
        """Number of images that are encoded at a time."""
        return max(1, _NUMBERS // math.prod(self.seen))

    def images(self, x: Tensor) -> Tensor:
        """Images of the samples as they are compared: (batch, \\*sample_shape) -> (batch, C, h, w)."""
        return _interpolated(averages(x + self.mean, self.averaged), self.seen)

    def patches(self, x: Tensor) -> list[Tensor]:
        """Locally normalised images at the resolution of each branch, with a border of half a patch."""
        images, found = self.images(x), []
        normalised = {share: _normalised(images, share) for share in (_NEAR, _WIDE)}
        for branch in self.branches:
            coarse = nn.functional.avg_pool2d(normalised[branch.normalised], branch.averaged)
            found.append(nn.functional.pad(coarse, (branch.side // 2,) * 4, mode="reflect"))
        return found

    def distances(self, x: Tensor) -> Tensor:
        """Logarithms of the distances of patches: (batch, \\*sample_shape) -> (batch, branches, h, w)."""
        found = []
        for patches, directions in zip(self.patches(x), self.directions, strict=True):
            distance = directions(patches).square().mean(dim=1, keepdim=True).sqrt()
            coarse = _interpolated(_interpolated(distance, self.seen), self.places_shape, "area")
            found.append((gaussian_blur(coarse, _SMOOTH) + _TINY).log())
        return torch.cat(found, dim=1)

    def joined(self, distances: Tensor) -> Tensor:
        """One map of all branches in units, large where one of them is: (batch, branches, h, w) -> (batch, h, w).

        Smaller distances than usual count as well, such as those of a blank place in a texture.
        """
        units = self.units(distances)
        return torch.cat([units, -_BLANK * units], dim=1).logsumexp(dim=1)

    def worst(self, maps: Tensor) -> Tensor:
        """Mean of the worst places of maps in units: (batch, h, w) -> (batch,)."""
        flat = maps.flatten(1)
        return flat.topk(min(flat.shape[1], max(_FEWEST, round(_WORST * flat.shape[1]))), dim=1).values.mean(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """Distance from the training images: (batch,), positive, with logarithms that have mean 0 and deviation 1."""
        worst = (self.worst(self.joint_units(self.joined(self.distances(x)))) - self.center) / self.scale
        return worst.clamp(-_STEEP, _STEEP).exp() * (1 + (worst - _STEEP).clamp_min(0))

    def places(self, x: Tensor) -> Tensor:
        """Positive distances of all places: (batch, \\*sample_shape) -> (batch, H, W), higher = more abnormal."""
        maps = self.joint_units(self.joined(self.distances(x)))
        return nn.functional.softplus(_interpolated(maps.unsqueeze(1), self.shape).squeeze(1))

    def excess(self, x: Tensor) -> Tensor:
        """Part of the distances of places that is more than usual: (batch, H, W), not negative.

        If no place has more, the distances themselves.
        """
        places = self.places(x).clamp_min(torch.finfo(torch.float32).tiny)
        excess = (places - math.log(2)).clamp_min(0)
        return torch.where(excess.amax(dim=(1, 2), keepdim=True) > 0, excess, places)

    @torch.no_grad()
    def learn(self, images: Images, generator: torch.Generator) -> None:
        """Learn from training images.

        Parameters
        ----------
        images : callable
            Returns an iterable of batches, (batch, \\*sample_shape), the same each time.
        generator : torch.Generator
            Draws the patches of which the directions are learned.
        """
        moments = [Moments(cast(nn.Conv2d, directions).weight[0].numel()) for directions in self.directions]
        for x in images():
            for patches, branch, one in zip(self.patches(x), self.branches, moments, strict=True):
                one.add(_drawn(patches, branch.side, generator))
        for directions, one in zip(self.directions, moments, strict=True):
            one.whiten(cast(nn.Conv2d, directions))
        distances = [self.distances(x) for x in images()]
        self.units.learn(distances)
        maps = [self.joined(batch) for batch in distances]
        self.joint_units.learn(maps)
        scores = torch.cat([self.worst(self.joint_units(batch)) for batch in maps])
        self.center, self.scale = scores.mean(), scores.std(correction=0) + 1e-6


class Moments:
    """Sums over vectors and over their outer products."""

    def __init__(self, width: int):
        self.count = 0
        self.sums = torch.zeros(width, dtype=torch.float64)
        self.products = torch.zeros(width, width, dtype=torch.float64)

    def add(self, vectors: Tensor) -> None:
        """Add vectors: (n, width)."""
        vectors = vectors.double()
        self.count += len(vectors)
        self.sums += vectors.sum(dim=0)
        self.products += vectors.mT @ vectors

    def whiten(self, convolution: nn.Conv2d) -> None:
        """Let a convolution give the numbers of a patch along each principal axis, in deviations from the mean."""
        mean = self.sums / self.count
        variance, axes = torch.linalg.eigh(self.products / self.count - mean.outer(mean))
        variance = variance.clamp_min(0) + _RIDGE * variance.mean() + 1e-12
        directions = (axes / variance.sqrt()).mT
        convolution.weight.copy_(directions.view_as(convolution.weight))
        cast(Tensor, convolution.bias).copy_(-(directions @ mean))


def _drawn(patches: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Random patches of each image, on the CPU: (n, C * side * side)."""
    all_patches = nn.functional.unfold(patches, side).mT  # (batch, places, width)
    chosen = torch.randint(all_patches.shape[1], (len(patches), _DRAWN, 1), generator=generator).to(patches.device)
    return all_patches.take_along_dim(chosen, dim=1).flatten(0, 1).cpu()


def _normalised(images: Tensor, share: float) -> Tensor:
    """Images without the mean around each place, over the deviation around it and a share of the mean deviation."""
    sigma = share * min(images.shape[-2:])
    images = images - _around(images, sigma)
    contrast = _around(images.square().mean(dim=1, keepdim=True), sigma).clamp_min(0).sqrt()
    return images / (contrast + _CONTRAST * contrast.mean(dim=(1, 2, 3), keepdim=True) + _TINY)


def _around(images: Tensor, sigma: float) -> Tensor:
    """Mean around each place, weighted by a Gaussian; wide ones are computed from averages of pixels, which is faster."""
    size = max(1, int(sigma / 2))
    return _interpolated(gaussian_blur(averages(images, size), sigma / size), images.shape[2:])


def _interpolated(maps: Tensor, size: Sequence[int], mode: str = "bilinear") -> Tensor:
    return maps if list(maps.shape[2:]) == list(size) else nn.functional.interpolate(maps, size=list(size), mode=mode)

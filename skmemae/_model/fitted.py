"""A fitted detector without its threshold, as one module: samples go in; scores, reconstructions and explanations come out."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.layout import Layout
from skmemae._data.loader import Loader
from skmemae._data.sources import Samples
from skmemae._model.known import Calibration, Fingerprint, KnownSamples
from skmemae._model.places import PlaceCalibration
from skmemae._model.scaling import Scaling
from skmemae._model.score import Score, Terms
from skmemae._model.subsets import RandomSubsets
from skmemae._runtime import MicroBatches, isolated, move_to_device, resolve_device, scoring_precision
from skmemae.network import Ensemble, Output, PatchFeatures
from skmemae.network.backbones import averaged_shape, averages
from skmemae.network.features import KINDS, ReferenceFeatures

HEIGHTS = (24, 128, 512, 1024)  # sizes of chunks of rows that are scored together, so that few rows need little padding
FEW = 8  # size of a chunk for so many images or clips, or fewer
_CHUNK_NUMBERS = {"cpu": 2**16, "other": 2**22}  # numbers of images and clips in a chunk; more are no faster
_TABLE_NUMBERS = 2**20
_DECODED_NUMBERS = 2**24  # numbers of memory items that are decoded at a time


class Batch(NamedTuple):
    """Scaled samples and the outputs of the networks for them."""

    x: Tensor  # (batch, *sample_shape)
    group: Tensor | None  # (batch,), the known sample that each one is, -1 for none
    own_items: Tensor | None  # (members, batch), memory items that are left out, -1 for none
    output: Output

    def parts(self, size: int) -> "Iterator[Batch]":
        """Yield the batch in parts of ``size`` samples."""
        for start in range(0, len(self.x), size):
            part = slice(start, start + size)
            reconstruction, *others = (None if tensor is None else tensor[:, part] for tensor in self.output)
            output = Output(cast(Tensor, reconstruction), *cast(list[Any], others))
            group, own_items = self.group, self.own_items
            yield Batch(
                self.x[part],
                None if group is None else group[part],
                None if own_items is None else own_items[:, part],
                output,
            )


class FittedModel(nn.Module):
    """All that a fit has learned, as submodules with buffers.

    ``state_dict()`` and :attr:`config` are the state of the model: files, pickles and checkpoints hold them, and
    :meth:`from_config` makes an empty model that loads the ``state_dict``.

    Parameters
    ----------
    layout : Layout
    scaling : Scaling
    networks : Ensemble
    score : Score
    known : KnownSamples
    subsets : RandomSubsets or None, default=None
        Random subsets; the score adds the distances from them.
    features : ReferenceFeatures, PatchFeatures or None, default=None
        The score is multiplied by the distances in these features.
    """

    def __init__(
        self,
        layout: Layout,
        scaling: Scaling,
        networks: Ensemble,
        score: Score,
        known: KnownSamples,
        subsets: RandomSubsets | None = None,
        features: ReferenceFeatures | PatchFeatures | None = None,
    ):
        super().__init__()
        self.layout = layout
        self.scaling = scaling
        self.networks = networks
        self.score = score
        self.known = known
        self.subsets = subsets
        self.features = features
        self.calibration: Calibration | None = None  # set if samples were held out
        self.places: PlaceCalibration | None = None  # set if images or clips were held out

    @property
    def config(self) -> dict[str, Any]:
        """Kinds and sizes of the parts: plain values, except for a callable backbone."""
        return {
            "layout": asdict(self.layout),
            "limit": self.scaling.limit,
            "network": self.networks.config,
            "score": self.score.name,
            "n_training": self.known.n_training,
            "features": getattr(self.features, "size", None),
            "features_share": getattr(self.features, "share", 0.0),
            "calibrated": self.calibration is not None,
            "places": self.places is not None,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FittedModel":
        """A model without values, to load a ``state_dict`` into; runs no computation."""
        layout = Layout(**config["layout"])
        score = Score(config["score"], config["network"]["members"])
        scaling = Scaling(layout.sample_shape, layout.family == "fc", config["limit"])
        fingerprint = Fingerprint(scaling.unit_shape, math.prod(layout.sample_shape))
        subsets = RandomSubsets(layout.sample_shape) if score.factor == "subsets" else None
        networks = Ensemble.empty(config["network"])
        features: ReferenceFeatures | PatchFeatures | None = None
        with torch.device("meta"):
            if score.factor in KINDS:
                shape = averaged_shape(layout.sample_shape, networks.pixel_size)
                features = KINDS[score.factor](shape, config["features"]).requires_grad_(False)
                features.share = config.get("features_share", 0.0)  # not in the first files
            elif score.factor == "patches":
                features = PatchFeatures(layout.sample_shape)
        known = KnownSamples(fingerprint, config["n_training"])
        model = cls(layout, scaling, networks, score, known, subsets, features)
        model.calibration = Calibration() if config["calibrated"] else None
        model.places = model.empty_places() if config.get("places") else None  # not in the first files
        return model.eval()

    @classmethod
    def from_state(cls, config: dict[str, Any], state: dict[str, Tensor]) -> "FittedModel":
        """A model that takes over the tensors of a ``state_dict``, all but those of 2-D convolutions without a copy.

        Raises
        ------
        RuntimeError
            If the tensors do not have the names, dtypes and shapes that the config asks for.
        """
        model = cls.from_config(config)
        for name, tensor in model.state_dict().items():
            if name in state and state[name].dtype != tensor.dtype:
                raise RuntimeError(f"{name} must be {tensor.dtype}. Got {state[name].dtype}.")
        model.load_state_dict(state, assign=True)
        model.networks.arrange()
        return model

    @property
    def tells_known(self) -> bool:
        """Whether training samples are scored differently from new ones."""
        return self.known.own_item is not None or self.calibration is not None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @isolated
    def move(self, device: str) -> None:
        """Move the model to a device, or leave it where it is if that fails."""
        before = self.device
        try:
            move_to_device(self, resolve_device(device))
        except BaseException:
            self.to(before)
            raise

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, (batch,), and squared residuals in the shape of X, for float64 samples of shape (batch, \\*array_shape)."""
        samples = self.layout.to_network(X)
        batch = self.batch(self.scaling(samples), self.known.fingerprint(samples) if self.tells_known else None)
        return self.batch_scores(batch), self.squared_residuals(batch)

    def batch(self, x: Tensor, prints: Tensor | None = None, group: Tensor | None = None) -> Batch:
        """Pass scaled samples through the networks; fingerprints, or given groups, tell which of them are training samples."""
        if group is None and prints is not None:
            group = self.known.find(prints).to(x.device)
        own_items = None if group is None else self.known.own_items(group)
        return Batch(x, group, own_items, self.networks(x, own_items))

    def terms(self, batch: Batch) -> Terms:
        """Terms of the scores."""
        terms = self.score.terms(batch.x, batch.output, self.scaling)
        scoring = None if batch.own_items is None else self.known.scoring_members(batch.own_items).mT.to(terms.errors)
        subsets = None if self.subsets is None else self.subsets(batch.x, cast(Tensor, batch.group))
        features = None if self.features is None else self.features(self.seen_by_features(batch.x))
        return terms._replace(scoring=scoring, subset_distances=subsets, feature_distances=features)

    def seen_by_features(self, x: Tensor) -> Tensor:
        """Samples as the features see them: for features that were trained, averages of pixels as for the networks."""
        return x if isinstance(self.features, PatchFeatures) else averages(x, self.networks.pixel_size)

    def combine(self, terms: Terms, group: Tensor | None) -> Tensor:
        """Scores from terms, calibrated for training samples: (batch,), float64, higher = more abnormal."""
        distances, subsets = terms.subset_distances, None
        if self.subsets is not None and distances is not None:
            subsets = self.subsets.in_units(distances)
        scores = self.known.discounted(self.score(self.score.errors(terms), subsets, terms.feature_distances), group)
        if self.calibration is None or group is None:
            return scores
        return self.calibration(scores, (group >= 0).to(scores.device))

    def batch_scores(self, batch: Batch) -> Tensor:
        """Anomaly scores: (batch,), float64, higher = more abnormal."""
        return self.combine(self.terms(batch), batch.group)

    def scores(self, X: Samples) -> np.ndarray:
        """Anomaly scores, higher = more abnormal: (n_samples,), float64, finite."""
        return self.collect(X, lambda batch: (self.batch_scores(batch),))[0]

    def reconstruct(self, X: Samples) -> np.ndarray:
        """Reconstructions in the units and the shape of X, the mean over the members; float64 for float64 X, else float32."""
        return self.unscaled(X, self.collect(X, lambda batch: (batch.output.reconstruction.mean(dim=0),))[0])

    def unscaled(self, X: Samples, scaled: np.ndarray) -> np.ndarray:
        """Bring scaled reconstructions of X to the units and the shape of X; float64 for float64 X, else float32."""
        exact = X.dtype.newbyteorder("=") == np.float64
        reconstructions = np.empty((len(scaled), *self.layout.array_shape), dtype=np.float64 if exact else np.float32)
        largest = np.finfo(reconstructions.dtype).max
        for rows, samples in self._loader(X).unscaled_blocks():
            inverse = self.scaling.inverse(torch.from_numpy(scaled[rows]).double(), samples)
            reconstructions[rows] = self.layout.from_network(inverse).clamp(-float(largest), float(largest)).numpy()
        return reconstructions

    def residuals(self, X: Samples) -> np.ndarray:
        """Squared residuals in scaled units and the shape of X, the mean over the members: float32."""
        return self.collect(X, lambda batch: (self.squared_residuals(batch),))[0]

    def squared_residuals(self, batch: Batch) -> Tensor:
        """Squared residuals in scaled units, the mean over the members, in the shape of X."""
        residuals = (batch.output.reconstruction - batch.x).square()
        return self.layout.from_network(residuals.mean(dim=0))

    def place_errors(self, batch: Batch) -> Tensor:
        """Errors of the places of images or clips, higher = more abnormal, from which p-values are computed.

        They are distances of patches, or squared residuals in scaled units, the mean over members and channels:
        (batch, \\*place_shape).
        """
        if isinstance(self.features, PatchFeatures):
            return self.features.places(batch.x)
        return (batch.output.reconstruction - batch.x).square().mean(dim=(0, 2))

    def empty_places(self) -> PlaceCalibration:
        """P-values of places, not yet learned."""
        return PlaceCalibration(self.layout.place_shape, smooths=not isinstance(self.features, PatchFeatures))

    def place_p_values(self, X: Samples) -> np.ndarray:
        """P-values of the places of images or clips: (n_samples, \\*place_shape), float32, lower = more abnormal."""
        places = cast(PlaceCalibration, self.places)
        return self.collect(X, lambda batch: (places(self.place_errors(batch)),))[0]

    def weights(self, X: Samples) -> np.ndarray:
        """Addressing weights of all members side by side: (n_samples, [\\*positions,] members * N)."""
        return self.collect(X, lambda batch: (self.batch_weights(batch),))[0]

    def batch_weights(self, batch: Batch) -> Tensor:
        """Addressing weights of all members side by side: (batch, [\\*positions,] members * N)."""
        weights = self.networks.weights(batch.output.query, batch.own_items)
        return weights.movedim(0, -2).flatten(-2) / len(weights)

    def items(self) -> np.ndarray:
        """The memory items of all members: (members * N, C)."""
        return self.networks.items().numpy(force=True)

    @isolated
    @torch.no_grad()
    def decode_items(self, numbers: np.ndarray) -> np.ndarray:
        """Decode single memory items to the units and the shape of X: (n,) -> (n, \\*array_shape), float32."""
        decoded = np.empty((len(numbers), *self.layout.array_shape), dtype=np.float32)
        size = max(1, _DECODED_NUMBERS // math.prod(self.layout.sample_shape))
        largest = float(np.finfo(np.float32).max)
        for start in range(0, len(numbers), size):
            some = torch.from_numpy(numbers[start : start + size]).to(self.device)
            samples = self.scaling.inverse(self.networks.decode_items(some).cpu().double())
            decoded[start : start + size] = self.layout.from_network(samples).clamp(-largest, largest).numpy()
        return decoded

    @isolated
    @torch.inference_mode()
    def collect(self, X: Samples, function: Callable[[Batch], tuple[Tensor, ...]]) -> list[np.ndarray]:
        """Results of a function of batches for all samples of X, one array for each tensor that it returns."""
        loader = self._loader(X)
        return collected(self.passes(loader, function, 0, len(loader)), len(loader))

    def passes(
        self,
        loader: Loader,
        function: Callable[[Batch], tuple[Tensor, ...]],
        start: int,
        stop: int,
        group: Tensor | None = None,
    ) -> Iterator[tuple[int, list[tuple[Tensor, ...]]]]:
        """Yield the number of samples of each chunk, and the function's results for the parts of the chunk with its padding.

        If memory runs out, the function is called again for the same samples, so it must have no side effects. ``group`` holds
        the known sample that each sample of the loader is; for None the loader takes fingerprints.
        """
        micro, done = MicroBatches(least=1), start

        def results(x: Tensor, prints: Tensor | None, some: Tensor | None) -> tuple[Tensor, ...]:
            return function(self.batch(x, prints, some))

        height = self.height(stop - start)
        for chunk in loader.chunks(height, start, stop):
            some = None
            if group is not None:
                some = torch.full((height,), -1, device=chunk.x.device)
                some[: chunk.count] = group[done : done + chunk.count].to(chunk.x.device)
            with scoring_precision(loader.device):
                yield chunk.count, micro.map(results, chunk.x, chunk.prints, some)
            done += chunk.count

    def height(self, n: int) -> int:
        """Number of samples of a chunk: the smallest of a few sizes that holds n samples, limited by the numbers of a chunk."""
        size = math.prod(self.layout.sample_shape)
        if self.layout.family == "fc":
            enough = next((height for height in HEIGHTS if height >= n), HEIGHTS[-1])
            return max(1, min(enough, _TABLE_NUMBERS // size))
        most = _CHUNK_NUMBERS.get(self.device.type, _CHUNK_NUMBERS["other"]) // size
        return max(1, min(FEW, most) if n <= FEW else most)

    def _loader(self, X: Samples) -> Loader:
        fingerprint = self.known.fingerprint if self.tells_known else None
        return Loader(X, self.layout, self.scaling, self.device, fingerprint, resident_bytes=0)


def collected(passes: Iterator[tuple[int, list[tuple[Tensor, ...]]]], total: int) -> list[np.ndarray]:
    """Results of :meth:`FittedModel.passes` for ``total`` samples, one array for each tensor, without padding."""
    arrays: list[np.ndarray] = []  # of full size from the start: small arrays between large temporaries fragment the heap
    done = 0
    for count, parts in passes:
        for number, tensors in enumerate(zip(*parts, strict=True)):
            part = torch.cat(tensors)[:count].numpy(force=True)
            if done == 0:
                arrays.append(np.empty((total, *part.shape[1:]), dtype=part.dtype))
            arrays[number][done : done + count] = part
        done += count
    return arrays

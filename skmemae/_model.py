"""What a fitted detector is: layout, scaling, networks and score, from samples to numbers."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.layout import Layout
from skmemae._data.loader import Loader
from skmemae._data.scaling import Scaling
from skmemae._data.seen import PRINT_SIZE, SeenSamples, prints
from skmemae._data.signatures import OwnItems
from skmemae._runtime import MicroBatches, isolated, move_to_device, resolve_device, scoring_precision
from skmemae._score import Score, with_members
from skmemae.network import MemAE, Memory, Output
from skmemae.network.exemplars import Exemplars

HEIGHTS = (8, 32, 128, 512, 1024)  # samples that are scored together, so that a few do not cost the padding of many
_CHUNK_NUMBERS = {"cpu": 2**16, "other": 2**22}  # of images and clips; more at once are no faster
_TABLE_NUMBERS = 2**20
_DECODED_NUMBERS = 2**24  # of decoded memory items at a time
_TYPICAL_ROWS, _TYPICAL_NUMBERS = 2**14, 2**26  # samples that tell a typical distance
_ASKED_ROWS = 2**13  # samples that tell which items are used
_ROUNDING = 1e-8  # of a query's squared norm: a distance below it is rounding


@dataclass(frozen=True)
class TrainingResult:
    """What one pass over the training samples finds out."""

    scores: np.ndarray  # (n_samples,) anomaly scores, float64
    usage: np.ndarray  # (ensemble_size, N) share of the queries that used each item
    zero_row_fraction: float  # share of the queries whose weights all missed the threshold


@dataclass
class FittedModel:
    """A trained detector without threshold: it turns samples into scores and all else that can be seen of them.

    Attributes
    ----------
    layout : Layout
    scaling : Scaling
    score : Score
    network_spec : dict
        Arguments of :func:`skmemae.network.build_network`, plain values but for a callable backbone.
    networks : torch.nn.ModuleList of MemAE
        The members of the ensemble, each a network or all of them side by side in one.
    own_items : OwnItems or None, default=None
        Of memory items that are made of rows: a row of the training data is scored by the other items, in ``fit`` and after.
    seen : SeenSamples or None, default=None
        Of networks that hold samples out: a sample that they were trained on is scored as if they were not.
    exemplars : Exemplars or None, default=None
        Whose distances the score is multiplied by.
    """

    layout: Layout
    scaling: Scaling
    score: Score
    network_spec: dict[str, Any]
    networks: nn.ModuleList
    own_items: OwnItems | None = None
    seen: SeenSamples | None = None
    exemplars: Exemplars | None = None

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.networks.parameters()).device

    @property
    def network_list(self) -> list[MemAE]:
        """The networks as a list."""
        return cast(list[MemAE], list(self.networks))

    @property
    def n_members(self) -> int:
        """How many members the ensemble has."""
        return sum(network.members or 1 for network in self.network_list)

    @property
    def memories(self) -> list[Memory]:
        """The memories of the networks; empty if they have none."""
        return [network.memory for network in self.network_list if network.memory is not None]

    def to(self, device: str) -> "FittedModel":
        """Move the networks to a device, in place; if that fails, back to where they were."""
        before, modules = self.device, nn.ModuleList([self.networks, *filter(None, [self.exemplars])])
        try:
            isolated(move_to_device, modules, resolve_device(device))
        except BaseException:
            modules.to(before)
            raise
        return self

    def scores(self, X) -> np.ndarray:
        """Anomaly scores, higher = more abnormal: (n_samples,), float64, finite."""
        if self.seen is None:
            return self.score.combine(isolated(self.collect, X, self.terms))
        found = isolated(self.collect, X, self._terms_and_prints)
        return self.seen.as_unseen(self.score.combine(found[..., :-PRINT_SIZE]), found[:, 0, -PRINT_SIZE:])

    def reconstruct(self, X) -> np.ndarray:
        """Reconstructions in the units and the shape of X, the mean over the networks; float32, for float64 X float64."""
        return self.unscaled(X, isolated(self.collect, X, lambda _, outputs: self.reconstruction(outputs)))

    def reconstruction(self, outputs: list[Output]) -> Tensor:
        """The mean over the members, like the scaled samples."""
        return self._of_members([output.reconstruction for output in outputs]).mean(dim=0)

    def unscaled(self, X, scaled: np.ndarray) -> np.ndarray:
        """Scaled reconstructions of the samples of X, in the units and the shape of X; float32, for float64 X float64."""
        exact = X.dtype.newbyteorder("=") == np.float64
        reconstructions = np.empty((len(scaled), *self.layout.array_shape), dtype=np.float64 if exact else np.float32)
        largest = np.finfo(reconstructions.dtype).max
        for rows, samples in self._loader(X).unscaled_blocks():
            inverse = self.scaling.inverse(torch.from_numpy(scaled[rows]).double(), samples)
            reconstructions[rows] = self.layout.from_network(inverse).clamp(-float(largest), float(largest)).numpy()
        return reconstructions

    def residuals(self, X) -> np.ndarray:
        """Squared residuals in scaled units and the shape of X, the mean over the networks: float32."""
        return isolated(self.collect, X, self.squared_residuals)

    def squared_residuals(self, x: Tensor, outputs: list[Output]) -> Tensor:
        """The mean over the members for scaled samples, in the shape of X."""
        residuals = self._of_members([(output.reconstruction - x).square() for output in outputs])
        return self.layout.from_network(residuals.mean(dim=0))

    def weights(self, X) -> np.ndarray:
        """Addressing weights of all networks side by side: (n_samples, [\\*positions,] ensemble_size * N)."""
        return isolated(self.collect, X, lambda x, outputs: self.answers(outputs))

    def answers(self, outputs: list[Output]) -> Tensor:
        """Addressing weights of the items that gave the outputs: (batch, [\\*positions,] ensemble_size * N)."""
        members = zip(self.network_list, self.memories, outputs, strict=True)
        parts = [memory.weights(network.queries(out.encoding), out.hidden) for network, memory, out in members]
        together = self._of_members(parts)
        return together.movedim(0, -2).flatten(-2) / len(together)

    def items(self) -> np.ndarray:
        """The memory items of all networks: (ensemble_size * N, C)."""
        if not self.memories:
            return np.zeros((0, 0), dtype=np.float32)
        return np.concatenate([memory.items.flatten(0, -2).numpy(force=True) for memory in self.memories])

    def decode_items(self, numbers: np.ndarray) -> np.ndarray:
        """What single memory items decode to, in the units and the shape of X: (len(numbers), \\*array_shape), float32."""
        return isolated(self._decode_items, numbers)

    @torch.no_grad()
    def _decode_items(self, numbers):
        decoded = np.empty((len(numbers), *self.layout.array_shape), dtype=np.float32)
        size = max(1, _DECODED_NUMBERS // math.prod(self.layout.sample_shape))
        blank = torch.zeros(1, *self.layout.sample_shape, device=self.device)
        largest, first = float(np.finfo(np.float32).max), 0
        for network, memory in zip(self.network_list, self.memories, strict=True):
            items = memory.items.flatten(0, -2)
            encoding_shape = network.encoder(blank)[0].shape
            here = np.flatnonzero((numbers >= first) & (numbers < first + len(items)))
            for places in np.array_split(here, -(-len(here) // size) or 1):
                chosen = torch.from_numpy(numbers[places] - first).to(self.device)
                if network.members is None:
                    scaled = network.decode_items(items[chosen], encoding_shape)
                else:  # a decoder of members takes a place for each of them, of which one is looked at
                    scaled = network.decoder(items[chosen].expand(network.members, -1, -1))
                    scaled = scaled[chosen // memory.size, torch.arange(len(chosen), device=self.device)]
                samples = self.layout.from_network(self.scaling.inverse(scaled.cpu().double()))
                decoded[places] = samples.clamp(-largest, largest).numpy()
            first += len(items)
        return decoded

    @torch.inference_mode()
    def score_training(
        self, loader: Loader, rows: Tensor, processes, held_out: Tensor | None = None, new_units: bool = True
    ) -> TrainingResult:
        """Learn typical distances and score the training samples; each process scores its part.

        Parameters
        ----------
        loader : Loader
            Of all training samples.
        rows : Tensor of int
            Those that were trained on or held out.
        processes : SingleProcess or Processes
        held_out : Tensor of int or None, default=None
            Those among them that were held out; if there are none, others are not scored as if they had been.
        new_units : bool, default=True
            Whether typical distances are learned, or stay as they are.

        Raises
        ------
        ValueError
            If a score is not finite.
        """
        if new_units and self.score.needs_distances and self.memories:
            distances = processes.compute_on_first(self._typical_distances, loader, rows)
            self.score = replace(self.score, typical_distances=distances)
        usage, zero_row_fraction = processes.compute_on_first(self.usage, loader)
        start, stop = processes.contiguous_shard(len(loader))
        looks_back = self.own_items is None and (self.seen is not None or (held_out is not None and len(held_out) > 0))
        function, n_extra = self._terms_and_prints if looks_back else self.terms, self._n_distances + looks_back * PRINT_SIZE
        terms, done = np.empty((stop - start, self.n_members, 3 + n_extra)), 0
        for count, parts in self._passes(loader, function, start, stop):
            terms[done : done + count] = torch.cat(parts)[:count].numpy(force=True)
            done += count
        if not np.isfinite(terms).all():
            raise ValueError(
                "Training ended with scores that are not finite: lower learning_rate, or check backbone and temperature."
            )
        errors, extra = np.zeros(len(loader)), np.zeros((len(loader), n_extra))
        errors[start:stop], extra[start:stop] = self.score.errors(terms), terms[:, 0, 3:]
        processes.all_reduce(errors)
        if n_extra:
            processes.all_reduce(extra)
        if self.score.draws is not None:
            self.score = replace(self.score, draws=self.score.draws.in_units_of(errors, extra))
        scores = self.score.finish(errors, extra)
        if looks_back:
            found = extra[:, -PRINT_SIZE:]
            scores = self._look_back(scores, found, rows.numpy(), np.array([]) if held_out is None else held_out.numpy())
        return TrainingResult(scores, usage, zero_row_fraction)

    def _look_back(self, scores: np.ndarray, prints: np.ndarray, rows: np.ndarray, held_out: np.ndarray) -> np.ndarray:
        """Scores of samples as if none had been trained on; where none is held out, by what was learned before."""
        trained = np.setdiff1d(rows, held_out)
        if len(held_out):
            self.seen = SeenSamples.of(prints, scores, trained, held_out)
        elif self.seen is not None:
            self.seen = self.seen.of_others(prints[trained])
        return scores if self.seen is None else self.seen.as_unseen(scores, prints)

    @torch.no_grad()
    def _typical_distances(self, loader: Loader, rows: Tensor) -> tuple[float, ...]:
        """Median over some training samples of each network's squared distance between query and read-out."""
        n = max(1, min(_TYPICAL_ROWS, _TYPICAL_NUMBERS // math.prod(self.layout.sample_shape)))
        micro, parts = MicroBatches(least=1), []

        def distances(x):
            outputs = self.outputs(x, self._own(x))
            norms = self._of_members([output.encoding for output in outputs]).flatten(2).square().sum(dim=2)
            distance = self.terms(x, outputs)[..., 1]
            return torch.stack([distance, norms.mT.to(distance)])

        for part in rows[:: max(1, len(rows) // n)].split(self._height(len(rows))):
            with scoring_precision(loader.device):
                parts += [values.cpu() for values in micro.map(distances, loader.samples(part))]
        distance, norm = np.median(torch.cat(parts, dim=1).numpy(), axis=1)
        return tuple(float(d) or 1.0 for d in np.maximum(distance, _ROUNDING * norm))

    def terms(self, x: Tensor, outputs: list[Output]) -> Tensor:
        """Terms of the score of each member, whether it counts, and distances that all share: (batch, ensemble_size, ...)."""
        terms = self.score.terms(x, outputs, self.network_list, self.scaling)
        counts, hidden = torch.ones_like(terms[..., :1]), outputs[0].hidden
        if self.own_items is not None and hidden is not None:
            counts = self.own_items.counting(hidden).mT.unsqueeze(-1).to(terms)
        return self._beside(torch.cat([terms, counts], dim=-1), *self.distances(x))

    def distances(self, x: Tensor) -> list[Tensor]:
        """Distances of samples from draws, (batch, 2), or exemplars, (batch, 1), if the score has a use for them."""
        if self.score.draws is not None:
            return [self.score.draws.distances(x)]
        return [] if self.exemplars is None else [self.exemplars(x).unsqueeze(1)]

    @staticmethod
    def _beside(terms: Tensor, *shared: Tensor) -> Tensor:
        """Terms, followed by numbers of each sample that are the same for all members."""
        return torch.cat(
            [terms, *(numbers.to(terms).unsqueeze(1).expand(-1, terms.shape[1], -1) for numbers in shared)], dim=-1
        )

    def _terms_and_prints(self, x: Tensor, outputs: list[Output]) -> Tensor:
        """Terms, followed by what tells samples again, the same for each member."""
        return self._beside(self.terms(x, outputs), prints(x))

    @property
    def _n_distances(self) -> int:
        return 2 if self.score.draws is not None else int(self.exemplars is not None)

    @torch.no_grad()
    def usage(self, loader: Loader) -> tuple[np.ndarray, float]:
        """Share of the queries of some samples that used each item, (ensemble_size, N), and share of those with no weight."""
        if not self.memories:
            return np.zeros((self.n_members, 0)), 0.0
        rows = torch.arange(0, len(loader), max(1, len(loader) // _ASKED_ROWS))
        micro = MicroBatches(least=1)
        used = torch.zeros(self.n_members, self.memories[0].size, dtype=torch.float64)
        missed = torch.zeros(self.n_members, dtype=torch.float64)

        def use(x):
            hidden, queries = self._own(x), [network.queries(network.encoder(x)) for network in self.network_list]
            uses = [memory.use(query, hidden) for memory, query in zip(self.memories, queries, strict=True)]
            return [self._of_members(list(column)).sum(dim=1) for column in zip(*uses, strict=True)]

        for part in rows.split(self._height(len(rows))):
            with scoring_precision(loader.device):
                for some_used, some_missed in micro.map(use, loader.samples(part)):
                    used, missed = used + some_used.cpu().double(), missed + some_missed.cpu().double()
        return (used / len(rows)).numpy(), float(missed.mean()) / len(rows)

    def _own(self, x: Tensor) -> Tensor | None:
        """The memory items that are made of the samples: (members, batch), or None where items are made of no rows."""
        return None if self.own_items is None else self.own_items.find(x)

    def _of_members(self, values: list[Tensor]) -> Tensor:
        """What the networks give, all members in a leading axis."""
        return torch.cat([with_members(value, network) for value, network in zip(values, self.network_list, strict=True)])

    @torch.inference_mode()
    def collect(self, X, function: Callable[[Tensor, list[Output]], Tensor]) -> np.ndarray:
        """What the function of (scaled samples, output of each network) returns for all samples of X."""
        # Small results that are kept between large ones that come and go would tear holes into the heap, which then grows.
        loader, results, done = self._loader(X), np.empty(0), 0
        for count, parts in self._passes(loader, function, 0, len(loader)):
            part = torch.cat(parts)[:count].numpy(force=True)
            if done == 0:
                results = np.empty((len(loader), *part.shape[1:]), dtype=part.dtype)
            results[done : done + count] = part
            done += count
        return results

    def _passes(self, loader: Loader, function, start: int, stop: int) -> Iterator[tuple[int, list]]:
        """Yield (number of samples, results of the function for the parts of a chunk), of which the last is padded.

        Parts may come again if memory runs out, so the function changes nothing.
        """
        micro = MicroBatches(least=1)
        for x, count in loader.chunks(self._height(stop - start), start, stop):
            with scoring_precision(loader.device):
                yield count, micro.map(lambda part: function(part, self.outputs(part, self._own(part))), x)

    def outputs(self, x: Tensor, hidden: Tensor | None) -> list[Output]:
        """What the networks give for scaled samples, which the hidden items do not answer."""
        return [network(x, hidden=hidden) for network in self.network_list]

    def _height(self, n: int) -> int:
        """Samples of a chunk: the fewest of a few heights that hold n samples, as far as their numbers allow."""
        numbers = _CHUNK_NUMBERS.get(self.device.type, _CHUNK_NUMBERS["other"])
        most = (_TABLE_NUMBERS if self.layout.family == "fc" else numbers) // math.prod(self.layout.sample_shape)
        enough = next((height for height in HEIGHTS if height >= n), HEIGHTS[-1])
        return max(1, min(enough, most) if self.layout.family == "fc" or enough == HEIGHTS[0] else most)

    def _loader(self, X) -> Loader:
        return Loader(X, self.layout, self.scaling, self.device, resident=False)

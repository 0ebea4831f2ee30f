"""What a fitted detector is: layout, scaling, networks and score, from samples to numbers."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.draws import Draws
from skmemae._data.layout import Layout
from skmemae._data.loader import Loader
from skmemae._data.scaling import Scaling
from skmemae._data.signatures import OwnItems
from skmemae._runtime import MicroBatches, isolated, move_to_device, resolve_device, scoring_precision
from skmemae._score import Score, with_members
from skmemae.network import MemAE, Memory, Output, restore_network

FORMAT = 2  # of the state; raised when an older state can no longer be read as it is
_HEIGHTS = (8, 32, 128, 512, 1024)  # samples that are scored together, so that a few do not cost the padding of many
_CHUNK_NUMBERS = {"cpu": 2**16, "other": 2**22}  # of images and clips; more at once are no faster
_TABLE_NUMBERS = 2**20
_DECODED_NUMBERS = 2**24  # of decoded memory items at a time
_TYPICAL_ROWS, _TYPICAL_NUMBERS = 2**14, 2**26  # samples that tell a typical distance
_ASKED_ROWS = 2**13  # samples that tell which items are used
_NOISE_CHUNKS = 4  # of vectors, which tell the noise of scores; of images and clips, which take longer, one
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
    """

    layout: Layout
    scaling: Scaling
    score: Score
    network_spec: dict[str, Any]
    networks: nn.ModuleList
    own_items: OwnItems | None = None

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
        before = self.device
        try:
            isolated(move_to_device, self.networks, resolve_device(device))
        except BaseException:
            self.networks.to(before)
            raise
        return self

    def scores(self, X) -> np.ndarray:
        """Anomaly scores, higher = more abnormal: (n_samples,), float64, finite."""
        return self.score.combine(isolated(self.collect, X, self.terms))

    def reconstruct(self, X) -> np.ndarray:
        """Reconstructions in the units and the shape of X, the mean over the networks; float32, for float64 X float64."""
        return self.unscaled(X, isolated(self.collect, X, lambda _, outputs: self.reconstruction(outputs)))

    def reconstruction(self, outputs: list[Output]) -> Tensor:
        """The mean over the members, like the scaled samples."""
        return self._of_members([output.reconstruction for output in outputs]).mean(dim=0)

    def unscaled(self, X, scaled: np.ndarray) -> np.ndarray:
        """Scaled reconstructions of the samples of X, in the units and the shape of X; float32, for float64 X float64."""
        exact = X.dtype == np.float64
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

    def state(self) -> dict[str, Any]:
        """Plain values and numpy arrays from which :meth:`from_state` makes the model again."""
        parameters = {name: value.numpy(force=True).copy() for name, value in self.networks.state_dict().items()}
        return {
            "format": FORMAT,
            "layout": asdict(self.layout),
            "scaling": asdict(self.scaling),
            "score": asdict(self.score),
            "network_spec": self.network_spec,
            "n_networks": len(self.networks),
            "parameters": parameters,
            "own_items": None if self.own_items is None else asdict(self.own_items),
            "device": str(self.device),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "FittedModel":
        """The model of a state; on the CPU where its device is absent. Runs no network, so that no thread of torch starts.

        Raises
        ------
        ValueError
            If the state has another format.
        """
        if state.get("format") != FORMAT:
            raise ValueError(
                f"This detector was saved in format {state.get('format')}; this version of skmemae reads format {FORMAT}. "
                "Load it with the version that saved it, or fit it again."
            )
        return isolated(cls._from_state, state)

    @classmethod
    def _from_state(cls, state):
        networks = nn.ModuleList()
        for i in range(state["n_networks"]):
            prefix = f"{i}."
            parameters = {
                name.removeprefix(prefix): torch.from_numpy(np.array(value))
                for name, value in state["parameters"].items()
                if name.startswith(prefix)
            }
            networks.append(restore_network(parameters, **state["network_spec"]))
        try:
            device = resolve_device(state["device"])
        except ValueError:
            device = torch.device("cpu")
        layout = Layout(**state["layout"])
        draws, own_items = state["score"]["draws"], state["own_items"]
        score = Score(**{**state["score"], "draws": None if draws is None else Draws(**_copied(draws))})
        own_items = None if own_items is None else OwnItems(**_copied(own_items))
        networks = move_to_device(networks, device).eval()
        return cls(layout, Scaling(**state["scaling"]), score, state["network_spec"], networks, own_items)

    @torch.inference_mode()
    def score_training(self, loader: Loader, rows: Tensor, processes, new_units: bool = True) -> TrainingResult:
        """Learn typical distances and score the training samples; each process scores its part.

        Parameters
        ----------
        loader : Loader
            Of all training samples.
        rows : Tensor of int
            Those that were trained on.
        processes : SingleProcess or Processes
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
        terms, done = np.empty((stop - start, self.n_members, self._n_terms)), 0
        for count, parts in self._passes(loader, self.terms, start, stop):
            terms[done : done + count] = torch.cat(parts)[:count].numpy(force=True)
            done += count
        if not np.isfinite(terms).all():
            raise ValueError(
                "Training ended with scores that are not finite: lower learning_rate, or check backbone and temperature."
            )
        scores, distances = np.zeros(len(loader)), np.zeros((len(loader), self._n_terms - 3))
        scores[start:stop], distances[start:stop] = self.score.errors(terms), terms[:, 0, 3:]
        processes.all_reduce(scores)
        if self.score.draws is not None:
            processes.all_reduce(distances)
            draws = self.score.draws.in_units_of(scores, distances)
            self.score, scores = replace(self.score, draws=draws), draws.add(scores, distances)
        return TrainingResult(scores, usage, zero_row_fraction)

    def noise(self, X, scores: np.ndarray) -> float:
        """By how much scores differ between the batches of ``scores`` and small ones: the median relative difference.

        Matrix products round differently for different heights. Where a table is reconstructed nearly without error, what is
        left is such noise.
        """
        height, count = _HEIGHTS[0], _NOISE_CHUNKS if self.layout.family == "fc" else 1
        chunks = [X[start : start + height] for start in range(0, min(len(scores), count * height), height)]
        small = np.concatenate([self.scores(chunk) for chunk in chunks])
        scores = scores[: len(small)]
        return float(np.median(np.abs(small - scores) / np.maximum(scores, np.finfo(np.float64).tiny)))

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
        """Terms of the score of each member, whether it counts, and the distances from draws: (batch, ensemble_size, ...)."""
        terms = self.score.terms(x, outputs, self.network_list, self.scaling)
        counts, hidden = torch.ones_like(terms[..., :1]), outputs[0].hidden
        if self.own_items is not None and hidden is not None:
            counts = self.own_items.counting(hidden).mT.unsqueeze(-1).to(terms)
        if self.score.draws is None:
            return torch.cat([terms, counts], dim=-1)
        distances = self.score.draws.distances(x).to(terms).unsqueeze(1).expand(-1, terms.shape[1], -1)
        return torch.cat([terms, counts, distances], dim=-1)

    @property
    def _n_terms(self) -> int:
        return 3 if self.score.draws is None else 5

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
        enough = next((height for height in _HEIGHTS if height >= n), _HEIGHTS[-1])
        return max(1, min(enough, most) if self.layout.family == "fc" or enough == _HEIGHTS[0] else most)

    def _loader(self, X) -> Loader:
        return Loader(X, self.layout, self.scaling, self.device, resident=False)


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with copies of arrays, which may lie in a file."""
    return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}

"""A fitted detector as one ONNX graph, from X as it is to score, label and map."""

import contextlib
import copy
import importlib
import logging
import math
import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from skmemae._data.draws import Draws
from skmemae._data.seen import SeenSamples, directions, prints
from skmemae._data.signatures import OwnItems
from skmemae._model import FittedModel
from skmemae._runtime import isolated
from skmemae._score import LARGEST, TINY
from skmemae.network import Memory

_NUMBERS = 2**14  # differences between a sample and drawn rows that are held at a time
_SAME = 1e-7, 1e-12  # relative and absolute difference of equal numbers of float32: runtimes round logarithms differently
_SEED = 0x5EED
_EXAMPLES = 3  # samples that the graph is traced with; 0 and 1 would be taken for constants
_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def onnx_file(model: FittedModel, threshold: float, codes: tuple[int, int], metadata: dict[str, str]) -> bytes:
    """The content of an ONNX file with the input "X" and the outputs "score", "label" and "map".

    Parameters
    ----------
    model : FittedModel
        Stays as and where it is.
    threshold : float
        Anomaly score above which a sample is an outlier.
    codes : tuple of int
        Labels of inliers and of outliers.
    metadata : dict of str to str
        What the file says of itself.

    Raises
    ------
    ImportError
        If onnx or onnxscript are not installed.
    RuntimeError
        If torch cannot export the networks.
    """
    try:
        for name in ("onnx", "onnxscript"):
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError('export_onnx needs onnx and onnxscript: pip install "skmemae[onnx]"') from error
    with _silence():
        try:
            program = isolated(_export, model, threshold, codes)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise RuntimeError(
                "export_onnx cannot export this detector. The modules of a callable backbone must not depend on the values or "
                "the number of samples, and use operations that ONNX has; no other thread may use networks meanwhile. torch "
                f"says: {reason}"
            ) from error
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # lines and paths of the code that made it
    program.model.producer_name, program.model.producer_version = "skmemae", metadata["version"]
    program.model.metadata_props.update(metadata)
    return program.model_proto.SerializeToString()


@torch.no_grad()
def _export(model, threshold, codes):
    on_cpu = copy.deepcopy(nn.ModuleList([model.networks, *filter(None, [model.exemplars])])).cpu()
    networks, *exemplars = on_cpu
    graph = _Graph(replace(model, networks=networks, exemplars=next(iter(exemplars), None)), threshold, codes).eval()
    X = torch.zeros(_EXAMPLES, *model.layout.array_shape, dtype=torch.float64)
    shapes = ({0: torch.export.Dim("n_samples")},)
    program = torch.export.export(graph, (X,), dynamic_shapes=shapes, strict=False)
    names: dict[str, Any] = {"input_names": ["X"], "output_names": ["score", "label", "map"]}
    return torch.onnx.export(program, dynamic_shapes=shapes, dynamo=True, verbose=False, **names)


@contextlib.contextmanager
def _silence():
    """Keep back what torch's exporter says of itself."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class _Graph(nn.Module):
    """X of float64, (n_samples, \\*array_shape) -> score, label and map."""

    def __init__(self, model: FittedModel, threshold: float, codes: tuple[int, int]):
        super().__init__()
        self.networks, self.exemplars = model.networks, model.exemplars  # as parts, whose parameters torch then knows
        self.model = model
        self.threshold = threshold
        self.codes = codes
        self.find = None if model.own_items is None else _FindOwnItems(model.own_items, model.memories[0])
        self.look_back = None if model.seen is None else _AsUnseen(model.seen, math.prod(model.layout.sample_shape))

    def forward(self, X: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        model = self.model
        x = model.scaling.apply(model.layout.to_network(X))
        own = None if self.find is None else self.find(x)
        outputs = model.outputs(x, own)
        score = self._errors(model.score.terms(x, outputs, model.network_list, model.scaling), own)
        if model.score.draws is not None:
            score = _with_draws(model.score.draws, score, x)
        if model.exemplars is not None:
            score = torch.minimum(score.sqrt() * model.exemplars(x).double(), _float64(LARGEST))
        if self.look_back is not None:
            score = self.look_back(score, x)
        inlier, outlier = (torch.tensor(code) for code in self.codes)
        return score, torch.where(score > self.threshold, outlier, inlier), model.squared_residuals(x, outputs)

    def _errors(self, terms: Tensor, own: Tensor | None) -> Tensor:
        """What ``Score.errors`` computes."""
        error, distance = terms.unbind(dim=2)
        scores = error * (1 + 0.1 * distance / _float64(self.model.score.typical_distances))
        scores = torch.minimum(torch.where(scores.isnan(), _float64(LARGEST), scores), _float64(LARGEST))
        if scores.shape[1] == 1:
            return scores[:, 0]
        logarithms, own_items = torch.maximum(scores, _float64(TINY)).log(), self.model.own_items
        if own is None or own_items is None:
            return logarithms.mean(dim=1).exp()
        counts = own_items.counting(own).mT.double()
        return ((logarithms * counts).sum(dim=1) / counts.sum(dim=1)).exp()


class _FindOwnItems(nn.Module):
    """What ``OwnItems.find`` does, without signatures, as ONNX has no bits of numbers.

    Of all items the one whose row has the nearest projection on a random vector may be made of the sample; it is if the rows
    are equal.
    """

    def __init__(self, own_items: OwnItems, memory: Memory):
        super().__init__()
        self.memory = memory
        rows = memory.items[..., memory.key_width :].double()
        generator = torch.Generator().manual_seed(_SEED)
        self.direction = torch.rand(rows.shape[-1], 1, generator=generator, dtype=torch.float64) + 0.5
        signatures, items = (torch.as_tensor(array, device="cpu") for array in (own_items.ascending, own_items.order))
        projections = (rows @ self.direction).squeeze(-1).gather(1, items).masked_fill(signatures < 0, torch.inf)
        ascending, places = projections.sort(dim=1)
        self.items = items.masked_fill(signatures < 0, -1).gather(1, places)
        self.begins = _begins(ascending)
        self.first = (torch.arange(len(rows)) * memory.size).unsqueeze(1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, \\*sample_shape) -> (members, batch), int64, -1 for none."""
        flat = x.flatten(1)
        projection = (flat.double() @ self.direction).mT.expand(len(self.begins), -1)
        item = self.items.gather(1, _nearest(self.begins, projection))
        rows = self.memory.items.flatten(0, 1)[item.clamp_min(0) + self.first][..., self.memory.key_width :]
        return torch.where(_are_same((rows - flat).abs(), flat.abs()).all(dim=2), item, -1)


class _AsUnseen(nn.Module):
    """What ``SeenSamples.as_unseen`` does. Of all samples the one with the nearest first projection may be the same."""

    def __init__(self, seen: SeenSamples, size: int):
        super().__init__()
        self.prints, self.along = torch.tensor(seen.prints), directions(size)
        self.begins = _begins(self.prints[:, 0].unsqueeze(0))
        lower, upper = torch.tensor(seen.seen_scores).log(), torch.tensor(seen.unseen_scores).log()
        self.knots, self.raised = lower, upper - lower
        self.slopes = (self.raised.diff() / lower.diff().clamp_min(TINY)).nan_to_num(0.0)

    def forward(self, scores: Tensor, x: Tensor) -> Tensor:
        """Scores of samples, (batch,), with those of samples that were trained on raised."""
        found = prints(x, self.along)
        nearest = self.prints[_nearest(self.begins, found[:, 0].unsqueeze(0)).squeeze(0)]
        logarithms = torch.maximum(scores, _float64(TINY)).log()
        raised = logarithms + self.raised[0]
        if len(self.slopes):
            place = (logarithms.unsqueeze(1) >= self.knots[1:-1]).sum(dim=1)
            beyond = torch.maximum(torch.minimum(logarithms, self.knots[-1]), self.knots[0]) - self.knots[place]
            raised = logarithms + self.raised[place] + self.slopes[place] * beyond
        same = _are_same((nearest - found).abs(), found[:, 2:]).all(dim=1)
        return torch.where(same, torch.minimum(raised.exp(), _float64(LARGEST)), scores)


def _begins(ascending: Tensor) -> Tensor:
    """Where a number begins to be the nearest, up to a power of two, for which bisection takes no care: (rows, size)."""
    size = ascending.shape[1]
    begins = torch.full((len(ascending), 2 ** (size - 1).bit_length()), torch.inf, dtype=torch.float64)
    begins[:, 0], begins[:, 1:size] = -torch.inf, (ascending[:, 1:] + ascending[:, :-1]) / 2
    return begins


def _nearest(begins: Tensor, values: Tensor) -> Tensor:
    """Places of the nearest numbers of each row by bisection: (rows, size), (rows, batch) -> (rows, batch)."""
    place, step = torch.zeros_like(values, dtype=torch.int64), begins.shape[1] // 2
    while step:
        place = torch.where(begins.gather(1, place + step) <= values, place + step, place)
        step //= 2
    return place


def _with_draws(draws: Draws, errors: Tensor, x: Tensor) -> Tensor:
    """What ``Draws.distances`` and ``Draws.add`` compute. ONNX has no distances, and all differences at once can be many."""
    rows, flat, nearest = torch.tensor(draws.rows).flatten(2), x.flatten(1), []
    for some in rows.split(max(1, _NUMBERS // rows[0].numel())):
        distances = (flat[:, None, None] - some).abs().sum(dim=3)
        same = _are_same(distances, flat.abs().sum(dim=1)[:, None, None])
        nearest.append(distances.masked_fill(same, torch.inf).amin(dim=2))
    together = torch.cat(nearest, dim=1)
    from_draws = together.masked_fill(together.isinf(), 0.0).mean(dim=1)
    from_median = (x - torch.tensor(draws.median)).abs().flatten(1).sum(dim=1)
    distances = torch.stack([from_draws, from_median], dim=1).double() / _float64(draws.typical_distances)
    return torch.minimum(errors / draws.typical_error + distances.sum(dim=1), _float64(LARGEST))


def _are_same(gap: Tensor, size: Tensor) -> Tensor:
    """Whether numbers of this size that lie so far apart are equal but for rounding."""
    relative, absolute = _SAME
    return gap <= relative * size + absolute


def _float64(values) -> Tensor:
    """A constant of the graph; the exporter rounds the bounds of a clamp to float32."""
    return torch.tensor(values, dtype=torch.float64)

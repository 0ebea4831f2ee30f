"""From samples to a fitted model: scaling, rows of the memory, networks, training, and scores of the training samples."""

from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import torch

from skmemae._data.layout import Layout
from skmemae._data.loader import Loader
from skmemae._data.repeats import thin_repeats
from skmemae._data.statistics import learn_scaling
from skmemae._model import HEIGHTS, FittedModel, TrainingResult
from skmemae._resolve import resolve
from skmemae._runtime import is_out_of_memory, move_to_device, resolve_precision
from skmemae._score import Score
from skmemae._train.checkpoint import NO_CHECKPOINT, Checkpoint, identity_of
from skmemae._train.choice import choose_items, some_rows
from skmemae._train.exemplars import train_exemplars
from skmemae._train.loop import History, Settings, train_members
from skmemae._train.survey import survey
from skmemae.network import RandomStream, build_network

_NOISE_CHUNKS = 4  # of vectors, which tell the noise of scores; of images and clips, which take longer, one
_USUAL_SHARE = 0.1  # of outliers in training data, where ``contamination`` does not say
_NETWORK_PARAMETERS = (
    "backbone",
    "widths",
    "memory_size",
    "memory_unit",
    "memory_heads",
    "similarity",
    "temperature",
    "shrink_threshold",
)


class Fitted(NamedTuple):
    """What training gives."""

    model: FittedModel
    params: dict[str, Any]  # resolved
    history: History
    result: TrainingResult
    noise: float  # of the scores, relative
    item_rows: np.ndarray | None  # (ensemble_size * N,), the row that each item is made of; None where items are learned
    checkpoint: Checkpoint = NO_CHECKPOINT  # to be removed once all is done

    @property
    def calibration_scores(self) -> np.ndarray:
        """Scores of the samples that what scores them was not trained on.

        A memory of rows scores each row without the item that is made of it.
        """
        scores = self.result.scores
        return scores if self.item_rows is not None else scores[self.history.held_out_rows.numpy()]


def fit_model(
    X,
    layout: Layout,
    given: dict[str, Any],
    device,
    seed: int,
    processes,
    before: FittedModel | None = None,
    tasks=None,
    checkpoint=None,
) -> Fitted:
    """Train on all that X tells.

    Parameters
    ----------
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
    layout : Layout
    given : dict
        Parameters of ``MemAEDetector``, as the user gave them.
    device : torch.device
    seed : int
    processes : SingleProcess or Processes
    before : FittedModel or None, default=None
        An earlier fit, whose networks are the start where they have the same shapes.
    tasks : FitTasks or None, default=None
        On the first process, what tells callbacks of networks and epochs.
    checkpoint : str, PathLike or None, default=None
        File from which the fit goes on, if it is there, and which holds its state until it is complete.
    """
    identity = "" if checkpoint is None else identity_of(X, given)  # reads rows all over X
    kept = processes.compute_on_first(Checkpoint, checkpoint, identity, seed)
    if processes.rank:
        kept.path = None  # the first process writes
    seed = kept.seed
    generator = torch.Generator().manual_seed(seed)
    params = resolve(given, layout, len(X))
    training_mask = processes.compute_on_first(thin_repeats, X) if params["thin_repeats"] else None
    rows = torch.arange(len(X)) if training_mask is None else torch.from_numpy(np.flatnonzero(training_mask))
    params = resolve(given, layout, len(rows))
    scaling = processes.compute_on_first(learn_scaling, X, layout, params["scaling"], training_mask)
    loader = Loader(X, layout, scaling, device)
    choice = draws = None
    if params["memory_items"] == "rows" and params["memory_size"]:
        draw = torch.Generator().manual_seed(seed)
        seen, rows, draws = processes.compute_on_first(survey, loader, rows, share_of_outliers(given), draw)
        rows = some_rows(rows, generator)
        params = resolve(given, layout, len(rows))
        choice = choose_items(seen, rows, params["ensemble_size"], params["memory_size"], generator)
    params |= {"device": str(device), "precision": resolve_precision(given["precision"], device)}
    score = Score.of(params["anomaly_score"], params["ensemble_size"], layout.family, params["memory_items"] == "rows", draws)
    networks = build_networks(params, layout, device, generator)
    is_warm = before is not None and start_from(before, networks[1])
    own_items, error = None if choice is None else choice.scoring, replace(score, exemplars=None)
    model = FittedModel(layout, scaling, error, *networks, own_items=own_items)
    stream = RandomStream(seed, device) if callable(given["backbone"]) else None
    settings = settings_of(params, score)
    usage = processes.compute_on_first(model.usage, loader)[0] if is_warm else None
    if tasks is not None:
        tasks.begin(model, loader, rows, settings.max_epochs)
    history = train_members(model.networks, loader, settings, generator, rows, processes, stream, choice, usage, tasks, kept)
    if score.exemplars is not None:
        model = _with_exemplars(model, score, loader, history.trained(rows), settings, generator, processes, kept)
    result = model.score_training(loader, rows, processes, history.held_out_rows)
    if tasks is not None:
        tasks.end(model)
    noise = processes.compute_on_first(score_noise, model, X, result.scores)
    return Fitted(model, params, history, result, noise, None if choice is None else choice.rows.flatten().numpy(), kept)


def _with_exemplars(model, score, loader, rows, s: Settings, generator, processes, kept) -> FittedModel:
    """The model with a score by exemplars, which the first process trains on some rows."""
    steps = s.max_epochs * -(-len(rows) // s.batch_size)
    arguments = score.exemplars, loader, rows, steps, s.precision, generator, s.verbose, kept
    exemplars = processes.compute_on_first(train_exemplars, *arguments)
    return replace(model, score=score, exemplars=exemplars.to(loader.device))


def score_noise(model: FittedModel, X, scores: np.ndarray) -> float:
    """By how much scores differ between the batches of ``scores`` and small ones: the median relative difference.

    Matrix products round differently for different heights. Where a table is reconstructed nearly without error, what is
    left is such noise.
    """
    height, count = HEIGHTS[0], _NOISE_CHUNKS if model.layout.family == "fc" else 1
    chunks = [X[start : start + height] for start in range(0, min(len(scores), count * height), height)]
    small = np.concatenate([model.scores(chunk) for chunk in chunks])
    scores = scores[: len(small)]
    return float(np.median(np.abs(small - scores) / np.maximum(scores, np.finfo(np.float64).tiny)))


def share_of_outliers(given: dict[str, Any]) -> float:
    """What ``contamination`` says of the training data."""
    return float(given["contamination"]) if isinstance(given["contamination"], Real) else _USUAL_SHARE


def settings_of(params: dict[str, Any], score: Score) -> Settings:
    """What the training loop must know of resolved parameters."""
    known = {name: params[name] for name in Settings._fields if name in params}
    return Settings(**known, power=score.trained_power)


def build_networks(params: dict[str, Any], layout: Layout, device, generator) -> tuple[dict, torch.nn.ModuleList]:
    """Arguments of ``build_network``, and the networks: one for each member, or one of all where items are rows.

    Raises
    ------
    MemoryError
        If there is no room for them.
    """
    spec = {"sample_shape": layout.sample_shape, **{name: params[name] for name in _NETWORK_PARAMETERS}}
    count = params["ensemble_size"]
    if params["memory_items"] == "rows":
        spec["members"], count = count, 1
    try:
        networks = torch.nn.ModuleList(build_network(**spec, generator=generator) for _ in range(count))
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"There is no room for {params['ensemble_size']} network(s) of widths {spec['widths']} with {spec['memory_size']} "
            f"memory items: lower widths, memory_size or ensemble_size. torch says: {str(error).splitlines()[0]}"
        ) from error
    return spec, move_to_device(networks, device)


def start_from(before: FittedModel, networks: torch.nn.ModuleList) -> bool:
    """Give networks the parameters of an earlier fit; whether they have the same shapes, but for items that are rows."""
    ours = networks.state_dict()
    items_are_rows = before.own_items is not None
    theirs = {k: v for k, v in before.networks.state_dict().items() if not (items_are_rows and k.endswith("memory.items"))}
    missing = [name for name in ours if name not in theirs and not name.endswith("memory.items")]
    fits = all(name in ours and ours[name].shape == value.shape for name, value in theirs.items()) and not missing
    if fits:
        networks.load_state_dict(theirs, strict=False)
    return fits

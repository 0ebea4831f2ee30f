"""From samples to a fitted model: a fit, and updates with more samples of a stream."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from skmemae._data.layout import Layout, choose_layout
from skmemae._data.loader import Loader
from skmemae._data.sources import Samples
from skmemae._data.surfaces import shows_surface
from skmemae._defaults import decide, resolve, share_of_outliers, share_to_leave_out, weight_of_outliers
from skmemae._model.copies import Copies, group_copies, repeated_records
from skmemae._model.fitted import FEW, HEIGHTS, FittedModel
from skmemae._model.known import Fingerprint, KnownSamples, take_prints
from skmemae._model.scaling import Scaling, unit_shape
from skmemae._model.score import Score
from skmemae._model.statistics import learn_scaling
from skmemae._model.subsets import RandomSubsets
from skmemae._runtime import is_out_of_memory, move_to_device
from skmemae._train.distributed import SingleProcess
from skmemae._train.features import learn_patches, subtracted_by, train_features, weight_of, with_more
from skmemae._train.items import Items, LearnedItems, RowItems
from skmemae._train.loop import Curves, Settings, Split, Training, split_rows, train_networks
from skmemae._train.result import TrainingScores, calibrate_places, score_training, usage_of, warn_of_repeats
from skmemae._train.rows import Choice, choose_items, select_rows, share_of_near_copies, some_rows, thin_copies
from skmemae._train.run import Run
from skmemae.network import Ensemble, MemAE, RandomStream, RowMemAE
from skmemae.network.backbones import averaged_shape, averages
from skmemae.network.randomness import draw_seed

_NOISE_CHUNKS = 2  # chunks of vectors that show the noise of scores; one chunk of images or clips, which take longer
_AVERAGED_NUMBERS = 2**22  # of images that are averaged at a time
_LEAST_WINDOW = 1000  # samples that a window holds at least
_SHORTER, _SHORTER_OF_ROWS = 2, 4  # times shorter than the training of a fit is that of an update
_NETWORK = (
    "backbone",
    "widths",
    "side_by_side",
    "per_sample",
    "pixel_size",
    "memory_size",
    "memory_heads",
    "similarity",
    "temperature",
    "shrink_threshold",
)


class Fitted(NamedTuple):
    """Result of a fit or an update."""

    model: FittedModel
    params: dict[str, Any]  # resolved
    curves: Curves
    scores: TrainingScores
    noise: float  # of the scores, relative


class Window(NamedTuple):
    """The latest samples of a stream that are remembered."""

    n_seen: int  # samples since the stream began
    capacity: int  # samples that are remembered

    @property
    def begin(self) -> int:
        """Number of the first sample in the window among all samples of the stream."""
        return max(0, self.n_seen - self.capacity)

    @classmethod
    def of(cls, n_samples: int) -> "Window":
        """The window of a fit."""
        return cls(n_samples, max(n_samples, _LEAST_WINDOW))

    def after(self, n_samples: int) -> "Window":
        """The window after ``n_samples`` more samples."""
        return self._replace(n_seen=self.n_seen + n_samples)

    def share_left(self, n_samples: int) -> float:
        """Share of its samples that stay in the window after ``n_samples`` more samples."""
        return min(1.0, max(0, self.capacity - n_samples) / min(self.n_seen, self.capacity))


def fit_model(X: Samples, layout: Layout, given: dict[str, Any], run: Run) -> Fitted:
    """Learn scaling, memory, networks, and the units of the score from X.

    Parameters
    ----------
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
    layout : Layout
    given : dict
        Parameters of ``MemAEDetector``, as the user gave them.
    run : Run
    """
    decided = decide(given, layout, len(X), run.on_first(shows_surface, X, layout))
    fingerprint = Fingerprint(unit_shape(layout.sample_shape, layout.family == "fc"), math.prod(layout.sample_shape))
    fingerprint.learn_units(X, layout)
    copies = group_copies(run.on_first(take_prints, X, layout, fingerprint))
    mask = thin_copies(copies, decided["power_of_copies"])
    rows = torch.arange(len(X)) if mask is None else torch.nonzero(mask).flatten()
    scaling = run.on_first(learn_scaling, X, layout, decided["scaling"], None if mask is None else mask.numpy())
    loader = Loader(X, layout, scaling, run.device)
    is_record = run.on_first(repeated_records, copies, loader.samples if layout.family == "fc" else None)

    share = share_of_outliers(given)
    has_row_memory = decided["memory_unit"] == "row" and decided["memory_size"] != 0
    subsets = None
    if has_row_memory:
        draw, adds = torch.Generator().manual_seed(run.seed), decided["anomaly_score"].endswith("-subsets")
        rows, subsets = run.on_first(select_rows, loader, rows, copies, share_to_leave_out(share), adds, draw)
        rows = some_rows(rows, run.generator)
    params = resolve(decided, layout, len(rows)) | run.resolved
    choice = _choose(copies, rows, params, run) if has_row_memory else None

    networks = build_networks(params, layout, run)
    split = split_rows(loader, rows, params["validation_fraction"], run, copies)
    known = KnownSamples(fingerprint, None if choice is None else choice.n_training)
    group = _learn_known(known, copies, is_record, choice, subsets, split)
    if choice is not None:
        known.learn_items(group, choice.rows, torch.arange(len(X)))
    score = Score(params["anomaly_score"], params["ensemble_size"])
    model = FittedModel(layout, scaling, networks, score, known, _subsets_of(subsets, loader, group, share, len(rows))).to(
        run.device
    )
    if "model" in run.stored:
        model.load_state_dict(run.stored["model"])
    run.stream = RandomStream(run.seed, run.device) if callable(given["backbone"]) else None

    settings = settings_of(params, score)
    alone, all_rows = SingleProcess(), torch.arange(len(X))
    as_trained = partial(
        score_training, loader=loader, split=Split(rows, rows[:0]), group=group, processes=alone, typical=all_rows
    )
    for observer in run.observers:
        observer.begin(model, settings.max_epochs, as_trained)
    items = items_of(model, loader, group, choice, settings)
    seen = _averaged(loader, networks.pixel_size)
    trained = rows[~torch.isin(rows, split.held_out)]
    more = weight_of(score.factor, layout.family, len(trained))
    with run.observed(len(networks.all), settings.max_epochs, more):
        curves = train_networks(networks.of_averages, seen, split, settings, run, items, model.state_dict)
        if more:
            steps = settings.max_epochs * -(-len(trained) // settings.batch_size)
            mean = subtracted_by(scaling, cast(str, score.factor), networks.pixel_size)
            model.features = run.on_first(train_features, score.factor, seen, mean, trained, steps, share, run).to(run.device)
        elif score.factor == "patches":
            model.features = run.on_first(learn_patches, loader, scaling, trained, run).to(run.device)
    scores = score_training(model, loader, split, group, run.processes, torch.arange(len(X)))
    calibrate_places(model, loader, split, run.processes)
    for observer in run.observers:
        observer.end(model)
    noise = run.on_first(score_noise, model, X, scores.scores)
    warn_of_repeats(copies, is_record, _near_copies(loader, copies.distinct(rows), run) if has_row_memory else 0.0)
    return Fitted(model, params, curves, scores.without_repeats(copies, is_record), noise)


def _near_copies(loader: Loader, rows: Tensor, run: Run) -> float:
    return run.on_first(share_of_near_copies, loader, rows, torch.Generator().manual_seed(run.seed))


def update_model(model: FittedModel, window: Window, usage: np.ndarray, X: Samples, given: dict[str, Any], run: Run) -> Fitted:
    """Train a copy of the model with more samples; the model itself is left as it is.

    Parameters
    ----------
    model : FittedModel
    window : Window
    usage : ndarray of shape (members, N)
        Share of the queries that used each item.
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
    given : dict
        Parameters of ``MemAEDetector`` as the user gave them; those of the networks, items and score stay as in the fit.
    run : Run
        Its seed differs from that of the fit.

    Returns
    -------
    fitted : Fitted
        Its scores are those of the new samples, with a memory of rows at most of as many as the window holds.
    """
    model = copy.deepcopy(model)
    if model.known.item_rows is None:
        return _update_learned(model, window, usage, X, given, run)
    return _update_rows(model, window, X, given, run)


def _update_learned(
    model: FittedModel, window: Window, usage: np.ndarray, X: Samples, given: dict[str, Any], run: Run
) -> Fitted:
    """Update networks with learned items, or without a memory: they train on the new samples alone."""
    params, rows = _params_of_update(given, model, len(X), run), torch.arange(len(X))
    move_to_device(model, run.device)
    loader = Loader(X, model.layout, model.scaling, run.device)
    run.stream = RandomStream(draw_seed(run.generator), run.device) if callable(params["backbone"]) else None
    asked = run.on_first(usage_of, model, loader, None).usage
    # An item that few new samples use may still be used by other samples of the window.
    weight = len(X) / min(window.n_seen + len(X), window.capacity)
    usage = (1 - weight) * usage.reshape(asked.shape) + weight * asked
    fingerprint = copy.deepcopy(model.known.fingerprint).cpu()
    copies = group_copies(run.on_first(take_prints, X, model.layout, fingerprint))
    is_record = run.on_first(repeated_records, copies, loader.samples if model.layout.family == "fc" else None)
    split = split_rows(loader, rows, params["validation_fraction"], run, copies)
    params, split = _shortened(params, split)
    calibrates = len(split.held_out) or model.calibration is not None
    group = model.known.cpu().learn_samples(copies, split.training if calibrates else split.training[:0])
    model.known.to(run.device)
    settings = settings_of(params, model.score)
    items = items_of(model, loader, group, None, settings, usage)
    seen = _averaged(loader, model.networks.pixel_size)
    with run.observed(len(model.networks.all), settings.max_epochs):
        curves = train_networks(model.networks.of_averages, seen, split, settings, run, items)
    if model.features is not None:
        trained = rows[~torch.isin(rows, split.held_out)]
        left = window.share_left(len(X))
        model.features = run.on_first(with_more, model.features, left, seen, trained, run.generator).to(run.device)
    scores = score_training(model, loader, split, group, run.processes)
    calibrate_places(model, loader, split, run.processes)
    return Fitted(model, params, curves, scores.without_repeats(copies, is_record), 0.0)


class _WindowRows(NamedTuple):
    """Rows of the memory that stay in the window, and after them the new rows."""

    loader: Loader  # of the rows, scaled
    copies: Copies
    numbers: Tensor  # of the rows in the stream
    n_kept: int
    n_copies: Tensor  # (n_kept,), other rows of the window that are of the same kind as a row that stays


def _rows_of_window(model: FittedModel, before: Window, X: Samples, run: Run) -> _WindowRows:
    """Rows of a model on the CPU and new rows, the latest ones that the window holds."""
    old, window, layout = model.known, before.after(len(X)), choose_layout(model.layout.sample_shape)
    numbers, first = (torch.from_numpy(array) for array in np.unique(old.item_rows.numpy(), return_index=True))
    stays = numbers >= window.begin
    numbers, first = numbers[stays], first[stays]
    n_copies = ((old.counts[old.item_groups.flatten()[first]] - 1) * before.share_left(len(X))).round()
    X = X[len(X) - window.capacity :] if len(X) > window.capacity else X
    kept = cast(RowMemAE, model.networks.rows).memory.rows.flatten(0, 1)[first]
    scaled = Loader(X, model.layout, model.scaling, torch.device("cpu")).samples(torch.arange(len(X)))
    loader = _scaled_loader(torch.cat([kept, scaled]), layout, run.device)
    prints = run.on_first(take_prints, X, model.layout, old.fingerprint)
    kept_prints = old.prints[:, old.item_groups.flatten()[first]].T
    kept_prints = torch.cat([kept_prints, prints[:1, -1:].expand(len(first), 1)], dim=1)
    numbers = torch.cat([numbers, torch.arange(window.n_seen - len(X), window.n_seen)])
    return _WindowRows(loader, group_copies(torch.cat([kept_prints, prints])), numbers, len(first), n_copies)


def _scaled_loader(samples: Tensor, layout: Layout, device: torch.device) -> Loader:
    """A loader of samples on the CPU that are scaled already."""
    identity = Scaling(layout.sample_shape, layout.family == "fc", math.inf)
    identity.learn_units(np.zeros(1), np.ones(1))
    return Loader(samples.numpy(), layout, identity, device)


def _averaged(loader: Loader, pixel_size: int) -> Loader:
    """A loader of averages of pixels, in which each image is scaled and averaged once and not in each epoch."""
    if pixel_size == 1:
        return loader
    shape = averaged_shape(loader.layout.sample_shape, pixel_size)
    size = max(1, _AVERAGED_NUMBERS // math.prod(loader.layout.sample_shape))
    seen, done = torch.empty(len(loader), *shape), 0
    for x, rows in loader.stream(list(torch.arange(len(loader)).split(size))):
        seen[done : done + len(rows)] = averages(x, pixel_size).cpu()
        done += len(rows)
    return _scaled_loader(seen, choose_layout(shape, "conv2d", channel_axis=1), loader.device)


def _update_rows(model: FittedModel, window: Window, X: Samples, given: dict[str, Any], run: Run) -> Fitted:
    """Update a memory of rows: it takes the new rows and drops the oldest; the networks train on the rows that it then holds.

    If the least used rows were dropped instead, only the most usual ones would stay, and fewer outliers would be found.
    """
    model = model.cpu()
    loader, copies, numbers, n_kept, n_copies = _rows_of_window(model, window, X, run)
    is_record = run.on_first(repeated_records, copies, loader.samples)
    draw, adds = torch.Generator().manual_seed(draw_seed(run.generator)), model.subsets is not None
    share, rows = share_of_outliers(given), torch.arange(len(loader))
    rows, subsets = run.on_first(select_rows, loader, rows, copies, share_to_leave_out(share), adds, draw, n_kept)
    rows = some_rows(rows, run.generator)
    params = _params_of_update(given, model, len(rows), run)
    choice = _choose(copies, rows, params, run)
    networks = build_networks(params, model.layout, run)
    trained = {k: v[: params["ensemble_size"]] for k, v in model.networks.state_dict().items() if ".memory." not in k}
    networks.load_state_dict(trained, strict=False)
    params, split = _shortened(params, split_rows(loader, rows, params["validation_fraction"], run, copies))
    known = KnownSamples(model.known.fingerprint, choice.n_training)
    copies.counts.index_add_(0, copies.group[:n_kept], n_copies.long())
    group = _learn_known(known, copies, is_record, choice, subsets, split)
    known.learn_items(group, choice.rows, numbers)
    score = Score(model.score.name, params["ensemble_size"])
    learned = _subsets_of(subsets, loader, group, share, len(rows))
    new = FittedModel(model.layout, model.scaling, networks, score, known, learned).to(run.device)
    settings = settings_of(params, score)
    items = items_of(new, loader, group, choice, settings)
    with run.observed(len(networks.all), settings.max_epochs):
        curves = train_networks(networks.all, loader, split, settings, run, items)
    n_rows = torch.ones(len(loader), dtype=torch.int64)
    n_rows[:n_kept] += n_copies.long()
    typical = torch.arange(len(loader)).repeat_interleave(n_rows)
    scores = score_training(new, loader, split, group, run.processes, typical)
    return Fitted(new, params, curves, scores.without_repeats(copies, is_record).after(n_kept), 0.0)


def _choose(copies: Copies, rows: Tensor, params: dict[str, Any], run: Run) -> Choice:
    """Choose the rows of the memories, and set ``memory_size`` to their number."""
    choice = choose_items(copies.distinct(rows), params["ensemble_size"], params["memory_size"], run.generator)
    params["memory_size"] = choice.rows.shape[1]
    return choice


def _learn_known(
    known: KnownSamples, copies: Copies, is_record: Tensor, choice: Choice | None, subsets: Tensor | None, split: Split
) -> Tensor:
    """Store the samples of items and random subsets, or with calibrated scores; the known sample of each row, -1 for none."""
    if choice is None:
        return known.learn_samples(copies, split.training if len(split.held_out) else split.training[:0])
    rows = [rows.flatten() for rows in (choice.rows, subsets) if rows is not None]
    return known.learn_samples(copies, torch.cat(rows), is_record)


def _subsets_of(drawn: Tensor | None, loader: Loader, group: Tensor, share: float, n_rows: int) -> RandomSubsets | None:
    """Subsets of training rows; in clean data the distances from them count as far as they hold all kinds of rows."""
    if drawn is None:
        return None
    numbers, places = drawn.unique(return_inverse=True)
    of_outliers = weight_of_outliers(share)
    of_subsets = max(of_outliers, min(1.0, drawn.numel() / n_rows))
    subsets = RandomSubsets(loader.layout.sample_shape)
    return subsets.learn_rows(loader.samples(numbers), places, group[numbers], (of_subsets, of_outliers))


def items_of(
    model: FittedModel,
    loader: Loader,
    group: Tensor,
    choice: Choice | None,
    settings: Settings,
    usage: np.ndarray | None = None,
) -> Callable[[Training], Items]:
    """Makes the maintenance of a network's items in training; ``usage`` is given for networks that were trained before."""
    if choice is not None:
        examples = loader.samples(choice.rows.flatten()).unflatten(0, choice.rows.shape)
        own = model.known.own_item
        return lambda training: RowItems(cast(RowMemAE, training.network), examples, own, group, choice.n_training)

    def learned(training: Training) -> Items:
        network, used = cast(MemAE, training.network), None
        if network.memory is None:
            return Items()
        if usage is not None:
            number = next(i for i, other in enumerate(model.networks.networks) if other.memory is network.memory)
            used = torch.as_tensor(usage[number], device=loader.device)
        return LearnedItems(network.memory.items, training.optimiser, training.random_queries, settings.max_epochs, used)

    return learned


def score_noise(model: FittedModel, X: Samples, scores: np.ndarray) -> float:
    """Median relative difference between ``scores`` and the scores of the same samples in small batches.

    Matrix products round differently for different numbers of rows. If a table is reconstructed nearly without error, scores
    consist of such noise.
    """
    height, count = (HEIGHTS[0], _NOISE_CHUNKS) if model.layout.family == "fc" else (FEW, 1)
    chunks = [X[start : start + height] for start in range(0, min(len(scores), count * height), height)]
    small = np.concatenate([model.scores(chunk) for chunk in chunks])
    scores = scores[: len(small)]
    return float(np.median(np.abs(small - scores) / np.maximum(scores, np.finfo(np.float64).tiny)))


def settings_of(params: dict[str, Any], score: Score) -> Settings:
    """Settings of the training loop, from resolved parameters."""
    known = {name: params[name] for name in Settings._fields if name in params}
    return Settings(**known, power=score.trained_power)


def build_networks(params: dict[str, Any], layout: Layout, run: Run) -> Ensemble:
    """Fresh networks of all members, on the device.

    Raises
    ------
    MemoryError
        If there is no room for them.
    """
    config = {
        "sample_shape": layout.sample_shape,
        "members": params["ensemble_size"],
        **{name: params[name] for name in _NETWORK},
    }
    try:
        networks = Ensemble.build(config, run.generator)
        move_to_device(networks, run.device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryError(
            f"There is no room for {params['ensemble_size']} network(s) of widths {params['widths']} with "
            f"{params['memory_size']} memory items: lower widths, memory_size or ensemble_size. torch says: "
            f"{str(error).splitlines()[0]}"
        ) from error
    return networks


def _params_of_update(given: dict[str, Any], model: FittedModel, n_training: int, run: Run) -> dict[str, Any]:
    """Resolved parameters of an update: those of networks, items and score as in the fit.

    The size of a memory of rows may grow with the window, and then there may be fewer members.
    """
    config = model.networks.config
    params = {**given, "anomaly_score": model.score.name, "ensemble_size": config["members"], "backbone": config["backbone"]}
    params |= {"widths": config["widths"], "shrink_threshold": config["shrink_threshold"]}
    if config["side_by_side"] and given["ensemble_size"] == "auto":
        params["ensemble_size"] = "auto"
    unit = "row" if config["side_by_side"] else "sample" if config["per_sample"] else "location"
    params |= {"memory_unit": unit, "memory_size": config["memory_size"]}
    if config["memory_size"]:
        params |= {"similarity": config["similarity"], "temperature": config["temperature"]}
        if config["side_by_side"]:
            params["memory_size"] = given["memory_size"] or "auto"
    decided = decide(params, model.layout, n_training) | {"memory_heads": config["memory_heads"]}
    resolved = resolve(decided, model.layout, n_training) | run.resolved
    return {**resolved, "ensemble_size": min(resolved["ensemble_size"], config["members"])}


def _shortened(params: dict[str, Any], split: Split) -> tuple[dict[str, Any], Split]:
    """Training that is a few times shorter than that of a fit: fewer epochs, or of one epoch fewer rows."""
    factor, epochs, n = _SHORTER_OF_ROWS if params["side_by_side"] else _SHORTER, params["max_epochs"], len(split.training)
    shorter = max(1, epochs // factor)
    some = split.training[: max(2, n * epochs // (factor * shorter))]
    return {**params, "max_epochs": shorter}, split._replace(training=some)

"""More samples for a fitted model: what the memory takes, and what it forgets."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._data.scaling import Scaling
from skmemae._fitting import Fitted, build_networks, settings_of, share_of_outliers, start_from
from skmemae._model import FittedModel
from skmemae._resolve import resolve
from skmemae._runtime import resolve_precision
from skmemae._score import Score
from skmemae._train.choice import choose_items, some_rows
from skmemae._train.loop import train_members
from skmemae._train.survey import survey
from skmemae.network import RandomStream

_LEAST_WINDOW = 1000  # samples that a window holds at least
_EPOCHS = 4  # an update has so many times fewer epochs than a fit


class Window(NamedTuple):
    """The latest samples of a stream, as far as they are remembered."""

    n_seen: int  # samples since the stream began
    capacity: int  # samples that are remembered
    last_used: np.ndarray | None  # for each row in the memory, in ascending order, the stream's length when it last answered

    @classmethod
    def of(cls, n_samples: int, item_rows: np.ndarray | None) -> "Window":
        """The window of a fit."""
        used = None if item_rows is None else np.full(len(np.unique(item_rows)), n_samples)
        return cls(n_samples, max(n_samples, _LEAST_WINDOW), used)

    def latest(self, before: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The last scores of all, as many as the window holds."""
        return np.concatenate([before, new])[-self.capacity :]


def update_model(
    model: FittedModel, window: Window, item_rows, usage: np.ndarray, X, given: dict[str, Any], device, seed: int, processes
) -> tuple[Fitted, Window]:
    """Go on training with more samples; the model itself is left as it is.

    Parameters
    ----------
    model : FittedModel
    window : Window
    item_rows : ndarray of int of shape (ensemble_size * N,) or None
        Numbers of the samples that the memory items are made of.
    usage : ndarray of shape (ensemble_size * N,)
        Share of the queries that used each item.
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
    given : dict
        Parameters of ``MemAEDetector``, as the user gave them.
    device : torch.device
    seed : int
    processes : SingleProcess or Processes

    Returns
    -------
    fitted : Fitted
        With the scores of the new samples.
    window : Window
    """
    generator = torch.Generator().manual_seed((seed + window.n_seen) % 2**31)
    if item_rows is None:
        fitted = _update_learned(model, window, usage, X, given, device, generator, processes)
        return fitted, window._replace(n_seen=window.n_seen + len(X))
    return _update_rows(model, window, item_rows, X, given, device, generator, processes)


def _update_learned(model, window, usage, X, given, device, generator, processes) -> Fitted:
    """Networks with learned items, or without a memory, go on with the new samples alone."""
    params = _resolved(given, model, len(X), device)
    spec, networks = build_networks(params, model.layout, device, generator)
    start_from(model, networks)
    new = FittedModel(model.layout, model.scaling, model.score, spec, networks)
    loader, rows = Loader(X, model.layout, model.scaling, device), torch.arange(len(X))
    stream = RandomStream(int(torch.randint(2**31, (), generator=generator)), device) if callable(given["backbone"]) else None
    asked, _ = processes.compute_on_first(new.usage, loader)
    # An item that a small piece has no use for may have one among the samples of the whole window.
    weight = len(X) / min(window.n_seen + len(X), window.capacity)
    usage = (1 - weight) * usage.reshape(asked.shape) + weight * asked
    settings = settings_of(params, model.score)
    history = train_members(networks, loader, settings, generator, rows, processes, stream, usage=usage)
    result = new.score_training(loader, rows, processes, new_units=False)
    return Fitted(new, params, history, result, 0.0, None)


def _update_rows(model, window, item_rows, X, given, device, generator, processes) -> tuple[Fitted, Window]:
    """A memory of rows takes the new rows in, and the networks go on with all rows that it then holds."""
    numbers, kept, last_used = processes.compute_on_first(_kept_rows, model, window, item_rows, X)
    known, layout = len(kept), choose_layout(model.layout.sample_shape)
    scaled = Loader(X, model.layout, model.scaling, torch.device("cpu"), resident=True).samples(torch.arange(len(X)))
    loader = Loader(np.concatenate([kept, scaled.numpy()]), layout, _identity(kept.shape[1]), device)
    draw = torch.Generator().manual_seed(int(torch.randint(2**31, (), generator=generator)))
    found = processes.compute_on_first(survey, loader, torch.arange(len(loader)), share_of_outliers(given), draw, known)
    rows = some_rows(found.trusted, generator)
    numbers = np.concatenate([numbers, window.n_seen + np.arange(len(X))])
    last_used = np.concatenate([last_used, np.full(len(X), window.n_seen + len(X))])
    params = _resolved(given, model, len(rows), device)
    choice = choose_items(found.signatures, rows, params["ensemble_size"], params["memory_size"], generator)
    score = Score.of(params["anomaly_score"], params["ensemble_size"], True, found.draws)
    spec, networks = build_networks(params, model.layout, device, generator)
    start_from(model, networks)
    on_scaled = FittedModel(layout, loader.scaling, score, spec, networks, choice.scoring)
    settings = settings_of(params, score)
    history = train_members(networks, loader, settings, generator, rows, processes, choice=choice)
    result = on_scaled.score_training(loader, rows, processes)
    new = replace(on_scaled, layout=model.layout, scaling=model.scaling)
    items = choice.rows.flatten().numpy()
    window = Window(window.n_seen + len(X), window.capacity, last_used[np.unique(items)])
    fitted = Fitted(new, params, history, replace(result, scores=result.scores[known:]), 0.0, numbers[items])
    return fitted, window


def _kept_rows(model: FittedModel, window: Window, item_rows, X) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers, scaled values and times of the last use of the rows that stay: those that were used last, the newest first."""
    numbers, first, group = np.unique(item_rows, return_index=True, return_inverse=True)
    (memory,) = model.memories
    values = memory.items.flatten(0, -2)[:, memory.key_width :].numpy(force=True)[first]
    usage, _ = model.usage(Loader(X, model.layout, model.scaling, model.device, resident=False))
    answered = np.bincount(group, weights=usage.ravel()) > 0
    last_used = np.where(answered, window.n_seen + len(X), window.last_used)
    count = min(len(numbers), max(window.capacity - len(X), 0))
    stay = np.sort(np.lexsort((-numbers, -last_used))[:count])
    return numbers[stay], values[stay], last_used[stay]


def _identity(width: int) -> Scaling:
    return Scaling(np.zeros(width), np.ones(width))


def _resolved(given, model: FittedModel, n_samples: int, device) -> dict[str, Any]:
    """The parameters of an update: those of the networks as they are, and fewer epochs."""
    params = resolve(given, model.layout, n_samples)
    size = params["memory_size"] if model.own_items is not None else model.network_spec["memory_size"]
    params |= {name: value for name, value in model.network_spec.items() if name in params and name != "sample_shape"}
    params |= {"memory_size": size, "memory_items": "rows" if "members" in model.network_spec else "learned"}
    params["ensemble_size"] = model.n_members
    params["max_epochs"] = max(1, params["max_epochs"] // _EPOCHS)
    return params | {"device": str(device), "precision": resolve_precision(given["precision"], device)}

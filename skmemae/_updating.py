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
from skmemae._train.choice import choose_items, some_rows
from skmemae._train.exemplars import with_more
from skmemae._train.loop import train_members
from skmemae._train.survey import survey
from skmemae.network import Memory, RandomStream
from skmemae.network.randomness import draw_seed

_LEAST_WINDOW = 1000  # samples that a window holds at least
_EPOCHS = 2  # an update has so many times fewer epochs than a fit


class Window(NamedTuple):
    """The latest samples of a stream, as far as they are remembered."""

    n_seen: int  # samples since the stream began
    capacity: int  # samples that are remembered

    @classmethod
    def of(cls, n_samples: int) -> "Window":
        """The window of a fit."""
        return cls(n_samples, max(n_samples, _LEAST_WINDOW))

    def after(self, n_samples: int) -> "Window":
        """The window once so many more samples were seen."""
        return self._replace(n_seen=self.n_seen + n_samples)

    def latest(self, before: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The last scores of all, as many as the window holds."""
        return np.concatenate([before, new])[-self.capacity :]


def update_model(
    model: FittedModel, window: Window, item_rows, usage, anomaly_score, X, given: dict[str, Any], device, seed: int, processes
) -> Fitted:
    """Go on training with more samples; the model itself is left as it is.

    Parameters
    ----------
    model : FittedModel
    window : Window
    item_rows : ndarray of int of shape (ensemble_size * N,) or None
        Numbers of the samples that the memory items are made of.
    usage : ndarray of shape (ensemble_size * N,)
        Share of the queries that used each item.
    anomaly_score : str
        What the parameter of the fit came to. It stays, and so do those of the networks and their items.
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
    """
    given = {**given, **_staying(model, given), "anomaly_score": anomaly_score}
    generator = torch.Generator().manual_seed((seed + window.n_seen) % 2**31)
    if item_rows is None:
        return _update_learned(model, window, usage, X, given, device, generator, processes)
    return _update_rows(model, window, item_rows, X, given, device, generator, processes)


def _update_learned(model, window, usage, X, given, device, generator, processes) -> Fitted:
    """Networks with learned items, or without a memory, go on with the new samples alone."""
    params = _resolved(given, model, len(X), device)
    spec, networks = build_networks(params, model.layout, device, generator)
    start_from(model, networks)
    new = FittedModel(model.layout, model.scaling, model.score, spec, networks, None, model.seen, model.exemplars)
    loader, rows = Loader(X, model.layout, model.scaling, device), torch.arange(len(X))
    stream = RandomStream(draw_seed(generator), device) if callable(given["backbone"]) else None
    asked, _ = processes.compute_on_first(new.usage, loader)
    # An item that a small piece has no use for may have one among the samples of the whole window.
    weight = len(X) / min(window.n_seen + len(X), window.capacity)
    usage = (1 - weight) * usage.reshape(asked.shape) + weight * asked
    settings = settings_of(params, model.score)
    history = train_members(networks, loader, settings, generator, rows, processes, stream, usage=usage)
    if new.exemplars is not None:
        more = processes.compute_on_first(with_more, new.exemplars, loader, history.trained(rows), generator)
        new = replace(new, exemplars=more.to(device))
    result = new.score_training(loader, rows, processes, history.held_out_rows, new_units=False)
    return Fitted(new, params, history, result, 0.0, None)


def _update_rows(model, window, item_rows, X, given, device, generator, processes) -> Fitted:
    """A memory of rows takes the new rows in and drops the oldest; the networks go on with those that it then holds.

    To drop those that were used least instead leaves the most usual rows, and finds fewer outliers.
    """
    numbers, first = np.unique(item_rows, return_index=True)
    stay = slice(max(0, len(numbers) - max(window.capacity - len(X), 0)), None)
    numbers, kept = numbers[stay], _rows_in(model.memories[0], first[stay])
    known, layout = len(kept), choose_layout(model.layout.sample_shape)
    scaled = Loader(X, model.layout, model.scaling, torch.device("cpu"), resident=True).samples(torch.arange(len(X)))
    loader = Loader(np.concatenate([kept, scaled.numpy()]), layout, _identity(kept.shape[1]), device)
    draw = torch.Generator().manual_seed(draw_seed(generator))
    has_draws = model.score.draws is not None  # scores of the whole window are in one unit
    asked = loader, torch.arange(len(loader)), share_of_outliers(given), draw, known, has_draws
    found = processes.compute_on_first(survey, *asked)
    rows = some_rows(found.trusted, generator)
    numbers = np.concatenate([numbers, window.n_seen + np.arange(len(X))])
    params = _resolved(given, model, len(rows), device)
    choice = choose_items(found.signatures, rows, params["ensemble_size"], params["memory_size"], generator)
    score = replace(model.score, draws=found.draws)
    spec, networks = build_networks(params, model.layout, device, generator)
    start_from(model, networks)
    on_scaled = FittedModel(layout, loader.scaling, score, spec, networks, choice.scoring)
    settings = settings_of(params, score)
    history = train_members(networks, loader, settings, generator, rows, processes, choice=choice)
    result = on_scaled.score_training(loader, rows, processes)
    new = replace(on_scaled, layout=model.layout, scaling=model.scaling)
    result = replace(result, scores=result.scores[known:])
    return Fitted(new, params, history, result, 0.0, numbers[choice.rows.flatten().numpy()])


def _rows_in(memory: Memory, items: np.ndarray) -> np.ndarray:
    """The scaled rows that some items of all members are made of: (len(items), d)."""
    return memory.items.flatten(0, -2)[:, memory.key_width :].numpy(force=True)[items]


def _identity(width: int) -> Scaling:
    return Scaling(np.zeros(width), np.ones(width), limit=np.inf)


def _staying(model: FittedModel, given) -> dict[str, Any]:
    """The parameters of the networks and their items as they are, but for the size of a memory of rows: that grows."""
    spec = model.network_spec
    params = {name: value for name, value in spec.items() if name in given and name != "sample_shape"}
    params |= {"memory_items": "rows" if "members" in spec else "learned", "ensemble_size": model.n_members}
    return params if model.own_items is None else params | {"memory_size": given["memory_size"] or "auto"}


def _resolved(given, model: FittedModel, n_samples: int, device) -> dict[str, Any]:
    """The parameters of an update, with fewer epochs."""
    params = resolve(given, model.layout, n_samples)
    params["max_epochs"] = max(1, params["max_epochs"] // _EPOCHS)
    return params | {"device": str(device), "precision": resolve_precision(given["precision"], device)}

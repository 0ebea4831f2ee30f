"""A fitted model as plain values and numpy arrays, and back."""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from skmemae._data.draws import Draws
from skmemae._data.layout import Layout
from skmemae._data.scaling import Scaling
from skmemae._data.seen import SeenSamples
from skmemae._data.signatures import OwnItems
from skmemae._model import FittedModel
from skmemae._runtime import isolated, resolve_device
from skmemae._score import Score
from skmemae.network import restore_exemplars, restore_network

FORMAT = 2  # of the state; raised when an older state can no longer be read as it is


def state_of(model: FittedModel) -> dict[str, Any]:
    """Plain values and numpy arrays from which :func:`model_of` makes the model again."""
    return {
        "format": FORMAT,
        "layout": asdict(model.layout),
        "scaling": asdict(model.scaling),
        "score": asdict(model.score),
        "network_spec": model.network_spec,
        "n_networks": len(model.networks),
        "parameters": _arrays(model.networks),
        "own_items": None if model.own_items is None else asdict(model.own_items),
        "seen": None if model.seen is None else asdict(model.seen),
        "exemplars": None if model.exemplars is None else _arrays(model.exemplars),
        "device": str(model.device),
    }


def model_of(state: dict[str, Any]) -> FittedModel:
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
    return isolated(_model_of, state)


def _model_of(state) -> FittedModel:
    networks = nn.ModuleList()
    for i in range(state["n_networks"]):
        prefix, arrays = f"{i}.", state["parameters"]
        own = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        networks.append(restore_network(_tensors(own), **state["network_spec"]))
    try:
        device = resolve_device(state["device"])
    except ValueError:
        device = torch.device("cpu")
    layout = Layout(**state["layout"])
    draws, own_items = state["score"]["draws"], state["own_items"]
    seen, exemplars = (state.get(name) for name in ("seen", "exemplars"))  # which older files lack
    score = Score(**{**state["score"], "draws": None if draws is None else Draws(**_copied(draws))})
    if exemplars is not None:
        exemplars = restore_exemplars(score.exemplars, layout.sample_shape, _tensors(exemplars))
    return FittedModel(
        layout,
        Scaling(**state["scaling"]),
        score,
        state["network_spec"],
        networks.eval(),
        None if own_items is None else OwnItems(**_copied(own_items)),
        None if seen is None else SeenSamples(**_copied(seen)),
        exemplars,
    ).to(str(device))


def _arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.numpy(force=True).copy() for name, value in module.state_dict().items()}


def _tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def _copied(values: dict[str, Any]) -> dict[str, Any]:
    """The values, with copies of arrays, which may lie in a file."""
    return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}

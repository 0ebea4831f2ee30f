"""Whether what a file says of a detector can be one: checked before anything is built from it, as anyone may have written it.

Sizes that a file declares are held against the arrays that it has, so that a small file cannot ask for a large network.
"""

import math
import re
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils._param_validation import Interval, Options, RealNotInt, StrOptions, validate_parameter_constraints

from skmemae._data.layout import Layout, are_positive_ints, choose_layout
from skmemae._data.seen import PRINT_SIZE
from skmemae._resolve import FEWEST_FRAMES, check_numbers
from skmemae._state import FORMAT
from skmemae.network.exemplars import KINDS

_MOST_AXES, _MOST_NUMBERS = 16, 2**40  # of a sample
_MOST_LAYERS = 1000  # in a parameter; those of a network are held against its arrays
_POSITIVE = Interval(RealNotInt, 0, None, closed="neither")  # an int may be too large for a float
_FROM_0, _FROM_1 = (Interval(Integral, least, None, closed="left") for least in (0, 1))
_COUNT = Interval(Integral, 1, 2**62, closed="both")

_MODEL = {
    "format": [Options(Integral, {FORMAT})],
    "layout": [dict],
    "scaling": [dict],
    "score": [dict],
    "network_spec": [dict],
    "n_networks": [_FROM_1],
    "parameters": [dict],
    "own_items": [dict, None],
    "device": [str],
}
_NEWER_MODEL = {"seen": [dict, None], "exemplars": [dict, None]}
_LAYOUT = {
    "family": [StrOptions({"fc", "conv2d", "conv3d"})],
    "array_shape": [tuple],
    "given_shape": [tuple],
    "channel_axis": [_FROM_0, None],
    "sample_shape": [tuple],
}
_SCALING = {
    "center": [np.ndarray],
    "scale": [np.ndarray],
    "limit": [_POSITIVE],
    "log_unit": [np.ndarray, None],
    "mean_sample": [np.ndarray, None],
}
_SCORE = {
    "kind": [StrOptions({"reconstruction", "absolute", "power", "smooth", "local", "relative", "combined"})],
    "typical_distances": [tuple],
    "draws": [dict, None],
}
_NEWER_SCORE = {"exemplars": [StrOptions(set(KINDS)), None]}
_DRAWS = {"rows": [np.ndarray], "median": [np.ndarray], "typical_error": [_POSITIVE], "typical_distances": [tuple]}
_SEEN = {"prints": [np.ndarray], "seen_scores": [np.ndarray], "unseen_scores": [np.ndarray]}
_OWN_ITEMS = {"ascending": [np.ndarray], "order": [np.ndarray], "n_training": [_FROM_0]}
_NETWORK = {
    "sample_shape": [tuple],
    "backbone": [StrOptions({"fc", "conv2d", "conv3d"})],
    "widths": [tuple],
    "memory_size": [_FROM_0],
    "memory_unit": [StrOptions({"sample", "location"})],
    "memory_heads": [_FROM_1],
    "similarity": [StrOptions({"cosine", "dot", "distance"})],
    "temperature": [_POSITIVE],
    "shrink_threshold": [Interval(RealNotInt, 0, None, closed="left")],
}
_MEMBERS = {"members": [_FROM_1]}  # where items are rows
# The attributes of a fitted detector that every file has. Others may be there: they are of newer versions.
_ATTRIBUTES = {
    "n_features_in_": [_FROM_1],
    "resolved_params_": [dict],
    "backbone_": [StrOptions({"fc", "conv2d", "conv3d"})],
    "sample_shape_": [tuple],
    "memory_usage_": [np.ndarray],
    "memory_rows_": [np.ndarray, None],
    "zero_row_fraction_": [float],
    "loss_curve_": [list],
    "validation_curve_": [list],
    "n_iter_": [_FROM_0],
    "decision_scores_": [np.ndarray],
    "calibration_scores_": [np.ndarray],
    "labels_": [np.ndarray],
    "threshold_": [float],
    "_noise": [float],
    "_classes": [_FROM_1],
    "_mu": [float],
    "_sigma": [float],
    "_outlier_share": [float],
    "_n_seen": [_COUNT],
    "_capacity": [_COUNT],
}
# Attributes that are newer than the first file, with what they are for a detector whose file lacks them.
ADDED: dict[str, Any] = {}


def checked_detector(cls, parameters: dict[str, Any]):
    """A detector with parameters, those that a file lacks at their defaults, if ``fit`` would accept them.

    Raises
    ------
    ValueError
    """
    _check_keys("the parameters", parameters, (), cls._get_param_names())
    detector = cls(**parameters)
    detector._validate_params()
    check_numbers(detector.get_params(deep=False))
    for name in ("widths", "sample_shape"):
        value = parameters.get(name)
        if value is not None and not (len(value) <= _MOST_LAYERS and are_positive_ints(value)):
            raise ValueError(f"The {name!r} parameter must be None or a few positive int. Got {value!r} instead.")
    return detector


def check_attributes(attributes: dict[str, Any], detector, model: dict[str, Any]) -> None:
    """Check fitted attributes against the parameters of an unfitted detector and a model that is checked already.

    Raises
    ------
    ValueError
    """
    _check_keys("the attributes", attributes, _ATTRIBUTES)
    validate_parameter_constraints(_ATTRIBUTES, attributes, "the attributes")
    for name in attributes.keys() - _ATTRIBUTES:
        taken = name == "_model" or name in attributes["resolved_params_"] or hasattr(type(detector), name)
        if taken or not re.fullmatch(r"_[a-z][a-z0-9_]*|[a-z][a-z0-9_]*_", name):
            raise ValueError(f"{name!r} is not the name of a fitted attribute.")
    checked_detector(type(detector), attributes["resolved_params_"])
    layout, spec = model["layout"], model["network_spec"]
    n_members, n_samples = spec.get("members", model["n_networks"]), len(_vector(attributes, "decision_scores_", np.float64))
    n_items = n_members * spec["memory_size"]
    expected = {
        "n_features_in_": layout["array_shape"][0],
        "backbone_": spec["backbone"],
        "sample_shape_": spec["sample_shape"],
    }
    for name, value in expected.items():
        if attributes[name] != value:
            raise ValueError(f"The attribute {name!r} must be {value!r}. Got {attributes[name]!r} instead.")
    if n_samples == 0:
        raise ValueError("'decision_scores_' is empty.")
    _vector(attributes, "labels_", np.int64, n_samples)
    _vector(attributes, "calibration_scores_", np.float64)
    _vector(attributes, "memory_usage_", np.float64, n_items)
    if model["own_items"] is not None:
        _vector(attributes, "memory_rows_", np.int64, n_items)
    elif attributes["memory_rows_"] is not None:
        raise ValueError("there are rows of memory items, but no memory of rows.")
    for name in ("loss_curve_", "validation_curve_"):
        if not all(isinstance(value, float) for value in attributes[name]):
            raise ValueError(f"{name!r} must be a list of numbers.")
    names = attributes.get("feature_names_in_")
    if names is not None:
        _check_array("feature_names_in_", names, object, (attributes["n_features_in_"],))


def check_model(model: dict[str, Any]) -> None:
    """Check the state of a :class:`FittedModel`, as far as its arrays do not fit or not into the network.

    Raises
    ------
    ValueError
    """
    _check("the model", model, _MODEL, optional=_NEWER_MODEL)
    if not re.fullmatch(r"[a-z]+(:\d{1,3})?", model["device"]):
        raise ValueError(f"{model['device']!r} is not the name of a device.")
    layout = _checked_layout(model["layout"])
    _check_scaling(model["scaling"], layout)
    spec = model["network_spec"]
    _check("the network", spec, _NETWORK, optional=_MEMBERS)
    _check_network(spec, model, layout)
    n_members = spec.get("members", model["n_networks"])
    _check_score(model["score"], layout, n_members)
    if model["own_items"] is not None:
        if "members" not in spec or not spec["memory_size"]:
            raise ValueError("there are own items, but no memory of rows.")
        _check_own_items(model["own_items"], (n_members, spec["memory_size"]))
    if model.get("seen") is not None:
        _check_seen(model["seen"])
    exemplars = model.get("exemplars")
    kind = model["score"].get("exemplars")
    if (exemplars is None) != (kind is None):
        raise ValueError("a score by exemplars needs them, and no other does.")
    if exemplars is not None:
        _check_exemplars(kind, exemplars, layout)


def _checked_layout(values) -> Layout:
    _check("the layout", values, _LAYOUT)
    for name in ("array_shape", "given_shape", "sample_shape"):
        shape = values[name]
        if not 0 < len(shape) <= _MOST_AXES or not are_positive_ints(shape) or math.prod(shape) > _MOST_NUMBERS:
            raise ValueError(f"{shape} is not the shape of a sample.")
    layout = Layout(**values)
    axis = None if layout.channel_axis is None else layout.channel_axis + 1
    if choose_layout(layout.array_shape, layout.family, layout.given_shape, axis) != layout:
        raise ValueError(f"{layout} does not fit together.")
    return layout


def _check_scaling(values, layout):
    _check("the scaling", values, _SCALING)
    for name in ("center", "scale", "log_unit"):
        array = values[name]
        if array is not None:
            shape = zip(array.shape, layout.sample_shape, strict=False)
            _check_array(name, array, np.float64, [1 if size == 1 else expected for size, expected in shape])
            if array.ndim != len(layout.sample_shape):
                raise ValueError(f"the array {name!r} has {array.ndim} axes, but samples have {len(layout.sample_shape)}.")
    if values["mean_sample"] is not None:
        _check_array("mean_sample", values["mean_sample"], np.float64, layout.sample_shape)


def _check_network(spec, model, layout):
    arrays, members = model["parameters"], spec.get("members")
    if spec["backbone"] != layout.family or spec["sample_shape"] != layout.sample_shape:
        raise ValueError(f"a network of {spec['backbone']} for samples of {spec['sample_shape']} does not fit {layout}.")
    if members is not None and (layout.family != "fc" or model["n_networks"] != 1):
        raise ValueError("members side by side are one network, of vectors.")
    if max(len(spec["widths"]), model["n_networks"]) > len(arrays):
        raise ValueError(f"a network has {len(arrays)} arrays, which are too few for its layers and networks.")
    least = 2 if layout.family != "fc" and spec["memory_unit"] == "sample" else 1
    if len(spec["widths"]) < least or not are_positive_ints(spec["widths"]):
        raise ValueError(f"The 'widths' of a network must be {least} or more positive int. Got {spec['widths']!r} instead.")
    # That the others have the shapes of the network's parameters is checked when they become its parameters.
    numbers = {str(i) for i in range(model["n_networks"])}
    for name, array in arrays.items():
        if name.partition(".")[0] not in numbers:
            raise ValueError(f"{name!r} is a parameter of no network.")
        counter = name.endswith("num_batches_tracked")
        _check_array(name, array, np.int64 if counter else np.float32, () if counter else None)
    if spec["memory_size"]:
        width = spec["widths"][-1] + (0 if members is None else math.prod(layout.sample_shape))
        shape = (spec["memory_size"], width) if members is None else (members, spec["memory_size"], width)
        for number in numbers:
            name = f"{number}.memory.items"
            _check_array(name, arrays.get(name), np.float32, shape)


def _check_score(values, layout, n_members):
    _check("the score", values, _SCORE, optional=_NEWER_SCORE)
    if values["kind"] in ("smooth", "local") and layout.family == "fc":
        raise ValueError(f"the score {values['kind']!r} is for images and clips, not for vectors.")
    _check_distances(values["typical_distances"], n_members)
    draws = values["draws"]
    if draws is not None:
        _check("the draws", draws, _DRAWS)
        _check_distances(draws["typical_distances"], 2)
        _check_array("rows", draws["rows"], np.float32, (*draws["rows"].shape[:2], *layout.sample_shape))
        _check_array("median", draws["median"], np.float32, layout.sample_shape)
        if draws["rows"].size == 0:
            raise ValueError("the draws have no rows.")


def _check_distances(values, count):
    if len(values) != count or not all(_POSITIVE.is_satisfied_by(value) for value in values):
        raise ValueError(f"The 'typical_distances' must be {count} positive numbers. Got {values!r} instead.")


def _check_own_items(values, shape):
    _check("the own items", values, _OWN_ITEMS)
    _check_array("ascending", values["ascending"], np.int64, shape)
    _check_array("order", values["order"], np.int64, shape)
    if values["order"].min() < 0 or max(values["order"].max() + 1, values["n_training"]) > shape[1]:
        raise ValueError("the own items have numbers that are not of memory items.")


def _check_seen(values):
    _check("the samples seen", values, _SEEN)
    _check_array("prints", values["prints"], np.float64, (len(values["prints"]), PRINT_SIZE))
    count = values["seen_scores"].size
    for name in ("seen_scores", "unseen_scores"):
        _check_array(name, values[name], np.float64, (count,))
        if not (count and values[name][0] > 0 and (np.diff(values[name]) >= 0).all() and np.isfinite(values[name]).all()):
            raise ValueError(f"{name!r} must be positive numbers in ascending order.")
    if len(values["prints"]) == 0 or not (np.diff(values["prints"][:, 0]) >= 0).all():
        raise ValueError("the samples seen must be in the order of their prints.")


def _check_exemplars(kind, arrays, layout):
    few = kind == "paces" and (layout.family != "conv3d" or layout.sample_shape[1] < FEWEST_FRAMES)
    if few or layout.family == "fc":
        raise ValueError(f"exemplars of {kind} do not fit {layout.family}.")
    items = arrays.get("items")
    if not isinstance(items, np.ndarray) or items.ndim != 3 or items.size == 0:
        raise ValueError("the exemplars have no items.")
    with torch.device("meta"):
        expected = KINDS[kind](layout.sample_shape, items.shape[1]).state_dict()
    _check_keys("the exemplars", arrays, expected, expected)
    for name, tensor in expected.items():
        counter = name.endswith("num_batches_tracked")
        _check_array(name, arrays[name], np.int64 if counter else np.float32, tensor.shape)


def _check(where: str, values: dict[str, Any], needed: dict[str, list], optional: dict[str, list] | None = None) -> None:
    """Check keys, and values by the constraints of scikit-learn."""
    constraints = needed | (optional or {})
    _check_keys(where, values, needed, constraints)
    validate_parameter_constraints(constraints, values, where)
    check_numbers(values, accepts_bool=())


def _check_keys(where: str, values, needed: Iterable[str], known: Iterable[str] | None = None) -> None:
    if not isinstance(values, dict):
        raise ValueError(f"{where} must have names. Got {type(values).__name__} instead.")
    lacking = [name for name in needed if name not in values]
    unknown = [] if known is None else sorted(values.keys() - set(known))
    if lacking or unknown:
        raise ValueError(f"of {where} these are missing: {lacking}, and these are unknown: {unknown}.")


def _vector(attributes, name, dtype, size=None) -> np.ndarray:
    array = attributes[name]
    _check_array(name, array, dtype, (array.size if size is None else size,))
    return array


def _check_array(name: str, array, dtype, shape) -> None:
    """Check dtype and shape, where ``shape`` is not None."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype or (shape is not None and array.shape != tuple(shape)):
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        wanted = "" if shape is None else f" {tuple(shape)}"
        raise ValueError(f"the array {name!r} must be {np.dtype(dtype)}{wanted}. Got {got} instead.")

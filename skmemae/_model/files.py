"""The file of a fitted detector: arrays in the format of safetensors, and all else as one JSON text in their metadata."""

import contextlib
import hashlib
import json
import math
import os
import re
import textwrap
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from skmemae._model.fitted import FittedModel
from skmemae._runtime import isolated, name_of, read_all, resolve_device

FORMAT = 1  # of the file and of pickles; raised when older versions cannot read what is written
_KEYS = {"skmemae", "sha256"}  # of the metadata: the JSON text, and the checksum of text and arrays
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
_NAMES = ("BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F16", "F32", "F64")  # safetensors' names of these
_CODES = dict(zip(_NAMES, _DTYPES, strict=True))
_MOST_MEMBERS, _MOST_LAYERS, _MOST_NUMBERS = 10_000, 1000, 2**40  # of a network, and numbers of a sample


class Saved(NamedTuple):
    """Content of a file: numbers, strings, None, arrays, and tuples, lists and dicts of them."""

    parameters: dict[str, Any]
    attributes: dict[str, Any]  # fitted ones, without the model
    model: dict[str, Any]  # of :func:`state_of`


def state_of(model: FittedModel) -> dict[str, Any]:
    """The config, device and arrays of a model: plain values, except for a callable backbone, and copies as NumPy arrays."""
    arrays = {name: value.numpy(force=True).copy() for name, value in model.state_dict().items()}
    return {"format": FORMAT, "config": model.config, "device": str(model.device), "arrays": arrays}


@isolated
def model_of(state: dict[str, Any]) -> FittedModel:
    """The model of a state; on the CPU if its device is absent. Runs no network, so that no thread of torch starts.

    Raises
    ------
    ValueError, RuntimeError
        If the state has another format, or its arrays do not fit its config.
    """
    if state.get("format") != FORMAT:
        raise ValueError(
            f"This detector was saved in format {state.get('format')}; this version of skmemae reads format {FORMAT}. "
            "Load it with the version that saved it, or fit it again."
        )
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in state["arrays"].items()}
    model = FittedModel.from_state(state["config"], tensors)
    try:
        device = str(resolve_device(state["device"]))
    except ValueError:
        device = "cpu"
    if device != "cpu":
        model.move(device)
    return model


def check_sizes(state: dict[str, Any]) -> None:
    """Raise if a small untrusted file asks for a large network, which would take memory before the arrays are compared.

    Raises
    ------
    ValueError
    """
    network, layout, n_arrays = state["config"]["network"], state["config"]["layout"], len(state["arrays"])
    if callable(network["backbone"]) or not isinstance(network["side_by_side"], bool):
        raise ValueError("its network is of an unknown kind.")
    n_networks = 1 if network["side_by_side"] else network["members"]
    if not 0 < network["members"] <= _MOST_MEMBERS or max(n_networks, len(network["widths"])) > min(n_arrays, _MOST_LAYERS):
        raise ValueError(f"its {n_arrays} arrays are too few for its networks and layers.")
    for name in ("array_shape", "given_shape", "sample_shape"):
        if not 0 < math.prod(layout[name]) <= _MOST_NUMBERS:
            raise ValueError(f"{layout[name]} is not the shape of a sample.")


def content_of(saved: Saved, version: str) -> bytes:
    """The content of a file.

    Raises
    ------
    ValueError
        If a value cannot be kept in a file.
    """
    arrays: dict[str, np.ndarray] = {}
    content = {name: _encode(value, name, arrays) for name, value in saved._asdict().items()}
    text = json.dumps({"format": FORMAT, "version": version, **content})
    return save(arrays, {"skmemae": text, "sha256": _checksum(text, arrays)})


def read(file: str | os.PathLike | BinaryIO) -> bytes:
    """The content of a file or a binary file object.

    Raises
    ------
    TypeError, ValueError
        If it is neither a file nor a binary file object that can be read.
    OSError
        If it cannot be read.
    """
    if isinstance(file, str | bytes | os.PathLike) and os.path.exists(file) and not os.path.isfile(file):
        raise ValueError(f"{name_of(file)} cannot be loaded as a detector: it is a folder or a device, not a file.")
    return read_all(file)


def saved_in(content: bytes) -> Saved:
    """What a file with the right checksum holds; it may come from an untrusted source.

    Raises
    ------
    ValueError, SafetensorError
        If it is no content of :func:`content_of`, is damaged, or of a newer format.
    """
    tensors = deserialize(content)  # raises unless the header is in order
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__") or {}
    if metadata.keys() != _KEYS:
        raise ValueError("it is a safetensors file of something else than a MemAEDetector.")
    codes = {tensor["dtype"] for _, tensor in tensors}
    if codes - _CODES.keys():
        raise ValueError(f"its arrays have dtypes {sorted(codes - _CODES.keys())}, which detectors do not have.")
    arrays = {name: np.ndarray(tensor["shape"], _CODES[tensor["dtype"]], tensor["data"]) for name, tensor in tensors}
    if _checksum(metadata["skmemae"], arrays) != metadata["sha256"]:
        raise ValueError("it is damaged: its checksum differs. Copy it again from where it came.")
    parsed = _parse(metadata["skmemae"])
    saved = Saved(*(_decode(parsed[name], arrays) for name in Saved._fields))
    if arrays:
        raise ValueError(f"its JSON text does not name the arrays {sorted(arrays)}.")
    return saved


@contextlib.contextmanager
def errors_that_name(file: str | os.PathLike | BinaryIO) -> Iterator[None]:
    """Raise ValueError with the name of the file if making a detector from its content fails.

    Raises
    ------
    ValueError
    """
    name = name_of(file)
    try:
        yield
    except Exception as error:  # an untrusted file may be wrong in any way
        is_foreign = isinstance(error, SafetensorError | json.JSONDecodeError | RecursionError)
        kind = "it is not a file of safetensors and JSON, or damaged. " if is_foreign else ""
        kind += "it lacks " if isinstance(error, KeyError) else ""
        reason = textwrap.shorten(kind + str(error)[:2000], 500, placeholder=" ...")  # hostile files have values of any length
        raise ValueError(f"{name} cannot be loaded as a detector: {reason}") from error


def _parse(text: str) -> dict[str, Any]:
    content = json.loads(text, parse_constant=_refuse_constant)
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError("its JSON text has no format number.")
    if content["format"] != FORMAT:
        raise ValueError(
            f"it has format {content['format']}, written by skmemae {content.get('version')}; this version reads format "
            f"{FORMAT}. Load it with the version that wrote it, or a newer one."
        )
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"its JSON text has the number {name}.")


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    """A digest of a text and of arrays, by their names."""
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        array = np.ascontiguousarray(array)
        digest.update(f"\0{name}\0{array.dtype.name}{array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _encode(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """A value for JSON; its arrays are added to ``arrays`` under their places, such as "attributes.labels_".

    Values that JSON does not have become objects with one key that begins with "$".

    Raises
    ------
    ValueError
        If the value is of a type that a file does not keep.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    if isinstance(value, list | tuple):
        items = [_encode(item, f"{name}.{i}", arrays) for i, item in enumerate(value)]
        return {"$tuple": items} if isinstance(value, tuple) else items
    if isinstance(value, dict) and all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{name}.{key}", arrays) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.name in _DTYPES:
        arrays[name] = np.array(value, dtype=value.dtype.newbyteorder("="), order="C")
        return {"$array": name}
    if isinstance(value, np.ndarray) and value.ndim == 1 and all(isinstance(item, str) for item in value):
        return {"$strings": [str(item) for item in value]}
    raise ValueError(f"{name} is a {type(value).__name__}, which a file of a detector does not keep.")


def _decode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The value that :func:`_encode` was given; "$strings" become arrays of object. Each array is removed from ``arrays``.

    Raises
    ------
    ValueError
        If the value is not a result of :func:`_encode`.
    """
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$tuple": list(items)}:
            return tuple(_decode(item, arrays) for item in items)
        case {"$float": "inf" | "-inf" | "nan" as number}:
            return float(number)
        case {"$strings": list(items)} if all(isinstance(item, str) for item in items):
            return np.array([*items, None], dtype=object)[:-1]
        case {"$array": str(name)} if name in arrays:
            return arrays.pop(name)
    if any(key.startswith("$") for key in value):
        raise ValueError(f"its JSON text has an unknown object with the keys {sorted(value)}, or names an array that it lacks.")
    return {key: _decode(item, arrays) for key, item in value.items()}


# Parameters that may be objects: the values that a file can keep, and advice about others.
_ACCEPTED = {
    "backbone": (
        "the name of a backbone",
        "Keep such a detector by joblib or pickle, or fit it with the name of a backbone.",
    ),
    "contamination": (
        "a float or 'auto'",
        "Replace it by set_params(contamination=0.1) before: the threshold that it has set stays.",
    ),
    "random_state": (
        "an int or None",
        "Replace it by set_params(random_state=None) before: it has no effect until the next fit.",
    ),
}


def check_parameters(parameters: dict[str, Any]) -> None:
    """Raise if a parameter is an object that a file cannot keep.

    Raises
    ------
    ValueError
    """
    for name, value in parameters.items():
        try:
            _encode(value, f"parameters.{name}", {})
        except ValueError as error:
            accepted, instead = _ACCEPTED.get(name, ("a number, a text, None or a tuple of these", "Replace it before."))
            message = f"The {name!r} parameter must be {accepted} to save a detector. Got {value!r} instead. {instead}"
            raise ValueError(message) from error


def check_names(attributes: dict[str, Any], detector: Any) -> None:
    """Raise if attributes of a file have no name of a fitted attribute, or would hide parameters or methods of a detector.

    Raises
    ------
    ValueError
    """
    for name in attributes:
        hides = hasattr(type(detector), name) or name in vars(detector)
        if hides or not re.fullmatch(r"_[a-z][a-z0-9_]*|[a-z][a-z0-9_]*_", name):
            raise ValueError(f"{name!r} is not the name of a fitted attribute.")

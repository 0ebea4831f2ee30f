"""The file of a fitted detector: its arrays as safetensors, and all else as one JSON text in their metadata."""

import contextlib
import errno
import hashlib
import json
import os
import textwrap
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from skmemae._version import __version__
from skmemae._writing import replacing

FORMAT = 1  # of the file; raised when what is written can no longer be read by the version before
_KEYS = {"skmemae", "sha256"}  # of the metadata: the JSON text, and the checksum of text and arrays
_DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
_CODES = {"BOOL", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64", "F16", "F32", "F64"}  # safetensors' names of these
_UNREADABLE = (SafetensorError, json.JSONDecodeError, RecursionError)

# Parameters that may be objects: what a file can keep of them, and what to do about others.
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


class Saved(NamedTuple):
    """What a file holds of a detector: numbers, texts, None, arrays, and tuples, lists and dicts of them."""

    parameters: dict[str, Any]
    attributes: dict[str, Any]  # fitted ones, without the model
    model: dict[str, Any]  # the state of a FittedModel


def write(path, saved: Saved) -> None:
    """Write a file, or leave what is at the path as it is.

    Parameters
    ----------
    path : str or PathLike
        An existing file is replaced.
    saved : Saved

    Raises
    ------
    ValueError
        If there is something that a file cannot keep.
    OSError
        If the file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {}
    parts = {"parameters": {name: _encode_parameter(name, value, arrays) for name, value in saved.parameters.items()}}
    if callable(saved.model["network_spec"]["backbone"]):  # and the parameter was set to another after the fit
        _encode_parameter("backbone", saved.model["network_spec"]["backbone"], arrays)
    attributes = {**saved.attributes, "resolved_params_": _without_objects(saved)}
    parts["attributes"] = _encode(attributes, "attributes", arrays)
    parts["model"] = _encode(saved.model, "model", arrays)
    text = json.dumps({"format": FORMAT, "version": __version__, **parts})
    content = save(arrays, {"skmemae": text, "sha256": _checksum(text, arrays)})
    with replacing(path) as file:
        file.write(content)


def read(path) -> Saved:
    """What a file holds, which is damaged nowhere but may have been made by anyone.

    Parameters
    ----------
    path : str or PathLike

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, RuntimeError, SafetensorError
        If it is no file of :func:`write`, is damaged, or of a newer format.
    """
    path = os.fsdecode(path)
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    if not os.path.isfile(path):
        raise ValueError("it is a folder or a device, not a file.")
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        if metadata.keys() != _KEYS:
            raise ValueError("it is a safetensors file of something else than a MemAEDetector.")
        content = _parse(metadata["skmemae"])
        for name in file.keys():  # noqa: SIM118 - not a dict
            if file.get_slice(name).get_dtype() not in _CODES:
                raise ValueError(f"the array {name!r} has the dtype {file.get_slice(name).get_dtype()}, which none has.")
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if _checksum(metadata["skmemae"], arrays) != metadata["sha256"]:
        raise ValueError("it is damaged: its checksum differs. Copy it again from where it came.")
    saved = Saved(**{name: _decode(content[name], arrays) for name in Saved._fields})
    if arrays:
        raise ValueError(f"it has surplus arrays: {sorted(arrays)}.")
    return saved


@contextlib.contextmanager
def errors_that_name(path):
    """Raise ValueError with the name of the file where reading it, or making a detector of what it holds, fails.

    Raises
    ------
    ValueError
    """
    name = os.fsdecode(path)
    try:
        yield
    except (ValueError, TypeError, RuntimeError, OverflowError, SafetensorError) as error:
        kind = "it is not a file of safetensors and JSON, or damaged. " if isinstance(error, _UNREADABLE) else ""
        reason = textwrap.shorten(kind + str(error)[:2000], 500, placeholder=" ...")  # hostile files have values of any length
        raise ValueError(f"{name} cannot be loaded as a detector: {reason}") from error


def _parse(text: str) -> dict[str, Any]:
    content = json.loads(text)
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise ValueError("its JSON text has no format number.")
    if content["format"] != FORMAT:
        raise ValueError(
            f"it has format {content['format']}, written by skmemae {content.get('version')}; skmemae {__version__} reads "
            f"format {FORMAT}. Load it with the version that wrote it, or a newer one."
        )
    if content.keys() != {"format", "version", *Saved._fields}:
        raise ValueError(f"its JSON text has the keys {sorted(content)}.")
    return content


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name!r} {array.dtype.name} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _encode(value, name: str, arrays: dict[str, np.ndarray]):
    """A value as JSON has it; its arrays are added to ``arrays``, by where they are: "attributes.labels_".

    What JSON has no form for is an object with one key that begins with "$".

    Raises
    ------
    ValueError
        If it is of a type that a file does not keep.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
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


def _decode(value, arrays: dict[str, np.ndarray]):
    """The value that :func:`_encode` was given; its arrays are taken out of ``arrays``, and strings are arrays of object.

    Raises
    ------
    ValueError
        If it is nothing that :func:`_encode` gives.
    """
    if isinstance(value, list):
        return [_decode(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if not any(key.startswith("$") for key in value):
        return {key: _decode(item, arrays) for key, item in value.items()}
    match value:
        case {"$tuple": list(items)} if len(value) == 1:
            return tuple(_decode(item, arrays) for item in items)
        case {"$strings": list(items)} if len(value) == 1 and all(isinstance(item, str) for item in items):
            return np.array([*items, None], dtype=object)[:-1]
        case {"$array": str(name)} if len(value) == 1 and name in arrays:
            return arrays.pop(name)
    raise ValueError(f"its JSON text has an unknown object with the keys {sorted(value)}, or an array that is not there.")


def _encode_parameter(name: str, value, arrays: dict[str, np.ndarray]):
    try:
        return _encode(value, f"parameters.{name}", arrays)
    except ValueError as error:
        accepted, instead = _ACCEPTED.get(name, ("a number, a text, None or a tuple of these", "Replace it before."))
        message = f"The {name!r} parameter must be {accepted} to save a detector. Got {value!r} instead. {instead}"
        raise ValueError(message) from error


def _without_objects(saved: Saved) -> dict[str, Any]:
    """``resolved_params_``, with what the parameters are now in the place of objects, which have done their work in ``fit``."""
    resolved = saved.attributes["resolved_params_"]
    objects = {name for name in ("contamination", "random_state") if not isinstance(resolved[name], float | int | str | None)}
    return {name: saved.parameters[name] if name in objects else value for name, value in resolved.items()}

"""A file from which a fit that was killed goes on."""

import contextlib
import hashlib
import os
import pickle
import time
from typing import Any

import numpy as np
import torch

from skmemae._train.distributed import plain_parameters
from skmemae._version import __version__
from skmemae._writing import replacing

_SECONDS = 2.0  # between two writes, at least
_WAY_OUT = "Remove it, or give another path."
_FREE = ("verbose", "convention", "contamination")  # parameters on which what a file keeps does not depend
_DIGESTED = 1000  # rows by which data is known again


class Checkpoint:
    """What a fit has done so far, stage by stage: each network is a stage, and the exemplars are one.

    Parameters
    ----------
    path : str or PathLike or None
        None keeps nothing.
    identity : str
        What the fit depends on: its data, parameters and versions.
    seed : int
        Of the fit; that of the file counts where there is one.

    Raises
    ------
    ValueError
        If the file is no checkpoint, or one of another fit.
    OSError
        If the file cannot be written.
    """

    def __init__(self, path, identity: str = "", seed: int = 0):
        self.path = None if path is None else os.path.abspath(os.fsdecode(path))
        self.content: dict[str, Any] = {"identity": identity, "seed": seed, "stages": {}}
        self.written = time.monotonic()
        if self.path is None:
            return
        if os.path.exists(self.path):
            self.content = _read(self.path, identity)
        else:
            self._write()  # an error comes before training

    @property
    def seed(self) -> int:
        """Of the fit."""
        return self.content["seed"]

    def begin(self, stage: str, parts: dict[str, Any], run: dict[str, Any]) -> None:
        """Put what changes during a stage into the state in which the file has it, if it does.

        Parameters
        ----------
        stage : str
        parts : dict of str to object
            With ``state_dict`` and ``load_state_dict``, or ``get_state`` and ``set_state``.
        run : dict of str to object
            Numbers and lists of them.
        """
        stored = self.content["stages"].get(stage)
        if stored is None:
            return
        if stored["modules"] != _modules(parts):  # of a function as backbone the name alone is in the identity
            raise ValueError(f"{self.path} is the checkpoint of another fit: its networks are others. {_WAY_OUT}")
        for name, part in parts.items():
            load = part.load_state_dict if hasattr(part, "load_state_dict") else part.set_state
            load(stored[name])
        run.update(stored["run"])

    def keep(self, stage: str, parts: dict[str, Any], run: dict[str, Any], is_last: bool = False) -> None:
        """Write the state of a stage to the file, unless that was done a moment ago and the stage goes on."""
        if self.path is None or not (is_last or time.monotonic() - self.written >= _SECONDS):
            return
        states = {n: p.state_dict() if hasattr(p, "state_dict") else p.get_state() for n, p in parts.items()}
        self.content["stages"][stage] = {**states, "run": run, "modules": _modules(parts)}
        self._write()
        self.written = time.monotonic()

    def remove(self) -> None:
        """Remove the file of a fit that is complete."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.path)

    def _write(self):
        with replacing(self.path) as file:
            torch.save(self.content, file)


NO_CHECKPOINT = Checkpoint(None)


def identity_of(X, parameters: dict[str, Any]) -> str:
    """What a fit depends on, as text: versions, parameters, and a digest of the shape and of rows spread over X."""
    rows = np.unique(np.linspace(0, len(X) - 1, _DIGESTED).astype(int))
    digest = hashlib.sha256()
    for row in rows:
        digest.update(np.ascontiguousarray(X[int(row) : int(row) + 1]).tobytes())
    kept = plain_parameters({name: value for name, value in parameters.items() if name not in _FREE})
    return f"skmemae {__version__}, torch {torch.__version__}, X {X.shape} {X.dtype} {digest.hexdigest()[:16]}, {kept}"


def _modules(parts: dict[str, Any]) -> str:
    return str([part for part in parts.values() if isinstance(part, torch.nn.Module)])


def _read(path: str, identity: str) -> dict[str, Any]:
    """The content of a checkpoint of this fit."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        theirs = content["identity"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is no checkpoint of a fit, or is damaged. {_WAY_OUT}") from error
    if theirs != identity:
        raise ValueError(f"{path} is the checkpoint of another fit: of {theirs}, where this one is of {identity}. {_WAY_OUT}")
    return content

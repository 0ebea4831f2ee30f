"""Cells of a protocol's table, one fit each; finished cells are kept in a file of JSON lines and not run again."""

import argparse
import inspect
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.metrics import average_precision_score, roc_auc_score
from tqdm.auto import tqdm

PACKAGES = ("skmemae", "torch", "scikit-learn", "pyod", "numpy", "scipy")


class Cell(NamedTuple):
    """One fit of a detector on a split."""

    data: str  # name of the data set, a line of the table
    task: str  # subset of the data, such as the normal class
    seed: int
    detector: str  # name of the detector, a column of the table
    make: Callable[[], Any]  # returns an unfitted detector
    split: Callable[[], Any]  # returns a Bunch of X_train, X_test, y_test; one object for all cells that share the split


def add_arguments(parser, seeds):
    """Add the options that all protocols share."""
    add_seeds_and_out(parser, seeds)
    parser.add_argument("--data-home", metavar="DIR", help="folder of the data; missing data is downloaded where possible")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only these data sets")
    parser.add_argument("--detectors", nargs="+", metavar="NAME", help="only these detectors")


def add_seeds_and_out(parser, seeds):
    """Add the options that all benchmarks share."""
    text = f"repetitions of every cell (default: {seeds})"
    parser.add_argument("--seeds", type=_at_least_one, default=seeds, metavar="K", help=text)
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="folder for results (default: %(default)s)")


def _at_least_one(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an int of at least 1, got {text!r}")
    return int(text)


def selected(option, names, known):
    """The known names, or of these the given ones; SystemExit if one is unknown.

    Parameters
    ----------
    option : str
        Option of the command line that gave the names.
    names : list of str or None
    known : iterable of str
    """
    known = list(known)
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise SystemExit(f"{option} knows {', '.join(known)}. Got {', '.join(unknown)}.")
    return known if names is None else [name for name in known if name in names]


def run(cells, path, measure=None, desc=None):
    """Run the cells without a row in the file, and append a row for each.

    Parameters
    ----------
    cells : list of Cell
    path : path-like
        File of JSON lines. A run can be interrupted at any time; the next call resumes it. A cell is run again if the
        parameters of its detector have changed. The newest row of a cell counts.
    measure : callable, default=None
        ``measure(detector, split)`` returns a dict of numbers; None for the numbers of :func:`evaluate`.
    desc : str, default=None
        Title of the progress bar.

    Returns
    -------
    rows : list of dict
        One per cell, in the order of the cells.

    Raises
    ------
    SystemExit
        If there are no cells.
    """
    if not cells:
        raise SystemExit("Nothing to run: none of the data sets is in data_home or could be downloaded.")
    measure = measure or (lambda detector, split: evaluate(detector, split)[0])
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {row_key(row): row for row in read(path)}
    keyed = [(cell, (cell.data, cell.task, cell.seed, cell.detector, describe(cell.make()))) for cell in cells]
    todo = [(cell, key) for cell, key in keyed if key not in rows]
    versions = {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}
    split = make_split = None  # those of the last cell
    with tqdm(total=len(keyed), initial=len(keyed) - len(todo), desc=desc, unit="fit") as bar, open(path, "a") as file:
        for cell, key in todo:
            bar.set_postfix_str(", ".join(filter(None, (cell.data, cell.task, f"seed {cell.seed}", cell.detector))))
            if cell.split is not make_split:
                split, make_split = cell.split(), cell.split
            identity = dict(zip(("data", "task", "seed", "detector", "parameters"), key, strict=True))
            numbers = measure(cell.make(), split)
            rows[key] = {**identity, **numbers, "threads": torch.get_num_threads(), "versions": versions}
            file.write(json.dumps(rows[key]) + "\n")
            file.flush()
            bar.update()
    return [rows[key] for _, key in keyed]


def evaluate(detector, split):
    """Fit on the training samples and score the test samples; returns a dict of numbers and the scores.

    Of a detector with a threshold one of the numbers is the share of normal test samples that it flags.
    """
    scores, seconds = fit_and_score(detector, split)
    numbers = {**ranking(split.y_test, scores), **seconds}
    if hasattr(detector, "threshold_"):
        numbers["flagged_normal"] = float((scores[split.y_test == 0] > detector.threshold_).mean())
    return numbers, scores


def fit_and_score(detector, split):
    """Scores of the test samples, higher = more abnormal, and a dict of the seconds to fit and to score."""
    start = perf_counter()
    detector.fit(split.X_train)
    fitted = perf_counter()
    scores = detector.decision_function(split.X_test)
    return scores, {"fit_seconds": fitted - start, "score_seconds": perf_counter() - fitted}


def ranking(y, scores):
    """ROC AUC, average precision and precision at n for outliers (y = 1); all in [0, 1], higher = better."""
    # Precision at n is the share of outliers among the n highest scores, for n outliers.
    top = np.argsort(-scores, kind="stable")[: np.sum(y)]
    return {
        "roc_auc": float(roc_auc_score(y, scores)),
        "average_precision": float(average_precision_score(y, scores)),
        "precision_at_n": float(np.mean(y[top])),
    }


def read(path):
    """Newest row of each cell in a file of JSON lines; an empty list if there is no file."""
    path = Path(path)
    if not path.is_file():
        return []
    newest = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        newest[row_key(row)] = row
    return list(newest.values())


def row_key(row):
    """Key that identifies the cell of a row."""
    return tuple(row[name] for name in ("data", "task", "seed", "detector", "parameters"))


def describe(value) -> str:
    """Constructor call of an estimator: its class and the parameters that differ from the defaults."""
    if not isinstance(value, BaseEstimator) and not hasattr(value, "get_params"):
        return getattr(value, "__name__", None) or repr(value)
    defaults = {name: p.default for name, p in inspect.signature(type(value)).parameters.items()}
    texts = {name: describe(v) for name, v in value.get_params(deep=False).items()}
    changed = [f"{name}={text}" for name, text in texts.items() if text != describe(defaults.get(name))]
    return f"{type(value).__name__}({', '.join(changed)})"

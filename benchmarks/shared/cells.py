"""Cells of a protocol's table, one fit each; finished cells are kept in a CSV file and not run again."""

import csv
import inspect
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed
from sklearn.base import BaseEstimator
from tqdm.auto import tqdm

from skmemae.benchmark import store
from skmemae.benchmark.evaluation import evaluate

IDENTITY = ("data", "task", "seed", "detector")
Measure = Callable[[Any, Any], dict[str, float]]


class Cell(NamedTuple):
    """One fit of a detector on a split."""

    data: str  # name of the data set, a line of the table
    task: str  # subset of the data, such as the normal class
    seed: int
    detector: str  # name of the detector, a column of the table
    make: Callable[[], Any]  # returns an unfitted detector
    split: Callable[[], Any]  # returns a Bunch of X_train, X_test, y_test; one object for all cells that share the split


def selected(option: str, names: list[str] | None, known: Iterable[str]) -> list[str]:
    """The known names, or of these the given ones; SystemExit with the option's name if one is unknown."""
    known = list(known)
    unknown = sorted(set(names or ()) - set(known))
    if unknown:
        raise SystemExit(f"{option} knows {', '.join(known)}. Got {', '.join(unknown)}.")
    return known if names is None else [name for name in known if name in names]


def measure(detector: Any, split: Any) -> dict[str, float]:
    """Numbers of :func:`skmemae.benchmark.evaluation.evaluate`."""
    return evaluate(detector, split)[0]


def run(cells: list[Cell], folder: str | Path, name: str, measure: Measure = measure, jobs: int = 1) -> list[dict[str, Any]]:
    """Run the cells without a row in the file, and append a row for each.

    A run can be interrupted at any time; the next call resumes it.

    Parameters
    ----------
    cells : list of Cell
    folder : path-like
    name : str
        The file is ``NAME.csv``; versions and the detectors' parameters go to ``versions.json``.
    measure : callable
        ``measure(detector, split)`` returns a dict of numbers, with the same keys for all cells.
    jobs : int, default=1
        Fits at a time, each on one thread if there are several.

    Returns
    -------
    rows : list of dict
        One per cell, in the order of the cells.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {key(row): row for row in store.read(folder, name)}
    todo = [cell for cell in cells if cell[:4] not in rows]
    if todo:
        note(todo, folder, name)
    work = Parallel(n_jobs=jobs, return_as="generator")(delayed(_numbers)(cell, measure) for cell in todo)
    with (
        tqdm(total=len(cells), initial=len(cells) - len(todo), desc=name, unit="fit") as bar,
        open(folder / f"{name}.csv", "a", newline="") as file,
    ):
        for cell in todo:
            bar.set_postfix_str(", ".join(filter(None, (cell.data, cell.task, f"seed {cell.seed}", cell.detector))))
            row = {**dict(zip(IDENTITY, cell[:4], strict=True)), **next(work)}
            columns = list(next(iter(rows.values()), row))
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if not rows:
                writer.writeheader()
            writer.writerow(store.texts(row))
            file.flush()
            rows[key(row)] = row
            bar.update()
    return [rows[cell[:4]] for cell in cells]


@lru_cache(maxsize=1)
def _split(make: Callable[[], Any]) -> Any:
    """The split of the last cell."""
    return make()


def _numbers(cell: Cell, measure: Measure) -> dict[str, float]:
    return measure(cell.make(), _split(cell.split))


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Key that identifies the cell of a row."""
    return tuple(row[name] for name in IDENTITY)


def note(cells: list[Cell], folder: Path, name: str) -> None:
    """Write today's versions, and the parameters that each detector has in its first cell, beside those of earlier runs."""
    entry = store.read_versions(folder).get(name, {"made_with": [], "detectors": {}})
    today = {**store.environment(), "threads": torch.get_num_threads()}
    if today not in entry["made_with"]:
        entry["made_with"].append(today)
    for cell in cells:
        if cell.detector not in entry["detectors"]:
            entry["detectors"][cell.detector] = describe(cell.make())
    store.write_versions(folder, name, entry)


def describe(value: Any) -> str:
    """Constructor call of an estimator: its class and the parameters that differ from the defaults."""
    if not isinstance(value, BaseEstimator) and not hasattr(value, "get_params"):
        return getattr(value, "__name__", None) or repr(value)
    defaults = {name: p.default for name, p in inspect.signature(type(value)).parameters.items()}
    texts = {name: describe(v) for name, v in value.get_params(deep=False).items()}
    changed = [f"{name}={text}" for name, text in texts.items() if text != describe(defaults.get(name))]
    return f"{type(value).__name__}({', '.join(changed)})"

"""Files of results: ``NAME.csv`` with a row for each measurement, and ``versions.json`` for all files of a folder."""

import csv
import json
import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("skmemae", "torch", "scikit-learn", "pyod", "numpy", "scipy")
TEXTS = ("data", "task", "detector", "figure", "device", "what", "part", "unit", "goal")  # columns; the others are numbers


def save(rows: list[dict[str, Any]], folder: str | Path, name: str) -> None:
    """Write rows to ``NAME.csv``, and the versions of today to the entry of the file in ``versions.json``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{name}.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(texts, rows))
    write_versions(folder, name, {"made_with": [environment()]})


def read(folder: str | Path, name: str) -> list[dict[str, Any]]:
    """Rows of ``NAME.csv``; an empty number is NaN. The list is empty if there is no file."""
    path = Path(folder) / f"{name}.csv"
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [{key: text if key in TEXTS else _number(text) for key, text in row.items()} for row in rows]


def texts(row: dict[str, Any]) -> dict[str, Any]:
    """Row with rounded numbers: five digits of seconds, six of other floats; NaN and None are empty."""

    def text(key: str, value: Any) -> Any:
        if not isinstance(value, float):
            return value
        return "" if math.isnan(value) else format(value, ".5g" if key.endswith("seconds") else ".6g")

    return {key: text(key, value) for key, value in row.items()}


def _number(text: str) -> float:
    if not text:
        return float("nan")
    return int(text) if text.lstrip("-").isdigit() else float(text)


def environment() -> dict[str, str]:
    """Versions of Python and of the packages, and the kind of processor."""
    packages = {package: version(package) for package in PACKAGES}
    return {"python": platform.python_version(), "machine": platform.machine(), **packages}


def read_versions(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Entries of ``versions.json`` by the name of the file of results; empty if there is no such file."""
    path = Path(folder) / "versions.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write_versions(folder: str | Path, name: str, entry: dict[str, Any]) -> None:
    """Replace the entry of a file of results in ``versions.json``."""
    entries = dict(sorted({**read_versions(folder), name: entry}.items()))
    (Path(folder) / "versions.json").write_text(json.dumps(entries, indent=1) + "\n")

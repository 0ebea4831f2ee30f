"""Seconds to fit and score by the number of rows, compared with detectors of quadratic cost."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from figures import row, seconds
from skmemae import MemAEDetector
from skmemae.benchmark import report

COLUMNS = 20
PATIENCE = 120.0  # seconds; detectors of quadratic cost are not run where they would take longer


def growth(args: Namespace) -> list[dict[str, Any]]:
    """Rows for random tables of 10^3 to ``--rows`` rows; MemAE has one network of learned items and two epochs for all."""
    sizes = [n for n in np.geomspace(1e3, 1e7, 9).round().astype(int) if n <= args.rows]
    detectors = {
        "MemAE": MemAEDetector(memory_unit="sample", max_epochs=2, ensemble_size=1, random_state=0, device=args.device),
        "OC-SVM": OneClassSVM(),
        "KDE": KernelDensity(),
    }
    times: dict[str, dict[int, float]] = {name: {} for name in detectors}
    for name, detector in detectors.items():
        _score(detector.fit(_random_table(100)), _random_table(100))  # a warm-up: lazy imports are not measured
        for n in sizes:
            X = _random_table(n)
            times[name][int(n)] = seconds(lambda: _score(detector.fit(X), X))  # noqa: B023 - called at once
            if 10 * times[name][int(n)] > PATIENCE and name != "MemAE":
                break
    _draw(times, Path(args.out) / "growth.png")
    ours = times["MemAE"]
    large = {n: t for n, t in ours.items() if n >= 1e4} or ours
    exponent = np.polyfit(np.log(list(large)), np.log(list(large.values())), 1)[0]
    rows = [row("MemAE, 2 epochs: seconds grow with rows, from 10,000, to the power", exponent, "", "1")]
    for name, by_rows in times.items():
        rows += [row(f"{name}: fit and score {n:,} x {COLUMNS}", t, "s", "", seconds=t) for n, t in by_rows.items()]
    return rows


def _score(detector: Any, X: np.ndarray) -> np.ndarray:
    return detector.score_samples(X)


def _random_table(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, COLUMNS)).astype(np.float32)
    return rng.standard_normal((n, 5), dtype=np.float32) @ mixing + 0.1 * rng.standard_normal((n, COLUMNS), dtype=np.float32)


def _draw(times: dict[str, dict[int, float]], path: Path) -> None:
    plt = report.pyplot()
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, by_rows in times.items():
        axis.loglog(list(by_rows), list(by_rows.values()), "o-", label=name)
    sizes = np.array(list(times["MemAE"]))
    axis.loglog(sizes, times["MemAE"][sizes[-1]] * sizes / sizes[-1], ":", color="gray", label="linear")
    axis.set(xlabel="rows", ylabel="seconds to fit and score")
    axis.grid(alpha=0.3)
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)

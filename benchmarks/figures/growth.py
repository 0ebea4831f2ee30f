"""Seconds to fit and score by the number of rows, beside detectors whose cost grows faster."""

from pathlib import Path

import numpy as np
from sklearn.neighbors import KernelDensity
from sklearn.svm import OneClassSVM

from figures import row, seconds
from skmemae import MemAEDetector
from skmemae.benchmark import report

COLUMNS = 20
PATIENCE = 120.0  # seconds; a detector of quadratic cost is not asked for what would take longer


def growth(args):
    """Defaults but for one network and one epoch count for all sizes, on made tables of 10^3 rows to ``--rows``."""
    sizes = [n for n in np.geomspace(1e3, 1e7, 9).round().astype(int) if n <= args.rows]
    detectors = {
        "MemAE": MemAEDetector(max_epochs=2, ensemble_size=1, random_state=0, device=args.device),
        "OC-SVM": OneClassSVM(),
        "KDE": KernelDensity(),
    }
    found = {who: {} for who in detectors}
    for who, detector in detectors.items():
        _score(detector.fit(_made(100)), _made(100))  # what is loaded at first use is not what is measured
        for n in sizes:
            X = _made(n)
            found[who][int(n)] = seconds(lambda: _score(detector.fit(X), X))  # noqa: B023 - called at once
            if 10 * found[who][int(n)] > PATIENCE and who != "MemAE":
                break
    _draw(found, Path(args.out) / "growth.png")
    ours = found["MemAE"]
    large = {n: taken for n, taken in ours.items() if n >= 1e4} or ours
    exponent = np.polyfit(np.log(list(large)), np.log(list(large.values())), 1)[0]
    rows = [row("MemAE, 2 epochs: seconds grow with rows, from 10,000, to the power", exponent, "", "1")]
    for who, taken in found.items():
        rows += [row(f"{who}: fit and score {n:,} x {COLUMNS}", t, "s", "", seconds=t) for n, t in taken.items()]
    return rows


def _score(detector, X):
    return detector.score_samples(X)


def _made(n):
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, COLUMNS)).astype(np.float32)
    return rng.standard_normal((n, 5), dtype=np.float32) @ mixing + 0.1 * rng.standard_normal((n, COLUMNS), dtype=np.float32)


def _draw(found, path):
    plt = report.pyplot()
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for who, taken in found.items():
        axis.loglog(list(taken), list(taken.values()), "o-", label=who)
    sizes = np.array(list(found["MemAE"]))
    axis.loglog(sizes, found["MemAE"][sizes[-1]] * sizes / sizes[-1], ":", color="gray", label="linear")
    axis.set(xlabel="rows", ylabel="seconds to fit and score")
    axis.grid(alpha=0.3)
    axis.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)

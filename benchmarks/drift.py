"""ROC AUC after a drift: a detector as it was, one that ``partial_fit`` has updated, and a refit.

Run ``python benchmarks/drift.py`` from the root of the repository.

Rows of eight columns that depend on three hidden factors. After 1,000 rows the factors act otherwise and the centre moves, at
once. Twenty pieces of 100 rows follow, each with 5 % outliers, and each updates the detector. The refit sees the last ten.
They are tested on 1,000 normal rows after the drift, and 1,000 of which each column is shuffled; "flagged" is the share of
the former that ``predict`` calls outliers.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

COLUMNS = {"roc_auc": "±.3f", "flagged": ".3f"}
DETECTORS: dict[str, dict[str, Any]] = {
    "memory of rows": {"contamination": 0.1},
    "memory of rows, told that the data is clean": {"contamination": 0.001},
    "learned items": {"contamination": 0.1, "memory_unit": "sample"},
}
N_PIECES, SIZE, N_TEST, SHARE = 20, 100, 1000, 0.05


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the rows."""
    parser = make_parser("python benchmarks/drift.py", __doc__, seeds=2)
    args = parser.parse_args(argv)
    rows = [row for name in DETECTORS for seed in range(args.seeds) for row in after_a_drift(name, seed)]
    print(report.table(rows, "what", COLUMNS))
    store.save(rows, args.out, "drift")


def after_a_drift(name: str, seed: int) -> list[dict[str, Any]]:
    """Rows of the three detectors."""
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=(2, 3, 8))
    centre = 2 * rng.normal(size=8)

    def normal(n: int, loadings: np.ndarray, centre: np.ndarray | float) -> np.ndarray:
        return rng.normal(size=(n, 3)) @ loadings + 0.3 * rng.normal(size=(n, 8)) + centre

    old = MemAEDetector(random_state=seed, **DETECTORS[name]).fit(normal(10 * SIZE, before, 0.0))
    updated, pieces = copy.deepcopy(old), []
    for _ in range(N_PIECES):
        pieces.append(normal(SIZE, after, centre))
        outliers = int(SHARE * SIZE)
        pieces[-1][:outliers] = shuffled(pieces[-1][:outliers], rng)
        updated.partial_fit(pieces[-1])
    refitted = MemAEDetector(random_state=seed, **DETECTORS[name]).fit(np.vstack(pieces[-10:]))
    X = np.vstack([normal(N_TEST, after, centre), shuffled(normal(N_TEST, after, centre), rng)])
    y = np.repeat([0, 1], N_TEST)
    return [
        {
            "what": f"{name}: {how}",
            "seed": seed,
            "roc_auc": float(roc_auc_score(y, detector.decision_function(X))),
            "flagged": float(detector.predict(X[:N_TEST]).mean()),
        }
        for how, detector in {"as it was": old, "updated": updated, "refitted": refitted}.items()
    ]


def shuffled(X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows whose columns come from different rows."""
    return np.column_stack([rng.permutation(column) for column in X.T])


if __name__ == "__main__":
    main()

"""New normal rows that are flagged, where a share of the training rows are records that occur twice.

Run ``python benchmarks/repeats.py`` from the root of the repository.

250 rows of five independent normal columns, of which a share is in the table twice. Of 2,000 new rows of the same kind the
share that is called outliers is shown. "rate" is ``contamination=0.001`` and ``set_threshold(false_alarm_rate=...)``,
"contamination" its own labels; "p <= ..." are shares of the p-values of "rate", which promises .1 and .5. KNN and IForest are
PyOD's, with their own labels.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pyod.models.iforest import IForest
from pyod.models.knn import KNN

from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

SHARES = {"0": 0.0, ".2": 0.2, ".5": 0.5, ".9": 0.9, "1": 1.0, "1, copies off by 1e-6": 1.0}
RATES = (0.05, 0.1)
COLUMNS = {"rate": "±.3f", "contamination": "±.3f", "KNN": ".3f", "IForest": ".3f", "p <= .1": ".3f", "p <= .5": ".3f"}
N_ROWS, N_NEW = 250, 2000


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the rows."""
    parser = make_parser("python benchmarks/repeats.py", __doc__, seeds=20)
    args = parser.parse_args(argv)
    rows = [row for name in SHARES for seed in range(args.seeds) for row in cells(name, seed)]
    print(report.table(rows, "what", COLUMNS))
    store.save(rows, args.out, "repeats")


def cells(name: str, seed: int) -> Iterator[dict[str, Any]]:
    """Shares of new rows that are flagged, for each rate."""
    rng = np.random.default_rng(seed)
    X, new = rng.normal(size=(N_ROWS, 5)), rng.normal(size=(N_NEW, 5))
    copies = X[: int(SHARES[name] * N_ROWS)]
    X = np.concatenate([X, copies + rng.normal(size=copies.shape) * (1e-6 if "off by" in name else 0.0)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of repeated records
        told = MemAEDetector(contamination=0.001, random_state=seed).fit(X)
        p_values = told.p_values(new)
        for rate in RATES:
            flagged = {
                "rate": told.set_threshold(false_alarm_rate=rate),
                "contamination": MemAEDetector(contamination=rate, random_state=seed).fit(X),
                "KNN": KNN(contamination=rate).fit(X),
                "IForest": IForest(contamination=rate, random_state=seed).fit(X),
            }
            yield {
                "what": f"repeated {name}: {rate} asked for",
                "seed": seed,
                **{key: float(detector.predict(new).mean()) for key, detector in flagged.items()},
                **{f"p <= .{tenths}": float((p_values <= tenths / 10).mean()) for tenths in (1, 5)},
            }


if __name__ == "__main__":
    main()

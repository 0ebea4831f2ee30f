"""Whether a process that fits and scores for a long time grows: resident memory, threads and open files.

Run ``python benchmarks/long_runs.py`` from the root of the repository, on Linux.

Tables, images and clips take turns, each fit and each scoring of another shape. Every tenth part of the way is a row. The first
part fills the caches of libraries, which then stay.
"""

import gc
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from figures.memory import held_bytes
from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

COLUMNS = {"fits": ".0f", "scorings": ".0f", "resident_mib": ".0f", "threads": ".0f", "open_files": ".0f"}
_MIB = 2**20


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the rows."""
    parser = make_parser("python benchmarks/long_runs.py", __doc__)
    parser.add_argument("--fits", type=int, default=1000, metavar="N", help="fits (default: %(default)s)")
    parser.add_argument("--scorings", type=int, default=10000, metavar="N", help="scorings (default: %(default)s)")
    args = parser.parse_args(argv)
    rows = measure(args.fits, args.scorings)
    print(report.table(rows, "part", COLUMNS))
    store.save(rows, args.out, "long-runs")


def measure(n_fits: int, n_scorings: int, n_parts: int = 10) -> list[dict[str, Any]]:
    """Rows after each part of the fits and scorings, of which every fit has its share."""
    rng, rows = np.random.default_rng(0), []
    for part in range(1, n_parts + 1):
        for number in range(n_fits * (part - 1) // n_parts, n_fits * part // n_parts):
            shape = random_shape(rng, number % 3)
            detector = MemAEDetector(max_epochs=1, batch_size=16, memory_size=5, random_state=number)
            detector.fit(samples(rng, rng.integers(20, 60), shape))
            for _ in range(n_scorings // n_fits):
                detector.decision_function(samples(rng, rng.integers(1, 200), shape))
        gc.collect()
        rows.append(
            {
                "part": f"{part} of {n_parts}",
                "fits": n_fits * part // n_parts,
                "scorings": n_scorings * part // n_parts,
                "resident_mib": held_bytes("VmRSS") / _MIB,
                "threads": len(os.listdir("/proc/self/task")),
                "open_files": len(os.listdir("/proc/self/fd")),
            }
        )
    return rows


def random_shape(rng: np.random.Generator, kind: int) -> tuple[int, ...]:
    """Shape of a sample: of a table, an image or a clip."""
    side = rng.integers(8, 14)
    return [(int(rng.integers(2, 30)),), (int(side), int(side + 1)), (1, 4, int(side), int(side))][kind]


def samples(rng: np.random.Generator, n: int, shape: tuple[int, ...]) -> np.ndarray:
    """Noise."""
    return rng.normal(size=(int(n), *shape)).astype(np.float32)


if __name__ == "__main__":
    main()

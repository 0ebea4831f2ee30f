"""Throughput and main memory for a table on disk, compared with a table in memory."""

import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from figures import row, seconds
from figures.memory import anonymous_memory
from skmemae import MemAEDetector

COLUMNS = 1024
_GIB = 2**30
_IN_MEMORY_GIB = 1.5  # less than the limit for copying data to the device as a whole


def streaming(args: Namespace) -> list[dict[str, Any]]:
    """Rows of one epoch and of scoring: a float32 memory map of ``--gib`` GiB, and its first rows in memory."""
    detector = MemAEDetector(max_epochs=1, ensemble_size=1, widths=(64, 32), random_state=0, device=args.device)
    Path(args.out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        file = Path(folder) / "table.npy"
        _write(file, args.gib)
        X = np.load(file, mmap_mode="r")
        with anonymous_memory() as held:
            fit, score = _rates(detector, X)
        first_rows = np.array(X[: int(min(_IN_MEMORY_GIB, args.gib) * _GIB / (4 * COLUMNS))])
    fit_in_memory, score_in_memory = _rates(detector, first_rows)
    size = f"table of {args.gib:g} GiB on the disk"
    return [
        row(f"{size}: peak of anonymous memory", max(held) / _GIB, "GiB", "< 1"),
        row(f"{size}: rows fitted", fit, "a second", ""),
        row(f"{size}: rows scored", score, "a second", ""),
        row(f"{size}: rows fitted over those of a table in memory", fit / fit_in_memory, "times", ">= 0.8"),
        row(f"{size}: rows scored over those of a table in memory", score / score_in_memory, "times", ">= 0.8"),
    ]


def _rates(detector: MemAEDetector, X: np.ndarray) -> list[float]:
    """Rows per second of ``fit`` and of ``decision_function``."""
    return [len(X) / seconds(lambda work=work: work(X)) for work in (detector.fit, detector.decision_function)]


def _write(file: Path, gib: float) -> None:
    """Write rows of noise with 16 latent dimensions, block by block."""
    rng = np.random.default_rng(0)
    n, block = int(gib * _GIB / (4 * COLUMNS)), 16_384
    X = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n, COLUMNS))
    mixing = rng.normal(size=(16, COLUMNS)).astype(np.float32)
    for start in range(0, n, block):
        rows = min(block, n - start)
        X[start : start + rows] = rng.standard_normal((rows, 16), dtype=np.float32) @ mixing
    X.flush()

"""Milliseconds to score a few samples: ``decision_function`` beside the exported ONNX graph in onnxruntime.

Run ``python benchmarks/latency.py`` from the root of the repository.

Detectors of the defaults, trained for one epoch on 2000 rows of 30 columns and on 300 images, as weights do not change the
cost. Medians of many calls, after a warm-up, on one thread. The graph also gives labels and maps. "difference" is the largest
relative difference of the scores.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
import torch

from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

COLUMNS = {"decision_function": ".2f", "onnxruntime": ".2f", "difference": ".0e"}
# Samples to train on, and how many of them to score together.
DATA = {"of 30 columns": ((2000, 30), {"1 row": 1, "100 rows": 100}), "of 28 x 28": ((300, 28, 28), {"1 image": 1})}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and write the rows."""
    parser = make_parser("python benchmarks/latency.py", __doc__)
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="calls of each figure (default: %(default)s)")
    args = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = [row for kind in DATA for row in latencies(kind, args.calls)]
    finally:
        torch.set_num_threads(threads)
    print(report.table(rows, "what", COLUMNS))
    store.save(rows, args.out, "latency")


def latencies(kind: str, calls: int) -> list[dict[str, Any]]:
    """Rows of a kind of samples."""
    shape, batches = DATA[kind]
    X = np.random.default_rng(0).normal(size=shape)
    detector = MemAEDetector(max_epochs=1, random_state=0, device="cpu").fit(X)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "detector.onnx"
        detector.export_onnx(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    rows = []
    for name, n in batches.items():
        few = X[:n]
        scores, graph_scores = detector.decision_function(few), session.run(["score"], {"X": few})[0]
        rows.append(
            {
                "what": f"{name} {kind}",
                "decision_function": milliseconds(lambda few=few: detector.decision_function(few), calls),
                "onnxruntime": milliseconds(lambda few=few: session.run(None, {"X": few}), calls),
                "difference": float(np.max(np.abs(graph_scores / scores - 1))),
            }
        )
    return rows


def milliseconds(work: Callable[[], Any], calls: int) -> float:
    """Median milliseconds of a call of ``work``."""
    durations = []
    for _ in range(calls + calls // 10 + 1):
        start = perf_counter()
        work()
        durations.append(perf_counter() - start)
    return 1000 * median(durations[calls // 10 + 1 :])


if __name__ == "__main__":
    main()

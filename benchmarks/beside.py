"""Seconds of this checkout over those of another one, of fits and scores of a table, images and clips.

``python benchmarks/beside.py PATH`` runs both in turns, each repeat in a process of its own with one thread, and compares the
smallest processor seconds of each, so that other work on the machine counts for little.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parents[1]
WORK = """
import json, sys, time
import numpy as np
from skmemae import MemAEDetector

rng = np.random.default_rng(0)
X, params = {
    "table": lambda: (rng.normal(size=(20_000, 30)).astype("float32"), {"max_epochs": 2}),
    "images": lambda: (rng.random((600, 28, 28)).astype("float32"), {"max_epochs": 3}),
    "bytes": lambda: (rng.integers(0, 255, size=(600, 28, 28)).astype("uint8"), {"max_epochs": 3}),
    "clips": lambda: (rng.random((48, 1, 8, 32, 32)).astype("float32"), {"max_epochs": 3, "batch_size": 16}),
}[sys.argv[1]]()

def least(work, repeats):
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return min(seconds), result

MemAEDetector(max_epochs=1, random_state=0).fit(X[:64]).decision_function(X[:64])
fit, detector = least(lambda: MemAEDetector(random_state=0, **params).fit(X), 3)
score, _ = least(lambda: detector.decision_function(X), 9)
one, _ = least(lambda: detector.decision_function(X[:1]), 100)
print(json.dumps([fit, score, one]))
"""
KINDS = ("table", "images", "bytes", "clips")


def main(argv: Sequence[str] | None = None) -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="only these data")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="processes of each (default: %(default)s)")
    args = parser.parse_args(argv)
    for kind in args.kinds:
        pairs = [(seconds(HERE, kind), seconds(args.other.resolve(), kind)) for _ in range(args.repeats)]
        ours, others = ([min(column) for column in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
        fit, score, one = (a / b for a, b in zip(ours, others, strict=True))
        print(f"{kind}: fit {fit:.3f}, score {score:.3f}, one sample {one:.3f}", flush=True)


def seconds(checkout: Path, kind: str) -> list[float]:
    """Least seconds of a fit, of scoring all samples and of scoring one."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", WORK, kind]
    done = subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()

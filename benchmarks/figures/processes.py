"""Speed-up by several processes in grid search and in distributed training, and import time."""

import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GridSearchCV

from figures import in_turns, row
from skmemae import MemAEDetector

BASE = "import torch, sklearn.base, sklearn.utils.validation, pyod.models.base"
RANKS = """
import json, os, sys, time
import numpy as np
import torch
from skmemae import MemAEDetector

torch.set_num_threads(1)
X = np.random.default_rng(0).normal(size=(100_000, 120)).astype(np.float32)
detector = MemAEDetector(memory_unit="sample", batch_size=4096, widths=(512, 256, 32), ensemble_size=1, random_state=0)
detector.set_params(validation_fraction=0.0)
detector.set_params(max_epochs=1, device={device!r}).fit(X[:8192])
seconds = []
for epochs in (1, 3):
    start = time.perf_counter()
    detector.set_params(max_epochs=epochs).fit(X)
    seconds.append(time.perf_counter() - start)
if os.environ.get("RANK", "0") == "0":
    json.dump(seconds, open({file!r}, "w"))
"""


def grid_search(args: Namespace) -> list[dict[str, Any]]:
    """Row of the speed-up of a grid search of 20 fits on 2,000 x 20 by two jobs over one."""
    X = np.random.default_rng(0).normal(size=(2000, 20))

    def search(jobs: int) -> None:
        grid = {"memory_size": [20, 50, 100, 200, 400]}
        detector = MemAEDetector(memory_unit="sample", max_epochs=20, ensemble_size=1, random_state=0, device=args.device)
        GridSearchCV(detector, grid, scoring=_normality, cv=4, refit=False, n_jobs=jobs).fit(X)

    one, two = in_turns(args.repeats, lambda: search(1), lambda: search(2))
    return [
        row(
            "grid search of 20 fits, 2,000 x 20: one job's seconds over two's",
            one / two,
            "times",
            ">= 1.6",
            seconds=two,
            reference=one,
        )
    ]


def _normality(detector: MemAEDetector, X: np.ndarray, y: None = None) -> float:
    return float(np.mean(detector.score_samples(X)))


def import_time(args: Namespace) -> list[dict[str, Any]]:
    """Row of the seconds to import the package over those to import its dependencies."""
    ours, base = in_turns(args.repeats * 3, lambda: _python("import skmemae"), lambda: _python(BASE))
    return [
        row(
            "import over that of torch, scikit-learn and PyOD's base",
            ours / base,
            "times",
            "<= 1.15",
            seconds=ours,
            reference=base,
        )
    ]


def ranks(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the speed-up of training by two processes over one, each with one thread: per epoch, and of a whole fit."""
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (1, 2):
            script, file = Path(folder) / f"fit{count}.py", str(Path(folder) / f"{count}.json")
            script.write_text(RANKS.format(device=args.device, file=file))
            launch = ["-m", "torch.distributed.run", f"--nproc-per-node={count}", "--standalone"] if count > 1 else []
            subprocess.run([sys.executable, *launch, str(script)], check=True)
            times[count] = json.loads(Path(file).read_text())
    (one_1, one_3), (two_1, two_3) = times[1], times[2]
    label = "100,000 x 120, 120-512-256-32, batch 4096, two processes over one:"
    return [
        row(
            f"{label} epochs",
            (one_3 - one_1) / (two_3 - two_1),
            "times",
            "",
            seconds=(two_3 - two_1) / 2,
            reference=(one_3 - one_1) / 2,
        ),
        row(f"{label} fit of 3 epochs", one_3 / two_3, "times", "", seconds=two_3, reference=one_3),
    ]


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)

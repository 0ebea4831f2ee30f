"""Rows trained and scored per second, compared with PyOD's AutoEncoder, and the time to score one row."""

from statistics import median

import numpy as np
from pyod.models.auto_encoder import AutoEncoder

from figures import in_turns, row, seconds
from skmemae import MemAEDetector

WIDTHS = (64, 32)
ROWS, COLUMNS, EPOCHS, PYOD_BATCH = 20_000, 30, 10, 32


def beside_pyod(args):
    """Rows of training and scoring on one table with equal layers and epochs; "PyOD's batch" is MemAE at batch size 32."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS))
    shared = {"widths": WIDTHS, "max_epochs": EPOCHS, "validation_fraction": 0.0, "ensemble_size": 1, "random_state": 0}
    pyod = AutoEncoder(hidden_neuron_list=list(WIDTHS), epoch_num=EPOCHS, batch_size=PYOD_BATCH, verbose=0, device=args.device)
    contenders = {
        "MemAE, PyOD's batch": MemAEDetector(**shared, batch_size=PYOD_BATCH, device=args.device),
        "MemAE": MemAEDetector(**shared, device=args.device),
        "MemAE, one head": MemAEDetector(**shared, memory_heads=1, device=args.device),
        "no memory": MemAEDetector(**shared, memory_size=0, device=args.device),
    }
    detectors = [pyod, *contenders.values()]
    pyod_fit, *fits = in_turns(args.repeats, *[lambda d=d: d.fit(X) for d in detectors])
    pyod_score, *scores = in_turns(args.repeats * 3, *[lambda d=d: d.decision_function(X) for d in detectors])
    rows = [row("PyOD AutoEncoder: rows trained", ROWS * EPOCHS / pyod_fit, "a second", "", seconds=pyod_fit)]
    rows.append(row("PyOD AutoEncoder: rows scored", ROWS / pyod_score, "a second", "", seconds=pyod_score))
    for name, fit, score in zip(contenders, fits, scores, strict=True):
        goal = ">= 30" if name == "MemAE" else ""
        rows.append(row(f"{name}: rows trained over PyOD's", pyod_fit / fit, "times", "", seconds=fit, reference=pyod_fit))
        rows.append(
            row(f"{name}: rows scored over PyOD's", pyod_score / score, "times", goal, seconds=score, reference=pyod_score)
        )
    return rows


def one_row(args):
    """Rows of the milliseconds of ``decision_function`` on one row of a table and on one image, after a warm-up."""
    rng = np.random.default_rng(0)
    rows = []
    for name, X in {"row of 30": rng.normal(size=(2000, 30)), "image of 28 x 28": rng.normal(size=(300, 28, 28))}.items():
        detector = MemAEDetector(max_epochs=1, random_state=0, device=args.device).fit(X)
        for x in X[:20, None]:
            detector.decision_function(x)
        duration = median(seconds(lambda x=x, detector=detector: detector.decision_function(x)) for x in X[:200, None])
        rows.append(row(f"decision_function of one {name}, defaults", 1000 * duration, "ms", "< 1", seconds=duration))
    return rows

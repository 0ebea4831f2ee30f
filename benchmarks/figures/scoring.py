"""Rows trained and scored beside PyOD's AutoEncoder, and how long one row takes."""

from statistics import median

import numpy as np
from pyod.models.auto_encoder import AutoEncoder

from figures import in_turns, row, seconds
from skmemae import MemAEDetector

WIDTHS = (64, 32)
ROWS, COLUMNS, EPOCHS, PYOD_BATCH = 20_000, 30, 10, 32


def beside_pyod(args):
    """Same table, same layers, same epochs; "same batch" is PyOD's batch of 32, and the rest of MemAE's settings its own."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS))
    same = {"widths": WIDTHS, "max_epochs": EPOCHS, "validation_fraction": 0.0, "ensemble_size": 1, "random_state": 0}
    pyod = AutoEncoder(hidden_neuron_list=list(WIDTHS), epoch_num=EPOCHS, batch_size=PYOD_BATCH, verbose=0, device=args.device)
    contenders = {
        "MemAE, PyOD's batch": MemAEDetector(**same, batch_size=PYOD_BATCH, device=args.device),
        "MemAE": MemAEDetector(**same, device=args.device),
        "MemAE, one head": MemAEDetector(**same, memory_heads=1, device=args.device),
        "no memory": MemAEDetector(**same, memory_size=0, device=args.device),
    }
    detectors = [pyod, *contenders.values()]
    theirs, *fits = in_turns(args.repeats, *[lambda d=d: d.fit(X) for d in detectors])
    their_scores, *scores = in_turns(args.repeats * 3, *[lambda d=d: d.decision_function(X) for d in detectors])
    rows = [row("PyOD AutoEncoder: rows trained", ROWS * EPOCHS / theirs, "a second", "", seconds=theirs)]
    rows.append(row("PyOD AutoEncoder: rows scored", ROWS / their_scores, "a second", "", seconds=their_scores))
    for what, fit, score in zip(contenders, fits, scores, strict=True):
        goal = ">= 30" if what == "MemAE" else ""
        rows.append(row(f"{what}: rows trained over PyOD's", theirs / fit, "times", "", seconds=fit, reference=theirs))
        rows.append(
            row(f"{what}: rows scored over PyOD's", their_scores / score, "times", goal, seconds=score, reference=their_scores)
        )
    return rows


def one_row(args):
    """A call of ``decision_function`` on one row after the first, and on one image."""
    rng = np.random.default_rng(0)
    rows = []
    for what, X in {"row of 30": rng.normal(size=(2000, 30)), "image of 28 x 28": rng.normal(size=(300, 28, 28))}.items():
        detector = MemAEDetector(max_epochs=1, random_state=0, device=args.device).fit(X)
        for x in X[:20, None]:
            detector.decision_function(x)
        took = median(seconds(lambda x=x, detector=detector: detector.decision_function(x)) for x in X[:200, None])
        rows.append(row(f"decision_function of one {what}, defaults", 1000 * took, "ms", "< 1", seconds=took))
    return rows

"""Rows trained and scored per second, compared with PyOD's detectors, wide tables, and the time to score one row."""

from argparse import Namespace
from statistics import median
from typing import Any

import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF

from figures import in_turns, row, seconds
from skmemae import MemAEDetector

WIDTHS = (64, 32)
ROWS, COLUMNS, EPOCHS, PYOD_BATCH = 20_000, 30, 10, 32


def beside_pyod(args: Namespace) -> list[dict[str, Any]]:
    """Rows of training and scoring on one table: MemAE at its defaults, and with learned items, equal layers and epochs."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, COLUMNS)) @ rng.normal(size=(COLUMNS, COLUMNS))
    shared = {"widths": WIDTHS, "max_epochs": EPOCHS, "validation_fraction": 0.0, "ensemble_size": 1, "random_state": 0}
    pyod = AutoEncoder(hidden_neuron_list=list(WIDTHS), epoch_num=EPOCHS, batch_size=PYOD_BATCH, verbose=0, device=args.device)
    shared |= {"memory_unit": "sample", "device": args.device}
    contenders = {
        "MemAE": MemAEDetector(random_state=0, device=args.device),
        "MemAE, learned items, PyOD's batch": MemAEDetector(**shared, batch_size=PYOD_BATCH),
        "MemAE, learned items": MemAEDetector(**shared),
        "no memory": MemAEDetector(**shared, memory_size=0),
    }
    detectors = [pyod, *contenders.values()]
    pyod_fit, *fits = in_turns(args.repeats, *[lambda d=d: d.fit(X) for d in detectors])
    pyod_score, *scores = in_turns(args.repeats * 3, *[lambda d=d: d.decision_function(X) for d in detectors])
    rows = [row("PyOD AutoEncoder: rows trained", ROWS * EPOCHS / pyod_fit, "a second", "", seconds=pyod_fit)]
    rows.append(row("PyOD AutoEncoder: rows scored", ROWS / pyod_score, "a second", "", seconds=pyod_score))
    for name, fit, score in zip(contenders, fits, scores, strict=True):
        goal = ">= 15" if name == "MemAE" else ""
        rows.append(row(f"{name}: fits over PyOD's", pyod_fit / fit, "times", "", seconds=fit, reference=pyod_fit))
        rows.append(
            row(f"{name}: rows scored over PyOD's", pyod_score / score, "times", goal, seconds=score, reference=pyod_score)
        )
    return rows


def whole_tables(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the seconds of a fit of a small table, and of fit and score of a large one, at the defaults of both packages."""
    rows = []
    for shape, score, goal in (((1_000, 10), False, "<= 0.3"), ((50_000, 30), True, "<= 5")):
        X = np.random.default_rng(0).normal(size=shape)
        detectors = MemAEDetector(random_state=0, device=args.device), AutoEncoder(verbose=0, device=args.device)
        work = [lambda d=d, X=X, s=score: d.fit(X).decision_function(X[: len(X) if s else 1]) for d in detectors]
        ours, theirs = in_turns(args.repeats, *work)
        label = f"{'fit and score' if score else 'fit'} {shape[0]:,} x {shape[1]}, defaults"
        rows += [
            row(f"{label}: MemAE", ours, "s", goal, seconds=ours),
            row(f"{label}: PyOD's", theirs, "s", "", seconds=theirs),
        ]
    return rows


def beside_neighbours(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the seconds of scoring 20,000 rows after a fit of 8,000, beside detectors that compare rows, and others."""
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(8_000, COLUMNS)), rng.normal(size=(ROWS, COLUMNS))
    detectors = {
        "MemAE": MemAEDetector(random_state=0, device=args.device),
        "MemAE, told clean": MemAEDetector(random_state=0, contamination=0.001, device=args.device),
        "KNN": KNN(),
        "LOF": LOF(),
        "IForest": IForest(random_state=0),
        "PyOD AutoEncoder": AutoEncoder(verbose=0, device=args.device),
    }
    for detector in detectors.values():
        detector.fit(X)
    durations = in_turns(args.repeats, *[lambda d=d: d.decision_function(new) for d in detectors.values()])
    return [
        row(f"score {ROWS:,} x {COLUMNS} against 8,000 rows: {name}", duration, "s", "", seconds=duration)
        for name, duration in zip(detectors, durations, strict=True)
    ]


def wide_tables(args: Namespace) -> list[dict[str, Any]]:
    """Rows of the seconds of a fit of wide tables, at the defaults."""
    rows = []
    for shape, goal in (((60, 6_000), "<= 2"), ((60, 20_000), "<= 5"), ((1_000, 1_500), "<= 5")):
        X = np.random.default_rng(0).normal(size=shape)
        detectors = {
            "MemAE": MemAEDetector(random_state=0, device=args.device),
            "PyOD AutoEncoder": AutoEncoder(verbose=0, device=args.device),
            "IForest": IForest(random_state=0),
        }
        durations = in_turns(args.repeats, *[lambda d=d, X=X: d.fit(X) for d in detectors.values()])
        rows += [
            row(f"fit {shape[0]:,} x {shape[1]:,}: {name}", duration, "s", goal if name == "MemAE" else "", seconds=duration)
            for name, duration in zip(detectors, durations, strict=True)
        ]
    return rows


def one_row(args: Namespace) -> list[dict[str, Any]]:
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

"""KDDCUP99 with the attacks as normal rows: the paper's table 3.

The attacks of a random half of all rows are the training set; the other half is the test set. The fifth of it with the highest
scores is flagged; 19.7 % is truly abnormal, which caps F1 at .992. Seven symbolic columns are one-hot encoded, 121 columns in
all; the scaling is fitted on the training rows. Five rows in six repeat others, and frequent attacks outweigh rare ones: all
baselines are trained on the distinct rows, with which they score higher, OC-SVM and KDE on 10,000 of them at most. "MemAE" and
"no memory" are told that the training data is clean; "MemAE, share 0.1" has the default ``contamination``.
"""

from functools import partial

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from skmemae import datasets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import make_baselines, make_ours_for_tables, select

FLAGGED = 0.2
MOST_ROWS = 10_000
CLEAN_SHARE = 0.001
COLUMNS = {"f1": "±.4f", "precision": ".4f", "recall": ".4f", "roc_auc": ".4f", "fit_seconds": ".1f", "score_seconds": ".1f"}


class OnDistinctRows(BaseEstimator):
    """Detector trained on the distinct rows."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X):
        """Fit on the distinct rows, in random order."""
        distinct = np.unique(X, axis=0)
        self.detector.fit(np.random.default_rng(0).permutation(distinct))
        return self

    def decision_function(self, X):
        """Scores of the detector, higher = more abnormal."""
        return self.detector.decision_function(X)


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=20)


def run(args):
    """Run all cells, print the tables and draw a figure."""
    rows = cells.run(plan(args), f"{args.out}/kddcup99.jsonl", measure, desc="kddcup99")
    report.finish(rows, COLUMNS, args.out, "kddcup99")


def plan(args):
    """Cells, one for each seed and detector."""
    cells.selected("--data", args.data, ["KDDCUP99"])
    select(makers(0), args.detectors)  # before anything is loaded
    try:
        dataset = datasets.load_kddcup99(args.data_home)
    except OSError as error:
        raise SystemExit(str(error)) from error
    X = datasets.encode_kddcup99(dataset.data)
    planned = []
    for seed in range(args.seeds):
        split = partial(half_and_half, X, dataset.target, seed)
        made = select(makers(seed), args.detectors)
        planned += [cells.Cell(dataset.name, "", seed, name, make, split) for name, make in made.items()]
    return planned


def makers(seed):
    """Functions that create unfitted detectors, by name."""
    baselines = {name: partial(on_distinct_rows, make) for name, make in make_baselines(seed, MOST_ROWS).items()}
    return {**make_ours_for_tables(seed, CLEAN_SHARE), **baselines}


def on_distinct_rows(make):
    """Detector from ``make()``, trained on distinct rows."""
    return OnDistinctRows(make())


def half_and_half(X, y, seed):
    """Split of the protocol: X_test has distinct rows, and ``X_test[inverse]`` are the rows that y_test labels."""
    train, test = train_test_split(np.arange(len(X)), test_size=0.5, random_state=seed)
    distinct, inverse = np.unique(X[test], axis=0, return_inverse=True)
    return Bunch(X_train=X[train[y[train] == 0]], X_test=distinct, inverse=inverse.ravel(), y_test=y[test])


def measure(detector, split):
    """Dict of precision, recall and F1 of the flagged rows, ranking and seconds; each distinct row is scored once."""
    scores, seconds = cells.fit_and_score(detector, split)
    scores = scores[split.inverse]
    flagged = scores > np.quantile(scores, 1 - FLAGGED)
    precision, recall, f1, _ = precision_recall_fscore_support(split.y_test, flagged, average="binary")
    hits = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {**hits, **cells.ranking(split.y_test, scores), **seconds}

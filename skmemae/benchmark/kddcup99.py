"""KDDCUP99 with the attacks as normal rows: the paper's table 3.

A random half of all rows is to train, of which the attacks alone are used; the other half is the test set. The fifth of it that
scores highest is flagged; a fifth (19.7 %) is truly abnormal, which caps F1 at .992. Seven symbolic columns are one-hot, 121
columns in all; statistics come from the training rows. Five rows in six repeat others, and rare kinds of attack drown in them:
all baselines are given the distinct training rows, with which they score higher, OC-SVM and KDE 10,000 of them at most.
"""

from functools import partial

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from skmemae import datasets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import make_baselines, make_ours, select

FLAGGED = 0.2
MOST_ROWS = 10_000
COLUMNS = {"f1": "±.4f", "precision": ".4f", "recall": ".4f", "roc_auc": ".4f", "fit_seconds": ".1f", "score_seconds": ".1f"}


class OnDistinctRows(BaseEstimator):
    """A detector trained on each distinct row once."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X):
        """Fit on the distinct rows, in random order."""
        distinct = np.unique(X, axis=0)
        self.detector.fit(np.random.default_rng(0).permutation(distinct))
        return self

    def decision_function(self, X):
        """The detector's scores."""
        return self.detector.decision_function(X)


def add_arguments(parser):
    """Options of the protocol."""
    cells.add_arguments(parser, seeds=20)


def run(args):
    """Fill every cell, print the table, draw a picture."""
    rows = cells.run(plan(args), f"{args.out}/kddcup99.jsonl", measure, desc="kddcup99")
    report.finish(rows, COLUMNS, args.out, "kddcup99")


def plan(args):
    """One cell for each seed and detector."""
    try:
        dataset = datasets.load_kddcup99(args.data_home)
    except OSError as error:
        raise SystemExit(str(error)) from error
    X = datasets.encode_kddcup99(dataset.data)
    planned = []
    for seed in range(args.seeds):
        split = partial(half_and_half, X, dataset.target, seed)
        baselines = {who: partial(on_distinct_rows, make) for who, make in make_baselines(seed, MOST_ROWS).items()}
        makers = select({**make_ours(seed, "kddcup99"), **baselines}, args.detectors)
        planned += [cells.Cell(dataset.name, "", seed, who, make, split) for who, make in makers.items()]
    return planned


def on_distinct_rows(make):
    """The detector that ``make`` makes, trained on distinct rows."""
    return OnDistinctRows(make())


def half_and_half(X, y, seed):
    """The protocol's split; ``inverse`` says which distinct test row each test row is."""
    train, test = train_test_split(np.arange(len(X)), test_size=0.5, random_state=seed)
    distinct, inverse = np.unique(X[test], axis=0, return_inverse=True)
    return Bunch(X_train=X[train[y[train] == 0]], X_test=distinct, inverse=inverse.ravel(), y_test=y[test])


def measure(detector, split):
    """Precision, recall and F1 of the flagged rows, and the ranking. Equal rows score the same, so each is scored once."""
    scores, seconds = cells.fit_and_score(detector, split)
    scores = scores[split.inverse]
    flagged = scores > np.quantile(scores, 1 - FLAGGED)
    precision, recall, f1, _ = precision_recall_fscore_support(split.y_test, flagged, average="binary")
    hits = {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
    return {**hits, **cells.ranking(split.y_test, scores), **seconds}

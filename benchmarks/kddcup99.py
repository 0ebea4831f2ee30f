"""KDDCUP99 with the attacks as normal rows: the paper's table 3.

The attacks of a random half of all rows are the training set; the other half is the test set. The fifth of it with the highest
scores is flagged; 19.7 % is truly abnormal, which caps F1 at .992. Seven symbolic columns are one-hot encoded, 121 columns in
all; the scaling is fitted on the training rows. Five rows in six repeat others, and frequent attacks outweigh rare ones: all
baselines are trained on the distinct rows, with which they score higher, OC-SVM and KDE on 10,000 of them at most. "MemAE" and
"no memory" have ``contamination=0.001``, as the training data is clean; "MemAE, share 0.1" has the default.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_fscore_support
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from shared import protocol
from shared.detectors import CLEAN_SHARE, DEFAULT_SHARE, PRESET, make_table_detectors
from skmemae import datasets
from skmemae.benchmark.detectors import OURS, WITHOUT, Makers
from skmemae.benchmark.evaluation import fit_and_score, ranking

FLAGGED = 0.2
COLUMNS = {"f1": "±.4f", "precision": ".4f", "recall": ".4f", "roc_auc": ".4f", "fit_seconds": ".1f", "score_seconds": ".1f"}


class OnDistinctRows(BaseEstimator):
    """Detector trained on the distinct rows."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(self, X: np.ndarray) -> "OnDistinctRows":
        """Fit on the distinct rows, in random order."""
        distinct = np.unique(X, axis=0)
        self.detector.fit(np.random.default_rng(0).permutation(distinct))
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Scores of the detector, higher = more abnormal."""
        return self.detector.decision_function(X)


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cells, print the tables and draw a figure."""
    protocol.run(PROTOCOL, protocol.make_protocol_parser("kddcup99", __doc__, seeds=20).parse_args(argv))


def load(data_home: str | None) -> Bunch:
    """KDDCUP99 with columns of numbers."""
    dataset = datasets.load_kddcup99(data_home)
    return Bunch(data=datasets.encode_kddcup99(dataset.data), target=dataset.target, name=dataset.name)


def tasks(dataset: Bunch, seed: int) -> Iterator[tuple[str, partial]]:
    """Yield the task, "", and the split."""
    yield "", partial(half_and_half, dataset.data, dataset.target, seed)


def makers(dataset: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    made = make_table_detectors(seed, CLEAN_SHARE)
    ours = (OURS, DEFAULT_SHARE, WITHOUT, PRESET)
    return {name: make if name in ours else partial(on_distinct_rows, make) for name, make in made.items()}


def on_distinct_rows(make: Callable[[], Any]) -> OnDistinctRows:
    """Detector from ``make()``, trained on distinct rows."""
    return OnDistinctRows(make())


def half_and_half(X: np.ndarray, y: np.ndarray, seed: int) -> Bunch:
    """Split of the protocol: X_test has distinct rows, and ``X_test[inverse]`` are the rows that y_test labels."""
    train, test = train_test_split(np.arange(len(X)), test_size=0.5, random_state=seed)
    distinct, inverse = np.unique(X[test], axis=0, return_inverse=True)
    return Bunch(X_train=X[train[y[train] == 0]], X_test=distinct, inverse=inverse.ravel(), y_test=y[test])


def measure(detector: Any, split: Bunch) -> dict[str, float]:
    """Dict of precision, recall and F1 of the flagged rows, ranking and seconds; each distinct row is scored once."""
    scores, seconds = fit_and_score(detector, split)
    scores = scores[split.inverse]
    flagged = scores > np.quantile(scores, 1 - FLAGGED)
    precision, recall, f1, _ = precision_recall_fscore_support(split.y_test, flagged, average="binary")
    hits = {"f1": float(f1), "precision": float(precision), "recall": float(recall)}
    return {**hits, **ranking(split.y_test, scores), **seconds}


PROTOCOL = protocol.Protocol("kddcup99", {"KDDCUP99": load}, tasks, makers, COLUMNS, measure)

if __name__ == "__main__":
    main()

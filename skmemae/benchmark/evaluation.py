"""One fit of a detector: seconds, scores of the test samples, and how well the scores rank."""

from time import perf_counter
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.utils import Bunch


def evaluate(detector: Any, split: Bunch) -> tuple[dict[str, float], np.ndarray]:
    """Fit on the training samples and score the test samples; returns a dict of numbers and the scores.

    "flagged_normal" is the share of normal test samples above the threshold, NaN for a detector without a threshold.
    """
    scores, seconds = fit_and_score(detector, split)
    threshold = getattr(detector, "threshold_", None)
    flagged = float("nan") if threshold is None else float((scores[split.y_test == 0] > threshold).mean())
    return {**ranking(split.y_test, scores), "flagged_normal": flagged, **seconds}, scores


def fit_and_score(detector: Any, split: Bunch) -> tuple[np.ndarray, dict[str, float]]:
    """Scores of the test samples, higher = more abnormal, and a dict of the seconds to fit and to score."""
    start = perf_counter()
    detector.fit(split.X_train)
    fitted = perf_counter()
    scores = detector.decision_function(split.X_test)
    return scores, {"fit_seconds": fitted - start, "score_seconds": perf_counter() - fitted}


def ranking(y: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """ROC AUC, average precision and precision at n for outliers (y = 1); all in [0, 1], higher = better."""
    # Precision at n is the share of outliers among the n highest scores, for n outliers.
    top = np.argsort(-scores, kind="stable")[: np.sum(y)]
    return {
        "roc_auc": float(roc_auc_score(y, scores)),
        "average_precision": float(average_precision_score(y, scores)),
        "precision_at_n": float(np.mean(y[top])),
    }

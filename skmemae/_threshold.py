"""Where the border between inliers and outliers lies, and how sure one can be of an outlier."""

import copy
import math
from numbers import Real

import numpy as np
from sklearn.metrics import precision_recall_curve

from skmemae._warnings import warn_caller

_LEAST_NOISE = 1e-5  # relative, of scores in float32
_WHISKER = 1.5  # interquartile ranges (Tukey 1977)


def contamination_threshold(contamination, scores, noise=0.0) -> float:
    """The anomaly score above which a sample is an outlier.

    Parameters
    ----------
    contamination : float, "auto" or PyThresh-like object
        "auto" takes the upper fence of a box plot of the scores' logarithms. A float takes that quantile of the scores. Both
        are raised by a hundred-thousandth, or ten times the noise of the scores if that is more: rows that share the score at
        the quantile stay on one side, however their scores round. Of an object a copy is fitted, and the threshold lies halfway
        between the scores that it labels 0 and those that it labels 1.
    scores : ndarray of shape (n_samples,)
        Of the training samples; for "auto" better of samples that were not trained on.
    noise : float, default=0.0
        By how much the score of a sample differs between batches of different sizes, relative to the score.

    Returns
    -------
    threshold : float
    """
    above = _above(noise)
    if isinstance(contamination, str):
        return _fence(scores) * above
    if isinstance(contamination, Real):
        return float(np.percentile(scores, 100 * (1 - float(contamination)))) * above
    thresholder = copy.deepcopy(contamination)  # a parameter is never changed by fit
    thresholder.fit(scores.copy())
    labels = thresholder.labels_ if hasattr(thresholder, "labels_") else thresholder.predict(scores.copy())
    flagged = np.asarray(labels).ravel() == 1
    ascending, n_inliers = np.sort(scores), np.count_nonzero(~flagged)
    if 0 < n_inliers < len(scores) and scores[~flagged].max() >= scores[flagged].min():
        warn_caller(
            f"The labels of {type(thresholder).__name__} do not follow the order of the scores; the threshold is set to "
            f"label as many samples, the {len(scores) - n_inliers} with the largest scores, as outliers."
        )
    if n_inliers == 0:
        return float(ascending[0]) / above
    if n_inliers == len(scores):
        return float(ascending[-1]) * above
    inlier, outlier = float(ascending[n_inliers - 1]), float(ascending[n_inliers])
    return min(inlier + (outlier - inlier) / 2, float(np.nextafter(outlier, -np.inf)))


def false_alarm_threshold(rate: float, calibration_scores: np.ndarray, noise: float = 0.0) -> float:
    """The conformal quantile: a new sample of the kind of the calibration samples is above it with at most this probability.

    Parameters
    ----------
    rate : float in (0, 1)
    calibration_scores : ndarray of shape (n,)
        Of samples that were not trained on.
    noise : float, default=0.0

    Raises
    ------
    ValueError
        If there are fewer than ``1 / rate - 1`` calibration scores.
    """
    n = len(calibration_scores)
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)  # (n + 1) * (1 - rate) is seldom exact
    if rank > n:
        raise ValueError(
            f"false_alarm_rate={rate} needs at least {math.ceil(1 / rate - 1 - 1e-9)} samples that were not trained on, of "
            f"which this detector has {n}: give a larger rate, fit on more samples, or set contamination or threshold."
        )
    return float(np.partition(calibration_scores, rank - 1)[rank - 1]) * _above(noise)


def best_f1_threshold(scores: np.ndarray, outlier: np.ndarray) -> float:
    """The threshold whose labels, outlier where the score is above, have the largest F1: halfway between two scores.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher = more abnormal.
    outlier : ndarray of bool of shape (n,)
        Both classes.
    """
    precision, recall, thresholds = precision_recall_curve(outlier, scores)
    f1 = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], np.finfo(float).tiny)
    best = thresholds[len(f1) - 1 - np.argmax(f1[::-1])]  # of equal ones the largest, which raises the fewest alarms
    below = scores[scores < best]
    highest = float(np.nextafter(best, -np.inf))
    return min(float(below.max() + (best - below.max()) / 2), highest) if len(below) else highest


def conformal_p_values(scores: np.ndarray, calibration_scores: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Share of the calibration scores, and the sample itself, that are at least as large as each score: (n,).

    Equation 2 of Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023. Scores that are as
    near to each other as their noise count as equal.
    """
    ascending, n = np.sort(calibration_scores), len(calibration_scores)
    return (1 + n - np.searchsorted(ascending, scores / _above(noise))) / (n + 1)


def _above(noise: float) -> float:
    """Factor by which a score must be exceeded to be exceeded for sure."""
    return 1 + max(_LEAST_NOISE, 10 * noise)


def _fence(scores: np.ndarray) -> float:
    """The upper fence of a box plot of the scores' logarithms."""
    first, third = np.percentile(np.log(np.maximum(scores, np.finfo(float).tiny)), [25, 75])
    return float(np.exp(min(third + _WHISKER * (third - first), math.log(np.finfo(float).max) - 1)))

"""Scorers for grid search that hold under both conventions and both label codings.

scikit-learn's scorers use ``decision_function`` and take the larger label as the positive class: ``"roc_auc"`` is silently
inverted when convention and coding do not match, and ``"average_precision"`` ranks inliers when inliers are +1. The scorers
here use ``score_samples``, whose sign does not depend on the convention, and take outliers as the positive class.
"""

import numpy as np
from scipy.sparse import issparse
from sklearn.metrics import average_precision_score, roc_auc_score

from skmemae._frames import shuffled_columns

_CODINGS = ({0, 1}, {-1, 1})


def is_outlier(y):
    """Convert labels to booleans, True for outliers.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        0 (inlier) and 1 (outlier) as in PyOD, or +1 (inlier) and -1 (outlier) as in scikit-learn.

    Returns
    -------
    outlier : ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If y has other values, or only ones, which are ambiguous.
    """
    y = np.asarray(y)
    values = set(np.unique(y).tolist())
    if values == {1} or not any(values <= coding for coding in _CODINGS):
        raise ValueError(f"y must hold 0 and 1 (outlier), or 1 and -1 (outlier). Got the values {sorted(values)} instead.")
    return y == -1 if -1 in values else y == 1


def roc_auc(detector, X, y):
    """Area under the ROC curve with outliers as the positive class; a scorer, higher = better.

    Parameters
    ----------
    detector : fitted MemAEDetector
    X : array-like of shape (n_samples, ...)
    y : array-like of shape (n_samples,)
        Labels in either coding of :func:`is_outlier`.

    Returns
    -------
    area : float
        In [0, 1]; NaN, with a warning, if all samples are of one class.

    Raises
    ------
    ValueError
        If y has other values, or holds ones alone, which are outliers in one coding and inliers in the other.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV, StratifiedKFold
    >>> from skmemae import MemAEDetector, metrics
    >>> search = GridSearchCV(
    ...     MemAEDetector(random_state=0),
    ...     {"memory_size": [20, 50]},
    ...     scoring=metrics.roc_auc,
    ...     cv=StratifiedKFold(3, shuffle=True, random_state=0),
    ... )
    """
    return roc_auc_score(is_outlier(y), -detector.score_samples(X))


def average_precision(detector, X, y):
    """Average precision with outliers as the positive class; a scorer, higher = better.

    Parameters
    ----------
    detector, X, y
        As in :func:`roc_auc`.

    Returns
    -------
    precision : float
        In [0, 1]; 0, with a warning, if there are no outliers.
    """
    return average_precision_score(is_outlier(y), -detector.score_samples(X))


def precision_at_n(detector, X, y):
    """Share of outliers among the n most abnormal samples, for n outliers in y; a scorer, higher = better.

    Parameters
    ----------
    detector, X, y
        As in :func:`roc_auc`.

    Returns
    -------
    precision : float
        In [0, 1]; NaN if there are no outliers.
    """
    outlier = is_outlier(y)
    top = np.argsort(detector.score_samples(X), kind="stable")[: outlier.sum()]
    return float(outlier[top].mean()) if len(top) else float("nan")


def separation(detector, X, y=None):
    """How far rows with shuffled columns are above rows as they are; a scorer that needs no labels, higher = better.

    Each column of X is shuffled, so that values no longer belong together. The separation is the difference between the
    medians of the logarithms of both kinds of anomaly scores, in units of the interquartile range of those of X. Medians and
    quartiles take no notice of some outliers in X, and logarithms none of the unit and power of a score, so that detectors with
    different settings can be compared. Unlike the error of held-out rows, it is not smallest for what reconstructs everything.

    Parameters
    ----------
    detector : fitted MemAEDetector, or a Pipeline that ends in one
    X : array-like of shape (n_samples, d)
        Rows that were not trained on, such as those that a search holds out.
    y : Ignored
        Not used, present for API consistency.

    Returns
    -------
    separation : float
        Around 0 where the columns do not depend on each other, or the detector does not see that they do.

    Raises
    ------
    ValueError
        If X is not a table.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skmemae import MemAEDetector, metrics
    >>> X = load_wine().data
    >>> search = GridSearchCV(
    ...     MemAEDetector(random_state=0), {"memory_size": ["auto", 0]}, scoring=metrics.separation, cv=3
    ... )
    >>> search.fit(X).best_params_
    {'memory_size': 'auto'}
    """
    if np.ndim(X) != 2 or issparse(X):
        got = "a sparse matrix" if issparse(X) else f"X of shape {np.shape(X)}"
        raise ValueError(f"separation needs a table of shape (n_samples, d). Got {got} instead.")
    as_they_are = _log_scores(detector, X)
    lower, middle, upper = np.quantile(as_they_are, [0.25, 0.5, 0.75])
    shuffled = _log_scores(detector, shuffled_columns(X, np.random.default_rng(0)))
    return float((np.median(shuffled) - middle) / max(upper - lower, np.finfo(float).eps))


def _log_scores(detector, X):
    scores = -detector.score_samples(X)
    return np.log(np.maximum(scores, np.finfo(float).tiny))


def pixel_roc_auc(maps, masks):
    """Area under the ROC curve over all pixels of all frames, with abnormal pixels as the positive class; higher = better.

    Parameters
    ----------
    maps : list of array-like of shape (T, H, W)
        Anomaly scores of the pixels of each video from :func:`skmemae.video.frame_maps`; higher = more abnormal.
    masks : list of array-like of shape (T, H, W)
        Nonzero where a pixel is abnormal.

    Returns
    -------
    area : float
        In [0, 1]; NaN, with a warning, if all pixels are of one class.

    Raises
    ------
    ValueError
        If a mask has another shape than its map, or the numbers of maps and masks differ.
    """
    if len(maps) != len(masks):
        raise ValueError(f"There must be as many maps and masks. Got {len(maps)} and {len(masks)} instead.")
    for i, (pixels, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.shape(pixels) != np.shape(mask):
            raise ValueError(f"Video {i} has a map of shape {np.shape(pixels)} and a mask of shape {np.shape(mask)}.")
    scores = np.concatenate([np.asarray(pixels).ravel() for pixels in maps])
    return float(roc_auc_score(np.concatenate([np.asarray(mask).ravel() != 0 for mask in masks]), scores))

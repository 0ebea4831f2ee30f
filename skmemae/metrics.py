"""Scorers for grid search that are right under either convention and either coding of y.

scikit-learn's own scorer names take ``decision_function`` and the larger label for the positive class, so ``"roc_auc"`` is
inverted without a warning when convention and coding do not match, and ``"average_precision"`` ranks inliers when inliers
are +1. These use ``score_samples``, which has one sign everywhere, and read y as "is an outlier".
"""

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

_CODINGS = ({0, 1}, {-1, 1})


def is_outlier(y):
    """Read labels as booleans, True for outliers.

    Parameters
    ----------
    y : array-like of shape (n_samples,)
        0 and 1 (outlier) as in PyOD, or +1 and -1 (outlier) as in scikit-learn.

    Returns
    -------
    outlier : ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If y has other values, or only ones, which could mean either.
    """
    y = np.asarray(y)
    found = set(np.unique(y).tolist())
    if found == {1} or not any(found <= coding for coding in _CODINGS):
        raise ValueError(f"y must hold 0 and 1 (outlier), or 1 and -1 (outlier). Got the values {sorted(found)} instead.")
    return y == -1 if -1 in found else y == 1


def roc_auc(detector, X, y):
    """Area under the ROC curve with outliers as the positive class, a scorer ``(estimator, X, y)``; 1 is best.

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
    """Average precision with outliers as the positive class, a scorer ``(estimator, X, y)``; 1 is best."""
    return average_precision_score(is_outlier(y), -detector.score_samples(X))


def precision_at_n(detector, X, y):
    """Share of outliers among the n most abnormal samples, n being their number, a scorer ``(estimator, X, y)``; 1 is best."""
    outlier = is_outlier(y)
    top = np.argsort(detector.score_samples(X), kind="stable")[: outlier.sum()]
    return float(outlier[top].mean()) if len(top) else float("nan")


def pixel_roc_auc(maps, masks):
    """Area under the ROC curve over all pixels of all frames; 1 is best.

    Parameters
    ----------
    maps : list of array-like of shape (T, H, W)
        Anomaly of each pixel for each video, higher = more abnormal, as :func:`skmemae.video.frame_maps` gives them.
    masks : list of array-like of shape (T, H, W)
        Not 0 where a pixel is abnormal.

    Returns
    -------
    area : float

    Raises
    ------
    ValueError
        If a mask has another shape than its map, or pixels are all of one kind.
    """
    for i, (pixels, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.shape(pixels) != np.shape(mask):
            raise ValueError(f"Video {i} has a map of shape {np.shape(pixels)} and a mask of shape {np.shape(mask)}.")
    scores = np.concatenate([np.asarray(pixels).ravel() for pixels in maps])
    return float(roc_auc_score(np.concatenate([np.asarray(mask).ravel() != 0 for mask in masks]), scores))

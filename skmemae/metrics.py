"""Scorers for grid search that are right under both conventions and both label codings.

scikit-learn's scorers use ``decision_function`` and take the larger label as the positive class: ``"roc_auc"`` is silently
inverted when convention and coding do not match, and ``"average_precision"`` ranks inliers when inliers are +1. These scorers
use ``score_samples``, whose sign does not depend on the convention, and take outliers as the positive class.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.metrics import average_precision_score, roc_auc_score

_CODINGS = ({0, 1}, {-1, 1})


class _Detector(Protocol):
    """A fitted outlier detector of scikit-learn, or a Pipeline that ends in one."""

    def score_samples(self, X: Any, /) -> np.ndarray: ...


def is_outlier(y: ArrayLike) -> np.ndarray:
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
        If y has other values, or holds only ones, which are outliers in one coding and inliers in the other.
    """
    y = np.asarray(y)
    values = set(np.unique(y).tolist())
    if values == {1} or not any(values <= coding for coding in _CODINGS):
        raise ValueError(f"y must hold 0 and 1 (outlier), or 1 and -1 (outlier). Got the values {sorted(values)} instead.")
    return y == -1 if -1 in values else y == 1


def roc_auc(detector: _Detector, X: ArrayLike, y: ArrayLike) -> float:
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
    return float(roc_auc_score(*_outliers_and_scores(detector, X, y)))


def average_precision(detector: _Detector, X: ArrayLike, y: ArrayLike) -> float:
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
    return float(average_precision_score(*_outliers_and_scores(detector, X, y)))


def precision_at_n(detector: _Detector, X: ArrayLike, y: ArrayLike) -> float:
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
    outlier, scores = _outliers_and_scores(detector, X, y)
    top = np.argsort(-scores, kind="stable")[: outlier.sum()]
    return float(outlier[top].mean()) if len(top) else float("nan")


def _outliers_and_scores(detector: _Detector, X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Which samples are outliers, and anomaly scores, higher = more abnormal, under either convention."""
    outlier = is_outlier(y)
    return outlier, -detector.score_samples(X)


def separation(detector: _Detector, X: ArrayLike, y: object = None) -> float:
    """How much more abnormal rows with shuffled columns are than unchanged rows; a scorer without labels, higher = better.

    Each column of X is shuffled by itself, so that the values of a row no longer belong together. The separation is the
    difference between the medians of the logarithms of the anomaly scores of shuffled and unchanged rows, in units of the
    interquartile range of the logarithms of the unchanged rows. Medians and quartiles are hardly moved by a few outliers in X,
    and logarithms cancel the unit and the power of a score, so that detectors with different settings can be compared. The
    error of held-out rows favours a detector that reconstructs everything; the separation does not.

    Parameters
    ----------
    detector : fitted MemAEDetector, or a Pipeline that ends in one
    X : array-like of shape (n_samples, d)
        Rows that were not trained on, such as the held-out rows of a search.
    y : Ignored
        Not used, present for API consistency.

    Returns
    -------
    separation : float
        Around 0 if the columns do not depend on each other, or the detector has not learned how they do.

    Raises
    ------
    ValueError
        If X is not a dense table.

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
    lower, middle, upper = np.quantile(_log_scores(detector, X), [0.25, 0.5, 0.75])
    shuffled = _log_scores(detector, _shuffled_columns(X, np.random.default_rng(0)))
    return float((np.median(shuffled) - middle) / max(upper - lower, np.finfo(float).eps))


def _log_scores(detector: _Detector, X: ArrayLike) -> np.ndarray:
    return np.log(np.maximum(-detector.score_samples(X), np.finfo(float).tiny))


def _shuffled_columns(X: Any, rng: np.random.Generator) -> Any:
    """Table with the rows of each column in another order; a DataFrame of pandas or polars if X is one, else an array."""
    orders = [rng.permutation(np.shape(X)[0]) for _ in range(np.shape(X)[1])]
    if hasattr(X, "iloc"):  # pandas
        shuffled = X.copy()
        for i, order in enumerate(orders):
            shuffled.isetitem(i, X.iloc[order, i].array)
        return shuffled
    if hasattr(X, "to_pandas"):  # polars
        return X.select(X[name][order] for name, order in zip(X.columns, orders, strict=True))
    return np.take_along_axis(np.asarray(X), np.column_stack(orders), axis=0)


def pixel_roc_auc(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> float:
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
        If a mask and its map differ in shape, or there are not as many masks as maps.
    """
    if len(maps) != len(masks):
        raise ValueError(f"There must be as many maps and masks. Got {len(maps)} and {len(masks)} instead.")
    for i, (pixels, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.shape(pixels) != np.shape(mask):
            raise ValueError(f"Video {i} has a map of shape {np.shape(pixels)} and a mask of shape {np.shape(mask)}.")
    scores = np.concatenate([np.asarray(pixels).ravel() for pixels in maps])
    return float(roc_auc_score(np.concatenate([np.asarray(mask).ravel() != 0 for mask in masks]), scores))

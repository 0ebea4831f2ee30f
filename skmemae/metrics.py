"""Scorers for grid search that are right under both conventions and both label codings.

scikit-learn's scorers use ``decision_function`` and take the larger label as the positive class: ``"roc_auc"`` is silently
inverted when convention and coding do not match, and ``"average_precision"`` ranks inliers when inliers are +1. These scorers
use ``score_samples``, whose sign does not depend on the convention, and take outliers as the positive class.
"""

from collections.abc import Sequence
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import label
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
        Anomaly scores of the pixels of each video from :func:`skmemae.video.frame_maps`; higher = more abnormal. Images are
        taken as well, each as an array (H, W).
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


def aupro(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike], limit: float = 0.3) -> float:
    """Area under the per-region overlap curve [1]_: how well abnormal regions are found, whatever their size; higher = better.

    The per-region overlap at a threshold is the share of a region that is above it, the mean over all regions. The curve
    shows it against the share of the normal pixels above the threshold. Regions are the connected parts of the masks; pixels
    that touch at a corner are connected. :func:`pixel_roc_auc`, which counts pixels and not regions, is the larger the better a
    few large regions are found.

    Parameters
    ----------
    maps : array-like of shape (n_images, H, W), or list of array-like of shape (H, W)
        Anomaly scores of the pixels of each image, such as ``-detector.p_value_map(X)``; higher = more abnormal.
    masks : array-like of shape (n_images, H, W), or list of array-like of shape (H, W)
        0 where a pixel is normal, and one other value, such as 1, True or 255, where it is abnormal.
    limit : float in (0, 1], default=0.3
        Largest share of the normal pixels up to which the area is computed.

    Returns
    -------
    area : float
        In [0, 1]: divided by ``limit``. Maps that know nothing have ``limit / 2``.

    Raises
    ------
    ValueError
        If a mask and its map differ in shape, there are not as many masks as maps, masks have several values other than 0 or
        pixels of one class alone, maps hold NaN or infinity, or ``limit`` is out of range.

    References
    ----------
    .. [1] P. Bergmann, K. Batzner, M. Fauser, D. Sattlegger, C. Steger, "The MVTec Anomaly Detection Dataset: A Comprehensive
       Real-World Dataset for Unsupervised Anomaly Detection", International Journal of Computer Vision 129, 2021.

    Examples
    --------
    >>> from skmemae import metrics
    >>> mask = [[0, 0, 0], [0, 1, 1]]
    >>> metrics.aupro([[[0, 0, 0], [0, 2, 2]]], [mask]), metrics.aupro([[[3, 0, 0], [0, 2, 2]]], [mask], limit=0.5)
    (1.0, 0.5)
    """
    if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 < limit <= 1:
        raise ValueError(f"The 'limit' parameter of aupro must be a float in the range (0.0, 1.0]. Got {limit!r} instead.")
    scores, weights = _scores_and_weights(maps, masks)
    order = np.argsort(-scores, kind="stable")
    scores, weights = scores[order], weights[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of equal scores: they pass a threshold together
    false_positives, overlap = (np.append(0.0, np.cumsum(part)[last]) for part in (weights == 0, weights))
    false_positives, overlap = false_positives / false_positives[-1], overlap / overlap[-1]
    stop = np.searchsorted(false_positives, limit)  # the first point at the limit or beyond
    before, step = false_positives[stop - 1], overlap[stop] - overlap[stop - 1]
    at_limit = overlap[stop - 1] + step * (limit - before) / (false_positives[stop] - before)
    x, y = np.append(false_positives[:stop], limit), np.append(overlap[:stop], at_limit)
    return float(np.clip(np.trapezoid(y, x) / limit, 0, 1))


def _scores_and_weights(maps: Sequence[ArrayLike], masks: Sequence[ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of all pixels, and their weights: one over the size of their region, 0 for normal pixels.

    Raises
    ------
    ValueError
        If maps and masks do not fit, or are not accepted.
    """
    if len(maps) != len(masks) or not len(maps):
        raise ValueError(f"There must be as many maps and masks, at least one. Got {len(maps)} and {len(masks)} instead.")
    weights = []
    for i, (pixels, mask) in enumerate(zip(maps, masks, strict=True)):
        if np.ndim(mask) != 2 or np.shape(pixels) != np.shape(mask):
            raise ValueError(
                f"Maps and masks must be images (H, W). Image {i} has a map of shape {np.shape(pixels)} and a mask of shape "
                f"{np.shape(mask)}."
            )
        regions, _ = label(np.asarray(mask) != 0, structure=np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())
        weights.append(np.where(regions > 0, 1 / np.maximum(sizes, 1)[regions], 0).ravel())
    values = sorted({value for mask in masks for value in np.unique(np.asarray(mask)).tolist()})
    if len(values) != 2 or 0 not in values:
        raise ValueError(
            "The 'masks' parameter of aupro must hold 0 where a pixel is normal, and one other value where it is abnormal. "
            f"Got {len(values)} values from {values[0]} to {values[-1]} instead."
        )
    scores = np.concatenate([np.asarray(pixels).ravel() for pixels in maps])
    if not np.isfinite(scores).all():
        raise ValueError("The 'maps' parameter of aupro must hold finite numbers. Got NaN or infinity.")
    return scores, np.concatenate(weights)

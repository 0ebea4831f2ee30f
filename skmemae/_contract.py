"""Labels, thresholds and p-values under both detector contracts, PyOD's and scikit-learn's, on top of ``score_samples``."""

import copy
import math
from collections.abc import Callable
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from pyod.models.base import BaseDetector
from scipy.special import erf
from scipy.stats import binom
from sklearn.base import BaseEstimator
from sklearn.metrics import precision_recall_curve
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from skmemae._runtime import warn_caller
from skmemae._validation import is_finite
from skmemae.metrics import is_outlier

_LEAST_NOISE = 1e-5  # relative, of scores in float32
_WHISKER = 1.5  # interquartile ranges (Tukey 1977)


class DualContract(BaseEstimator):
    """Methods that follow from ``score_samples`` under each convention.

    A subclass has the parameters ``contamination`` and ``convention``, implements ``fit`` and ``score_samples``, and calls
    ``_set_training_scores`` with the anomaly scores of the training samples.
    """

    contamination: Any
    convention: str
    threshold_: float
    labels_: np.ndarray
    _outlier_share: float
    fit_predict_score = BaseDetector.fit_predict_score

    def fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Train on X."""
        raise NotImplementedError

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Minus the anomaly scores."""
        raise NotImplementedError

    def _set_training_scores(
        self, scores: np.ndarray, noise: float = 0.0, calibration_scores: np.ndarray | None = None
    ) -> None:
        """Set the attributes that PyOD's and scikit-learn's contracts derive from the training scores.

        ``noise`` is their relative rounding noise, ``calibration_scores`` are those of held-out samples; None stands for the
        training scores themselves.
        """
        self.decision_scores_ = scores
        self.calibration_scores_ = scores if calibration_scores is None else calibration_scores
        self._sort_scores()
        self._noise = noise
        self._classes = 2
        self._mu, self._sigma = float(np.mean(scores)), float(np.std(scores))
        self._set_threshold(self._contamination_threshold(self.contamination), self.contamination)

    def _sort_scores(self) -> None:
        """Sort the scores that every new score is compared with, once."""
        self._ascending_scores = np.sort(self.decision_scores_)
        same = self.calibration_scores_ is self.decision_scores_
        self._ascending_calibration = self._ascending_scores if same else np.sort(self.calibration_scores_)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        for name in ("_ascending_scores", "_ascending_calibration"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "decision_scores_" in state:
            self._sort_scores()

    def _contamination_threshold(self, contamination: Any) -> float:
        automatic = isinstance(contamination, str) and len(self.calibration_scores_) > 0
        scores = self.calibration_scores_ if automatic else self.decision_scores_
        return contamination_threshold(contamination, scores, self._noise)

    def _set_threshold(self, threshold: float, contamination: Any = None) -> None:
        labels = (self.decision_scores_ > threshold).astype(int)
        share = float(contamination if isinstance(contamination, Real) else labels.mean())
        self.threshold_, self.labels_, self._outlier_share = threshold, labels, share

    @property
    def offset_(self) -> float:
        """Minus ``threshold_``: samples whose ``score_samples`` is below are outliers."""
        check_is_fitted(self, "threshold_")
        return -self.threshold_

    def set_threshold(
        self,
        contamination: Any = None,
        *,
        threshold: float | None = None,
        false_alarm_rate: float | None = None,
        X_valid: ArrayLike | None = None,
        y_valid: ArrayLike | None = None,
    ) -> Self:
        """Move the border between inliers and outliers without a refit, in one of four ways.

        Parameters
        ----------
        contamination : float in (0, 0.5], "auto" or PyThresh-like object, optional
            New share of outliers among the training samples; "auto" as in the parameter of the same name.
        threshold : float, optional
            New anomaly score above which a sample is an outlier.
        false_alarm_rate : float in (0, 1), optional
            Largest probability that a new normal sample is labelled an outlier: the threshold is the conformal quantile of
            ``calibration_scores_``. The rate holds for samples of the same distribution as the training data. If the training
            data holds outliers, the rate of false alarms is lower.
        X_valid : array-like of shape (n_samples, ...), optional
            Labelled samples; the threshold is the one with the largest F1 on them.
        y_valid : array-like of shape (n_samples,), optional
            Labels of ``X_valid``: 0 and 1 (outlier), or +1 and -1 (outlier).

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If none or several are given, one is out of range, there are too few calibration scores for the rate, or labels are
            of one class. The detector is then as it was.

        Examples
        --------
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> rng = np.random.default_rng(0)
        >>> detector = MemAEDetector(random_state=0).fit(rng.normal(size=(500, 4)))
        >>> detector = detector.set_threshold(false_alarm_rate=0.01)
        >>> int(detector.predict(rng.normal(size=(500, 4))).sum()) < 15
        True
        """
        check_is_fitted(self, "decision_scores_")
        ways = {"contamination": contamination, "threshold": threshold, "false_alarm_rate": false_alarm_rate}
        given = [name for name, value in ways.items() if value is not None]
        given += ["X_valid, y_valid"] if X_valid is not None or y_valid is not None else []
        if len(given) != 1:
            raise ValueError(
                "set_threshold needs one of contamination, threshold, false_alarm_rate, or X_valid and y_valid. "
                f"Got {' and '.join(given) or 'none'} instead."
            )
        if threshold is not None:
            self._set_threshold(_checked("threshold", threshold, lambda number: True, "a finite number"))
        elif false_alarm_rate is not None:
            rate = _checked("false_alarm_rate", false_alarm_rate, lambda rate: 0 < rate < 1, "a float in the range (0.0, 1.0)")
            self._set_threshold(false_alarm_threshold(rate, self.calibration_scores_, self._noise))
        elif contamination is not None:
            self._check_contamination(contamination)
            self._set_threshold(self._contamination_threshold(contamination), contamination)
        else:
            self._set_threshold(self._validated_threshold(X_valid, y_valid))
        return self

    @staticmethod
    def _check_contamination(contamination: Any) -> None:
        accepted = hasattr(contamination, "fit") or (isinstance(contamination, str) and contamination == "auto")
        if not accepted:
            meaning = "a float in the range (0.0, 0.5], 'auto' or an object with a method fit"
            _checked("contamination", contamination, lambda share: 0 < share <= 0.5, meaning)

    def _validated_threshold(self, X_valid: ArrayLike | None, y_valid: ArrayLike | None) -> float:
        """The threshold with the largest F1 on labelled samples."""
        if X_valid is None or y_valid is None:
            raise ValueError("set_threshold needs X_valid and y_valid together. Got one of them alone.")
        outlier, scores = is_outlier(y_valid), -self.score_samples(X_valid)
        if outlier.shape != scores.shape:
            raise ValueError(
                f"y_valid has shape {outlier.shape}, but X_valid has {len(scores)} samples: one label each is needed."
            )
        if outlier.all() or not outlier.any():
            raise ValueError("y_valid must hold labels of both inliers and outliers.")
        return best_f1_threshold(scores, outlier)

    def p_values(self, X: ArrayLike, X_calibration: ArrayLike | None = None) -> np.ndarray:
        """Conformal p-values: how likely a normal sample would be at least as abnormal [1]_.

        The p-values of new normal samples are uniform on the multiples of ``1 / (n_calibration + 1)`` up to 1, or larger if the
        training data holds outliers. The p-values of outliers are small. To find outliers among many samples at a given rate of
        false discoveries, adjust the p-values by ``scipy.stats.false_discovery_control``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        X_calibration : array-like of shape (n_calibration, ...), optional
            Normal samples that were not used in ``fit``, to compare with in place of ``calibration_scores_``.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            The share of calibration scores that are at least as large as the sample's own score, which counts as one of them:
            in ``[1 / (n_calibration + 1), 1]``, lower = more abnormal, the same under both conventions.

        Raises
        ------
        ValueError
            If there are no calibration scores and no ``X_calibration``.

        References
        ----------
        .. [1] Bates, Candes, Lei, Romano, Sesia, "Testing for outliers with conformal p-values", Annals of Statistics 2023,
           equation 2.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skmemae import MemAEDetector
        >>> rng = np.random.default_rng(0)
        >>> detector = MemAEDetector(random_state=0).fit(rng.normal(size=(500, 4)))
        >>> p_values = detector.p_values(np.vstack([rng.normal(size=(50, 4)), np.full((3, 4), 6.0)]))
        >>> np.flatnonzero(false_discovery_control(p_values) < 0.1)
        array([50, 51, 52])
        """
        check_is_fitted(self, "decision_scores_")
        ascending = self._ascending_calibration
        if X_calibration is not None:
            ascending = np.sort(-self.score_samples(X_calibration))
        if len(ascending) == 0:
            raise ValueError(
                "p_values needs samples that were held out from training, and this detector has none: give X_calibration, or "
                "fit with validation_fraction above 0."
            )
        return conformal_p_values(-self.score_samples(X), ascending, self._noise)

    def decision_function(self, X: ArrayLike) -> np.ndarray:
        """Score samples in the sense of ``convention``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            ``convention="pyod"``: the anomaly score, higher = more abnormal.
            ``convention="sklearn"``: ``score_samples(X) - offset_``, negative = outlier.
        """
        return self._decide(self.score_samples(X))

    def predict(self, X: ArrayLike, return_confidence: bool = False) -> Any:
        """Label samples as inliers or outliers, in the coding of ``convention``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        return_confidence : bool, default=False
            Also return ``predict_confidence(X)``.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
            ``convention="pyod"``: 0 inlier, 1 outlier. ``convention="sklearn"``: +1 inlier, -1 outlier.
        confidence : ndarray of shape (n_samples,)
            Only with ``return_confidence``.
        """
        normality = self.score_samples(X)
        labels = self._label(self._decide(normality))
        return (labels, self._confidence(-normality)) if return_confidence else labels

    def fit_predict(self, X: ArrayLike, y: Any = None) -> np.ndarray:
        """Fit and return the labels of the training samples, coded as in :meth:`predict`.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        y : Ignored

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
        """
        return self._label(self._decide(-self.fit(X).decision_scores_))

    def predict_proba(self, X: ArrayLike, method: str = "linear", return_confidence: bool = False) -> Any:
        """Probability of being an outlier; the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        method : {"linear", "unify"}, default="linear"
            "linear": the score, scaled so that training scores lie in [0, 1], and clipped. "unify": the error function of the
            standardised score (Kriegel et al. 2011).
        return_confidence : bool, default=False
            Also return ``predict_confidence(X)``.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, 2)
            Columns: inlier, outlier.
        confidence : ndarray of shape (n_samples,)
            Only with ``return_confidence``.
        """
        if method not in ("linear", "unify"):
            raise ValueError(f"The 'method' parameter of predict_proba must be 'linear' or 'unify'. Got {method!r} instead.")
        scores = -self.score_samples(X)
        if method == "linear":
            low, high = self._ascending_scores[[0, -1]]
            outlier = (scores - low) / (high - low if high > low else 1.0)
        else:
            outlier = erf((scores - self._mu) / ((self._sigma or 1.0) * np.sqrt(2)))
        outlier = outlier.clip(0, 1)
        probabilities = np.column_stack([1 - outlier, outlier])
        return (probabilities, self._confidence(scores)) if return_confidence else probabilities

    def predict_confidence(self, X: ArrayLike) -> np.ndarray:
        """Probability that a label stays the same under small changes of the training set (Perini et al. 2020).

        It is the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        confidence : ndarray of shape (n_samples,)
            Between 0 and 1.
        """
        return self._confidence(-self.score_samples(X))

    def predict_with_rejection(
        self,
        X: ArrayLike,
        T: int = 32,
        return_stats: bool = False,
        delta: float = 0.1,
        c_fp: float = 1,
        c_fn: float = 1,
        c_r: float = -1,
    ) -> Any:
        """Labels in PyOD's coding, with samples of low confidence rejected; the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        T : int, default=32
            Labels with ``2 * abs(confidence - 0.5) <= 1 - 2 * exp(-T)`` are rejected.
        return_stats : bool, default=False
            Also return the estimated rejection rate, its upper bound, and the upper bound of the cost.
        delta, c_fp, c_fn, c_r : float
            See ``compute_rejection_stats`` of PyOD's detectors.

        Returns
        -------
        labels : ndarray of shape (n_samples,), int
            0 inlier, 1 outlier, -2 rejected.
        stats : list of three floats
            Only with ``return_stats``.
        """
        scores = -self.score_samples(X)
        labels = (scores > self.threshold_).astype(int)
        labels[2 * np.abs(self._confidence(scores) - 0.5) <= 1 - 2 * np.exp(-T)] = -2
        if not return_stats:
            return labels
        return labels, list(self.compute_rejection_stats(T=T, delta=delta, c_fp=c_fp, c_fn=c_fn, c_r=c_r))

    def compute_rejection_stats(self, *args: Any, **kwargs: Any) -> tuple[float, float, float]:
        """Estimated rejection rate, its upper bound, and the upper bound of the cost, as PyOD computes them."""
        check_is_fitted(self, "decision_scores_")
        flagged = _Flagged(self.decision_scores_, self.threshold_, self.labels_, self._outlier_share)
        return BaseDetector.compute_rejection_stats(flagged, *args, **kwargs)

    def _predict_rank(self, X: ArrayLike, normalized: bool = False) -> np.ndarray:
        """Rank of each sample's anomaly score among the training scores, for PyOD's combination methods."""
        scores = -self.score_samples(X)
        ranks = np.searchsorted(self._ascending_scores, scores)
        return ranks / max(ranks.max(), 1) if normalized else ranks

    @property
    def _is_sklearn(self) -> bool:
        """Whether results are in scikit-learn's convention, which may have been set after the fit."""
        if self.convention not in ("pyod", "sklearn"):
            raise ValueError(f"The 'convention' parameter must be 'pyod' or 'sklearn'. Got {self.convention!r} instead.")
        return self.convention == "sklearn"

    def _decide(self, normality: np.ndarray) -> np.ndarray:
        """``decision_function`` from the result of ``score_samples``."""
        return normality - self.offset_ if self._is_sklearn else -normality

    def _label(self, decision: np.ndarray) -> np.ndarray:
        """Labels from the result of ``decision_function``, in the coding of ``convention``."""
        if self._is_sklearn:
            return np.where(decision < 0, -1, 1)
        return (decision > self.threshold_).astype(int)

    def _confidence(self, scores: np.ndarray) -> np.ndarray:
        n = len(self.decision_scores_)
        not_above = np.searchsorted(self._ascending_scores, scores, side="right")
        confidence = 1 - binom.cdf(n - int(n * self._outlier_share), n, (1 + not_above) / (2 + n))
        return np.where(scores > self.threshold_, confidence, 1 - confidence)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        tags.input_tags.three_d_array = True
        return tags


def _checked(name: str, value: Any, accepts: Callable[[float], bool], meaning: str) -> float:
    """A parameter of ``set_threshold`` as a float, if it is accepted."""
    if not isinstance(value, Real) or isinstance(value, bool) or not is_finite(value) or not accepts(float(value)):
        raise ValueError(f"The {name!r} parameter of set_threshold must be {meaning}. Got {value!r} instead.")
    return float(value)


class _Flagged(BaseEstimator):
    """Attributes that PyOD's statistics of rejection read; ``contamination`` is the share of outliers of the threshold."""

    fit = None  # scikit-learn accepts only classes with this attribute as estimators

    def __init__(self, decision_scores: np.ndarray, threshold: float, labels: np.ndarray, share: float):
        self.decision_scores_, self.threshold_, self.labels_ = decision_scores, threshold, labels
        self.contamination = min(max(share, (1 + 1e-9) / len(decision_scores)), 0.5)


def contamination_threshold(contamination: Any, scores: np.ndarray, noise: float = 0.0) -> float:
    """The anomaly score above which a sample is an outlier.

    Parameters
    ----------
    contamination : float, "auto" or PyThresh-like object
        "auto" takes the upper fence of a box plot of the scores' logarithms. A float takes the ``1 - contamination`` quantile
        of the scores. Both are multiplied by ``1 + max(1e-5, 10 * noise)``, so that samples whose score equals the quantile get
        the same label, however their scores are rounded. Of an object a copy is fitted, and the threshold lies halfway between
        the scores that the copy labels 0 and those that it labels 1.
    scores : ndarray of shape (n_samples,)
        Scores of the training samples; for "auto" preferably of held-out samples.
    noise : float, default=0.0
        Rounding noise: the relative difference between scores of a sample in batches of different sizes.

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
    """The conformal quantile: a new sample like the calibration samples has a higher score with probability ``rate`` at most.

    Parameters
    ----------
    rate : float in (0, 1)
    calibration_scores : ndarray of shape (n,)
        Anomaly scores of held-out samples.
    noise : float, default=0.0
        As in :func:`contamination_threshold`.

    Raises
    ------
    ValueError
        If there are fewer than ``1 / rate - 1`` calibration scores.
    """
    n = len(calibration_scores)
    rank = max(1, math.ceil((n + 1) * (1 - rate) - 1e-9))  # (n + 1) * (1 - rate) is seldom exact
    if rank > n:
        raise ValueError(
            f"false_alarm_rate={rate} needs at least {np.ceil(1 / rate - 1 - 1e-9):.15g} samples that were held out from "
            f"training, and this detector has {n}: give a larger rate, fit on more samples, or set contamination or threshold."
        )
    return float(np.partition(calibration_scores, rank - 1)[rank - 1]) * _above(noise)


def best_f1_threshold(scores: np.ndarray, outlier: np.ndarray) -> float:
    """The threshold with the largest F1, halfway between two scores; a sample with a higher score is labelled an outlier.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Higher = more abnormal.
    outlier : ndarray of bool of shape (n,)
        True for outliers; both classes must occur.
    """
    precision, recall, thresholds = precision_recall_curve(outlier, scores)
    f1 = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], np.finfo(float).tiny)
    best = thresholds[len(f1) - 1 - np.argmax(f1[::-1])]  # the largest threshold with the best F1: fewest alarms
    below = scores[scores < best]
    highest = float(np.nextafter(best, -np.inf))
    return min(float(below.max() + (best - below.max()) / 2), highest) if len(below) else highest


def conformal_p_values(scores: np.ndarray, ascending: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """Conformal p-value of each score: the share of calibration scores, and the score itself, that are at least as large: (n,).

    Equation 2 of Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023. ``ascending`` holds
    the sorted calibration scores. Scores that differ by less than their noise count as equal.
    """
    n = len(ascending)
    return (1 + n - np.searchsorted(ascending, scores / _above(noise))) / (n + 1)


def _above(noise: float) -> float:
    """Factor above 1: a score that is larger than another by this factor is larger by more than rounding noise."""
    return 1 + max(_LEAST_NOISE, 10 * noise)


def _fence(scores: np.ndarray) -> float:
    """The upper fence of a box plot of the scores' logarithms."""
    first, third = np.percentile(np.log(np.maximum(scores, np.finfo(float).tiny)), [25, 75])
    return float(np.exp(min(third + _WHISKER * (third - first), math.log(np.finfo(float).max) - 1)))

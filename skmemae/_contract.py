"""Both detector contracts, PyOD's and scikit-learn's, on top of ``score_samples``."""

import contextlib
import copy
from numbers import Real

import numpy as np
from pyod.models.base import BaseDetector
from scipy.special import erf
from scipy.stats import binom
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skmemae._resolve import is_finite
from skmemae._warnings import warn_caller

_LEAST_NOISE = 1e-5  # relative, of scores in float32


@contextlib.contextmanager
def unchanged_on_error(estimator):
    """Put an estimator's attributes back if the block fails or is interrupted."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


class DualContractDetector(BaseDetector):
    """What follows from ``score_samples`` under each convention.

    A subclass has the parameters ``contamination`` and ``convention``, implements ``fit`` and ``score_samples``, and calls
    ``_set_training_scores`` with the anomaly scores of the training samples.
    """

    # PyOD carries old copies of these; scikit-learn's know about nested estimators, the HTML repr and changed parameters.
    _get_param_names: classmethod = classmethod(BaseEstimator._get_param_names.__func__)
    get_params = BaseEstimator.get_params
    set_params = BaseEstimator.set_params
    __repr__ = BaseEstimator.__repr__

    def _set_training_scores(self, scores, noise=0.0) -> None:
        """Set what PyOD's and scikit-learn's contracts derive from the training scores, and their relative rounding noise."""
        self.decision_scores_ = scores
        self._noise = noise
        self._classes = 2
        self._mu, self._sigma = float(np.mean(scores)), float(np.std(scores))
        self._set_threshold(contamination_threshold(self.contamination, scores, noise), self.contamination)

    def _set_threshold(self, threshold: float, contamination=None) -> None:
        labels = (self.decision_scores_ > threshold).astype(int)
        share = float(contamination if isinstance(contamination, Real) else labels.mean())
        self.__dict__.update(threshold_=threshold, labels_=labels, _outlier_share=share)  # at once, whatever interrupts

    @property
    def offset_(self):
        """Minus ``threshold_``: samples whose ``score_samples`` is below are outliers."""
        check_is_fitted(self, "threshold_")
        return -self.threshold_

    def set_threshold(self, contamination=None, *, threshold=None):
        """Move the border between inliers and outliers without a refit.

        Parameters
        ----------
        contamination : float in (0, 0.5] or PyThresh-like object, optional
            New share of outliers among the training samples.
        threshold : float, optional
            New anomaly score above which a sample is an outlier. Give one of the two.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If both or none are given, or one is out of range. The detector is then as it was.
        """
        check_is_fitted(self, "decision_scores_")
        if (contamination is None) == (threshold is None):
            raise ValueError("set_threshold needs either contamination or threshold, not both and not neither.")
        if threshold is not None:
            if not isinstance(threshold, Real) or isinstance(threshold, bool) or not is_finite(threshold):
                raise ValueError(
                    f"The 'threshold' parameter of set_threshold must be a finite number. Got {threshold!r} instead."
                )
            self._set_threshold(float(threshold))
            return self
        if isinstance(contamination, Real):
            accepted = is_finite(contamination) and 0 < float(contamination) <= 0.5 and not isinstance(contamination, bool)
        else:
            accepted = hasattr(contamination, "fit")
        if not accepted:
            raise ValueError(
                "The 'contamination' parameter of set_threshold must be a float in the range (0.0, 0.5] or an object with a "
                f"method fit. Got {contamination!r} instead."
            )
        self._set_threshold(contamination_threshold(contamination, self.decision_scores_, self._noise), contamination)
        return self

    def decision_function(self, X):
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

    def predict(self, X, return_confidence=False):
        """Tell outliers from inliers.

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

    def fit_predict(self, X, y=None):
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

    def predict_proba(self, X, method="linear", return_confidence=False):
        """Probability of being an outlier; the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        method : {"linear", "unify"}, default="linear"
            Training scores scaled to [0, 1], or the error function of the standardised score (Kriegel et al. 2011).
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
            low, high = self.decision_scores_.min(), self.decision_scores_.max()
            outlier = (scores - low) / (high - low if high > low else 1.0)
        else:
            outlier = erf((scores - self._mu) / ((self._sigma or 1.0) * np.sqrt(2)))
        outlier = outlier.clip(0, 1)
        probabilities = np.column_stack([1 - outlier, outlier])
        return (probabilities, self._confidence(scores)) if return_confidence else probabilities

    def predict_confidence(self, X):
        """How sure each label is under small changes of the training set (Perini et al. 2020); the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        confidence : ndarray of shape (n_samples,)
            Between 0 and 1.
        """
        return self._confidence(-self.score_samples(X))

    def predict_with_rejection(self, X, T=32, return_stats=False, delta=0.1, c_fp=1, c_fn=1, c_r=-1):
        """Labels in PyOD's coding with unsure samples rejected; the same under both conventions.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        T : int, default=32
            Labels whose confidence, scaled to [0, 1], does not exceed ``1 - 2 exp(-T)`` are rejected.
        return_stats : bool, default=False
            Also return the estimated rejection rate and its upper bound and the upper bound of the cost.
        delta, c_fp, c_fn, c_r : float
            See :meth:`compute_rejection_stats`.

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

    def _predict_rank(self, X, normalized=False):
        """Rank of each sample's anomaly score among the training scores, as PyOD's combination methods ask for it."""
        scores = -self.score_samples(X)
        ranks = np.searchsorted(np.sort(self.decision_scores_), scores)
        return ranks / max(ranks.max(), 1) if normalized else ranks

    def _decide(self, normality):
        """``decision_function`` of what ``score_samples`` returns."""
        return normality - self.offset_ if self.convention == "sklearn" else -normality

    def _label(self, decision):
        """Labels of what ``decision_function`` returns, in the coding of ``convention``."""
        if self.convention == "sklearn":
            return np.where(decision < 0, -1, 1)
        return (decision > self.threshold_).astype(int)

    def _confidence(self, scores):
        n = len(self.decision_scores_)
        not_above = np.searchsorted(np.sort(self.decision_scores_), scores, side="right")
        confidence = 1 - binom.cdf(n - int(n * self._outlier_share), n, (1 + not_above) / (2 + n))
        return np.where(scores > self.threshold_, confidence, 1 - confidence)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "outlier_detector"
        tags.input_tags.three_d_array = True
        return tags


def contamination_threshold(contamination, scores, noise=0.0) -> float:
    """The anomaly score above which a sample is an outlier.

    Parameters
    ----------
    contamination : float or PyThresh-like object
        A float takes that quantile of the scores, raised by a hundred-thousandth, or ten times their noise if that is more:
        rows that share the score at the quantile stay on one side, however their scores round. Of an object a copy is fitted,
        and the threshold lies halfway between the scores that it labels 0 and those that it labels 1.
    scores : ndarray of shape (n_samples,)
        Of the training samples.
    noise : float, default=0.0
        By how much the score of a sample differs between batches of different sizes, relative to the score.

    Returns
    -------
    threshold : float
    """
    above = 1 + max(_LEAST_NOISE, 10 * noise)
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

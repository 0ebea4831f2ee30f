"""Both detector contracts, PyOD's and scikit-learn's, on top of ``score_samples``."""

import contextlib
from numbers import Real

import numpy as np
from pyod.models.base import BaseDetector
from scipy.special import erf
from scipy.stats import binom
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skmemae._html import DocumentedDetector
from skmemae._resolve import is_finite
from skmemae._threshold import best_f1_threshold, conformal_p_values, contamination_threshold, false_alarm_threshold
from skmemae.metrics import is_outlier


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


class DualContractDetector(DocumentedDetector, BaseDetector):
    """What follows from ``score_samples`` under each convention.

    A subclass has the parameters ``contamination`` and ``convention``, implements ``fit`` and ``score_samples``, and calls
    ``_set_training_scores`` with the anomaly scores of the training samples.
    """

    # PyOD carries old copies of these; scikit-learn's know about nested estimators, the HTML repr and changed parameters.
    _get_param_names: classmethod = classmethod(BaseEstimator._get_param_names.__func__)
    get_params = BaseEstimator.get_params
    set_params = BaseEstimator.set_params
    __repr__ = BaseEstimator.__repr__

    def _set_training_scores(self, scores, noise=0.0, calibration_scores=None) -> None:
        """Set what PyOD's and scikit-learn's contracts derive from the training scores.

        ``noise`` is their relative rounding noise, ``calibration_scores`` are those of samples that were not trained on; None
        stands for the training scores themselves.
        """
        self.decision_scores_ = scores
        self.calibration_scores_ = scores if calibration_scores is None else calibration_scores
        self._noise = noise
        self._classes = 2
        self._mu, self._sigma = float(np.mean(scores)), float(np.std(scores))
        self._set_threshold(self._contamination_threshold(self.contamination), self.contamination)

    def _contamination_threshold(self, contamination) -> float:
        automatic = isinstance(contamination, str) and len(self.calibration_scores_) > 0
        scores = self.calibration_scores_ if automatic else self.decision_scores_
        return contamination_threshold(contamination, scores, self._noise)

    def _set_threshold(self, threshold: float, contamination=None) -> None:
        labels = (self.decision_scores_ > threshold).astype(int)
        share = float(contamination if isinstance(contamination, Real) else labels.mean())
        self.__dict__.update(threshold_=threshold, labels_=labels, _outlier_share=share)  # at once, whatever interrupts

    @property
    def offset_(self):
        """Minus ``threshold_``: samples whose ``score_samples`` is below are outliers."""
        check_is_fitted(self, "threshold_")
        return -self.threshold_

    def set_threshold(self, contamination=None, *, threshold=None, false_alarm_rate=None, X_valid=None, y_valid=None):
        """Move the border between inliers and outliers without a refit, in one of four ways.

        Parameters
        ----------
        contamination : float in (0, 0.5], "auto" or PyThresh-like object, optional
            New share of outliers among the training samples; "auto" as in the parameter of the same name.
        threshold : float, optional
            New anomaly score above which a sample is an outlier.
        false_alarm_rate : float in (0, 1), optional
            Probability with which a new normal sample may be called an outlier: the threshold is the conformal quantile of
            ``calibration_scores_``. It holds for samples of the kind of the training data, and is cautious where that
            holds outliers.
        X_valid : array-like of shape (n_samples, ...), optional
            Labelled samples: the threshold gives them the largest F1.
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
            self._set_threshold(_checked("threshold", threshold, is_finite, "a finite number"))
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
    def _check_contamination(contamination):
        accepted = hasattr(contamination, "fit") or (isinstance(contamination, str) and contamination == "auto")
        if not accepted:
            meaning = "a float in the range (0.0, 0.5], 'auto' or an object with a method fit"
            _checked("contamination", contamination, lambda share: 0 < share <= 0.5, meaning)

    def _validated_threshold(self, X_valid, y_valid) -> float:
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

    def p_values(self, X, X_calibration=None):
        """Conformal p-values: how likely a normal sample would be at least as abnormal [1]_.

        Those of new normal samples are uniform in (0, 1] as far as they can tell ``1 / (n_calibration + 1)``, or larger where
        the training data holds outliers; those of outliers are small. To find outliers among many samples at a given rate
        of false discoveries, adjust them by ``scipy.stats.false_discovery_control``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        X_calibration : array-like of shape (n_calibration, ...), optional
            Normal samples that were not used in ``fit``, to compare with in place of ``calibration_scores_``.

        Returns
        -------
        p_values : ndarray of shape (n_samples,)
            The share of calibration scores that are at least as large, the sample itself counted among them: in
            ``[1 / (n_calibration + 1), 1]``, the same under both conventions.

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
        scores = self.calibration_scores_ if X_calibration is None else -self.score_samples(X_calibration)
        if len(scores) == 0:
            raise ValueError(
                "p_values needs samples that were not trained on, of which this detector has none: give X_calibration, or fit "
                "with validation_fraction above 0."
            )
        return conformal_p_values(-self.score_samples(X), scores, self._noise)

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

    def compute_rejection_stats(self, *args, **kwargs):
        """As PyOD's, of the share of outliers that the threshold came from, whatever ``contamination`` is."""
        check_is_fitted(self, "decision_scores_")
        flagged = _Flagged(self.decision_scores_, self.threshold_, self.labels_, self._outlier_share)
        return BaseDetector.compute_rejection_stats(flagged, *args, **kwargs)

    def _predict_rank(self, X, normalized=False):
        """Rank of each sample's anomaly score among the training scores, as PyOD's combination methods ask for it."""
        scores = -self.score_samples(X)
        ranks = np.searchsorted(np.sort(self.decision_scores_), scores)
        return ranks / max(ranks.max(), 1) if normalized else ranks

    @property
    def _is_sklearn(self):
        """Whether results are in scikit-learn's convention, which may have been set after the fit."""
        if self.convention not in ("pyod", "sklearn"):
            raise ValueError(f"The 'convention' parameter must be 'pyod' or 'sklearn'. Got {self.convention!r} instead.")
        return self.convention == "sklearn"

    def _decide(self, normality):
        """``decision_function`` of what ``score_samples`` returns."""
        return normality - self.offset_ if self._is_sklearn else -normality

    def _label(self, decision):
        """Labels of what ``decision_function`` returns, in the coding of ``convention``."""
        if self._is_sklearn:
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


def _checked(name, value, accepts, meaning) -> float:
    """A parameter of ``set_threshold`` as a float, once it is known to be accepted."""
    if not isinstance(value, Real) or isinstance(value, bool) or not is_finite(value) or not accepts(float(value)):
        raise ValueError(f"The {name!r} parameter of set_threshold must be {meaning}. Got {value!r} instead.")
    return float(value)


class _Flagged(BaseEstimator):
    """What PyOD's statistics of rejection ask a detector for, with the share of outliers that the threshold came from."""

    fit = None  # by which scikit-learn knows what can be fitted

    def __init__(self, decision_scores, threshold, labels, share):
        self.decision_scores_, self.threshold_, self.labels_ = decision_scores, threshold, labels
        self.contamination = min(max(share, (1 + 1e-9) / len(decision_scores)), 0.5)

"""Curves and histograms of one Axes: training, scores and the normality of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skmemae.display._drawing import axes_or_new, text_colour, use_log_scale
from skmemae.display._samples import check_shape, check_values
from skmemae.metrics import is_outlier

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skmemae._detector import MemAEDetector

_SKEWED = 10.0  # the axis is logarithmic if the largest score is more than so many times the median
_BINS = 30


class TrainingCurveDisplay:
    """Curves of the training objective and the held-out error by epoch.

    Parameters
    ----------
    loss_curve : array-like of shape (n_epochs,)
        Objective per training sample.
    validation_curve : array-like of shape (n_epochs,) or empty, default=()
        Error per held-out sample; empty if no samples were held out.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    ax_ : matplotlib Axes
        Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If the curves are not vectors of finite numbers, or differ in length.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import TrainingCurveDisplay
    >>> detector = MemAEDetector(max_epochs=3, random_state=0).fit(load_digits().images)
    >>> TrainingCurveDisplay.from_estimator(detector).plot().ax_.get_lines()[0].get_xdata()
    array([1, 2, 3])
    """

    def __init__(self, loss_curve: ArrayLike, validation_curve: ArrayLike = ()) -> None:
        self.loss_curve = check_values(loss_curve, "loss_curve", "TrainingCurveDisplay")
        self.validation_curve = np.asarray(validation_curve)
        if self.validation_curve.size:
            check_values(validation_curve, "validation_curve", "TrainingCurveDisplay")
            check_shape(validation_curve, self.loss_curve.shape, "validation_curve", "loss_curve", "TrainingCurveDisplay")

    @classmethod
    def from_estimator(cls, detector: MemAEDetector) -> Self:
        """Create the display from a fitted detector.

        Parameters
        ----------
        detector : MemAEDetector

        Returns
        -------
        display : TrainingCurveDisplay
        """
        check_is_fitted(detector, "loss_curve_")
        return cls(detector.loss_curve_, detector.validation_curve_)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the curves, on a logarithmic axis if all values are positive.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self : TrainingCurveDisplay
        """
        self.ax_ = ax = axes_or_new(ax, (5.5, 3.5))
        self.figure_ = ax.figure
        curves = {"training objective": self.loss_curve, "held-out error": self.validation_curve}
        for label, values in curves.items():
            if values.size:
                ax.plot(np.arange(1, len(values) + 1), values, marker="." if len(values) <= 30 else "", label=label)
        if min(values.min() for values in curves.values() if values.size) > 0:
            use_log_scale(ax, "y")
        ax.set(xlabel="epoch", ylabel="per sample")
        ax.locator_params(axis="x", integer=True)
        ax.legend()
        return self


class ScoreDisplay:
    """Histograms of the anomaly scores of training samples and new ones, with the threshold as a line.

    The bars of each group are shares of its samples and sum to 100 %. The legend gives the share above the threshold.

    Parameters
    ----------
    training_scores : array-like of shape (n_train,)
        Higher = more abnormal.
    scores : array-like of shape (n_samples,) or None, default=None
        Anomaly scores of new samples.
    y : array-like of shape (n_samples,) or None, default=None
        Labels of the new samples in either coding of :func:`skmemae.metrics.is_outlier`, to draw inliers and outliers apart.
    threshold : float or None, default=None
        Anomaly score above which a sample is an outlier.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    ax_ : matplotlib Axes
        Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If scores are not vectors of finite numbers, or y does not fit ``scores`` or has other values.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import ScoreDisplay
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> detector = MemAEDetector(random_state=0).fit(X[:200])
    >>> ScoreDisplay.from_estimator(detector, X[200:]).plot().ax_.get_xlabel()
    'anomaly score'
    """

    def __init__(
        self,
        training_scores: ArrayLike,
        scores: ArrayLike | None = None,
        y: ArrayLike | None = None,
        threshold: float | None = None,
    ) -> None:
        self.training_scores = check_values(training_scores, "training_scores", "ScoreDisplay")
        self.scores = None if scores is None else check_values(scores, "scores", "ScoreDisplay")
        self.y = None
        if y is not None:
            if self.scores is None:
                raise ValueError("The 'y' parameter of ScoreDisplay must be None without new samples.")
            self.y = check_shape(y, self.scores.shape, "y", "scores", "ScoreDisplay")
            is_outlier(self.y)
        self.threshold = threshold

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, X: ArrayLike | None = None, y: ArrayLike | None = None) -> Self:
        """Create the display from a fitted detector and, optionally, new samples.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of shape (n_samples, ...) or None, default=None
            New samples.
        y : array-like of shape (n_samples,) or None, default=None
            Their labels, 0 and 1 (outlier) or +1 and -1 (outlier).

        Returns
        -------
        display : ScoreDisplay

        Raises
        ------
        ValueError
            If X has samples of another shape than those of ``fit``, or y does not fit X or has other values.
        """
        check_is_fitted(detector, "decision_scores_")
        return cls(detector.decision_scores_, None if X is None else -detector.score_samples(X), y, detector.threshold_)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the histograms, on a logarithmic axis if all scores are positive and the largest is above 10 times the median.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self : ScoreDisplay
        """
        self.ax_ = ax = axes_or_new(ax, (6, 3.5))
        self.figure_ = ax.figure
        groups = self._groups()
        together = np.concatenate([scores for _, scores, _ in groups])
        low, high = float(together.min()), float(together.max())
        logarithmic = low > 0 and high > _SKEWED * np.median(together)
        edges = (np.geomspace if logarithmic else np.linspace)(low, high, _BINS + 1).tolist()
        bins: list[float] | int = edges if high > low else 1
        for name, scores, colour in groups:
            above = "" if self.threshold is None else f", {np.mean(scores > self.threshold):.0%} above"
            share = np.full(len(scores), 100 / len(scores))
            colours: dict[str, Any] = {"facecolor": (colour, 0.3), "edgecolor": colour}
            ax.hist(scores, bins, weights=share, histtype="stepfilled", label=name + above, **colours)
        if self.threshold is not None:
            ax.axvline(self.threshold, color=text_colour(), linestyle="--", label="threshold")
        if logarithmic:
            use_log_scale(ax, "x")
        ax.set(xlabel="anomaly score", ylabel="% of the samples")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)  # above the bars, not on them
        return self

    def _groups(self) -> list[tuple[str, np.ndarray, str]]:
        """Name, scores and colour of each histogram."""
        groups = [("training", self.training_scores, text_colour())]
        if self.scores is None:
            return groups
        if self.y is None:
            return [*groups, ("new", self.scores, "C0")]
        outlier = is_outlier(self.y)
        parts = (("inliers", ~outlier, "C0"), ("outliers", outlier, "C1"))
        return groups + [(name, self.scores[where], colour) for name, where, colour in parts if where.any()]


class NormalityDisplay:
    """Normality of the frames of a video, with abnormal intervals shaded (figure 5 of the paper).

    Parameters
    ----------
    normality : array-like of shape (T,)
        Normality of each frame from :func:`skmemae.video.normality_score`; higher = more normal.
    abnormal : array-like of shape (T,) or None, default=None
        1 for abnormal frames, 0 for normal ones.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    ax_ : matplotlib Axes
        Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If ``abnormal`` has another shape than ``normality``.

    Examples
    --------
    >>> from skmemae.display import NormalityDisplay
    >>> NormalityDisplay([1.0, 0.9, 0.2, 0.8], [0, 0, 1, 0]).plot().ax_.get_ylabel()
    'normality'
    """

    def __init__(self, normality: ArrayLike, abnormal: ArrayLike | None = None) -> None:
        self.normality = np.asarray(normality)
        self.abnormal = None if abnormal is None else np.asarray(abnormal)
        if self.abnormal is not None and self.abnormal.shape != self.normality.shape:
            raise ValueError(
                f"NormalityDisplay needs one label for each frame; got {self.abnormal.shape} for {self.normality.shape}."
            )

    def plot(self, ax: Axes | None = None, **line: Any) -> Self:
        """Draw the curve, in the style's text colour by default.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **line : dict
            Keyword arguments of ``ax.plot``.

        Returns
        -------
        self : NormalityDisplay
        """
        self.ax_ = ax = axes_or_new(ax, (7, 2.5))
        self.figure_ = ax.figure
        if self.abnormal is not None:
            edges = np.flatnonzero(np.diff(np.r_[0, self.abnormal != 0, 0]))
            for start, stop in edges.reshape(-1, 2):
                ax.axvspan(start - 0.5, stop - 0.5, color="tab:red", alpha=0.2, linewidth=0)
        colour: dict[str, Any] = {} if line.keys() & {"color", "c"} else {"color": text_colour()}
        ax.plot(self.normality, **colour, **line)
        ax.set(xlabel="frame", ylabel="normality", xlim=(0, max(1, len(self.normality) - 1)))
        return self

"""Pictures of explanations: why samples have their anomaly scores."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skmemae._validation import check_positive_int
from skmemae.display._drawing import add_bar, figure_or_new, image_grid, overlay_colours
from skmemae.display._samples import (
    channels_last,
    check_shape,
    displayable,
    is_table,
    names_of_features,
    pick_frames,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from skmemae._detector import MemAEDetector
    from skmemae._model.explanation import Explanation


class ExplanationDisplay:
    """Why samples have their anomaly scores, as bars or as maps.

    For a row of a table, bars show the features with the largest shares of the score, each with its value and the expected one;
    the last bar is the sum of all other features, so the bars sum to the score. For an image, the map of shares is laid over
    it, with a box around the region with the largest share.

    Parameters
    ----------
    explanation : Explanation
        From :meth:`~skmemae.MemAEDetector.explain`. Images must be of shape (n, H, W) or (n, H, W, 3) and clips (n, T, H, W)
        or (n, T, H, W, 3); :meth:`from_estimator` converts them.
    n_features : int, default=8
        Number of features to show for each row of a table.
    n_samples : int, default=10
        Number of samples to show. If there are more, the first ones are shown, and the title of the figure says so.

    Attributes
    ----------
    n_given : int
        Number of samples from which the shown ones are the first.
    figure_ : matplotlib Figure or SubFigure
    axes_ : ndarray of Axes
        For tables of shape (lines, columns), one for each sample; for images (2 * blocks, columns). Both are set by
        :meth:`plot`.

    Raises
    ------
    ValueError
        If ``n_features`` or ``n_samples`` is not a positive int, or images have another shape.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import ExplanationDisplay
    >>> X = np.random.default_rng(0).normal(size=(300, 3))
    >>> detector = MemAEDetector(random_state=0).fit(X)
    >>> display = ExplanationDisplay.from_estimator(detector, [[0.0, 7.0, 0.0]], n_features=1).plot()
    >>> display.axes_[0, 0].get_yticklabels()[0].get_text().split(" (expected")[0]
    'x1 = 7'
    """

    def __init__(self, explanation: Explanation, n_features: int = 8, n_samples: int = 10) -> None:
        check_positive_int("n_features", n_features, "ExplanationDisplay")
        check_positive_int("n_samples", n_samples, "ExplanationDisplay")
        shape = np.shape(explanation.shares)
        axes = 1 if explanation.regions is None else np.shape(explanation.regions)[1]
        if len(shape) != 1 + axes or np.shape(explanation.values) not in (shape, (*shape, 3)) or 0 in shape:
            raise ValueError(
                "The 'explanation' parameter of ExplanationDisplay must hold rows (n, d), images (n, H, W) or clips "
                f"(n, T, H, W), at least one, and values may have a last axis of 3 channels. Got shares of shape {shape} and "
                f"values of shape {np.shape(explanation.values)} instead; from_estimator brings images into this shape."
            )
        if axes == 1:
            check_shape(explanation.expected, shape, "explanation.expected", "explanation.shares", "ExplanationDisplay")
        self.explanation = explanation
        self.n_features = n_features
        self.n_samples = n_samples
        self.n_given = len(explanation.scores)

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, X: ArrayLike, n_features: int = 8, n_samples: int = 10) -> Self:
        """Create the display from a fitted detector and a few samples.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of shape (n_samples, ...)
            Each clip is shown by one frame, from the region that adds most to the score.
        n_features : int, default=8
            Number of features to show for each row of a table.
        n_samples : int, default=10
            Number of samples to explain and to show, the first ones of X.

        Returns
        -------
        display : ExplanationDisplay

        Raises
        ------
        ValueError
            If ``n_features`` or ``n_samples`` is not a positive int, or X has samples of another shape than those of ``fit``.
        """
        check_positive_int("n_features", n_features, "ExplanationDisplay.from_estimator")
        check_positive_int("n_samples", n_samples, "ExplanationDisplay.from_estimator")
        rows: Any = X
        explanation = detector.explain(rows.iloc[:n_samples] if hasattr(rows, "iloc") else rows[:n_samples])
        if is_table(detector):
            drawn = {name: detector.channels_first(getattr(explanation, name)) for name in ("shares", "values", "expected")}
        else:
            drawn = {name: channels_last(getattr(explanation, name), detector) for name in ("values", "expected")}
            drawn["shares"] = detector.channels_first(explanation.shares).sum(axis=1)
        display = cls(dataclasses.replace(explanation, **drawn), n_features, n_samples)
        display.n_given = len(rows)
        return display

    def plot(self, figure: Figure | SubFigure | None = None, n_columns: int | None = None) -> Self:
        """Draw the explanations.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        n_columns : int or None, default=None
            Samples in a line; None for 2 if they are rows of a table, 8 if they are images.

        Returns
        -------
        self : ExplanationDisplay

        Raises
        ------
        ValueError
            If ``n_columns`` is not a positive int.
        """
        if n_columns is not None:
            check_positive_int("n_columns", n_columns, "ExplanationDisplay.plot")
        if self.explanation.regions is None:
            self._plot_bars(figure, n_columns or 2)
        else:
            self._plot_maps(figure, n_columns or 8)
        n_shown = min(self.n_samples, len(self.explanation.scores))
        if n_shown < self.n_given:
            self.figure_.suptitle(f"The first {n_shown} of {self.n_given} samples")
        return self

    def _titles(self) -> list[str]:
        scores, index = self.explanation.scores[: self.n_samples], self.explanation.index
        names = range(len(scores)) if index is None else index[: self.n_samples]
        return [f"{name}: score {score:.3g}" for name, score in zip(names, scores, strict=True)]

    def _plot_bars(self, figure: Figure | SubFigure | None, n_columns: int) -> None:
        shares = np.asarray(self.explanation.shares)[: self.n_samples]
        n, d = shares.shape
        n_columns = min(n, n_columns)
        n_lines = -(-n // n_columns)
        height = 0.28 * min(d, self.n_features + 1) + 0.9
        self.figure_ = figure_or_new(figure, (6 * n_columns, height * n_lines))
        self.axes_ = self.figure_.subplots(n_lines, n_columns, squeeze=False, sharex=True)
        for ax, i, title in zip(self.axes_.flat, range(n), self._titles(), strict=False):
            self._draw_bars(ax, i)
            ax.set_title(title, fontsize="medium")
        for ax in self.axes_.flat[n:]:
            ax.set_axis_off()
        for ax in self.axes_.flat[n - n_columns : n]:  # the lowest of each column
            ax.set_xlabel("share of the score")
            ax.tick_params(labelbottom=True)

    def _draw_bars(self, ax: Axes, i: int) -> None:
        explanation = self.explanation
        shares, values, expected = (np.asarray(a)[i] for a in (explanation.shares, explanation.values, explanation.expected))
        names = names_of_features(explanation.feature_names, len(shares))
        largest = np.argsort(-shares, kind="stable")[: self.n_features]
        labels = [f"{names[j]} = {values[j]:.4g} (expected {expected[j]:.4g})" for j in largest]
        bars = shares[largest].tolist()
        if len(largest) < len(shares):
            labels.append(f"{len(shares) - len(largest)} others")
            bars.append(shares.sum() - shares[largest].sum())
        ax.barh(range(len(bars)), bars, color=["C0"] * len(largest) + ["tab:gray"] * (len(bars) - len(largest)))
        ax.set_yticks(range(len(bars)), labels)
        ax.invert_yaxis()

    def _plot_maps(self, figure: Figure | SubFigure | None, n_columns: int) -> None:
        from matplotlib.patches import Rectangle

        arrays = (self.explanation.shares, self.explanation.values, self.explanation.regions, self.explanation.scores)
        shares, values, regions, scores = (np.asarray(a)[: self.n_samples] for a in arrays)
        if shares.ndim == 4:
            frames = _frames_of_regions(shares, regions)
            shares, values, regions = pick_frames(shares, frames), pick_frames(values, frames), regions[:, 1:]
        shares = 100 * shares / np.where(scores > 0, scores, 1.0)[:, None, None]
        if values.ndim == 4:
            values = np.clip(values / displayable(values), 0, 1)
        self.figure_, axes = image_grid(figure, values, ["sample", "map"], n_columns)
        self.axes_ = axes.reshape(-1, axes.shape[2])
        columns = axes.transpose(0, 2, 1).reshape(-1, 2)
        limit = shares.max() or 1.0
        for ax, image, share, ((top, bottom), (left, right)), title in zip(
            columns, values, shares, regions, self._titles(), strict=False
        ):
            ax[0].imshow(image, cmap="gray")
            ax[0].set_title(title, fontsize="small")
            ax[1].imshow(image, cmap="gray")
            shown = ax[1].imshow(share, cmap=overlay_colours(), vmin=0, vmax=limit)
            box = Rectangle(
                (left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor="tab:blue", linewidth=1.5
            )
            ax[1].add_patch(box)
        add_bar(self.figure_, shown, axes[0, 1], "% of the score")


def _frames_of_regions(shares: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Index, for each clip, of the frame with the largest share within the region."""
    sums = shares.sum(axis=(2, 3))
    frames = np.arange(sums.shape[1])
    inside = (frames >= regions[:, :1, 0]) & (frames < regions[:, :1, 1])
    return np.where(inside, sums, -np.inf).argmax(axis=1)

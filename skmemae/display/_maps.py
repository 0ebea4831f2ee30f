"""Pictures of where images are abnormal: p-values of their places."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skmemae._validation import check_positive_int
from skmemae.display._drawing import add_bar, figure_or_new
from skmemae.display._samples import (
    as_array,
    channels_last,
    check_samples,
    check_shape,
    displayable,
    pick_frames,
    worst_frames,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from skmemae._detector import MemAEDetector

_IMAGE_INCHES = 1.6  # length of the smaller side of an image
_LEAST_P = 1e-30  # of the colours


class PValueMapDisplay:
    """Images, the p-values of their places, and the outlines of the places with p-values below a level.

    An image has a line of three pictures.

    Parameters
    ----------
    samples : array-like of shape (n, H, W) or (n, H, W, 3)
    p_values : array-like of shape (n, H, W)
        In (0, 1], lower = more abnormal.
    level : float in (0, 1), default=0.001
        Places with a p-value below it are outlined.

    Attributes
    ----------
    n_given : int
        Number of samples from which the shown ones are the first.
    figure_ : matplotlib Figure or SubFigure
    axes_ : ndarray of Axes of shape (n, 3)
        Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If the arrays have other shapes, p-values are out of range, or ``level`` is not a float in (0, 1).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import PValueMapDisplay
    >>> images = load_digits().images
    >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(images[:500])
    >>> PValueMapDisplay.from_estimator(detector, images[500:], n_samples=3).plot().axes_.shape
    (3, 3)
    """

    def __init__(self, samples: ArrayLike, p_values: ArrayLike, *, level: float = 0.001) -> None:
        name = type(self).__name__
        self.samples = check_samples(samples, "samples", name)
        if self.samples.ndim == 2:
            raise ValueError(
                f"The 'samples' parameter of {name} must be images. Got rows of shape {self.samples.shape} instead."
            )
        self.p_values = check_shape(p_values, self.samples.shape[:3], "p_values", "samples", name)
        if not ((self.p_values > 0) & (self.p_values <= 1)).all():
            raise ValueError(f"The 'p_values' parameter of {name} must be in the range (0.0, 1.0]. Got other values instead.")
        self.level = _checked_level(level, name)
        self.n_given = len(self.samples)

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, X: ArrayLike, *, n_samples: int = 4, level: float = 0.001) -> Self:
        """Create the display from a fitted detector and a few samples.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of shape (n_samples, ...)
            Each clip is shown by the frame with the smallest p-values.
        n_samples : int, default=4
            Number of samples to show, the first ones of X.
        level : float in (0, 1), default=0.001
            Places with a p-value below it are outlined.

        Returns
        -------
        display : PValueMapDisplay

        Raises
        ------
        ValueError
            If a parameter is out of range, X has samples of another shape than those of ``fit``, or the detector has no
            p-values of places (see :meth:`~skmemae.MemAEDetector.p_value_map`).
        """
        name = f"{cls.__name__}.from_estimator"
        check_positive_int("n_samples", n_samples, name)
        _checked_level(level, name)
        rows: Any = X
        some = rows.iloc[:n_samples] if hasattr(rows, "iloc") else rows[:n_samples]
        p_values = detector.p_value_map(some)
        images = channels_last(as_array(some), detector)
        if p_values.ndim == 4:
            frames = worst_frames(-np.log(p_values))
            images, p_values = pick_frames(images, frames), pick_frames(p_values, frames)
        display = cls(images, p_values, level=level)
        display.n_given = len(rows)
        return display

    def plot(self, figure: Figure | SubFigure | None = None, limit: float | None = None) -> Self:
        """Draw each image, the map of its p-values, and the image with outlines; a line on the colour bar marks the level.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        limit : float, optional
            The p-value of the strongest colour, for comparing detectors; by default the smallest one shown, or ``level`` if
            that is smaller.

        Returns
        -------
        self : PValueMapDisplay

        Raises
        ------
        ValueError
            If ``limit`` is not a float in (0, 1).
        """
        if limit is None:
            limit = min(self.level, max(float(self.p_values.min()), _LEAST_P))
        strongest = -np.log10(_checked_level(limit, f"{type(self).__name__}.plot", "limit"))
        self.figure_, self.axes_ = self._grid(figure)
        samples = np.clip(self.samples / displayable(self.samples), 0, 1) if self.samples.ndim == 4 else self.samples
        for axes, sample, p_values in zip(self.axes_, samples, self.p_values, strict=True):
            surprise = -np.log10(np.maximum(p_values, _LEAST_P))
            axes[0].imshow(sample, cmap="gray")
            shown = axes[1].imshow(surprise, cmap="magma", vmin=0, vmax=strongest)
            axes[2].imshow(sample, cmap="gray")
            _outline(axes[2], p_values < self.level)
        for ax, title in zip(self.axes_[0], ("sample", "p-value", f"p < {self.level:g}"), strict=True):
            ax.set_title(title, fontsize="medium")
        bar = add_bar(self.figure_, shown, self.axes_[0, 2], "$-\\log_{10}$ p-value")
        bar.ax.axhline(-np.log10(self.level), color="white", linewidth=2)
        if len(self.samples) < self.n_given:
            self.figure_.suptitle(f"The first {len(self.samples)} of {self.n_given} samples", fontsize="medium")
        return self

    def _grid(self, figure: Figure | SubFigure | None) -> tuple[Figure | SubFigure, np.ndarray]:
        """A line of three Axes without ticks for each sample, with its number in front."""
        n, height, width = self.p_values.shape
        inches = _IMAGE_INCHES * max(1, width / height), _IMAGE_INCHES * max(1, height / width)
        figure = figure_or_new(figure, (3 * inches[0] + 1.2, n * (inches[1] + 0.08) + 0.6))
        axes = figure.subplots(n, 3, squeeze=False)
        for number, ax in np.ndenumerate(axes):
            ax.set(xticks=[], yticks=[])
            if number[1] == 0:
                ax.set_ylabel(str(number[0]), rotation=0, ha="right", va="center")
        return figure, axes


def _checked_level(value: Any, caller: str, name: str = "level") -> float:
    """A p-value below 1, as a float."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < 1:
        raise ValueError(f"The {name!r} parameter of {caller} must be a float in the range (0.0, 1.0). Got {value!r} instead.")
    return float(value)


def _outline(ax: Axes, inside: np.ndarray) -> None:
    """Draw lines along the edges of pixels between those inside and the others, and the border of the image."""
    from matplotlib.collections import LineCollection

    around = np.pad(inside, 1)
    row, column = np.nonzero(around[1:] != around[:-1])
    lines = [np.stack([np.c_[column - 1.5, row - 0.5], np.c_[column - 0.5, row - 0.5]], axis=1)]
    row, column = np.nonzero(around[:, 1:] != around[:, :-1])
    lines.append(np.stack([np.c_[column - 0.5, row - 1.5], np.c_[column - 0.5, row - 0.5]], axis=1))
    for colour, thickness in (("white", 3.0), ("crimson", 1.5)):  # to be seen on any image
        style: dict[str, Any] = {"colors": colour, "linewidths": thickness, "capstyle": "projecting"}
        ax.add_collection(LineCollection(list(np.concatenate(lines)), **style), autolim=False)

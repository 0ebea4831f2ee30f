"""Pictures of samples, their reconstructions and the errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from skmemae._validation import check_positive_int
from skmemae.display._drawing import (
    add_bar,
    diverging_colours,
    figure_or_new,
    heat_map,
    heat_map_size,
    image_grid,
    largest_columns,
    overlay_colours,
)
from skmemae.display._samples import (
    as_array,
    channels_last,
    check_samples,
    check_shape,
    displayable,
    is_table,
    names_of_features,
    names_of_samples,
    pick_frames,
    scaled_rows,
    worst_frames,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

    from skmemae._detector import MemAEDetector

_KINDS = ["sample", "reconstruction", "error"]


class ReconstructionDisplay:
    """Samples, their reconstructions, and the squared error of each of their numbers (figures 4 and 6 of the paper).

    Images and clips are drawn as a column of three images for each sample; tables as three heat maps with a row for each one.

    Parameters
    ----------
    samples, reconstructions : array-like of shape (n, d), (n, H, W) or (n, H, W, 3)
        Rows in units that make columns comparable, or images.
    errors : array-like of the same shape
        Squared errors in scaled units, higher = more abnormal.
    feature_names : array-like of shape (d,) or None, default=None
        Names of the columns of a table; None for x0, x1, ...
    sample_names : array-like of shape (n,) or None, default=None
        Names of the rows of a table; None for 0, 1, ...

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    axes_ : ndarray of Axes
        For images of shape (3 * blocks, columns); for tables (3, 1). Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If the arrays have other shapes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import ReconstructionDisplay
    >>> images = load_digits().images
    >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(images)
    >>> display = ReconstructionDisplay.from_estimator(detector, images[:6])
    >>> display.plot().axes_.shape
    (3, 6)
    """

    def __init__(
        self,
        samples: ArrayLike,
        reconstructions: ArrayLike,
        errors: ArrayLike,
        *,
        feature_names: Iterable[object] | None = None,
        sample_names: ArrayLike | None = None,
    ) -> None:
        name = type(self).__name__
        self.samples = check_samples(samples, "samples", name)
        self.reconstructions = check_shape(reconstructions, self.samples.shape, "reconstructions", "samples", name)
        self.errors = check_shape(errors, self.samples.shape, "errors", "samples", name)
        n, d = self.samples.shape[:2]
        self.feature_names = names_of_features(feature_names, d)
        self.sample_names = np.arange(n) if sample_names is None else as_array(sample_names)
        if self.samples.ndim == 2:
            check_shape(self.feature_names, (d,), "feature_names", "samples", name)
            check_shape(self.sample_names, (n,), "sample_names", "samples", name)

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, X: ArrayLike) -> Self:
        """Create the display from a fitted detector and a few samples.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of shape (n_samples, ...)
            Rows of a table are shown in scaled units (parameter ``scaling``). Each clip is shown by the frame with the largest
            error.

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If X has samples of another shape than those of ``fit``.
        """
        table = is_table(detector)
        arrays = [as_array(a) for a in (X, detector.reconstruct(X), detector.anomaly_map(X))]
        if table:
            samples, reconstructions = (scaled_rows(a, detector) for a in arrays[:2])
            names = {"feature_names": getattr(detector, "feature_names_in_", None), "sample_names": names_of_samples(X)}
            return cls(samples, reconstructions, detector.channels_first(arrays[2]), **names)
        images = [channels_last(a, detector) for a in arrays]
        if len(detector.sample_shape_) == 4:
            frames = worst_frames(images[2])
            images = [pick_frames(a, frames) for a in images]
        return cls(*images)

    def plot(self, figure: Figure | SubFigure | None = None, error_limit: float | None = None, n_columns: int = 12) -> Self:
        """Draw sample, reconstruction and squared error below one another.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        error_limit : float, optional
            Squared error of the strongest colour, for comparing detectors; by default the largest error shown.
        n_columns : int, default=12
            Images in a line; not used for tables.

        Returns
        -------
        self : ReconstructionDisplay

        Raises
        ------
        ValueError
            If ``n_columns`` is not a positive int.
        """
        check_positive_int("n_columns", n_columns, f"{type(self).__name__}.plot")
        if self.samples.ndim == 2:
            return self._plot_table(figure, error_limit)
        errors = self.errors.mean(axis=-1) if self.errors.ndim == 4 else self.errors
        self.figure_, axes = image_grid(figure, self.samples, _KINDS, n_columns)
        self.axes_ = axes.reshape(-1, axes.shape[2])
        columns = axes.transpose(0, 2, 1).reshape(-1, 3)
        unit = displayable(self.samples)
        for ax, sample, reconstruction, error in zip(columns, self.samples, self.reconstructions, errors, strict=False):
            if sample.ndim == 3:
                sample, reconstruction = (np.clip(image / unit, 0, 1) for image in (sample, reconstruction))
            greys = {
                "cmap": "gray",
                "vmin": min(sample.min(), reconstruction.min()),
                "vmax": max(sample.max(), reconstruction.max()),
            }
            ax[0].imshow(sample, **greys)
            ax[1].imshow(reconstruction, **greys)
            shown = self._draw_error(ax[2], error, error_limit or errors.max() or 1.0, sample, greys)
        add_bar(self.figure_, shown, axes[0, 2], "squared error")
        return self

    def _draw_error(self, ax: Axes, error: np.ndarray, limit: float, sample: np.ndarray, greys: dict[str, Any]) -> AxesImage:
        return ax.imshow(error, cmap="magma", vmin=0, vmax=limit)

    def _plot_table(self, figure: Figure | SubFigure | None, error_limit: float | None) -> Self:
        columns, note = largest_columns(self.errors.sum(axis=0))
        names = self.feature_names[columns]
        self.figure_ = figure_or_new(figure, heat_map_size(names, self.sample_names, n_maps=3))
        self.axes_ = self.figure_.subplots(3, 1, sharex=True, squeeze=False)
        around_zero = diverging_colours(self.samples[:, columns], self.reconstructions[:, columns])
        errors = {"cmap": "magma", "vmin": 0, "vmax": error_limit or self.errors.max() or 1.0}
        tables = (self.samples, self.reconstructions, self.errors)
        for (ax,), title, table, colours in zip(self.axes_, _KINDS, tables, (around_zero, around_zero, errors), strict=True):
            image = heat_map(ax, table[:, columns], names, self.sample_names, **colours)
            ax.set_title(title)
            if title == "reconstruction":
                add_bar(self.figure_, image, self.axes_[:2], "value, scaled units", extend="both")
            elif title == "error":
                add_bar(self.figure_, image, ax, "squared error")
        if note:
            self.axes_[2, 0].set_xlabel(f"{note}, those with the largest errors")
        return self


class AnomalyMapDisplay(ReconstructionDisplay):
    """Images, their reconstructions, and images with the squared error laid over them (figure 6 of the paper).

    Constructed like :class:`ReconstructionDisplay`; each clip is shown by the frame with the largest error. Tables are drawn as
    :class:`ReconstructionDisplay` draws them.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import AnomalyMapDisplay
    >>> images = load_digits().images
    >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(images)
    >>> AnomalyMapDisplay.from_estimator(detector, images[:30]).plot(n_columns=10).axes_.shape
    (9, 10)
    """

    def _draw_error(self, ax: Axes, error: np.ndarray, limit: float, sample: np.ndarray, greys: dict[str, Any]) -> AxesImage:
        ax.imshow(sample, **greys)
        return ax.imshow(error, cmap=overlay_colours(), vmin=0, vmax=limit)

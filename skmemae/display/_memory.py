"""Pictures of the memory items, and of the addressing weights of samples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils.validation import check_is_fitted

from skmemae._validation import check_positive_int
from skmemae.display._drawing import (
    add_bar,
    axes_or_new,
    diverging_colours,
    figure_or_new,
    heat_map,
    heat_map_size,
    image_grid,
    largest_columns,
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
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from skmemae._detector import MemAEDetector


class MemoryDisplay:
    """Decoded memory items, the most used first, with their numbers and usage (figure 3 of the paper).

    Items of images and clips are drawn as a grid of images; items of tables as a heat map with a row for each item and a bar of
    its usage beside it.

    Parameters
    ----------
    items : array-like of shape (n, d), (n, H, W) or (n, H, W, 3)
        Decoded items: rows in units that make columns comparable, or images.
    usage : array-like of shape (n,)
        Share of the training queries that used each item.
    numbers : array-like of int of shape (n,) or None, default=None
        Row of each item in ``memory_``; None for 0, 1, ...
    feature_names : array-like of shape (d,) or None, default=None
        Names of the columns of a table; None for x0, x1, ...

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    axes_ : ndarray of Axes
        For images of shape (lines, columns); for tables (1, 2): items and usage. Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If the arrays have other shapes.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import MemoryDisplay
    >>> X = load_iris(as_frame=True).data
    >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    >>> display = MemoryDisplay.from_estimator(detector, n_items=10).plot()
    >>> display.axes_[0, 0].get_xticklabels()[0].get_text()
    'sepal length (cm)'
    """

    def __init__(
        self,
        items: ArrayLike,
        usage: ArrayLike,
        numbers: ArrayLike | None = None,
        *,
        feature_names: Iterable[object] | None = None,
    ) -> None:
        self.items = check_samples(items, "items", "MemoryDisplay")
        n, d = self.items.shape[:2]
        self.usage = check_shape(usage, (n,), "usage", "items", "MemoryDisplay")
        self.numbers = check_shape(np.arange(n) if numbers is None else numbers, (n,), "numbers", "items", "MemoryDisplay")
        self.feature_names = names_of_features(feature_names, d)
        if self.items.ndim == 2:
            check_shape(self.feature_names, (d,), "feature_names", "items", "MemoryDisplay")

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, n_items: int = 30) -> Self:
        """Create the display from a fitted detector with a memory.

        Parameters
        ----------
        detector : MemAEDetector
            Items of tables are shown in scaled units (parameter ``scaling``), items of clips by their middle frame.
        n_items : int, default=30
            Number of items to show, the most used first.

        Returns
        -------
        display : MemoryDisplay

        Raises
        ------
        ValueError
            If ``n_items`` is not a positive int, or the detector has no memory.
        """
        check_positive_int("n_items", n_items, "MemoryDisplay.from_estimator")
        check_is_fitted(detector, "memory_usage_")
        most_used = np.argsort(-detector.memory_usage_, kind="stable")[:n_items]
        decoded, usage = detector.decode_memory(most_used), detector.memory_usage_[most_used]
        if is_table(detector):
            return cls(
                scaled_rows(decoded, detector), usage, most_used, feature_names=getattr(detector, "feature_names_in_", None)
            )
        images = channels_last(decoded, detector)
        if len(detector.sample_shape_) == 4:
            images = pick_frames(images, images.shape[1] // 2)
        return cls(images, usage, most_used)

    def plot(self, figure: Figure | SubFigure | None = None, n_columns: int = 10) -> Self:
        """Draw the items.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        n_columns : int, default=10
            Images in a line; not used for tables.

        Returns
        -------
        self : MemoryDisplay

        Raises
        ------
        ValueError
            If ``n_columns`` is not a positive int.
        """
        check_positive_int("n_columns", n_columns, "MemoryDisplay.plot")
        if self.items.ndim == 2:
            return self._plot_table(figure)
        images = np.clip(self.items / displayable(self.items), 0, 1) if self.items.ndim == 4 else self.items
        self.figure_, axes = image_grid(figure, images, [""], n_columns)
        self.axes_ = axes[:, 0]
        for ax, image, number, usage in zip(self.axes_.flat, images, self.numbers, self.usage, strict=False):
            ax.imshow(image, cmap="gray")
            ax.set_title(f"{number}: {usage:.1%}", fontsize="small")
        return self

    def _plot_table(self, figure: Figure | SubFigure | None) -> Self:
        columns, note = largest_columns(self.items.std(axis=0))
        names = self.feature_names[columns]
        width, height = heat_map_size(names, self.numbers)
        self.figure_ = figure_or_new(figure, (width + 2, height))
        self.axes_ = self.figure_.subplots(1, 2, sharey=True, squeeze=False, width_ratios=[max(2, width - 2), 1.5])
        items, usage = self.axes_[0]
        colours = diverging_colours(self.items[:, columns])
        image = heat_map(items, self.items[:, columns], names, self.numbers, **colours)
        add_bar(self.figure_, image, self.axes_, "value, scaled units", extend="both")
        items.set(ylabel="memory item", xlabel=f"{note}, those in which the items differ most" if note else "")
        usage.barh(range(len(self.items)), 100 * self.usage, color="tab:blue")
        usage.tick_params(left=False, labelleft=False)
        usage.set_xlabel("used by % of\nqueries")
        return self


class AddressingDisplay:
    """Heat map of addressing weights, with a row for each sample and a column for each memory item.

    Parameters
    ----------
    weights : array-like of shape (n_samples, n_items)
        Addressing weights of the items to show, in [0, 1]. They sum to at most 1 for a sample; to less if items are left out.
    items : array-like of int of shape (n_items,) or None, default=None
        Number of each item; None for 0, 1, ...
    sample_names : array-like of shape (n_samples,) or None, default=None
        Names of the samples; None for 0, 1, ...
    items_name : str, default="memory item"
        Name of the axis of items.

    Attributes
    ----------
    figure_ : matplotlib Figure or SubFigure
    ax_ : matplotlib Axes
        Both are set by :meth:`plot`.

    Raises
    ------
    ValueError
        If the arrays have other shapes.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmemae import MemAEDetector
    >>> from skmemae.display import AddressingDisplay
    >>> images = load_digits().images
    >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(images)
    >>> AddressingDisplay.from_estimator(detector, images[:6], n_items=8).weights.shape
    (6, 8)
    """

    def __init__(
        self,
        weights: ArrayLike,
        items: ArrayLike | None = None,
        sample_names: ArrayLike | None = None,
        items_name: str = "memory item",
    ) -> None:
        self.items_name = items_name
        self.weights = as_array(weights)
        if self.weights.ndim != 2 or self.weights.size == 0:
            raise ValueError(
                "The 'weights' parameter of AddressingDisplay must have shape (n_samples, n_items) and hold at least one "
                f"weight. Got an array of shape {self.weights.shape} instead."
            )
        n, n_items = self.weights.shape
        items = np.arange(n_items) if items is None else items
        sample_names = np.arange(n) if sample_names is None else sample_names
        self.items = check_shape(items, (n_items,), "items", "weights", "AddressingDisplay")
        self.sample_names = check_shape(sample_names, (n,), "sample_names", "weights", "AddressingDisplay")

    @classmethod
    def from_estimator(cls, detector: MemAEDetector, X: ArrayLike, n_items: int = 20) -> Self:
        """Create the display from a detector with a memory and a few samples.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of shape (n_samples, ...)
            If a sample has a query for each location, its weights are means over the locations.
        n_items : int, default=20
            Number of items to show: first the item with the largest weight of each sample, then the second of each, and so on.
            If the memory items are encodings of training rows, the items of one training row in all members count as one item.

        Returns
        -------
        display : AddressingDisplay

        Raises
        ------
        ValueError
            If ``n_items`` is not a positive int, the detector has no memory, or X has samples of another shape than those of
            ``fit``.
        """
        check_positive_int("n_items", n_items, "AddressingDisplay.from_estimator")
        weights = detector.addressing_weights(X)
        weights = weights.mean(axis=tuple(range(1, weights.ndim - 1)))
        numbers, name = np.arange(weights.shape[1]), "memory item"
        rows = detector.memory_rows_
        if rows is not None:
            numbers, item_groups = np.unique(rows, return_inverse=True)
            weights, name = _sums(weights, item_groups), "training row"
        largest = np.argsort(-weights, axis=1, kind="stable")[:, :n_items].T.ravel()
        shown = largest[np.sort(np.unique(largest, return_index=True)[1])][:n_items]
        return cls(weights[:, shown], numbers[shown], names_of_samples(X), name)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a row for each sample and a column for each item.

        Parameters
        ----------
        ax : matplotlib Axes, optional

        Returns
        -------
        self : AddressingDisplay
        """
        self.ax_ = ax = axes_or_new(ax, heat_map_size(self.items, self.sample_names))
        self.figure_ = ax.figure
        image = heat_map(ax, self.weights, self.items, self.sample_names, cmap="viridis", vmin=0)
        add_bar(self.figure_, image, ax, "addressing weight")
        shown = self.weights.sum(axis=1).mean()
        ax.set(xlabel=f"{self.items_name} ({shown:.0%} of the weight)", ylabel="sample")
        return self


def _sums(weights: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Sum the columns of each group."""
    sums = np.zeros((groups.max() + 1, len(weights)))
    np.add.at(sums, groups, weights.T)
    return sums.T

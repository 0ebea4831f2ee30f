"""Figures, grids of images and heat maps that several displays draw."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

MOST_COLUMNS = 40  # a heat map shows at most this number of columns of a table
_MOST_LABELS = 40  # a heat map with more rows has no names of rows
_MOST_CHARACTERS = 24  # longer names beside a heat map are cut
_CHARACTER_INCHES = 0.07
_IMAGE_INCHES = 0.9  # length of the smaller side of an image
_GAP = 0.25  # space between blocks of a grid, in images


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return the Axes, or make one in a new figure of a size in inches."""
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def figure_or_new(figure: Figure | SubFigure | None, size: tuple[float, float]) -> Figure | SubFigure:
    """Return the figure, or make one of a size in inches."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=size, layout="constrained") if figure is None else figure


def text_colour() -> str:
    """The style's colour of text, which is readable on its background."""
    import matplotlib.pyplot as plt

    return plt.rcParams["text.color"]


def use_log_scale(ax: Axes, which: str) -> None:
    """Make the axis "x" or "y" logarithmic, with plain numbers at some ticks of each decade."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set(**{f"{which}scale": "log"})
    axis = getattr(ax, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(lambda value, position: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def image_grid(
    figure: Figure | SubFigure | None, images: np.ndarray, labels: list[str], n_columns: int
) -> tuple[Figure | SubFigure, np.ndarray]:
    """Make a grid for images of several kinds, such as samples and reconstructions, the kinds of a sample below one another.

    A block has a line for each kind and ``n_columns`` images in a line. The last block may end in empty Axes.

    Parameters
    ----------
    figure : matplotlib Figure, SubFigure or None
    images : ndarray of shape (n, H, W, ...)
    labels : list of str
        One for each kind, in front of its lines.
    n_columns : int

    Returns
    -------
    figure : matplotlib Figure or SubFigure
    axes : ndarray of Axes without ticks, of shape (blocks, kinds, columns)
    """
    n_images, n_kinds = len(images), len(labels)
    height, width = images.shape[1:3]
    n_columns = min(n_columns, n_images)
    n_blocks = -(-n_images // n_columns)
    block_heights = [1] * n_kinds + [_GAP] * (n_kinds > 1)  # blocks of one kind are kept apart by titles
    heights = block_heights * n_blocks
    inches = _IMAGE_INCHES * max(1, width / height), _IMAGE_INCHES * max(1, height / width)
    room = 2.5 if any(labels) else 0.3  # for labels and a colour bar
    figure = figure_or_new(figure, (max(3.0, inches[0] * n_columns + room), (inches[1] + 0.15) * sum(heights) + 0.4))
    grid = figure.add_gridspec(len(heights), n_columns, height_ratios=heights)
    axes = np.empty((n_blocks, n_kinds, n_columns), dtype=object)
    for block, kind, column in np.ndindex(axes.shape):
        ax = axes[block, kind, column] = figure.add_subplot(grid[block * len(block_heights) + kind, column])
        ax.set(xticks=[], yticks=[])
        if column == 0:
            ax.set_ylabel(labels[kind], rotation=0, ha="right", va="center")
        elif block * n_columns + column >= n_images:
            ax.set_axis_off()
    return figure, axes


def overlay_colours() -> LinearSegmentedColormap:
    """Colour map to lay over images: from clear to opaque through orange to crimson, visible on white and on black."""
    from matplotlib.colors import LinearSegmentedColormap

    opacity = np.linspace(0, 1, 17)
    stops = [(x, (1 - 0.2 * x, 0.5 * (1 - x), 0.25 * x, np.sqrt(x))) for x in opacity]
    return LinearSegmentedColormap.from_list("overlay", stops)


def add_bar(
    figure: Figure | SubFigure, image: AxesImage, axes: Axes | np.ndarray, label: str, extend: str = "neither"
) -> Colorbar:
    """Add a colour bar at the right of the Axes; with arrows for values beyond the limits if ``extend`` is "both"."""
    ax = axes.ravel().tolist() if isinstance(axes, np.ndarray) else axes
    return figure.colorbar(image, ax=ax, label=label, aspect=12, extend=extend)


def heat_map(ax: Axes, values: np.ndarray, columns: np.ndarray, rows: np.ndarray, **colours: Any) -> AxesImage:
    """Draw a cell for each value, with names of columns and rows; return the image."""
    image = ax.imshow(values, aspect="auto", interpolation="nearest", **colours)
    ax.set_xticks(range(len(columns)), _shortened(columns), rotation=90, fontsize="small")
    if len(rows) <= _MOST_LABELS:
        ax.set_yticks(range(len(rows)), _shortened(rows), fontsize="small")
    return image


def heat_map_size(columns: np.ndarray, rows: np.ndarray, n_maps: int = 1) -> tuple[float, float]:
    """Width and height in inches of a figure of heat maps below one another, with their names and a colour bar."""
    column_room, row_room = (_CHARACTER_INCHES * max(map(len, _shortened(names))) for names in (columns, rows))
    cells = max(1.0, min(0.2 * len(rows), 4.5))
    return max(3.0, 0.22 * len(columns)) + row_room + 1.5, n_maps * (cells + 0.35) + column_room + 0.3


def _shortened(names: Iterable[object]) -> list[str]:
    texts = [str(name) for name in names]
    return [text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…" for text in texts]


def diverging_colours(*values: np.ndarray) -> dict[str, Any]:
    """Arguments of ``imshow`` for values around zero; the limits of the colours are the 98th percentile of magnitudes."""
    limit = float(np.quantile(np.abs(np.concatenate([v.ravel() for v in values])), 0.98)) or 1.0
    return {"cmap": "coolwarm", "vmin": -limit, "vmax": limit}


def largest_columns(importance: np.ndarray) -> tuple[np.ndarray, str]:
    """Indices of the most important columns in their order, and a note if some columns are left out."""
    if len(importance) <= MOST_COLUMNS:
        return np.arange(len(importance)), ""
    return np.sort(np.argsort(-importance, kind="stable")[:MOST_COLUMNS]), f"{MOST_COLUMNS} of {len(importance)} columns"

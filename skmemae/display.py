"""Plots of reconstructions, memory items and normality; matplotlib is imported on plotting."""

from itertools import zip_longest

import numpy as np


class _GridDisplay:
    """Grid of small images with a label in front of each row."""

    def _draw(self, rows, figure, error_limit=None):
        """Draw a row for each (label, images) pair; no row may be longer than the first."""
        import matplotlib.pyplot as plt

        n_columns = len(rows[0][1])
        if figure is None:
            height, width = rows[0][1][0].shape[:2]
            image_width, image_height = 0.9 * max(1, width / height), 0.9 * max(1, height / width)  # inches
            size = max(3.0, image_width * n_columns + 1.2), (image_height + 0.05) * len(rows) + 0.4
            figure = plt.figure(figsize=size, layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(len(rows), n_columns, squeeze=False)
        for row_axes, (label, images) in zip(self.axes_, rows, strict=True):
            colours = (
                {"cmap": "magma", "vmin": 0, "vmax": error_limit or images.max()} if label == "error" else {"cmap": "gray"}
            )
            for axes, image in zip_longest(row_axes, images):
                if image is None:
                    axes.axis("off")
                    continue
                axes.imshow(image, **colours)
                axes.set(xticks=[], yticks=[])
            row_axes[0].set_ylabel(label, rotation=0, ha="right", va="center")
        return self


class ReconstructionDisplay(_GridDisplay):
    """Samples, their reconstructions, and the squared error of each pixel (figures 4 and 6 of the paper).

    Parameters
    ----------
    samples, reconstructions : ndarray of shape (n, H, W) or (n, H, W, 3)
    errors : ndarray of shape (n, H, W) or (n, H, W, 3)
        Higher = more abnormal.

    Attributes
    ----------
    figure_, axes_ : matplotlib Figure and array of Axes
        Set by :meth:`plot`.

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

    def __init__(self, samples, reconstructions, errors):
        self.samples = samples
        self.reconstructions = reconstructions
        self.errors = errors

    @classmethod
    def from_estimator(cls, detector, X):
        """Create the display from a fitted detector and a few samples; clips are shown by their middle frames.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of images or clips

        Returns
        -------
        display : ReconstructionDisplay

        Raises
        ------
        ValueError
            If the detector was fitted on vectors.
        """
        X = np.asarray(X)
        return cls(*(as_images(a, detector) for a in (X, detector.reconstruct(X), detector.anomaly_map(X))))

    def plot(self, figure=None, error_limit=None):
        """Draw three rows: sample, reconstruction, squared error.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        error_limit : float, optional
            Squared error of the brightest colour, for comparing detectors; by default the largest error shown.

        Returns
        -------
        self : ReconstructionDisplay
        """
        errors = self._grey_errors()
        images = (clip(self.samples), clip(self.reconstructions), errors)
        return self._draw(list(zip(("sample", "reconstruction", "error"), images, strict=True)), figure, error_limit)

    def _grey_errors(self):
        return self.errors.mean(axis=-1) if self.errors.ndim == 4 else self.errors


class MemoryDisplay(_GridDisplay):
    """Decoded memory items, the most used first (figure 3 of the paper).

    Parameters
    ----------
    items : ndarray of shape (n, H, W) or (n, H, W, 3)
    usage : ndarray of shape (n,)
        Share of the training queries that used each item.

    Attributes
    ----------
    figure_, axes_ : matplotlib Figure and array of Axes
        Set by :meth:`plot`.
    """

    def __init__(self, items, usage):
        self.items = items
        self.usage = usage

    @classmethod
    def from_estimator(cls, detector, n_items=30):
        """Create the display from a detector with a memory, fitted on images or clips.

        Parameters
        ----------
        detector : MemAEDetector
        n_items : int, default=30
            Number of items to show, the most used first.

        Returns
        -------
        display : MemoryDisplay

        Raises
        ------
        ValueError
            If the detector was fitted on vectors or has no memory.
        """
        most_used = np.argsort(-detector.memory_usage_)[:n_items]
        return cls(as_images(detector.decode_memory(most_used), detector), detector.memory_usage_[most_used])

    def plot(self, figure=None, n_columns=10):
        """Draw the items in rows of ``n_columns``.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        n_columns : int, default=10

        Returns
        -------
        self : MemoryDisplay
        """
        images = clip(self.items)
        return self._draw([("", images[i : i + n_columns]) for i in range(0, len(images), n_columns)], figure)


class AnomalyMapDisplay(ReconstructionDisplay):
    """Frames, their reconstructions, and frames overlaid with the squared error (figure 6 of the paper).

    Constructed like :class:`ReconstructionDisplay`; clips are shown by their middle frames.
    """

    def plot(self, figure=None, error_limit=None):
        """Draw three rows: frame, reconstruction, frame with the squared error in red.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        error_limit : float, optional
            Squared error that is drawn opaque; by default the largest error shown.

        Returns
        -------
        self : AnomalyMapDisplay
        """
        super().plot(figure, error_limit)
        errors = self._grey_errors()
        opacity = np.clip(errors / (error_limit or errors.max() or 1.0), 0, 1)
        for axes, sample, alpha in zip(self.axes_[2], clip(self.samples), opacity, strict=True):
            axes.clear()
            axes.imshow(sample, cmap="gray")
            axes.imshow(np.ones_like(alpha), cmap="autumn_r", vmin=0, vmax=1, alpha=alpha)
            axes.set(xticks=[], yticks=[])
        self.axes_[2, 0].set_ylabel("error", rotation=0, ha="right", va="center")
        return self


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
    figure_, axes_ : matplotlib Figure and Axes
        Set by :meth:`plot`.

    Raises
    ------
    ValueError
        If ``abnormal`` has another shape than ``normality``.

    Examples
    --------
    >>> from skmemae.display import NormalityDisplay
    >>> NormalityDisplay([1.0, 0.9, 0.2, 0.8], [0, 0, 1, 0]).plot().axes_.get_ylabel()
    'normality'
    """

    def __init__(self, normality, abnormal=None):
        self.normality = np.asarray(normality)
        self.abnormal = None if abnormal is None else np.asarray(abnormal)
        if self.abnormal is not None and self.abnormal.shape != self.normality.shape:
            raise ValueError(
                f"NormalityDisplay needs one label for each frame; got {self.abnormal.shape} for {self.normality.shape}."
            )

    def plot(self, axes=None, **line):
        """Draw the curve, in the style's text colour by default.

        Parameters
        ----------
        axes : matplotlib Axes, optional
        **line : dict
            Keyword arguments of ``axes.plot``.

        Returns
        -------
        self : NormalityDisplay
        """
        import matplotlib.pyplot as plt

        if axes is None:
            _, axes = plt.subplots(figsize=(7, 2.5), layout="constrained")
        self.axes_, self.figure_ = axes, axes.figure
        if self.abnormal is not None:
            edges = np.flatnonzero(np.diff(np.r_[0, self.abnormal != 0, 0]))
            for start, stop in edges.reshape(-1, 2):
                axes.axvspan(start - 0.5, stop - 0.5, color="tab:red", alpha=0.2, linewidth=0)
        colour = {} if line.keys() & {"color", "c"} else {"color": plt.rcParams["text.color"]}
        axes.plot(self.normality, **colour, **line)
        axes.set(xlabel="frame", ylabel="normality", xlim=(0, max(1, len(self.normality) - 1)))
        return self


def as_images(X, detector):
    """Images for imshow from samples in the detector's input format; clips give their middle frames.

    Parameters
    ----------
    X : array-like of images or clips
    detector : MemAEDetector

    Returns
    -------
    images : ndarray of shape (n, H, W) or (n, H, W, 3)
        Channels are averaged unless there are three.

    Raises
    ------
    ValueError
        If the detector was fitted on vectors.
    """
    if len(detector.sample_shape_) == 1:
        raise ValueError(f"Only images and clips can be shown; {type(detector).__name__} was fitted on vectors.")
    images = detector.channels_first(X)
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    return np.moveaxis(images, 1, -1) if images.shape[1] == 3 else images.mean(axis=1)


def clip(images):
    """Clip colour images to [0, 1] for imshow, after dividing by 255 if values exceed 1.5; grey images are returned as is."""
    if images.ndim < 4:
        return images
    return np.clip(images / (255 if images.max() > 1.5 else 1), 0, 1)

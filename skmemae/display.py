"""Pictures of what a detector does; matplotlib is imported when something is drawn."""

from itertools import zip_longest

import numpy as np


class _GridDisplay:
    """Rows of small images with a label in front of each row."""

    def _draw(self, rows, figure, error_limit=None):
        """Draw (label, images) pairs; rows may be shorter than the first."""
        import matplotlib.pyplot as plt

        n_columns = len(rows[0][1])
        if figure is None:
            height, width = rows[0][1][0].shape[:2]
            across, down = 0.9 * max(1, width / height), 0.9 * max(1, height / width)  # inches of one image
            size = max(3.0, across * n_columns + 1.2), (down + 0.05) * len(rows) + 0.4
            figure = plt.figure(figsize=size, layout="constrained")
        self.figure_ = figure
        self.axes_ = figure.subplots(len(rows), n_columns, squeeze=False)
        for line, (label, images) in zip(self.axes_, rows, strict=True):
            colours = (
                {"cmap": "magma", "vmin": 0, "vmax": error_limit or images.max()} if label == "error" else {"cmap": "gray"}
            )
            for axes, image in zip_longest(line, images):
                if image is None:
                    axes.axis("off")
                    continue
                axes.imshow(image, **colours)
                axes.set(xticks=[], yticks=[])
            line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        return self


class ReconstructionDisplay(_GridDisplay):
    """Samples, their reconstructions, and the squared error of each pixel (figures 4 and 6 of the paper).

    Parameters
    ----------
    samples, reconstructions, errors : ndarray of shape (n, H, W) or (n, H, W, 3)

    Attributes
    ----------
    figure_, axes_
        Of the last :meth:`plot`.

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
        """From a fitted detector and a few samples; of a clip the middle frame is shown.

        Parameters
        ----------
        detector : MemAEDetector
        X : array-like of images or clips
        """
        X = np.asarray(X)
        return cls(*(as_images(a, detector) for a in (X, detector.reconstruct(X), detector.anomaly_map(X))))

    def plot(self, figure=None, error_limit=None):
        """Draw three rows: sample, reconstruction, squared error.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        error_limit : float, optional
            Squared error that gets the brightest colour, to compare detectors; by default the largest one shown.

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
    """What single memory items decode to, the most used first (figure 3 of the paper).

    Parameters
    ----------
    items : ndarray of shape (n, H, W) or (n, H, W, 3)
    usage : ndarray of shape (n,)
        Share of the training queries that used each item.

    Attributes
    ----------
    figure_, axes_
        Of the last :meth:`plot`.
    """

    def __init__(self, items, usage):
        self.items = items
        self.usage = usage

    @classmethod
    def from_estimator(cls, detector, n_items=30):
        """From a fitted detector of images or clips with a memory.

        Parameters
        ----------
        detector : MemAEDetector
        n_items : int, default=30
        """
        most_used = np.argsort(-detector.memory_usage_)[:n_items]
        return cls(as_images(detector.decode_memory(most_used), detector), detector.memory_usage_[most_used])

    def plot(self, figure=None, n_columns=10):
        """Draw the items in rows.

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
    """Frames, their reconstructions, and the error laid over the frame (figure 6 of the paper).

    Constructed like :class:`ReconstructionDisplay`; of a clip the middle frame is shown.
    """

    def plot(self, figure=None, error_limit=None):
        """Draw three rows: frame, reconstruction, frame with the squared error in red.

        Parameters
        ----------
        figure : matplotlib Figure or SubFigure, optional
        error_limit : float, optional
            Squared error that is shown in full colour; by default the largest one shown.

        Returns
        -------
        self : AnomalyMapDisplay
        """
        super().plot(figure, error_limit)
        errors = self._grey_errors()
        strength = np.clip(errors / (error_limit or errors.max() or 1.0), 0, 1)
        for axes, sample, alpha in zip(self.axes_[2], clip(self.samples), strength, strict=True):
            axes.clear()
            axes.imshow(sample, cmap="gray")
            axes.imshow(np.ones_like(alpha), cmap="autumn_r", vmin=0, vmax=1, alpha=alpha)
            axes.set(xticks=[], yticks=[])
        self.axes_[2, 0].set_ylabel("error", rotation=0, ha="right", va="center")
        return self


class NormalityDisplay:
    """Normality over the frames of a video, with the abnormal intervals shaded (figure 5 of the paper).

    Parameters
    ----------
    normality : array-like of shape (T,)
        Of each frame, higher = more normal, as :func:`skmemae.video.normality_score` gives it.
    abnormal : array-like of shape (T,) or None, default=None
        1 for frames that are known to be abnormal.

    Attributes
    ----------
    figure_, axes_
        Of the last :meth:`plot`.

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
        """Draw the curve.

        Parameters
        ----------
        axes : matplotlib Axes, optional
        **line : dict
            Passed on to ``axes.plot``.

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
        axes.plot(self.normality, **{"color": "black", **line})
        axes.set(xlabel="frame", ylabel="normality", xlim=(0, max(1, len(self.normality) - 1)))
        return self


def as_images(X, detector):
    """(n, H, W) or (n, H, W, 3) from samples as the detector was given them; the middle frame of clips.

    Raises
    ------
    ValueError
        If the samples are vectors.
    """
    if len(detector.sample_shape_) == 1:
        raise ValueError(f"Only images and clips can be shown; {type(detector).__name__} was fitted on vectors.")
    images = detector.channels_first(X)
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    return np.moveaxis(images, 1, -1) if images.shape[1] == 3 else images.mean(axis=1)


def clip(images):
    """Colours for imshow: uint8 ranges and wild values brought to [0, 1]; grey images stay as they are."""
    if images.ndim < 4:
        return images
    return np.clip(images / (255 if images.max() > 1.5 else 1), 0, 1)

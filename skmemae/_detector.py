"""MemAEDetector, the outlier detector."""

import dataclasses
import json
import os
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from pyod.models.base import BaseDetector
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skmemae._compat import CallbackSupportMixin, Documented, FitTasks, has_callbacks, with_callbacks
from skmemae._contract import DualContract
from skmemae._data.layout import Layout, choose_layout, warn_of_sensors
from skmemae._data.sources import Samples
from skmemae._defaults import CONSTRAINTS, check_fit, check_values, share_of_outliers
from skmemae._model import files
from skmemae._model.explanation import Explanation, explain
from skmemae._model.fitted import FittedModel
from skmemae._model.light import warn_of_other_units
from skmemae._model.onnx import onnx_file
from skmemae._runtime import __version__, isolated, resolve_device, training_dtype, writing
from skmemae._train.distributed import SingleProcess, processes_of_fit
from skmemae._train.fit import Fitted, Window, fit_model, update_model
from skmemae._train.result import warn_of_collapse
from skmemae._train.run import Checkpoint, Run, digest, identity_of, plain_parameters
from skmemae._train.timing import Timing
from skmemae._validation import (
    check_known_shape,
    check_positive_int,
    check_samples,
    check_shape,
    same_frame_type,
    unchanged_on_error,
)

_ABSENT = {"effective_items_": float("nan"), "_ensemble_size": "auto"}  # attributes that older files lack


@BaseDetector.register
class MemAEDetector(CallbackSupportMixin, DualContract, Documented):
    """Outlier detection by the reconstruction error of a memory-augmented autoencoder.

    An autoencoder learns to reconstruct its training samples from a short encoding, and often reconstructs outliers as well.
    Here a memory of typical samples stands between encoder and decoder [1]_. The encoder turns a sample into a query, the
    memory answers with a mixture of the few items that are most similar to the query, and the decoder reconstructs the sample
    from that mixture alone. A normal sample is reconstructed well. The reconstruction of an outlier resembles normal samples,
    so its error is large.

    The kind of network follows from the shape of X: tables ``(n, d)``, images ``(n, H, W)``, ``(n, C, H, W)`` or
    ``(n, H, W, C)``, clips ``(n, C, T, H, W)`` or ``(n, T, H, W, C)``.

    Parameters
    ----------
    contamination : float in (0, 0.5], "auto" or PyThresh-like object, default=0.1
        Share of outliers in the training data; sets the threshold. A memory of rows also leaves out the most abnormal rows: a
        tenth of them, or the share itself if it is larger, because it does not recognise all outliers. From 0.02 down to 0.001,
        for clean data, the tenth shrinks to the share itself. With "auto" the threshold is the upper fence of a box plot of the
        logarithms of ``calibration_scores_``, or of all training scores if there are none: the third quartile plus 1.5
        interquartile ranges. An object is fitted on the training scores, and the threshold separates its labels. With "auto"
        or an object the memory leaves out a tenth of the rows.
    convention : {"pyod", "sklearn"}, default="pyod"
        Meaning of ``decision_function``, ``predict`` and ``fit_predict``: PyOD's (higher = more abnormal; 0 and 1) or
        scikit-learn's (negative = outlier; +1 and -1). It only changes how results are reported: ``set_params`` switches a
        fitted detector.
    backbone : {"auto", "fc", "conv2d", "conv3d"} or callable, default="auto"
        Kind of encoder and decoder: fully connected, or 2-D or 3-D convolutions. "auto" is "fc" for tables, "conv2d" for images
        and "conv3d" for clips. Samples (H, W) with a side of at most four are windows of time series rather than images, so
        "fc". The convolutions of images above about 64 x 64 pixels see averages of squares of pixels, and their reconstruction
        is interpolated to all pixels. A callable sees all pixels; it takes the sample shape, channels first, and returns an
        encoder and a decoder (``torch.nn.Module``); random numbers that they draw from torch's generators follow
        ``random_state``.
    widths : tuple of int, default=None
        Sizes of the fully connected layers after the input, or channels of the convolutions. The last is the width of a query;
        with one query per sample a convolutional encoder ends in a linear layer of that width. None chooses by the sample
        shape: a query has half as many numbers as a sample, from 2 to 32; in a memory of rows at least 16, or as many as a row
        if that is less; with a query per location 16 to 64, the channels of the last convolution.
    sample_shape : tuple of int, default=None
        Shape to give each sample, such as ``(1, 28, 28)`` for flat rows in a Pipeline of 2-D steps.
    channel_axis : "auto", int or None, default="auto"
        Axis of X that holds the channels, 1 or -1; None if there is none. "auto" takes the axis with 1, 3 or 4 channels, else
        the one that leaves square images, else one of at most 16 channels; a warning says when the shape leaves a doubt.
    memory_size : "auto" or int, default="auto"
        N, the number of memory items of a member; 0 makes the plain autoencoder. In a memory of rows "auto" is all rows, at
        most 8000 and at most a million numbers; this limit is never below 100 rows. Otherwise it is 100, for images a tenth of
        the samples between 100 and 500, 1000 with a query per location, or a quarter of the training queries if that is less.
    memory_unit : {"auto", "row", "sample", "location"}, default="auto"
        Meaning of a memory item. "row": a row of the training data with a short key, which is compared with queries; when a
        training row is scored, its own item is left out. "sample": a prototype of whole samples, learned in training.
        "location": a learned prototype of one position of a feature map; each position has a query. "auto" is "row" for tables,
        "sample" for images and for tables with a callable ``backbone``, and "location" for clips.
    similarity : {"auto", "cosine", "dot", "distance"}, default="auto"
        Comparison of queries and memory items: their cosine (equation 5 of the paper), their dot product (as in the authors'
        code), or minus the mean squared difference. "auto" is "distance" for a memory of rows, else "cosine".
    temperature : "auto" or float, default="auto"
        Divides the similarities before the softmax: the lower, the fewer items answer. The paper has 1. "auto" is 0.01 for
        images, 0.05 for vectors and clips, and 0.1 for a memory of rows. There the value hardly matters, because the scale of
        queries is chosen by the leave-one-out error.
    shrink_threshold : float, default=1.0
        Weights of memory items below this multiple of 1/N become zero (lambda of equations 6 and 7); 0 keeps all. The best item
        of a query is always kept.
    entropy_weight : float, default=2e-4
        Weight of the entropy of the addressing weights in the objective of training (alpha of equation 10).
    ensemble_size : "auto" or int, default="auto"
        Number of members, which differ by their random start and by the rows in their memory or the order of batches. The
        anomaly score takes the geometric mean of their errors. "auto" is 4 for vectors and 1 for images and clips; with a
        memory of n rows 16 for n up to 250, 4000 / n up to a thousand, 4 up to 2000, and then 8000 / n, at least 1;
        of wide tables fewer, but 4 at least, with up to 2000 rows.
    anomaly_score : str, default="auto"
        An error, or an error and a factor with a hyphen between them. Higher = more abnormal. Errors, in scaled units:

        * "reconstruction": squared l2 error, as in the paper;
        * "absolute": l1 error, which training then minimises; with "absolute-query" it minimises the squared error;
        * "power": sum of the absolute errors to the power 1.5, which training then minimises;
        * "smooth": squared error after a blur of at most 1.5 pixels, so that a displaced edge counts little; with
          ``scaling="contrast"`` times the squared distance between the sample, at unit deviation, and the mean sample;
        * "local": l4 norm of the mean squared errors of patches, a seventh of the smaller side wide, for small defects; of a
          clip the median over its frames;
        * "relative": squared error divided by the norm of the sample.

        Factors:

        * "query", for learned memory items: ``1 + q / (10 q_0)``, with q the squared distance between query and read-out and
          q_0 its median over the training samples;
        * "subsets", for a memory of rows: twice the distance from random subsets, in local units, and the distance from the
          median row are added, each term in units of its median. A subset holds about one of the rows that the memory leaves
          out, and at most a fourth of all rows. The median row does not count in clean data, a ``contamination`` of 0.001, and
          counts in full from 0.02 on;
        * "turns", for images and clips: the square root of the error, times the mean squared distance between features of
          the sample and its quarter turns and those of the nearest training samples. The features come from a network that has
          learned to recognise by how many quarter turns an image is turned;
        * "paces", for clips: the same with features of moving things, from a network that has learned to recognise the pace of
          a clip;
        * "patches", for images: the square root of the error, times the distance of the worst patches from the distribution of
          all patches of the training images and from those at the same place, for small flaws of surfaces. It needs no
          training. Shares of :meth:`explain` and p-values of places are then those of the patches.

        "auto" is "power-subsets" for a memory of rows, or "power" without a memory; "absolute-query" for other vectors and
        "relative-turns" for clips. For images it is "smooth-patches" if they show a surface, such as a texture or a part that
        is always photographed alike: at least ten images with sides of at least 16 pixels, whose local contrast varies little
        from one to the next; else "smooth-turns". Without a memory it is these errors without a factor.
    scaling : {"auto", "contrast", "log-contrast", "log", "standard", "minmax"} or None, default="auto"
        "contrast" subtracts each sample's own mean and divides by its own deviation plus a fifth of a typical one, then
        subtracts the mean sample: samples are compared by their content and not by their brightness. "log-contrast" does so
        after ``log(1 + x / u)`` of the channels that are never negative, with u 3 % of their largest value, so that the
        strength of the light matters even less. The others are learned in ``fit``, per column of a table and per channel of
        images and clips. "standard" gives zero mean and unit deviation. In tables it learns both from values clipped to three
        interquartile ranges beyond the quartiles, scaled values beyond 10 grow logarithmically, and any other value of a
        constant column becomes a large one. "log" is "standard" after ``log(1 + x / u)`` of columns or channels that are never
        negative and have a heavy tail (excess kurtosis above 50, or above 10 over two decades), with u the 5 % quantile of
        their positive values: amounts are compared by their ratios. "minmax" maps minimum and maximum to 0 and 1. None = off.
        "auto" is "log" for vectors, "log-contrast" for images of surfaces, "contrast" for other images of 16 pixels and more,
        else "standard". Under all of them scaled values beyond 10^9 grow logarithmically, so that every finite sample has a
        finite score.
    learning_rate : "auto" or float, default="auto"
        Peak learning rate of Adam; it rises over the first tenth of training and then falls to zero along a cosine. "auto" is
        5e-3 for a memory of rows, else 2e-3.
    batch_size : "auto" or int, default="auto"
        At least 2. "auto" is about a twentieth of the samples, between 32 and 1024; for clips at most 128, and for images about
        a 64th, between 32 and 128. For both it is less, but at least 8, if a batch would hold more than a million
        numbers. For a memory of rows it is an 80th of the rows,
        between 64 and 256.
    max_epochs : "auto" or int, default="auto"
        "auto" is enough epochs for about 320 optimiser steps of images, at least 12, for 500 of clips and 2,000 of vectors,
        at least 20, and for 80 with a memory of rows; at most 200. For "turns" of images a network trains for about twelve
        epochs more, between 240 and 1,400 steps, or fewer once the ranking of images no longer changes.
    validation_fraction : "auto" or float in [0, 1), default="auto"
        Share of X held out to stop early, 256 MiB at most: training stops after 20 epochs without a smaller held-out error,
        counted from 60 % of ``max_epochs`` on if there are learned items. The parameters with the smallest error are kept.
        0 = no early stopping. "auto" is 0 for a memory of rows, else 0.1.
    time_limit : float or None, default=None
        Seconds, above 0, that ``fit`` and :meth:`partial_fit` may take from the check of X to the end of training; None = no
        limit. The networks share the time equally, the one of "turns" or "paces" included. Each does its whole training with
        fewer steps: the learning rate falls to zero as the time runs out. ``max_epochs`` is still the most. The scores of the
        training data come on top, as do at least five steps of each network; a warning says if there was time for no more. The
        result depends on the speed of the machine, unless training ends well before the limit.
    device : str, default="auto"
        Where ``fit`` trains: "cpu", "cuda", "cuda:1", "mps", ..., or "auto" for the accelerator if there is one. In a process
        of ``torchrun`` "auto" and "cuda" are the GPU with the local rank as its number, and all processes train together. See
        also :meth:`to`.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Dtype of convolutions and matrix products in training; scores are always computed in float32. "auto" is bfloat16 on CUDA
        devices that have it, else float32. On a CPU with instructions for bfloat16 a fit of images takes about four
        fifths of the time with it; on others it takes longer.
    random_state : int, RandomState instance or None, default=None
        The same int gives the same result to the bit on the same machine with the same number of threads.
    verbose : {0, 1, 2}, default=0
        0 quiet, but for a ``LongFitWarning`` after the first steps if a fit may take more than a minute; 1 a progress bar, 2 a
        line per epoch.

    Attributes
    ----------
    decision_scores_ : ndarray of shape (n_samples,)
        Anomaly scores of the training data, higher = more abnormal. If ``validation_fraction`` holds samples out and there is
        no memory of rows, scores of samples used in training are mapped to the quantiles of held-out scores. The same mapping
        applies when such a sample is scored again, until :meth:`partial_fit`.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Anomaly scores of training samples held out from the networks that score them, which :meth:`p_values` and a
        ``false_alarm_rate`` use. With a memory of rows these are scores of all training rows, as each row is scored without its
        own item; a record that occurs several times counts once, and no row counts in the frequency of its kind. Else they are
        scores of samples that ``validation_fraction`` holds out, so none for a table without a memory by default.
    labels_ : ndarray of shape (n_samples,)
        1 for outliers of the training data, 0 for inliers: ``decision_scores_ > threshold_``, under either convention.
    threshold_, offset_ : float
        Anomaly score above which a sample is an outlier, and minus that.
    model_ : torch.nn.ModuleList
        The trained networks: one for each member, or a single one of all members with a memory of rows.
    memory_ : ndarray of shape (ensemble_size * N, C)
        The memory items of all members, one member after the other. In a memory of rows an item has the numbers of the key
        first, ``widths[-1]`` of them, and then those of the scaled row.
    memory_rows_ : ndarray of int of shape (ensemble_size * N,) or None
        The training row that each item is made of; None for learned items.
    memory_usage_ : ndarray of shape (ensemble_size * N,)
        Share of its member's queries that used each item. The queries are those of all training samples, or of some: at most
        512 with a memory of rows, else 8,192.
    zero_row_fraction_ : float
        Share of the training queries whose weights all missed the threshold, so that only the best item was kept.
    effective_items_ : float
        How many memory items answer a training query, 1 to N: the exponential of the entropy of its weights, the median over
        the queries; 0 without a memory.
    loss_curve_, validation_curve_ : list of float
        Objective per training sample and error per held-out sample of each epoch, means over the members. Epochs that
        ``time_limit`` has cut short are left out, but for the first.
    n_iter_ : int
        Epochs run, so the length of ``loss_curve_``. If ``time_limit`` was over first, it is less than ``max_epochs``.
    resolved_params_ : dict
        All parameters, with the values to which ``None`` and "auto" were resolved. Without a memory its parameters are None.
    backbone_ : str or callable
        The ``backbone`` that was used.
    sample_shape_ : tuple of int
        Shape of one sample of the network, channels first.
    device_ : str
        Where scoring runs.
    n_features_in_ : int
        Size of axis 1 of X.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the columns, if X was a DataFrame with strings for names.

    See Also
    --------
    pyod.models.auto_encoder.AutoEncoder : Autoencoder without a memory.
    sklearn.ensemble.IsolationForest : Outlier detection by random trees.

    References
    ----------
    .. [1] D. Gong, L. Liu, V. Le, B. Saha, M. R. Mansour, S. Venkatesh, A. van den Hengel, "Memorizing Normality to Detect
       Anomaly: Memory-augmented Deep Autoencoder for Unsupervised Anomaly Detection", ICCV 2019, arXiv:1904.02639.

    Examples
    --------
    >>> import numpy as np
    >>> from skmemae import MemAEDetector
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = MemAEDetector(contamination=0.05, max_epochs=20, random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.1, 0.0], [9.0, -9.0, 9.0]])
    array([0, 1])
    >>> detector.set_params(convention="sklearn").predict([[0.0, 0.1, 0.0], [9.0, -9.0, 9.0]])
    array([ 1, -1])
    """

    _parameter_constraints = CONSTRAINTS
    _model: FittedModel
    _ensemble_size: int | str  # as fit was given it
    _calibrating: np.ndarray  # numbers of the samples of calibration_scores_ in the stream
    _window: tuple[int, ...]  # samples seen in the stream, and the most of the latest ones that are remembered

    def __init__(
        self,
        contamination: Any = 0.1,
        *,
        convention: str = "pyod",
        backbone: Any = "auto",
        widths: tuple[int, ...] | None = None,
        sample_shape: tuple[int, ...] | None = None,
        channel_axis: str | int | None = "auto",
        memory_size: str | int = "auto",
        memory_unit: str = "auto",
        similarity: str = "auto",
        temperature: str | float = "auto",
        shrink_threshold: float = 1.0,
        entropy_weight: float = 2e-4,
        ensemble_size: str | int = "auto",
        anomaly_score: str = "auto",
        scaling: str | None = "auto",
        learning_rate: str | float = "auto",
        batch_size: str | int = "auto",
        max_epochs: str | int = "auto",
        validation_fraction: str | float = "auto",
        time_limit: float | None = None,
        device: str = "auto",
        precision: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ):
        self.contamination = contamination
        self.convention = convention
        self.backbone = backbone
        self.widths = widths
        self.sample_shape = sample_shape
        self.channel_axis = channel_axis
        self.memory_size = memory_size
        self.memory_unit = memory_unit
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.entropy_weight = entropy_weight
        self.ensemble_size = ensemble_size
        self.anomaly_score = anomaly_score
        self.scaling = scaling
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.time_limit = time_limit
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: ArrayLike, y: Any = None, *, checkpoint: str | os.PathLike | None = None) -> Self:
        """Train on X, which may hold a share of outliers, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, d), (n_samples, H, W), (n_samples, C, H, W), (n_samples, C, T, H, W), ...
            Any real dtype; images and clips also with the channels last. Memory maps and arrays of zarr, h5py and dask are read
            by blocks.
        y : Ignored
            Passed to callbacks of scikit-learn, and not used otherwise.
        checkpoint : str, PathLike or None, default=None
            File for the state of training, written every few seconds and removed once the fit is complete. If the fit is
            killed, the same call continues from this file, with what is left of ``time_limit``. It is refused if a byte of X or
            a parameter differs.

        Returns
        -------
        self : object
            Fitted. If anything goes wrong, an interruption included, the detector is left as it was.

        Raises
        ------
        ValueError
            If a parameter or X is not accepted, the checkpoint is damaged or of another fit, or training diverges.
        TypeError
            If ``checkpoint`` is not a path.
        MemoryError
            If the networks or two samples do not fit into memory.
        RuntimeError, OSError
            If another process of a distributed fit fails, or does not enter it; if the checkpoint cannot be read or
            written.
        """
        with unchanged_on_error(self):
            return self._fit(X, y, checkpoint)

    @isolated
    @with_callbacks
    def _fit(self, X: Any, y: Any, checkpoint: str | os.PathLike | None) -> Self:
        params = self.get_params(deep=False)
        with processes_of_fit() as processes:
            X, layout = processes.checked(self._check_fit, X)
            kept = None
            if checkpoint is not None and processes.rank == 0:
                trained_with = {**params, "contamination": share_of_outliers(params)}  # an object sets the threshold alone
                kept = Checkpoint(checkpoint, identity_of(X, trained_with, __version__))
            run = self._run(X, processes, [FitTasks(self, X, y)] if processes.rank == 0 and has_callbacks(self) else [], kept)
            fitted = fit_model(X, layout, params, run)
        self._set_fitted(fitted)
        scores, as_new, calibrating, *_ = fitted.scores
        self._set_training_scores(scores, fitted.noise, as_new[calibrating])
        self._calibrating, self._window = calibrating, tuple(Window.of(len(X)))
        self._ensemble_size = params["ensemble_size"]
        if kept is not None:
            kept.remove()
        return self

    def partial_fit(self, X: ArrayLike, y: Any = None) -> Self:
        """Learn from more samples of a stream; the first call is :meth:`fit`.

        The scaling stays as ``fit`` learned it. A window holds the latest samples: as many as ``fit`` saw, or 1000 if that is
        more. A memory of rows takes the new rows, without the share of outliers, and drops rows that leave the window; the
        networks train on the rows in the memory. Learned items that hardly any sample addresses any more are moved to queries
        of new samples, and the networks train on the new samples alone, so give many in one call. Training is half as long as
        in ``fit``, and a quarter as long with a memory of rows. ``decision_scores_``, ``labels_``, the threshold of
        ``contamination`` and ``calibration_scores_`` follow the window. :meth:`p_value_map` compares with the samples
        that the last call held out, or an earlier one if that has held out none.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            At least two samples of the shape that ``fit`` saw.
        y : Ignored
            Passed to callbacks by the first call, and not used otherwise.

        Returns
        -------
        self : object
            If anything goes wrong, an interruption included, it raises as :meth:`fit` does and leaves the detector as it was.

        Examples
        --------
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(1200, 3))
        >>> detector = MemAEDetector(random_state=0).fit(X[:200]).partial_fit(X[200:] + 4)
        >>> detector.predict([[0, 0, 0], [4, 4, 4]])
        array([1, 0])
        """
        if not hasattr(self, "_model"):
            return self.fit(X, y)
        with unchanged_on_error(self):
            return self._update(X)

    @isolated
    def _update(self, X: Any) -> Self:
        window = Window(*self._window)
        with processes_of_fit() as processes:
            X = processes.checked(self._check_update, X)
            run = self._run(X, processes)
            run.generator.manual_seed((run.seed + window.n_seen) % 2**31)
            staying = {name: self.resolved_params_[name] for name in ("scaling", "sample_shape", "channel_axis")}
            params = {**self.get_params(deep=False), **staying, "ensemble_size": self._ensemble_size}
            fitted = update_model(self._model, window, self.memory_usage_, X, params, run)
        self._set_fitted(fitted, self.loss_curve_, self.validation_curve_)
        new, as_new, calibrating, *_ = fitted.scores
        window = window.after(len(X))
        numbers = np.concatenate([self._calibrating, window.n_seen - len(new) + calibrating])
        calibration = np.concatenate([self.calibration_scores_, as_new[calibrating]])
        inside = numbers >= window.begin
        scores = np.concatenate([self.decision_scores_, new])[-window.capacity :]
        self._set_training_scores(scores, self._noise, calibration[inside])
        self._calibrating, self._window = numbers[inside], tuple(window)
        return self

    def _check_fit(self, X: Any) -> tuple[Samples, Layout]:
        """X as a checked array, and its layout; raises if a parameter is wrong or does not fit them."""
        self._validate_params()
        params = self.get_params(deep=False)
        check_values(params)
        X = check_samples(self, X, least=2, reset=True)
        layout = choose_layout(X.shape[1:], self.backbone, self.sample_shape, self.channel_axis)
        check_fit(params, layout)
        warn_of_sensors(X, layout, self.backbone)
        return X, layout

    def _check_update(self, X: Any) -> Samples:
        """X as a checked array of samples like those of the fit."""
        self._validate_params()
        check_values(self.get_params(deep=False))
        return check_known_shape(self, X, self._model.layout.array_shape, least=2)

    def _run(
        self,
        X: Samples,
        processes: SingleProcess,
        observers: list[FitTasks] | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> Run:
        """The run of a fit, with its device and seed; raises if processes have different samples or parameters."""
        device = resolve_device(self.device, processes.local_rank)
        processes.check_equal(parameters=plain_parameters(self.get_params(deep=False)))
        if processes.size > 1:
            processes.check_equal(X=processes.checked(digest, X))
        seed = processes.compute_on_first(int, check_random_state(self.random_state).randint(2**31 - 1))
        run = Run(device, seed, processes, int(self.verbose), observers or [], checkpoint, Timing(self.time_limit))
        run.precision = training_dtype(self.precision, device)
        return run

    def _set_fitted(self, fitted: Fitted, loss_curve: Any = (), validation_curve: Any = ()) -> None:
        """Set the attributes of a model and of its training; the given curves come before those of this training."""
        scores, names = fitted.scores, self._get_param_names()
        self._model = fitted.model.eval()
        self.resolved_params_ = {name: value for name, value in fitted.params.items() if name in names}
        self.backbone_, self.sample_shape_ = fitted.params["backbone"], fitted.model.layout.sample_shape
        self.memory_usage_, self.zero_row_fraction_ = scores.use.usage.ravel(), scores.use.zero_row_fraction
        self.effective_items_ = scores.use.effective
        self.loss_curve_ = [*loss_curve, *fitted.curves.loss]
        self.validation_curve_ = [*validation_curve, *fitted.curves.validation]
        self.n_iter_ = len(self.loss_curve_)
        warn_of_collapse(scores.use, self.shrink_threshold)

    @property
    def model_(self) -> torch.nn.ModuleList:
        """The trained networks."""
        return self._fitted_model().networks.networks

    @property
    def memory_(self) -> np.ndarray:
        """The memory items of all members."""
        return self._fitted_model().items()

    @property
    def memory_rows_(self) -> np.ndarray | None:
        """The training row that each item is made of."""
        rows = self._fitted_model().known.item_rows
        return None if rows is None else rows.flatten().numpy(force=True)

    @property
    def device_(self) -> str:
        """Where scoring runs."""
        return str(self._fitted_model().device)

    def to(self, device: str) -> Self:
        """Move the fitted detector to another device, where it scores from then on.

        Parameters
        ----------
        device : str
            "auto", "cpu", "cuda", "cuda:1", "mps", ...

        Returns
        -------
        self : object
            The ``device`` parameter, which is for ``fit``, stays as it was.

        Raises
        ------
        ValueError
            If the device cannot be used here. The detector is then as it was.
        """
        self._fitted_model().move(device)
        return self

    def score_samples(self, X: ArrayLike) -> np.ndarray:
        """Normality of samples under either convention.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        scores : ndarray of shape (n_samples,), float64
            Minus the anomaly score: higher = more normal. A warning says if images or clips are far darker or lighter than all
            training samples, as floats from 0 to 1 are for a detector of bytes.
        """
        model, samples = self._fitted_model(), self._check_scoring(X)
        warn_of_other_units(samples, model.layout, model.scaling)
        return -model.scores(samples)

    def reconstruct(self, X: ArrayLike) -> Any:
        """Reconstruct samples from the memory.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        reconstruction : ndarray of X's shape, or DataFrame
            In the units of X, the mean over the members; float64 for float64 X, else float32. For a DataFrame one with
            the same columns and index.
        """
        return same_frame_type(X, self._fitted_model().reconstruct(self._check_scoring(X)))

    def anomaly_map(self, X: ArrayLike) -> Any:
        """Squared residual of every number of each sample.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        map : ndarray of X's shape, or DataFrame, float32
            In scaled units, not negative, higher = more abnormal, the mean over the members. The sum over a sample is its
            squared error, which is the anomaly score of ``anomaly_score="reconstruction"`` with one member, except for training
            samples whose scores are mapped (``decision_scores_``). For a DataFrame one with the same columns and index.
        """
        return same_frame_type(X, self._fitted_model().residuals(self._check_scoring(X)))

    def p_value_map(self, X: ArrayLike) -> np.ndarray:
        """How likely a normal image or clip would have so large an error in each place.

        The error of a place is the distance of the patches around it with "patches". Else it is the squared residual of
        :meth:`anomaly_map`, the mean over the channels, smoothed by a Gaussian with a deviation of a 32nd of the smaller side,
        at least half a pixel. Errors are divided by their mean in the same place of samples that were held out from training.
        A p-value is the share of the places of all held-out samples in which that ratio is at least as
        large; it is interpolated between a thousand quantiles.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or clips. The errors of samples that were used in training are smaller, so their p-values are larger.

        Returns
        -------
        p_values : ndarray of shape (n_samples, H, W) or (n_samples, T, H, W), float32
            In ``[1 / (n + 1), 1]``, where n is the number of places of all held-out samples, at most about four million; lower
            = more abnormal, the same under both conventions. The p-values of all places of many new normal samples are uniform;
            those of one sample depend on each other.

        Raises
        ------
        ValueError
            If samples are vectors, or none were held out from training.

        Examples
        --------
        >>> from sklearn.datasets import load_digits
        >>> from skmemae import MemAEDetector
        >>> digits = load_digits()
        >>> threes = digits.images[digits.target == 3]
        >>> detector = MemAEDetector(random_state=0).fit(threes[:150])
        >>> speck = threes[150:151].copy()
        >>> speck[0, 0, 7] = 16
        >>> detector.p_value_map(speck).shape
        (1, 8, 8)
        >>> bool(detector.p_value_map(speck)[0, 0, 7] < 0.01)
        True
        """
        model = self._fitted_model()
        if not model.layout.place_shape:
            raise ValueError(
                f"p_value_map needs images or clips, but this {type(self).__name__} was fitted on vectors of shape "
                f"{model.layout.sample_shape}."
            )
        if model.places is None:
            raise ValueError(
                "p_value_map needs samples that were held out from training, and this detector has none: fit with "
                "validation_fraction above 0, or on more samples."
            )
        samples = self._check_scoring(X)
        warn_of_other_units(samples, model.layout, model.scaling)
        return model.place_p_values(samples)

    def explain(self, X: ArrayLike, n_items: int = 5) -> Explanation:
        """Explain scores: the share of each number, its expected value, and the memory items with the largest weights.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
        n_items : int, default=5
            Number of memory items to name for each sample.

        Returns
        -------
        explanation : Explanation
            With ``shares`` that sum to the scores, ``values`` and ``expected`` values in the units of X, memory ``items`` and
            their ``weights``, and for images and clips ``regions``.

        Raises
        ------
        ValueError
            If ``n_items`` is not accepted.

        Examples
        --------
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(300, 3))
        >>> explanation = MemAEDetector(random_state=0).fit(X).explain([[0.0, 7.0, 0.0]])
        >>> explanation.shares.argmax(axis=1)
        array([1])
        >>> bool(np.isclose(explanation.shares.sum(), explanation.scores[0]))
        True
        """
        model, n_items = self._fitted_model(), check_positive_int("n_items", n_items, "explain")
        explanation = explain(model, self._check_scoring(X), n_items)
        index = X.index if hasattr(X, "index") and hasattr(X, "columns") else None
        return dataclasses.replace(explanation, feature_names=getattr(self, "feature_names_in_", None), index=index)

    def addressing_weights(self, X: ArrayLike) -> np.ndarray:
        """Weights with which the memory items answer each sample (equation 7, renormalised).

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)

        Returns
        -------
        weights : ndarray of shape (n_samples, ensemble_size * N) or (n_samples, \\*positions, ensemble_size * N), float32
            Not negative; each row sums to 1. Columns are the items of :attr:`memory_`; those of one member sum to
            ``1 / ensemble_size``. The second shape comes with ``memory_unit="location"``.

        Raises
        ------
        ValueError
            If there is no memory (``memory_size=0``).
        """
        return self._with_memory("addressing_weights").weights(self._check_scoring(X))

    def decode_memory(self, items: ArrayLike | None = None) -> np.ndarray:
        """Decode memory items as if each answered alone (figure 3 of the paper).

        Parameters
        ----------
        items : array-like of int or None, default=None
            Rows of :attr:`memory_` to decode, all for None.

        Returns
        -------
        samples : ndarray of shape (n_items, \\*shape of a sample of X), float32
            In the units of X. For None ``n_items`` is ``ensemble_size * N``.

        Raises
        ------
        ValueError
            If there is no memory (``memory_size=0``), or an item is not in it.
        """
        model = self._with_memory("decode_memory")
        n_items = self.memory_usage_.size
        numbers = np.arange(n_items) if items is None else np.asarray(items)
        numbers = numbers if numbers.size else numbers.astype(int)
        if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not np.isin(numbers, np.arange(n_items)).all():
            raise ValueError(
                f"The 'items' parameter of decode_memory must be None or a list of int from 0 to {n_items - 1}. "
                f"Got {items!r} instead."
            )
        return model.decode_items(numbers.astype(np.int64))

    @isolated
    def channels_first(self, X: ArrayLike) -> np.ndarray:
        """Samples in the layout of the network, channels first; values and dtype stay the same.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples of the shape that ``fit`` saw, or results of :meth:`reconstruct`, :meth:`anomaly_map` or
            :meth:`decode_memory`.

        Returns
        -------
        samples : ndarray of shape (n_samples, \\*sample_shape_)

        Raises
        ------
        ValueError
            If the samples have another shape than those of ``fit``.
        """
        layout = self._fitted_model().layout
        X = np.asarray(X)
        check_shape(self, X, layout.array_shape)
        return layout.to_network(torch.from_numpy(X.astype(X.dtype.newbyteorder("=")))).numpy()

    @isolated
    def scaled(self, X: ArrayLike) -> np.ndarray:
        """Samples in the scaled units of :meth:`anomaly_map`, in which the columns of a table can be compared.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Samples of the shape that ``fit`` saw, or their reconstructions.

        Returns
        -------
        samples : ndarray of shape (n_samples, \\*sample_shape_), float32

        Raises
        ------
        ValueError
            If the samples have another shape than those of ``fit``.
        """
        model, samples = self._fitted_model(), torch.from_numpy(self.channels_first(np.asarray(X, dtype=np.float64)))
        return model.scaling(samples.to(model.scaling.center.device)).numpy(force=True)

    def __getstate__(self) -> dict[str, Any]:
        """State for pickles, with the model as NumPy arrays and a format version: loads without the training device."""
        state = super().__getstate__()
        if "_model" in state:
            state["_model"] = files.state_of(state["_model"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "decision_scores_" in state:
            state = {**_ABSENT, **state}
        super().__setstate__(state)
        if "decision_scores_" in state:
            self._model = files.model_of(state.get("_model", {}))

    def save(self, path: str | os.PathLike | BinaryIO) -> None:
        """Write the fitted detector to one file, from which :meth:`load` restores all attributes and equal scores.

        The file is in the format of safetensors: arrays, and one JSON text. Unlike a pickle it holds no code.

        Parameters
        ----------
        path : str, PathLike or binary file object
            A path, by convention ``*.safetensors``: an existing file is replaced in one step, after all is written. Or an
            object with a ``write`` method for bytes, such as ``io.BytesIO()`` or ``open(..., "wb")``: all is written at its
            present position.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        ValueError
            If it holds values that a file cannot keep: a callable ``backbone``, an object as ``contamination``, a
            ``RandomState``, or a parameter that ``fit`` would not accept; if a file object is not open to write.
        TypeError
            If ``path`` is neither a path nor a binary file object.
        OSError
            If the file cannot be written; FileNotFoundError if there is no such folder. The file at a path is then as it was.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = MemAEDetector(max_epochs=2, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "detector.safetensors")
        ...     detector.save(path)
        ...     again = MemAEDetector.load(path)
        >>> np.array_equal(again.decision_function(X), detector.decision_function(X))
        True
        """
        self._fitted_model()
        self._validate_params()  # set_params may have set values that load would refuse
        check_values(self.get_params(deep=False))
        state, params = self.__getstate__(), self.get_params(deep=False)
        files.check_parameters(params)
        model = state.pop("_model")
        left_out = {*params, "_skl_callbacks", "_metadata_request", "_sklearn_version"}
        attributes = {name: value for name, value in state.items() if name not in left_out}
        # Objects have done their work in ``fit``; the parameters that replaced them stand for them.
        attributes["resolved_params_"] = {**self.resolved_params_, **{n: params[n] for n in ("contamination", "random_state")}}
        content = files.content_of(files.Saved(params, attributes, model), __version__)
        with writing(path) as file:
            file.write(content)

    @classmethod
    def load(cls, path: str | os.PathLike | BinaryIO) -> Self:
        """Make a detector from a file that :meth:`save` wrote.

        No code of the file runs, and memory stays within a small multiple of the file's size, also if the file comes from an
        untrusted source.

        Parameters
        ----------
        path : str, PathLike or binary file object
            A path, or an object with a ``read`` method for bytes, which is read from its present position to its end.

        Returns
        -------
        detector : MemAEDetector
            Fitted; on the CPU where the device that it was saved on is absent.

        Raises
        ------
        TypeError
            If ``path`` is neither a path nor a binary file object.
        ValueError
            If the file is damaged, of a newer format, or was not written by :meth:`save`; if a file object is not open to read.
        OSError
            If the file cannot be read; FileNotFoundError if there is none.

        Examples
        --------
        >>> import io
        >>> import numpy as np
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector, file = MemAEDetector(max_epochs=2, random_state=0).fit(X), io.BytesIO()
        >>> detector.save(file)
        >>> again = MemAEDetector.load(io.BytesIO(file.getvalue()))
        >>> np.array_equal(again.decision_function(X), detector.decision_function(X))
        True
        """
        content = files.read(path)
        with files.errors_that_name(path):
            saved = files.saved_in(content)
            detector = cls(**saved.parameters)
            detector._validate_params()
            check_values(saved.parameters)
            files.check_sizes(saved.model)
            files.check_names(saved.attributes, detector)
            detector.__dict__.update({**_ABSENT, **saved.attributes}, _model=files.model_of(saved.model))
            detector._sort_scores()
        return detector

    def export_onnx(self, path: str | os.PathLike | BinaryIO) -> None:
        """Write the fitted detector as one ONNX graph, which runs without Python, torch and this package.

        The graph contains scaling, networks, memory, threshold, and the rule that a training row is scored without its own
        memory item. The input is ``X``, float64, of the shape that ``fit`` saw, with any number of samples. The graph computes
        the scaling and the sums of scores in float64, as the detector does, and the networks in float32. The outputs are

        * ``score`` : float64, (n_samples,). The anomaly score, higher = more abnormal: ``-score_samples(X)`` under either
          convention.
        * ``label`` : int64, (n_samples,). Labels of ``predict`` under the convention that is set now.
        * ``map`` : float32, of X's shape. Result of :meth:`anomaly_map`.

        Scores differ from those of the detector by rounding, by about a millionth. All samples of a call are scored together,
        so give large data in batches of about a thousand, or a few images or clips. The graph does not check X for missing
        values and infinity. While this runs, no other thread may fit or score: torch changes all modules while it traces.

        Parameters
        ----------
        path : str, PathLike or binary file object
            A path, by convention ``*.onnx``: an existing file is replaced in one step, after all is written. Or an
            object with a ``write`` method for bytes, such as ``io.BytesIO()`` or ``open(..., "wb")``: all is written at its
            present position. The metadata of the graph has the ``version`` of this package, ``threshold``, ``convention`` and
            ``feature_names``, a JSON list or null.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        ImportError
            If onnx or onnxscript are not installed.
        RuntimeError
            If torch cannot export the modules of a callable ``backbone``.
        TypeError, ValueError
            If ``path`` is neither a path nor a binary file object, or a file object is not open to write.
        OSError
            If the file cannot be written; FileNotFoundError if there is no such folder. The file at a path is then as it was.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> import onnxruntime
        >>> from skmemae import MemAEDetector
        >>> X = np.random.default_rng(0).normal(size=(200, 3))
        >>> detector = MemAEDetector(max_epochs=20, random_state=0).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "detector.onnx")
        ...     detector.export_onnx(path)
        ...     session = onnxruntime.InferenceSession(path)
        >>> score, label, map = session.run(None, {"X": np.array([[0.0, 0.1, 0.0], [9.0, -9.0, 9.0]])})
        >>> label.tolist()
        [0, 1]
        """
        model = self._fitted_model()
        names = getattr(self, "feature_names_in_", None)
        metadata = {
            "version": __version__,
            "threshold": repr(float(self.threshold_)),
            "convention": self.convention,
            "feature_names": json.dumps(None if names is None else list(names)),
        }
        codes = (1, -1) if self._is_sklearn else (0, 1)
        with writing(path) as file:
            file.write(onnx_file(model, self.threshold_, codes, metadata))

    def _fitted_model(self) -> FittedModel:
        check_is_fitted(self, "_model")
        return self._model

    def _with_memory(self, method: str) -> FittedModel:
        model = self._fitted_model()
        if not model.networks.memories:
            raise ValueError(f"{method} needs a memory, but this {type(self).__name__} was fitted with memory_size=0.")
        return model

    def _check_scoring(self, X: Any) -> Samples:
        """X checked against the training data."""
        return check_known_shape(self, X, self._fitted_model().layout.array_shape)

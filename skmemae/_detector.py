"""MemAEDetector: parameters, fit, and updates."""

from sklearn.utils import check_random_state

from skmemae._callbacks import CallbackSupportMixin, FitTasks, has_callbacks, with_callbacks
from skmemae._contract import unchanged_on_error
from skmemae._data.layout import choose_layout
from skmemae._fitting import fit_model
from skmemae._portable import PortableDetector
from skmemae._resolve import CONSTRAINTS, check_numbers, resolve
from skmemae._runtime import isolated, resolve_device
from skmemae._train.distributed import fingerprint, plain_parameters, processes_of_fit
from skmemae._updating import Window, update_model
from skmemae._warnings import warn_of_collapse


class MemAEDetector(CallbackSupportMixin, PortableDetector):
    """Outlier detection by the reconstruction error of a memory-augmented autoencoder.

    An encoder turns a sample into a query, a memory of N items answers with a sparse mixture of prototypes of the training
    data, and a decoder reconstructs the sample from the answer alone [1]_. What is unlike the training data comes back
    looking like the training data, and its reconstruction error stands out.

    The backbone follows from the shape of X: tables ``(n, d)``, images ``(n, H, W)``, ``(n, C, H, W)`` or
    ``(n, H, W, C)``, clips ``(n, C, T, H, W)`` or ``(n, T, H, W, C)``.

    Parameters
    ----------
    contamination : float in (0, 0.5], "auto" or PyThresh-like object, default=0.1
        Share of outliers in the training data; sets the threshold. Where memory items are rows, it is also the share of rows
        that the memory leaves out, those that random draws of rows find most abnormal: say how clean the data is, and the
        memory trusts as much of it. With "auto" the threshold is the upper fence of a box plot of the logarithms of
        ``calibration_scores_``, or if there are none of all scores: the third quartile and 1.5 interquartile ranges. An object
        is fitted on the training scores; the threshold parts its labels. With both the memory leaves out a tenth.
    convention : {"pyod", "sklearn"}, default="pyod"
        Meaning of ``decision_function``, ``predict`` and ``fit_predict``: PyOD's (higher = more abnormal; 0 and 1) or
        scikit-learn's (negative = outlier; +1 and -1). It only changes how results are reported: ``set_params`` switches a
        fitted detector.
    backbone : {"auto", "fc", "conv2d", "conv3d"} or callable, default="auto"
        "auto" is "fc" for tables, "conv2d" for images and "conv3d" for clips. Samples (H, W) with a side of at most four are
        windows of time series rather than images, so "fc". A callable takes the sample shape, channels first, and returns an
        encoder and a decoder (``torch.nn.Module``); what they draw from torch's random generators follows ``random_state``.
    widths : tuple of int, default=None
        Sizes of the fully connected layers after the input, or channels of the convolutions. The last is always the
        width C of a memory item; with one query per sample a convolutional encoder ends in a linear layer of that width.
        None chooses by the sample shape: codes are half as wide as a sample, at most 32 numbers, but queries of rows at least
        16, or as wide as the row.
    sample_shape : tuple of int, default=None
        Shape to give each sample, such as ``(1, 28, 28)`` for flat rows in a Pipeline of 2-D steps.
    channel_axis : "auto", int or None, default="auto"
        Axis of X that holds the channels, 1 or -1; None if there is none. "auto" takes the axis with 1, 3 or 4 channels, else
        the one that leaves square images, else one of at most 16 channels; a shape that leaves a doubt warns.
    memory_size : "auto" or int, default="auto"
        N, the number of memory items of a member; 0 makes the plain autoencoder. Where items are rows "auto" is all rows, at
        most 8000, but at least 100 and not more than a million numbers. Learned items are 100, for images a tenth of the
        samples between 100 and 500, 1000 with a query per location, or a quarter of the training queries if that is less.
    memory_items : {"auto", "learned", "rows"}, default="auto"
        "learned": items are parameters, as in the paper. "rows": each item is the encoding of a row, a short query by which
        it is addressed and beside it the row itself, and no item answers the row that it is made of, neither in training nor
        when that row is scored. "auto" is "rows" for tables, unless ``backbone`` is callable or ``memory_heads`` given, and
        "learned" for images and clips.
    memory_unit : {"auto", "sample", "location"}, default="auto"
        One query per sample, or one per position of the feature map. "auto" is "location" for clips, else "sample".
    memory_heads : "auto" or int, default="auto"
        Parts that query and items are cut into, each addressed on its own; must divide the width of an item. The paper has 1.
        "auto" is 1, and of learned items for 10,000 vectors and more one for every eight numbers of the item, at most 4.
    similarity : {"auto", "cosine", "dot", "distance"}, default="auto"
        Equation 5 of the paper, the dot product of its released code, or minus the mean squared difference. "auto" is
        "distance" where items are rows, else "cosine".
    temperature : "auto" or float, default="auto"
        Divides the similarities before the softmax. The paper has 1, which hardly tells cosines apart. "auto" is 0.01 for
        images, 0.05 for vectors and clips, 0.1 where items are rows: there the unit of the queries is fitted to it, by leaving
        each row out, and it has little effect.
    shrink_threshold : float, default=1.0
        Lambda of equations 6 and 7 as a multiple of 1/N; 0 = no shrinkage. The best item of a query is always kept.
    entropy_weight : float, default=2e-4
        Alpha of equation 10.
    latent_l1 : float, default=0.0
        Weight of the l1 norm of the encoding (the paper's AE-l1).
    ensemble_size : "auto" or int, default="auto"
        Number of members, which differ by their random start and by the rows in their memory or the order of batches; the
        anomaly score is the geometric mean of theirs. "auto" is 4 for vectors and 1 for images and clips. Where items are rows
        all members are one network: 16 of up to 250 rows, 4 of a thousand, and of more no more than hold 8000 rows together.
    anomaly_score : {"auto", "reconstruction", "absolute", "smooth", "local", "relative", "combined", "motion"}, default="auto"
        All in scaled units, higher = more abnormal. "reconstruction" is the squared l2 error, as in the paper. "absolute" is
        the l1 error, which is then also what training makes small. "smooth" is the squared error after a blur of little more
        than a pixel, as an edge beside its place is no anomaly; with ``scaling="contrast"`` it is multiplied by the squared
        distance of the sample, at unit deviation, from the mean sample. "local" is the l4 norm of the mean squared errors of
        patches, a seventh of the smaller side wide, for what is small and wrong in one place; of a clip the median over its
        frames. "relative" divides the error by the norm of the sample. "combined" is the root of "smooth" for images, of
        "relative" for clips, times the mean squared distance of the features of the sample and its quarter turns from those of
        the nearest training samples, in a network that has learned which turn an image was given. For tables of learned items
        it is the l1 error times ``1 + q / (10 q_0)``, with q the squared distance between query and read-out and q_0 its median
        over the training samples. Where items are rows it is the sum of the absolute errors to the power 1.5, which training
        makes small; unless ``contamination`` is below 0.005, to it are added the city-block distances from random draws of
        about ``1 / contamination`` rows and from the median row, each in units of its median. "motion" is the root of "local"
        times the squared distance of what moves from what moved in training, in a network that has learned to tell the pace of
        clips. "auto" is "combined"; without a memory of images "smooth", of clips "relative".
    scaling : {"auto", "contrast", "log", "standard", "minmax"} or None, default="auto"
        "contrast" subtracts each sample's own mean and divides by its own deviation, then subtracts the mean sample: samples
        are compared by what they show, not by how bright it is. The others are learned in ``fit``, per column of a table and
        per channel of images and clips. "standard" gives zero mean and unit deviation; in tables values count as far as three
        interquartile ranges beyond the quartiles, those beyond ten deviations grow logarithmically, and any other value of a
        constant column is far out. "log" is that after ``log(1 + x / u)`` of columns or channels that are never negative and
        have a heavy tail (excess kurtosis above 50, or above 10 over two decades), with u small among their values: amounts
        are compared by their ratios. "minmax" maps minimum and maximum to 0 and 1. None = off. "auto" is "log" for vectors,
        "contrast" for images of 16 pixels and more, else "standard". Under all of them scaled values beyond 10^9 grow
        logarithmically, so that every finite sample has a finite score.
    thin_repeats : "auto" or bool, default="auto"
        Train tables on ceil(sqrt(k)) of k identical rows, where 100 or more remain, so that frequent rows do not dominate
        training. All rows are scored either way. "auto" is True; where memory items are rows only for a ``contamination``
        below 0.02, as that a row is frequent is what speaks for it where rare ones may be outliers.
    learning_rate : "auto" or float, default="auto"
        Peak learning rate of Adam; it rises over the first tenth of training and then falls to zero along a cosine. "auto" is
        5e-3 where items are rows, else 2e-3.
    batch_size : "auto" or int, default="auto"
        At least 2. "auto" is about a twentieth of the samples, between 32 and 1024, or 128 for images and clips; fewer, but at
        least 8, where a batch would hold more than a million numbers. Where items are rows it is an 80th, between 64 and 256.
    max_epochs : "auto" or int, default="auto"
        "auto" is enough epochs for about 2,000 optimiser steps (800 for images), at least 20, at most 200. Where items are
        rows it is enough for about 80 steps.
    validation_fraction : "auto" or float in [0, 1), default="auto"
        Share of X held out to stop early, 256 MiB at most; the parameters with the smallest held-out error are kept. 0 = no
        early stopping. "auto" is 0 where items are rows, else 0.1.
    n_iter_no_change : int, default=20
        Epochs without an improvement of the held-out error after which training stops. With learned items only epochs after
        the first 60 % of ``max_epochs`` count, in which none is revived any more: of 50 and fewer the default stops none.
    tol : float, default=1e-4
        Relative decrease of the held-out error that counts as an improvement.
    device : str, default="auto"
        Where ``fit`` trains: "cpu", "cuda", "cuda:1", "mps", ..., or "auto" for the accelerator if there is one. In a process
        of ``torchrun`` "auto" and "cuda" are the GPU with its number, and all train together. See also :meth:`to`.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of training alone; scores are always computed in float32. "auto" is bfloat16 on CUDA devices that have it.
    random_state : int, RandomState instance or None, default=None
        One seed gives the same bits on one machine with one number of threads.
    warm_start : bool, default=False
        Let ``fit`` start from the networks of the last fit where they have the same shapes. All else is learned from the new X
        alone; to go on with it, use :meth:`partial_fit`.
    verbose : {0, 1, 2}, default=0
        0 quiet, 1 a progress bar, 2 a line per epoch.

    Attributes
    ----------
    decision_scores_ : ndarray of shape (n_samples,)
        Anomaly scores of the training data, higher = more abnormal. Where items are learned, those of samples trained on are
        raised to the quantiles of those held out, here and, until an update, whenever the very same sample is scored.
    calibration_scores_ : ndarray of shape (n_calibration,)
        Anomaly scores of the training samples that what scores them was not trained on, from which :meth:`p_values` and a
        ``false_alarm_rate`` follow. Where memory items are rows all training scores, as no item answers the row that it is made
        of; else of samples that ``validation_fraction`` holds out, by default none of a table without a memory.
    labels_ : ndarray of shape (n_samples,)
        1 for outliers of the training data, 0 for inliers: ``decision_scores_ > threshold_``, under either convention.
    threshold_, offset_ : float
        Anomaly score above which a sample is an outlier, and minus that.
    model_ : torch.nn.ModuleList
        The trained networks: one for each member, or where items are rows one of all members.
    memory_ : ndarray of shape (ensemble_size * N, C)
        The memory items of all members, one member after the other. Where items are rows an item has the numbers of the query
        first, ``widths[-1]`` of them, and then those of the scaled row.
    memory_rows_ : ndarray of int of shape (ensemble_size * N,) or None
        The training row that each item is made of; None where items are learned.
    memory_usage_ : ndarray of shape (ensemble_size * N,)
        Share of the queries of its member that used each item, of all training samples or some thousands among them.
    zero_row_fraction_ : float
        Share of the training queries whose weights all missed the threshold, so that only the best item was kept.
    loss_curve_, validation_curve_ : list of float
        Objective per training sample and error per held-out sample, by epoch, the means over the members.
    n_iter_ : int
        Epochs run.
    resolved_params_ : dict
        All parameters, with what ``None`` and "auto" came to where that depends on the data.
    backbone_ : str or callable
        The ``backbone`` that was used.
    sample_shape_ : tuple of int
        Shape of one sample as the network sees it, channels first.
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
    _n_seen: int  # samples of the stream, and how many of the latest are remembered
    _capacity: int

    def __init__(
        self,
        contamination=0.1,
        *,
        convention="pyod",
        backbone="auto",
        widths=None,
        sample_shape=None,
        channel_axis="auto",
        memory_size="auto",
        memory_items="auto",
        memory_unit="auto",
        memory_heads="auto",
        similarity="auto",
        temperature="auto",
        shrink_threshold=1.0,
        entropy_weight=2e-4,
        latent_l1=0.0,
        ensemble_size="auto",
        anomaly_score="auto",
        scaling="auto",
        thin_repeats="auto",
        learning_rate="auto",
        batch_size="auto",
        max_epochs="auto",
        validation_fraction="auto",
        n_iter_no_change=20,
        tol=1e-4,
        device="auto",
        precision="auto",
        random_state=None,
        warm_start=False,
        verbose=0,
    ):
        self.contamination = contamination
        self.convention = convention
        self.backbone = backbone
        self.widths = widths
        self.sample_shape = sample_shape
        self.channel_axis = channel_axis
        self.memory_size = memory_size
        self.memory_items = memory_items
        self.memory_unit = memory_unit
        self.memory_heads = memory_heads
        self.similarity = similarity
        self.temperature = temperature
        self.shrink_threshold = shrink_threshold
        self.entropy_weight = entropy_weight
        self.latent_l1 = latent_l1
        self.ensemble_size = ensemble_size
        self.anomaly_score = anomaly_score
        self.scaling = scaling
        self.thin_repeats = thin_repeats
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose

    def fit(self, X, y=None, *, checkpoint=None):
        """Train on X, which may hold a share of outliers, and set the threshold.

        Parameters
        ----------
        X : array-like of shape (n_samples, d), (n_samples, H, W), (n_samples, C, H, W), (n_samples, C, T, H, W), ...
            Any real dtype; images and clips also with the channels last. Memory maps and arrays of zarr, h5py and dask are read
            by blocks.
        y : Ignored
            Handed to callbacks of scikit-learn, and else not used.
        checkpoint : str, PathLike or None, default=None
            File of the state until the fit is complete. If it is killed, the same call goes on from there to the same bits;
            with a memory of rows, which trains in seconds, from the start.

        Returns
        -------
        self : object
            Fitted. If anything goes wrong, an interruption included, the detector is left as it was.

        Raises
        ------
        ValueError
            If a parameter, X or the checkpoint is not accepted, or training diverges.
        MemoryError
            If the networks or two samples do not fit into memory.
        RuntimeError, OSError
            If another process of a distributed fit fails, or does not enter it; if the checkpoint cannot be written.
        """
        with unchanged_on_error(self):
            return isolated(self._fit, X, y, checkpoint)

    def partial_fit(self, X, y=None):
        """Learn from more samples of a stream; the first call is :meth:`fit`.

        The scaling stays as ``fit`` learned it. A window holds the latest samples: as many as ``fit`` saw, or 1000 if that is
        more. A memory of rows takes the new rows, without the share of outliers, and drops those that leave the window; the
        networks train on what is in it. Learned items that hardly any sample addresses any more are moved to encodings of new
        samples, and the networks train on these alone, so give many at a time. Training takes half of the epochs of ``fit``.
        ``decision_scores_``, ``labels_``, the threshold of ``contamination`` and ``calibration_scores_`` follow the window.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            At least two samples of the shape that ``fit`` saw.
        y : Ignored
            Handed to callbacks by the first call, and else not used.

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
            return isolated(self._update, X)

    def _update(self, X):
        with processes_of_fit() as processes:
            X = processes.checked(self._check_update, X)
            device, seed = self._device_and_seed(X, processes)
            window = Window(self._n_seen, self._capacity)
            held = self._model, window, self.memory_rows_, self.memory_usage_, self.resolved_params_["anomaly_score"]
            fitted = update_model(*held, X, self.get_params(deep=False), device, seed, processes)
        self._set_fitted(fitted, self.loss_curve_, self.validation_curve_)
        scores = window.latest(self.decision_scores_, fitted.result.scores)
        calibration = window.latest(self.calibration_scores_, fitted.calibration_scores)
        self._set_training_scores(scores, self._noise, calibration)
        self._n_seen, self._capacity = window.after(len(X))
        return self

    def _check_update(self, X):
        """X as a checked array of samples like those of the fit."""
        self._validate_params()
        check_numbers(self.get_params(deep=False))
        return self._check_scoring(X, least=2)

    @with_callbacks
    def _fit(self, X, y, checkpoint):
        with processes_of_fit() as processes:
            X, layout = processes.checked(self._check_fit, X)
            device, seed = self._device_and_seed(X, processes)
            before = getattr(self, "_model", None) if self.warm_start else None
            tasks = FitTasks(self, X, y) if processes.rank == 0 and has_callbacks(self) else None
            fitted = fit_model(X, layout, self.get_params(deep=False), device, seed, processes, before, tasks, checkpoint)
        self._set_fitted(fitted)
        self._set_training_scores(fitted.result.scores, fitted.noise, fitted.calibration_scores)
        self._n_seen, self._capacity = Window.of(len(X))
        fitted.checkpoint.remove()
        return self

    def _check_fit(self, X):
        """X as a checked array, and its layout, once all parameters are known to fit them."""
        self._validate_params()
        check_numbers(self.get_params(deep=False))
        X = self._check_samples(X, least=2, reset=True)
        layout = choose_layout(X.shape[1:], self.backbone, self.sample_shape, self.channel_axis)
        resolve(self.get_params(deep=False), layout, len(X))
        return X, layout

    def _set_fitted(self, fitted, loss_curve=(), validation_curve=()):
        """Set what is known of the networks and of their training, of which the curves are the beginning."""
        model, result, self.resolved_params_ = fitted.model, fitted.result, fitted.params
        self._model, self.backbone_ = model, fitted.params["backbone"]
        self.sample_shape_, self.memory_rows_ = model.layout.sample_shape, fitted.item_rows
        self.memory_usage_, self.zero_row_fraction_ = result.usage.ravel(), result.zero_row_fraction
        self.loss_curve_ = [*loss_curve, *fitted.history.loss_curve]
        self.validation_curve_ = [*validation_curve, *fitted.history.validation_curve]
        self.n_iter_ = len(self.loss_curve_)
        warn_of_collapse(result.usage, self.zero_row_fraction_, self.shrink_threshold)

    def _device_and_seed(self, X, processes):
        """Where this process trains and with which seed, once all are known to have the same samples and parameters."""
        device = resolve_device(self.device, processes.local_rank)
        processes.check_equal(X=fingerprint(X), parameters=plain_parameters(self.get_params(deep=False)))
        return device, processes.compute_on_first(int, check_random_state(self.random_state).randint(2**31 - 1))

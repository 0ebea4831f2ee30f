"""Detectors of the benchmarks: MemAEDetector and untuned baselines, all at their defaults."""

import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lunar import LUNAR
from pyod.models.mcd import MCD
from pyod.models.ocsvm import OCSVM
from pyod.models.vae import VAE
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skmemae import MemAEDetector, presets
from skmemae.benchmark.cells import selected

OURS = "MemAE"
WITHOUT = "no memory"
ERROR_ALONE = "MemAE, error alone"
DEFAULT_SHARE = "MemAE, share 0.1"
PRESET = "MemAE, paper's preset"
DEEP = ("AutoEncoder", "VAE", "DeepSVDD")


class PCAError(BaseEstimator):
    """PCA detector: squared reconstruction error from the components that explain 90 % of the variance.

    PyOD's PCA weights each component by its inverse variance, which is infinite or NaN for constant pixels.
    """

    def fit(self, X):
        """Fit the components."""
        self.pca_ = PCA(n_components=0.9, svd_solver="full").fit(X)
        return self

    def decision_function(self, X):
        """Squared reconstruction errors, higher = more abnormal."""
        return ((X - self.pca_.inverse_transform(self.pca_.transform(X))) ** 2).sum(axis=1)


class DeepSVDDOfAnyWidth(BaseEstimator):
    """PyOD's DeepSVDD, whose constructor needs the number of columns, created in ``fit``."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X):
        """Create and fit a DeepSVDD for the columns of X."""
        self.detector_ = DeepSVDD(X.shape[1], random_state=self.random_state, verbose=0).fit(X)
        return self

    def decision_function(self, X):
        """Squared distances from the centre, higher = more abnormal."""
        return self.detector_.decision_function(X)


class Draws(BaseEstimator):
    """Mean distance to the nearest of 32 random rows, over 50 draws (Sugiyama and Borgwardt, NeurIPS 2013); no training."""

    def __init__(self, size=32, n_draws=50, random_state=None):
        self.size = size
        self.n_draws = n_draws
        self.random_state = random_state

    def fit(self, X):
        """Draw the rows."""
        rng, size = np.random.default_rng(self.random_state), min(self.size, len(X))
        self.rows_ = [X[rng.choice(len(X), size, replace=False)] for _ in range(self.n_draws)]
        return self

    def decision_function(self, X):
        """Mean distances, higher = more abnormal."""
        return sum(cdist(X, rows).min(axis=1) for rows in self.rows_) / self.n_draws


class KernelMixture(BaseEstimator):
    """Squared error of a mixture of at most 2,000 training rows, their weights a Gaussian kernel of the distance.

    The bandwidth is the one, of eleven around the median distance to the nearest row, that mixes rows best from the others. It
    is MemAE's memory of rows without a network.
    """

    def __init__(self, most=2000, random_state=None):
        self.most = most
        self.random_state = random_state

    def fit(self, X):
        """Keep rows, and choose the bandwidth by leaving each row out."""
        rng = np.random.default_rng(self.random_state)
        self.rows_ = X[rng.choice(len(X), min(self.most, len(X)), replace=False)]
        asking = self.rows_[:500]
        squares = cdist(asking, self.rows_, "sqeuclidean")
        np.fill_diagonal(squares, np.inf)
        unit = np.median(squares.min(axis=1)) or 1.0
        units = unit * 2.0 ** np.arange(-4, 7)
        errors = [np.mean((asking - softmax(-squares / unit, axis=1) @ self.rows_) ** 2) for unit in units]
        self.unit_ = units[np.argmin(errors)]
        return self

    def decision_function(self, X):
        """Squared errors, higher = more abnormal."""
        parts = np.array_split(X, -(-len(X) // 1000))
        mixtures = [softmax(-cdist(x, self.rows_, "sqeuclidean") / self.unit_, axis=1) @ self.rows_ for x in parts]
        return ((X - np.concatenate(mixtures)) ** 2).sum(axis=1)


class OnScaledRows(BaseEstimator):
    """Baseline on flattened, scaled samples.

    Columns of tables are standardised. Images and clips are standardised as a whole: unit variance for each pixel would amplify
    the noise of nearly constant pixels, and the baselines score lower with it.

    Parameters
    ----------
    detector : estimator
    most : int or None, default=None
        Largest number of training rows, drawn at random, for detectors of quadratic cost; None for all rows.
    """

    def __init__(self, detector, most=None):
        self.detector = detector
        self.most = most

    def fit(self, X):
        """Fit the scaling and the baseline."""
        axis = 0 if X.ndim == 2 else None
        self.mean_ = X.mean(axis=axis, dtype=np.float64)
        deviation = X.std(axis=axis, dtype=np.float64)
        self.deviation_ = np.where(deviation > 0, deviation, 1.0)
        if self.most is not None and len(X) > self.most:
            X = X[np.random.default_rng(0).choice(len(X), self.most, replace=False)]
        self.detector.fit(self._rows(X))
        return self

    def decision_function(self, X):
        """Anomaly scores, higher = more abnormal; NaN becomes 0, as in PyOD's benchmark."""
        return np.nan_to_num(self.detector.decision_function(self._rows(X)))

    @property
    def threshold_(self):
        """Threshold of the baseline, if it has one."""
        return self.detector.threshold_

    def _rows(self, X):
        return ((X - self.mean_) / self.deviation_).reshape(len(X), -1)


class OnContrast(BaseEstimator):
    """Baseline on images standardised one by one to zero mean and unit deviation, as MemAEDetector does by default."""

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X):
        """Fit the baseline."""
        self.detector.fit(self._rows(X))
        return self

    def decision_function(self, X):
        """Anomaly scores, higher = more abnormal."""
        return self.detector.decision_function(self._rows(X))

    def _rows(self, X):
        return scale(X.reshape(len(X), -1).astype(np.float64), axis=1)


def make_baselines(seed, most=None):
    """Functions that create unfitted baselines, by name.

    Parameters
    ----------
    seed : int
        Random state of the baselines that have one.
    most : int or None, default=None
        Largest number of training rows of OC-SVM and KDE, whose cost is quadratic in the rows; None for all rows.

    Returns
    -------
    makers : dict of str to callable
    """
    return {
        "OC-SVM": lambda: OnScaledRows(OCSVM(), most),
        "KDE": lambda: OnScaledRows(KDE(), most),
        "PCA": lambda: OnScaledRows(PCAError()),
        "KNN": lambda: OnScaledRows(KNN()),
        "IForest": lambda: OnScaledRows(IForest(random_state=seed)),
        "AutoEncoder": lambda: OnScaledRows(AutoEncoder(random_state=seed, verbose=0)),
        "VAE": lambda: OnScaledRows(VAE(random_state=seed, verbose=0)),
        "DeepSVDD": lambda: OnScaledRows(DeepSVDDOfAnyWidth(random_state=seed)),
    }


def make_table_baselines(seed):
    """Functions that create the simple rivals of tables, by name."""
    return {
        "1-NN": lambda: OnScaledRows(KNN(n_neighbors=1)),
        "draws of 32": lambda: OnScaledRows(Draws(random_state=seed)),
        "KCM": lambda: OnScaledRows(KernelMixture(random_state=seed)),
        "ECOD": lambda: OnScaledRows(ECOD()),
        "MCD": lambda: OnScaledRows(MCD(random_state=seed)),
        "LUNAR": lambda: OnScaledRows(LUNAR()),
    }


def make_ours_for_tables(seed, share):
    """Functions that create MemAEDetector by name: told the share of outliers in the training data, and not.

    Parameters
    ----------
    seed : int
    share : float
        Of outliers in the training data.
    """
    return {
        OURS: lambda: MemAEDetector(contamination=share, random_state=seed),
        DEFAULT_SHARE: lambda: MemAEDetector(random_state=seed),
        WITHOUT: lambda: MemAEDetector(contamination=share, memory_size=0, random_state=seed),
        PRESET: lambda: MemAEDetector(random_state=seed, **presets.paper("kddcup99")),
    }


def make_ours(seed, preset=None, **parameters):
    """Functions that create MemAEDetector, by name: defaults, no memory (the same layers), and a preset of the paper."""
    makers = {
        OURS: lambda: MemAEDetector(random_state=seed, **parameters),
        WITHOUT: lambda: MemAEDetector(memory_size=0, random_state=seed, **parameters),
    }
    if preset is not None:
        makers[PRESET] = lambda: MemAEDetector(random_state=seed, **presets.paper(preset), **parameters)
    return makers


def select(makers, names):
    """Makers with the given names, or all for None; SystemExit for an unknown name."""
    return {name: makers[name] for name in selected("--detectors", names, makers)}

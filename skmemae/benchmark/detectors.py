"""Detectors of the benchmarks: MemAEDetector and untuned baselines, all at their defaults."""

import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.iforest import IForest
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.ocsvm import OCSVM
from pyod.models.vae import VAE
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

from skmemae import MemAEDetector, presets

OURS = "MemAE"
WITHOUT = "no memory"
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
    unknown = set(names or ()) - set(makers)
    if unknown:
        raise SystemExit(f"--detectors knows {sorted(makers)}, got {sorted(unknown)}")
    return {name: make for name, make in makers.items() if names is None or name in names}

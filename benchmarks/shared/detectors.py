"""Detectors of the protocols: MemAEDetector and untuned baselines."""

from typing import Any

import numpy as np
from pyod.models.deep_svdd import DeepSVDD
from pyod.models.ecod import ECOD
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.lunar import LUNAR
from pyod.models.mcd import MCD
from pyod.models.ocsvm import OCSVM
from pyod.models.vae import VAE
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.base import BaseEstimator
from sklearn.preprocessing import scale

from skmemae import MemAEDetector, presets
from skmemae.benchmark.detectors import OURS, WITHOUT, Makers, OnScaledRows, make_detectors

ERROR_ALONE = "MemAE, error alone"
DEFAULT_SHARE = "MemAE, share 0.1"
PRESET = "MemAE, paper's preset"
DEEP = ("AutoEncoder", "VAE", "DeepSVDD")
MOST_ROWS = 10_000  # for detectors of quadratic cost
CLEAN_SHARE = 0.001  # ``contamination`` of MemAEDetector for clean training data


def make_image_detectors(seed: int, preset: str) -> Makers:
    """Functions that create the unfitted detectors of images, by name, with those of the paper's preset."""
    return {
        **make_detectors(seed),
        **make_deep_baselines(seed),
        ERROR_ALONE: lambda: MemAEDetector(anomaly_score="smooth", random_state=seed),
        PRESET: lambda: MemAEDetector(random_state=seed, **presets.paper(preset)),
        "KNN, contrast": lambda: OnContrast(KNN()),
    }


def make_table_detectors(seed: int, share: float) -> Makers:
    """Functions that create the unfitted detectors of tables, by name.

    Parameters
    ----------
    seed : int
    share : float
        Outliers in the training data, the ``contamination`` of MemAEDetector except in ``DEFAULT_SHARE`` and ``PRESET``.
    """
    return {
        **make_detectors(seed),
        **make_deep_baselines(seed),
        OURS: lambda: MemAEDetector(contamination=share, random_state=seed),
        DEFAULT_SHARE: lambda: MemAEDetector(random_state=seed),
        WITHOUT: lambda: MemAEDetector(contamination=share, memory_size=0, random_state=seed),
        PRESET: lambda: MemAEDetector(random_state=seed, **presets.paper("kddcup99")),
        "OC-SVM": lambda: OnScaledRows(OnFewerRows(OCSVM())),
        "KDE": lambda: OnScaledRows(OnFewerRows(KDE())),
    }


def make_simple_rivals(seed: int) -> Makers:
    """Functions that create more unfitted baselines of tables, by name."""
    return {
        "1-NN": lambda: OnScaledRows(KNN(n_neighbors=1)),
        "draws of 32": lambda: OnScaledRows(Draws(random_state=seed)),
        "KCM": lambda: OnScaledRows(KernelMixture(random_state=seed)),
        "ECOD": lambda: OnScaledRows(ECOD()),
        "MCD": lambda: OnScaledRows(MCD(random_state=seed)),
        "LUNAR": lambda: OnScaledRows(LUNAR()),
    }


def make_deep_baselines(seed: int) -> Makers:
    """Functions that create PyOD's deep detectors that the overview leaves out, by name."""
    return {
        "VAE": lambda: OnScaledRows(VAE(random_state=seed, verbose=0)),
        "DeepSVDD": lambda: OnScaledRows(DeepSVDDOfAnyWidth(random_state=seed)),
    }


class OnFewerRows(BaseEstimator):
    """Baseline of quadratic cost, fitted on at most ``most`` rows drawn at random."""

    def __init__(self, detector: Any, most: int = MOST_ROWS) -> None:
        self.detector = detector
        self.most = most

    def fit(self, X: np.ndarray) -> "OnFewerRows":
        """Draw the rows and fit the baseline."""
        if len(X) > self.most:
            X = X[np.random.default_rng(0).choice(len(X), self.most, replace=False)]
        self.detector.fit(X)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Anomaly scores, higher = more abnormal."""
        return self.detector.decision_function(X)

    @property
    def threshold_(self) -> float:
        """Threshold of the baseline."""
        return self.detector.threshold_


class DeepSVDDOfAnyWidth(BaseEstimator):
    """PyOD's DeepSVDD, whose constructor needs the number of columns, created in ``fit``."""

    def __init__(self, random_state: int | None = None) -> None:
        self.random_state = random_state

    def fit(self, X: np.ndarray) -> "DeepSVDDOfAnyWidth":
        """Create and fit a DeepSVDD for the columns of X."""
        self.detector_ = DeepSVDD(X.shape[1], random_state=self.random_state, verbose=0).fit(X)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Squared distances from the centre, higher = more abnormal."""
        return self.detector_.decision_function(X)


class Draws(BaseEstimator):
    """Mean over 50 random subsets of 32 rows of the distance to the nearest row (Sugiyama and Borgwardt, NeurIPS 2013)."""

    def __init__(self, size: int = 32, n_draws: int = 50, random_state: int | None = None) -> None:
        self.size = size
        self.n_draws = n_draws
        self.random_state = random_state

    def fit(self, X: np.ndarray) -> "Draws":
        """Draw the rows."""
        rng, size = np.random.default_rng(self.random_state), min(self.size, len(X))
        self.rows_ = [X[rng.choice(len(X), size, replace=False)] for _ in range(self.n_draws)]
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Mean distances, higher = more abnormal."""
        return sum(cdist(X, rows).min(axis=1) for rows in self.rows_) / self.n_draws


class KernelMixture(BaseEstimator):
    """Squared error of a mixture of at most 2,000 training rows, their weights a Gaussian kernel of the distance.

    The bandwidth is the one, of eleven around the median distance to the nearest row, that mixes rows best from the others. It
    is MemAE's memory of rows without a network.
    """

    def __init__(self, most: int = 2000, random_state: int | None = None) -> None:
        self.most = most
        self.random_state = random_state

    def fit(self, X: np.ndarray) -> "KernelMixture":
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

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Squared errors, higher = more abnormal."""
        parts = np.array_split(X, -(-len(X) // 1000))
        mixtures = [softmax(-cdist(x, self.rows_, "sqeuclidean") / self.unit_, axis=1) @ self.rows_ for x in parts]
        return ((X - np.concatenate(mixtures)) ** 2).sum(axis=1)


class OnContrast(BaseEstimator):
    """Baseline on images standardised one by one to zero mean and unit deviation, as MemAEDetector does by default."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(self, X: np.ndarray) -> "OnContrast":
        """Fit the baseline."""
        self.detector.fit(self._rows(X))
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Anomaly scores, higher = more abnormal."""
        return self.detector.decision_function(self._rows(X))

    def _rows(self, X: np.ndarray) -> np.ndarray:
        return scale(X.reshape(len(X), -1).astype(np.float64), axis=1)

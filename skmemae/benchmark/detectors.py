"""Detectors of the overview: MemAEDetector and untuned baselines, all at their defaults."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.iforest import IForest
from pyod.models.kde import KDE
from pyod.models.knn import KNN
from pyod.models.ocsvm import OCSVM
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA

from skmemae import MemAEDetector

OURS = "MemAE"
WITHOUT = "no memory"
Makers = dict[str, Callable[[], Any]]


def make_detectors(seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    return {
        OURS: lambda: MemAEDetector(random_state=seed),
        WITHOUT: lambda: MemAEDetector(memory_size=0, random_state=seed),
        "OC-SVM": lambda: OnScaledRows(OCSVM()),
        "KDE": lambda: OnScaledRows(KDE()),
        "PCA": lambda: OnScaledRows(PCAError()),
        "KNN": lambda: OnScaledRows(KNN()),
        "IForest": lambda: OnScaledRows(IForest(random_state=seed)),
        "AutoEncoder": lambda: OnScaledRows(AutoEncoder(random_state=seed, verbose=0)),
    }


class OnScaledRows(BaseEstimator):
    """Baseline on flattened, scaled samples.

    Columns of tables are standardised. Images and clips are standardised as a whole: unit variance for each pixel would amplify
    the noise of nearly constant pixels, and the baselines score lower with it.
    """

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    def fit(self, X: np.ndarray) -> "OnScaledRows":
        """Fit the scaling and the baseline."""
        axis = 0 if X.ndim == 2 else None
        self.mean_ = X.mean(axis=axis, dtype=np.float64)
        deviation = X.std(axis=axis, dtype=np.float64)
        self.deviation_ = np.where(deviation > 0, deviation, 1.0)
        self.detector.fit(self._rows(X))
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Anomaly scores, higher = more abnormal; NaN becomes 0, as in PyOD's benchmark."""
        return np.nan_to_num(self.detector.decision_function(self._rows(X)))

    @property
    def threshold_(self) -> float:
        """Threshold of the baseline; AttributeError if the baseline has no threshold."""
        return self.detector.threshold_

    def _rows(self, X: np.ndarray) -> np.ndarray:
        return ((X - self.mean_) / self.deviation_).reshape(len(X), -1)


class PCAError(BaseEstimator):
    """PCA detector: squared reconstruction error from the components that explain 90 % of the variance.

    PyOD's PCA weights each component by its inverse variance, which is infinite or NaN for constant pixels.
    """

    def fit(self, X: np.ndarray) -> "PCAError":
        """Fit the components."""
        self.pca_ = PCA(n_components=0.9, svd_solver="full").fit(X)
        return self

    def decision_function(self, X: np.ndarray) -> np.ndarray:
        """Squared reconstruction errors, higher = more abnormal."""
        return ((X - self.pca_.inverse_transform(self.pca_.transform(X))) ** 2).sum(axis=1)

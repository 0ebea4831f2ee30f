"""The detectors of every table: MemAEDetector and untuned baselines, all at their defaults."""

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


class PCAError(BaseEstimator):
    """Squared error of the projection on the components that hold nine tenths of the variance.

    PyOD's PCA weighs every component by its inverse variance, which is infinite or NaN for pixels that never change.
    """

    def fit(self, X):
        """Find the components."""
        self.pca_ = PCA(n_components=0.9, svd_solver="full").fit(X)
        return self

    def decision_function(self, X):
        """Squared error, higher = more abnormal."""
        return ((X - self.pca_.inverse_transform(self.pca_.transform(X))) ** 2).sum(axis=1)


class OnScaledRows(BaseEstimator):
    """A baseline on flattened and scaled samples.

    Columns of tables are standardised. Images and clips are scaled as a whole: giving each pixel unit variance would blow up
    the noise of pixels that hardly ever change, and the baselines lose by it.
    """

    def __init__(self, detector):
        self.detector = detector

    def fit(self, X):
        """Learn the scaling and fit the baseline."""
        axis = 0 if X.ndim == 2 else None
        self.mean_ = X.mean(axis=axis)
        deviation = X.std(axis=axis)
        self.deviation_ = np.where(deviation > 0, deviation, 1.0)
        self.detector.fit(self._rows(X))
        return self

    def decision_function(self, X):
        """Anomaly scores; NaN counts as 0, as in PyOD's own benchmark."""
        return np.nan_to_num(self.detector.decision_function(self._rows(X)))

    def _rows(self, X):
        return ((X - self.mean_) / self.deviation_).reshape(len(X), -1)


def make_detectors(seed):
    """Fresh detectors by name; the seed goes to those that have one. "no memory" has MemAE's layers and memory_size=0."""
    baselines = {
        "OC-SVM": OCSVM(),
        "KDE": KDE(),
        "PCA": PCAError(),
        "KNN": KNN(),
        "IForest": IForest(random_state=seed),
        "AutoEncoder": AutoEncoder(random_state=seed, verbose=0),
    }
    ours = {OURS: MemAEDetector(random_state=seed), "no memory": MemAEDetector(memory_size=0, random_state=seed)}
    return {**ours, **{name: OnScaledRows(d) for name, d in baselines.items()}}

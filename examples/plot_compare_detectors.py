"""
Compare detectors
=================

Eight detectors on four sets of points in the plane. Each panel shows the anomaly score
of one detector as colour, the border that its threshold draws as a line, and how well
it ranks the points: the area under the ROC curve (AUC), 1 for a perfect ranking and 0.5
for a random one.

Outliers are part of the training data, and no detector sees the labels. All have the
true ``contamination``, and otherwise their defaults.
"""

# %%
# The data: normal points of four shapes, and uniform outliers.
import time

import matplotlib.pyplot as plt
import numpy as np
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.lof import LOF
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector

n_inliers, n_outliers = 400, 40
share = n_outliers / (n_inliers + n_outliers)
rng = np.random.default_rng(0)
shapes = {
    "one blob": rng.normal(size=(n_inliers, 2)) @ [[1.5, 0.6], [0.6, 0.7]],
    "two blobs": make_blobs(
        n_inliers, centers=[[-2, -2], [2, 2]], cluster_std=[0.4, 1.0], random_state=0
    )[0],
    "moons": 3 * make_moons(n_inliers, noise=0.05, random_state=0)[0] - [1.5, 0.75],
    "rings": 3.5 * make_circles(n_inliers, noise=0.04, factor=0.45, random_state=0)[0],
}

# %%
# The detectors, all with PyOD's methods ``fit`` and ``decision_function``.
detectors = {
    "MemAE": MemAEDetector(contamination=share, random_state=0),
    "AutoEncoder": AutoEncoder(contamination=share, random_state=0, verbose=0),
    "KNN": KNN(contamination=share),
    "LOF": LOF(contamination=share),
    "IForest": IForest(contamination=share, random_state=0),
    "OCSVM": OCSVM(contamination=share),
    "ECOD": ECOD(contamination=share),
    "PCA": PCA(contamination=share),
}

# %%
# One row for each set, one column for each detector. Scores are drawn as ranks among
# those of the grid, so colours can be compared though the units of the scores differ.
grid = np.stack(np.meshgrid(*[np.linspace(-5, 5, 60)] * 2), axis=-1)
size = 1.45
figure, axes = plt.subplots(
    len(shapes),
    len(detectors),
    figsize=(size * len(detectors), (size + 0.25) * len(shapes)),
    layout="constrained",
)
areas = {name: [] for name in detectors}
seconds = dict.fromkeys(detectors, 0.0)
for row, (shape, inliers) in zip(axes, shapes.items(), strict=True):
    outliers = rng.uniform(-5, 5, size=(n_outliers, 2))
    X, y = np.vstack([inliers, outliers]), np.repeat([0, 1], [n_inliers, n_outliers])
    row[0].set_ylabel(shape)
    for ax, (name, detector) in zip(row, detectors.items(), strict=True):
        started = time.perf_counter()
        detector.fit(X)
        seconds[name] += time.perf_counter() - started
        areas[name].append(roc_auc_score(y, detector.decision_scores_))
        scores = detector.decision_function(grid.reshape(-1, 2))
        ranks = scores.argsort().argsort().reshape(grid.shape[:2])
        ax.imshow(ranks, extent=(-5, 5, -5, 5), origin="lower", cmap="Blues", alpha=0.8)
        border = scores.reshape(ranks.shape), [detector.threshold_]
        ax.contour(*grid.transpose(2, 0, 1), *border, colors="tab:red", linewidths=1.2)
        ax.scatter(*X.T, s=2, c=np.where(y, "tab:orange", "black"))
        ax.set(xticks=[], yticks=[], xlabel=f"{areas[name][-1]:.2f}")
        ax.set(xlim=(-5, 5), ylim=(-5, 5))
for ax, name in zip(axes[0], detectors, strict=True):
    ax.set_title(name)

# %%
# Means over the four sets, the best first.
for name in sorted(areas, key=lambda name: -np.mean(areas[name])):
    print(f"{name:12s} AUC {np.mean(areas[name]):.3f}, {seconds[name] / 4:.2f} s a fit")

# %%
# Points in the plane show the kinds of border that a detector can draw. They say little
# about real tables of many columns; the :doc:`results </results>` have figures on 30 of
# these.
plt.show()

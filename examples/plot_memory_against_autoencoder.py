"""
Memory-augmented and plain autoencoder compared
===============================================

An autoencoder often reconstructs anomalies as well as normal samples. With a memory between encoder and decoder, the same
layers can decode only combinations of memory items. The two detectors here differ only in ``memory_size=0``.
"""

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split
from skmemae.display import ReconstructionDisplay

digits = load_digits()
variants = {"memory": {}, "no memory": {"memory_size": 0}}

# %%
# Both detectors are trained on images of "2" and reconstruct one image of each other digit. The memory reconstructs twos; the
# plain autoencoder copies its input. Errors share one scale.
split = one_class_split(digits.images, digits.target, normal=2, random_state=0)
others = digits.images[[np.flatnonzero(digits.target == digit)[0] for digit in (0, 1, 3, 4, 5, 6, 7, 8, 9)]]
figure = plt.figure(figsize=(9, 6), layout="constrained")
for subfigure, (name, params) in zip(figure.subfigures(2, 1), variants.items(), strict=True):
    detector = MemAEDetector(random_state=0, **params).fit(split.X_train)
    ReconstructionDisplay.from_estimator(detector, others).plot(figure=subfigure, error_limit=8)
    subfigure.suptitle(f'trained on "2", {name}')
figure.savefig("memory_against_autoencoder.png", dpi=110)

# %%
# Unlabelled training data contains outliers. Now nine in ten training images are one digit and the rest are other digits, and
# the task is to find these in the training data. The plain autoencoder learns to reconstruct them too.


def with_outliers(digit, share=0.1):
    """Images X and labels y: all images of a digit (y = 0), and other digits (y = 1) as a share of X."""
    rng = np.random.default_rng(digit)
    inliers = np.flatnonzero(digits.target == digit)
    others = rng.permutation(np.flatnonzero(digits.target != digit))
    others = others[: round(share / (1 - share) * len(inliers))]
    return digits.images[np.concatenate([inliers, others])], np.repeat([0, 1], [len(inliers), len(others)])


# %%
# Each digit is normal in turn; both detectors run at their defaults.
areas = {name: [] for name in variants}
for digit in range(10):
    X, y = with_outliers(digit)
    for name, params in variants.items():
        detector = MemAEDetector(contamination=0.1, random_state=0, **params).fit(X)
        areas[name].append(roc_auc_score(y, detector.decision_scores_))
    print(digit, {name: round(values[-1], 3) for name, values in areas.items()})
print("mean ROC AUC", {name: round(float(np.mean(values)), 3) for name, values in areas.items()})
plt.show()

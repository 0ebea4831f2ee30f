"""
What the memory does that a plain autoencoder does not
======================================================

An autoencoder learns to reconstruct, and then reconstructs anomalies as well. With a memory between encoder and decoder the
same layers can only mix what the memory holds. ``memory_size=0`` is the one difference between the two detectors here.
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
# Trained on images of "2" alone, with one image of each other digit brought back by both. The memory answers with twos; the
# autoencoder copies what it sees. Errors share one scale.
split = one_class_split(digits.images, digits.target, normal=2, random_state=0)
others = digits.images[[np.flatnonzero(digits.target == digit)[0] for digit in (0, 1, 3, 4, 5, 6, 7, 8, 9)]]
figure = plt.figure(figsize=(9, 6), layout="constrained")
for part, (name, params) in zip(figure.subfigures(2, 1), variants.items(), strict=True):
    detector = MemAEDetector(random_state=0, **params).fit(split.X_train)
    ReconstructionDisplay.from_estimator(detector, others).plot(figure=part, error_limit=8)
    part.suptitle(f'trained on "2", {name}')
figure.savefig("memory_against_autoencoder.png", dpi=110)

# %%
# Unlabelled data holds outliers of its own. Now nine in ten training images are one digit and the rest are others: what is
# asked is to find them. The autoencoder has learnt them too.


def with_outliers(digit, share=0.1):
    """All images of a digit and a share of others; y is 1 for the others."""
    rng = np.random.default_rng(digit)
    inliers = np.flatnonzero(digits.target == digit)
    others = rng.permutation(np.flatnonzero(digits.target != digit))
    others = others[: round(share / (1 - share) * len(inliers))]
    return digits.images[np.concatenate([inliers, others])], np.repeat([0, 1], [len(inliers), len(others)])


# %%
# Every digit in turn, both detectors at their defaults.
areas = {name: [] for name in variants}
for digit in range(10):
    X, y = with_outliers(digit)
    for name, params in variants.items():
        detector = MemAEDetector(contamination=0.1, random_state=0, **params).fit(X)
        areas[name].append(roc_auc_score(y, detector.decision_scores_))
    print(digit, {name: round(found[-1], 3) for name, found in areas.items()})
print("mean ROC AUC", {name: round(float(np.mean(found)), 3) for name, found in areas.items()})
plt.show()

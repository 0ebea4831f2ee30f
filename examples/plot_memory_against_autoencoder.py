"""
With and without the memory
===========================

An autoencoder is trained to reconstruct its input, and often reconstructs anomalies as
well. With a memory between encoder and decoder, the same layers can only decode
combinations of memory items. The two detectors of this page differ only by
``memory_size=0``.
"""

# %%
# Both are trained on images of "2" and reconstruct an image of each digit. With the
# memory, all reconstructions are twos. Without it, the reconstructions resemble the
# other digits, and the errors are smaller.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split

digits = load_digits()
variants = {"no memory": {"memory_size": 0}, "memory": {}}

split = one_class_split(digits.images, digits.target, normal=2, random_state=0)
first = [np.flatnonzero(digits.target == d)[0] for d in (2, 0, 1, 3, 4, 5, 6, 7, 8, 9)]
shown = {"new image": digits.images[first]}
for name, params in variants.items():
    detector = MemAEDetector(random_state=0, **params).fit(split.X_train)
    shown[name] = detector.reconstruct(digits.images[first])

figure, axes = plt.subplots(3, 10, figsize=(9, 3), layout="constrained")
for row, (name, images) in zip(axes, shown.items(), strict=True):
    row[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12)
    for ax, image in zip(row, images, strict=True):
        ax.imshow(image, cmap="gray")
        ax.set(xticks=[], yticks=[])

# %%
# Now the training data holds outliers: nine in ten training images are one digit, the
# others are other digits, and the task is to find these. Without a memory the network
# learns to reconstruct them too.


def with_outliers(digit, share=0.1):
    """Images of a digit (y = 0), and of others (y = 1) that are a share of all."""
    rng = np.random.default_rng(digit)
    inliers = np.flatnonzero(digits.target == digit)
    others = rng.permutation(np.flatnonzero(digits.target != digit))
    others = others[: round(share / (1 - share) * len(inliers))]
    X = digits.images[np.concatenate([inliers, others])]
    return X, np.repeat([0, 1], [len(inliers), len(others)])


# %%
# Each digit is normal in turn.
areas = {name: [] for name in variants}
for digit in range(10):
    X, y = with_outliers(digit)
    for name, params in variants.items():
        detector = MemAEDetector(contamination=0.1, random_state=0, **params).fit(X)
        areas[name].append(roc_auc_score(y, detector.decision_scores_))

figure, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for offset, (name, values) in zip((-0.2, 0.2), areas.items(), strict=True):
    ax.bar(np.arange(10) + offset, values, width=0.4, label=name)
    print(f"{name}: mean ROC AUC {np.mean(values):.2f}")
ax.set(xlabel="normal digit", ylabel="ROC AUC", ylim=(0.5, 1), xticks=range(10))
ax.legend(loc="lower right", ncols=2)
plt.show()

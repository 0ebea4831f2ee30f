"""
MemAEDetector in ten minutes
============================

One detector for tables, images and clips, under PyOD's and scikit-learn's conventions, with plots of the memory's effect.
"""

# %%
# A table
# -------
#
# The breast cancer data of scikit-learn has 30 measurements per tumour; benign tumours are normal. Two thirds of them are the
# training set; the rest and some malignant tumours are the test set. ``fit`` gets no labels.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import RocCurveDisplay, roc_auc_score

from skmemae import MemAEDetector, metrics
from skmemae.datasets import make_moving_digits, one_class_split
from skmemae.display import MemoryDisplay, ReconstructionDisplay

cancer = load_breast_cancer()
split = one_class_split(cancer.data, cancer.target, normal=1, random_state=0)
detector = MemAEDetector(contamination=0.05, random_state=0).fit(split.X_train)

scores = detector.decision_function(split.X_test)  # higher = more abnormal
labels = detector.predict(split.X_test)  # 0 inlier, 1 outlier
print(f"ROC AUC {roc_auc_score(split.y_test, scores):.3f}, {labels.sum()} of {len(labels)} flagged")

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
bins = np.geomspace(scores.min(), scores.max(), 30)
axes[0].hist([scores[split.y_test == 0], scores[split.y_test == 1]], bins=bins, label=["benign", "malignant"], stacked=True)
axes[0].set_xscale("log")
axes[0].axvline(detector.threshold_, color="black", linestyle="--", label="threshold")
axes[0].set(xlabel="anomaly score", ylabel="test samples")
axes[0].legend()
RocCurveDisplay.from_predictions(split.y_test, scores, ax=axes[1], name="MemAE")

# %%
# The threshold is a quantile of the training scores, which are slightly lower than scores of new data. To control the rate of
# false alarms, set the threshold on held-out normal data; no refit is needed. Here one half of the benign test samples sets the
# threshold, and the other half measures the rate.
benign = -detector.score_samples(split.X_test[split.y_test == 0])
detector.set_threshold(threshold=float(np.quantile(benign[::2], 0.95)))
print(f"false alarms: {np.mean(benign[1::2] > detector.threshold_):.0%}")
print(f"malignant found: {detector.predict(split.X_test[split.y_test == 1]).mean():.0%}")

# %%
# The convention of a fitted detector can be changed, as it affects only the output.
detector.set_params(convention="sklearn")
print("scikit-learn's labels:", np.unique(detector.predict(split.X_test)))  # -1 outlier, +1 inlier
print("the same AUC:", round(metrics.roc_auc(detector, split.X_test, split.y_test), 3))

# %%
# Which measurement is the most abnormal? The anomaly map has the shape of X.
most_abnormal = split.X_test[np.argmax(scores)]
residuals = detector.anomaly_map([most_abnormal])[0]
for column in np.argsort(-residuals)[:3]:
    print(f"{cancer.feature_names[column]:25s} squared residual {residuals[column]:.1f}")

# %%
# Images
# ------
#
# The shape of X determines the backbone, a convolutional one for 8 x 8 images. The digit "2" is normal.
digits = load_digits()
split = one_class_split(digits.images, digits.target, normal=2, random_state=0)
detector = MemAEDetector(random_state=0).fit(split.X_train)
scores = detector.decision_function(split.X_test)
print(f"backbone {detector.backbone_}, ROC AUC {roc_auc_score(split.y_test, scores):.3f}")

# %%
# Outliers are reconstructed as twos: the decoder gets a combination of memory items instead of the encoding.
outliers = np.flatnonzero(split.y_test)
top = outliers[np.argsort(-scores[outliers])][:8]
ReconstructionDisplay.from_estimator(detector, split.X_test[top]).plot()

# %%
# Decoded memory items are prototypes of a two.
MemoryDisplay.from_estimator(detector, n_items=20).plot()

# %%
# The plain autoencoder is the same detector with ``memory_size=0``. These are its reconstructions of the same outliers.
plain = MemAEDetector(memory_size=0, random_state=0).fit(split.X_train)
print(f"without the memory: ROC AUC {roc_auc_score(split.y_test, plain.decision_function(split.X_test)):.3f}")
ReconstructionDisplay.from_estimator(plain, split.X_test[top]).plot()

# %%
# Diagnostics of the memory: the number of items in use, the number of items per query, and the learning curves.
usage = detector.memory_usage_
items_per_query = (detector.addressing_weights(split.X_test) > 0).sum(axis=1)
print(f"{np.count_nonzero(usage)} of {len(usage)} items in use, {items_per_query.mean():.1f} per query")

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].bar(np.arange(len(usage)), np.sort(usage)[::-1])
axes[0].set(xlabel="memory item", ylabel="share of queries that use it")
axes[1].semilogy(detector.loss_curve_, label="objective")
axes[1].semilogy(detector.validation_curve_, label="held-out error")
axes[1].set(xlabel="epoch")
axes[1].legend()

# %%
# Clips
# -----
#
# Normal clips show digits moving horizontally; abnormal ones show another digit or vertical motion. X has shape
# (n, channels, frames, height, width), so the convolutions are 3-D.
clips = make_moving_digits(n_clips=150, random_state=0)
split = one_class_split(clips.data, clips.target, normal=0, random_state=0)
detector = MemAEDetector(max_epochs=40, random_state=0).fit(split.X_train)
scores = detector.decision_function(split.X_test)
print(f"backbone {detector.backbone_}, ROC AUC {roc_auc_score(split.y_test, scores):.3f}")

# %%
# Of the three most normal and the three most abnormal clips, the frame with the largest error.
order = np.argsort(scores)
ReconstructionDisplay.from_estimator(detector, split.X_test[np.r_[order[:3], order[-3:]]]).plot()
plt.show()

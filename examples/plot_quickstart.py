"""
A tour
======

The same detector on a table, on images and on video clips: fit it on data that is
mostly normal, score new data, and look at its memory.
"""

# %%
# A table
# -------
#
# The breast cancer data of scikit-learn has 30 measurements for each tumour; benign
# tumours are normal. Two thirds of them are the training set; the other third and some
# malignant tumours are the test set. ``fit`` gets no labels.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.datasets import make_moving_digits, one_class_split
from skmemae.display import (
    ExplanationDisplay,
    MemoryDisplay,
    ReconstructionDisplay,
    ScoreDisplay,
    TrainingCurveDisplay,
)

cancer = load_breast_cancer()
split = one_class_split(cancer.data, cancer.target, normal=1, random_state=0)
X_train = pd.DataFrame(split.X_train, columns=cancer.feature_names)
X_test = pd.DataFrame(split.X_test, columns=cancer.feature_names)
detector = MemAEDetector(contamination=0.05, random_state=0).fit(X_train)

scores = detector.decision_function(X_test)  # higher = more abnormal
labels = detector.predict(X_test)  # 0 inlier, 1 outlier
print(f"ROC AUC {roc_auc_score(split.y_test, scores):.3f}")
print(f"{labels.sum()} of {len(labels)} flagged")

# %%
# The scores of the training set, and those of new tumours. Samples right of the
# threshold are flagged.
ScoreDisplay.from_estimator(detector, X_test, split.y_test).plot()

# %%
# Why are the two most abnormal ones abnormal? The bars sum to the score.
most_abnormal = X_test.iloc[np.argsort(-scores)[:2]]
ExplanationDisplay.from_estimator(detector, most_abnormal, n_features=6).plot()

# %%
# scikit-learn's detectors code their output in another way: outliers have negative
# scores and the label -1, others +1. ``convention`` switches, also after training.
detector.set_params(convention="sklearn")
print("labels now:", np.unique(detector.predict(X_test)))

# %%
# Images
# ------
#
# The shape of X chooses the network, a convolutional one for these images of 8 x 8
# pixels. The digit "2" is normal.
digits = load_digits()
split = one_class_split(digits.images, digits.target, normal=2, random_state=0)
detector = MemAEDetector(random_state=0).fit(split.X_train)
scores = detector.decision_function(split.X_test)
print(f"{detector.backbone_}, ROC AUC {roc_auc_score(split.y_test, scores):.3f}")
TrainingCurveDisplay.from_estimator(detector).plot()

# %%
# The memory is used from the bend in these curves on; until then encoder and decoder
# train without it. It holds encodings of training images, which decode to twos ...
MemoryDisplay.from_estimator(detector, n_items=20).plot()

# %%
# ... so that other digits are reconstructed as twos, with large errors.
outliers = np.flatnonzero(split.y_test)
top = split.X_test[outliers[np.argsort(-scores[outliers])][:8]]
ReconstructionDisplay.from_estimator(detector, top).plot()

# %%
# Clips
# -----
#
# In normal clips a digit moves sideways; in abnormal ones it moves up or down, or
# another digit moves. X has the shape (clips, channels, frames, height, width).
clips = make_moving_digits(n_clips=150, random_state=0)
split = one_class_split(clips.data, clips.target, normal=0, random_state=0)
detector = MemAEDetector(max_epochs=40, random_state=0).fit(split.X_train)
scores = detector.decision_function(split.X_test)
print(f"{detector.backbone_}, ROC AUC {roc_auc_score(split.y_test, scores):.3f}")

# %%
# Of the three most normal and the three most abnormal clips the frame with the largest
# error.
order = np.argsort(scores)
shown = split.X_test[np.r_[order[:3], order[-3:]]]
ReconstructionDisplay.from_estimator(detector, shown).plot()
plt.show()

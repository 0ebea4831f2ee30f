"""
Outliers in the training data
=============================

Training data is seldom clean. What is the effect of outliers in it, and of
``contamination``? This parameter is the share of outliers: it sets the threshold, and
the memory of a table leaves out at least a tenth of the rows unless the data is clean.
"""

# %%
# The breast cancer data of scikit-learn, 30 measurements of each tumour. Benign tumours
# are normal, and malignant ones are mixed in, from none to a fifth of the training
# rows.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from skmemae import MemAEDetector

X, y = load_breast_cancer(return_X_y=True)
benign, benign_new = train_test_split(X[y == 1], test_size=0.4, random_state=0)
malignant, malignant_new = train_test_split(X[y == 0], test_size=0.4, random_state=0)
X_test = np.vstack([benign_new, malignant_new])
y_test = np.repeat([0, 1], [len(benign_new), len(malignant_new)])


def training_rows(share):
    """The benign rows, and malignant ones that are a share of all rows."""
    n_outliers = round(share / (1 - share) * len(benign))
    return np.vstack([benign, malignant[:n_outliers]])


# %%
# Three detectors on each training set: one with ``contamination=0.001``, as for clean
# data, one with the true share, and the same network without a memory, also with the
# true share.
shares = [0.001, 0.02, 0.05, 0.1, 0.15, 0.2]
areas = {"as for clean data": [], "true share": [], "no memory": []}
for share in shares:
    X_train = training_rows(share)
    settings = ({"contamination": 0.001}, {"contamination": share})
    settings += ({"contamination": share, "memory_size": 0},)
    for name, params in zip(areas, settings, strict=True):
        detector = MemAEDetector(**params, random_state=0).fit(X_train)
        areas[name].append(roc_auc_score(y_test, detector.decision_function(X_test)))

# %%
# A memory that holds outliers finds fewer new ones, because it can reconstruct these
# from the old ones. Unless it is told that the data is clean, it leaves out the rows
# that are least similar to the others.
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, values in areas.items():
    ax.plot(shares, values, marker="o", label=name)
ax.set(xlabel="share of outliers in the training data", ylabel="ROC AUC on new data")
ax.legend()

# %%
# The share is never known exactly. These detectors have a wrong one; the true share is
# a tenth.
told = [0.001, 0.02, 0.05, 0.1, 0.2, 0.3]
X_train = training_rows(0.1)
found, false = [], []
for share in told:
    detector = MemAEDetector(contamination=share, random_state=0).fit(X_train)
    labels = detector.predict(X_test)
    found.append(labels[y_test == 1].mean())
    false.append(labels[y_test == 0].mean())
    area = roc_auc_score(y_test, detector.decision_function(X_test))
    print(f"contamination {share:5.3f}: ROC AUC {area:.3f}")

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.plot(told, found, marker="o", label="outliers found")
ax.plot(told, false, marker="o", label="normal rows flagged")
ax.axvline(0.1, linestyle=":", color="grey", label="true share")
ax.set(xlabel="contamination", ylabel="share of new rows")
ax.legend()
plt.show()

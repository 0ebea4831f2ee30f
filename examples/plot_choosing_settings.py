"""
Choose settings without labels
==============================

Which of several settings is best, if there are no labels? The error of held-out rows is
a bad criterion: its unit changes with the settings, and a network that reconstructs
everything has a small error. :func:`skmemae.metrics.separation` measures by how much
the scores of rows with shuffled columns exceed those of unchanged rows.
"""

# %%
# Three tables that come with scikit-learn. A tenth of the rows are outliers, in the
# training set as well.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.model_selection import GridSearchCV

from skmemae import MemAEDetector, metrics
from skmemae.datasets import contaminated_split


def with_outliers(load, normal, seed=0):
    """Rows of a class, with a tenth of others among them, and labels."""
    X, y = load(return_X_y=True)
    rng = np.random.default_rng(seed)
    inliers, others = np.flatnonzero(y == normal), np.flatnonzero(y != normal)
    rows = np.r_[inliers, rng.choice(others, len(inliers) // 9, replace=False)]
    return X[rows], (y[rows] != normal).astype(int)


tables = {
    "breast cancer": with_outliers(load_breast_cancer, 1),
    "wine": with_outliers(load_wine, 1),
    "digits": with_outliers(load_digits, 3),
}

# %%
# The settings to choose among: some are reasonable, and some are not.
settings = [
    {},
    {"memory_size": [0]},
    {"anomaly_score": ["reconstruction"]},
    {"scaling": ["minmax"]},
    {"scaling": [None]},
    {"memory_unit": ["sample"], "memory_size": [10]},
    {"contamination": [0.001]},
    {"contamination": [0.3]},
]

# %%
# A search fits each setting on half of the training rows and scores it on the other
# half, twice, without labels. The labels of the test set show afterwards how good each
# setting is.


def small_error(detector, X, y=None):
    """Minus the mean anomaly score."""
    return detector.score_samples(X).mean()


found = []
for name, (X, y) in tables.items():
    split = contaminated_split(X, y, random_state=0)
    search = GridSearchCV(
        MemAEDetector(random_state=0),
        settings,
        scoring={"separation": metrics.separation, "small error": small_error},
        refit=False,
        cv=2,
    ).fit(split.X_train)
    results = pd.DataFrame(search.cv_results_)
    for _, row in results.iterrows():
        detector = MemAEDetector(random_state=0, **row["params"]).fit(split.X_train)
        text = ", ".join(f"{key} {value}" for key, value in row["params"].items())
        found.append(
            {
                "table": name,
                "setting": text or "default",
                "separation": row["mean_test_separation"],
                "small error": row["mean_test_small error"],
                "AUC": metrics.roc_auc(detector, split.X_test, split.y_test),
            }
        )
found = pd.DataFrame(found)
found.round(3)

# %%
# The choice of each criterion, and the best and the mean of all settings.
by_table = found.groupby("table")
for criterion in ("separation", "small error"):
    area = found.loc[by_table[criterion].idxmax(), "AUC"].mean()
    print(f"{criterion:12s} {area:.3f}")
default = found.loc[found["setting"] == "default", "AUC"].mean()
print(f"default      {default:.3f}")
print(f"mean of all  {found['AUC'].mean():.3f}")
print(f"best of all  {by_table['AUC'].max().mean():.3f}")

# %%
# A dot is a setting. Settings further right have a better rank by the criterion, and
# higher ones are better in fact.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for ax, criterion in zip(axes, ("separation", "small error"), strict=True):
    for name, group in found.groupby("table"):
        ax.scatter(group[criterion].rank(), group["AUC"], label=name)
    ax.set_xlabel(f"rank of the setting by {criterion}")
axes[0].set_ylabel("ROC AUC")
axes[0].legend()

# %%
# No criterion without labels is reliable. On 26 tables with outliers in the training
# data and thirteen settings, the choice by separation is as good as the defaults, and
# the choice by the error is worse than a random one; :doc:`/guide/choosing` has the
# figures. So keep the defaults, unless there is a reason for a change; then separation
# can show harm.
plt.show()

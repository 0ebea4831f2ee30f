"""
Pipelines and grid search
=========================

MemAEDetector is a scikit-learn estimator: it can be a step of a Pipeline, and
cross-validation and grid search can tune it where some labels exist. Categories become
columns of zeros and ones on the way.
"""

# %%
# The diabetes data of scikit-learn, 442 patients. In a tenth of the rows one
# measurement is replaced by that of another patient, so that the values no longer
# belong together. These rows are the outliers.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from skmemae import MemAEDetector, metrics

X = load_diabetes(as_frame=True, scaled=False).data
X["sex"] = X["sex"].map({1.0: "A", 2.0: "B"})  # strings, as in many tables
numbers = X.columns.drop("sex")
rng = np.random.default_rng(0)
y = (rng.random(len(X)) < 0.1).astype(int)
for row in np.flatnonzero(y):
    column = rng.choice(["s1", "s2", "s3", "s4"])
    others = X[column].sort_values().to_numpy()
    low = X.loc[row, column] < np.median(others)
    X.loc[row, column] = rng.choice(others[-40:] if low else others[:40])
X.head(3)

# %%
# Numbers pass through, as the detector scales them itself; the category becomes a
# column of zeros and ones for each of its values.
encoder = make_column_transformer(
    (OneHotEncoder(sparse_output=False), ["sex"]), remainder="passthrough"
)
pipeline = make_pipeline(encoder, MemAEDetector(random_state=0))
pipeline.fit(X)

# %%
# Grid search needs labels to compare settings. The detector is fitted without them;
# only the scorer sees them. :func:`skmemae.metrics.roc_auc` is right under both
# conventions and both codings of y, which scikit-learn's scorers of the same name are
# not. Outliers are rare, so the folds are stratified, and shuffled.
grid = {
    "memaedetector__contamination": [0.001, 0.05, 0.1, 0.2],
    "memaedetector__anomaly_score": ["auto", "absolute", "reconstruction"],
}
folds = StratifiedKFold(5, shuffle=True, random_state=0)
search = GridSearchCV(pipeline, grid, scoring=metrics.roc_auc, cv=folds)
search.fit(X, y)
print("best:", search.best_params_, f"ROC AUC {search.best_score_:.3f}")

# %%
# All settings, means over the five folds.
results = pd.DataFrame(search.cv_results_)
table = results.pivot_table(
    index="param_memaedetector__contamination",
    columns="param_memaedetector__anomaly_score",
    values="mean_test_score",
)
ax = table.plot(marker="o", figsize=(6, 3.8))
ax.set(xlabel="contamination", ylabel="ROC AUC, mean of five folds", xscale="log")
ax.legend(title="anomaly_score")

# %%
# The best pipeline is fitted on all rows and ready for new ones. Which rows does it
# find the most abnormal, and are they among the changed ones?
scores = search.decision_function(X)
most = np.argsort(-scores)[: y.sum()]
print(
    f"{y[most].mean():.0%} of the {y.sum()} rows with the highest scores were changed"
)
plt.show()

"""
A table of measurements
=======================

Tumours, each with 30 measurements of its cells, from the breast cancer data of
scikit-learn. The detector is trained on benign tumours alone, without labels, and finds
the malignant ones among new tumours. Four other detectors do the same for comparison.
"""

# %%
# Two thirds of the benign tumours are the training set; the other third and some
# malignant ones are the test set.
import matplotlib.pyplot as plt
import pandas as pd
from pyod.models.auto_encoder import AutoEncoder
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import RocCurveDisplay, average_precision_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split
from skmemae.display import ScoreDisplay

cancer = load_breast_cancer()
split = one_class_split(cancer.data, cancer.target, normal=1, random_state=0)
print(f"{len(split.X_train)} training samples")
print(f"{len(split.y_test)} test samples, {split.y_test.sum()} of them malignant")

# %%
# ``contamination=0.001`` tells the detector that the training data is clean. It scales
# the columns itself; the higher a score, the more abnormal the tumour.
detector = MemAEDetector(contamination=0.001, random_state=0).fit(split.X_train)
scores = detector.decision_function(split.X_test)
print(f"ROC AUC {roc_auc_score(split.y_test, scores):.3f}")

# %%
# The threshold: here one new benign tumour in twenty may be a false alarm.
detector.set_threshold(false_alarm_rate=0.05)
found = detector.predict(split.X_test)
print(f"malignant tumours found: {found[split.y_test == 1].mean():.0%}")
print(f"false alarms among the benign: {found[split.y_test == 0].mean():.0%}")

ScoreDisplay.from_estimator(detector, split.X_test, split.y_test).plot()

# %%
# Other detectors on the same rows, which need scaled columns.
scaler = StandardScaler().fit(split.X_train)
rivals = {
    "KNN": KNN(),
    "IForest": IForest(random_state=0),
    "PyOD AutoEncoder": AutoEncoder(random_state=0, verbose=0),
    "no memory": MemAEDetector(contamination=0.001, memory_size=0, random_state=0),
}
test_scores = {"MemAE": scores}
for name, rival in rivals.items():
    rival.fit(scaler.transform(split.X_train))
    test_scores[name] = rival.decision_function(scaler.transform(split.X_test))

figure, ax = plt.subplots(figsize=(5.5, 5), layout="constrained")
for name, values in test_scores.items():
    RocCurveDisplay.from_predictions(split.y_test, values, ax=ax, name=name)
ax.legend(loc="lower right")

# %%
# On so small a table the best detectors are close to each other, and another split of
# the rows changes their order. Differences are worth a look where they are means over
# many tables and splits: see :doc:`the results </results>`.
pd.DataFrame(
    {
        "ROC AUC": {k: roc_auc_score(split.y_test, v) for k, v in test_scores.items()},
        "average precision": {
            k: average_precision_score(split.y_test, v) for k, v in test_scores.items()
        },
    }
).round(3)

"""
Choose the threshold
====================

A threshold turns a score into a decision. There are four ways to set it, all possible
after training, without a refit: from the share of outliers in the training
data, from the rate of false alarms that is acceptable, from a few labels, or by hand.
"""

# %%
# The breast cancer data of scikit-learn; benign tumours are normal. A third of the
# benign ones and some malignant ones are new. Half of the new ones get labels.
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split
from skmemae.display import ScoreDisplay

X, y = load_breast_cancer(return_X_y=True)
split = one_class_split(X, y, normal=1, random_state=0)
X_valid, X_test, y_valid, y_test = train_test_split(
    split.X_test, split.y_test, test_size=0.5, stratify=split.y_test, random_state=0
)
detector = MemAEDetector(contamination=0.001, random_state=0).fit(split.X_train)

# %%
# Scores do not change with the threshold; labels do.
ways = {
    "contamination=0.001": {"contamination": 0.001},
    "contamination='auto'": {"contamination": "auto"},
    "false_alarm_rate=0.1": {"false_alarm_rate": 0.1},
    "false_alarm_rate=0.02": {"false_alarm_rate": 0.02},
    "X_valid, y_valid": {"X_valid": X_valid, "y_valid": y_valid},
    "threshold=20": {"threshold": 20.0},
}
results = {}
for name, way in ways.items():
    labels = detector.set_threshold(**way).predict(X_test)
    results[name] = {
        "threshold": detector.threshold_,
        "malignant found": labels[y_test == 1].mean(),
        "false alarms": labels[y_test == 0].mean(),
        "right when it warns": y_test[labels == 1].mean(),
    }
pd.DataFrame(results).T.round(3)

# %%
# ``contamination`` makes the threshold a quantile of the training scores: with clean
# training data hardly any tumour is flagged. ``"auto"`` looks for scores that stand
# apart from the others. ``false_alarm_rate`` is useful if the cost of a false alarm is
# known: it holds for new normal rows, up to chance, because a training row is scored
# without the memory item that is made of it. If there are labels, they determine the
# threshold with the largest F1.
detector.set_threshold(X_valid=X_valid, y_valid=y_valid)
ScoreDisplay.from_estimator(detector, X_test, y_test).plot()

# %%
# Does the rate of false alarms hold? Twenty splits of the benign tumours, and the share
# of new ones that is flagged.
benign = X[y == 1]
for rate in (0.05, 0.1, 0.2):
    flagged = []
    for seed in range(20):
        X_train, X_new = train_test_split(benign, test_size=0.4, random_state=seed)
        detector = MemAEDetector(contamination=0.001, random_state=0).fit(X_train)
        flagged.append(
            detector.set_threshold(false_alarm_rate=rate).predict(X_new).mean()
        )
    print(f"asked {rate:.2f}: {np.mean(flagged):.3f} on average")

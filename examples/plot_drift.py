"""
Data that drifts
================

Normal data changes: sensors age, customers come and go. A detector that was fitted once
then gives more false alarms and finds fewer outliers. ``partial_fit`` learns from new
rows as they arrive, drops the oldest, and updates the threshold.
"""

# %%
# A stream of eight columns that depend on three hidden factors. After piece 15 the
# factors act otherwise and the centre moves, within ten pieces. One row in twenty is an
# outlier: its columns come from different rows.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector

rng = np.random.default_rng(0)
loadings, centre = rng.normal(size=(2, 3, 8)), 2 * rng.normal(size=8)


def piece(time, n=200):
    """Rows and labels of a moment between 0, before the drift, and 1, after it."""
    mixed = (1 - time) * loadings[0] + time * loadings[1]
    X = rng.normal(size=(n, 3)) @ mixed + 0.3 * rng.normal(size=(n, 8)) + time * centre
    y = (np.arange(n) < n // 20).astype(int)
    for column in X.T:
        column[y == 1] = rng.choice(column[y == 0], size=y.sum())
    return X, y


stream = [piece(np.clip((i - 15) / 10, 0, 1)) for i in range(40)]
start, stream = np.vstack([X for X, _ in stream[:5]]), stream[5:]

# %%
# Two detectors are fitted alike. One is not changed; the other learns from each piece
# after scoring it.
fixed = MemAEDetector(contamination=0.05, random_state=0).fit(start)
updated = MemAEDetector(contamination=0.05, random_state=0).fit(start)
areas = {"fixed": [], "updated": []}
flagged = {"fixed": [], "updated": []}
for X, y in stream:
    for name, detector in {"fixed": fixed, "updated": updated}.items():
        areas[name].append(roc_auc_score(y, detector.decision_function(X)))
        flagged[name].append(detector.predict(X[y == 0]).mean())
    updated.partial_fit(X)

# %%
# Left: the ranking of outliers above the normal rows of the same piece. Right: the
# share of these normal rows that is flagged.
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
pieces = np.arange(5, 40)
for ax, values, title in zip(
    axes, (areas, flagged), ("ROC AUC", "share of normal rows flagged"), strict=True
):
    for name in values:
        ax.plot(pieces, values[name], label=name)
    ax.axvspan(15, 25, alpha=0.15)
    ax.set(title=title, xlabel="piece of the stream (the drift is shaded)")
axes[0].legend()

# %%
# A refit on the last rows is as good as the updates, and takes longer.
recent = np.vstack([X for X, _ in stream[-5:]])
refitted = MemAEDetector(contamination=0.05, random_state=0).fit(recent)
X, y = piece(1, n=2000)
for name, detector in {
    "fixed": fixed,
    "updated": updated,
    "refitted": refitted,
}.items():
    print(f"{name}: ROC AUC {roc_auc_score(y, detector.decision_function(X)):.3f}")
plt.show()

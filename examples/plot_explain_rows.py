"""
Why is this row abnormal?
=========================

A score alone is of little use to those who have to act on it. ``explain`` gives the
share of each column in a row's score, the expected values, and the training rows with
which the detector compared the row.
"""

# %%
# The wine data of scikit-learn: 178 wines of three growers, 13 measurements each. Wines
# of the first grower are normal. The detector is fitted on a DataFrame, so it knows the
# columns' names.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_wine

from skmemae import MemAEDetector
from skmemae.display import ExplanationDisplay

wine = load_wine(as_frame=True)
normal = wine.data[wine.target == 0]
detector = MemAEDetector(contamination=0.001, random_state=0).fit(normal)

# %%
# A wine of each of the two other growers. The bars of a wine sum to its score; beside
# each column are its value and, in brackets, what the memory would expect there.
others = wine.data.loc[[70, 150]]
ExplanationDisplay.from_estimator(detector, others, n_features=6).plot()

# %%
# The same as a table.
explanation = detector.explain(others)
explanation.to_frame(n_features=3).round(2)

# %%
# The normal wines that the memory compared them with, and how much each of them
# counted.
for sample, rows, weights in zip(
    others.index, explanation.rows, explanation.weights, strict=True
):
    named = [f"{normal.index[r]} ({w:.0%})" for r, w in zip(rows, weights, strict=True)]
    print(f"wine {sample} was compared with wines {', '.join(named)}")

# %%
# Can it be trusted?
# ------------------
#
# A check with a known answer: in each normal wine one value is replaced by one that is
# four deviations off. Is that column named first? And how far is the value that the
# memory expects from the true one, compared with the mean of the column?
rng = np.random.default_rng(0)
true = normal.to_numpy()
rows, columns = np.arange(len(true)), rng.integers(true.shape[1], size=len(true))
changed = true.copy()
shift = 4 * true.std(axis=0)[columns] * rng.choice([-1, 1], size=len(true))
changed[rows, columns] += shift
explanation = detector.explain(pd.DataFrame(changed, columns=normal.columns))
first = explanation.shares.argmax(axis=1) == columns
print(f"the changed column is first in {first.mean():.0%} of the rows")

deviations = true.std(axis=0)[columns]
far = np.abs(explanation.expected - true)[rows, columns] / deviations
mean_far = np.abs(true.mean(axis=0)[columns] - true[rows, columns]) / deviations
print(
    f"expected values are {np.median(far):.2f} deviations off the true ones (median),"
)
print(f"the column's means {np.median(mean_far):.2f}")
plt.show()

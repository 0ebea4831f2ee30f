"""
p-values and false discoveries
==============================

How sure is it that a sample is abnormal? Its p-value is the probability with which a
normal sample would be at least as abnormal. Among many samples some p-values are small
by chance. The method of Benjamini and Hochberg allows for that: of the samples that it
picks, no more than a chosen share is normal, on average.
"""

# %%
# The breast cancer data of scikit-learn. The detector is trained on two thirds of the
# benign tumours; the others and some malignant ones are new.
import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import false_discovery_control
from sklearn.datasets import load_breast_cancer

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split

X, y = load_breast_cancer(return_X_y=True)
split = one_class_split(X, y, normal=1, random_state=0)
malignant = split.y_test == 1
detector = MemAEDetector(contamination=0.001, random_state=0).fit(split.X_train)
p_values = detector.p_values(split.X_test)

# %%
# All p-values of normal samples are about equally frequent; those of outliers are
# small.
figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
groups = {"benign": p_values[~malignant], "malignant": p_values[malignant]}
for name, values in groups.items():
    weights = np.full(len(values), 100 / len(values))
    ax.hist(values, np.linspace(0, 1, 21), weights=weights, alpha=0.6, label=name)
ax.set(xlabel="p-value", ylabel="% of the tumours")
ax.legend()

# %%
# A limit of 0.1 on the p-values picks a tenth of all benign tumours, however many these
# are. With adjusted p-values, a tenth of the picked tumours may be benign.
adjusted = false_discovery_control(p_values)
for name, picked in {"below 0.1": p_values < 0.1, "adjusted": adjusted < 0.1}.items():
    false = np.mean(~malignant[picked])
    print(f"{name:10s}: {picked.sum()} picked, {false:.0%} of them benign")

# %%
# The picture: sorted p-values, and the line of Benjamini and Hochberg. All p-values up
# to the last one below the line are picked.
order = np.argsort(p_values)
rank = np.arange(1, len(order) + 1)
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, group, colour in (
    ("benign", ~malignant, "C0"),
    ("malignant", malignant, "C1"),
):
    where = group[order]
    ax.scatter(rank[where], p_values[order][where], s=12, color=colour, label=name)
ax.plot(rank, 0.1 * rank / len(rank), color="black", label="0.1 * rank / number")
ax.axvline((adjusted < 0.1).sum() + 0.5, linestyle=":", color="black", label="picked")
ax.set(xlabel="rank", ylabel="p-value", xlim=(0, 90), ylim=(0, 0.2))
ax.legend()

# %%
# The method holds on average, so these are means over thirty splits.
false_shares = {rate: [] for rate in (0.05, 0.1, 0.2)}
for seed in range(30):
    split = one_class_split(X, y, normal=1, random_state=seed)
    detector = MemAEDetector(contamination=0.001, random_state=0).fit(split.X_train)
    adjusted = false_discovery_control(detector.p_values(split.X_test))
    for rate, shares in false_shares.items():
        picked = adjusted < rate
        shares.append(np.mean(split.y_test[picked] == 0) if picked.any() else 0.0)
for rate, shares in false_shares.items():
    print(f"asked {rate:.2f}: {np.mean(shares):.3f} of the picked tumours are benign")
plt.show()

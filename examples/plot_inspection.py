"""
Flaws of surfaces
=================

Cloth is inspected for scratches, spots and stains, after training on cloth without
flaws. The result is a score for each image, and a map that says where a flaw is.
"""

# %%
# Photographs of 96 x 96 pixels are made here: threads along and across, each a little
# different, in light that falls off to one side. Some of the new ones have a flaw.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.display import PValueMapDisplay
from skmemae.metrics import aupro

rng = np.random.default_rng(0)
SIDE = 96
rows, columns = np.mgrid[:SIDE, :SIDE]


def photograph():
    """Cloth without a flaw, in a place and in light of its own: (96, 96)."""
    threads = [0.0, 0.0]
    for axis, along in enumerate((columns, rows)):
        phase = gaussian_filter(rng.normal(size=(SIDE, SIDE)), 12) * 25
        wave = np.sin(2 * np.pi * along / 6 + phase + rng.uniform(0, 2 * np.pi))
        grain = gaussian_filter1d(rng.normal(size=(SIDE, SIDE)), 4, axis=axis)
        threads[axis] = wave + grain
    angle = rng.uniform(0, 2 * np.pi)
    light = (rows - 48) * np.sin(angle) + (columns - 48) * np.cos(angle)
    noise = rng.normal(0, 3, size=(SIDE, SIDE))
    return 130 + 14 * sum(threads) + 0.25 * light + noise


def flaw(kind):
    """How strong a flaw is at each pixel, from 0 to 1: (96, 96)."""
    row, column = rng.uniform(20, 76, size=2)
    angle = rng.uniform(0, np.pi)
    along = (rows - row) * np.sin(angle) + (columns - column) * np.cos(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    if kind == "scratch":
        return np.exp(-((across / 1.2) ** 2)) * (np.abs(along) < rng.uniform(8, 16))
    if kind == "spot":
        return np.exp(-((along**2 + across**2) / rng.uniform(5, 10)))
    blot = np.exp(-((along / 14) ** 2 + (across / 9) ** 2))
    return (blot > 0.4) * gaussian_filter((blot > 0.4).astype(float), 1)


STRENGTHS = {"scratch": 28, "spot": -35, "stain": -10}
training = np.stack([photograph() for _ in range(100)])
good = np.stack([photograph() for _ in range(30)])
kinds = np.repeat(list(STRENGTHS), 10)
flaws = np.stack([flaw(kind) for kind in kinds])
flawed = np.stack(
    [photograph() + STRENGTHS[k] * f for k, f in zip(kinds, flaws, strict=True)]
)
masks = flaws > 0.3

# %%
# The images are alike but for small differences, and so "auto" takes them for a surface
# and compares patches ("smooth-patches").
detector = MemAEDetector(random_state=0).fit(training.clip(0, 255).astype(np.uint8))
print(detector.resolved_params_["anomaly_score"])

# %%
# Does the score tell images with flaws from new ones without?
good, flawed = (images.clip(0, 255).astype(np.uint8) for images in (good, flawed))
of_good, of_flawed = (detector.decision_function(images) for images in (good, flawed))
for kind in STRENGTHS:
    of_kind = of_flawed[kinds == kind]
    y = np.repeat([0, 1], [len(good), len(of_kind)])
    print(f"{kind}: ROC AUC {roc_auc_score(y, np.r_[of_good, of_kind]):.3f}")

# %%
# ``p_value_map`` says where the flaws are: the lower a p-value, the more seldom a good
# image is so abnormal in that place. :func:`~skmemae.metrics.aupro` is the share of the
# flaws that is found, whatever their size.
p_values = detector.p_value_map(np.concatenate([good, flawed]))
truth = np.concatenate([np.zeros(good.shape, dtype=bool), masks])
pixels = roc_auc_score(truth.ravel(), -p_values.ravel())
print(f"pixels: ROC AUC {pixels:.3f}, AUPRO {aupro(-p_values, truth):.3f}")

# %%
# One flaw of each kind, and the outline of the places with a p-value below 0.001.
PValueMapDisplay.from_estimator(detector, flawed[[0, 10, 20]]).plot()

# %%
# Objects that differ from one to the next, such as digits or animals, are told from
# others by their form, and "auto" compares the whole of them then
# (``anomaly_score="smooth-turns"``). Either can be asked for, whatever the images are:
# for flaws of varied objects, ``anomaly_score="smooth-patches"``.
plt.show()

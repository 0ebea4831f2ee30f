"""
A folder of images
==================

From image files to a map of defects: visual inspection of parts, trained on good ones
alone. This page makes its own files, so that it runs anywhere; with your files, only
the names of the folders change.
"""

# %%
# Some files to begin with: photographs of a ring, in light that changes from one to the
# next. A few of the new parts have a crack or a stain.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.datasets import load_images
from skmemae.display import AnomalyMapDisplay, ScoreDisplay

rng = np.random.default_rng(0)
y, x = np.mgrid[-1:1:96j, -1:1:96j]


def photograph(defect=None):
    """Image of a ring in the middle, of shape (96, 96, 3)."""
    radius = np.hypot(x + rng.normal(0, 0.01), y + rng.normal(0, 0.01))
    ring = 1 / (1 + np.exp((np.abs(radius - 0.6) - 0.18) * 40))
    image = 0.3 + 0.4 * ring * (1 + 0.15 * np.sin(12 * np.arctan2(y, x)))
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    if defect == "crack":
        image[(np.abs(across) < 0.025) & (along > 0.45) & (along < 0.75)] = 0.3
    if defect == "stain":
        image -= 0.3 * np.exp(-((along - 0.6) ** 2 + across**2) / 0.012)
    image = image * rng.uniform(0.8, 1.2) + rng.normal(0, 0.02, size=image.shape)
    return (image[..., None] * [255, 245, 220]).clip(0, 255).astype(np.uint8)


home = tempfile.TemporaryDirectory()
parts = Path(home.name)
for folder, defect, n in (
    ("training", None, 120),
    ("new/good", None, 40),
    ("new/crack", "crack", 8),
    ("new/stain", "stain", 8),
):
    (parts / folder).mkdir(parents=True)
    for i in range(n):
        Image.fromarray(photograph(defect)).save(parts / folder / f"part {i}.png")

# %%
# Read, fit. Photographs of 96 x 96 pixels are scaled to 32 x 32, which is enough to see
# these defects and makes training fast.
training = load_images(parts / "training", size=(32, 32))
detector = MemAEDetector(contamination=0.01, anomaly_score="local", random_state=0)
detector.fit(training.data)

# %%
# ``anomaly_score="local"`` is the score for small defects. One false alarm in ten good
# parts is acceptable here; the threshold for it follows from a tenth of the training
# images, which is held out from training.
detector.set_threshold(false_alarm_rate=0.1)

# %%
# The new parts are in folders with the names of their defects, which are only used to
# check the result.
new = load_images(parts / "new", size=(32, 32))
scores = detector.decision_function(new.data)
kinds = np.array(new.target_names)[new.target]
print(f"ROC AUC {roc_auc_score(kinds != 'good', scores):.3f}")
for kind in new.target_names:
    flagged = detector.predict(new.data[kinds == kind])
    print(f"{kind}: {flagged.sum()} of {len(flagged)} flagged")

ScoreDisplay.from_estimator(detector, new.data, (kinds != "good").astype(int)).plot()

# %%
# The eight most abnormal parts, their files, and maps of their errors.
worst = np.argsort(-scores)[:8]
for file in new.filenames[worst]:
    print(Path(file).relative_to(parts))
AnomalyMapDisplay.from_estimator(detector, new.data[worst]).plot()
home.cleanup()
plt.show()

"""
Defects in images
=================

A detector that was trained on images of the digit "3" finds defects in new images of
it, and shows their places. It is trained on good images alone, as in visual inspection,
where good parts are many and defects are rare and unlike each other.
"""

# %%
# Images of "3" from scikit-learn's digits, 8 x 8 pixels. Two thirds are for training.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae.datasets import one_class_split
from skmemae.display import AnomalyMapDisplay, ExplanationDisplay, TrainingCurveDisplay

digits = load_digits()
split = one_class_split(digits.images, digits.target, normal=3, random_state=0)
good = split.X_test[split.y_test == 0]

# %%
# The shape of X says that these are images, and the network becomes a convolutional
# one.
detector = MemAEDetector(contamination=0.01, random_state=0).fit(split.X_train)
print(detector.backbone_, detector.sample_shape_)
TrainingCurveDisplay.from_estimator(detector).plot()

# %%
# Other digits are easy to tell from threes.
scores = detector.decision_function(split.X_test)
print(f"other digits against threes: ROC AUC {roc_auc_score(split.y_test, scores):.3f}")

# %%
# Now defects: a bright speck of 2 x 2 pixels is put somewhere on the dark ground of
# each good test image.
rng = np.random.default_rng(0)
defective, specks = good.copy(), []
for image in defective:
    blocks = np.lib.stride_tricks.sliding_window_view(image, (2, 2))
    top, left = rng.choice(np.argwhere(blocks.mean(axis=(2, 3)) < 3))
    image[top : top + 2, left : left + 2] = 16
    specks.append((top, left))

found = roc_auc_score(
    np.repeat([0, 1], len(good)),
    np.r_[detector.decision_function(good), detector.decision_function(defective)],
)
print(f"with a speck against without: ROC AUC {found:.3f}")

# %%
# :class:`~skmemae.display.AnomalyMapDisplay` lays the error of each pixel over the
# image. The reconstructions are threes without specks, like the training images.
AnomalyMapDisplay.from_estimator(detector, defective[:10]).plot()

# %%
# ``explain`` gives the share of each pixel in the score, and the display draws a box
# around the region with the largest share.
ExplanationDisplay.from_estimator(detector, defective[:8]).plot()

# %%
# How often does the box hold the middle of the speck?
regions = detector.explain(defective).regions  # start and stop along both axes
middles = np.array(specks) + 0.5
hit = np.all((regions[..., 0] <= middles) & (middles <= regions[..., 1]), axis=1)
print(f"in {hit.mean():.0%} of the images")
plt.show()

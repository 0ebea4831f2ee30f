"""
What the memory holds
=====================

A decoder that sees nothing but a mixture of memory items can only draw what the items
hold. This page looks at them: what they decode to, how often each is used, and which of
them answer a sample.
"""

# %%
# Images
# ------
#
# The normal class are two digits, "4" and "9". Items are learned: each starts as the
# encoding of a training image.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, load_wine

from skmemae import MemAEDetector
from skmemae.display import AddressingDisplay, MemoryDisplay, ReconstructionDisplay

digits = load_digits()
normal = np.isin(digits.target, [4, 9])
detector = MemAEDetector(memory_size=40, random_state=0).fit(digits.images[normal])
MemoryDisplay.from_estimator(detector, n_items=40).plot()

# %%
# Above each item is its number and the share of the training images that use it. One
# image is made of a few items:
weights = detector.addressing_weights(digits.images[normal])
print(f"items per image: {(weights > 0).sum(axis=1).mean():.1f} of {weights.shape[1]}")

# %%
# Five images of each normal digit, and the items with weights for them. Fours and nines
# use different items, though the detector does not know that there are two digits.
fours, nines = (digits.images[digits.target == digit][:5] for digit in (4, 9))
AddressingDisplay.from_estimator(detector, np.concatenate([fours, nines])).plot()

# %%
# Other digits, which are not in the memory, are reconstructed as the closest fours and
# nines.
others = [
    digits.images[digits.target == digit][0] for digit in (0, 1, 2, 3, 5, 6, 7, 8)
]
ReconstructionDisplay.from_estimator(detector, others).plot()

# %%
# A table
# -------
#
# The items of a table are rows of the training data. Here the rows are wines with 13
# measurements, from three growers.
wine = load_wine(as_frame=True)
detector = MemAEDetector(contamination=0.01, random_state=0).fit(wine.data)
print(f"{len(detector.memory_)} items of {len(wine.data)} wines")
AddressingDisplay.from_estimator(
    detector, wine.data.iloc[[0, 1, 60, 61, 140, 141]]
).plot()

# %%
# ``explain`` names the rows of the mixture, those with the largest weights first. Most
# are wines of the same grower.
explanation = detector.explain(wine.data)
same = wine.target.to_numpy()[explanation.rows] == wine.target.to_numpy()[:, None]
print(f"{same.mean():.0%} of the first five rows are of the same grower")
print("wine 0 is compared with the wines", explanation.rows[0].tolist())
plt.show()

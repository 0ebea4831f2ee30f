"""
From a video to its normality
=============================

Videos in, a curve over the frames out, with the abnormal region lit up. The videos are made: people, as small bars, walk
through the frame at a pace of their own. In the test video one of them rides.
"""

# %%
# Training videos are normal throughout.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

from skmemae import MemAEDetector, presets
from skmemae.display import AnomalyMapDisplay, NormalityDisplay
from skmemae.video import ClipWindows, OnlineNormality, frame_maps, frame_scores, normality_score


def street(n_frames, n_walkers, seed, rides=None):
    """A grey video with its masks; ``rides`` = (first frame, speed) sends a rider along."""
    rng = np.random.default_rng(seed)
    video = rng.normal(100, 3, size=(n_frames, 40, 60))
    mask = np.zeros(video.shape, dtype=bool)
    people = [(0, rng.uniform(0.3, 0.8) * rng.choice([-1, 1]), rng.uniform(0, 60)) for _ in range(n_walkers)]
    people += [] if rides is None else [(*rides, 0.0)]
    for i, (first, speed, left) in enumerate(people):
        top, shade = rng.integers(5, 28), rng.uniform(-60, 60)
        for t in range(first, n_frames):
            x = left + speed * (t - first)
            if i == n_walkers and x > 57:  # the rider leaves
                break
            place = t, slice(top, top + 7), slice(int(x) % 57, int(x) % 57 + 3)
            video[place] += shade + 40 * np.sign(shade)
            mask[place] |= i == n_walkers
    return video.clip(0, 255).astype(np.uint8), mask


train = [street(120, n_walkers, seed)[0] for seed, n_walkers in enumerate((3, 5, 7, 6))]
test, mask = street(120, 6, seed=9, rides=(50, 2.5))
abnormal = mask.any(axis=(1, 2))

# %%
# Clips of what changes from frame to frame, and the preset that goes with them. No frame is copied.
windows = ClipWindows(length=9, changes=True)
detector = MemAEDetector(**{**presets.small_video(), "max_epochs": 6}, random_state=0).fit(windows.fit_transform(train))

# %%
# Each frame gets the score of the clip that centres on it; for the picture the scores are smoothed over time.
clips = windows.transform([test])
errors = frame_scores(detector.decision_function(clips), clips)[0]
NormalityDisplay(normality_score([gaussian_filter1d(errors, 2)])[0], abnormal).plot()

# %%
# Where is it? The middle frames of three clips, what the memory makes of them, and the error, in changes ...
middle = np.flatnonzero(abnormal)[[4, 9, 14]]
AnomalyMapDisplay.from_estimator(detector, clips[middle - clips.length // 2 - 1]).plot()

# %%
# ... and over the frames themselves.
maps = frame_maps(detector, clips)[0]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.3), layout="constrained")
for t, ax in zip(middle, axes, strict=True):
    ax.imshow(test[t], cmap="gray")
    ax.imshow(np.ones_like(maps[t]), cmap="autumn_r", vmin=0, vmax=1, alpha=np.clip(maps[t] / maps.max(), 0, 1))
    ax.set(title=f"frame {t}", xticks=[], yticks=[])

# %%
# Live, frame by frame: nothing is known about the rest of the video, so errors are measured by those of training.
online = OnlineNormality(detector, windows)
live = np.array([online.push(frame) for frame in test])
print(f"scored {online.delay} frames later; the least normal frame is {np.nanargmin(live) - online.delay}")
plt.show()

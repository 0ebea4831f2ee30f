"""
A video, from frames to a curve
===============================

Which frames of a video are abnormal, and where in the frame? The videos of this page
are made: people, drawn as small bars, walk through the picture at different speeds. In
the test video one of them rides.
"""

# %%
# Videos are arrays of shape (frames, height, width). Those for training are normal.
import matplotlib.pyplot as plt
import numpy as np
from scipy.ndimage import gaussian_filter1d

from skmemae import MemAEDetector, presets
from skmemae.display import AnomalyMapDisplay, NormalityDisplay
from skmemae.video import (
    ClipWindows,
    OnlineNormality,
    frame_maps,
    frame_scores,
    normality_score,
)


def street(n_frames, n_walkers, seed, rider=None):
    """Grey video and mask of the rider, (first frame, pixels per frame)."""
    rng = np.random.default_rng(seed)
    video = rng.normal(100, 3, size=(n_frames, 40, 60))
    mask = np.zeros(video.shape, dtype=bool)
    people = [
        (0, rng.uniform(0.3, 0.8) * rng.choice([-1, 1]), rng.uniform(0, 60))
        for _ in range(n_walkers)
    ]
    people += [] if rider is None else [(*rider, 0.0)]
    for i, (first, speed, left) in enumerate(people):
        top, shade = rng.integers(5, 28), rng.uniform(-60, 60)
        for t in range(first, n_frames):
            x = left + speed * (t - first)
            if i == n_walkers and x > 57:  # the rider leaves
                break
            left_now = int(x) % 57
            region = t, slice(top, top + 7), slice(left_now, left_now + 3)
            video[region] += shade + 40 * np.sign(shade)
            mask[region] |= i == n_walkers
    return video.clip(0, 255).astype(np.uint8), mask


train = [street(70, n_walkers, seed)[0] for seed, n_walkers in enumerate((3, 5, 7, 6))]
test, mask = street(120, 6, seed=9, rider=(50, 2.5))
abnormal = mask.any(axis=(1, 2))

# %%
# The camera is fixed, so the input is the changes from frame to frame, in clips of
# nine; :func:`skmemae.presets.small_video` has settings for them. No frame is copied:
# clips are cut on demand.
windows = ClipWindows(length=9, changes=True)
detector = MemAEDetector(**{**presets.small_video(), "max_epochs": 5}, random_state=0)
detector.fit(windows.fit_transform(train))

# %%
# Each frame gets the score of the clip around it. For the picture the scores are
# smoothed over time. The true interval is shaded.
clips = windows.transform([test])
errors = frame_scores(detector.decision_function(clips), clips)[0]
normality = normality_score([gaussian_filter1d(errors, 2)])[0]
NormalityDisplay(normality, abnormal).plot()

# %%
# The place of the anomaly: for three clips the frame with the largest error, its
# reconstruction and the error, as changes ...
middle = np.flatnonzero(abnormal)[[4, 9, 14]]
shown = clips[middle - clips.length // 2 - 1]
AnomalyMapDisplay.from_estimator(detector, shown).plot()

# %%
# ... and the errors over the frames themselves.
maps = frame_maps(detector, clips)[0]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.3), layout="constrained")
for t, ax in zip(middle, axes, strict=True):
    ax.imshow(test[t], cmap="gray")
    opacity = np.clip(maps[t] / maps.max(), 0, 1)
    ax.imshow(np.ones_like(opacity), cmap="autumn_r", vmin=0, vmax=1, alpha=opacity)
    ax.set(title=f"frame {t}", xticks=[], yticks=[])

# %%
# Live, frame by frame. Later frames are not known then, so errors are scaled by those
# of the training videos.
online = OnlineNormality(detector, windows)
live = np.array([online.push(frame) for frame in test])
print(f"a frame is scored {online.delay} frames later")
print(f"the least normal frame is {np.nanargmin(live) - online.delay}")
plt.show()

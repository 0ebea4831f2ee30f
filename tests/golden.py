"""Scores that detectors gave when they were last changed on purpose.

Run ``python tests/golden.py`` from the root of the repository to renew ``tests/data/golden.json`` after a change of method, and
say in the changelog what changed.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
from scipy.ndimage import zoom
from sklearn.datasets import load_breast_cancer, load_digits

from skmemae import MemAEDetector, presets
from skmemae.datasets import make_moving_digits

FILE = Path(__file__).parent / "data" / "golden.json"
_SHOWN = 12  # samples whose scores are kept


@cache
def images(size):
    """Digits of one class, then others, as square images of bytes."""
    digits = load_digits()
    chosen = np.concatenate([digits.images[digits.target == 2][:60], digits.images[digits.target == 7][:_SHOWN]])
    return (zoom(chosen, (1, size / 8, size / 8), order=1) * 15).clip(0, 255).astype(np.uint8)


@cache
def clips(size=16):
    """Moving digits, normal and abnormal."""
    return make_moving_digits(n_clips=24, size=size, random_state=0).data


@cache
def table():
    """Benign rows, then malignant ones."""
    X, y = load_breast_cancer(return_X_y=True)
    return np.concatenate([X[y == 1][:120], X[y == 0][:_SHOWN]])


def colours():
    """Images of three channels."""
    grey = images(32)
    return np.stack([grey, 255 - grey, grey // 2], axis=1)


# Data, and parameters beside ``random_state=0``: few epochs, as weights drift apart from machine to machine with every step.
CASES = {
    "table": (table, {"max_epochs": 8}),
    "table of many outliers, sklearn": (table, {"max_epochs": 8, "contamination": 0.25, "convention": "sklearn"}),
    "table, learned items": (table, {"memory_unit": "sample", "max_epochs": 5}),
    "table, no memory": (table, {"memory_size": 0, "max_epochs": 5}),
    "images": (lambda: images(16), {"max_epochs": 5}),
    "images, no memory": (lambda: images(16), {"memory_size": 0, "max_epochs": 5}),
    "images, an item per location": (
        lambda: images(16),
        {"memory_unit": "location", "anomaly_score": "local", "max_epochs": 5},
    ),
    "clips": (clips, {"max_epochs": 5}),
    "presets.small_video": (clips, {**presets.small_video(), "max_epochs": 4}),
    "presets.paper, mnist": (lambda: images(28), {**presets.paper("mnist"), "max_epochs": 4}),
    "presets.paper, cifar10": (colours, {**presets.paper("cifar10"), "max_epochs": 2}),
    "presets.paper, video": (lambda: clips(32), {**presets.paper("video"), "max_epochs": 6}),
    "presets.paper, kddcup99": (table, {**presets.paper("kddcup99"), "max_epochs": 10}),
}


def scores(case):
    """Scores of the last samples, and the threshold."""
    data, parameters = CASES[case]
    X = data()
    detector = MemAEDetector(random_state=0, device="cpu", **parameters).fit(X[: -_SHOWN // 2])
    threshold = detector.threshold_ if detector.convention == "pyod" else detector.offset_
    return [*detector.decision_function(X[-_SHOWN:]).tolist(), float(threshold)]


if __name__ == "__main__":
    FILE.write_text(json.dumps({case: scores(case) for case in CASES}, indent=1) + "\n")
    print(f"{FILE} written")

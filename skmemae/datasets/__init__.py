"""Loaders, splits and synthetic data for evaluating detectors.

Labels of splits, tables and videos are 1 for outliers and 0 for inliers; image data sets have class labels.
"""

from skmemae.datasets.images import load_images
from skmemae.datasets.made import make_moving_digits
from skmemae.datasets.pasted import make_pasted_anomalies
from skmemae.datasets.published import (
    ADBENCH,
    ODDS,
    encode_kddcup99,
    load_adbench,
    load_cifar10,
    load_fashion_mnist,
    load_kddcup99,
    load_mnist,
    load_odds,
)
from skmemae.datasets.splits import clean_split, contaminated_split, one_class_split
from skmemae.datasets.videos import load_ped2

__all__ = [
    "ADBENCH",
    "ODDS",
    "clean_split",
    "contaminated_split",
    "encode_kddcup99",
    "load_adbench",
    "load_cifar10",
    "load_fashion_mnist",
    "load_kddcup99",
    "load_mnist",
    "load_odds",
    "load_ped2",
    "make_moving_digits",
    "make_pasted_anomalies",
    "one_class_split",
    "load_images",
]

"""Ablation of the memory's parts: the paper's table 4 and figure 7, on images, a table and clips.

All variants are MemAEDetector at its defaults, with the same layers, data and epochs, except for the parameters of the variant:
AE (no memory), AE-l1 (no memory, an l1 penalty on the encoding), nonSpar (neither shrinkage nor entropy loss), without
shrinkage, without entropy loss, and full; then full with other memory sizes N.

MNIST: four digits, each normal in turn, as in ``one-class``. KDDCUP99: as in ``kddcup99``, with learned items. Clips: moving
digits, as in the overview. "contaminated MNIST" is MNIST with other digits as a tenth of the training set. Images and clips are
scored by the error alone, without exemplars. The measure is F1 of the top fifth for KDDCUP99 and ROC AUC for the others; higher
= better.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from sklearn.utils import Bunch

from skmemae import MemAEDetector, datasets
from skmemae.benchmark import cells, kddcup99, report
from skmemae.benchmark.detectors import select

VARIANTS: dict[str, dict] = {
    "AE": {"memory_size": 0},
    "AE-l1": {"memory_size": 0, "latent_l1": 1e-2},
    "nonSpar": {"shrink_threshold": 0.0, "entropy_weight": 0.0},
    "without shrinkage": {"shrink_threshold": 0.0},
    "without entropy": {"entropy_weight": 0.0},
    "full": {},
}
COMMON: dict[str, dict] = {
    "MNIST": {"anomaly_score": "smooth"},
    "contaminated MNIST": {"anomaly_score": "smooth"},
    "KDDCUP99": {"memory_items": "learned"},
    "clips": {"anomaly_score": "relative"},
}
SIZES = (10, 30, 100, 300, 1000)
DIGITS = (1, 3, 5, 7)
COLUMNS = {"measure": "±.4f", "fit_seconds": ".1f"}


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=3)


def run(args):
    """Run all cells, print the tables and draw a figure."""
    rows = cells.run(plan(args), f"{args.out}/ablation.jsonl", measure, desc="ablation")
    report.finish(rows, COLUMNS, args.out, "ablation")


def plan(args):
    """Cells, one for each data set, seed, task and variant."""
    variants: dict[str, dict] = {**VARIANTS, **{f"full, N = {size}": {"memory_size": size} for size in SIZES}}
    variants = select(variants, args.detectors)
    planned = []
    for name in cells.selected("--data", args.data, SETS):
        for seed in range(args.seeds):
            for task, split in SETS[name](args.data_home, seed):
                for variant, parameters in variants.items():
                    make = partial(MemAEDetector, random_state=seed, **COMMON[name], **parameters)
                    planned.append(cells.Cell(name, task, seed, variant, make, split))
    return planned


def measure(detector, split):
    """Results of a cell as a dict; "measure" is F1 for KDDCUP99 and ROC AUC for the others, higher = better."""
    if "inverse" not in split:
        numbers, _ = cells.evaluate(detector, split)
        return {"measure": numbers["roc_auc"], **numbers}
    numbers = kddcup99.measure(detector, split)
    return {"measure": numbers["f1"], **numbers}


def mnist(data_home, seed, contaminated=False):
    """Yield pairs of task and split for four digits; if contaminated, other digits are a tenth of the training set."""
    dataset = loaded(datasets.load_mnist, data_home)
    split_by = contaminated_digits if contaminated else datasets.one_class_split
    for digit in DIGITS:
        yield f"class {digit}", partial(split_by, dataset.data, dataset.target, digit, random_state=seed)


def contaminated_digits(X, y, normal, random_state):
    """One-class split with other digits as a tenth of the training images; none of these is in the test set."""
    split = datasets.one_class_split(X, y, normal, outlier_share=0.5, random_state=random_state)
    outliers = np.flatnonzero(split.y_test == 1)
    extra = outliers[: len(split.X_train) // 9]
    kept = np.setdiff1d(np.arange(len(split.y_test)), extra)
    X_train = np.concatenate([split.X_train, split.X_test[extra]])
    return Bunch(X_train=X_train, X_test=split.X_test[kept], y_test=split.y_test[kept])


def connections(data_home, seed):
    """Yield the task, "", and the split of KDDCUP99."""
    X, y = _connections(data_home)
    yield "", partial(kddcup99.half_and_half, X, y, seed)


def clips(data_home, seed):
    """Yield the task, "", and the split of moving digits: the same clips for all seeds, another split for each."""
    dataset = datasets.make_moving_digits(random_state=0)
    yield "", partial(datasets.one_class_split, dataset.data, dataset.target, 0, random_state=seed)


SETS: dict[str, Callable] = {
    "MNIST": mnist,
    "contaminated MNIST": partial(mnist, contaminated=True),
    "KDDCUP99": connections,
    "clips": clips,
}


@cache
def _connections(data_home):
    dataset = loaded(datasets.load_kddcup99, data_home)
    return datasets.encode_kddcup99(dataset.data), dataset.target


@cache
def loaded(load, data_home):
    """Data set from its loader, cached; SystemExit if it is not available."""
    try:
        return load(data_home)
    except OSError as error:
        raise SystemExit(str(error)) from error

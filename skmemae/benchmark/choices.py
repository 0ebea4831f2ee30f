"""Effect of the defaults: one parameter changed at a time, on the data that the defaults were chosen on.

Images: MNIST with 2 and 8 normal, CIFAR-10 with airplane, deer and ship normal, as in ``one-class``, and where not said
otherwise scored by the error alone, without exemplars. Tables: nine of ODDS, as in ``odds``, seven of ADBench, as in
``tables``, told the share of outliers in the training data, and KDDCUP99. The measure is F1 of the top fifth for KDDCUP99
and ROC AUC for the others; higher = better. These results do not test the defaults; those of the other protocols do.
"""

from collections.abc import Callable
from functools import partial

from skmemae import MemAEDetector, datasets
from skmemae.benchmark import ablation, cells, odds, report
from skmemae.benchmark.tables import MOST_ROWS

_ERROR = {"anomaly_score": "smooth"}
COMMON: dict[str, dict] = {
    "default": {},
    "no memory": {"memory_size": 0},
    "squared error": {"anomaly_score": "reconstruction"},
}
IMAGES = {
    **COMMON,
    "error alone": _ERROR,
    "standard scaling": {"scaling": "standard", **_ERROR},
    "temperature 0.05": {"temperature": 0.05, **_ERROR},
    "100 items": {"memory_size": 100, **_ERROR},
}
TABLES = {
    **COMMON,
    "standard scaling": {"scaling": "standard"},
    "learned items": {"memory_items": "learned"},
    "one member": {"ensemble_size": 1},
    "100 rows": {"memory_size": 100},
    "cosine": {"similarity": "cosine"},
    "two layers": {"widths": (64, 16)},
    "hardly trained": {"learning_rate": 1e-6},
}
ADBENCH = ("ALOI", "Cardiotocography", "donors", "http", "magic.gamma", "SpamBase", "WPBC")
ODDS = ("arrhythmia", "glass", "letter", "mnist", "optdigits", "pima", "satimage-2", "vertebral", "wbc")
COLUMNS = ablation.COLUMNS


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=2)


def run(args):
    """Run all cells, print the tables and draw a figure."""
    rows = cells.run(plan(args), f"{args.out}/choices.jsonl", ablation.measure, desc="choices")
    report.finish(rows, COLUMNS, args.out, "choices")


def plan(args):
    """Cells, one for each data set, seed, task and variant."""
    planned = []
    every = {variant for _, variants in SETS.values() for variant in variants}
    chosen = cells.selected("--detectors", args.detectors, sorted(every))
    for name in cells.selected("--data", args.data, SETS):
        tasks, variants = SETS[name]
        for seed in range(args.seeds):
            for task, split, *share in tasks(args.data_home, seed):
                for variant, parameters in variants.items():
                    make = partial(MemAEDetector, *share, random_state=seed, **parameters)
                    planned.append(cells.Cell(name, task, seed, variant, make, split))
    return [cell for cell in planned if cell.detector in chosen]


def images(load, classes, data_home, seed):
    """Yield pairs of task and split, one for each of the normal classes."""
    dataset = ablation.loaded(load, data_home)
    for normal in classes:
        yield f"class {normal}", partial(datasets.one_class_split, dataset.data, dataset.target, normal, random_state=seed)


def tables(names, load, kind, data_home, seed):
    """Yield triples of task, split, and the share of outliers in the training data, one for each table."""
    for name in names:
        table = ablation.loaded(partial(load, name), data_home)
        yield (
            name,
            partial(odds.split_rows, odds.SPLITS[kind], table.data, table.target, seed, MOST_ROWS),
            odds.share(table, kind),
        )


def connections(data_home, seed):
    """Yield the task, "", the split of KDDCUP99, and the share of outliers in the training data."""
    for task, split in ablation.connections(data_home, seed):
        yield task, split, odds.CLEAN_SHARE


SETS: dict[str, tuple[Callable, dict[str, dict]]] = {
    "MNIST": (partial(images, datasets.load_mnist, (2, 8)), IMAGES),
    "CIFAR-10": (partial(images, datasets.load_cifar10, (0, 4, 8)), IMAGES),
    "ODDS, clean": (partial(tables, ODDS, datasets.load_odds, "clean"), TABLES),
    "ODDS, contaminated": (partial(tables, ODDS, datasets.load_odds, "contaminated"), TABLES),
    "ADBench, clean": (partial(tables, ADBENCH, datasets.load_adbench, "clean"), TABLES),
    "ADBench, contaminated": (partial(tables, ADBENCH, datasets.load_adbench, "contaminated"), TABLES),
    "KDDCUP99": (connections, {"default": {}, "all repeats": {"thin_repeats": False}}),
}

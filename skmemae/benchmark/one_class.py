"""One class of images is normal, the other nine are abnormal: the paper's table 1 on MNIST, CIFAR-10 and Fashion-MNIST.

Each class in turn is normal. Two thirds of its samples are the training set, of which MemAEDetector holds out a tenth for
validation; the rest and random samples of the other classes are the test set, with 30 % outliers. Every detector runs at its
defaults and is fitted without labels. "MemAE, error alone" does without the exemplars. "KNN, contrast" standardises each image
to zero mean and unit deviation, as MemAEDetector does.
"""

from functools import partial

from pyod.models.knn import KNN

from skmemae import MemAEDetector, datasets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import ERROR_ALONE, OnContrast, make_baselines, make_ours, select

SETS = {
    "mnist": (datasets.load_mnist, "mnist"),
    "fashion-mnist": (datasets.load_fashion_mnist, "mnist"),
    "cifar10": (datasets.load_cifar10, "cifar10"),
}
COLUMNS = {"roc_auc": "±.4f", "average_precision": ".3f", "flagged_normal": ".3f", "fit_seconds": ".1f", "score_seconds": ".2f"}


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=3)
    classes = list(range(10))
    text = "only these normal classes, of 0 to 9"
    parser.add_argument("--classes", nargs="+", type=int, choices=classes, default=classes, metavar="C", help=text)


def run(args):
    """Run all cells, print the tables and draw a figure."""
    rows = cells.run(plan(args), f"{args.out}/one-class.jsonl", desc="one-class")
    report.finish(rows, COLUMNS, args.out, "one-class")


def plan(args):
    """Cells, one for each data set, class, seed and detector."""
    planned = []
    names = cells.selected("--data", args.data, SETS)
    select(makers(0, "mnist"), args.detectors)  # before anything is loaded
    for name in names:
        load, preset = SETS[name]
        try:
            dataset = load(args.data_home)
        except OSError as error:
            # A data set named in --data must exist; otherwise it is skipped.
            if args.data:
                raise SystemExit(str(error)) from error
            print(f"left out: {error}")
            continue
        for normal in args.classes:
            task = f"class {normal}"
            for seed in range(args.seeds):
                split = partial(datasets.one_class_split, dataset.data, dataset.target, normal, random_state=seed)
                made = select(makers(seed, preset), args.detectors)
                planned += [cells.Cell(dataset.name, task, seed, detector, make, split) for detector, make in made.items()]
    return planned


def makers(seed, preset):
    """Functions that create unfitted detectors, by name."""
    alone = {ERROR_ALONE: lambda: MemAEDetector(anomaly_score="smooth", random_state=seed)}
    return {**make_ours(seed, preset), **alone, **make_baselines(seed), "KNN, contrast": lambda: OnContrast(KNN())}

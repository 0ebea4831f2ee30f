"""One class of images is normal, the other nine are abnormal: the paper's table 1 on MNIST, CIFAR-10 and Fashion-MNIST.

Each class in turn is normal. Two thirds of its samples are the training set, of which MemAEDetector holds out a tenth for
validation; the rest and random samples of the other classes are the test set, with 30 % outliers. Every detector runs at its
defaults and is fitted without labels. "MemAE, error alone" has no reference features. "KNN, contrast" standardises each image
to zero mean and unit deviation, as MemAEDetector does.
"""

from collections.abc import Iterator, Sequence
from functools import partial

from sklearn.utils import Bunch

from shared import protocol
from shared.detectors import make_image_detectors
from skmemae import datasets
from skmemae.benchmark.detectors import Makers

COLUMNS = {"roc_auc": "±.4f", "average_precision": ".3f", "flagged_normal": ".3f", "fit_seconds": ".1f", "score_seconds": ".2f"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cells, print the tables and draw a figure."""
    protocol.run(PROTOCOL, protocol.make_protocol_parser("one_class", __doc__, seeds=3).parse_args(argv))


def tasks(dataset: Bunch, seed: int) -> Iterator[tuple[str, partial]]:
    """Yield the name and the split of each normal class."""
    for normal in range(10):
        yield f"class {normal}", partial(datasets.one_class_split, dataset.data, dataset.target, normal, random_state=seed)


def makers(dataset: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    return make_image_detectors(seed, "cifar10" if dataset.name.startswith("CIFAR") else "mnist")


LOADERS = {"mnist": datasets.load_mnist, "fashion-mnist": datasets.load_fashion_mnist, "cifar10": datasets.load_cifar10}
PROTOCOL = protocol.Protocol("one-class", LOADERS, tasks, makers, COLUMNS)

if __name__ == "__main__":
    main()

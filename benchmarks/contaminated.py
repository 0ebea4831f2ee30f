"""Training images that hold outliers: one digit of MNIST is normal, and a tenth of the training set are other digits.

Each digit in turn is normal, as in ``one-class``. "contaminated MNIST" has other digits in place of a tenth of the training
images; "clean MNIST" has as many images, all of them normal. The test set is the same: held-out images of the digit, and 30 %
others, none of which is in the training set. Every detector runs at its defaults and is fitted without labels; MemAE's
``contamination`` is a tenth by default, which is true of one and not of the other.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from sklearn.utils import Bunch

from shared import protocol
from skmemae import datasets
from skmemae.benchmark.detectors import OURS, WITHOUT, Makers, make_detectors

COLUMNS = {"roc_auc": "±.4f", "average_precision": ".3f", "flagged_normal": ".3f", "fit_seconds": ".1f", "score_seconds": ".2f"}
SHARES = {"clean": 0.0, "contaminated": 0.1}  # of other digits in the training set
DETECTORS = (OURS, WITHOUT, "PCA", "KNN", "IForest")


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cells, print the tables and draw a figure."""
    parser = protocol.make_protocol_parser("contaminated", __doc__, seeds=1)
    parser.add_argument("--images", type=int, metavar="N", help="training images (default: two thirds of those of the digit)")
    args = parser.parse_args(argv)
    if args.images is not None and args.images < 2:
        parser.error(f"--images must be at least 2. Got {args.images}.")
    protocol.run(make_protocol(args.images), args)


def make_protocol(images: int | None = None) -> protocol.Protocol:
    """The protocol with so many training images, by default all."""
    loaders = {name: partial(load, name) for name in SHARES}
    return protocol.Protocol("contaminated-mnist", loaders, partial(tasks, images), makers, COLUMNS)


def load(kind: str, data_home: str | None) -> Bunch:
    """MNIST, with the share of outliers in its training sets."""
    return Bunch(**{**datasets.load_mnist(data_home), "name": f"{kind} MNIST"}, share=SHARES[kind])


def tasks(images: int | None, dataset: Bunch, seed: int) -> Iterator[tuple[str, partial]]:
    """Yield the name and the split of each digit."""
    for digit in range(10):
        yield f"class {digit}", partial(split_digits, dataset, digit, images, seed)


def makers(dataset: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors, by name."""
    known = make_detectors(seed)
    return {name: known[name] for name in DETECTORS}


def split_digits(dataset: Bunch, digit: int, images: int | None, seed: int) -> Bunch:
    """One-class split with other digits in place of a share of the training images.

    Returns
    -------
    split : Bunch
        ``X_train``, ``X_test`` and ``y_test``; the test set is the same for all shares.
    """
    split = datasets.one_class_split(dataset.data, dataset.target, digit, outlier_share=0.5, random_state=seed)
    n = min(images or len(split.X_train), len(split.X_train))
    n_others = round(dataset.share * n)
    normal, others = (split.X_test[split.y_test == label] for label in (0, 1))
    tested = others[-round(len(normal) * 3 / 7) :]  # from the other end than those of the training set
    return Bunch(
        X_train=np.concatenate([split.X_train[: n - n_others], others[:n_others]]),
        X_test=np.concatenate([normal, tested]),
        y_test=np.repeat([0, 1], [len(normal), len(tested)]),
    )


if __name__ == "__main__":
    main()

"""Ablation of the memory's parts: the paper's table 4 and figure 7, on images, a table and clips.

All variants are MemAEDetector at its defaults, with the same layers, data and epochs, except for the parameters of the variant:
AE (no memory), AE-l1 (no memory, an l1 penalty on the encoding), nonSpar (neither shrinkage nor entropy loss), without
shrinkage, without entropy loss, and full; then full with other memory sizes N.

MNIST: four digits, each normal in turn, as in ``one-class``. KDDCUP99: as in ``kddcup99``, with learned items. Clips: moving
digits, as in the overview. "contaminated MNIST" is MNIST with other digits as a tenth of the training set. Images and clips are
scored by the error alone, without reference features. The measure is F1 of the top fifth for KDDCUP99 and ROC AUC for the
others; higher = better.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import Bunch
from torch import Tensor, nn

import kddcup99
from shared import cells, protocol
from skmemae import MemAEDetector, datasets
from skmemae._data.layout import choose_layout
from skmemae._defaults import Case, conv_widths, vector_widths
from skmemae.benchmark.detectors import Makers
from skmemae.network import build_network


class L1Penalty(nn.Module):
    """Passes encodings on; their gradient becomes that of the objective with a hundredth of their l1 norm added to it."""

    def forward(self, encoding: Tensor) -> Tensor:
        if encoding.requires_grad:
            slope = 0.01 / len(encoding) * encoding.detach().sign()
            encoding.register_hook(lambda gradient: gradient + slope)
        return encoding


def sparse_autoencoder(sample_shape: tuple[int, ...]) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder with the default layers, and an l1 penalty on the encoding."""
    layout = choose_layout(sample_shape, channel_axis=1)
    unit = "location" if layout.family == "conv3d" else "sample"
    case = Case(0, layout, {"memory_unit": unit, "backbone": sparse_autoencoder})
    widths = (vector_widths if layout.family == "fc" else conv_widths)(case)
    draw = torch.Generator().manual_seed(int(torch.randint(2**31 - 1, ())))
    network = build_network(sample_shape, layout.family, widths, memory_size=0, memory_unit=unit, generator=draw)
    return nn.Sequential(network.encoder, L1Penalty()), network.decoder


SIZES = (10, 30, 100, 300, 1000)
VARIANTS: dict[str, dict[str, Any]] = {
    "AE": {"memory_size": 0},
    "AE-l1": {"memory_size": 0, "backbone": sparse_autoencoder},
    "nonSpar": {"shrink_threshold": 0.0, "entropy_weight": 0.0},
    "without shrinkage": {"shrink_threshold": 0.0},
    "without entropy": {"entropy_weight": 0.0},
    "full": {},
    **{f"full, N = {size}": {"memory_size": size} for size in SIZES},
}
COMMON: dict[str, dict[str, Any]] = {
    "MNIST": {"anomaly_score": "smooth"},
    "contaminated MNIST": {"anomaly_score": "smooth"},
    "KDDCUP99": {"memory_unit": "sample"},
    "clips": {"anomaly_score": "relative"},
}
DIGITS = (1, 3, 5, 7)
COLUMNS = {"measure": "±.4f", "fit_seconds": ".1f"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cells, print the tables and draw a figure."""
    protocol.run(PROTOCOL, protocol.make_protocol_parser("ablation", __doc__, seeds=3).parse_args(argv))


def contaminated_mnist(data_home: str | None) -> Bunch:
    """MNIST under another name, for which :func:`tasks` has other splits."""
    return Bunch(**{**datasets.load_mnist(data_home), "name": "contaminated MNIST"})


def clips(data_home: str | None) -> Bunch:
    """Moving digits, the same clips for all seeds."""
    return Bunch(**datasets.make_moving_digits(random_state=0), name="clips")


def tasks(dataset: Bunch, seed: int) -> Iterator[tuple[str, Callable[[], Bunch]]]:
    """Yield the names and the splits of the normal classes, or the task, "", of a data set that has one."""
    if dataset.name == "KDDCUP99":
        yield from kddcup99.tasks(dataset, seed)
    elif dataset.name == "clips":
        yield "", partial(datasets.one_class_split, dataset.data, dataset.target, 0, random_state=seed)
    else:
        split_by = datasets.one_class_split if dataset.name == "MNIST" else contaminated_digits
        for digit in DIGITS:
            yield f"class {digit}", partial(split_by, dataset.data, dataset.target, digit, random_state=seed)


def contaminated_digits(X: np.ndarray, y: np.ndarray, normal: int, random_state: int) -> Bunch:
    """One-class split with other digits as a tenth of the training images; none of these is in the test set."""
    split = datasets.one_class_split(X, y, normal, outlier_share=0.5, random_state=random_state)
    outliers = np.flatnonzero(split.y_test == 1)
    extra = outliers[: len(split.X_train) // 9]
    kept = np.setdiff1d(np.arange(len(split.y_test)), extra)
    X_train = np.concatenate([split.X_train, split.X_test[extra]])
    return Bunch(X_train=X_train, X_test=split.X_test[kept], y_test=split.y_test[kept])


def makers(dataset: Bunch, seed: int) -> Makers:
    """Functions that create the unfitted variants, by name."""
    common = {"random_state": seed, **COMMON[dataset.name]}
    return {name: partial(MemAEDetector, **common, **parameters) for name, parameters in VARIANTS.items()}


def measure(detector: Any, split: Bunch) -> dict[str, float]:
    """Results of a cell; "measure" is F1 for KDDCUP99 and ROC AUC for the others, higher = better."""
    of_connections = "inverse" in split
    numbers = kddcup99.measure(detector, split) if of_connections else cells.measure(detector, split)
    others = {name: numbers[name] for name in ("roc_auc", "fit_seconds", "score_seconds")}
    return {"measure": numbers["f1" if of_connections else "roc_auc"], **others}


LOADERS = {
    "MNIST": datasets.load_mnist,
    "contaminated MNIST": contaminated_mnist,
    "KDDCUP99": kddcup99.load,
    "clips": clips,
}
PROTOCOL = protocol.Protocol("ablation", LOADERS, tasks, makers, COLUMNS, measure)

if __name__ == "__main__":
    main()

"""Seventeen tables of the ODDS library, trained with their outliers (PyOD's benchmark) and without (the paper's case).

"contaminated": a random 60 % of the rows, outliers included, are the training set, the rest the test set, not stratified.
"clean": half of the normal rows are the training set, the other half and all outliers the test set. Columns are standardised
by the training rows. Every detector runs at its defaults, without labels. For "MemAE" and "no memory", ``contamination`` is the
share of outliers in the training data, .001 where it is clean; "MemAE, share 0.1" has the default.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np
from sklearn.utils import Bunch

from shared import protocol
from shared.detectors import CLEAN_SHARE, make_simple_rivals, make_table_detectors
from skmemae import datasets
from skmemae.benchmark.detectors import Makers

SPLITS = {"contaminated": datasets.contaminated_split, "clean": datasets.clean_split}
COLUMNS = {
    "roc_auc": "±.4f",
    "precision_at_n": ".3f",
    "flagged_normal": ".3f",
    "fit_seconds": ".2f",
    "score_seconds": ".3f",
}
Protocols = dict[str, protocol.Protocol]  # by the kind of split


def main(argv: Sequence[str] | None = None) -> None:
    """For each kind of split, run all cells, print the tables and draw a figure."""
    run_kinds("odds", __doc__, PROTOCOLS, argv)


def run_kinds(script: str, text: str | None, protocols: Protocols, argv: Sequence[str] | None = None) -> None:
    """Run the protocols of the kinds of splits that ``--splits`` names."""
    parser = protocol.make_protocol_parser(script, text, seeds=10)
    parser.add_argument("--splits", nargs="+", choices=list(protocols), default=list(protocols), help="only these splits")
    args = parser.parse_args(argv)
    for kind in args.splits:
        protocol.run(protocols[kind], args)


def make_protocols(script: str, names: Iterable[str], load: Callable[..., Bunch], most: int | None = None) -> Protocols:
    """Protocols of tables, ``load(name, data_home)``, each cut down to ``most`` rows."""
    loaders = {name: partial(load, name) for name in names}
    return {
        kind: protocol.Protocol(f"{script}-{kind}", loaders, partial(tasks, kind, most), partial(makers, kind), COLUMNS)
        for kind in SPLITS
    }


def tasks(kind: str, most: int | None, table: Bunch, seed: int) -> Iterator[tuple[str, partial]]:
    """Yield the task, "", and the split of a table."""
    yield "", partial(split_rows, SPLITS[kind], table.data, table.target, seed, most)


def makers(kind: str, table: Bunch, seed: int) -> Makers:
    """Functions that create unfitted detectors, by name; some are told the share of outliers in the training data."""
    share = CLEAN_SHARE if kind == "clean" else min(0.5, max(CLEAN_SHARE, float(table.target.mean())))
    return {**make_table_detectors(seed, share), **make_simple_rivals(seed)}


def split_rows(split_by: Callable[..., Bunch], X: np.ndarray, y: np.ndarray, seed: int, most: int | None) -> Bunch:
    """Split of at most ``most`` rows, which are drawn with the seed of the split."""
    if most is not None and len(X) > most:
        rows = np.random.default_rng(seed).choice(len(X), most, replace=False)
        X, y = X[rows], y[rows]
    return split_by(X, y, random_state=seed)


PROTOCOLS = make_protocols("odds", datasets.ODDS, datasets.load_odds)

if __name__ == "__main__":
    main()

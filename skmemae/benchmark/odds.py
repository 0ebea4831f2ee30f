"""Seventeen tables of the ODDS library, trained with their outliers (PyOD's benchmark) and without (the paper's case).

"contaminated": a random 60 % of the rows, outliers included, are the training set, the rest the test set, not stratified.
"clean": half of the normal rows are the training set, the other half and all outliers the test set. Columns are standardised
by the training rows. Every detector runs at its defaults, without labels. "MemAE" and "no memory" are told the share of
outliers in the training data, .001 where it is clean; "MemAE, share 0.1" has the default ``contamination``.
"""

from functools import partial

import numpy as np

from skmemae import datasets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import make_baselines, make_ours_for_tables, make_table_baselines, select

SPLITS = {"contaminated": datasets.contaminated_split, "clean": datasets.clean_split}
COLUMNS = {
    "roc_auc": "±.4f",
    "precision_at_n": ".3f",
    "flagged_normal": ".3f",
    "fit_seconds": ".2f",
    "score_seconds": ".3f",
}
MOST_ROWS = 10_000  # for OC-SVM and KDE, of quadratic cost
CLEAN_SHARE = 0.001


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=10)
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="only these splits")


def run(args):
    """For each kind of split, run all cells, print the tables and draw a figure."""
    run_tables(args, "odds", datasets.ODDS, datasets.load_odds)


def run_tables(args, title, names, load, most=None):
    """Run the protocol on tables.

    Parameters
    ----------
    args : argparse.Namespace
    title : str
        Of the files of results.
    names : list of str
    load : callable
        ``load(name, data_home)`` returns a Bunch.
    most : int or None, default=None
        Largest number of rows of a table, drawn with the split's seed.
    """
    for kind in args.splits:
        planned = plan(args, kind, names, load, most)
        rows = cells.run(planned, f"{args.out}/{title}-{kind}.jsonl", desc=f"{title}, {kind}")
        report.finish(rows, COLUMNS, args.out, f"{title}-{kind}")


def plan(args, kind, names, load, most):
    """Cells, one for each table, seed and detector."""
    planned = []
    names = cells.selected("--data", args.data, names)
    select(makers(0, CLEAN_SHARE), args.detectors)  # before anything is loaded
    for name in names:
        try:
            table = load(name, args.data_home)
        except OSError as error:
            raise SystemExit(str(error)) from error
        for seed in range(args.seeds):
            split = partial(split_rows, SPLITS[kind], table.data, table.target, seed, most)
            made = select(makers(seed, share(table, kind)), args.detectors)
            planned += [cells.Cell(name, "", seed, detector, make, split) for detector, make in made.items()]
    return planned


def makers(seed, share):
    """Functions that create unfitted detectors, by name; some are told the share of outliers in the training data."""
    return {**make_ours_for_tables(seed, share), **make_table_baselines(seed), **make_baselines(seed, MOST_ROWS)}


def share(table, kind):
    """Share of outliers in the training data."""
    return CLEAN_SHARE if kind == "clean" else min(0.5, max(CLEAN_SHARE, float(table.target.mean())))


def split_rows(split_by, X, y, seed, most):
    """A split of at most so many rows."""
    if most is not None and len(X) > most:
        rows = np.random.default_rng(seed).choice(len(X), most, replace=False)
        X, y = X[rows], y[rows]
    return split_by(X, y, random_state=seed)

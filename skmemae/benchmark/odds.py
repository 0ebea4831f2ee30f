"""Seventeen tables of the ODDS library, trained with their outliers (PyOD's benchmark) and without (the paper's case).

"contaminated": a random 60 % of the rows, outliers included, are the training set, the rest the test set, not stratified.
"clean": half of the normal rows are the training set, the other half and all outliers the test set. Columns are standardised
by the training rows. Every detector runs at its defaults, without labels; ``contamination`` only sets thresholds and does not
change the ranking.
"""

from functools import partial

from skmemae import datasets
from skmemae.benchmark import cells, report
from skmemae.benchmark.detectors import make_baselines, make_ours, select

SPLITS = {"contaminated": datasets.contaminated_split, "clean": datasets.clean_split}
COLUMNS = {"roc_auc": "±.4f", "precision_at_n": ".3f", "fit_seconds": ".2f", "score_seconds": ".3f"}
MOST_ROWS = 10_000  # for OC-SVM and KDE, of quadratic cost; only shuttle has more


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=10)
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="only these splits")


def run(args):
    """For each kind of split, run all cells, print the tables and draw a figure."""
    for name in args.splits:
        rows = cells.run(plan(args, SPLITS[name]), f"{args.out}/odds-{name}.jsonl", desc=f"odds, {name}")
        report.finish(rows, COLUMNS, args.out, f"odds-{name}")


def plan(args, split_by):
    """Cells, one for each table, seed and detector."""
    planned = []
    for name in report.select_sets(args.data, datasets.ODDS):
        try:
            table = datasets.load_odds(name, args.data_home)
        except OSError as error:
            raise SystemExit(str(error)) from error
        for seed in range(args.seeds):
            split = partial(split_by, table.data, table.target, random_state=seed)
            makers = select({**make_ours(seed, "kddcup99"), **make_baselines(seed, MOST_ROWS)}, args.detectors)
            planned += [cells.Cell(name, "", seed, detector, make, split) for detector, make in makers.items()]
    return planned

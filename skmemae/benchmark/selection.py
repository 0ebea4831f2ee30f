"""Choosing settings without labels: what criteria that see none find of the best result.

Thirteen settings of MemAEDetector are fitted on two thirds of the training rows of the tables of ``odds`` and ``tables``, of
which at most 2,000 rows are drawn. Each criterion chooses one of them by the last third, which holds outliers where the split
is contaminated, and the table shows the ROC AUC of its choice on the test set. "separation" is
``skmemae.metrics.separation``, "excess mass" that of Goix (2016), with uniform rows in the box around the training rows,
"held-out error" the mean anomaly score, smaller = better. "default" and "any", the mean of all settings, look at nothing.
"best" is what the test labels would choose.
"""

from functools import partial
from operator import itemgetter

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch

from skmemae import MemAEDetector, datasets, metrics
from skmemae.benchmark import cells, odds, report

SETTINGS: dict[str, dict] = {
    "default": {},
    "no memory": {"memory_size": 0},
    "squared error": {"anomaly_score": "reconstruction"},
    "standard scaling": {"scaling": "standard"},
    "no scaling": {"scaling": None},
    "learned items": {"memory_items": "learned"},
    "ten learned items": {"memory_items": "learned", "memory_size": 10},
    "100 rows": {"memory_size": 100},
    "cosine": {"similarity": "cosine"},
    "two layers": {"widths": (64, 16)},
    "share 0.001": {"contamination": 0.001},
    "share 0.1": {"contamination": 0.1},
    "share 0.3": {"contamination": 0.3},
}
CRITERIA = ("separation", "excess mass", "held-out error")
COLUMNS = {"roc_auc": "±.4f", "above_any": ".4f"}
MOST_ROWS = 2_000
FEWEST_OUTLIERS = 8
_LEVELS = np.linspace(0.9, 10.0, 50)  # of the excess-mass curve
_THRESHOLDS = 500


def add_arguments(parser):
    """Add the options of the protocol."""
    cells.add_arguments(parser, seeds=2)
    parser.add_argument("--splits", nargs="+", choices=list(odds.SPLITS), default=list(odds.SPLITS), help="only these splits")


def run(args):
    """For each kind of split, run all cells, print the tables and draw a figure."""
    for kind in args.splits:
        name = f"selection-{kind}"
        rows = digest(cells.run(plan(args, kind), f"{args.out}/{name}.jsonl", measure, desc=name))
        report.finish(rows, COLUMNS, args.out, name)
        print("\n" + sentence(rows))


def plan(args, kind):
    """Cells, one for each table, seed and setting."""
    planned = []
    sets = dict.fromkeys(datasets.ODDS, datasets.load_odds) | dict.fromkeys(datasets.ADBENCH, datasets.load_adbench)
    settings = cells.selected("--detectors", args.detectors, SETTINGS)
    for name in cells.selected("--data", args.data, sets):
        try:
            table = sets[name](name, args.data_home)
        except OSError as error:
            raise SystemExit(str(error)) from error
        for seed in range(args.seeds):
            split = partial(with_held_out, odds.SPLITS[kind], table.data, table.target, seed)
            if split().y_test.sum() < FEWEST_OUTLIERS:
                continue
            parameters = {"contamination": odds.share(table, kind), "random_state": seed}
            makers = {setting: partial(MemAEDetector, **{**parameters, **SETTINGS[setting]}) for setting in settings}
            planned += [cells.Cell(name, "", seed, setting, make, split) for setting, make in makers.items()]
    return planned


def with_held_out(split_by, X, y, seed):
    """A split whose training rows are cut in two, ``X_train`` and ``X_held_out``."""
    split = odds.split_rows(split_by, X, y, seed, MOST_ROWS)
    X_train, X_held_out = train_test_split(split.X_train, test_size=1 / 3, random_state=seed)
    return Bunch(X_train=X_train, X_held_out=X_held_out, X_test=split.X_test, y_test=split.y_test)


def measure(detector, split):
    """Dict of the ROC AUC of the test set and of the criteria on the held-out rows; all higher = better."""
    detector.fit(split.X_train)
    held_out = -detector.score_samples(split.X_held_out)
    return {
        "roc_auc": float(roc_auc_score(split.y_test, -detector.score_samples(split.X_test))),
        "separation": metrics.separation(detector, split.X_held_out),
        "excess mass": excess_mass(detector, split.X_train, held_out),
        "held-out error": -float(held_out.mean()),
    }


def excess_mass(detector, X, scores):
    """Area under the excess-mass curve of anomaly scores, with uniform rows in the box around X; higher = better."""
    low, high = X.min(axis=0), X.max(axis=0)
    uniform = -detector.score_samples(low + (high - low) * np.random.default_rng(0).random(X.shape))
    thresholds = np.quantile(np.concatenate([scores, uniform]), np.linspace(0, 1, _THRESHOLDS))
    mass, volume = ((found <= thresholds[:, None]).mean(axis=1) for found in (scores, uniform))
    return float(np.mean([np.max(mass - level * volume) for level in _LEVELS]))


def digest(rows):
    """Rows of criteria from those of settings."""
    chosen = []
    for data, table in report.grouped(rows, "data").items():
        for seed, settings in report.grouped(table, "seed").items():
            areas = {row["detector"]: row["roc_auc"] for row in settings}
            found = {"default": areas["default"]} if "default" in areas else {}
            found |= {name: max(settings, key=itemgetter(name))["roc_auc"] for name in CRITERIA}
            any_, best = float(np.mean(list(areas.values()))), max(areas.values())
            found |= {"any": any_, "best": best}
            common = {key: settings[-1].get(key) for key in ("threads", "versions")}
            chosen += [
                {"data": data, "task": "", "seed": seed, "detector": name, "roc_auc": area, "above_any": area - any_, **common}
                for name, area in found.items()
            ]
    return chosen


def sentence(rows):
    """What the criteria find of the way from the mean of all settings to the best."""
    above = {name: np.mean([row["above_any"] for row in group]) for name, group in report.grouped(rows, "detector").items()}
    shares = ", ".join(f"{name} {above[name] / above['best']:.0%}" for name in ("default", *CRITERIA) if name in above)
    return f"Of the way from the mean of all settings to the best: {shares}."

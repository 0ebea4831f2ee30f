"""Compare MemAE with OC-SVM, KDE and others on a table, images and clips in a few minutes.

Data: the breast cancer table (benign is normal), handwritten digits as 8 x 8 images (each digit normal in turn), and clips of
these digits moving. Training sets hold normal samples only; 30 % of a test set are outliers. Every detector runs at its
defaults and is fitted without labels.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import auc, roc_curve
from sklearn.utils import Bunch
from tqdm.auto import tqdm

from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser
from skmemae.benchmark.detectors import OURS, make_detectors
from skmemae.benchmark.evaluation import evaluate
from skmemae.datasets import make_moving_digits, one_class_split

COLUMNS = {"roc_auc": "±.3f", "average_precision": ".3f", "flagged_normal": ".3f", "fit_seconds": ".2f", "score_seconds": ".3f"}
Scored = dict[tuple[str, str], list[tuple[np.ndarray, np.ndarray]]]  # pairs of y and scores by data set and detector
Example = tuple[Any, Bunch, np.ndarray]  # a fitted detector of digits, its split, and the scores


def main(argv: Sequence[str] | None = None) -> None:
    """Run all detectors, print a table per data set, write rows and a figure."""
    args = make_parser("python -m skmemae.benchmark", __doc__, seeds=1).parse_args(argv)
    rows, scored, example = measure(args.seeds)
    print("\nmean over the data sets\n" + report.table(report.data_means(rows, COLUMNS), "detector", COLUMNS))
    store.save(rows, args.out, "overview")
    figure = draw(scored, example, args.out)
    print(f"\n{figure.with_suffix('.csv')}, {figure.name} and versions.json written")


def tasks() -> Iterator[tuple[str, np.ndarray, np.ndarray, int]]:
    """Yield tuples of data set name, X, y and normal class."""
    cancer = load_breast_cancer()
    yield "breast cancer", cancer.data, cancer.target, 1
    digits = load_digits()
    for digit in range(10):
        yield "digits", digits.images, digits.target, digit
    clips = make_moving_digits(random_state=0)
    yield "moving digits", clips.data, clips.target, 0


def measure(n_seeds: int) -> tuple[report.Rows, Scored, Example]:
    """Rows of all tasks, seeds and detectors, the scores, and an example of digits; prints the table of each data set."""
    rows: report.Rows = []
    scored: Scored = defaultdict(list)
    todo = list(tasks())
    with tqdm(total=len(todo) * n_seeds * len(make_detectors(0)), desc="overview", unit="fit") as bar:
        for i, (data, X, y, normal) in enumerate(todo):
            for seed in range(n_seeds):
                split = one_class_split(X, y, normal, random_state=seed)
                for name, make in make_detectors(seed).items():
                    bar.set_postfix_str(f"{data}, {name}")
                    detector = make()
                    numbers, scores = evaluate(detector, split)
                    rows.append({"data": data, "task": f"class {normal}", "seed": seed, "detector": name, **numbers})
                    scored[data, name].append((split.y_test, scores))
                    if (data, name, seed, normal) == ("digits", OURS, 0, 2):
                        example = detector, split, scores
                    bar.update()
            if i + 1 == len(todo) or todo[i + 1][0] != data:
                bar.write(f"\n{data}\n" + report.table([r for r in rows if r["data"] == data], "detector", COLUMNS))
    return rows, scored, example


def draw(scored: Scored, example: Example, out: str | Path) -> Path:
    """Draw ROC curves by data set, and the most abnormal digits with their reconstructions; returns the figure's path."""
    plt = report.pyplot()
    sets = list(dict.fromkeys(data for data, _ in scored))
    figure = plt.figure(figsize=(12, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[3, 2.2])
    for axes, data in zip(upper.subplots(1, len(sets), sharey=True, squeeze=False)[0], sets, strict=True):
        draw_curves(axes, {name: pairs for (other, name), pairs in scored.items() if other == data})
        axes.set(title=data, xlabel="false alarms", ylabel="outliers found" if data == sets[0] else "")
        axes.legend(fontsize=7, loc="lower right")
    draw_digits(lower, *example)
    path = Path(out) / "overview.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def draw_curves(axes: Any, by_name: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> None:
    """Draw the ROC curve of each detector."""
    for name, pairs in by_name.items():
        # Scores of different fits have different units, so their ranks are pooled.
        y = np.concatenate([y for y, _ in pairs])
        ranks = np.concatenate([scores.argsort().argsort() / len(scores) for _, scores in pairs])
        style = {"linewidth": 2.5, "color": "black"} if name == OURS else {"linewidth": 1}
        false_alarms, found, _ = roc_curve(y, ranks)
        axes.plot(false_alarms, found, label=f"{name} ({auc(false_alarms, found):.3f})", **style)


def draw_digits(figure: Any, detector: Any, split: Bunch, scores: np.ndarray) -> None:
    """Draw five normal test images and the seven outliers with the highest scores, with their reconstructions."""
    from skmemae.display import ReconstructionDisplay

    outliers, inliers = (np.flatnonzero(split.y_test == label) for label in (1, 0))
    shown = np.concatenate([inliers[:5], outliers[np.argsort(-scores[outliers])][:7]])
    ReconstructionDisplay.from_estimator(detector, split.X_test[shown]).plot(figure=figure)
    figure.suptitle('trained on "2": five normal test images, then the seven outliers with the highest scores')

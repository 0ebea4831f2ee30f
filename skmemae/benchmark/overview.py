"""Compare MemAE with OC-SVM, KDE and others on a table, images and clips in a few minutes.

Data: the breast cancer table (benign is normal), handwritten digits as 8 x 8 images (each digit normal in turn), and clips of
these digits moving. Training sets hold normal samples only; 30 % of a test set are outliers. Every detector runs at its
defaults and is fitted without labels.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.metrics import auc, roc_curve
from tqdm.auto import tqdm

from skmemae.benchmark import report
from skmemae.benchmark.cells import add_seeds_and_out, evaluate
from skmemae.benchmark.detectors import DEEP, OURS, WITHOUT, make_baselines, make_ours, select
from skmemae.datasets import make_moving_digits, one_class_split

NAMES = (OURS, WITHOUT, "OC-SVM", "KDE", "PCA", "KNN", "IForest", DEEP[0])
COLUMNS = {"roc_auc": "±.3f", "average_precision": ".3f", "flagged_normal": ".3f", "fit_seconds": ".2f", "score_seconds": ".3f"}


def add_arguments(parser):
    """Add the options of the protocol."""
    add_seeds_and_out(parser, seeds=1)


def tasks():
    """Yield tuples of data set name, X, y and normal class."""
    cancer = load_breast_cancer()
    yield "breast cancer", cancer.data, cancer.target, 1
    digits = load_digits()
    for digit in range(10):
        yield "digits", digits.images, digits.target, digit
    clips = make_moving_digits(random_state=0)
    yield "moving digits", clips.data, clips.target, 0


def run(args):
    """Run all cells, print a table per data set, write CSV, JSON and a figure."""
    rows: list[dict] = []
    scored: dict[tuple[str, str], list] = {}
    todo = list(tasks())
    with tqdm(total=len(todo) * args.seeds * len(make_detectors(0)), desc="overview", unit="fit") as bar:
        for i, (data, X, y, normal) in enumerate(todo):
            for seed in range(args.seeds):
                split = one_class_split(X, y, normal, random_state=seed)
                for name, detector in make_detectors(seed).items():
                    bar.set_postfix_str(f"{data}, {name}")
                    row, scores = evaluate(detector, split)
                    rows.append({"data": data, "normal": int(normal), "detector": name, "seed": seed, **row})
                    scored.setdefault((data, name), []).append((split.y_test, scores))
                    if (data, name, seed, int(normal)) == ("digits", OURS, 0, 2):
                        example = detector, split, scores
                    bar.update()
            if i + 1 == len(todo) or todo[i + 1][0] != data:
                bar.write(f"\n{data}\n" + report.table([r for r in rows if r["data"] == data], "detector", COLUMNS))
    print("\nmean over the data sets\n" + report.table(report.data_means(rows, COLUMNS), "detector", COLUMNS))
    report.save(rows, args.out, "overview")
    figure = draw(scored, example, args.out)
    print(f"\n{figure.parent / 'overview.csv'}, overview.json and {figure.name} written")


def make_detectors(seed):
    """Unfitted detectors by name: MemAEDetector and the faster baselines."""
    makers = select({**make_ours(seed), **make_baselines(seed)}, NAMES)
    return {name: make() for name, make in makers.items()}


def draw(scored, example, out):
    """Draw ROC curves by data set, and the most abnormal digits with their reconstructions; returns the figure's path."""
    plt = report.pyplot()
    from skmemae.display import ReconstructionDisplay

    sets = list(dict.fromkeys(data for data, _ in scored))
    figure = plt.figure(figsize=(12, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[3, 2.2])
    for axes, data in zip(upper.subplots(1, len(sets), sharey=True, squeeze=False)[0], sets, strict=True):
        for name in dict.fromkeys(name for other, name in scored if other == data):
            # Scores of different fits have different units, so their ranks are pooled.
            y = np.concatenate([y for y, _ in scored[data, name]])
            ranks = np.concatenate([scores.argsort().argsort() / len(scores) for _, scores in scored[data, name]])
            style = {"linewidth": 2.5, "color": "black"} if name == OURS else {"linewidth": 1}
            false_alarms, found, _ = roc_curve(y, ranks)
            axes.plot(false_alarms, found, label=f"{name} ({auc(false_alarms, found):.3f})", **style)
        axes.set(title=data, xlabel="false alarms", ylabel="outliers found" if data == sets[0] else "")
        axes.legend(fontsize=7, loc="lower right")
    detector, split, scores = example
    outliers = np.flatnonzero(split.y_test == 1)
    inliers = np.flatnonzero(split.y_test == 0)[:5]
    top = outliers[np.argsort(-scores[outliers])][:7]
    ReconstructionDisplay.from_estimator(detector, split.X_test[np.concatenate([inliers, top])]).plot(figure=lower)
    lower.suptitle('trained on "2": five normal test images, then the seven outliers with the highest scores')
    path = Path(out) / "overview.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path

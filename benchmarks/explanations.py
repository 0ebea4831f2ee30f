"""How well explanations name the cause, and how they compare with Shapley values.

Run ``python benchmarks/explanations.py`` from the root of the repository; needs ``pip install shap``.

"one wrong column": rows of a few hidden factors and noise, in which one column was moved by some of its deviations. "named
first" is the share of rows whose largest share is that column's; "expected" is the median distance of the value that was
expected there from the one before the move, in deviations; "times_scores" is how many times as long ``explain`` takes as
``score_samples``, medians of seven calls with 1,000 rows. "breast cancer": malignant rows, explained by shares of the
score and by the Shapley values of the score (PermutationExplainer of the shap package, benign rows as background): mean
rank correlation over the rows, how often both name the same column first, and seconds for each row.
"""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer

from skmemae import MemAEDetector
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

# Rows, columns, hidden factors, deviations of the move.
MADE = ((300, 6, 2, 3), (1000, 10, 3, 3), (1000, 20, 4, 4), (1000, 10, 10, 5))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables and write the rows."""
    parser = make_parser("python benchmarks/explanations.py", __doc__, seeds=5)
    parser.add_argument(
        "--rows", type=int, default=50, metavar="N", help="rows that shap explains, 0 = none (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    made = [one_wrong_column(*sizes, seed) for sizes in MADE for seed in range(args.seeds)]
    print(report.table(made, "what", {"named_first": ".3f", "expected": ".2f", "times_scores": ".1f"}))
    store.save(made, args.out, "explanations")
    if args.rows:
        beside = [beside_shapley_values(args.rows)]
        print(report.table(beside, "what", {name: ".3g" for name in beside[0] if name != "what"}))
        store.save(beside, args.out, "explanations-shap")


def one_wrong_column(n: int, d: int, n_factors: int, deviations: int, seed: int) -> dict[str, Any]:
    """Row of made data: the share of samples whose moved column is named first, and the error of the expected value."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(n_factors, d))
    X, normal = (rng.normal(size=(m, n_factors)) @ loadings + 0.1 * rng.normal(size=(m, d)) for m in (n, 200))
    rows, column, deviation = np.arange(200), rng.integers(d, size=200), X.std(axis=0)
    moved = normal.copy()
    moved[rows, column] += deviations * deviation[column] * rng.choice([-1, 1], size=200)
    detector = MemAEDetector(random_state=seed).fit(X)
    explanation, many = detector.explain(moved), np.tile(moved, (5, 1))
    return {
        "what": f"{n} x {d} of {n_factors} factors, moved by {deviations}",
        "seed": seed,
        "named_first": float(np.mean(explanation.shares.argmax(axis=1) == column)),
        "expected": float(np.median((np.abs(explanation.expected - normal) / deviation)[rows, column])),
        "times_scores": _seconds(detector.explain, many) / _seconds(detector.score_samples, many),
    }


def _seconds(method: Callable, X: np.ndarray) -> float:
    """Median seconds of seven calls."""
    seconds = []
    for _ in range(7):
        start = perf_counter()
        method(X)
        seconds.append(perf_counter() - start)
    return float(np.median(seconds))


def beside_shapley_values(n: int) -> dict[str, Any]:
    """Shares of the score and Shapley values of malignant rows."""
    import shap

    X, y = load_breast_cancer(return_X_y=True)
    benign, malignant = X[y == 1], X[y == 0][:n]
    detector = MemAEDetector(random_state=0).fit(benign)
    start = perf_counter()
    shares = detector.explain(malignant).shares
    own_seconds = (perf_counter() - start) / len(malignant)
    start = perf_counter()
    explainer = shap.explainers.Permutation(detector.decision_function, benign[:50], seed=0)
    shapley = explainer(malignant, max_evals=2 * X.shape[1] + 1, silent=True).values
    shap_seconds = (perf_counter() - start) / len(malignant)
    return {
        "what": f"breast cancer, {len(malignant)} malignant rows",
        "rank_correlation": float(np.mean([spearmanr(a, b).statistic for a, b in zip(shares, shapley, strict=True)])),
        "same_first": float(np.mean(shares.argmax(axis=1) == shapley.argmax(axis=1))),
        "first_in_three": float(np.mean([a.argmax() in np.argsort(-b)[:3] for a, b in zip(shares, shapley, strict=True)])),
        "milliseconds": 1000 * own_seconds,
        "shap_milliseconds": 1000 * shap_seconds,
    }


if __name__ == "__main__":
    main()

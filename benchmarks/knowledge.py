"""Write the files of ``skmemae.knowledge``, from which PyOD's ADEngine learns of MemAE, from stored rows."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.detectors import DEFAULT_SHARE
from skmemae import knowledge
from skmemae.benchmark import report, store

# Detectors of the rows that PyOD's files have too, under the names that they have there.
NAMES = {DEFAULT_SHARE: "MemAE", "OC-SVM": "OCSVM"}
NAMES |= {name: name for name in ("KDE", "KNN", "IForest", "ECOD", "MCD", "LUNAR", "AutoEncoder", "VAE")}
ROWS = ("odds-contaminated", "adbench-contaminated")
CONFIDENCES = (0.95, 0.9, 0.85)
MOST_ROWS = 100_000
ALGORITHM = {
    "class_path": "skmemae.MemAEDetector",
    "full_name": "Memory-augmented autoencoder",
    "status": "shipped",
    "data_types": ["tabular"],
    "category": "deep_learning",
    "complexity": {"time": "O(n * N * d) with N <= 8000 memory items", "space": "O(N * d)"},
    "strengths": [
        "Reconstructs from a memory of training rows, so that anomalies are not reconstructed well",
        "Needs no scaling: columns with outliers and heavy tails are handled",
        "Explains scores by column, with the expected values and the training rows that it compared with",
    ],
    "weaknesses": ["Slower than detectors without training", "Missing values and strings must be replaced before"],
    "best_for": "Tables of numbers in which columns depend on each other",
    "avoid_when": "There are fewer than fifty rows, or a score is needed within a millisecond",
    "benchmark_refs": ["skmemae"],
    "paper": {"id": "memae", "short": "Gong et al., ICCV 2019"},
    "default_params": {"contamination": 0.1},
    "preprocessing_mode": "internal",
    "requires": ["torch", "skmemae"],
}
PAPER = {
    "title": "Memorizing Normality to Detect Anomaly: Memory-augmented Deep Autoencoder for Unsupervised Anomaly Detection",
    "authors": "Gong, Liu, Le, Saha, Mansour, Venkatesh, van den Hengel",
    "venue": "ICCV 2019",
    "url": "https://arxiv.org/abs/1904.02639",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(prog="python benchmarks/knowledge.py", description=str(__doc__).splitlines()[0])
    folder = Path(knowledge.__file__).parent
    parser.add_argument("--rows", default="docs/results", metavar="DIR", help="folder of the rows (default: %(default)s)")
    parser.add_argument("--folder", default=folder, metavar="DIR", help="where to write the files (default: in the package)")
    args = parser.parse_args(argv)
    for name, content in contents(args.rows).items():
        Path(args.folder, f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"files written to {args.folder}")


def contents(folder: str | Path) -> dict[str, Any]:
    """Contents of the files, by name."""
    rows = [row for name in ROWS for row in store.read(folder, name) if row["detector"] in NAMES]
    if not rows:
        raise SystemExit(f"There are no rows of {' and '.join(ROWS)} in {folder}.")
    means, n_tables = mean_areas(rows), len(report.grouped(rows, "data"))
    ranking = sorted(means, key=lambda name: -means[name])
    return {
        "algorithms": {"MemAE": {**ALGORITHM, "benchmark_rank": {"skmemae_overall": ranking.index("MemAE") + 1}}},
        "benchmarks": {"skmemae": benchmark(means, ranking, n_tables)},
        "papers": {"memae": PAPER},
        "routing_rules": {"rules": [rule(ranking, n_tables)]},
    }


def mean_areas(rows: report.Rows) -> dict[str, float]:
    """Mean ROC AUC over the tables, by the names that PyOD's files have."""
    means: dict[str, list] = {}
    for table in report.grouped(rows, "data").values():
        for name, group in report.grouped(table, "detector").items():
            means.setdefault(NAMES[name], []).append(np.mean([row["roc_auc"] for row in group]))
    return {name: float(np.mean(areas)) for name, areas in means.items()}


def benchmark(means: dict[str, float], ranking: list[str], n_tables: int) -> dict[str, Any]:
    """Entry of the benchmark."""
    best = ", ".join(f"{name} {means[name]:.3f}" for name in ranking[:5])
    return {
        "paper": {"id": "memae", "short": "Gong et al., ICCV 2019"},
        "scope": "tabular",
        "n_datasets": n_tables,
        "n_algorithms": len(means),
        "rankings": {"overall_top_5": ranking[:5]},
        "key_finding": f"Mean ROC AUC with outliers in the training data, all at their defaults: {best}",
    }


def rule(ranking: list[str], n_tables: int) -> dict[str, Any]:
    """Rule that recommends the best detectors where accuracy counts."""
    conditions = [("data_type", "eq", "tabular"), ("n_samples", "gte", 50), ("n_samples", "lte", MOST_ROWS)]
    conditions += [("has_nan", "eq", False), ("priority", "in", ["accuracy", "balanced"])]
    best = zip(ranking, CONFIDENCES, strict=False)
    return {
        "id": "skmemae_tabular_accurate",
        "conditions": [dict(zip(("field", "op", "value"), condition, strict=True)) for condition in conditions],
        "recommendations": [{"detector": name, "params": {}, "confidence": confidence} for name, confidence in best],
        "reason": f"Largest mean ROC AUC on {n_tables} tables with outliers in the training data",
        "evidence": ["skmemae"],
    }


if __name__ == "__main__":
    main()

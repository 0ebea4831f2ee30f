"""Rows trained and scored per second beside PyOD's AutoEncoder, on one thread.

Same table, same layer widths, same number of epochs. "same batch" runs both at PyOD's batch of 32; "own default" gives
MemAEDetector the batch size that it takes by itself. The memory is on throughout. Figures are medians over repeats, and
ratios come from the same run.
"""

from time import perf_counter

import numpy as np
import torch
from pyod.models.auto_encoder import AutoEncoder

from skmemae import MemAEDetector
from skmemae.benchmark import report

WIDTHS = (64, 32)
PYOD_BATCH = 32


def add_arguments(parser):
    """Options of the protocol."""
    parser.add_argument("--rows", type=int, default=20_000, metavar="N", help="rows of the table (default: %(default)s)")
    parser.add_argument("--columns", type=int, default=30, metavar="D", help="columns (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, metavar="E", help="epochs of each fit (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="where results go (default: %(default)s)")


def run(args):
    """Measure, print a table and the ratios, write CSV and JSON."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measure(args)
    finally:
        torch.set_num_threads(threads)
    columns = {"fit_seconds": ".3f", "rows_trained_per_second": ",.0f", "rows_scored_per_second": ",.0f"}
    print(report.table(rows, "what", columns))
    median = {
        what: {c: np.median([row[c] for row in rows if row["what"] == what]) for c in columns}
        for what in dict.fromkeys(row["what"] for row in rows)
    }
    pyod, same, own = (median[what] for what in ("PyOD AutoEncoder", "MemAE, same batch", "MemAE, own default"))
    print(f"\nfit at the same batch size:    {pyod['fit_seconds'] / same['fit_seconds']:.2f} times as fast")
    print(f"rows trained per second:       {own['rows_trained_per_second'] / pyod['rows_trained_per_second']:.1f} times")
    print(f"rows scored per second:        {own['rows_scored_per_second'] / pyod['rows_scored_per_second']:.1f} times")
    print(f"one fit of 300 x 6, 5 epochs:  {median['MemAE, 300 x 6']['fit_seconds']:.3f} s")
    report.save(rows, args.out, "speed")


def measure(args):
    """One row per detector and repeat; detectors take turns, so that a drifting machine drifts for all."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(args.rows, args.columns)) @ rng.normal(size=(args.columns, args.columns))
    small = rng.normal(size=(300, 6))
    memae = {"widths": WIDTHS, "max_epochs": args.epochs, "validation_fraction": 0.0, "ensemble_size": 1, "random_state": 0}
    autoencoder = {"hidden_neuron_list": list(WIDTHS), "epoch_num": args.epochs, "batch_size": PYOD_BATCH, "verbose": 0}
    contenders = {
        "PyOD AutoEncoder": (X, args.epochs, lambda: AutoEncoder(**autoencoder)),
        "MemAE, same batch": (X, args.epochs, lambda: MemAEDetector(**memae, batch_size=PYOD_BATCH)),
        "MemAE, own default": (X, args.epochs, lambda: MemAEDetector(**memae)),
        "MemAE, 300 x 6": (small, 5, lambda: MemAEDetector(max_epochs=5, random_state=0)),
    }
    for _, _, make in contenders.values():
        make().fit(small)  # what is loaded at first use is not what is measured
    rows = []
    for _ in range(args.repeats):
        for what, (data, epochs, make) in contenders.items():
            detector = make()
            start = perf_counter()
            detector.fit(data)
            fitted = perf_counter()
            detector.decision_function(data)
            seconds, score_seconds = fitted - start, perf_counter() - fitted
            rows.append(
                {
                    "what": what,
                    "fit_seconds": seconds,
                    "rows_trained_per_second": len(data) * epochs / seconds,
                    "rows_scored_per_second": len(data) / score_seconds,
                }
            )
    return rows

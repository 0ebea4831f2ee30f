"""Speed and memory: ``fit`` against a bare loop and PyOD, data on disk, growth with rows, addressing, several processes.

Run ``python benchmarks/speed.py`` from the root of the repository. Results go to ``--out``; ``docs/results`` holds the
published ones, which ``python benchmarks/document.py`` writes to the page of results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figures import addressing, device, growth, processes, scoring, streaming, training
from shared import pages
from skmemae.benchmark import report, store
from skmemae.benchmark.command import make_parser

# Name of a figure: function, numbers of threads to measure with.
FIGURES = {
    "overhead": (training.overhead, (1, 2)),
    "transcription": (training.transcription, (1, 2)),
    "memory-share": (training.memory_share, (1, 2)),
    "addressing": (addressing.addressing, (1,)),
    "pyod": (scoring.beside_pyod, (1, 2)),
    "tables": (scoring.whole_tables, (1,)),
    "neighbours": (scoring.beside_neighbours, (1,)),
    "wide": (scoring.wide_tables, (1,)),
    "one-row": (scoring.one_row, (1,)),
    "streaming": (streaming.streaming, (2,)),
    "growth": (growth.growth, (2,)),
    "grid-search": (processes.grid_search, (1,)),
    "import": (processes.import_time, (1,)),
    "ranks": (processes.ranks, (1,)),
}
# Figures that are meaningful only on a GPU.
GPU_FIGURES = {
    "gpu-table": (device.training_table, (1,)),
    "gpu-video": (device.training_video, (1,)),
    "gpu-agreement": (device.agreement, (1,)),
}
ALL = {**FIGURES, **GPU_FIGURES}
_OPTIONS = ("repeats", "gib", "rows", "queries", "device", "out")  # passed on to the process of a figure


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each figure, print a table and write the rows; stored rows of other figures are kept."""
    args = parse(argv)
    if args.rows_file:
        rows = [row for name in args.figures for row in ALL[name][0](args)]
        Path(args.rows_file).write_text(json.dumps(rows))
        return
    rows = store.read(args.out, "speed")
    for name in args.figures or (FIGURES if args.device == "cpu" else ("addressing", *GPU_FIGURES)):
        for threads in ALL[name][1]:
            setting = {"figure": name, "threads": threads, "device": args.device}
            rows = [row for row in rows if any(row[key] != value for key, value in setting.items())]
            rows += [{**setting, **row} for row in measure_apart(name, threads, args)]
            rows.sort(key=lambda row: list(ALL).index(row["figure"]))
            store.save(rows, args.out, "speed")
    print(report.align(pages.figure_lines(rows)))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser("python benchmarks/speed.py", __doc__)
    parser.add_argument(
        "--figures",
        nargs="+",
        choices=list(ALL),
        metavar="NAME",
        help=f"only these of {', '.join(ALL)} (default: all for --device)",
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument("--gib", type=float, default=20, metavar="G", help="size of the table on disk (default: %(default)s)")
    parser.add_argument("--rows", type=float, default=1e7, metavar="N", help="most rows of growth (default: %(default)g)")
    parser.add_argument("--queries", type=float, default=1e6, metavar="Q", help="queries of addressing (default: %(default)g)")
    parser.add_argument("--device", default="cpu", help="device of the networks (default: %(default)s)")
    # Measure in this process and write the rows to the file.
    parser.add_argument("--rows-file", metavar="FILE", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def measure_apart(name: str, threads: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one figure, measured in a separate process with ``threads`` threads."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--figures", name, "--rows-file", str(file)]
        for option in _OPTIONS:
            command += [f"--{option}", str(getattr(args, option))]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        return json.loads(file.read_text())


if __name__ == "__main__":
    main()

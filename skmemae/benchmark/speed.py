"""Speed and scale: ``fit`` beside a bare loop and PyOD, long data, growth with rows, several processes.

Each figure runs in a process of its own with the number of threads that its line says. Seconds are medians of repeats taken in
turns, and a ratio is of medians of one run. Goals are what the figure is meant to reach, met or not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from skmemae.benchmark import report
from skmemae.benchmark.figures import device, growth, processes, scoring, streaming, training

# Name: function, numbers of threads it is measured with.
FIGURES = {
    "overhead": (training.overhead, (1, 2)),
    "transcription": (training.transcription, (1, 2)),
    "memory-share": (training.memory_share, (1, 2)),
    "pyod": (scoring.beside_pyod, (1, 2)),
    "one-row": (scoring.one_row, (1,)),
    "streaming": (streaming.streaming, (2,)),
    "growth": (growth.growth, (2,)),
    "grid-search": (processes.grid_search, (1,)),
    "import": (processes.import_time, (1,)),
    "ranks": (processes.ranks, (1,)),
}
# Those that say something on a GPU alone: --device cuda.
ON_A_GPU = {
    "addressing": (device.addressing, (1,)),
    "gpu-table": (device.training_table, (1,)),
    "gpu-video": (device.training_video, (1,)),
    "gpu-agreement": (device.agreement, (1,)),
}


def add_arguments(parser):
    """Options of the protocol."""
    known = [*FIGURES, *ON_A_GPU]
    parser.add_argument("--figures", nargs="+", choices=known, metavar="NAME", help=f"only these of {', '.join(known)}")
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument(
        "--gib", type=float, default=20, metavar="G", help="size of the table on the disk (default: %(default)s)"
    )
    parser.add_argument(
        "--rows", type=float, default=1e7, metavar="N", help="rows that growth goes up to (default: %(default)g)"
    )
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="where results go (default: %(default)s)")
    parser.add_argument("--here", metavar="FILE", help=argparse.SUPPRESS)  # one figure in this process, its rows to a file


def run(args):
    """Measure each figure, print a table, write JSON; rows of other figures that are there already stay."""
    figures = {**FIGURES, **ON_A_GPU}
    if args.here:
        rows = [row for name in args.figures for row in figures[name][0](args)]
        Path(args.here).write_text(json.dumps(rows))
        return
    stored = Path(args.out) / "speed.json"
    rows = json.loads(stored.read_text())["rows"] if stored.exists() else []
    for name in args.figures or (FIGURES if args.device == "cpu" else ON_A_GPU):
        for threads in figures[name][1]:
            here = {"figure": name, "threads": threads, "device": args.device}
            rows = [row for row in rows if any(row[key] != value for key, value in here.items())]
            rows += [{**here, **row} for row in _apart(name, threads, args)]
            rows.sort(key=lambda row: list(figures).index(row["figure"]))
            report.save(rows, args.out, "speed")
    print(report.align(lines(rows)))


def _apart(name, threads, args):
    """Rows of one figure, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "skmemae.benchmark", "speed", "--figures", name, "--here", str(file)]
        for option in ("repeats", "gib", "rows", "device", "out"):
            command += [f"--{option}", str(getattr(args, option))]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        return json.loads(file.read_text())


def lines(rows):
    """Cells of the table."""
    cells = [[row["what"], str(row["threads"]), f"{row['value']:.4g} {row['unit']}", row["goal"]] for row in rows]
    return [["what", "threads", "value", "goal"], *cells]

"""Speed and scale: ``fit`` beside a bare loop and PyOD, long data, growth with rows, several processes, and a GPU if there is one.

Each figure runs in a process of its own, which has the number of threads that its line says. Seconds are medians of repeats taken
in turns, and a ratio is of medians of one run. Goals are what the figure is meant to reach, met or not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from skmemae.benchmark import report
from skmemae.benchmark.figures import training

# Name: function, numbers of threads it is measured with.
FIGURES = {
    "overhead": (training.overhead, (1, 2)),
    "transcription": (training.transcription, (1, 2)),
    "memory-share": (training.memory_share, (1, 2)),
}


def add_arguments(parser):
    """Options of the protocol."""
    parser.add_argument("--figures", nargs="+", choices=list(FIGURES), default=list(FIGURES), metavar="NAME", help="only these")
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="where results go (default: %(default)s)")
    parser.add_argument("--here", metavar="FILE", help=argparse.SUPPRESS)  # one figure in this process, its rows to a file


def run(args):
    """Measure each figure, print a table, write JSON."""
    if args.here:
        rows = [row for name in args.figures for row in FIGURES[name][0](args)]
        Path(args.here).write_text(json.dumps(rows))
        return
    rows = []
    for name in args.figures:
        for threads in FIGURES[name][1]:
            rows += [{"figure": name, "threads": threads, "device": args.device, **row} for row in _apart(name, threads, args)]
            report.save(rows, args.out, "speed")
    print(report.align(lines(rows)))


def _apart(name, threads, args):
    """Rows of one figure, from a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "skmemae.benchmark", "speed", "--figures", name, "--here", str(file)]
        command += ["--repeats", str(args.repeats), "--device", args.device, "--out", args.out]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        return json.loads(file.read_text())


def lines(rows):
    """Cells of the table."""
    cells = [[row["what"], str(row["threads"]), f"{row['value']:.4g} {row['unit']}", row["goal"]] for row in rows]
    return [["what", "threads", "value", "goal"], *cells]

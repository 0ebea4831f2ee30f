"""Speed and memory: ``fit`` beside a bare loop and PyOD, long data, growth with rows, addressing, several processes.

Run it from the root of the repository, ``python benchmarks/speed.py``. Results go to ``--out``; those that are stored are in
``docs/results``, and ``python -m skmemae.benchmark document`` puts them on the page of results.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from figures import addressing, device, growth, processes, scoring, streaming, training
from skmemae.benchmark import report

# Name: function, numbers of threads it is measured with.
FIGURES = {
    "overhead": (training.overhead, (1, 2)),
    "transcription": (training.transcription, (1, 2)),
    "memory-share": (training.memory_share, (1, 2)),
    "addressing": (addressing.addressing, (1,)),
    "pyod": (scoring.beside_pyod, (1, 2)),
    "one-row": (scoring.one_row, (1,)),
    "streaming": (streaming.streaming, (2,)),
    "growth": (growth.growth, (2,)),
    "grid-search": (processes.grid_search, (1,)),
    "import": (processes.import_time, (1,)),
    "ranks": (processes.ranks, (1,)),
}
# Those that say something on a GPU alone.
GPU_FIGURES = {
    "gpu-table": (device.training_table, (1,)),
    "gpu-video": (device.training_video, (1,)),
    "gpu-agreement": (device.agreement, (1,)),
}
ALL = {**FIGURES, **GPU_FIGURES}
_OPTIONS = ("repeats", "gib", "rows", "queries", "device", "out")  # what a figure's process is told


def main(argv=None):
    """Measure each figure, print a table, write JSON; rows of other figures that are there already stay."""
    args = parse(argv)
    if args.here:
        rows = [row for name in args.figures for row in ALL[name][0](args)]
        Path(args.here).write_text(json.dumps(rows))
        return
    stored = Path(args.out) / "speed.json"
    rows = json.loads(stored.read_text())["rows"] if stored.exists() else []
    for name in args.figures or (FIGURES if args.device == "cpu" else ("addressing", *GPU_FIGURES)):
        for threads in ALL[name][1]:
            here = {"figure": name, "threads": threads, "device": args.device}
            rows = [row for row in rows if any(row[key] != value for key, value in here.items())]
            rows += [{**here, **row} for row in measure_apart(name, threads, args)]
            rows.sort(key=lambda row: list(ALL).index(row["figure"]))
            report.save(rows, args.out, "speed")
    print(report.align(report.figure_lines(rows)))


def parse(argv):
    """The command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/speed.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--figures",
        nargs="+",
        choices=list(ALL),
        metavar="NAME",
        help=f"only these of {', '.join(ALL)} (default: all that --device is for)",
    )
    parser.add_argument("--repeats", type=int, default=3, metavar="R", help="repeats of each figure (default: %(default)s)")
    parser.add_argument(
        "--gib", type=float, default=20, metavar="G", help="size of the table on the disk (default: %(default)s)"
    )
    parser.add_argument(
        "--rows", type=float, default=1e7, metavar="N", help="rows that growth goes up to (default: %(default)g)"
    )
    parser.add_argument(
        "--queries", type=float, default=1e6, metavar="Q", help="queries that are addressed (default: %(default)g)"
    )
    parser.add_argument("--device", default="cpu", help="where networks run (default: %(default)s)")
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="where results go (default: %(default)s)")
    parser.add_argument("--here", metavar="FILE", help=argparse.SUPPRESS)  # the figures in this process, their rows to a file
    return parser.parse_args(argv)


def measure_apart(name, threads, args):
    """Rows of one figure, from a process of its own with so many threads."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, str(Path(__file__).resolve()), "--figures", name, "--here", str(file)]
        for option in _OPTIONS:
            command += [f"--{option}", str(getattr(args, option))]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": str(threads)})
        return json.loads(file.read_text())


if __name__ == "__main__":
    main()

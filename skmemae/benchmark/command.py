"""Command line options of the benchmarks."""

import argparse


def make_parser(command: str, text: str | None, seeds: int | None = None) -> argparse.ArgumentParser:
    """Parser with the option ``--out``, and with ``--seeds`` if there is a default for it.

    Parameters
    ----------
    command : str
        Words that start the program.
    text : str or None
        Docstring of the program's module. The first line becomes the description.
    seeds : int or None, default=None
        Default of ``--seeds``.
    """
    parser = argparse.ArgumentParser(prog=command, description=str(text).splitlines()[0])
    if seeds is not None:
        parser.add_argument("--seeds", type=_count, default=seeds, metavar="K", help=f"repetitions (default: {seeds})")
    parser.add_argument("--out", default="benchmark-results", metavar="DIR", help="folder for results (default: %(default)s)")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an int of at least 1, got {text!r}")
    return int(text)

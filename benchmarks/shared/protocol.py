"""Protocols: from a command line to the cells, their rows and a report."""

import argparse
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from sklearn.utils import Bunch

from shared import cells, pages
from skmemae.benchmark.command import make_parser
from skmemae.benchmark.detectors import Makers


class Protocol(NamedTuple):
    """Data sets, splits, detectors and numbers of a table of results."""

    title: str  # of the files of results
    loaders: Mapping[str, Callable[[str | None], Bunch]]  # loader(data_home) by the name that --data knows
    tasks: Callable[[Bunch, int], Iterable[tuple[str, Callable[[], Bunch]]]]  # tasks(dataset, seed)
    makers: Callable[[Bunch, int], Makers]  # makers(dataset, seed): functions that create unfitted detectors, by name
    columns: dict[str, str]  # numbers to show, the first one first, and their formats
    measure: cells.Measure = cells.measure
    on_request: tuple[str, ...] = ()  # detectors that run only if --detectors names them


def make_protocol_parser(script: str, text: str | None, seeds: int) -> argparse.ArgumentParser:
    """Parser with the options that all protocols share."""
    parser = make_parser(f"python benchmarks/{script}.py", text, seeds)
    parser.add_argument("--data-home", metavar="DIR", help="folder of the data; missing data is downloaded where possible")
    parser.add_argument("--data", nargs="+", metavar="NAME", help="only these data sets")
    parser.add_argument("--tasks", nargs="+", metavar="NAME", help='only these parts of the data sets, such as "class 2"')
    parser.add_argument("--detectors", nargs="+", metavar="NAME", help="only these detectors")
    parser.epilog = "A second run goes on where the first one stopped: remove the folder of results after a change."
    return parser


def run(protocol: Protocol, args: argparse.Namespace) -> None:
    """Run all cells of a protocol, print tables and draw a figure."""
    rows = cells.run(plan(protocol, args), args.out, protocol.title, protocol.measure)
    pages.finish(rows, protocol.columns, args.out, protocol.title)


def plan(protocol: Protocol, args: argparse.Namespace) -> list[cells.Cell]:
    """Cells, one for each data set, seed, task and detector.

    A missing data set is left out with a message; SystemExit if ``--data`` names it or nothing remains.
    """
    planned: list[cells.Cell] = []
    left_out = []
    for name in cells.selected("--data", args.data, protocol.loaders):
        try:
            dataset = protocol.loaders[name](args.data_home)
        except OSError as error:
            if args.data:
                raise SystemExit(str(error)) from error
            left_out.append(str(error))
            continue
        for seed in range(args.seeds):
            makers = protocol.makers(dataset, seed)
            names = cells.selected("--detectors", args.detectors, makers)
            if args.detectors is None:
                names = [detector for detector in names if detector not in protocol.on_request]
            for task, split in protocol.tasks(dataset, seed):
                if args.tasks is None or task in args.tasks:
                    planned += [cells.Cell(dataset.name, task, seed, detector, makers[detector], split) for detector in names]
    if not planned:
        raise SystemExit(left_out[0] if left_out else "--tasks leaves nothing to run.")
    for message in left_out:
        print(f"left out: {message}")
    return planned

"""``python -m skmemae.benchmark [PROTOCOL]``: each protocol is a module with ``add_arguments`` and ``run``."""

import argparse
import sys

from skmemae.benchmark import (
    ablation,
    choices,
    document,
    kddcup99,
    knowledge,
    odds,
    one_class,
    overview,
    selection,
    tables,
    video,
)

PROTOCOLS = {
    "overview": overview,
    "one-class": one_class,
    "kddcup99": kddcup99,
    "odds": odds,
    "tables": tables,
    "ablation": ablation,
    "choices": choices,
    "selection": selection,
    "video": video,
    "document": document,
    "knowledge": knowledge,
}


def main(argv=None):
    """Parse the command line and run one protocol; the default is the overview, whose options work without its name."""
    parser = argparse.ArgumentParser(prog="python -m skmemae.benchmark", description=str(__doc__).splitlines()[0])
    overview.add_arguments(parser)
    commands = parser.add_subparsers(dest="protocol", title="protocols", metavar="PROTOCOL")
    for name, module in PROTOCOLS.items():
        summary = str(module.__doc__).splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    args = parser.parse_args(name_first(sys.argv[1:] if argv is None else argv))
    PROTOCOLS[args.protocol or "overview"].run(args)


def name_first(argv):
    """Arguments with the name of the protocol first: argparse lets its defaults overwrite the options before it."""
    for i, argument in enumerate(argv):
        if argument in PROTOCOLS and (i == 0 or argv[i - 1] not in ("--out", "--data-home")):
            return [argument, *argv[:i], *argv[i + 1 :]]
    return argv


if __name__ == "__main__":
    main()

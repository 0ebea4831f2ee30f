"""``python -m skmemae.benchmark [PROTOCOL]``: each protocol is a module with ``add_arguments`` and ``run``."""

import argparse
import sys

from skmemae.benchmark import ablation, choices, document, kddcup99, odds, one_class, overview, tables, video

PROTOCOLS = {
    "overview": overview,
    "one-class": one_class,
    "kddcup99": kddcup99,
    "odds": odds,
    "tables": tables,
    "ablation": ablation,
    "choices": choices,
    "video": video,
    "document": document,
}


def main(argv=None):
    """Parse the command line and run one protocol; the default is the overview, whose options work without its name."""
    parser = argparse.ArgumentParser(prog="python -m skmemae.benchmark", description=str(__doc__).splitlines()[0])
    overview.add_arguments(parser)
    commands = parser.add_subparsers(dest="protocol", title="protocols", metavar="PROTOCOL")
    for name, module in PROTOCOLS.items():
        summary = str(module.__doc__).splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    # The defaults of a protocol's parser overwrite options given before its name.
    if args.protocol is not None and argv[0] != args.protocol:
        parser.error(f"options of {args.protocol} go after its name: {parser.prog} {args.protocol} [options]")
    PROTOCOLS[args.protocol or "overview"].run(args)


if __name__ == "__main__":
    main()

"""``python -m skmemae.benchmark [PROTOCOL]``: each protocol is a module with ``add_arguments`` and ``run``."""

import argparse

from skmemae.benchmark import ablation, choices, document, frames, kddcup99, odds, one_class, overview, speed, video

PROTOCOLS = {
    "overview": overview,
    "one-class": one_class,
    "kddcup99": kddcup99,
    "odds": odds,
    "ablation": ablation,
    "choices": choices,
    "video": video,
    "frames": frames,
    "speed": speed,
    "document": document,
}


def main(argv=None):
    """Parse the command line and run one protocol."""
    parser = argparse.ArgumentParser(prog="python -m skmemae.benchmark", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="protocol", title="protocols", metavar="PROTOCOL")
    for name, module in PROTOCOLS.items():
        summary = module.__doc__.splitlines()[0]
        module.add_arguments(commands.add_parser(name, help=summary, description=summary))
    # Without a protocol the overview runs, so its options are known at the top as well.
    overview.add_arguments(parser)
    args = parser.parse_args(argv)
    PROTOCOLS[args.protocol or "overview"].run(args)


if __name__ == "__main__":
    main()

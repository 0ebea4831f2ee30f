"""Thirteen tables of ADBench that are not among those of ``odds``, with the same two kinds of splits and the same detectors.

Of larger tables 10,000 rows are drawn with the seed of the split.
"""

from collections.abc import Sequence

from odds import make_protocols, run_kinds
from skmemae import datasets

PROTOCOLS = make_protocols("adbench", datasets.ADBENCH, datasets.load_adbench, most=10_000)


def main(argv: Sequence[str] | None = None) -> None:
    """For each kind of split, run all cells, print the tables and draw a figure."""
    run_kinds("adbench", __doc__, PROTOCOLS, argv)


if __name__ == "__main__":
    main()

"""Thirteen tables of ADBench that are not among those of ``odds``, with the same two kinds of splits and the same detectors.

Of larger tables 10,000 rows are drawn with the seed of the split.
"""

from skmemae import datasets
from skmemae.benchmark import odds

COLUMNS = odds.COLUMNS
MOST_ROWS = 10_000


def add_arguments(parser):
    """Add the options of the protocol."""
    odds.add_arguments(parser)


def run(args):
    """For each kind of split, run all cells, print the tables and draw a figure."""
    odds.run_tables(args, "tables", datasets.ADBENCH, datasets.load_adbench, MOST_ROWS)

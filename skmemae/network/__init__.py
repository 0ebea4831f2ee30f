"""Plain torch: the network and its memory, usable without the rest of the package."""

from skmemae.network.exemplars import PaceExemplars, TurnExemplars, restore_exemplars
from skmemae.network.memae import MemAE, Output, build_network, restore_network
from skmemae.network.memory import Answer, Memory
from skmemae.network.randomness import RandomStream

__all__ = [
    "Answer",
    "MemAE",
    "Memory",
    "Output",
    "PaceExemplars",
    "RandomStream",
    "TurnExemplars",
    "build_network",
    "restore_exemplars",
    "restore_network",
]

"""Plain torch: the networks and their memories, usable without the rest of the package."""

from skmemae.network.backbones import Backbone
from skmemae.network.ensemble import Ensemble
from skmemae.network.features import PaceFeatures, TurnFeatures
from skmemae.network.memae import MemAE, Output, RowMemAE, build_network, build_row_network
from skmemae.network.memory import Answer, Memory, RowMemory
from skmemae.network.patches import PatchFeatures
from skmemae.network.randomness import RandomStream

__all__ = [
    "Answer",
    "Backbone",
    "Ensemble",
    "MemAE",
    "Memory",
    "Output",
    "PaceFeatures",
    "PatchFeatures",
    "RandomStream",
    "RowMemAE",
    "RowMemory",
    "TurnFeatures",
    "build_network",
    "build_row_network",
]

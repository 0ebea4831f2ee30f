"""Plain torch: the network and its memory, usable without the rest of the package."""

from skmemae.network.memae import MemAE, Output, build_members, build_network
from skmemae.network.memory import Memory, Retrieval

__all__ = ["MemAE", "Memory", "Output", "Retrieval", "build_members", "build_network"]

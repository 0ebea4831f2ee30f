"""Random numbers for modules of users, which draw from torch's global generators."""

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.RLock()  # the global generators belong to one stream at a time


def draw_seed(generator: torch.Generator) -> int:
    """A seed of 31 bits, the same from every version of torch: they disagree about how to draw up to 2**31, not 2**62."""
    return int(torch.randint(2**62, (), generator=generator)) % 2**31


class RandomStream:
    """A reproducible stream of random numbers of torch's global generators, independent of all other draws from them.

    Parameters
    ----------
    seed : int
    device : torch.device or None, default=None
        Whose generator is replaced besides that of the CPU.
    """

    def __init__(self, seed: int, device: torch.device | None = None):
        self.generators = [torch.default_generator]
        if device is not None and device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self.generators.append(torch.cuda.default_generators[index])
        self.states = [torch.Generator(generator.device).manual_seed(seed).get_state() for generator in self.generators]

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the global generators give this stream within the block, and put them back after it."""
        with _lock:
            outside = [generator.get_state() for generator in self.generators]
            try:
                self._set(self.states)
                yield
            finally:
                self.states = [generator.get_state() for generator in self.generators]
                self._set(outside)

    def get_state(self) -> list:
        """Where the stream is."""
        return self.states

    def set_state(self, states: list) -> None:
        """Go on from where a stream was."""
        self.states = states

    def _set(self, states: list) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

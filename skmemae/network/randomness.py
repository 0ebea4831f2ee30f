"""Random numbers for modules of users, which draw from torch's global generators."""

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.RLock()  # the global generators belong to one stream at a time


def draw_seed(generator: torch.Generator) -> int:
    """A seed of 31 bits. All versions of torch draw the same number below 2**62, but not the same below 2**31."""
    return int(torch.randint(2**62, (), generator=generator)) % 2**31


class RandomStream:
    """A reproducible stream of random numbers from torch's global generators, independent of all other draws from them.

    Parameters
    ----------
    seed : int
    device : torch.device or None, default=None
        A CUDA device whose generator follows the stream as well as that of the CPU.
    """

    def __init__(self, seed: int, device: torch.device | None = None):
        self.generators = [torch.default_generator]
        if device is not None and device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self.generators.append(torch.cuda.default_generators[index])
        self.states = [torch.Generator(generator.device).manual_seed(seed).get_state() for generator in self.generators]

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Let the global generators draw from this stream within the block, and restore their states after it."""
        with _lock:
            outside = [generator.get_state() for generator in self.generators]
            try:
                self._set(self.states)
                yield
            finally:
                self.states = [generator.get_state() for generator in self.generators]
                self._set(outside)

    def get_state(self) -> list:
        """States of the generators at the present position of the stream."""
        return self.states

    def set_state(self, states: list) -> None:
        """Continue from the result of :meth:`get_state`."""
        self.states = states

    def _set(self, states: list) -> None:
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)

"""From NumPy arrays to torch tensors: batches on the device, and chunks of one fixed shape."""

import copy
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from skmemae._data.layout import Layout
from skmemae._data.sources import RowSource, Samples, chunk_rows, row_blocks, rows_per_block

_POOL_BYTES = 64 * 2**20  # of samples that are read together to draw batches from
_RUNS = 64  # parts of X that a pool is made of
_HELD_OUT_BYTES = 256 * 2**20
_CHUNK_BYTES = 2**18  # of rows that are read together to be scored
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Chunk:
    """Samples that are scored together."""

    x: Tensor  # (size, *sample_shape), scaled, the last chunk padded with zeros
    count: int  # samples that are not padding
    prints: Tensor | None  # (size, 4), fingerprints; None without a fingerprint


class Loader:
    """Samples of X as scaled float32 tensors on a device.

    Data that fits is copied to the device once, bytes of images and clips unscaled. Otherwise rows are read on request, and a
    thread reads ahead while the network is busy.

    Parameters
    ----------
    X : ndarray or RowSource of shape (n_samples, \\*array_shape)
        Never written to.
    layout : Layout
    scaling : Scaling
    device : torch.device
    fingerprint : Fingerprint or None, default=None
        Takes fingerprints of the samples of chunks, which are then read from X each time.
    resident_bytes : int, default=2**31
        Size up to which the samples are held on the device. Rows that are made on request are never held there.
    """

    def __init__(
        self,
        X: Samples,
        layout: Layout,
        scaling: Any,
        device: torch.device,
        fingerprint: nn.Module | None = None,
        resident_bytes: int = 2**31,
    ):
        self.X = X
        self.layout = layout
        self.device = device
        # Scaled bytes of tables may exceed the limit of scaled values; to check this, every batch would wait for the device.
        self._as_bytes = X.dtype == np.uint8 and scaling.fits_bytes
        self._exact = torch.float32 if device.type == "mps" else torch.float64
        self._scaling = _on(scaling, device if self._as_bytes else torch.device("cpu"))
        self._fingerprint = None if fingerprint is None else _on(fingerprint, torch.device("cpu"))
        self._dtype = torch.uint8 if self._as_bytes else torch.float32
        self._sample_bytes = self._dtype.itemsize * math.prod(X.shape[1:])
        self._resident = None
        fits = fingerprint is None and self._sample_bytes * X.shape[0] <= resident_bytes
        if fits and not isinstance(X, RowSource):
            self._resident = torch.empty(X.shape[0], *layout.sample_shape, dtype=self._dtype, device=device)
            for start, block in row_blocks(X):
                self._resident[start : start + len(block)] = self._read(block)[0]

    def __len__(self) -> int:
        return self.X.shape[0]

    @property
    def max_held_out(self) -> int:
        """Largest number of samples for :meth:`hold_out`."""
        return max(1, _HELD_OUT_BYTES // self._sample_bytes)

    def samples(self, rows: Tensor) -> Tensor:
        """The scaled samples of the given rows."""
        return self._scale_on_device(self._load(rows))

    def hold_out(self, rows: Tensor) -> Tensor:
        """The samples of the given rows, kept on the device for :meth:`minibatches`."""
        held_out = torch.empty(len(rows), *self.layout.sample_shape, dtype=self._dtype, device=self.device)
        done = 0
        for part in rows.split(self._pool_rows(1)):
            held_out[done : done + len(part)] = self._load(part)
            done += len(part)
        return held_out

    def minibatches(self, held_out: Tensor, rows: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the held-out samples, scaled, in batches of ``size``, and their rows."""
        return zip(map(self._scale_on_device, held_out.split(size)), rows.split(size), strict=True)

    def shuffle(self, rows: Tensor, batch_size: int, generator: torch.Generator) -> Tensor:
        """The rows in random order.

        If X is read during training, runs of neighbouring rows are put in random order, and rows are then shuffled within each
        pool of runs, which is read together. If the rows fit into one pool, they are shuffled as if X were in memory.
        """
        pool = self._pool_rows(batch_size)
        if self._resident is not None or len(rows) <= pool:
            return rows[torch.randperm(len(rows), generator=generator)]
        rows = rows.sort().values
        chunk = chunk_rows(self.X)
        run = max(1, pool // _RUNS // chunk) * chunk
        runs = rows.split(torch.unique_consecutive(rows // run, return_counts=True)[1].tolist())
        mixed = torch.cat([runs[i] for i in torch.randperm(len(runs), generator=generator)])
        return torch.cat([part[torch.randperm(len(part), generator=generator)] for part in mixed.split(pool)])

    def stream(self, batches: list[Tensor]) -> Generator[tuple[Tensor, Tensor], None, None]:
        """Yield the scaled samples of each batch of rows, and the rows, which are on the device if X is held there."""
        sizes = [len(rows) for rows in batches]
        if self._resident is not None:
            for rows in torch.cat(batches).to(self.device).split(sizes):
                yield self._scale_on_device(self._resident.index_select(0, rows)), rows
            return
        count = max(1, self._pool_rows(max(sizes)) // max(sizes))
        pools = [batches[i : i + count] for i in range(0, len(batches), count)]
        loaded = _read_ahead(lambda pool: self._load(torch.cat(pool)), pools)
        for pool, samples in zip(pools, loaded, strict=True):
            for some, rows in zip(samples.split([len(rows) for rows in pool]), pool, strict=True):
                yield self._scale_on_device(some), rows

    def chunks(self, size: int, start: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the scaled samples from start to stop in chunks of one fixed shape, the last padded with zeros.

        As all chunks have one shape, a sample's result does not depend on the chunk that it is in: matrix products round
        differently for different numbers of rows.
        """
        for rows in self._slices(size, start, len(self) if stop is None else stop):
            samples, prints = (self._resident[rows], None) if self._resident is not None else self._read(self.X[rows])
            parts = self._scale_on_device(samples).split(size)
            some_prints = [None] * len(parts) if prints is None else prints.split(size)
            for x, some in zip(parts, some_prints, strict=True):
                yield Chunk(_padded(x, size), len(x), None if some is None else _padded(some, size))

    def unscaled_blocks(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice of rows, their float64 samples in the units of X)."""
        for rows in self._slices(1, 0, len(self)):
            yield rows, self.layout.to_network(torch.from_numpy(np.array(self.X[rows], dtype=np.float64)))

    def _slices(self, size: int, start: int, stop: int) -> Iterator[slice]:
        """Slices of rows that are read together; all but the last hold a multiple of ``size`` rows."""
        n_bytes = _CHUNK_BYTES if chunk_rows(self.X) == 1 else _POOL_BYTES
        rows = size * max(1, rows_per_block(self.X, n_bytes) // size)
        return (slice(first, min(first + rows, stop)) for first in range(start, stop, rows))

    def _pool_rows(self, batch_size: int) -> int:
        """Number of rows that are read together to draw batches from, a multiple of ``batch_size``."""
        return batch_size * max(1, _POOL_BYTES // self._sample_bytes // batch_size)

    def _load(self, rows: Tensor) -> Tensor:
        """Samples on the device, bytes not yet scaled; X is read in ascending order, which is faster from disks."""
        if self._resident is not None:
            return self._resident.index_select(0, rows.to(self.device))
        ascending, back = torch.sort(rows)
        return self._read(self.X[ascending.numpy()])[0].to(self.device)[back.argsort().to(self.device)]

    def _read(self, block: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """A copy of a block as bytes, or scaled to float32 on the CPU, which always has float64; and its fingerprints."""
        raw = self.layout.to_network(torch.from_numpy(np.array(block, dtype=np.uint8 if self._as_bytes else np.float64)))
        prints = None
        if self._fingerprint is not None:
            prints = self._fingerprint(raw.double()).to(self.device if self._exact == torch.float64 else "cpu")
        return raw if self._as_bytes else self._scaling(raw), prints

    def _scale_on_device(self, samples: Tensor) -> Tensor:
        samples = samples.to(self.device)
        return self._scaling(samples.to(self._exact), are_bytes=True) if self._as_bytes else samples


def _on(module: nn.Module, device: torch.device) -> nn.Module:
    """The module if its buffers are on the device, else a copy that is there."""
    there = all(buffer.device.type == device.type for buffer in module.buffers())
    return module if there else copy.deepcopy(module).to(device)


def _padded(samples: Tensor, size: int) -> Tensor:
    """Samples, filled up with zeros to ``size`` samples."""
    if len(samples) == size:
        return samples
    return torch.cat([samples, samples.new_zeros(size - len(samples), *samples.shape[1:])])


def _read_ahead(function: Callable[[Item], Result], items: list[Item]) -> Iterable[Result]:
    """Like ``map``, but a thread computes the next result while the caller uses the last one."""
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(function, items[0])
        for item in chain(items[1:], [None]):
            result = ahead.result()
            if item is not None:
                ahead = thread.submit(function, item)
            yield result

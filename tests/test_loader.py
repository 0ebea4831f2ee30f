"""From numpy to torch: batches, pools and chunks."""

import gc
import threading

import dask.array
import numpy as np
import pytest
import torch

from skmemae._data import loader as module
from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._data.sources import as_source
from skmemae._model.known import Fingerprint
from skmemae._model.statistics import learn_scaling
from tests.problems import CPU, loader_of


def make_loader(X, kind="standard", resident=None):
    """A loader whose samples lie on the device if ``resident`` says so."""
    return loader_of(X, kind, **{} if resident is None else {"resident_bytes": 2**31 if resident else 0})


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, bool, ">f4"])
@pytest.mark.parametrize("shape, sample_shape", [((5, 6), (1, 5, 6)), ((6, 5, 3), (3, 6, 5)), ((7,), (7,))])
def test_resident_and_streamed_samples_are_those_of_x(rng, dtype, shape, sample_shape):
    X = (rng.uniform(0, 2, size=(70, *shape)) * 50).astype(dtype)
    X.setflags(write=False)
    resident, streamed = (make_loader(X, resident=r) for r in (True, False))
    layout = resident.layout
    expected = learn_scaling(X, layout, "standard")(layout.to_network(torch.from_numpy(X.astype(np.float64))))
    rows = torch.tensor([3, 69, 0, 41])
    for loader in (resident, streamed):
        assert len(loader) == 70 and loader.samples(rows).dtype == torch.float32
        torch.testing.assert_close(loader.samples(rows), expected[rows])
        chunks = list(loader.chunks(32))
        assert [chunk.count for chunk in chunks] == [32, 32, 6] and all(
            chunk.x.shape == (32, *sample_shape) for chunk in chunks
        )
        torch.testing.assert_close(torch.cat([chunk.x for chunk in chunks])[:70], expected)
        assert all(chunk.prints is None for chunk in chunks)


def test_what_is_made_on_request_or_does_not_fit_is_streamed(rng):
    X = rng.normal(size=(20, 3))
    assert make_loader(X)._resident is not None
    assert make_loader(as_source(dask.array.from_array(X, chunks=(5, 3))))._resident is None
    assert loader_of(X, resident_bytes=4 * 3 * 20)._resident is not None
    assert loader_of(X, resident_bytes=4 * 3 * 20 - 1)._resident is None


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("start, stop", [(0, 0), (0, 30), (7, 8), (11, 30), (5, 21)])
def test_chunks_can_be_those_of_some_neighbours_alone(rng, resident, start, stop):
    loader = make_loader(rng.normal(size=(30, 3)), None, resident)
    found = [chunk.x[: chunk.count] for chunk in loader.chunks(8, start, stop)]
    assert torch.equal(torch.cat([torch.zeros(0, 3), *found]), loader.samples(torch.arange(start, stop)))


def test_samples_in_their_own_units_come_channels_first_as_float64(rng, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK_BYTES", 8 * 6 * 5 * 3 * 7)
    X = rng.integers(0, 256, size=(30, 6, 5, 3)).astype(np.uint8)
    blocks = list(make_loader(X).unscaled_blocks())
    assert [rows for rows, _ in blocks] == [slice(0, 7), slice(7, 14), slice(14, 21), slice(21, 28), slice(28, 30)]
    np.testing.assert_array_equal(torch.cat([block for _, block in blocks]), np.moveaxis(X, -1, 1).astype(np.float64))


@pytest.mark.parametrize("n, size", [(1, 4), (4, 4), (9, 4), (40_001, 256)])
def test_chunks_have_one_shape_and_cover_every_row_once(n, size):
    X = np.arange(n, dtype=np.float64).reshape(-1, 1)
    loader = make_loader(X, None, False)
    seen = []
    for chunk in loader.chunks(size):
        assert len(chunk.x) == size and (chunk.x[chunk.count :] == 0).all()
        seen.append(chunk.x[: chunk.count, 0])
    assert torch.equal(torch.cat(seen), torch.from_numpy(X[:, 0]).float())


@pytest.mark.parametrize("dtype", [np.float64, np.uint8])
def test_chunks_hold_fingerprints_of_the_raw_samples(rng, dtype):
    X = (rng.uniform(size=(30, 5, 6)) * 200).astype(dtype)
    layout = choose_layout((5, 6))
    fingerprint = Fingerprint((1, 1, 1), 30)
    fingerprint.learn_units(X, layout)
    loader = Loader(X, layout, learn_scaling(X, layout, "contrast"), CPU, fingerprint)
    chunks = list(loader.chunks(8))
    assert all(chunk.prints.shape == (8, 4) and chunk.prints.dtype == torch.float64 for chunk in chunks)
    found = torch.cat([chunk.prints[: chunk.count] for chunk in chunks])
    expected = fingerprint(torch.from_numpy(X.astype(np.float64)).unsqueeze(1))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)  # the height of a chunk moves the last digit


def small_pools(monkeypatch, n_bytes):
    monkeypatch.setattr(module, "_POOL_BYTES", n_bytes)
    monkeypatch.setattr(module, "_RUNS", 4)


@pytest.mark.parametrize("resident", [True, False])
def test_few_rows_have_one_order_wherever_they_lie(rng, resident):
    X = rng.normal(size=(50, 3))
    loader = make_loader(X, None, resident)
    rows = torch.arange(5, 50)
    order = loader.shuffle(rows, 8, torch.Generator().manual_seed(0))
    assert torch.equal(order, rows[torch.randperm(45, generator=torch.Generator().manual_seed(0))])


def test_many_rows_are_shuffled_in_pools_of_runs_and_none_is_lost(rng, monkeypatch):
    small_pools(monkeypatch, 12 * 64)
    X = rng.normal(size=(1000, 3))
    loader = make_loader(X, None, False)
    rows = torch.randperm(1000)[:900]  # in any order, some left out
    orders = [loader.shuffle(rows, 16, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(orders[0].sort().values, rows.sort().values)
    assert torch.equal(orders[0], orders[1]) and not torch.equal(orders[0], orders[2])
    pool = orders[0][:64]
    assert len(torch.unique(pool // 16)) < 10  # a few runs of neighbours, from all over X, in random order
    assert pool.float().std() > 100 and (pool.diff() == 1).sum() < 10


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("n_bytes", [1, 12 * 64, 2**20])
def test_a_stream_gives_the_rows_of_each_step(rng, monkeypatch, resident, n_bytes):
    small_pools(monkeypatch, n_bytes)
    X = rng.normal(size=(100, 3))
    loader = make_loader(X, "standard", resident)
    steps = list(torch.randperm(100).split(16))
    for (x, same), rows in zip(loader.stream(steps), steps, strict=True):
        assert torch.equal(same, rows)
        torch.testing.assert_close(x, loader.samples(rows))


def test_reading_ahead_passes_errors_on_and_leaves_no_thread(rng):
    X = rng.normal(size=(20, 3))
    loader = make_loader(X, None, False)
    with pytest.raises(IndexError):
        list(loader.stream([torch.tensor([3, 99])]))
    before = threading.active_count()
    next(iter(loader.stream([torch.arange(5), torch.arange(5, 9)])))
    gc.collect()
    assert threading.active_count() <= before


def test_what_is_held_comes_in_parts_and_bytes_of_images_stay_bytes(rng):
    X = rng.integers(0, 256, size=(50, 6, 7)).astype(np.uint8)
    for resident in (True, False):
        loader = make_loader(X, resident=resident)
        rows = torch.tensor([40, 3, 3, 12, 49])
        held = loader.hold_out(rows)
        assert held.dtype == torch.uint8 and loader.max_held_out == module._HELD_OUT_BYTES // 42
        parts = list(loader.minibatches(held, rows, 2))
        assert torch.equal(torch.cat([some for _, some in parts]), rows) and [len(x) for x, _ in parts] == [2, 2, 1]
        torch.testing.assert_close(torch.cat([x for x, _ in parts]), loader.samples(rows))

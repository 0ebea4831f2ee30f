"""Batches and chunks."""

import gc
import threading

import numpy as np
import pytest
import torch

from skmemae.engine import batches as module
from skmemae.engine.batches import Batches
from skmemae.engine.samples import plan_layout
from skmemae.engine.scaling import Scaling, learn_scaling

CPU = torch.device("cpu")


def test_images_are_scaled_by_channel(rng):
    X = rng.integers(0, 256, size=(50, 6, 7, 3)).astype(np.uint8)
    X[..., 1] //= 4
    layout = plan_layout(X.shape[1:])
    batches = Batches(X, layout, learn_scaling(X, layout, "standard"), CPU)
    samples = batches.take(torch.arange(50))
    assert samples.shape == (50, 3, 6, 7)
    np.testing.assert_allclose(samples.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(samples.std(dim=(0, 2, 3)), 1, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, bool, ">f4"])
def test_resident_and_streamed_samples_are_the_same(rng, dtype):
    X = (rng.uniform(0, 2, size=(70, 5, 4)) * 50).astype(dtype)
    X.setflags(write=False)
    layout = plan_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "standard")
    resident, streamed = (Batches(X, layout, scaling, CPU, resident=r) for r in (True, False))
    rows = torch.tensor([3, 69, 0, 41])
    assert resident.take(rows).dtype == torch.float32
    torch.testing.assert_close(resident.take(rows), streamed.take(rows))
    for (a, count_a), (b, count_b) in zip(resident.chunks(32), streamed.chunks(32), strict=True):
        assert count_a == count_b and a.shape == b.shape == (32, 1, 5, 4)
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("n, size", [(1, 4), (4, 4), (9, 4), (100_001, 256)])
def test_chunks_have_one_shape_and_cover_every_row_once(n, size):
    X = np.arange(n, dtype=np.float64).reshape(-1, 1)
    batches = Batches(X, plan_layout((1,)), Scaling(np.zeros(1), np.ones(1), np.inf), CPU, resident=False)
    seen = []
    for chunk, count in batches.chunks(size):
        assert len(chunk) == size and (chunk[count:] == 0).all()
        seen.append(chunk[:count, 0])
    assert torch.equal(torch.cat(seen), torch.arange(n, dtype=torch.float32))


def small_pools(monkeypatch, n_bytes):
    monkeypatch.setattr(module, "_POOL_BYTES", n_bytes)
    monkeypatch.setattr(module, "_RUNS", 4)


@pytest.mark.parametrize("resident", [True, False])
def test_few_rows_have_one_order_wherever_they_lie(rng, resident):
    X = rng.normal(size=(50, 3))
    batches = Batches(X, plan_layout((3,)), learn_scaling(X, plan_layout((3,)), None), CPU, resident=resident)
    rows = torch.arange(5, 50)
    order = batches.shuffled(rows, 8, torch.Generator().manual_seed(0))
    assert torch.equal(order, rows[torch.randperm(45, generator=torch.Generator().manual_seed(0))])


def test_many_rows_are_shuffled_in_pools_of_runs_and_none_is_lost(rng, monkeypatch):
    small_pools(monkeypatch, 12 * 64)
    X = rng.normal(size=(1000, 3))
    batches = Batches(X, plan_layout((3,)), learn_scaling(X, plan_layout((3,)), None), CPU, resident=False)
    rows = torch.randperm(1000)[:900]  # in any order, some left out
    orders = [batches.shuffled(rows, 16, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
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
    batches = Batches(X, plan_layout((3,)), learn_scaling(X, plan_layout((3,)), "standard"), CPU, resident=resident)
    steps = list(torch.randperm(100).split(16))
    for x, rows in zip(batches.stream(steps), steps, strict=True):
        torch.testing.assert_close(x, batches.take(rows))


def test_reading_ahead_passes_errors_on_and_leaves_no_thread(rng):
    X = rng.normal(size=(20, 3))
    batches = Batches(X, plan_layout((3,)), learn_scaling(X, plan_layout((3,)), None), CPU, resident=False)
    with pytest.raises(IndexError):
        list(batches.stream([torch.tensor([3, 99])]))
    before = threading.active_count()
    next(iter(batches.stream([torch.arange(5), torch.arange(5, 9)])))
    gc.collect()
    assert threading.active_count() <= before


def test_what_is_held_comes_in_parts_and_bytes_stay_bytes(rng):
    X = rng.integers(0, 256, size=(50, 6, 7)).astype(np.uint8)
    layout = plan_layout(X.shape[1:])
    for resident in (True, False):
        batches = Batches(X, layout, learn_scaling(X, layout, "standard"), CPU, resident=resident)
        rows = torch.tensor([40, 3, 3, 12, 49])
        held = batches.hold(rows)
        assert held.dtype == torch.uint8 and batches.most_held > 10**6
        torch.testing.assert_close(torch.cat(list(batches.parts(held, 2))), batches.take(rows))

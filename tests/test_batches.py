"""Scaling, batches and chunks."""

import numpy as np
import pytest
import torch

from skmemae.engine.batches import Batches
from skmemae.engine.samples import plan_layout
from skmemae.engine.scaling import Scaling, learn_scaling

CPU = torch.device("cpu")


def test_tables_are_standardised_by_column_and_constant_columns_keep_their_units(rng):
    X = rng.normal(5, [1.0, 100.0, 0.0], size=(500, 3))
    scaling = learn_scaling(X, plan_layout((3,)), "standard")
    scaled = scaling.apply(torch.from_numpy(X))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(dim=0, correction=0), [1, 1, 0], atol=1e-5)
    assert float(scaling.apply(torch.tensor([[5.0, 5.0, 5.001]], dtype=torch.float64))[0, 2]) == pytest.approx(0.001, abs=1e-4)


def test_large_offsets_survive_the_step_to_float32(rng):
    X = 1e9 + rng.normal(size=(200, 2))
    scaled = learn_scaling(X, plan_layout((2,)), "standard").apply(torch.from_numpy(X))
    np.testing.assert_allclose(scaled, (X - X.mean(axis=0)) / X.std(axis=0), atol=1e-4)


def test_images_are_scaled_by_channel(rng):
    X = rng.integers(0, 256, size=(50, 6, 7, 3)).astype(np.uint8)
    X[..., 1] //= 4
    layout = plan_layout(X.shape[1:])
    batches = Batches(X, layout, learn_scaling(X, layout, "standard"), CPU)
    samples = batches.take(torch.arange(50))
    assert samples.shape == (50, 3, 6, 7)
    np.testing.assert_allclose(samples.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(samples.std(dim=(0, 2, 3)), 1, atol=1e-2)


def test_minmax_and_none(rng):
    X = rng.uniform(-3, 9, size=(100, 4))
    scaled = learn_scaling(X, plan_layout((4,)), "minmax").apply(torch.from_numpy(X))
    assert float(scaled.min()) == 0 and float(scaled.max()) == 1
    kept = learn_scaling(X, plan_layout((4,)), None).apply(torch.from_numpy(X))
    np.testing.assert_allclose(kept, X.astype(np.float32))


def test_the_soft_limit_keeps_order_and_can_be_undone():
    scaling = Scaling(np.zeros(1), np.ones(1), 10.0)
    values = torch.tensor([[-1e30], [-50.0], [-10.0], [0.5], [10.0], [11.0], [1e30]], dtype=torch.float64)
    scaled = scaling.apply(values)
    assert torch.isfinite(scaled.square()).all()
    assert (scaled.diff(dim=0) > 0).all()
    assert torch.equal(scaled[2:5].double(), values[2:5])
    torch.testing.assert_close(scaling.undo(scaled[1:6].double()), values[1:6], rtol=1e-5, atol=1e-5)


def test_values_beyond_float64_statistics_are_refused():
    with pytest.raises(ValueError, match="too large"):
        learn_scaling(np.array([[1e200], [-1e200], [1e300]]), plan_layout((1,)), "standard")


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

"""Batches and chunks."""

import numpy as np
import pytest
import torch

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

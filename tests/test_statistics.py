"""Scaling learned from X."""

import numpy as np
import pytest
import torch

from skmemae._data import sources
from skmemae._data.layout import choose_layout
from skmemae._model.statistics import learn_scaling

KINDS = ["contrast", "log-contrast", "log", "standard", "minmax"]


def test_tables_are_standardised_by_column_and_whatever_differs_from_a_constant_column_is_far_out(rng):
    X = rng.normal(5, [1.0, 100.0, 0.0], size=(500, 3))
    scaling = learn_scaling(X, choose_layout((3,)), "standard")
    scaled = scaling(torch.from_numpy(X))
    assert scaled.dtype == torch.float32
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(dim=0, correction=0), [1, 1, 0], atol=1e-5)
    changed = scaling(torch.tensor([[5.0, 5.0, 5.001], [5.0, 5.0, 6.0]], dtype=torch.float64))[:, 2]
    assert changed.tolist() == pytest.approx([0.002 * np.sqrt(500) / 5, 2 * np.sqrt(500) / 5], rel=1e-3)


def test_images_are_scaled_by_channel(rng):
    X = rng.integers(0, 256, size=(50, 6, 7, 3)).astype(np.uint8)
    X[..., 1] //= 4
    layout = choose_layout(X.shape[1:])
    scaled = learn_scaling(X, layout, "standard")(layout.to_network(torch.from_numpy(X)).double())
    np.testing.assert_allclose(scaled.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(dim=(0, 2, 3)), 1, atol=1e-2)


@pytest.mark.parametrize(
    "offset, spread", [(1e9, 1.0), (-1e15, 1.0), (1e-300, 1e-305), (1e300, 1e295), (0.0, 1e-310), (1e5, 1e-9)]
)
def test_neither_offset_nor_unit_costs_digits(rng, offset, spread):
    X = offset + spread * rng.normal(size=(200, 2))
    scaled = learn_scaling(X, choose_layout((2,)), "standard")(torch.from_numpy(X)).double().numpy()
    exact = (X - X[0]) / np.ptp(X, axis=0)  # differences of neighbours are exact, and no square is too large or too small
    exact = (exact - exact.mean(axis=0)) / exact.std(axis=0)
    np.testing.assert_allclose(scaled - scaled.mean(axis=0), exact, atol=1e-5)
    assert (np.abs(scaled.mean(axis=0)) < 1e-5 + np.spacing(abs(offset)) / spread).all()  # the mean is a float64 too


def test_a_constant_column_has_no_deviation_to_the_bit(rng):
    for value in (0.1, 1e9 + 0.1, -1e300, 5e-324):
        scaling = learn_scaling(np.full((1000, 1), value), choose_layout((1,)), "standard")
        assert 0 < scaling.scale < abs(value) / 60 + 1e-307 and scaling(torch.full((1, 1), value, dtype=torch.float64)) == 0


def test_minmax_and_none(rng):
    X = rng.uniform(-3, 9, size=(100, 4))
    scaled = learn_scaling(X, choose_layout((4,)), "minmax")(torch.from_numpy(X))
    assert float(scaled.min()) == 0 and float(scaled.max()) == 1
    kept = learn_scaling(X, choose_layout((4,)), None)(torch.from_numpy(X))
    np.testing.assert_allclose(kept, X.astype(np.float32))


def test_images_without_contrast_are_scaled_as_a_whole(rng):
    X = np.ones((20, 5, 5)) * rng.normal(size=(20, 1, 1))
    scaling = learn_scaling(X, choose_layout((5, 5)), "contrast")
    assert scaling.mean_sample is None
    scaled = scaling(torch.from_numpy(X[:, None]))
    np.testing.assert_allclose(scaled.std(correction=0), 1, atol=1e-5)


def test_logarithms_of_light_take_three_hundredths_of_the_largest_value_as_their_unit(rng):
    X = rng.uniform(0, [100, 1, 10], size=(40, 6, 7, 3))
    X[..., 1] -= 0.5
    X[0, 0, 0] = [100, 0, 10]
    layout = choose_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "log-contrast")
    assert scaling.log_unit.flatten().tolist() == pytest.approx([3, np.inf, 0.3]) and scaling.mean_sample is not None
    assert learn_scaling(X - 50, layout, "log-contrast").log_unit is None
    blank = learn_scaling(np.zeros((5, 6, 7)), choose_layout((6, 7)), "log-contrast")
    assert torch.isfinite(blank(torch.ones(2, 1, 6, 7, dtype=torch.float64))).all()


def test_heavy_tails_are_counted_by_how_many_times(rng):
    n = 5000
    X = np.column_stack([rng.lognormal(0, 2, n), rng.normal(size=n), rng.exponential(size=n), -rng.lognormal(0, 2, n)])
    X[: n // 2, 0] = 0
    scaling = learn_scaling(X, choose_layout((4,)), "log")
    assert torch.isfinite(scaling.log_unit).tolist() == [True, False, False, False]
    assert scaling.log_unit[0] == np.quantile(X[n // 2 :, 0], 0.05)
    scaled = scaling(torch.from_numpy(X))
    np.testing.assert_allclose(scaled[:, :3].std(dim=0, correction=0), 1, atol=0.1)  # a tail counts as far as it reaches
    assert (np.diff(scaled[:, 0].numpy()[np.argsort(X[:, 0])]) >= 0).all()
    torch.testing.assert_close(scaling.inverse(scaled.double())[:, :3], torch.from_numpy(X[:, :3]), rtol=1e-3, atol=1e-3)
    light = learn_scaling(X[:, 1:3], choose_layout((2,)), "log")
    assert light.log_unit is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(20,), (4, 5)])
def test_statistics_of_some_rows_are_those_of_these_rows_alone(rng, kind, shape):
    X = rng.lognormal(0, 2, size=(300, *shape))
    rows = rng.uniform(size=300) < 0.5
    layout = choose_layout(shape)
    some, alone = learn_scaling(X, layout, kind, rows), learn_scaling(X[rows], layout, kind)
    samples = layout.to_network(torch.from_numpy(X))
    torch.testing.assert_close(some(samples), alone(samples))


@pytest.mark.parametrize("kind", KINDS)
def test_reading_by_blocks_changes_nothing(rng, kind, monkeypatch):
    X = rng.lognormal(0, 2, size=(300, 20))
    layout = choose_layout((20,))
    whole = learn_scaling(X, layout, kind)
    monkeypatch.setattr(sources, "_BLOCK_BYTES", 8 * 20 * 7)
    samples = torch.from_numpy(X)
    torch.testing.assert_close(learn_scaling(X, layout, kind)(samples), whole(samples), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, None])
@pytest.mark.parametrize("wild", [1e300, np.finfo(np.float64).max, 5e-324])
def test_any_finite_values_can_be_learned_from(rng, kind, wild):
    X = wild * rng.integers(-1, 2, size=(100, 9))
    for A, family in ((X, "fc"), (X.reshape(-1, 3, 3), "conv2d"), (np.abs(X), "fc")):
        layout = choose_layout(A.shape[1:], family)
        scaled = learn_scaling(A, layout, kind)(layout.to_network(torch.from_numpy(A)))
        assert torch.isfinite(scaled.square().flatten(1).sum(dim=1)).all()

"""What samples are compared by: statistics, contrast, logarithms."""

import numpy as np
import pytest
import torch

from skmemae.engine.samples import plan_layout
from skmemae.engine.scaling import Scaling, learn_scaling


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


def test_contrast_sees_what_is_shown_and_not_the_light(rng):
    X = rng.uniform(size=(60, 9, 8))
    layout = plan_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "contrast")
    samples = layout.to_network(torch.from_numpy(X))
    scaled = scaling.apply(samples)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    # Twice the contrast and another level is the same picture, but for the share of the typical deviation that tames blanks.
    brighter = scaling.apply(2 * samples + 5)
    shift = (brighter - scaled).abs().mean() / scaled.abs().mean()
    assert shift < 0.15 and (scaling.apply(samples + 5) - scaled).abs().max() < 1e-5
    blank = scaling.apply(torch.full((1, 1, 9, 8), 3.0, dtype=torch.float64) + 1e-3 * samples[:1])
    assert (blank + torch.from_numpy(scaling.center)).abs().max() < 0.05
    torch.testing.assert_close(scaling.undo(scaled.double(), samples), samples, rtol=1e-4, atol=1e-4)
    typical = scaling.undo(torch.zeros(1, 1, 9, 8, dtype=torch.float64))
    assert abs(float(typical.mean()) - X.mean()) < 0.01


def test_distance_from_the_mean_image_knows_shapes_alone(rng):
    X = rng.normal(size=(50, 6, 6)) + 3 * np.eye(6)
    layout = plan_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "contrast")
    shown = np.concatenate([X[:5], 4 * X[:5] + 100, 0 * X[:5], -X[:5]])
    scaled = scaling.apply(layout.to_network(torch.from_numpy(shown)))
    near, louder, blank, inverse = scaling.distance_from_mean(scaled).numpy().reshape(4, 5)
    centred = (X - X.mean(axis=(1, 2), keepdims=True)).reshape(50, -1)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    exact = ((directions - directions.mean(axis=0)) ** 2).sum(axis=1)[:5]
    # But for the share of the typical deviation that tames blanks, and draws all samples towards them.
    assert np.all((exact < near) & (near < exact + 0.3))
    assert np.corrcoef(near, exact)[0, 1] > 0.95
    assert np.all((exact - 0.1 < louder) & (louder < near))
    assert np.all((near < blank) & (blank < inverse))
    assert learn_scaling(X, layout, "standard").distance_from_mean(scaled).eq(1).all()


def test_images_without_contrast_are_scaled_as_a_whole(rng):
    X = np.ones((20, 5, 5)) * rng.normal(size=(20, 1, 1))
    scaling = learn_scaling(X, plan_layout((5, 5)), "contrast")
    assert scaling.typical is None
    scaled = scaling.apply(torch.from_numpy(X[:, None]))
    np.testing.assert_allclose(scaled.std(correction=0), 1, atol=1e-5)


def test_heavy_tails_are_counted_by_how_many_times(rng):
    n = 5000
    X = np.column_stack([rng.lognormal(0, 2, n), rng.normal(size=n), rng.exponential(size=n), -rng.lognormal(0, 2, n)])
    X[: n // 2, 0] = 0
    scaling = learn_scaling(X, plan_layout((4,)), "log")
    assert np.isfinite(scaling.unit).tolist() == [True, False, False, False]
    scaled = scaling.apply(torch.from_numpy(X))
    np.testing.assert_allclose(scaled[:, :3].std(dim=0, correction=0), 1, atol=1e-4)
    assert (np.diff(scaled[:, 0].numpy()[np.argsort(X[:, 0])]) >= 0).all()
    torch.testing.assert_close(scaling.undo(scaled.double())[:, :3], torch.from_numpy(X[:, :3]), rtol=1e-3, atol=1e-3)
    light = learn_scaling(X[:, 1:3], plan_layout((2,)), "log")
    assert light.unit is None


@pytest.mark.parametrize("kind", ["contrast", "log", "standard", "minmax"])
def test_statistics_of_some_rows_are_those_of_these_rows_alone(rng, kind):
    X = rng.lognormal(0, 2, size=(300, 20))
    rows = rng.uniform(size=300) < 0.5
    some, alone = (learn_scaling(*args) for args in ((X, plan_layout((20,)), kind, rows), (X[rows], plan_layout((20,)), kind)))
    samples = torch.from_numpy(X)
    torch.testing.assert_close(some.apply(samples), alone.apply(samples))


@pytest.mark.parametrize("kind", ["contrast", "log"])
def test_wild_values_are_refused_or_stay_finite(kind):
    X = np.array([[1e200, 0.0], [-1e200, 1.0], [1e300, 2.0]])
    with pytest.raises(ValueError, match="too large"):
        learn_scaling(X * 1e8, plan_layout((2,)), kind)

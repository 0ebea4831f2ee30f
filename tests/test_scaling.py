"""The units in which samples are compared: applied, and taken back."""

import numpy as np
import pytest
import torch

from skmemae._data.layout import choose_layout
from skmemae._model.scaling import FAR_LIMIT, TABLE_LIMIT, Scaling
from skmemae._model.statistics import learn_scaling

LARGEST = np.finfo(np.float64).max


def units(center=0.0, scale=1.0, limit=10.0, **learned):
    """The scaling of a single column."""
    scaling = Scaling((1,), True, limit)
    scaling.learn_units(np.full(1, center), np.full(1, scale))
    scaling.learn(**learned)
    return scaling


AFFINE = units(3.0, 2.0)
LOGARITHMIC = units(1.0, log_unit=torch.tensor([0.5]))


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


@pytest.mark.parametrize("limit", [TABLE_LIMIT, FAR_LIMIT])
def test_values_beyond_the_limit_grow_logarithmically_and_keep_their_order(limit):
    scaling = units(limit=limit)
    values = column(-LARGEST, -1e30, -5 * limit, -limit, 0.5, limit, 2 * limit, 1e30, LARGEST)
    scaled = scaling(values)
    assert scaled.dtype == torch.float32 and torch.isfinite(scaled.square()).all()
    assert (scaled.diff(dim=0) >= 0).all() and (limit == FAR_LIMIT or (scaled.diff(dim=0) > 0).all())
    assert torch.equal(scaled[3:6].double(), values[3:6])
    torch.testing.assert_close(scaled[6], torch.tensor([limit + np.log1p(limit)], dtype=torch.float32))


@pytest.mark.parametrize("scaling", [AFFINE, LOGARITHMIC])
def test_what_was_compressed_can_be_taken_back(scaling):
    values = column(-90.0, -50.0, -1.0, 0.0, 0.5, 10.0, 11.0, 1000.0)
    torch.testing.assert_close(scaling.inverse(scaling(values).double()), values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["contrast", "log-contrast", "log", "standard", "minmax", None])
@pytest.mark.parametrize("family", ["fc", "conv2d"])
def test_scaled_values_and_what_they_come_from_are_finite_whatever_the_samples(rng, kind, family):
    X = rng.lognormal(0, 2, size=(60, 5, 5))
    layout = choose_layout(X.shape[1:], family)
    scaling = learn_scaling(X, layout, kind)
    wild = np.stack(
        [np.full((5, 5), LARGEST), np.full((5, 5), -LARGEST), np.where(np.eye(5), LARGEST, 0.0), 1e300 * (X[0] - 1)]
    )
    samples = layout.to_network(torch.from_numpy(wild))
    scaled = scaling(samples)
    assert torch.isfinite(scaled.square().flatten(1).sum(dim=1)).all()
    assert torch.isfinite(scaling.inverse(scaled.double(), samples)).all()
    assert torch.isfinite(scaling.inverse(torch.full_like(scaled, 1e30).double(), samples)).all()
    assert torch.isfinite(scaling.inverse(torch.full_like(scaled, -1e30).double())).all()


def test_the_samples_themselves_are_left_alone(rng):
    X = rng.lognormal(0, 2, size=(60, 1, 5, 5))
    for kind in ("contrast", "log", "standard", "minmax", None):
        scaling = learn_scaling(X, choose_layout((1, 5, 5)), kind)
        samples = torch.from_numpy(X.copy())
        scaled = scaling(samples)
        kept = scaled.clone()
        scaling.inverse(scaled, samples)
        assert np.array_equal(samples, X) and torch.equal(scaled, kept)


def test_contrast_sees_what_is_shown_and_not_the_light(rng):
    X = rng.uniform(size=(60, 9, 8))
    layout = choose_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "contrast")
    samples = layout.to_network(torch.from_numpy(X))
    scaled = scaling(samples)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    # Twice the contrast and another level is the same picture, but for the share of the typical deviation that tames blanks.
    brighter = scaling(2 * samples + 5)
    shift = (brighter - scaled).abs().mean() / scaled.abs().mean()
    assert shift < 0.15 and (scaling(samples + 5) - scaled).abs().max() < 1e-5
    blank = scaling(torch.full((1, 1, 9, 8), 3.0, dtype=torch.float64) + 1e-3 * samples[:1])
    assert (blank + scaling.mean_sample).abs().max() < 0.05
    torch.testing.assert_close(scaling.inverse(scaled.double(), samples), samples, rtol=1e-4, atol=1e-4)
    typical = scaling.inverse(torch.zeros(1, 1, 9, 8, dtype=torch.float64))
    assert abs(float(typical.mean()) - X.mean()) < 0.01


def test_under_logarithms_of_light_a_shadow_takes_no_contrast(rng):
    X = rng.uniform(60, 255, size=(60, 9, 8))
    layout = choose_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "log-contrast")
    samples = layout.to_network(torch.from_numpy(X))
    scaled = scaling(samples)
    np.testing.assert_allclose(scaled.mean(dim=0), 0, atol=1e-5)
    darker = (scaling(0.5 * samples) - scaled).abs().mean() / scaled.abs().mean()
    assert darker < 0.5 * (learn_scaling(X, layout, "contrast")(0.5 * samples) - scaled).abs().mean() / scaled.abs().mean()
    torch.testing.assert_close(scaling.inverse(scaled.double(), samples), samples, rtol=1e-4, atol=1e-3)
    typical = scaling.inverse(torch.zeros(1, 1, 9, 8, dtype=torch.float64))
    assert abs(float(typical.mean()) - X.mean()) < 0.1 * X.mean()
    floats = learn_scaling(X / 255, layout, "log-contrast")(samples / 255)
    torch.testing.assert_close(floats, scaled, rtol=1e-4, atol=1e-4)


def test_distance_from_the_mean_image_knows_shapes_alone(rng):
    X = rng.normal(size=(50, 6, 6)) + 3 * np.eye(6)
    layout = choose_layout(X.shape[1:])
    scaling = learn_scaling(X, layout, "contrast")
    shown = np.concatenate([X[:5], 4 * X[:5] + 100, 0 * X[:5], -X[:5]])
    scaled = scaling(layout.to_network(torch.from_numpy(shown)))
    near, louder, blank, inverse = scaling.distance_from_mean(scaled).numpy().reshape(4, 5)
    centred = (X - X.mean(axis=(1, 2), keepdims=True)).reshape(50, -1)
    directions = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    exact = ((directions - directions.mean(axis=0)) ** 2).sum(axis=1)[:5]
    # But for the share of the typical deviation that tames blanks, and draws all samples towards them.
    assert np.all((exact < near) & (near < exact + 0.3))
    assert np.corrcoef(near, exact)[0, 1] > 0.95
    assert np.all((exact - 0.1 < louder) & (louder < near))
    assert np.all((near < blank) & (blank < inverse) & (inverse < 4))
    assert learn_scaling(X, layout, "standard").distance_from_mean(scaled).eq(1).all()


@pytest.mark.parametrize("kind", ["contrast", "log", "standard", "minmax", None])
@pytest.mark.parametrize("family", ["fc", "conv2d"])
def test_the_state_makes_the_scaling_again(rng, kind, family):
    X = rng.lognormal(0, 2, size=(60, 5, 5))
    layout = choose_layout(X.shape[1:], family)
    scaling = learn_scaling(X, layout, kind)
    again = Scaling(layout.sample_shape, family == "fc", scaling.limit)
    again.load_state_dict(scaling.state_dict())
    samples = layout.to_network(torch.from_numpy(X))
    assert torch.equal(again(samples), scaling(samples))
    assert torch.equal(again.inverse(again(samples).double(), samples), scaling.inverse(scaling(samples).double(), samples))


def test_bytes_are_scaled_as_the_numbers_that_they_are(rng):
    X = rng.integers(0, 256, size=(60, 5, 5)).astype(np.uint8)
    scaling = learn_scaling(X, choose_layout((5, 5)), "contrast")
    samples = torch.from_numpy(X).double().unsqueeze(1)
    assert scaling.fits_bytes and torch.equal(scaling(samples, are_bytes=True), scaling(samples))
    assert not learn_scaling(X, choose_layout((5, 5), "fc"), "standard").fits_bytes

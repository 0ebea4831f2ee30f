"""The memory of what training samples show, and the training of its network."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._data.statistics import learn_scaling
from skmemae._train.exemplars import train_exemplars
from skmemae.network import PaceExemplars, TurnExemplars, restore_exemplars
from skmemae.network.exemplars import _averages

pytestmark = pytest.mark.filterwarnings("error")


def arrows(n, rng, upright=True):
    """Images of 14 x 14 with a stem and a bar at its upper end, anywhere; turned at random unless upright."""
    images = rng.normal(scale=0.1, size=(n, 14, 14))
    for image in images:
        row, column = rng.integers(1, 5), rng.integers(4, 10)
        image[row : row + 8, column] += 1
        image[row, column - 3 : column + 4] += 1
    return images if upright else np.stack([np.rot90(image, rng.integers(1, 4)) for image in images])


def trained(X, steps=60, seed=0, **layout):
    layout = choose_layout(X.shape[1:], "auto", None, "auto")
    loader = Loader(X, layout, learn_scaling(X, layout, "contrast"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    return train_exemplars("turns", loader, torch.arange(len(X)), steps, "float32", generator), loader


@pytest.fixture(scope="module")
def exemplars_and_loader():
    return trained(arrows(150, np.random.default_rng(0)))


def test_what_is_shown_the_other_way_up_is_far_from_the_training_images(exemplars_and_loader):
    exemplars, loader = exemplars_and_loader
    rng = np.random.default_rng(1)
    X = np.concatenate([arrows(60, rng), arrows(60, rng, upright=False)])
    x = Loader(X, loader.layout, loader.scaling, loader.device).samples(torch.arange(120))
    distances = exemplars(x)
    assert distances.shape == (120,) and (distances > 0).all()
    assert roc_auc_score(np.repeat([0, 1], 60), distances) > 0.9


def test_an_image_is_not_compared_with_itself(exemplars_and_loader):
    exemplars, loader = exemplars_and_loader
    x = loader.samples(torch.arange(20))
    queries = exemplars.queries(exemplars.features(x))
    gaps = torch.cdist(queries, exemplars.items).square() / queries.shape[-1]
    nearest = gaps.sort(dim=-1).values
    assert (nearest[..., 0] < 1e-4).all()
    torch.testing.assert_close(exemplars(x), nearest[..., 1:4].mean(dim=(0, 2)), rtol=1e-3, atol=1e-4)


def test_one_seed_gives_the_same_and_another_something_else():
    X = arrows(40, np.random.default_rng(0))
    (first, loader), (same, _), (other, _) = (trained(X, steps=3, seed=seed) for seed in (0, 0, 1))
    x = loader.samples(torch.arange(10))
    assert torch.equal(first(x), same(x)) and not torch.equal(first(x), other(x))


@pytest.mark.parametrize("shape", [(2, 9, 13), (1, 70, 40), (1, 4, 8, 9), (3, 5, 5), (1, 1, 16)])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_samples_of_any_shape_and_few_exemplars(shape, n):
    exemplars = TurnExemplars(shape, n).eval().requires_grad_(False)
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    exemplars.keep(exemplars.features(x))
    features = exemplars.features(x)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(4, n))
    assert torch.isfinite(exemplars(1e9 * x)).all() and torch.isfinite(exemplars(0 * x)).all()
    images = exemplars.images(x)
    assert images.shape[2] == images.shape[3] == min(*shape[-2:], 32)
    torch.testing.assert_close(images.mean(dim=(2, 3)), x.flatten(1, -3).mean(dim=(2, 3)))


def test_pixels_are_averaged_over_equal_lengths():
    assert _averages(4, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    torch.testing.assert_close(_averages(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))


def test_parameters_come_back(exemplars_and_loader):
    exemplars, loader = exemplars_and_loader
    again = restore_exemplars("turns", loader.layout.sample_shape, exemplars.state_dict())
    x = loader.samples(torch.arange(5))
    assert torch.equal(again(x), exemplars(x)) and not again.training
    with pytest.raises(RuntimeError):
        restore_exemplars("turns", (1, 9, 9), {**exemplars.state_dict(), "head.bias": torch.zeros(3)})


def test_detectors_of_images_use_it_where_there_is_a_memory():
    X = arrows(30, np.random.default_rng(0))
    default = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    assert default.resolved_params_["anomaly_score"] == "combined" and default._model.exemplars.items.shape[1] == 27
    plain = MemAEDetector(max_epochs=2, memory_size=0, random_state=0).fit(X)
    assert plain.resolved_params_["anomaly_score"] == "smooth" and plain._model.exemplars is None


def test_an_update_keeps_its_images_as_well():
    X, sideways = arrows(60, np.random.default_rng(0)), np.rot90(arrows(60, np.random.default_rng(1)), axes=(1, 2))
    detector = MemAEDetector(max_epochs=10, random_state=0).fit(X)
    before, model = detector.decision_function(sideways), detector._model
    detector.partial_fit(sideways[:40])
    assert detector._model.exemplars.items.shape[1] == 54 + 36 and model.exemplars.items.shape[1] == 54
    assert np.median(detector.decision_function(sideways[40:])) < 0.5 * np.median(before[40:])


def test_the_oldest_images_go_first_and_the_network_stays(monkeypatch):
    monkeypatch.setattr(TurnExemplars, "most_items", 60)
    detector = MemAEDetector(max_epochs=2, random_state=0).fit(arrows(60, np.random.default_rng(0)))
    old = detector._model.exemplars
    detector.partial_fit(arrows(40, np.random.default_rng(1)))
    new = detector._model.exemplars
    assert old.items.shape[1] == 54 and new.items.shape[1] == 60
    assert torch.equal(new.items[:, : 60 - 36], old.items[:, -(60 - 36) :])  # 4 of the 40 are held out
    for before, after in zip(old.encoder.state_dict().values(), new.encoder.state_dict().values(), strict=True):
        assert torch.equal(before, after)


def sliding(n, pace, rng, frames=9):
    """Clips of a square that slides so many pixels a frame."""
    clips = rng.normal(scale=0.05, size=(n, 1, frames, 16, 32))
    for clip in clips:
        row, column = rng.integers(0, 12), rng.integers(0, 31 - pace * (frames - 1) - 4)
        for t in range(frames):
            clip[0, t, row : row + 4, column + pace * t : column + pace * t + 4] += 1
    return clips


def test_motion_at_another_pace_is_far_from_the_training_clips():
    rng = np.random.default_rng(0)
    X = np.concatenate([sliding(100, 1, rng), sliding(40, 1, rng), sliding(40, 3, rng)])
    layout = choose_layout(X.shape[1:], "conv3d", None, "auto")
    loader = Loader(X, layout, learn_scaling(X[:100], layout, "standard"), torch.device("cpu"))
    exemplars = train_exemplars("paces", loader, torch.arange(100), 60, "float32", torch.Generator().manual_seed(0))
    distances = exemplars(loader.samples(torch.arange(100, 180)))
    assert roc_auc_score(np.repeat([0, 1], 40), distances) > 0.9


@pytest.mark.parametrize("frames", [3, 4, 5, 9, 13])
def test_windows_fit_into_clips_of_any_length(frames):
    exemplars = PaceExemplars((2, frames, 9, 14), 4).eval().requires_grad_(False)
    assert exemplars.paces[0] == 1 and exemplars.paces[-1] * (exemplars.length - 1) < frames
    x = torch.rand(3, 2, frames, 9, 14, generator=torch.Generator().manual_seed(0))
    exemplars.keep(exemplars.features(x))
    assert exemplars(x).shape == (3,) and torch.isfinite(exemplars(x)).all()
    still = torch.zeros(3, 2, frames, 9, 14)
    assert (exemplars(still) > 0).all() and torch.isfinite(exemplars.train().loss(still, torch.Generator().manual_seed(0)))

"""Reference features of images and clips: what they find far from training samples, and the training of their network."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from skmemae import MemAEDetector
from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._model.statistics import learn_scaling
from skmemae._train import features as training
from skmemae._train.features import weight_of, with_more
from skmemae._train.run import Run
from skmemae.network import PaceFeatures, TurnFeatures
from skmemae.network.features import _averages
from tests.problems import CPU

pytestmark = pytest.mark.filterwarnings("error")


def arrows(n, rng, upright=True):
    """Images of 14 x 14 with a stem and a bar at its upper end, anywhere; turned at random unless upright."""
    images = rng.normal(scale=0.1, size=(n, 14, 14))
    for image in images:
        row, column = rng.integers(1, 5), rng.integers(4, 10)
        image[row : row + 8, column] += 1
        image[row, column - 3 : column + 4] += 1
    return images if upright else np.stack([np.rot90(image, rng.integers(1, 4)) for image in images])


def scaling_and_loader(X, kind="contrast", n=None):
    layout = choose_layout(X.shape[1:])
    scaling = learn_scaling(X[:n], layout, kind)
    return scaling, Loader(X, layout, scaling, CPU)


def train_features(kind, loader, scaling, n, steps, run):
    """Features that are trained with the first n samples for so many steps."""
    plans = {name: plan._replace(steps=(steps, steps), share=math.inf) for name, plan in training._PLANS.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "_PLANS", plans)
        return training.train_features(kind, loader, training.subtracted_by(scaling, kind), torch.arange(n), steps, 0.0, run)


def trained(X, steps=240, seed=0):
    scaling, loader = scaling_and_loader(X)
    return train_features("turns", loader, scaling, len(X), steps, Run(CPU, seed)), loader, scaling


@pytest.fixture(scope="module")
def learned():
    return trained(arrows(150, np.random.default_rng(0)))


def test_what_is_shown_the_other_way_up_is_far_from_the_training_images(learned):
    features, loader, scaling = learned
    rng = np.random.default_rng(1)
    X = np.concatenate([arrows(60, rng), arrows(60, rng, upright=False)])
    x = Loader(X, loader.layout, scaling, CPU).samples(torch.arange(120))
    distances = features(x)
    assert distances.shape == (120,) and (distances > 0).all()
    assert roc_auc_score(np.repeat([0, 1], 60), distances) > 0.9


def test_an_image_is_not_compared_with_itself(learned):
    features, loader, scaling = learned
    x = loader.samples(torch.arange(20))
    queries = features.queries(features.features(x))
    gaps = torch.cdist(queries, features.items).square() / queries.shape[-1]
    nearest = gaps.sort(dim=-1).values
    assert (nearest[..., 0] < 1e-4).all()
    torch.testing.assert_close(features(x), nearest[..., 1:4].mean(dim=(0, 2)), rtol=1e-3, atol=1e-4)


def test_one_seed_gives_the_same_and_another_something_else():
    X = arrows(40, np.random.default_rng(0))
    (first, loader, _), (same, *_), (other, *_) = (trained(X, steps=3, seed=seed) for seed in (0, 0, 1))
    x = loader.samples(torch.arange(10))
    assert torch.equal(first(x), same(x)) and not torch.equal(first(x), other(x))


@pytest.mark.parametrize("shape", [(2, 9, 13), (1, 70, 40), (1, 4, 8, 9), (3, 5, 5), (1, 1, 16)])
@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_samples_of_any_shape_and_few_items(shape, n):
    features = TurnFeatures(shape, n).eval().requires_grad_(False)
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    features.learn(features.features(x))
    torch.testing.assert_close(features.features(x).norm(dim=-1), torch.ones(4, n))
    assert torch.isfinite(features(1e9 * x)).all() and torch.isfinite(features(0 * x)).all()
    images = features.images(x)
    assert images.shape[2] == images.shape[3] == min(*shape[-2:], 32)
    torch.testing.assert_close(images.mean(dim=(2, 3)), x.flatten(1, -3).mean(dim=(2, 3)))


def test_pixels_are_averaged_over_equal_lengths():
    assert _averages(4, 2).tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    torch.testing.assert_close(_averages(3, 2), torch.tensor([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))


def test_an_empty_network_of_the_same_sizes_loads_the_state(learned):
    features, loader, _ = learned
    again = TurnFeatures(loader.layout.sample_shape, features.size).eval()
    again.load_state_dict(features.state_dict())
    x = loader.samples(torch.arange(5))
    assert torch.equal(again(x), features(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        TurnFeatures(loader.layout.sample_shape, features.size + 1).load_state_dict(features.state_dict())


def test_detectors_of_images_use_it_where_there_is_a_memory():
    X = arrows(30, np.random.default_rng(0))
    default = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    assert default.resolved_params_["anomaly_score"] == "smooth-turns" and default._model.features.size == 27
    plain = MemAEDetector(max_epochs=2, memory_size=0, random_state=0).fit(X)
    assert plain.resolved_params_["anomaly_score"] == "smooth" and plain._model.features is None


def test_an_update_keeps_its_images_as_well():
    X, sideways = arrows(60, np.random.default_rng(0)), np.rot90(arrows(60, np.random.default_rng(1)), axes=(1, 2))
    detector = MemAEDetector(max_epochs=10, random_state=0).fit(X)
    before, model = detector.decision_function(sideways), detector._model
    detector.partial_fit(sideways[:40])
    assert detector._model.features.size == 54 + 36 and model.features.size == 54  # of ten one is held out
    assert np.median(detector.decision_function(sideways[40:])) < 0.5 * np.median(before[40:])


def test_the_oldest_images_go_first_and_the_network_stays():
    scaling, loader = scaling_and_loader(arrows(70, np.random.default_rng(0)))
    old = train_features("turns", loader, scaling, 50, 2, Run(CPU, 0))
    old.most_items = 60
    half = with_more(old, 0.5, loader, torch.arange(50, 70), torch.Generator().manual_seed(0))
    assert half.size == 45 and torch.equal(half.items[:, :25], old.items[:, 25:])
    new = with_more(old, 1.0, loader, torch.arange(50, 70), torch.Generator().manual_seed(0))
    assert old.size == 50 and new.size == 60
    assert torch.equal(new.items[:, :40], old.items[:, 10:])
    found = old.queries(old.features(loader.samples(torch.arange(50, 70))))
    assert torch.cdist(new.items[:, 40:], found).amin(dim=2).max() < 1e-3
    for before, after in zip(old.encoder.state_dict().values(), new.encoder.state_dict().values(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("kind, shape", [("turns", (2, 9, 9)), ("paces", (1, 4, 8, 8))])
def test_what_the_scaling_subtracted_is_added_again(rng, kind, shape):
    X = rng.normal(size=(30, *shape)) + 5
    scaling, loader = scaling_and_loader(X, "contrast" if kind == "turns" else "standard")
    features = train_features(kind, loader, scaling, 30, 1, Run(CPU, 0))
    wanted = scaling.mean_sample if kind == "turns" else scaling.center / scaling.scale
    torch.testing.assert_close(features.mean, wanted.float())
    assert not any(p.requires_grad for p in features.parameters()) and not features.training


def test_the_own_item_of_a_sample_comes_into_its_score_without_a_jump():
    features = TurnFeatures((1, 8, 8), 20)
    width = features.items.shape[2]
    features.whitening = torch.eye(width).expand(4, -1, -1)
    features.extend(torch.randn(4, 20, width, generator=torch.Generator().manual_seed(0)))
    moves = torch.linspace(0, 0.03, 201).view(1, -1, 1)  # up to nine times the limit
    scores = features.nearest(features.items[:, :1] + moves)
    alone, among = scores[:, 0], scores[:, -1]
    assert (among < 0.9 * alone).all()  # from its neighbours alone to itself among them
    assert (scores.diff(dim=1).abs().amax(dim=1) < 0.1 * (alone - among)).all()


class Distances(torch.nn.Module):
    """Distances from nothing but a number that training has learned: they follow the samples or are random."""

    most_items = 4

    def __init__(self, noise):
        super().__init__()
        self.noise, self.generator = noise, torch.Generator().manual_seed(0)

    def __deepcopy__(self, memo):
        return self

    def features(self, x):
        return x.flatten(1).unsqueeze(0)

    def learn(self, features):
        assert len(features[0]) <= 4

    def forward(self, x):
        return x.flatten(1)[:, 0] + self.noise * torch.randn(len(x), generator=self.generator)


@pytest.mark.parametrize("noise, may_settle, settles", [(0, True, True), (0, False, False), (0.1, True, True), (1, True, 0)])
def test_training_is_shorter_once_the_ranking_no_longer_changes(rng, noise, may_settle, settles):
    _, loader = scaling_and_loader(rng.normal(size=(400, 1, 5, 5)))
    pace, features = training._Pace(loader, torch.arange(400), torch.Generator().manual_seed(0), may_settle), Distances(noise)
    if may_settle:
        assert len(pace.ranked) == 128 and len(pace.compared) == 256 and not torch.isin(pace.ranked, pace.compared).any()
    paces = [pace.of_step(features) for _ in range(300)]
    assert paces == [1] * 199 + [3 if settles else 1] * 101


@pytest.mark.parametrize("n, steps", [(30, 240), (399, 240), (600, 450), (9000, 1400)])
def test_steps_are_those_of_twelve_epochs_within_bounds(n, steps):
    plan = training._plan("turns", "conv2d", n)
    assert plan.steps_for(n, 320) == steps and plan.steps_for(n, 3) == 15
    assert weight_of("turns", "conv2d", n) == plan.weight > 0
    assert weight_of("patches", "conv2d", n) == weight_of(None, "conv2d", n) == 0


def test_progress_of_features_is_shown(capfd, rng):
    scaling, loader = scaling_and_loader(rng.normal(size=(30, 8, 8)))
    run = Run(CPU, 0, verbose=1)
    with run.observed(0, 0, weight_of("turns", "conv2d", 30)):
        train_features("turns", loader, scaling, 30, 8, run)
    out, err = capfd.readouterr()
    assert out == "" and "MemAE: 100%" in err and "reference features" in err


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
    scaling, loader = scaling_and_loader(X, "standard", n=100)
    features = train_features("paces", loader, scaling, 100, 60, Run(CPU, 0))
    distances = features(loader.samples(torch.arange(100, 180)))
    assert roc_auc_score(np.repeat([0, 1], 40), distances) > 0.9


@pytest.mark.parametrize("frames", [3, 4, 5, 9, 13])
def test_windows_fit_into_clips_of_any_length(frames):
    features = PaceFeatures((2, frames, 9, 14), 4).eval().requires_grad_(False)
    assert features.paces[0] == 1 and features.paces[-1] * (features.length - 1) < frames
    x = torch.rand(3, 2, frames, 9, 14, generator=torch.Generator().manual_seed(0))
    features.learn(features.features(x))
    assert features(x).shape == (3,) and torch.isfinite(features(x)).all()
    still = torch.zeros(3, 2, frames, 9, 14)
    assert (features(still) > 0).all() and torch.isfinite(features.train().loss(still, torch.Generator().manual_seed(0)))


def test_clips_of_one_huge_number_get_finite_scores():
    X = np.full((3, 1, 3, 5, 5), 1e20)
    with pytest.warns(UserWarning, match="records that occur more than once"):
        detector = MemAEDetector(max_epochs=1, anomaly_score="relative-paces", random_state=0).fit(X)
    assert np.isfinite(detector.decision_scores_).all()

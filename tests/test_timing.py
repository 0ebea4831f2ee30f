"""Fits whose time is bounded, and fits that say that they may take long."""

import io
import time
import warnings
from functools import partial
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skmemae import LongFitWarning, MemAEDetector, _detector
from skmemae._train import fit
from skmemae._train.loop import Adam, Split, correct_statistics, train_networks
from skmemae._train.run import Checkpoint, Run
from skmemae._train.timing import LEAST_STEPS, LongFit, Part, Timing, in_words
from tests.problems import CPU, SETTINGS, data, detector, learned_items, problem, train

DATA = data()
KINDS = {
    "rows": ("table", {}),
    "learned": ("table", {"memory_unit": "sample"}),
    "no memory": ("table", {"memory_size": 0}),
    "images": ("images", {}),
    "bytes": ("bytes", {"ensemble_size": 2}),
    "maps of images": ("images", {"memory_unit": "location", "anomaly_score": "local"}),
    "clips": ("clips", {}),
    "paces": ("clips", {"anomaly_score": "local-paces"}),
}


class Clock:
    """Time that passes by so many seconds whenever it is asked for."""

    def __init__(self, tick=0.0):
        self.now = 100.0
        self.tick = tick

    def __call__(self):
        self.now += self.tick
        return self.now


def bounded(limit, tick=1.0, **parameters):
    """Network, loader and run whose time is bounded; a step takes ``tick`` seconds."""
    network, loader, run = problem(**parameters)
    run.timing = Timing(limit, Clock(tick))
    return network, loader, run


@pytest.fixture
def clock(monkeypatch):
    """The clock of the detector's fits, which stands still until it gets a tick."""
    clock = Clock()
    monkeypatch.setattr(_detector, "Timing", partial(Timing, clock=clock))
    return clock


# What a bounded fit is.


@pytest.mark.parametrize("kind", KINDS)
def test_hardly_any_time_gives_a_detector_all_the_same(kind):
    name, params = KINDS[kind]
    with pytest.warns(UserWarning, match="time_limit=1e-09 seconds were over before a network had made 6 steps of training"):
        det = detector(max_epochs=200, time_limit=1e-9, **params).fit(DATA[name])
    assert np.isfinite(det.decision_scores_).all() and np.isfinite(det.decision_function(DATA[name][:5])).all()
    assert det.predict(DATA[name]).shape == det.labels_.shape and det.decision_scores_.std() > 0
    assert det.n_iter_ == len(det.loss_curve_) < 200 and len(det.validation_curve_) in (0, det.n_iter_)
    if det.resolved_params_["memory_size"]:
        assert (det.memory_ != 0).any(axis=1).all() and np.count_nonzero(det.memory_usage_) > 1
    with pytest.warns(UserWarning, match="time_limit=1e-09"):
        det.partial_fit(DATA[name])
    assert np.isfinite(det.decision_function(DATA[name])).all()
    again = io.BytesIO()
    det.save(again)
    again = MemAEDetector.load(io.BytesIO(again.getvalue()))
    assert again.time_limit == clone(det).time_limit == again.resolved_params_["time_limit"] == 1e-9
    np.testing.assert_array_equal(again.decision_function(DATA[name]), det.decision_function(DATA[name]))


@pytest.mark.parametrize("kind", ["rows", "learned", "images", "clips"])
def test_a_limit_that_is_not_reached_changes_no_bit(kind):
    name, params = KINDS[kind]
    whole, bound = (detector(time_limit=limit, **params).fit(DATA[name]) for limit in (None, 1e6))
    np.testing.assert_array_equal(whole.decision_scores_, bound.decision_scores_)
    assert whole.loss_curve_ == bound.loss_curve_ and whole.validation_curve_ == bound.validation_curve_


@pytest.mark.parametrize("kind", ["learned", "images"])
def test_a_limit_is_kept(kind):
    name, params = KINDS[kind]
    det, start = detector(max_epochs=100_000, validation_fraction=0.0, time_limit=1.5, **params), time.monotonic()
    det.fit(DATA[name])
    assert 1.4 < time.monotonic() - start < 6 and LEAST_STEPS < det.n_iter_ < 100_000
    start = time.monotonic()
    det.set_params(time_limit=0.5).partial_fit(DATA[name])
    assert 0.4 < time.monotonic() - start < 4


@pytest.mark.filterwarnings("ignore::skmemae.LongFitWarning")
def test_all_networks_have_the_same_time(clock):
    clock.tick, steps = 1.0, []

    class Counted(Part):
        def end(self):
            steps.append(self.steps)
            super().end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skmemae._train.run.Part", Counted)
        patch.setattr("skmemae._train.features.Part", Counted)
        detector(max_epochs=1000, ensemble_size=3, time_limit=440).fit(DATA["images"])
    assert len(steps) == 4 and np.ptp(steps[:3]) <= 5
    assert steps[3] == pytest.approx(2 * steps[0], rel=0.1) and 380 < sum(steps) <= 440


def test_networks_share_what_one_leaves():
    timing = Timing(100.0, Clock())
    timing.begin(4.0)
    assert timing.seconds_of(1.0) == 25
    timing.done = 1.0  # and took no time
    assert timing.seconds_of(1.0) == pytest.approx(100 / 3)
    timing.done = 3.9
    assert timing.seconds_of(1.0) == 100
    timing.clock.now += 200
    assert timing.seconds_of(1.0) == 0


# Phases and schedule.


def rates_of(monkeypatch, limit, **settings):
    """Learning rates of the steps, in units of the peak, and the training."""
    network, loader, run = bounded(limit)
    rates, step, trained = [], Adam.step, []
    monkeypatch.setattr(
        "skmemae._train.loop.Adam.step", lambda self, rate: rates.append(rate / SETTINGS.learning_rate) or step(self, rate)
    )

    def items_of(training):
        trained.append(training)
        return learned_items(training)

    settings = SETTINGS._replace(**settings)
    with run.observed(1, settings.max_epochs):
        train_networks([network], loader, split_of(loader), settings, run, items_of)
    return np.array(rates), trained[0]


def split_of(loader):
    rows = torch.arange(len(loader))
    return Split(rows[20:], rows[:20])


@pytest.mark.parametrize("batch_size", [32, 2])
def test_the_learning_rate_falls_to_zero_as_the_time_runs_out(monkeypatch, batch_size):
    rates, training = rates_of(monkeypatch, 60.0, max_epochs=200, batch_size=batch_size)
    assert 50 < len(rates) < 60 and training.part.is_up
    assert rates[-1] == 0 and rates[0] < 0.4 and rates.max() > 0.97 and (np.diff(rates[10:]) < 0).all()


def test_the_memory_is_filled_after_a_tenth_of_the_time_also_within_an_epoch(monkeypatch):
    filled, revived = [], []
    network, loader, run = bounded(80.0, n=400)

    def items_of(training):
        items = learned_items(training)
        items.draw = lambda count, draw=items.draw: filled.append(training.part.progress) or draw(count)
        items.revive = lambda mass: revived.append(training.part.progress)
        return items

    settings = SETTINGS._replace(max_epochs=1000, batch_size=2, validation_fraction=0.0)
    curves = train_networks([network], loader, split_of(loader), settings, run, items_of)
    assert filled == [pytest.approx(0.1, abs=0.03)] and revived == [pytest.approx(0.6, abs=0.03)]
    assert len(curves.loss) == 1  # of a part of an epoch


def test_a_stop_of_the_clock_in_warm_up_leaves_time_to_fill_the_memory():
    network, loader, run = bounded(1e4, tick=0.0)
    before = network.memory.items.detach().clone()

    class Halt(list):
        def __call__(self, done):
            run.timing.clock.now += 1e5 * (done > 0.08)

    run.timing.begin(1.0, Halt())
    train_networks([network], loader, split_of(loader), SETTINGS._replace(max_epochs=100), run, learned_items)
    with torch.no_grad():
        encodings = network.encoder(loader.samples(torch.arange(200)))
    assert not torch.equal(network.memory.items, before)
    assert (torch.cdist(network.memory.items, encodings).amin(dim=1) < 0.3 * encodings.std()).all()


def test_the_best_state_is_kept_if_the_end_is_worse():
    network, loader, run = bounded(100.0, tick=1.0, memory_size=0)
    calls = []

    def items_of(training):
        measure = training.held_out_error

        def worse_in_the_end(model, is_brief=False):
            calls.append({k: v.clone() for k, v in network.state_dict().items()})
            return measure(model, is_brief) if len(calls) == 1 else 1e3

        training.held_out_error = worse_in_the_end
        return learned_items(training)

    settings = SETTINGS._replace(max_epochs=1000, batch_size=4, validation_fraction=0.1)  # 45 steps an epoch
    curves = train_networks([network], loader, split_of(loader), settings, run, items_of)
    assert len(calls) == 3 and len(curves.loss) == len(curves.validation) == 2  # the third error is of a part of an epoch
    assert all(torch.equal(value, calls[0][name]) for name, value in network.state_dict().items())


def test_statistics_of_few_batches_are_theirs_alone():
    layer = nn.BatchNorm1d(3)
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * 7 + 5
    layer(x)
    for _ in range(2):  # the second time changes nothing
        correct_statistics(nn.Sequential(layer, nn.BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, affine=False)))
        torch.testing.assert_close(layer.running_mean, x.mean(dim=0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(layer.running_var, x.var(dim=0), rtol=1e-4, atol=1e-4)


# What is said.


def test_a_line_says_that_the_time_was_over(capsys, clock):
    clock.tick = 1.0
    detector(max_epochs=1000, ensemble_size=2, memory_unit="sample", time_limit=100, verbose=2).fit(DATA["table"])
    assert capsys.readouterr().out.splitlines()[-1] == "training stopped: time_limit=100 seconds are over"


def test_a_bounded_fit_that_had_some_time_warns_of_nothing(clock):
    clock.tick = 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        det = detector(max_epochs=1000, memory_unit="sample", time_limit=10).fit(DATA["table"])
    assert det.n_iter_ < 1000


def test_a_bar_ends_at_all_of_a_bounded_fit(capfd, clock):
    clock.tick = 1.0
    detector(max_epochs=1000, time_limit=100, verbose=1).fit(DATA["images"])
    assert "MemAE: 100%" in capfd.readouterr().err


def long_fit(tick, limit=None, steps=100, verbose=0):
    """Warnings of a run whose steps take ``tick`` seconds."""
    run = Run(CPU, 0, verbose=verbose, timing=Timing(limit, Clock()))
    with warnings.catch_warnings(record=True) as caught, run.observed(1, 1):
        warnings.simplefilter("always")
        part = run.part()
        for step in range(1, steps + 1):
            run.timing.clock.now += tick
            part.step(step / steps)
            if part.is_up:
                break
        part.end()
    return [warning for warning in caught if issubclass(warning.category, LongFitWarning)]


@pytest.mark.parametrize(
    "tick, limit, verbose, said",
    [
        (0.5, None, 0, None),
        (0.7, None, 0, "up to about 2 minutes on cpu. time_limit=60 bounds it; verbose=1 shows its progress"),
        (40.0, None, 0, "up to about 67 minutes on cpu"),
        (200.0, None, 0, "up to about 6 hours on cpu"),
        (0.7, 60, 0, None),
        (200.0, 600, 0, "up to about 10 minutes on cpu. A smaller time_limit bounds it"),
        (0.7, None, 2, None),
    ],
)
def test_a_long_fit_says_so_once(tick, limit, verbose, said):
    found = long_fit(tick, limit, verbose=verbose)
    assert [str(warning.message)[len("This fit may take ") :][: len(said)] for warning in found] == ([said] if said else [])


def test_the_first_steps_are_not_counted():
    timing = Timing(None, Clock())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = LongFit(timing, CPU)
        for step in range(1, 1001):
            timing.clock.now += 5.0 if step == 1 else 0.01
            long.step(step / 1000)
    assert long.is_decided


def test_the_estimate_counts_all_networks_and_points_at_the_line_of_the_caller(clock):
    clock.tick = 0.2
    with pytest.warns(LongFitWarning, match="up to about [23] minutes on cpu") as caught:
        detector(max_epochs=40, ensemble_size=4, validation_fraction=0.0).fit(DATA["images"])
    assert len([w for w in caught if w.category is LongFitWarning]) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error", LongFitWarning)
        det = detector(max_epochs=40, ensemble_size=1, validation_fraction=0.0).fit(DATA["images"])
        det.partial_fit(DATA["images"])


def test_a_clock_is_not_asked_once_an_estimate_is_made():
    timing = Timing(None, Mock(return_value=0.0))
    long = LongFit(timing, CPU)
    long.is_decided = True
    timing.begin(1.0, long.step)
    part = Part(timing)
    asked = timing.clock.call_count
    for step in range(9):
        part.step(step / 10)
    assert timing.clock.call_count == asked


def test_times_in_words_are_never_too_short():
    assert [in_words(seconds) for seconds in (61, 120, 121, 6000, 6001, 86400)] == [
        "2 minutes",
        "2 minutes",
        "3 minutes",
        "100 minutes",
        "2 hours",
        "24 hours",
    ]


# A killed fit.


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.filterwarnings("ignore::skmemae.LongFitWarning")
@pytest.mark.parametrize("kind", ["images", "learned"])
def test_a_killed_fit_has_the_time_that_was_left(tmp_path, monkeypatch, clock, kind):
    name, params = KINDS[kind]
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    det, path, write, left = detector(max_epochs=1000, time_limit=200, **params), tmp_path / "fit.ckpt", Checkpoint.write, [9]

    def write_or_end(self, state):
        write(self, state)
        left[0] -= 1
        if not left[0]:
            raise Killed

    monkeypatch.setattr(Checkpoint, "write", write_or_end)
    clock.tick = 1.0
    with pytest.raises(Killed):
        det.fit(DATA[name], checkpoint=path)
    used = torch.load(io.BytesIO(path.read_bytes()[32:]), weights_only=True)["used"]
    assert 0 < used < 60
    clock.now += 1e6  # until somebody starts it again
    start = clock.now
    det.fit(DATA[name], checkpoint=path)
    assert 200 - used - 20 < clock.now - start < 200 - used + 20
    assert np.isfinite(det.decision_scores_).all() and not path.exists() and det.n_iter_ < 1000


def test_a_fit_that_is_killed_after_its_networks_goes_on_with_the_features(tmp_path, monkeypatch):
    monkeypatch.setattr(Checkpoint, "seconds", 0.0)
    path, det = tmp_path / "fit.ckpt", detector(max_epochs=1000, time_limit=1.0)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(fit, "train_features", Mock(side_effect=Killed))
        det.fit(DATA["images"], checkpoint=path)
    det.fit(DATA["images"], checkpoint=path)
    assert np.isfinite(det.decision_scores_).all()


def test_without_a_limit_training_takes_no_notice_of_the_time():
    one, two = (problem(seed=3) for _ in range(2))
    two[2].timing = Timing(None, Clock(1e5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongFitWarning)
        curves = [train(network, loader, run) for network, loader, run in (one, two)]
    assert curves[0] == curves[1]
    assert all(torch.equal(a, b) for a, b in zip(one[0].state_dict().values(), two[0].state_dict().values(), strict=True))

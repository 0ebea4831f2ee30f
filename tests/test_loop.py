"""The training loop."""

import math

import numpy as np
import pytest
import torch

from skmemae._model.copies import Copies
from skmemae._train import loop
from skmemae._train.loop import Curves, EarlyStopping, Training, objective, split_batches, split_rows, train_networks
from skmemae.network import build_network
from skmemae.video import ClipWindows
from tests.problems import CPU, SETTINGS, Run, learned_items, loader_of, problem, train


def run(n=200, settings=SETTINGS, rows=None, **parameters):
    """Network, loader and curves after training."""
    network, loader, run = problem(n, **parameters)
    return network, loader, train(network, loader, run, settings, rows)


def test_training_changes_every_part_and_lowers_both_errors():
    before = dict(problem(temperature=0.05)[0].named_parameters())
    network, _, curves = run(temperature=0.05)
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())
    assert curves.loss[-1] < 0.5 * curves.loss[0]
    assert curves.validation[-1] < 0.5 * curves.validation[0]
    assert len(curves.loss) == len(curves.validation) == 20
    assert not network.training


def test_one_seed_gives_the_same_bits():
    def parameters(seed):
        return torch.cat([p.detach().flatten() for p in run(seed=seed)[0].parameters()])

    assert torch.equal(parameters(0), parameters(0)) and not torch.equal(parameters(0), parameters(1))


def test_the_objective_is_equation_10():
    network, loader, _ = problem()
    x = loader.samples(torch.arange(30))
    output = network.train()(x)
    error = (x - output.reconstruction).square().sum(dim=1).mean()
    entropy = torch.special.entr(network.memory.weights(output.query)).sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.3), (error + 0.3 * entropy, error))
    error = (x - output.reconstruction).abs().sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.0, power=1.0), (error, error))
    torch.testing.assert_close(objective(output, x, 0.0, power=1.0, weight=2.0), (2 * error, 2 * error))


def test_training_stops_early_once_the_memory_is_left_alone():
    # No epoch can improve by as much as this, so patience runs out at once.
    settings = SETTINGS._replace(max_epochs=50, tolerance=0.9, patience=3)
    assert len(run(settings=settings)[2].loss) == 30 + 1 + 3  # items are maintained for 60 %, one is best, three are not
    curves = run(settings=settings._replace(validation_fraction=0.0))[2]
    assert len(curves.loss) == 50 and curves.validation == []


class Rows:
    """What of a loader decides which rows are held out."""

    max_held_out = 100

    def __init__(self, X):
        self.X = X

    def __len__(self):
        return len(self.X)


def copies_of(group):
    _, group, counts = torch.unique(group, return_inverse=True, return_counts=True)
    first = torch.tensor([int(torch.nonzero(group == i)[0]) for i in range(len(counts))])
    return Copies(torch.zeros(len(counts), 4), counts, group, first)


@pytest.mark.parametrize("n_videos", [2, 3])
def test_windows_of_a_video_that_came_twice_are_held_out_together(n_videos):
    group = torch.arange(9 * n_videos)
    group[9:18] -= 9
    X = np.zeros((len(group), 2)).view(Windows)
    X.groups = np.repeat(np.arange(n_videos), 9)
    for seed in range(5):
        split = split_rows(Rows(X), torch.arange(len(group)), 0.3, Run(CPU, seed), copies_of(group))
        assert len(split.held_out) and not set(group[split.held_out].tolist()) & set(group[split.training].tolist())


class Windows(np.ndarray):
    """Rows of several videos."""


def test_windows_of_one_video_are_held_out_together():
    clips = ClipWindows(length=4).fit_transform([np.random.default_rng(i).normal(size=(12, 8, 8)) for i in range(3)])
    split = split_rows(Rows(clips), torch.arange(27), 0.4, Run(CPU, 0))
    groups = clips.video[torch.cat([split.held_out, split.training]).numpy()]
    assert len(split.held_out) == 10 and (np.diff(groups) != 0).sum() == 2


def test_copies_are_held_out_together():
    group = torch.arange(60) // 3
    group[:30] = 0  # a kind that is too frequent to be held out
    split = split_rows(Rows(np.zeros((60, 2))), torch.arange(60), 0.2, Run(CPU, 0), copies_of(group))
    held_out, training = set(group[split.held_out].tolist()), set(group[split.training].tolist())
    assert 10 <= len(split.held_out) <= 12 and not held_out & training and 0 in training


def test_the_best_parameters_are_those_with_the_smallest_held_out_error():
    network, loader, run = problem(memory_size=0, n=20, seed=1)
    settings = SETTINGS._replace(max_epochs=200, learning_rate=0.02, validation_fraction=0.3, tolerance=0.0, patience=200)
    split = split_rows(loader, torch.arange(20), 0.3, run)
    assert len(split.held_out) == 6
    curves = train_networks([network], loader, split, settings, run, learned_items)
    best = min(curves.validation)
    assert best < 0.95 * curves.validation[-1]
    training = Training(network, loader, split, settings, run)
    assert training.held_out_error(network) == pytest.approx(best, rel=1e-5)


def test_patience_counts_the_epochs_without_a_smaller_error():
    network, _, _ = problem()
    stopping = EarlyStopping(network, SETTINGS._replace(patience=2, tolerance=0.1))
    assert [stopping.should_stop(error) for error in (5.0, 4.4, 4.3, 3.9, 3.8, 3.7, 3.6)] == [False] * 5 + [True] * 2
    assert stopping.best == 3.9


@pytest.mark.parametrize("learning_rate", [1e30, 1e3])
@pytest.mark.parametrize("memory_size", [0, 20])
def test_divergence_is_an_error_that_names_the_learning_rate_also_if_the_error_stays_finite(learning_rate, memory_size):
    with pytest.raises(ValueError, match=r"Training diverged: .* Lower learning_rate \(now 1"):
        run(settings=SETTINGS._replace(learning_rate=learning_rate), memory_size=memory_size)


def test_divergence_on_wild_values_names_the_scaling():
    X = 1e8 * np.random.default_rng(0).normal(size=(200, 8))
    network, _, run = problem()
    with pytest.raises(ValueError, match=r"Training diverged: .*Scaled values are .*e\+0[78] .*let scaling='auto' bring X"):
        train(network, loader_of(X, scaling=None), run, SETTINGS._replace(learning_rate=1e30))


@pytest.mark.parametrize(
    "n, batch_size, least, sizes",
    [
        (10, 4, 2, [4, 4, 2]),
        (9, 4, 2, [4, 5]),
        (1, 4, 2, [1]),
        (3, 100, 2, [3]),
        (5, 2, 2, [2, 3]),
        (10, 4, 3, [4, 6]),
        (33, 32, 2, [33]),
        (34, 32, 2, [32, 2]),
    ],
)
def test_no_row_is_dropped_and_no_last_batch_is_too_small(n, batch_size, least, sizes):
    batches = split_batches(torch.arange(n), batch_size, least)
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), torch.arange(n))


@pytest.mark.parametrize("unit", ["sample", "location"])
def test_feature_maps_train_too(unit):
    X = np.random.default_rng(0).integers(0, 256, size=(40, 9, 8)).astype(np.uint8)
    run = Run(CPU, 0)
    network = build_network((1, 9, 8), "conv2d", (8, 6), memory_size=10, memory_unit=unit, generator=run.generator)
    curves = train(network, loader_of(X), run, SETTINGS._replace(max_epochs=10))
    assert curves.loss[-1] < 0.99 * curves.loss[0]


def test_curves_are_the_means_over_the_members_that_ran_so_long():
    network, loader, run = problem()
    run.stored = {"curves": [[[1.0, 2.0], []], [[3.0, 4.0, 5.0], []]]}  # both networks are trained
    split = split_rows(loader, torch.arange(200), 0.0, run)
    assert train_networks([network, network], loader, split, SETTINGS, run, learned_items) == Curves([2.0, 3.0, 5.0], [])


def test_rows_that_are_not_to_be_trained_on_are_left_alone():
    network, loader, a_run = problem()
    loader._resident[100:] = torch.nan  # one step on these and nothing is finite any more
    curves = train(network, loader, a_run, SETTINGS._replace(max_epochs=5), torch.arange(100))
    assert all(map(math.isfinite, curves.loss))


@pytest.mark.parametrize(
    ("rate", "causes"), [(0.5, r"\(now 0.5\)\."), (0.01, r"\(now 0.01\) or entropy_weight .* or raise temperature")]
)
def test_what_may_be_at_fault_follows_the_learning_rate(rate, causes):
    _, loader, _ = problem()
    settings = SETTINGS._replace(learning_rate=rate)
    with pytest.raises(ValueError, match=rf"Training diverged: .* Lower learning_rate {causes}"):
        loop.check_divergence(loop.Means(math.inf, math.inf, 8.0), False, loader, settings)
    loop.check_divergence(loop.Means(math.inf, math.inf, 8.0), True, loader, settings)


def test_two_samples_are_left_to_train_on():
    _, loader, run = problem(n=10)
    split = split_rows(loader, torch.arange(10), 0.99, run)
    assert (len(split.training), len(split.held_out)) == (2, 8)
    assert torch.equal(torch.cat(split).sort().values, torch.arange(10))

"""The training loop."""

import math

import numpy as np
import pytest
import torch
from skmemae._data.statistics import learn_scaling
from skmemae._train.upkeep import Items

from skmemae._data.layout import choose_layout
from skmemae._data.loader import Loader
from skmemae._train import loop
from skmemae._train.loop import EarlyStopping, History, held_out_error, objective, split_batches, train_members
from skmemae.network import build_network
from tests.problems import ALONE, SETTINGS, problem


def run(n=200, settings=SETTINGS, rows=None, **memory):
    """Network, loader and history after training."""
    network, loader, generator = problem(n, **memory)
    rows = torch.arange(n) if rows is None else rows
    return network, loader, train_members([network], loader, settings, generator, rows, ALONE)


def test_training_changes_every_part_and_lowers_both_errors():
    before = dict(problem(temperature=0.05)[0].named_parameters())
    network, _, history = run(temperature=0.05)
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())
    assert history.loss_curve[-1] < 0.5 * history.loss_curve[0]
    assert history.validation_curve[-1] < 0.5 * history.validation_curve[0]
    assert len(history.loss_curve) == len(history.validation_curve) == 20
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
    entropy = torch.special.entr(network.memory.weights(output.encoding)).sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.3, 0.0), (error + 0.3 * entropy, error))
    l1 = output.encoding.abs().sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.0, 0.7), (error + 0.7 * l1, error))
    error = (x - output.reconstruction).abs().sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.0, 0.0, power=1.0), (error, error))


def test_training_stops_early_once_the_memory_is_left_alone():
    # No epoch can improve by as much as this, so patience runs out at once.
    settings = SETTINGS._replace(max_epochs=50, tol=0.9, n_iter_no_change=3)
    assert len(run(settings=settings)[2].loss_curve) == 30 + 1 + 3  # the memory is kept up for 60 %, one is best, three are not
    history = run(settings=settings._replace(validation_fraction=0.0))[2]
    assert len(history.loss_curve) == 50 and history.validation_curve == []


def test_the_best_parameters_are_those_with_the_smallest_held_out_error():
    network, loader, generator = problem(memory_size=0, n=20, seed=1)
    state = generator.get_state()
    settings = SETTINGS._replace(max_epochs=200, learning_rate=0.02, validation_fraction=0.3, tol=0.0, n_iter_no_change=200)
    history = train_members([network], loader, settings, generator, torch.arange(20), ALONE)
    held_out = torch.randperm(20, generator=generator.set_state(state))[:6]
    best = min(history.validation_curve)
    assert best < 0.95 * history.validation_curve[-1]
    assert held_out_error(network, loader, loader.hold_out(held_out), SETTINGS, 5, ALONE, Items()) / 6 == pytest.approx(
        best, rel=1e-5
    )


def test_patience_counts_the_epochs_without_a_smaller_error():
    network, _, _ = problem()
    stopping = EarlyStopping(network, SETTINGS._replace(n_iter_no_change=2, tol=0.1))
    assert [stopping.should_stop(error) for error in (5.0, 4.4, 4.3, 3.9, 3.8, 3.7, 3.6)] == [False] * 5 + [True] * 2
    assert stopping.best == 3.9


@pytest.mark.parametrize("learning_rate", [1e30, 1e3])
@pytest.mark.parametrize("memory_size", [0, 20])
def test_divergence_is_an_error_that_names_the_learning_rate_also_if_the_error_stays_finite(learning_rate, memory_size):
    with pytest.raises(ValueError, match=r"Training diverged: .* Lower learning_rate \(now 1"):
        run(settings=SETTINGS._replace(learning_rate=learning_rate), memory_size=memory_size)


def test_divergence_on_wild_values_names_the_scaling():
    network, loader, generator = problem()
    loader._resident.mul_(1e8)
    with pytest.raises(ValueError, match=r"Training diverged: .*Scaled values are 9.86e\+07 .*let scaling='auto' bring X"):
        train_members([network], loader, SETTINGS._replace(learning_rate=1e30), generator, torch.arange(200), ALONE)


def test_the_error_is_held_against_that_of_a_blank_reconstruction(monkeypatch):
    assert loop._DIVERGED == 100
    monkeypatch.setattr(loop, "_DIVERGED", 1.0)
    run()  # learns something, so it ends below
    monkeypatch.setattr(loop, "_DIVERGED", 0.01)
    with pytest.raises(ValueError, match="Training diverged"):
        run()


@pytest.mark.parametrize(
    "n, batch_size, least, sizes",
    [(10, 4, 2, [4, 4, 2]), (9, 4, 2, [4, 5]), (1, 4, 2, [1]), (3, 100, 2, [3]), (5, 2, 2, [2, 3]), (10, 4, 3, [4, 6])],
)
def test_no_row_is_dropped_and_no_last_batch_is_too_small(n, batch_size, least, sizes):
    batches = split_batches(torch.arange(n), batch_size, least)
    assert [len(batch) for batch in batches] == sizes
    assert torch.equal(torch.cat(batches), torch.arange(n))


@pytest.mark.parametrize("unit", ["sample", "location"])
def test_feature_maps_train_too(unit):
    X = np.random.default_rng(0).integers(0, 256, size=(40, 9, 8)).astype(np.uint8)
    layout = choose_layout((9, 8))
    loader = Loader(X, layout, learn_scaling(X, layout, "standard"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    network = build_network((1, 9, 8), "conv2d", (8, 6), memory_size=10, memory_unit=unit, generator=generator)
    history = train_members([network], loader, SETTINGS._replace(max_epochs=10), generator, torch.arange(40), ALONE)
    assert history.loss_curve[-1] < 0.99 * history.loss_curve[0]


def test_bfloat16_training_ends_where_float32_training_ends():
    exact, rounded = (
        run(settings=SETTINGS._replace(precision=precision), temperature=0.05) for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rounded[2].loss_curve, exact[2].loss_curve, rtol=0.03)
    assert rounded[2].loss_curve != exact[2].loss_curve
    assert all(p.dtype == torch.float32 for p in rounded[0].parameters())


@pytest.mark.parametrize("verbose, shown", [(0, ""), (2, "epoch 3/3: loss ")])
def test_verbose_says_what_it_should(capfd, verbose, shown):
    run(settings=SETTINGS._replace(max_epochs=3, verbose=verbose))
    out, err = capfd.readouterr()
    assert err == "" and (shown in out if shown else out == "")


def test_verbose_one_is_a_bar(capfd):
    run(settings=SETTINGS._replace(max_epochs=3, verbose=1))
    out, err = capfd.readouterr()
    assert out == "" and "MemAE: 100%" in err and "3/3" in err and "validation=" in err


def test_a_line_names_the_network_of_several(capfd):
    network, loader, generator = problem()
    settings = SETTINGS._replace(max_epochs=1, verbose=2, validation_fraction=0.0)
    train_members([network, network], loader, settings, generator, torch.arange(200), ALONE)
    lines = capfd.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"network {i}/2, epoch 1/1" for i in (1, 2)]


def test_curves_are_the_means_over_the_members_that_ran_so_long(monkeypatch):
    network, loader, generator = problem()
    found = iter([History([1.0, 2.0], [], None), History([3.0, 4.0, 5.0], [], None)])
    monkeypatch.setattr(loop, "train", lambda *args: next(found))
    members = train_members([network, network], loader, SETTINGS, generator, torch.arange(200), ALONE)
    assert members[:2] == ([2.0, 3.0, 5.0], [])
    assert len(members.held_out_rows) == SETTINGS.validation_fraction * 200


def test_rows_that_are_not_to_be_trained_on_are_left_alone():
    network, loader, generator = problem()
    loader._resident[100:] = torch.nan  # one step on these and nothing is finite any more
    history = train_members([network], loader, SETTINGS._replace(max_epochs=5), generator, torch.arange(100), ALONE)
    assert all(map(math.isfinite, history.loss_curve))


@pytest.mark.parametrize(
    ("rate", "causes"), [(0.5, r"\(now 0.5\)\."), (0.01, r"\(now 0.01\), entropy_weight .* or raise temperature")]
)
def test_what_may_be_at_fault_follows_the_learning_rate(rate, causes):
    _, loader, _ = problem()
    settings = SETTINGS._replace(learning_rate=rate)
    with pytest.raises(ValueError, match=rf"Training diverged: .* Lower learning_rate {causes}"):
        loop.check_divergence(loop.Means(math.inf, math.inf, 8.0), False, loader, settings)
    loop.check_divergence(loop.Means(math.inf, math.inf, 8.0), True, loader, settings)


def test_two_samples_are_left_to_train_on():
    network, loader, generator = problem(n=10)
    settings = SETTINGS._replace(max_epochs=2, validation_fraction=0.99)
    history = train_members([network], loader, settings, generator, torch.arange(10), ALONE)
    assert len(history.held_out_rows) == 8


def test_a_sample_that_is_left_over_joins_the_batch_before():
    assert [len(batch) for batch in split_batches(torch.arange(33), 32)] == [33]
    assert [len(batch) for batch in split_batches(torch.arange(34), 32)] == [32, 2]
    assert [len(batch) for batch in split_batches(torch.arange(65), 32)] == [32, 33]

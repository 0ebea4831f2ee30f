"""The training loop and the care of the memory."""

import math

import numpy as np
import pytest
import torch

from skmemae.engine.batches import Batches
from skmemae.engine.group import Group
from skmemae.engine.samples import plan_layout
from skmemae.engine.scaling import learn_scaling
from skmemae.engine.training import History, Settings, held_out_error, objective, split_rows, train, train_members
from skmemae.network import build_network

SETTINGS = Settings(
    learning_rate=5e-3,
    batch_size=32,
    max_epochs=20,
    validation_fraction=0.1,
    n_iter_no_change=20,
    tol=1e-4,
    entropy_weight=2e-4,
    latent_l1=0.0,
    precision="float32",
    verbose=0,
)


def problem(n=200, memory_size=20, seed=0, **memory):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3)) @ rng.normal(size=(3, 8))
    layout = plan_layout((8,))
    batches = Batches(X, layout, learn_scaling(X, layout, "standard"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    network = build_network((8,), "fc", (16, 4), memory_size=memory_size, generator=generator, **memory)
    return network, batches, generator


def test_training_changes_every_part_and_lowers_both_errors():
    network, batches, generator = problem(temperature=0.05)
    before = {name: value.clone() for name, value in network.named_parameters()}
    history = train(network, batches, SETTINGS, generator)
    assert all(not torch.equal(before[name], value) for name, value in network.named_parameters())
    assert history.loss_curve[-1] < 0.5 * history.loss_curve[0]
    assert history.validation_curve[-1] < 0.5 * history.validation_curve[0]
    assert len(history.loss_curve) == len(history.validation_curve) == 20
    assert not network.training


def test_one_seed_gives_the_same_bits():
    def run(seed):
        network, batches, generator = problem(seed=seed)
        train(network, batches, SETTINGS, generator)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


def test_the_objective_is_equation_10():
    network, batches, _ = problem()
    x = batches.take(torch.arange(30))
    output = network.train()(x)
    error = (x - output.reconstruction).square().sum(dim=1).mean()
    entropy = torch.special.entr(network.memory.weights(output.encoding)).sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.3, 0.0), error + 0.3 * entropy)
    l1 = output.encoding.abs().sum(dim=1).mean()
    torch.testing.assert_close(objective(output, x, 0.0, 0.7), error + 0.7 * l1)


def test_training_stops_early_and_keeps_the_best_parameters():
    network, batches, generator = problem()
    # No epoch can improve by as much as this, so patience runs out at once.
    settings = SETTINGS._replace(max_epochs=50, tol=0.9, n_iter_no_change=3)
    history = train(network, batches, settings, generator)
    assert len(history.loss_curve) == 30 + 1 + 3  # 60 % of the epochs care for the memory, one is the best, three are worse
    no_hold_out = train(*problem()[:2], settings._replace(validation_fraction=0.0), generator)
    assert len(no_hold_out.loss_curve) == 50 and no_hold_out.validation_curve == []


def test_the_best_parameters_are_those_with_the_smallest_held_out_error():
    network, batches, generator = problem(memory_size=0, n=40)
    state = generator.get_state()
    history = train(network, batches, SETTINGS._replace(max_epochs=60, validation_fraction=0.3, tol=0.0), generator)
    held_out = torch.randperm(40, generator=generator.set_state(state))[:12]
    assert np.argmin(history.validation_curve) < 59  # the last epoch is not the best one
    assert held_out_error(network, batches, batches.hold(held_out), 5, Group()) / 12 == pytest.approx(
        min(history.validation_curve), rel=1e-6
    )


def test_a_diverging_loss_is_an_error_that_says_what_to_do():
    network, batches, generator = problem(memory_size=0)
    with pytest.raises(FloatingPointError, match="learning_rate"):
        train(network, batches, SETTINGS._replace(learning_rate=1e30), generator)


@pytest.mark.parametrize(
    "n, batch_size, sizes", [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (1, 4, [1]), (3, 100, [3]), (5, 2, [2, 3])]
)
def test_no_row_is_dropped_and_no_last_batch_has_one_row(n, batch_size, sizes):
    steps = split_rows(torch.arange(n), batch_size)
    assert [len(step) for step in steps] == sizes
    assert torch.equal(torch.cat(steps), torch.arange(n))


@pytest.mark.parametrize("unit", ["sample", "location"])
def test_feature_maps_train_too(unit):
    X = np.random.default_rng(0).integers(0, 256, size=(40, 9, 8)).astype(np.uint8)
    layout = plan_layout((9, 8))
    batches = Batches(X, layout, learn_scaling(X, layout, "standard"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    network = build_network((1, 9, 8), "conv2d", (8, 6), memory_size=10, memory_unit=unit, generator=generator)
    history = train(network, batches, SETTINGS._replace(max_epochs=10), generator)
    assert history.loss_curve[-1] < history.loss_curve[0] and math.isfinite(history.loss_curve[-1])


def test_bfloat16_training_stays_close():
    losses = []
    for precision in ("float32", "bfloat16"):
        network, batches, generator = problem(temperature=0.05)
        losses.append(train(network, batches, SETTINGS._replace(precision=precision), generator).loss_curve[-1])
    assert losses[1] == pytest.approx(losses[0], rel=0.5)


@pytest.mark.parametrize("verbose, shown", [(0, ""), (2, "epoch 3/3: loss ")])
def test_verbose_says_what_it_should(capfd, verbose, shown):
    network, batches, generator = problem()
    train(network, batches, SETTINGS._replace(max_epochs=3, verbose=verbose), generator)
    out, err = capfd.readouterr()
    assert err == "" and (shown in out if shown else out == "")


def test_verbose_one_is_a_bar(capfd):
    network, batches, generator = problem()
    train(network, batches, SETTINGS._replace(max_epochs=3, verbose=1), generator)
    out, err = capfd.readouterr()
    assert out == "" and "MemAE: 100%" in err and "3/3" in err and "validation=" in err


def test_curves_are_the_means_over_the_members_that_ran_so_long(monkeypatch):
    network, batches, generator = problem()
    found = iter([History([1.0, 2.0], []), History([3.0, 4.0, 5.0], [])])
    monkeypatch.setattr("skmemae.engine.training.train", lambda *args: next(found))
    assert train_members([network, network], batches, SETTINGS, generator) == History([2.0, 3.0, 5.0], [])


def test_rows_that_are_not_to_be_trained_on_are_left_alone():
    network, batches, generator = problem()
    batches._resident[100:] = torch.nan  # one step on these and nothing is finite any more
    history = train(network, batches, SETTINGS._replace(max_epochs=5), generator, torch.arange(100))
    assert all(map(math.isfinite, history.loss_curve))

"""What the speed protocol measures, at sizes that take no time."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skmemae.benchmark import speed
from skmemae.benchmark.__main__ import main
from skmemae.benchmark.figures import device, growth, in_turns, processes, scoring, streaming, training


@pytest.fixture
def args(tmp_path):
    return SimpleNamespace(repeats=1, gib=2**-8, rows=3200, device="cpu", out=str(tmp_path))


def values(rows):
    assert all(set(row) == {"what", "value", "unit", "goal", "seconds", "reference_seconds"} for row in rows)
    assert all(np.isfinite(row["value"]) for row in rows)
    return {row["what"]: row["value"] for row in rows}


def test_speed_runs_figures_in_processes_of_their_own_and_leaves_the_threads_alone(tmp_path, capsys):
    before = torch.get_num_threads()
    other = {
        "figure": "import",
        "threads": 1,
        "device": "cpu",
        "what": "an older one",
        "value": 1.0,
        "unit": "times",
        "goal": "",
    }
    stale = {**other, "figure": "one-row"}
    (tmp_path / "speed.json").write_text(
        json.dumps({"rows": [{**row, "seconds": 0, "reference_seconds": 0} for row in (other, stale)]})
    )
    main(["speed", "--figures", "one-row", "--out", str(tmp_path)])
    assert torch.get_num_threads() == before
    rows = json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert [(row["figure"], row["threads"], row["device"]) for row in rows] == [
        ("one-row", 1, "cpu"),
        ("one-row", 1, "cpu"),
        ("import", 1, "cpu"),
    ]
    shown = capsys.readouterr().out
    assert "decision_function of one row of 30, defaults" in shown and "< 1" in shown


def test_every_figure_is_a_function_with_a_docstring():
    for name, (function, threads) in {**speed.FIGURES, **speed.ON_A_GPU}.items():
        assert function.__doc__ and threads, name


def test_turns_are_taken_and_the_first_is_not_counted():
    calls = []
    medians = in_turns(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * 3 and len(medians) == 2


def test_the_bare_loop_trains_what_fit_trains(args, monkeypatch):
    params, shape = training.FITS["clips 160 x 8 x 32 x 32"]
    monkeypatch.setattr(training, "FITS", {"few clips": ({**params, "max_epochs": 2}, (24, *shape[1:]))})
    (ratio,) = values(training.overhead(args)).values()
    assert ratio > 0
    X = training._noise((300, 5))
    network = training._network(training.MemAEDetector(max_epochs=1, ensemble_size=1, random_state=0), X)
    before = [p.detach().clone() for p in network.parameters()]
    training.bare_loop(network, torch.from_numpy(X), 32, 10, 1e-3)
    assert all((old != new).any() for old, new in zip(before, network.parameters(), strict=True))


def test_the_transcription_computes_what_the_network_computes(args):
    printed = training.Transcription()
    network = training._network(training.MemAEDetector(**training._KDDCUP99, random_state=0), training._noise((200, 120)))
    for name in ("encoder", "decoder", "memory"):
        for ours, theirs in zip(getattr(network, name).parameters(), getattr(printed, name).parameters(), strict=True):
            ours.data = theirs.data
    x = torch.from_numpy(training._noise((50, 120)))
    reconstruction, weights = printed(x)
    torch.testing.assert_close(network(x).reconstruction, reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.memory.weights(network.encoder(x)), weights, rtol=1e-4, atol=1e-5)


def test_shares_of_the_memory_are_shares(args, monkeypatch):
    monkeypatch.setattr(training, "STEPS", {"images": ({}, (16, 12, 12))})
    (share,) = values(training.memory_share(args)).values()
    assert 0 < share < 1


def test_pyod_is_beside(args, monkeypatch):
    monkeypatch.setattr(scoring, "ROWS", 400)
    monkeypatch.setattr(scoring, "EPOCHS", 1)
    found = values(scoring.beside_pyod(args))
    assert len(found) == 10 and min(found.values()) > 0


def test_a_table_on_the_disk(args):
    found = values(streaming.streaming(args))
    assert 0 < found["table of 0.00390625 GiB on the disk: peak of anonymous memory"] < 4 and len(found) == 5


def test_growth_draws_a_picture(args, tmp_path):
    found = values(growth.growth(args))
    assert {"MemAE: fit and score 1,000 x 20", "OC-SVM: fit and score 3,162 x 20"} <= set(found)
    assert (tmp_path / "growth.png").exists()


@pytest.mark.parametrize("figure", [device.addressing, device.training_table, device.training_video, device.agreement])
def test_figures_of_a_gpu_run_on_the_cpu_too(args, figure, monkeypatch):
    found = values(figure(args))
    assert found
    if figure is device.addressing:
        assert next(value for what, value in found.items() if "error beside float64" in what) < 1e-4
    if figure is device.agreement:
        assert max(found.values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("figure", [processes.grid_search, processes.import_time, processes.ranks])
def test_figures_of_processes(args, figure):
    assert min(values(figure(args)).values()) > 0

"""What the scripts of benchmarks/ measure, at small sizes."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import frames
import long_runs
import speed
from figures import addressing, device, growth, in_turns, processes, scoring, streaming, training
from figures.memory import anonymous_memory, held_bytes
from skmemae import MemAEDetector
from skmemae._data import loader, sources, statistics
from skmemae.network import memory

COLUMNS = {"figure", "threads", "device", "what", "value", "unit", "goal", "seconds", "reference_seconds"}
GIB = 2**30
needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see what a process holds")


@pytest.fixture
def args(tmp_path):
    return SimpleNamespace(repeats=1, gib=2**-8, rows=3200, queries=1000, device="cpu", out=str(tmp_path))


def values(rows):
    """Values by what they are; a ratio is one of the seconds beside it."""
    for row in rows:
        assert set(row) == COLUMNS - {"figure", "threads", "device"} and np.isfinite(row["value"])
        if row["reference_seconds"] is not None:
            ratio = row["seconds"] / row["reference_seconds"]
            assert row["value"] == pytest.approx(ratio) or row["value"] == pytest.approx(1 / ratio)
    return {row["what"]: row["value"] for row in rows}


def value(found, *words):
    """The one value whose name has all the words."""
    (only,) = (number for what, number in found.items() if all(word in what for word in words))
    return only


def test_speed_replaces_the_rows_of_a_figure_by_those_of_a_process_of_its_own(tmp_path, capsys):
    before = torch.get_num_threads()
    other = dict.fromkeys(COLUMNS, 0) | {
        "figure": "import",
        "threads": 1,
        "device": "cpu",
        "what": "kept",
        "unit": "s",
        "goal": "",
    }
    stale = {**other, "figure": "one-row", "what": "replaced"}
    (tmp_path / "speed.json").write_text(json.dumps({"rows": [other, stale]}))
    speed.main(["--figures", "one-row", "--out", str(tmp_path)])
    assert torch.get_num_threads() == before
    stored = json.loads((tmp_path / "speed.json").read_text())
    assert "torch" in stored["made_with"] and all(set(row) == COLUMNS for row in stored["rows"])
    row, image, kept = stored["rows"]
    assert kept == other and {row["figure"], image["figure"]} == {"one-row"} and (row["threads"], row["device"]) == (1, "cpu")
    assert row["value"] == pytest.approx(1000 * row["seconds"]) and row["seconds"] < 1
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["what", "threads", "value", "goal"]
    assert [line[: len(r["what"])] for line, r in zip(lines, stored["rows"], strict=True)] == [
        r["what"] for r in stored["rows"]
    ]


def test_speed_refuses_figures_that_it_does_not_know(capsys):
    with pytest.raises(SystemExit):
        speed.main(["--figures", "colour"])
    assert "addressing" in capsys.readouterr().err


def test_turns_are_taken_and_the_first_is_not_counted():
    calls = []
    medians = in_turns(2, lambda: calls.append("a"), lambda: calls.append("b"))
    assert calls == ["a", "b"] * 3 and len(medians) == 2


@needs_linux
def test_the_peak_is_what_the_work_holds_at_most():
    code = "import numpy as np; from figures.memory import peak_bytes; a = np.ones(2**22); print(peak_bytes(lambda: a + 1))"
    folder = Path(speed.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(8 * 2**22, rel=0.2)


@needs_linux
def test_memory_is_watched_meanwhile():
    with anonymous_memory() as held:
        ones = np.ones(2**23)
        in_turns(10, lambda: ones.sum())
    assert max(held) - held[0] == pytest.approx(ones.nbytes, rel=0.2)


@needs_linux
def test_addressing_by_blocks_takes_a_fraction_of_the_memory(args, monkeypatch):
    monkeypatch.setattr(addressing, "CHECKED", 600)
    args.queries = 9000
    found = values(addressing.addressing(args))
    assert value(found, "peak memory, plain") > 9000 * 2000 * 4 * 3 / GIB  # softmax, masked and renormalised at least
    assert value(found, "memory of block-wise") < 0.3
    assert value(found, "memory of block-wise") == pytest.approx(
        value(found, "peak memory, block-wise") / value(found, "peak memory, plain")
    )
    assert value(found, "error", "block-wise") < 1e-4 and value(found, "error", "plain") < 1e-4


def test_plain_addressing_is_measured_for_fewer_queries_and_scaled(args, monkeypatch):
    monkeypatch.setattr(addressing, "_PLAIN_QUERIES", 500)
    monkeypatch.setattr(addressing, "CHECKED", 100)
    monkeypatch.setattr(addressing, "_apart", lambda name, queries, args: (queries * GIB, 2.0 * queries))
    found = values(addressing.addressing(args))
    assert value(found, "peak memory, block-wise") == value(found, "peak memory, plain") == 1000
    assert value(found, "forward and backward, plain") == 2000
    scaled = {what for what in found if "measured for 500 and times 2" in what}
    assert scaled == {what for what in found if "1,000 queries" in what and "plain" in what}


def test_weights_that_are_computed_again_are_as_exact(monkeypatch):
    monkeypatch.setattr(memory, "_KEPT_WEIGHTS", 0)
    compared, errors = addressing.largest_errors(600, "cpu")
    assert 400 < compared <= 600 and max(errors.values()) < 1e-4


def test_an_error_of_addressing_is_seen(monkeypatch):
    def wrong(query, keys, values, threshold):
        return addressing.plain(query, keys, values * 1.001, threshold)

    monkeypatch.setitem(addressing.WAYS, "block-wise", wrong)
    _, errors = addressing.largest_errors(300, "cpu")
    assert errors["block-wise"] > 5e-4 and errors["plain torch"] < 1e-4


def test_both_steps_of_a_table_train_alike():
    ours, plain = addressing.training_steps("cpu")
    losses = [(float(ours()), float(plain())) for _ in range(4)]
    assert losses[-1][0] < losses[0][0]
    for mine, theirs in losses:
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_the_bare_loop_reaches_the_loss_of_fit(rng):
    X = np.tanh(rng.normal(size=(300, 3)) @ rng.normal(size=(3, 12))) + 0.1 * rng.normal(size=(300, 12))
    X = X.astype(np.float32)
    plain = {
        "scaling": None,
        "memory_items": "learned",
        "ensemble_size": 1,
        "validation_fraction": 0.0,
        "thin_repeats": False,
        "random_state": 0,
    }
    detector = MemAEDetector(widths=(16, 6), memory_size=50, batch_size=25, max_epochs=40, learning_rate=4e-3, **plain)
    network = training.made_network(detector, X)
    there = torch.from_numpy(X)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training.bare_loop(network, there, 25, 40, 2e-3)  # the mean learning rate of the schedule of fit
    error = float((network.eval()(there).reconstruction - there).detach().square().sum(dim=1).mean())
    fitted = float(((detector.fit(X).reconstruct(X) - X) ** 2).sum(axis=1).mean())
    assert fitted < 0.1 * (X**2).sum(axis=1).mean()
    assert 1 / 1.4 < error / fitted < 1.4


def test_overhead_is_fit_over_the_bare_loop(args, monkeypatch):
    params, shape = training.FITS["clips 160 x 8 x 32 x 32"]
    monkeypatch.setattr(training, "FITS", {"few clips": ({**params, "max_epochs": 2}, (24, *shape[1:]))})
    (row,) = training.overhead(args)
    assert row["value"] == row["seconds"] / row["reference_seconds"] and row["goal"] == "<= 1.10"


def test_the_transcription_computes_what_the_network_computes():
    printed = training.Transcription()
    network = training.made_network(MemAEDetector(**training.KDDCUP99, random_state=0), training.noise((200, 120)))
    for name in ("encoder", "decoder", "memory"):
        for ours, theirs in zip(getattr(network, name).parameters(), getattr(printed, name).parameters(), strict=True):
            ours.data = theirs.data
    x = torch.from_numpy(training.noise((50, 120)))
    reconstruction, weights = printed(x)
    torch.testing.assert_close(network(x).reconstruction, reconstruction, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.memory.weights(network.encoder(x)), weights, rtol=1e-4, atol=1e-5)


def test_steps_are_compared_with_those_of_the_transcription(args, monkeypatch):
    monkeypatch.setattr(training, "noise", lambda shape, noise=training.noise: noise((2048, *shape[1:])))
    (row,) = training.transcription(args)
    assert row["value"] == row["reference_seconds"] / row["seconds"] and row["goal"] == ">= 2"


def test_the_memory_is_a_part_of_a_step(args, monkeypatch):
    monkeypatch.setattr(training, "STEPS", {"images": ({}, (16, 12, 12))})
    (share,) = values(training.memory_share(args)).values()
    assert share < 1


def test_pyod_is_beside(args, monkeypatch):
    monkeypatch.setattr(scoring, "ROWS", 400)
    monkeypatch.setattr(scoring, "EPOCHS", 1)
    rows = scoring.beside_pyod(args)
    found = values(rows)
    assert len(found) == 10
    assert value(found, "PyOD AutoEncoder: rows trained") == pytest.approx(400 / rows[0]["seconds"])


def test_whole_tables_are_timed_beside_pyods(args, monkeypatch):
    monkeypatch.setattr(scoring, "in_turns", lambda repeats, *work: [0.1 * (i + 1) for i in range(len(work))])
    found = values(scoring.whole_tables(args))
    assert value(found, "fit 1,000 x 10, defaults: MemAE") == 0.1 and value(found, "score 50,000 x 30, defaults: PyOD") == 0.2


@needs_linux
@pytest.mark.slow
def test_a_table_on_the_disk_stays_there(args, monkeypatch):
    """Read in blocks a 32nd as large, so that a small table shows what a large one does."""
    for module, name in (
        (loader, "_POOL_BYTES"),
        (loader, "_HELD_OUT_BYTES"),
        (sources, "_BLOCK_BYTES"),
        (statistics, "_TAIL_NUMBERS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) // 32)
    monkeypatch.setattr(loader, "_RESIDENT_BYTES", 0)
    monkeypatch.setattr(streaming, "_IN_MEMORY_GIB", 2**-7)
    args.gib = 0.02
    streaming.streaming(args)  # what is loaded at first use is not what is measured
    args.gib = 0.25
    before = held_bytes("RssAnon") / GIB
    found = values(streaming.streaming(args))
    assert value(found, "peak of anonymous memory") - before < 0.5 * args.gib
    assert not list(Path(args.out).iterdir())


def test_growth_draws_a_picture(args, tmp_path):
    found = values(growth.growth(args))
    assert {"MemAE: fit and score 1,000 x 20", "OC-SVM: fit and score 3,162 x 20"} <= set(found)
    assert (tmp_path / "growth.png").stat().st_size > 5_000


@pytest.mark.parametrize(
    ("figure", "units"),
    [
        (device.training_table, ["a second"]),
        (device.training_video, ["times", "a second"]),
        (device.agreement, ["", ""]),
    ],
)
def test_figures_of_a_gpu_run_on_the_cpu_so_that_they_can_be_tried(args, figure, units):
    rows = figure(args)
    assert values(rows) and [row["unit"] for row in rows] == units and all(row["goal"] for row in rows)


def test_frames_per_second_are_written(tmp_path, capsys):
    frames.main(["--presets", "small", "--frames", "18", "--repeats", "1", "--out", str(tmp_path)])
    (row,) = json.loads((tmp_path / "frames.json").read_text())["rows"]
    assert set(row) == {"what", *frames.COLUMNS, "device", "threads"} and row["what"] == "small, 9 x 120 x 180"
    assert row["memory_seconds"] < 9 / row["frames_per_second"]
    assert "frames_per_second" in capsys.readouterr().out


@needs_linux
def test_a_video_on_the_disk_is_measured(tmp_path):
    found = frames.streaming(tmp_path / "video.npy", 64)
    assert found["video_gib"] == pytest.approx(64 * 256 * 256 / GIB, rel=1e-3)
    assert found["peak_gib"] * GIB > held_bytes("RssAnon") / 10


@pytest.mark.slow
@pytest.mark.parametrize("figure", [processes.grid_search, processes.import_time, processes.ranks])
def test_figures_of_processes(args, figure):
    rows = figure(args)
    assert values(rows) and all(row["reference_seconds"] for row in rows)


@needs_linux
@pytest.mark.slow
def test_long_runs_leave_nothing_behind():
    rows = long_runs.measure(300, 3000)
    middle, end = rows[len(rows) // 2], rows[-1]
    assert end["threads"] == middle["threads"] and end["open_files"] == middle["open_files"]
    assert end["resident_mib"] - middle["resident_mib"] < 0.1 * middle["resident_mib"]

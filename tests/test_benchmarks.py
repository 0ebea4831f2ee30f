"""The figures of benchmarks/ measure what they say, at small sizes."""

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
from figures import addressing, device, processes, scoring, streaming, training
from figures.memory import held_bytes
from skmemae import MemAEDetector
from skmemae._data import loader, sources
from skmemae._model import statistics
from skmemae.benchmark import store

GIB = 2**30
needs_linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see what a process holds")


@pytest.fixture
def args(tmp_path):
    return SimpleNamespace(repeats=1, gib=0.25, device="cpu", out=str(tmp_path))


def test_speed_replaces_the_rows_of_a_figure_by_those_of_a_process_of_its_own(tmp_path):
    before = torch.get_num_threads()
    kept = {"figure": "import", "threads": 1, "device": "cpu", "what": "kept", "value": 2, "unit": "s", "goal": ""}
    kept |= {"seconds": 2, "reference_seconds": 1}
    store.save([kept, {**kept, "figure": "one-row", "what": "replaced"}], tmp_path, "speed")
    speed.main(["--figures", "one-row", "--out", str(tmp_path)])
    assert torch.get_num_threads() == before
    row, image, last = store.read(tmp_path, "speed")
    assert last == kept and (row["figure"], image["figure"], row["threads"]) == ("one-row", "one-row", 1)
    assert row["value"] == pytest.approx(1000 * row["seconds"], rel=1e-4)


def test_frames_per_second_are_written(tmp_path):
    frames.main(["--presets", "small", "--frames", "18", "--repeats", "1", "--out", str(tmp_path)])
    (row,) = store.read(tmp_path, "frames")
    assert set(row) == {"what", *frames.COLUMNS, "device", "threads"} and row["what"] == "small, 9 x 120 x 180"
    assert row["memory_seconds"] < 1 / row["frames_per_second"]


@needs_linux
def test_the_peak_is_what_the_work_holds_at_most():
    code = "import numpy as np; from figures.memory import peak_bytes; a = np.ones(2**22); print(peak_bytes(lambda: a + 1))"
    folder = Path(speed.__file__).parent
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert float(done.stdout) == pytest.approx(8 * 2**22, rel=0.2)


@needs_linux
@pytest.mark.slow
def test_addressing_by_blocks_takes_a_fraction_of_the_memory(args):
    (ours, _), (plain, _) = (addressing._apart(name, 9000, args) for name in addressing.WAYS)
    assert plain > 9000 * 2000 * 4 * 3  # softmax, masked and renormalised at least
    assert ours < 0.3 * plain


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
    plain = {"scaling": None, "memory_unit": "sample", "ensemble_size": 1, "validation_fraction": 0.0}
    small = {"widths": (16, 6), "memory_size": 50, "batch_size": 25, "max_epochs": 40, "learning_rate": 4e-3}
    detector = MemAEDetector(**plain, **small, random_state=0)
    network = training.made_network(detector, X)
    there = torch.from_numpy(X)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        training.bare_loop(network, there, 25, 40, 2e-3)  # the mean learning rate of the schedule of fit
    error = float((network.eval()(there).reconstruction - there).detach().square().sum(dim=1).mean())
    fitted = float(((detector.fit(X).reconstruct(X) - X) ** 2).sum(axis=1).mean())
    assert fitted < 0.1 * (X**2).sum(axis=1).mean() and 1 / 1.4 < error / fitted < 1.4


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


@pytest.mark.slow
@pytest.mark.parametrize("figure", [device.training_table, device.training_video, device.agreement])
def test_figures_of_a_gpu_run_on_the_cpu_so_that_they_can_be_tried(args, figure):
    least = 0 if figure is device.agreement else np.finfo(float).tiny  # the CPU agrees with itself to the bit
    assert all(row["value"] >= least and row["goal"] for row in figure(args))


@pytest.mark.slow
@pytest.mark.parametrize("figure", [processes.grid_search, processes.import_time, processes.ranks])
def test_speed_of_processes_is_a_ratio_of_seconds(args, figure):
    for row in figure(args):
        assert row["value"] == pytest.approx(row["reference_seconds"] / row["seconds"]) or figure is processes.import_time


@pytest.mark.slow
@pytest.mark.parametrize("figure, n", [(scoring.beside_neighbours, 6), (scoring.wide_tables, 9)])
def test_seconds_are_measured_beside_others(args, figure, n):
    rows = figure(args)
    assert len(rows) == n and all(row["value"] == row["seconds"] > 0 for row in rows)
    assert [row["what"].rpartition(": ")[2] for row in rows][:1] == ["MemAE"]


@needs_linux
@pytest.mark.slow
def test_a_table_on_the_disk_stays_there(args, monkeypatch):
    """Read in blocks a 32nd as large, so that a small table shows what a large one does."""
    pool = ((loader, "_POOL_BYTES"), (loader, "_HELD_OUT_BYTES"))
    for module, name in (*pool, (sources, "_BLOCK_BYTES"), (statistics, "_TAIL_NUMBERS")):
        monkeypatch.setattr(module, name, getattr(module, name) // 32)
    monkeypatch.setattr(loader.Loader.__init__, "__defaults__", (None, 0))  # nothing is held on the device
    monkeypatch.setattr(streaming, "_IN_MEMORY_GIB", 2**-7)
    streaming.streaming(SimpleNamespace(**{**vars(args), "gib": 0.02}))  # objects of the first use are not measured
    before = held_bytes("RssAnon") / GIB
    peak = streaming.streaming(args)[0]
    assert "peak of anonymous memory" in peak["what"] and peak["value"] - before < 0.5 * args.gib
    assert not list(Path(args.out).iterdir())


@needs_linux
@pytest.mark.slow
def test_long_runs_leave_nothing_behind():
    rows = long_runs.measure(300, 3000)
    middle, end = rows[len(rows) // 2], rows[-1]
    assert end["threads"] <= middle["threads"] and end["open_files"] <= middle["open_files"]
    assert end["resident_mib"] - middle["resident_mib"] < 0.1 * middle["resident_mib"]

"""Several processes that fit one detector together."""

import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
import torch.distributed as dist
from joblib import Parallel, delayed
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skmemae import MemAEDetector, single_process
from skmemae._train import distributed
from skmemae._train.distributed import Processes, SingleProcess, processes_of_fit

FIT = """
import os
import numpy as np
import torch
from sklearn.datasets import load_digits
from skmemae import MemAEDetector

torch.set_num_threads(1)
X, _ = load_digits(return_X_y=True)
for name, data, params in [
    ("table", X, {"ensemble_size": 2, "max_epochs": 6}),
    ("smooth table", X, {"ensemble_size": 2, "max_epochs": 6, "shrink_threshold": 0.0}),
    ("images", X.reshape(-1, 8, 8)[:300], {"temperature": 0.2, "max_epochs": 6}),
    ("odd", X[:45], {"batch_size": 22, "max_epochs": 3, "validation_fraction": 0.05, "ensemble_size": 1}),
    ("short", X[:300], {"memory_unit": "sample", "max_epochs": 1000, "ensemble_size": 2, "time_limit": 1.0}),
]:
    detector = MemAEDetector(random_state=0, **params).fit(data)
    parameters = torch.cat([p.detach().flatten() for p in detector.model_.parameters()])
    buffers = torch.cat([b.flatten().float() for b in detector.model_.buffers()] or [torch.zeros(0)])
    found = {"train": detector.decision_scores_, "test": detector.decision_function(data[::7]), "usage": detector.memory_usage_}
    if name == "images":
        found["p-values"] = detector.p_value_map(data[:5])
    curves = {"loss": detector.loss_curve_, "validation": detector.validation_curve_}
    folder = os.environ.get("RANK", "alone")
    os.makedirs(folder, exist_ok=True)
    np.savez(f"{folder}/{name}.npz", parameters=parameters, buffers=buffers, **found, **curves)
"""

# One fit after the other, each with what went wrong before behind it. A fit by one process alone is none of the other's.
CASES = """
import json, os, sys, time
from datetime import timedelta
from pathlib import Path
import numpy as np
import torch
from skmemae import MemAEDetector, single_process
from skmemae._data.sources import RowSource
from skmemae._train import distributed, loop

torch.set_num_threads(1)
rank = int(os.environ["RANK"])
X = np.random.default_rng(0).normal(size=(60, 3))
found, seconds = {}, {}

def fit(name, X=X, **params):
    start = time.monotonic()
    try:
        detector = MemAEDetector(**{"max_epochs": 2, "ensemble_size": 1, "random_state": 0, **params}).fit(X)
        found[name] = detector.decision_scores_.tolist()
    except BaseException as error:
        found[name] = f"{type(error).__name__}: {error}"
    seconds[name] = time.monotonic() - start

def wait_for(name):
    while not Path(name).exists():
        time.sleep(0.05)

def backbone(shape):
    if rank == 1:
        raise ZeroDivisionError("no such backbone")
    return torch.nn.Linear(3, 2), torch.nn.Linear(2, 3)

class Rows(RowSource):
    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, key):
        return self.array[key].copy()

class Broken:
    def write(self, text):
        raise OSError("cannot print")

    def flush(self):
        pass

def interrupted(self, learning_rate):
    raise KeyboardInterrupt

if rank == 0:
    with single_process():
        fit("in a single process")

usual, distributed._ENTRY = distributed._ENTRY, timedelta(seconds=3)
if rank == 0:
    fit("entered by one")
    Path("0 failed").touch()
wait_for("0 failed")
if rank == 1:
    fit("entered by the other")
    Path("1 failed").touch()
wait_for("1 failed")
distributed._ENTRY = usual
fit("after a failed entry")

fit("nan", np.full((60, 3), np.nan) if rank else X)
fit("rows", X[rank:])
fit("parameters", max_epochs=2 + rank)
fit("backbone", backbone=backbone)
stdout, step = sys.stdout, loop.Adam.step
if rank == 0:
    sys.stdout = Broken()
fit("print", verbose=2)
sys.stdout = stdout
if rank == 1:
    loop.Adam.step = interrupted
fit("interrupted")
loop.Adam.step = step
middle = X.copy()
middle[30, 1] += rank
fit("a middle row", middle)
fit("a middle row of a source", Rows(middle))
fit("in the end")
Path(f"{rank}.json").write_text(json.dumps([found, seconds]))
"""


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}


def torchrun(script, folder, *, timeout=60):
    """Run a script in two processes."""
    (folder / "script.py").write_text(script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "script.py"]
    return subprocess.run(command, cwd=folder, env=environment(), timeout=timeout, capture_output=True, text=True)


def test_two_processes_agree_with_one_and_with_each_other_to_the_bit(tmp_path):
    done = torchrun(FIT, tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, env=environment())
    for name in ("table", "smooth table", "images", "odd"):
        first, second, alone = (np.load(tmp_path / rank / f"{name}.npz") for rank in ("0", "1", "alone"))
        for key in alone:
            assert np.array_equal(first[key], second[key]), (name, key)
        if name == "images":  # batch normalisation sees the part of each process
            assert spearmanr(first["test"], alone["test"]).statistic > 0.8
            continue
        # The weights of rows that shrinkage has just kept or dropped jump, where sums differ by rounding.
        tolerance = 2e-4 if name == "table" else 1e-5
        for key in ("train", "test", "loss", "validation"):
            np.testing.assert_allclose(first[key], alone[key], rtol=tolerance, err_msg=f"{name} {key}")
        np.testing.assert_allclose(first["usage"], alone["usage"], atol=5e-3 if name == "table" else 1e-3)
    first, second = (np.load(tmp_path / rank / "short.npz") for rank in ("0", "1"))
    assert all(np.array_equal(first[key], second[key]) for key in first) and 0 < len(first["loss"]) < 1000


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What came of each case in either process, and what was printed to stderr."""
    folder = tmp_path_factory.mktemp("cases")
    done = torchrun(CASES, folder, timeout=120)
    assert done.returncode == 0, done.stderr
    found, seconds = zip(*(json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)), strict=True)
    assert max(max(s.values()) for s in seconds) < 20
    return found, done.stderr


@pytest.fixture
def cases(ran):
    return ran[0]


def test_a_joint_fit_warns_of_nothing(ran):
    assert "FutureWarning" not in ran[1]


def alone():
    X = np.random.default_rng(0).normal(size=(60, 3))
    return MemAEDetector(max_epochs=2, ensemble_size=1, random_state=0).fit(X).decision_scores_


@pytest.mark.parametrize(
    "name, rank, said",
    [
        ("nan", 1, "ValueError: Input X contains NaN"),
        ("backbone", 1, "ZeroDivisionError: no such backbone"),
        ("print", 0, "OSError: cannot print"),
        ("interrupted", 1, "KeyboardInterrupt: "),
    ],
)
def test_the_error_of_one_process_reaches_the_others_with_its_name(cases, name, rank, said):
    assert cases[rank][name].startswith(said)
    assert cases[1 - rank][name].startswith(f"RuntimeError: Process {rank} of 2 failed in fit: {said}")


def test_different_data_or_parameters_are_an_error_everywhere_that_tells_the_difference(cases):
    for found in cases:
        assert found["rows"].startswith(
            "ValueError: All processes of a distributed fit need the same data and parameters; X is"
        )
        assert "parameters is" in found["parameters"]
        assert "(60, 3)" in found["rows"] and "(59, 3)" in found["rows"]
        assert "'max_epochs': 2" in found["parameters"] and "'max_epochs': 3" in found["parameters"]


@pytest.mark.parametrize("name", ["a middle row", "a middle row of a source"])
def test_another_row_in_the_middle_of_one_process_is_noticed(cases, name):
    for found in cases:
        assert found[name].startswith("ValueError: All processes of a distributed fit need the same data"), found[name]


@pytest.mark.parametrize("name, rank", [("entered by one", 0), ("entered by the other", 1)])
def test_a_fit_that_one_process_does_not_enter_ends_with_an_error_that_names_it(cases, name, rank):
    assert distributed._ENTRY.total_seconds() == 45
    said = f"RuntimeError: Process {rank} of 2 waited 3 s for process(es) [{1 - rank}] to enter fit. Call fit in every process"
    assert cases[rank][name].startswith(said)
    assert "inside skmemae.single_process()" in cases[rank][name]


def test_one_process_can_fit_alone_while_the_other_goes_on(cases):
    np.testing.assert_array_equal(cases[0]["in a single process"], alone())
    assert "in a single process" not in cases[1]


@pytest.mark.parametrize("name", ["after a failed entry", "in the end"])
def test_after_an_error_the_next_fit_is_as_if_nothing_had_been(cases, name):
    assert cases[0][name] == cases[1][name]
    np.testing.assert_allclose(cases[0][name], alone(), rtol=1e-5)


def test_a_process_that_dies_of_its_error_takes_the_others_down(tmp_path):
    script = """
        import os
        import numpy as np
        from skmemae import MemAEDetector

        MemAEDetector().fit(np.full((60, 3), np.nan if os.environ["RANK"] == "1" else 1.0))
        print("went on", flush=True)
    """
    done = torchrun(textwrap.dedent(script), tmp_path)
    assert done.returncode != 0 and "Input X contains NaN" in done.stderr and "went on" not in done.stdout


# Each process in turn fails in training, catches the error and lives on; then both fit together.
LIVES_ON = """
import json, os, time
from pathlib import Path
import numpy as np
import torch
from skmemae import MemAEDetector

torch.set_num_threads(1)
rank = int(os.environ["RANK"])
X = np.random.default_rng(0).normal(size=(200, 3))
failing, calls = None, 0

class Fails(torch.nn.Linear):
    def forward(self, x):
        global calls
        calls += 1
        if rank == failing and calls == 20:
            raise ZeroDivisionError("in the 20th forward pass")
        return super().forward(x)

def backbone(shape):
    return Fails(*shape, 2), torch.nn.Linear(2, *shape)

found = {}
for failing in (1, 0, None):
    calls, start = 0, time.monotonic()
    try:
        detector = MemAEDetector(backbone=backbone, memory_size=5, max_epochs=10, ensemble_size=1, random_state=0).fit(X)
        found[failing] = len(detector.labels_), None
    except Exception as error:
        found[failing] = f"{type(error).__name__}: {error}", time.monotonic() - start
        Path(f"{failing} seen by {rank}").touch()
        while rank == failing and time.monotonic() - start < 30 and not Path(f"{failing} seen by {1 - rank}").exists():
            time.sleep(0.05)  # with the error, whose traceback keeps all that the fit held
Path(f"{rank}.json").write_text(json.dumps(found))
"""


def test_a_process_that_fails_and_lives_on_ends_the_fit_of_the_others_at_once(tmp_path):
    done = torchrun(LIVES_ON, tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for failing in (1, 0):
        said = "ZeroDivisionError: in the 20th forward pass"
        assert found[failing][str(failing)][0] == said
        text, seconds = found[1 - failing][str(failing)]
        assert text == f"RuntimeError: Process {failing} of 2 failed in fit: {said}" and seconds < 20
    assert found[0]["null"] == found[1]["null"] == [200, None]  # the next fit of all


def test_a_group_with_nccl_is_closed_when_another_process_has_failed(monkeypatch):
    monkeypatch.setattr(distributed, "_WATCH", 0.01)
    closed, store, processes = threading.Event(), dist.HashStore(), Processes(0, 2, 0)
    processes.close = closed.set
    with distributed._watching(store, processes):
        assert not closed.wait(0.1)
    assert not processes.is_aborted
    with distributed._watching(store, processes):
        store.compare_set("failure", "", "1:KeyError: 1")
        assert closed.wait(10)
    assert processes.is_aborted


def test_a_process_group_of_the_caller_is_used_and_left_alone(tmp_path):
    script = f"""
        import numpy as np
        import torch
        import torch.distributed as dist
        from skmemae import MemAEDetector

        def work(rank):
            torch.set_num_threads(1)
            dist.init_process_group("gloo", init_method="file://{tmp_path}/store", rank=rank, world_size=2)
            X = np.random.default_rng(0).normal(size=(200, 3))
            detectors = [MemAEDetector(max_epochs=2, ensemble_size=1, verbose=2).fit(X) for _ in range(2)]
            assert dist.is_initialized() and dist.get_world_size() == 2
            np.save(f"{tmp_path}/scores{{rank}}.npy", [detector.decision_scores_ for detector in detectors])
            dist.destroy_process_group()

        if __name__ == "__main__":
            torch.multiprocessing.spawn(work, nprocs=2)
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run([sys.executable, str(path)], env=environment(), timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"scores{rank}.npy") for rank in (0, 1))
    assert np.array_equal(first, second)  # the first process's seed is everybody's, and so are the bits
    assert not np.array_equal(first[0], first[1])
    assert done.stdout.count("epoch 1/2") == 2  # one process speaks for all


def test_in_a_single_process_there_is_nothing_to_do():
    alone, tensor = SingleProcess(), torch.arange(5)
    alone.barrier()
    alone.broadcast(tensor)
    alone.check_equal(X="anything")
    assert alone.compute_on_first(max, 3, 2) == alone.checked(max, 3, 2) == 3
    assert alone.all_reduce(tensor) is tensor and alone.shard(tensor) is tensor and alone.contiguous_shard(7) == (0, 7)
    module = torch.nn.BatchNorm1d(2)
    assert alone.wrap(module) is module
    alone.share_statistics(module)
    assert type(module) is torch.nn.BatchNorm1d


@pytest.mark.parametrize("n, size", [(7, 2), (2, 3), (10, 4)])
def test_shards_cover_every_row_once(n, size):
    everybody = [Processes(rank, size, rank) for rank in range(size)]
    assert sorted(torch.cat([p.shard(torch.arange(n)) for p in everybody]).tolist()) == list(range(n))
    spans = [range(*p.contiguous_shard(n)) for p in everybody]
    assert [row for span in spans for row in span] == list(range(n))


@pytest.fixture
def started_by_torchrun(monkeypatch):
    """The variables of a process that torchrun has started; a fit of two would wait in vain."""
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")


def size_of_fit():
    with processes_of_fit() as processes:
        return processes.size


def test_without_torchrun_a_fit_is_alone(monkeypatch):
    assert size_of_fit() == 1
    monkeypatch.setenv("WORLD_SIZE", "2")  # set by hand
    assert size_of_fit() == 1


def test_a_worker_of_joblib_fits_alone(started_by_torchrun):
    assert distributed._several()
    assert Parallel(n_jobs=2, backend="threading")(delayed(size_of_fit)() for _ in range(2)) == [1, 1]


def test_inside_single_process_a_fit_is_alone_also_after_an_error(started_by_torchrun):
    with single_process():
        with single_process():
            assert size_of_fit() == 1
        assert size_of_fit() == 1
    with pytest.raises(KeyError), single_process():
        raise KeyError
    assert distributed._several()


def test_grid_search_in_worker_processes_waits_for_nobody(started_by_torchrun):
    X, _ = load_digits(return_X_y=True)
    search = GridSearchCV(
        MemAEDetector(max_epochs=2, ensemble_size=1, random_state=0),
        {"memory_size": [5, 10]},
        scoring=lambda detector, X, y=None: -float(np.mean(detector.decision_function(X))),
        cv=2,
        refit=False,
        n_jobs=2,
        error_score="raise",
    )
    assert np.isfinite(search.fit(X[:100]).cv_results_["mean_test_score"]).all()

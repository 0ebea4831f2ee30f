"""Several processes that fit one detector together."""

import os
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from skmemae import MemAEDetector
from skmemae.engine import group
from skmemae.engine.group import Group, fingerprint, joined

FIT = """
import sys
import numpy as np
import torch
from sklearn.datasets import load_digits
from skmemae import MemAEDetector

torch.set_num_threads(1)
X, _ = load_digits(return_X_y=True)
for name, data, params in [
    ("table", X, {"ensemble_size": 2, "max_epochs": 6}),
    ("images", X.reshape(-1, 8, 8)[:300], {"temperature": 0.2, "max_epochs": 6}),
    ("odd", X[:45], {"batch_size": 22, "max_epochs": 3, "validation_fraction": 0.05, "ensemble_size": 1}),
]:
    detector = MemAEDetector(random_state=0, **params).fit(data)
    parameters = torch.cat([p.detach().flatten() for p in detector.model_.parameters()])
    buffers = torch.cat([b.flatten().float() for b in detector.model_.buffers()] or [torch.zeros(0)])
    found = {"train": detector.decision_scores_, "test": detector.decision_function(data[::7]), "usage": detector.memory_usage_}
    curves = {"loss": detector.loss_curve_, "validation": detector.validation_curve_}
    np.savez(f"{sys.argv[1]}/{name}.npz", parameters=parameters, buffers=buffers, **found, **curves)
"""


def torchrun(script, folder, *, timeout=120, ranks=2):
    """Run an unchanged script in two processes; each gets a folder of its own as its argument."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(script).replace("sys.argv[1]", "__import__('os').environ.get('RANK', 'alone')"))
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone", str(path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    return subprocess.run(command, cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True)


def test_two_processes_agree_with_one_and_with_each_other_to_the_bit(tmp_path):
    for name in ("0", "1", "alone"):
        (tmp_path / name).mkdir()
    done = torchrun(FIT, tmp_path)
    assert done.returncode == 0, done.stderr
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
    for name in ("table", "images", "odd"):
        first, second, alone = (np.load(tmp_path / rank / f"{name}.npz") for rank in ("0", "1", "alone"))
        for key in alone:
            assert np.array_equal(first[key], second[key]), (name, key)
        for key in ("train", "test", "loss", "validation"):
            np.testing.assert_allclose(first[key], alone[key], rtol=1e-5, err_msg=f"{name} {key}")


@pytest.mark.parametrize(
    "failure, said",
    [
        ("X = np.full((50, 3), np.nan) if rank else X", "Input X contains NaN"),
        ("X = X[rank:]", "need the same data and parameters; X is"),
        ("params['max_epochs'] = 5 + rank", "need the same data and parameters; parameters is"),
        ("params['backbone'] = lambda shape: 1 / (1 - rank)", "ZeroDivisionError"),
        ("params['verbose'] = 2; sys.stdout = Broken() if rank == 0 else sys.stdout", "cannot print"),
    ],
)
def test_a_process_that_fails_takes_the_others_down_with_its_error(tmp_path, failure, said):
    script = f"""
        import os, sys
        import numpy as np
        from skmemae import MemAEDetector

        class Broken:
            def write(self, text):
                raise OSError("cannot print")

            def flush(self):
                pass

        rank = int(os.environ["RANK"])
        X, params = np.random.default_rng(0).normal(size=(50, 3)), {{}}
        {failure}
        MemAEDetector(random_state=0, **params).fit(X)
        print("went on", flush=True)
    """
    start = time.monotonic()
    done = torchrun(script, tmp_path, timeout=60)
    assert done.returncode != 0 and said in done.stderr and "went on" not in done.stdout
    assert time.monotonic() - start < 60


def test_the_error_of_one_reaches_the_others_even_if_it_lives_on(tmp_path):
    script = """
        import os, time
        import numpy as np
        from skmemae import MemAEDetector

        rank = int(os.environ["RANK"])

        def backbone(shape):
            if rank == 1:
                raise ValueError("no such backbone")
            return __import__("skmemae.network.paper", fromlist=["kddcup99"]).kddcup99(shape)

        try:
            MemAEDetector(backbone=backbone, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 3)))
        except ValueError as error:
            print(f"process {rank}: {error} {getattr(error, '__notes__', '')}", flush=True)
        time.sleep(1)
    """
    done = torchrun(script, tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "process 1: no such backbone" in done.stdout
    assert "process 0: no such backbone ['Raised in process 1 of 2.']" in done.stdout


def test_a_process_group_of_the_caller_is_used_and_left_alone(tmp_path):
    script = f"""
        import sys
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
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, str(path)], env=environment, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (np.load(tmp_path / f"scores{rank}.npy") for rank in (0, 1))
    assert np.array_equal(first, second)  # the first process's seed is everybody's, and so are the bits
    assert not np.array_equal(first[0], first[1])
    assert done.stdout.count("epoch 1/2") == 2  # one process speaks for all


def test_one_process_alone_is_a_group_for_which_nothing_is_to_do():
    alone, tensor = Group(), torch.arange(5)
    alone.meet()
    assert alone.once(lambda: 3) == 3 and alone.sum(tensor) is tensor and alone.share(tensor).tolist() == [0, 1, 2, 3, 4]
    assert alone.span(7) == (0, 7)
    module = torch.nn.BatchNorm1d(2)
    assert alone.wrap(module) is module
    with alone.shared_statistics(module):
        assert "forward" not in vars(module)


@pytest.mark.parametrize("n, size", [(7, 2), (2, 3), (10, 4)])
def test_shares_and_spans_cover_every_row_once(n, size):
    groups = [Group(rank, size) for rank in range(size)]
    assert sorted(torch.cat([g.share(torch.arange(n)) for g in groups]).tolist()) == list(range(n))
    spans = [range(*g.span(n)) for g in groups]
    assert [row for span in spans for row in span] == list(range(n))


def test_a_worker_of_joblib_fits_alone(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    opened = []
    monkeypatch.setattr(group, "_processes", lambda: opened.append(1) or pytest.fail("a group was opened"))

    def size():
        with joined() as here:
            return here.size

    assert Parallel(n_jobs=2, backend="threading")(delayed(size)() for _ in range(2)) == [1, 1]
    assert not opened


def test_grid_search_in_worker_processes_opens_no_group(monkeypatch):
    """The variables are those of a process that torchrun has started; a group of two would wait for ever."""
    X, _ = load_digits(return_X_y=True)
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "1")
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


def test_a_fingerprint_tells_other_data():
    X = np.arange(12.0).reshape(4, 3)
    assert fingerprint(X) == fingerprint(X.copy())
    assert len({fingerprint(X), fingerprint(X[:3]), fingerprint(X + 1), fingerprint(X.astype(np.float32))}) == 4

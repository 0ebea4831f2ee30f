"""The Python that the pages show without a prompt runs as printed, with the names that the text around it speaks of.

What stands behind prompts is run as doctests, and the README's has a module of its own.
"""

import argparse
import ast
import importlib
import pickle
import re
import shlex
import textwrap
from pathlib import Path

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
from media import write_video
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import RobustScaler

from skmemae import MemAEDetector, metrics, presets
from skmemae.benchmark import overview
from skmemae.video import ClipWindows, frame_maps, frame_scores

DOCS = Path(__file__).parents[1] / "docs"
FENCED = r"^```python\n(.*?)^```"
DIRECTIVE = r"^\.\. code-block:: python\n\n(.*?)(?=^\S|\Z)"
BLOCKS = {
    page.relative_to(DOCS).as_posix(): [
        textwrap.dedent(block) for block in re.findall(pattern, page.read_text(), flags=re.DOTALL | re.MULTILINE)
    ]
    for pattern, suffix in ((FENCED, "md"), (DIRECTIVE, "rst"))
    for page in sorted([*DOCS.glob(f"*.{suffix}"), *DOCS.glob(f"guide/*.{suffix}")])
}
TESTED = {
    "index.rst": 1,
    "quickstart.rst": 1,
    "guide/choosing.rst": 1,
    "guide/saving.rst": 1,
    "guide/video.rst": 2,
    "guide/large_data.md": 6,
}
ROOT = DOCS.parent
TEXTS = ("*.md", "docs/*.md", "docs/*.rst", "docs/guide/*.*", "skmemae/**/*.py", "benchmarks/**/*.py")
COMMAND = r"python (-m skmemae\.benchmark|benchmarks/\w+\.py)((?: +[-\w.]+)*)"
COMMANDS = sorted(
    {found for pattern in TEXTS for text in ROOT.glob(pattern) for found in re.findall(COMMAND, text.read_text())}
)


def test_every_block_has_a_test():
    assert {page: len(blocks) for page, blocks in BLOCKS.items() if blocks} == TESTED


class AcceptedError(Exception):
    pass


@pytest.mark.parametrize(("program", "options"), COMMANDS)
def test_commands_are_accepted(program, options, monkeypatch):
    def parse(self, *args, parse=argparse.ArgumentParser.parse_args):
        parse(self, *args)
        raise AcceptedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)
    module = overview if program == "-m skmemae.benchmark" else importlib.import_module(Path(program).stem)
    assert module is overview or Path(module.__file__) == ROOT / program
    with pytest.raises(AcceptedError):
        module.main(shlex.split(options))


def run(block, **names):
    """Names after the block, and the value of its last line where that is an expression."""
    statements = ast.parse(block).body
    last = statements.pop() if isinstance(statements[-1], ast.Expr) else None
    exec("\n".join(map(ast.unparse, statements)), names)
    if last is not None:
        names["last"] = eval(ast.unparse(last), names)
    return names


@pytest.fixture(scope="module")
def fitted():
    return MemAEDetector(max_epochs=2, random_state=0).fit(load_breast_cancer().data)


def test_index():
    pytest.importorskip("pandas")
    names = run(BLOCKS["index.rst"][0])
    assert len(names["last"]) == 3
    assert 0.65 < names["detector"].predict(names["new"]).mean() < 0.85  # three in four


def test_quickstart():
    digits = load_digits()
    detector = MemAEDetector(max_epochs=2, random_state=0).fit(digits.images[digits.target < 2])
    names = run(BLOCKS["quickstart.rst"][0], detector=detector, fives=digits.images[digits.target == 5])
    assert len(names["last"].figure_.axes) >= 8


def test_choosing():
    pytest.importorskip("sklearn.callback")
    pytest.importorskip("pandas")
    X, y = load_breast_cancer(return_X_y=True)
    parameters = {"max_epochs": 3}
    block = BLOCKS["guide/choosing.rst"][0].replace("(random_state=0)", "(random_state=0, **parameters)")
    names = run(block, MemAEDetector=MemAEDetector, metrics=metrics, X=X, y=1 - y, parameters=parameters)
    assert len(names["last"]) >= 3 and names["last"]["roc_auc"].between(0, 1).all()


def test_saving(fitted, tmp_path, monkeypatch):
    pytest.importorskip("skops")
    monkeypatch.chdir(tmp_path)
    X = load_breast_cancer().data
    pipeline = make_pipeline(RobustScaler(), MemAEDetector(max_epochs=2, random_state=0)).fit(X)
    again = run(BLOCKS["guide/saving.rst"][0], pipeline=pipeline)["pipeline"]
    assert again is not pipeline and np.array_equal(again.predict(X), pipeline.predict(X))


def test_video(rng):
    train, test = [rng.random((30, 24, 32)).astype(np.float32)] * 2, [rng.random((20, 24, 32)).astype(np.float32)]
    names = {"MemAEDetector": MemAEDetector, "ClipWindows": ClipWindows, "frame_maps": frame_maps}
    block = BLOCKS["guide/video.rst"][0].replace("small_video()", "small_video() | {'max_epochs': 1}")
    names = run(block, train=train, test=test, frame_scores=frame_scores, **names)
    assert [len(errors) for errors in names["errors"]] == [20] and names["maps"][0].shape == (20, 24, 32)


def test_long_video(tmp_path, rng):
    paths = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for path in paths:
        write_video(path, rng.integers(0, 255, (20, 32, 48, 3), dtype=np.uint8))
    detector = MemAEDetector(**presets.small_video() | {"max_epochs": 1}, random_state=0)
    block = BLOCKS["guide/video.rst"][1].replace("(256, 256)", "(32, 32)").replace("length=16", "length=8")
    names = run(block, paths=paths, detector=detector)
    assert all(isinstance(video, np.memmap) for video in names["videos"])
    assert len(detector.decision_scores_) == 2 * (20 - 8 + 1)


def test_large_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = load_breast_cancer().data
    np.save("table.npy", X)
    names = run(BLOCKS["guide/large_data.md"][0])
    assert names["scores"].shape == (len(X),) and np.isfinite(names["scores"]).all()


def test_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    detector = MemAEDetector(max_epochs=2, random_state=0)
    run(BLOCKS["guide/large_data.md"][1], detector=detector, X=load_breast_cancer().data)
    assert len(detector.decision_scores_) == 569 and not list(tmp_path.iterdir())


def test_script_of_torchrun(tmp_path):
    np.save(tmp_path / "table.npy", load_breast_cancer().data)
    block = BLOCKS["guide/large_data.md"][2].replace("/shared", tmp_path.as_posix())
    assert run(block)["scores"].shape == (569,)


def test_scores_in_many_workers(tmp_path):
    frame = load_breast_cancer(as_frame=True).data
    of_arrays, of_frames = (MemAEDetector(max_epochs=2, random_state=0).fit(X) for X in (frame.to_numpy(), frame))
    lazy = dask.array.from_array(frame.to_numpy(), chunks=(100, 7)), dask.dataframe.from_pandas(frame, npartitions=3)
    names = run(BLOCKS["guide/large_data.md"][4].splitlines()[0], detector=of_arrays, X=lazy[0])
    assert names["scores"].numblocks == (6,)
    np.testing.assert_allclose(names["scores"].compute(), of_arrays.decision_scores_, rtol=1e-5)
    names = run(BLOCKS["guide/large_data.md"][4].splitlines()[1], detector=of_frames, frame=lazy[1])
    scored = names["scored"].compute()
    np.testing.assert_allclose(scored["score"], of_frames.decision_scores_, rtol=1e-5)
    assert scored.index.equals(frame.index)
    of_frames.save(tmp_path / "detector.safetensors")
    score = run(BLOCKS["guide/large_data.md"][5].replace("/shared", tmp_path.as_posix()))["score"]
    np.testing.assert_allclose(pd.concat(score(iter([frame[:50], frame[50:]])))["score"], of_frames.decision_scores_, rtol=1e-5)


def test_dask_as_the_backend_of_joblib():
    distributed = pytest.importorskip("distributed")
    X, y = load_breast_cancer(return_X_y=True)
    grid = {"memory_size": [5, 10]}
    search = GridSearchCV(MemAEDetector(max_epochs=2, random_state=0), grid, scoring=metrics.roc_auc, cv=2)
    with distributed.LocalCluster(2, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        block = BLOCKS["guide/large_data.md"][3].replace('"scheduler:8786"', "cluster")
        names = run(block, search=search, X=X, y=1 - y, cluster=cluster)
        names["client"].close()
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert pickle.loads(pickle.dumps(search.best_estimator_)).predict(X).shape == y.shape

"""Detectors that are saved, pickled, copied and cloned."""

import copy
import io
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmemae import MemAEDetector
from tests.problems import data, detector, rewrite

DATA = {**data(), "frame": pd.DataFrame(data()["table"], columns=list("abcdef"))}
DATA["amounts"] = np.exp(3 * DATA["table"])
DATA["colours"] = np.random.default_rng(0).random((40, 12, 10, 3))
X = DATA["table"]
SETTINGS = {
    "rows": ("frame", {}),
    "logarithms": ("amounts", {}),
    "learned": ("frame", {"memory_unit": "sample", "widths": (8, 4)}),
    "plain autoencoder": ("table", {"memory_size": 0, "memory_unit": "sample"}),
    "plain autoencoders side by side": ("table", {"memory_size": 0, "random_state": np.int64(3)}),
    "images": ("images", {"ensemble_size": 2, "contamination": np.float64(0.2)}),
    "channels last": ("colours", {"widths": (8, 4)}),
    "maps of images": ("bytes", {"memory_unit": "location", "scaling": "log", "anomaly_score": "local"}),
    "clips": ("clips", {"ensemble_size": 2}),
    "paces": ("clips", {"anomaly_score": "local-paces"}),
    "clips as vectors": ("clips", {"backbone": "fc", "sample_shape": [256], "contamination": "auto"}),
}
KEPT = Path(__file__).parent / "data" / "detector-format-1.safetensors"


@pytest.fixture(scope="module", params=SETTINGS)
def fitted(request):
    name, params = SETTINGS[request.param]
    return detector(**{"max_epochs": 2, **params}).fit(DATA[name]), DATA[name]


@pytest.fixture(scope="module")
def of_table():
    return detector(max_epochs=2, ensemble_size=2, memory_size=20).fit(DATA["frame"])


@pytest.fixture
def path(of_table, tmp_path):
    of_table.save(tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors"


def through_file(det, tmp_path):
    det.save(tmp_path / "detector.safetensors")
    return MemAEDetector.load(tmp_path / "detector.safetensors")


def equal(a, b):
    """Whether values are equal and of the same types, but for those of NumPy's numbers, and arrays to the bit."""
    a, b = (value.item() if isinstance(value, np.generic) else value for value in (a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and (a.tolist() == b.tolist() or a.tobytes() == b.tobytes())
    return type(a) is type(b) and (a == b or a != a)


# What comes back.


def test_all_that_a_detector_is_comes_back_from_a_file_and_a_pickle(fitted, tmp_path):
    det, X = fitted
    for again in (through_file(det, tmp_path), pickle.loads(pickle.dumps(det))):
        assert equal(det.__getstate__(), again.__getstate__())
        np.testing.assert_array_equal(again.decision_function(X), det.decision_function(X))
        np.testing.assert_array_equal(again.reconstruct(X), det.reconstruct(X))
        if det.resolved_params_["memory_size"]:
            np.testing.assert_array_equal(again.explain(X).shares, det.explain(X).shares)
            np.testing.assert_array_equal(again.decode_memory(), det.decode_memory())


def test_a_loaded_detector_does_what_a_fitted_one_does(of_table, tmp_path):
    X, again = DATA["frame"], through_file(of_table, tmp_path)
    np.testing.assert_array_equal(again.p_values(X), of_table.p_values(X))
    assert again.explain(X).feature_names.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        again.predict(X.rename(columns={"a": "z"}))
    assert again.set_threshold(contamination=0.5).labels_.sum() == 60
    assert set(again.set_params(convention="sklearn").predict(X)) == {-1, 1}
    moved = through_file(again, tmp_path)
    assert moved.threshold_ == again.threshold_ and set(moved.predict(X)) == {-1, 1}
    np.testing.assert_array_equal(again.fit(X).decision_scores_, of_table.decision_scores_)


@pytest.mark.parametrize("unit", ["row", "sample"])
def test_updates_go_on_where_they_were(unit, tmp_path):
    det = detector(max_epochs=2, memory_unit=unit, ensemble_size=2, memory_size=20).fit(X[:50]).partial_fit(X[50:80])
    again = through_file(det, tmp_path)
    assert equal(det.partial_fit(X[80:]).__getstate__(), again.partial_fit(X[80:]).__getstate__())


def test_numbers_texts_and_arrays_come_back_as_they_are(tmp_path):
    values = {
        "odd_": [np.nan, np.inf, -np.inf, -0.0, 0.1 + 0.2, 5e-324, 2**70, True, None, "ü\ud800 \"'", (), ((1,), [2.5])],
        "window_": {"rows": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "every": np.arange(9, dtype=">i4")[::2]},
        "_empty": np.empty((0, 3), dtype=np.float32),
        "flag_": np.array(True),
        "names_": np.array(["a", "bc"], dtype=object),
    }
    det = detector(max_epochs=2).fit(X)
    vars(det).update(values)
    again = through_file(det, tmp_path)
    values["window_"]["every"] = values["window_"]["every"].astype(np.int32)
    assert all(equal(value, getattr(again, name)) for name, value in values.items())


def test_a_request_for_metadata_is_no_part_of_a_detector(tmp_path):
    with config_context(enable_metadata_routing=True):
        requesting = detector().set_fit_request(checkpoint=True).fit(X)
        requesting.save(tmp_path / "detector.safetensors")
    assert MemAEDetector.load(tmp_path / "detector.safetensors").threshold_ == requesting.threshold_


def test_pickles_hold_numpy_alone_and_survive_mmap_and_copies(of_table, tmp_path):
    assert b"torch" not in pickle.dumps(of_table)
    joblib.dump(of_table, tmp_path / "detector.joblib")
    X = DATA["frame"]
    for other in (
        joblib.load(tmp_path / "detector.joblib", mmap_mode="r"),
        copy.deepcopy(of_table),
        copy.copy(of_table),
    ):
        np.testing.assert_array_equal(other.decision_function(X), of_table.decision_function(X))
        assert other.get_params() == of_table.get_params() and other.threshold_ == of_table.threshold_
        np.testing.assert_array_equal(other.fit(X).decision_scores_, of_table.decision_scores_)


def test_a_copy_has_numbers_of_its_own_and_taking_the_state_changes_nothing(of_table):
    X = DATA["frame"]
    before, scores, other = dict(vars(of_table)), of_table.decision_function(X), copy.deepcopy(of_table)
    for tensor in other._model.state_dict().values():
        tensor.zero_()
    np.testing.assert_array_equal(of_table.decision_function(X), scores)
    for array in of_table.__getstate__()["_model"]["arrays"].values():
        array[...] = 0
    np.testing.assert_array_equal(of_table.decision_function(X), scores)
    assert vars(of_table) == before


def test_a_clone_and_a_pickle_of_what_is_not_fitted_are_not_fitted(of_table):
    unfitted = pickle.loads(pickle.dumps(detector(widths=(8, 3))))
    assert unfitted.get_params() == detector(widths=(8, 3)).get_params()
    for other in (clone(of_table), unfitted):
        with pytest.raises(NotFittedError):
            other.predict(DATA["frame"])
    np.testing.assert_array_equal(clone(of_table).fit(DATA["frame"]).decision_scores_, of_table.decision_scores_)


def test_a_pipeline_goes_through_skops_trusting_the_detector_alone():
    skops = pytest.importorskip("skops.io")
    pipeline = make_pipeline(StandardScaler(), detector(max_epochs=2)).fit(X)
    data = skops.dumps(pipeline)
    assert skops.get_untrusted_types(data=data) == ["skmemae._detector.MemAEDetector"]
    again = skops.loads(data, trusted=["skmemae._detector.MemAEDetector"])
    np.testing.assert_array_equal(again.decision_function(X), pipeline.decision_function(X))
    assert again[-1].resolved_params_ == pipeline[-1].resolved_params_


@pytest.mark.parametrize("device", ["cuda:99", "hpu", "meta"])
def test_a_detector_of_an_absent_device_loads_on_the_cpu(path, of_table, device):
    rewrite(path, lambda content, arrays: content["model"].update(device=device))
    state = of_table.__getstate__()
    state["_model"]["device"] = device
    unpickled = MemAEDetector.__new__(MemAEDetector)
    unpickled.__setstate__(state)
    for again in (MemAEDetector.load(path), unpickled):
        assert again.device_ == "cpu"
        np.testing.assert_array_equal(again.decision_function(DATA["frame"]), of_table.decision_function(DATA["frame"]))


@pytest.mark.parametrize("spoil", [lambda state: state.pop("_model"), lambda state: state["_model"].update(format=99)])
def test_a_state_of_another_version_says_what_to_do(of_table, spoil):
    state = of_table.__getstate__()
    spoil(state)
    with pytest.raises(ValueError, match="Load it with the version that saved it, or fit it again"):
        MemAEDetector.__new__(MemAEDetector).__setstate__(state)


def small_backbone(sample_shape):
    return nn.Linear(sample_shape[0], 2), nn.Linear(2, sample_shape[0])


def lazy_backbone(sample_shape):
    return nn.Sequential(nn.LazyLinear(4)), nn.LazyLinear(sample_shape[0])


@pytest.mark.parametrize("backbone", [small_backbone, lazy_backbone])
def test_a_detector_with_a_backbone_of_ones_own_can_be_pickled(backbone):
    det = detector(backbone=backbone, memory_size=10, max_epochs=20).fit(X)
    assert det.loss_curve_[-1] < det.loss_curve_[0]
    again = pickle.loads(pickle.dumps(det))
    np.testing.assert_array_equal(again.decision_function(X), det.decision_scores_)
    np.testing.assert_array_equal(again.decode_memory(), det.decode_memory())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind, how", [("table", "load"), ("images", "pickle")])
def test_a_process_that_was_forked_after_a_load_can_score(tmp_path, kind, how):
    X = np.repeat(DATA[kind], 30, axis=0)
    det = detector().fit(X)
    det.save(tmp_path / "load")
    (tmp_path / "pickle").write_bytes(pickle.dumps(det))
    np.save(tmp_path / "X.npy", X)
    script = """
import os, pickle, sys
import numpy as np
import torch
from skmemae import MemAEDetector
torch.set_num_threads(2)
# Neither starts a thread that a fork would lose.
detector = MemAEDetector.load("load") if sys.argv[1] == "load" else pickle.load(open("pickle", "rb"))
child = os.fork()
if child == 0:
    np.save("scores.npy", detector.decision_function(np.load("X.npy")))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script, how], check=True, timeout=60, env=environment, cwd=tmp_path)
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), det.decision_scores_, rtol=1e-5)


# What cannot be saved.


def test_an_unfitted_detector_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        detector().save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())


class Thresholder:
    def fit(self, scores):
        self.labels_ = (scores > np.median(scores)).astype(int)


@pytest.mark.parametrize(
    "name, value, plain",
    [
        ("contamination", Thresholder(), 0.1),
        ("random_state", np.random.RandomState(0), None),
        ("backbone", small_backbone, None),
    ],
)
def test_what_a_file_cannot_keep_is_named_before_anything_is_written(name, value, plain, tmp_path):
    det = detector(max_epochs=2, memory_size=10, **{name: value}).fit(X)
    with pytest.raises(ValueError, match=f"The '{name}' parameter must be .* to save a detector. Got .* instead. .*"):
        det.save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())
    if name == "backbone":
        with pytest.raises(ValueError, match="backbone is a function, which a file of a detector does not keep"):
            det.set_params(backbone="fc").save(tmp_path / "detector.safetensors")
        assert not list(tmp_path.iterdir())
    else:  # what the message says to do
        again = through_file(det.set_params(**{name: plain}), tmp_path)
        assert again.threshold_ == det.threshold_ and again.resolved_params_[name] == plain


def test_a_parameter_that_load_would_refuse_is_not_saved(tmp_path):
    det = detector(max_epochs=2).fit(X).set_params(memory_size="large")
    with pytest.raises(ValueError, match="'memory_size' parameter"):
        det.save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_attribute_that_is_an_object_is_named(tmp_path):
    det = detector(max_epochs=2).fit(X)
    det.helper_ = object()
    with pytest.raises(ValueError, match="attributes.helper_ is a object"):
        det.save(tmp_path / "detector.safetensors")


def test_a_failed_save_leaves_the_file_that_was_there(path, of_table, monkeypatch):
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        of_table.save(path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_through_a_link_and_readable_as_others_are(path, of_table):
    link, other = path.with_name("link"), path.with_name("other")
    link.symlink_to(path)
    other.touch()
    of_table.save(str(link))
    assert link.is_symlink() and path.stat().st_mode == other.stat().st_mode
    MemAEDetector.load(link)


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
def test_an_error_names_the_path_that_was_given(of_table, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    given = kind("none/detector.safetensors")
    for call in (of_table.save, MemAEDetector.load):
        with pytest.raises(FileNotFoundError) as raised:
            call(given)
        assert os.fsdecode(raised.value.filename) == os.path.join("none", "detector.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as raised:
        of_table.save("folder")
    assert raised.value.filename == "folder" and raised.value.filename2 is None


# File objects.


def test_a_file_object_is_written_and_read_from_its_position_on(of_table, tmp_path, path):
    memory = io.BytesIO(b"before")
    memory.seek(6)
    of_table.save(memory)
    assert memory.getvalue()[:6] == b"before" and memory.tell() == 6 + path.stat().st_size
    memory.seek(6)
    again = MemAEDetector.load(memory)
    assert equal(of_table.__getstate__(), again.__getstate__()) and not memory.closed and memory.read() == b""
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive, archive.open("detector", "w") as file:
        of_table.save(file)
    with zipfile.ZipFile(tmp_path / "archive.zip") as archive, archive.open("detector") as file:
        assert equal(of_table.__getstate__(), MemAEDetector.load(file).__getstate__())
    with open(tmp_path / "plain", "wb", buffering=0) as file:
        of_table.save(file)
    with open(tmp_path / "plain", "rb", buffering=0) as file:
        assert MemAEDetector.load(file).threshold_ == of_table.threshold_


def test_an_object_needs_no_more_than_write_or_read(of_table):
    class Target:
        content = b""

        def write(self, data):
            self.content += data

    class Source:
        def __init__(self, content):
            self.read = io.BytesIO(content).read

    target = Target()
    of_table.save(target)
    assert MemAEDetector.load(Source(target.content)).threshold_ == of_table.threshold_


@pytest.mark.parametrize("target", [None, 5, [], io.StringIO()], ids=["None", "int", "list", "text"])
def test_what_is_neither_a_path_nor_a_binary_file_is_named(of_table, target):
    for method, call in (("write", of_table.save), ("read", MemAEDetector.load)):
        said = f"The 'path' parameter must be a path or a binary file object with a {method} method. Got {target!r} instead."
        with pytest.raises(TypeError, match=re.escape(said)):
            call(target)


def test_a_file_object_that_is_closed_or_open_for_something_else_is_named(of_table, path):
    before = path.read_bytes()
    with open(path, "rb") as reading, open(path, "ab") as writing, open(path) as text:
        with pytest.raises(ValueError, match="It is closed, or was not opened to write"):
            of_table.save(reading)
        with pytest.raises(ValueError, match="It is closed, or was not opened to read"):
            MemAEDetector.load(writing)
        with pytest.raises(TypeError, match="A text file must be opened in binary mode"):
            MemAEDetector.load(text)
    for call in (of_table.save, MemAEDetector.load):
        with pytest.raises(ValueError, match="It is closed"):
            call(reading)
    assert path.read_bytes() == before


def test_a_damaged_file_object_is_named(path):
    damaged = path.read_bytes()[:-1]
    with pytest.raises(ValueError, match="BytesIO object cannot be loaded as a detector"):
        MemAEDetector.load(io.BytesIO(damaged))
    path.write_bytes(damaged)
    with open(path, "rb") as file, pytest.raises(ValueError, match=re.escape(f"{path} cannot be loaded as a detector")):
        MemAEDetector.load(file)


# The file of the first format, which is to be read for good.


def kept_frame():
    """Samples that the kept file is of."""
    rng = np.random.default_rng(17)
    return pd.DataFrame(rng.normal(size=(40, 3)), columns=["length", "width", "weight"])


def write_kept_file():
    """Write the file of the current format: ``python -c "from tests.test_files import write_kept_file as w; w()"``."""
    X = kept_frame()
    det = MemAEDetector(memory_size=10, ensemble_size=2, max_epochs=5, random_state=0, device="cpu").fit(X)
    det.save(KEPT)
    expected = {"scores": det.decision_function(X).tolist(), "threshold": det.threshold_}
    KEPT.with_suffix(".json").write_text(json.dumps(expected))


def test_a_file_of_the_first_format_gives_its_scores():
    X, expected = kept_frame(), json.loads(KEPT.with_suffix(".json").read_text())
    det = MemAEDetector.load(KEPT)
    assert det.time_limit is None  # the file is older than this parameter
    np.testing.assert_allclose(det.decision_function(X), expected["scores"], rtol=1e-5)
    assert det.threshold_ == expected["threshold"] and det.feature_names_in_.tolist() == list(X)
    assert np.isnan(det.effective_items_)  # nor does it say how many items answer
    assert det.explain(X).shares.shape == X.shape and len(det.partial_fit(X).predict(X)) == 40
    assert det.effective_items_ >= 1 and len(det.fit(X).labels_) == 40


def test_a_parameter_that_is_newer_than_a_file_takes_its_default(path):
    rewrite(path, lambda content, arrays: content["parameters"].pop("verbose") and content)
    assert MemAEDetector.load(path).verbose == 0

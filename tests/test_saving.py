"""Files of fitted detectors: what they keep, and what becomes of files that are damaged, foreign or hostile."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmemae import MemAEDetector, _saving
from skmemae._untrusted import _ATTRIBUTES
from tests.problems import data, detector, rewrite

DATA = {**data(), "frame": pd.DataFrame(data()["table"], columns=list("abcdef"))}
DATA["amounts"] = np.exp(3 * DATA["table"])
DATA["colours"] = np.random.default_rng(0).random((40, 12, 10, 3))
SETTINGS = {
    "rows": ("frame", {}),
    "logarithms": ("amounts", {}),
    "channels last": ("colours", {"widths": (8, 4)}),
    "learned": ("frame", {"memory_unit": "sample", "memory_heads": 2, "widths": (8, 4)}),
    "plain autoencoder": ("table", {"memory_size": 0}),
    "plain autoencoders of rows": ("table", {"memory_size": 0, "memory_unit": "row", "random_state": np.int64(3)}),
    "images": ("images", {"ensemble_size": 2, "contamination": np.float64(0.2)}),
    "maps of images": ("bytes", {"memory_unit": "location", "scaling": "log", "anomaly_score": "local"}),
    "clips": ("clips", {"ensemble_size": 2}),
    "motion": ("clips", {"anomaly_score": "motion"}),
    "clips as vectors": ("clips", {"backbone": "fc", "sample_shape": [256], "contamination": "auto"}),
}
KEPT = Path(__file__).parent / "data" / "detector-format-1.safetensors"


@pytest.fixture(scope="module", params=SETTINGS)
def fitted(request):
    name, params = SETTINGS[request.param]
    return detector(**{"max_epochs": 2, **params}).fit(DATA[name]), DATA[name]


@pytest.fixture(scope="module")
def table_detector():
    return detector(max_epochs=2, ensemble_size=2, memory_size=20).fit(DATA["frame"])


@pytest.fixture
def path(table_detector, tmp_path):
    table_detector.save(tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors"


def through_file(det, tmp_path):
    det.save(tmp_path / "detector.safetensors")
    return MemAEDetector.load(tmp_path / "detector.safetensors")


def equal(a, b):
    """Whether values are equal and of the same types, arrays to the bit."""
    if isinstance(a, np.generic):
        a = a.item()
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and (a.tolist() == b.tolist() or a.tobytes() == b.tobytes())
    return type(a) is type(b) and (a == b or a != a)


def test_all_that_a_detector_is_comes_back(fitted, tmp_path):
    det, X = fitted
    again = through_file(det, tmp_path)
    assert equal(det.__getstate__(), again.__getstate__())
    np.testing.assert_array_equal(again.decision_function(X), det.decision_function(X))
    np.testing.assert_array_equal(again.predict(X), det.predict(X))
    np.testing.assert_array_equal(again.reconstruct(X), det.reconstruct(X))
    if det.resolved_params_["memory_size"]:
        np.testing.assert_array_equal(again.explain(X).shares, det.explain(X).shares)
        np.testing.assert_array_equal(again.decode_memory(), det.decode_memory())


def test_a_loaded_detector_does_what_a_fitted_one_does(table_detector, tmp_path):
    X, again = DATA["frame"], through_file(table_detector, tmp_path)
    np.testing.assert_array_equal(again.p_values(X), table_detector.p_values(X))
    assert again.explain(X).feature_names.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        again.predict(X.rename(columns={"a": "z"}))
    assert again.set_threshold(contamination=0.5).labels_.sum() == 60
    assert set(again.set_params(convention="sklearn").predict(X)) == {-1, 1}
    moved = through_file(again, tmp_path)
    assert moved.threshold_ == again.threshold_ and set(moved.predict(X)) == {-1, 1}
    np.testing.assert_array_equal(again.fit(X).decision_scores_, table_detector.decision_scores_)


@pytest.mark.parametrize("memory_items", ["rows", "learned"])
def test_updates_go_on_where_they_were(memory_items, tmp_path):
    X = DATA["table"]
    det = detector(max_epochs=2, memory_items=memory_items, ensemble_size=2, memory_size=20).fit(X[:50]).partial_fit(X[50:80])
    again = through_file(det, tmp_path)
    assert equal(det.partial_fit(X[80:]).__getstate__(), again.partial_fit(X[80:]).__getstate__())


def test_numbers_texts_and_arrays_come_back_as_they_are(table_detector, tmp_path):
    values = {
        "odd_": [np.nan, np.inf, -np.inf, -0.0, 0.1 + 0.2, 5e-324, 2**70, True, None, "ü\ud800 \"'", (), ((1,), [2.5])],
        "window_": {"rows": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "every": np.arange(9, dtype=">i4")[::2]},
        "_empty": np.empty((0, 3), dtype=np.float32),
        "flag_": np.array(True),
        "names_": np.array(["a", "bc"], dtype=object),
    }
    det = detector(max_epochs=2).fit(DATA["table"])
    vars(det).update(values)
    again = through_file(det, tmp_path)
    values["window_"]["every"] = values["window_"]["every"].astype(np.int32)
    assert all(equal(value, getattr(again, name)) for name, value in values.items())


def test_a_request_for_metadata_is_no_part_of_a_detector(tmp_path):
    with config_context(enable_metadata_routing=True):
        requesting = detector().set_fit_request(checkpoint=True).fit(np.random.default_rng(0).normal(size=(60, 3)))
        requesting.save(tmp_path / "detector.safetensors")
    assert MemAEDetector.load(tmp_path / "detector.safetensors").threshold_ == requesting.threshold_


def test_an_unfitted_detector_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        detector().save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())


class Thresholder:
    def fit(self, scores):
        self.labels_ = (scores > np.median(scores)).astype(int)


def small_backbone(sample_shape):
    return nn.Linear(sample_shape[0], 2), nn.Linear(2, sample_shape[0])


@pytest.mark.parametrize(
    "name, value, plain",
    [
        ("contamination", Thresholder(), 0.1),
        ("random_state", np.random.RandomState(0), None),
        ("backbone", small_backbone, None),
    ],
)
def test_what_a_file_cannot_keep_is_named_before_anything_is_written(name, value, plain, tmp_path):
    det = detector(max_epochs=2, memory_size=10, **{name: value}).fit(DATA["table"])
    with pytest.raises(ValueError, match=f"The '{name}' parameter must be .* to save a detector. Got .* instead. .*"):
        det.save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())
    if name == "backbone":
        with pytest.raises(ValueError, match="Keep such a detector by joblib or pickle"):
            det.set_params(backbone="fc").save(tmp_path / "detector.safetensors")
    else:  # what the message says to do
        again = through_file(det.set_params(**{name: plain}), tmp_path)
        assert again.threshold_ == det.threshold_ and again.resolved_params_[name] == plain


def test_a_parameter_that_load_would_refuse_is_not_saved(tmp_path):
    det = detector(max_epochs=2).fit(DATA["table"]).set_params(memory_size="large")
    with pytest.raises(ValueError, match="'memory_size' parameter"):
        det.save(tmp_path / "detector.safetensors")
    assert not list(tmp_path.iterdir())


def test_an_attribute_that_is_an_object_is_named(table_detector, tmp_path):
    det = detector(max_epochs=2).fit(DATA["table"])
    det.helper_ = object()
    with pytest.raises(ValueError, match="attributes.helper_ is a object"):
        det.save(tmp_path / "detector.safetensors")


def test_a_failed_save_leaves_the_file_that_was_there(path, table_detector, monkeypatch):
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr(_saving.os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        table_detector.save(path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_through_a_link_and_readable_as_others_are(path, table_detector):
    link, other = path.with_name("link"), path.with_name("other")
    link.symlink_to(path)
    other.touch()
    table_detector.save(str(link))
    assert link.is_symlink() and path.stat().st_mode == other.stat().st_mode
    MemAEDetector.load(link)
    with pytest.raises(OSError):
        table_detector.save(path.parent / "none" / "detector.safetensors")


@pytest.mark.parametrize("device", ["cuda:99", "hpu", "meta"])
def test_a_detector_of_an_absent_device_loads_on_the_cpu(path, table_detector, device):
    rewrite(path, lambda content, arrays: content["model"].update(device=device))
    again = MemAEDetector.load(path)
    assert again.device_ == "cpu"
    np.testing.assert_array_equal(again.decision_function(DATA["frame"]), table_detector.decision_function(DATA["frame"]))


def test_a_process_that_was_forked_after_a_load_can_score(path):
    script = """
import os, sys
import numpy as np
from skmemae import MemAEDetector
detector = MemAEDetector.load(sys.argv[1])  # starts no thread that a fork would lose
child = os.fork()
if child == 0:
    detector.decision_function(np.zeros((6000, 6)))
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, timeout=60, env=environment)


# Files of earlier versions.


def kept_frame():
    """Samples that the kept files are of."""
    rng = np.random.default_rng(17)
    return pd.DataFrame(rng.normal(size=(40, 3)), columns=["length", "width", "weight"])


def write_kept_file():
    """Write the file of the current format: ``python -c "from tests.test_saving import write_kept_file as w; w()"``."""
    X = kept_frame()
    det = MemAEDetector(memory_size=10, ensemble_size=2, max_epochs=5, random_state=0, device="cpu").fit(X)
    KEPT.parent.mkdir(exist_ok=True)
    det.save(KEPT)
    expected = {"scores": det.decision_function(X).tolist(), "threshold": det.threshold_}
    KEPT.with_suffix(".json").write_text(json.dumps(expected))


def test_a_file_of_the_first_format_gives_its_scores():
    X, expected = kept_frame(), json.loads(KEPT.with_suffix(".json").read_text())
    det = MemAEDetector.load(KEPT)
    np.testing.assert_allclose(det.decision_function(X), expected["scores"], rtol=1e-5)
    assert det.threshold_ == expected["threshold"] and det.feature_names_in_.tolist() == list(X)
    assert det.explain(X).shares.shape == X.shape and len(det.fit(X).labels_) == 40


def test_what_is_newer_than_a_file_takes_its_default(path, monkeypatch):
    rewrite(path, lambda content, arrays: content["parameters"].pop("precision") and content)
    monkeypatch.setattr("skmemae._portable.ADDED", {"newer_": None})
    again = MemAEDetector.load(path)
    assert again.precision == "auto" and again.newer_ is None


def test_every_attribute_that_files_have_is_one_of_a_detector(table_detector):
    names = vars(table_detector).keys() - table_detector.get_params() - {"_model", "feature_names_in_"}
    assert names == _ATTRIBUTES.keys()


def test_a_pipeline_goes_through_skops():
    skops = pytest.importorskip("skops.io")
    X = DATA["table"]
    pipeline = make_pipeline(StandardScaler(), detector(max_epochs=2)).fit(X)
    again = skops.loads(skops.dumps(pipeline), trusted=["skmemae._detector.MemAEDetector"])
    np.testing.assert_array_equal(again.decision_function(X), pipeline.decision_function(X))

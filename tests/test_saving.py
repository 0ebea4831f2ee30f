"""Files of fitted detectors: what they keep, and what becomes of files that are damaged, foreign or hostile."""

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from skmemae import MemAEDetector, _saving
from skmemae._untrusted import _ATTRIBUTES
from tests.problems import data, detector

DATA = {**data(), "frame": pd.DataFrame(data()["table"], columns=list("abcdef"))}
SETTINGS = {
    "rows": ("frame", {}),
    "learned": ("frame", {"memory_items": "learned", "memory_heads": 2, "widths": (8, 4)}),
    "plain autoencoder": ("table", {"memory_size": 0}),
    "plain autoencoders of rows": ("table", {"memory_size": 0, "memory_items": "rows", "random_state": np.int64(3)}),
    "images": ("images", {"ensemble_size": 2, "contamination": np.float64(0.2)}),
    "maps of images": ("bytes", {"memory_unit": "location", "scaling": "log", "anomaly_score": "local"}),
    "clips": ("clips", {"ensemble_size": 2}),
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


def test_a_detector_of_an_absent_device_loads_on_the_cpu(path, table_detector):
    rewrite(path, lambda content, arrays: content["model"].update(device="cuda:99"))
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


# Files that are not what they should be.


def rewrite(path, change, **metadata):
    """Let ``change`` alter the JSON text, as Python has it, and the arrays of a file, which gets a checksum that fits."""
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["skmemae"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}
    content = change(content, arrays) or content
    text = content if isinstance(content, str) else json.dumps(content)
    save_file(arrays, path, {"skmemae": text, "sha256": _saving._checksum(text, arrays), **metadata})


def refused(path, match=""):
    with pytest.raises(ValueError, match=match) as raised:
        MemAEDetector.load(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 1000
    return str(raised.value)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        MemAEDetector.load(tmp_path / "none.safetensors")


def test_files_of_other_kinds_are_named(tmp_path, table_detector):
    refused(tmp_path, "a folder")
    path = tmp_path / "file"
    for content in (b"", b"\0" * 100, b"{}", pickle.dumps(table_detector), b"\xff" * 8 + b"{}"):
        path.write_bytes(content)
        refused(path)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../etc/passwd", "root")
    refused(path)
    save_file({"weight": np.zeros(3)}, path)
    refused(path, "something else")
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    refused(path, "something else")


def test_a_newer_format_says_which_version_reads_it(path):
    rewrite(path, lambda content, arrays: content.update(format=2, version="9.1"))
    refused(path, "format 2, written by skmemae 9.1; .* reads format 1. Load it with the version that wrote it, or a newer one")


def test_one_flipped_bit_or_a_missing_end_is_noticed(path):
    rng, whole = np.random.default_rng(0), path.read_bytes()
    for place in rng.integers(0, len(whole), size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            MemAEDetector.load(path).predict(DATA["frame"])  # a flip may lie in what is neither text nor number
        except ValueError as error:
            assert str(path) in str(error)
        path.write_bytes(whole[:place])
        refused(path)


def test_flipped_bits_that_the_checksum_does_not_show_are_refused_or_do_no_harm(path):
    rng = np.random.default_rng(0)
    with safe_open(path, framework="numpy") as file:
        text, arrays = file.metadata()["skmemae"], {name: file.get_tensor(name) for name in file.keys()}
    loaded = 0
    for trial in range(250):
        damaged, kept = bytearray(text.encode()), {name: array.copy() for name, array in arrays.items()}
        if trial % 5:
            place = rng.integers(len(damaged))
            damaged[place] = damaged[place] ^ (1 << rng.integers(7)) if trial % 2 else rng.choice(list(b'0123456789-e"[]{}$'))
        else:
            numbers = kept[rng.choice(sorted(kept))].reshape(-1).view(np.uint8)
            numbers[rng.integers(len(numbers), size=9)] ^= np.uint8(64)
        changed = damaged.decode()
        save_file(kept, path, {"skmemae": changed, "sha256": _saving._checksum(changed, kept)})
        try:
            again = MemAEDetector.load(path)
        except ValueError as error:
            assert str(path) in str(error)
            continue
        X = DATA["frame"].set_axis(getattr(again, "feature_names_in_", range(6)), axis=1)
        with np.errstate(all="ignore"):
            assert again.decision_function(X).shape == (120,) and again.reconstruct(X).shape == X.shape
        loaded += 1
    assert loaded > 20


SPOILT = {
    "no text": lambda content, arrays: "no JSON",
    "no object": lambda content, arrays: "[]",
    "deeply nested": lambda content, arrays: '{"format": 1, "version": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nested tuples": lambda content, arrays: content["attributes"].update(deep_=nested(900)),
    "many digits": lambda content, arrays: '{"format": ' + "9" * 10_000 + "}",
    "no format": lambda content, arrays: content.pop("format") and content,
    "unknown key": lambda content, arrays: content.update(code="import os"),
    "unknown object": lambda content, arrays: content["attributes"].update(n_iter_={"$call": "os.system"}),
    "unknown parameter": lambda content, arrays: content["parameters"].update(depth=3),
    "text for a parameter": lambda content, arrays: content["parameters"].update(tol="0.1"),
    "large memory": lambda content, arrays: content["parameters"].update(memory_size=10**12),
    "large ensemble": lambda content, arrays: content["parameters"].update(ensemble_size=10**9),
    "many widths": lambda content, arrays: content["parameters"].update(widths=[1] * 10**6),
    "parameters as a list": lambda content, arrays: content.update(parameters=[1]),
    "a method as an attribute": lambda content, arrays: content["attributes"].update(predict="x"),
    "a property as an attribute": lambda content, arrays: content["attributes"].update(offset_=1.0),
    "a class as an attribute": lambda content, arrays: content["attributes"].update(__class__="x"),
    "a text as the threshold": lambda content, arrays: content["attributes"].update(threshold_="0.1"),
    "no threshold": lambda content, arrays: content["attributes"].pop("threshold_") and content,
    "resolved parameters": lambda content, arrays: content["attributes"]["resolved_params_"].update(memory_size=10**12),
    "other names": lambda content, arrays: content["attributes"].update(feature_names_in_={"$strings": ["a", "b"]}),
    "numbers as names": lambda content, arrays: content["attributes"].update(feature_names_in_={"$strings": [1] * 6}),
    "another number of columns": lambda content, arrays: content["attributes"].update(n_features_in_=7),
    "network of many widths": lambda content, arrays: network(content, widths={"$tuple": [1] * 10**6}),
    "network of a large width": lambda content, arrays: network(content, widths={"$tuple": [10**12]}),
    "network of a huge width": lambda content, arrays: network(content, widths={"$tuple": [10**30]}),
    "network with a large memory": lambda content, arrays: network(content, memory_size=10**12),
    "network without its memory": lambda content, arrays: network(content, memory_size=0),
    "network of many members": lambda content, arrays: network(content, members=10**9),
    "network with no temperature": lambda content, arrays: network(content, temperature="auto"),
    "network of a module": lambda content, arrays: network(content, backbone="os.system"),
    "network of heads": lambda content, arrays: network(content, memory_heads=10**9),
    "many networks": lambda content, arrays: content["model"].update(n_networks=10**9),
    "no networks": lambda content, arrays: content["model"].update(n_networks=0),
    "another state": lambda content, arrays: content["model"].update(format=1),
    "no device": lambda content, arrays: content["model"].update(device="../cpu"),
    "long samples": lambda content, arrays: content["model"]["layout"].update(array_shape={"$tuple": [10**12]}),
    "samples of many axes": lambda content, arrays: content["model"]["layout"].update(given_shape={"$tuple": [1] * 99}),
    "another family": lambda content, arrays: content["model"]["layout"].update(family="conv2d"),
    "shape of texts": lambda content, arrays: content["model"]["layout"].update(sample_shape={"$tuple": ["6"]}),
    "score of images": lambda content, arrays: content["model"]["score"].update(kind="smooth"),
    "distances of others": lambda content, arrays: content["model"]["score"].update(typical_distances={"$tuple": [1.0]}),
    "limit": lambda content, arrays: content["model"]["scaling"].update(limit="10"),
    "missing array": lambda content, arrays: arrays.pop("attributes.labels_") is None,
    "surplus array": lambda content, arrays: arrays.update(more=np.zeros(3)),
    "an array twice": lambda content, arrays: content["attributes"].update(more_={"$array": "attributes.labels_"}),
    "a path as an array": lambda content, arrays: content["attributes"].update(more_={"$array": "../../etc/passwd"}),
    "dtype of scores": lambda content, arrays: cast(arrays, "attributes.decision_scores_", np.float32),
    "dtype of weights": lambda content, arrays: cast(arrays, "model.parameters.0.memory.items", np.float64),
    "dtype of labels": lambda content, arrays: cast(arrays, "attributes.labels_", bool),
    "dtype of rows": lambda content, arrays: cast(arrays, "model.score.draws.rows", np.int32),
    "fewer labels": lambda content, arrays: cut(arrays, "attributes.labels_"),
    "fewer items": lambda content, arrays: cut(arrays, "model.parameters.0.memory.items"),
    "fewer weights": lambda content, arrays: cut(arrays, "model.parameters.0.encoder.layers.0.weight"),
    "smaller median": lambda content, arrays: cut(arrays, "model.score.draws.median"),
    "smaller scale": lambda content, arrays: cut(arrays, "model.scaling.scale"),
    "items that are not there": lambda content, arrays: arrays["model.own_items.order"].__setitem__((0, 0), 20),
    "a weight of no network": lambda content, arrays: (
        content["model"]["parameters"].update({"1.x": {"$array": "x"}}) or arrays.update(x=np.zeros(3, dtype=np.float32))
    ),
}


def network(content, **changes):
    content["model"]["network_spec"].update(changes)


def nested(depth):
    return {"$tuple": [nested(depth - 1)]} if depth else 0


def cast(arrays, name, dtype):
    arrays[name] = arrays[name].astype(dtype)


def cut(arrays, name):
    arrays[name] = np.ascontiguousarray(arrays[name][..., :-1])


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_a_file_that_says_what_cannot_be_is_refused_in_little_memory(path, change):
    rewrite(path, change)
    size = path.stat().st_size
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 60 * size
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [[10**12], [2**62, 2**62], [0, 2**62], [-1], ["3"]])
def test_shapes_that_the_file_has_no_bytes_for_are_refused(path, shape):
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["attributes.decision_scores_"]["shape"] = shape
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_dtypes_that_numpy_lacks_are_refused(path):
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"dtype":"F32"', b'"dtype":"U32"', 1))
    refused(path)
    path.write_bytes(whole.replace(b'"dtype":"I64"', b'"dtype":"F8 "', 1))
    refused(path)
    save_file({"x": np.zeros(4, dtype=np.uint16)}, path, {"skmemae": json.dumps(EMPTY), "sha256": ""})
    path.write_bytes(path.read_bytes().replace(b'"dtype":"U16"', b'"dtype":"BF16"').replace(b"}}", b"}}", 1))
    refused(path)


EMPTY = {"format": 1, "version": "0", "parameters": {}, "attributes": {}, "model": {}}


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


def test_what_a_file_lacks_because_it_is_newer_takes_its_default(path, monkeypatch):
    assert det_lacks(path, "precision").precision == "auto"
    monkeypatch.setattr("skmemae._portable.ADDED", {"newer_": None})
    assert MemAEDetector.load(path).newer_ is None


def det_lacks(path, name):
    rewrite(path, lambda content, arrays: content["parameters"].pop(name) and content)
    return MemAEDetector.load(path)


def test_every_attribute_that_files_have_is_one_of_a_detector(table_detector):
    names = vars(table_detector).keys() - table_detector.get_params() - {"_model", "feature_names_in_"}
    assert names == _ATTRIBUTES.keys()


def test_a_pipeline_goes_through_skops():
    skops = pytest.importorskip("skops.io")
    X = DATA["table"]
    pipeline = make_pipeline(StandardScaler(), detector(max_epochs=2)).fit(X)
    again = skops.loads(skops.dumps(pipeline), trusted=["skmemae._detector.MemAEDetector"])
    np.testing.assert_array_equal(again.decision_function(X), pipeline.decision_function(X))

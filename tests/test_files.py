"""Detectors that are saved, pickled, copied and cloned; and what becomes of files that are damaged, foreign or hostile."""

import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skmemae import MemAEDetector
from skmemae._model import files
from tests.problems import data, detector

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
    with pytest.raises(OSError):
        of_table.save(path.parent / "none" / "detector.safetensors")


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
    np.testing.assert_allclose(det.decision_function(X), expected["scores"], rtol=1e-5)
    assert det.threshold_ == expected["threshold"] and det.feature_names_in_.tolist() == list(X)
    assert det.explain(X).shares.shape == X.shape and len(det.fit(X).labels_) == 40


def test_a_parameter_that_is_newer_than_a_file_takes_its_default(path):
    rewrite(path, lambda content, arrays: content["parameters"].pop("verbose") and content)
    assert MemAEDetector.load(path).verbose == 0


# Files of others.


def text_and_arrays(path):
    """The JSON text and the arrays of the file of a detector."""
    with safe_open(path, framework="numpy") as file:
        return file.metadata()["skmemae"], {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def write_file(path, text, arrays):
    """Write the file of a detector with a checksum that fits."""
    save_file(arrays, path, {"skmemae": text, "sha256": files._checksum(text, arrays)})


def rewrite(path, change):
    """Let ``change`` alter the JSON text, as Python has it, and the arrays of a file, which gets a checksum that fits."""
    text, arrays = text_and_arrays(path)
    content = json.loads(text)
    content = change(content, arrays) or content
    write_file(path, content if isinstance(content, str) else json.dumps(content), arrays)


def refused(path, match=None):
    with pytest.raises(ValueError, match=match) as raised:
        MemAEDetector.load(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 1000


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors"):
        MemAEDetector.load(tmp_path / "none.safetensors")


def test_files_of_other_kinds_are_named(tmp_path, of_table):
    refused(tmp_path, "a folder")
    path = tmp_path / "file"
    for content in (b"", b"\0" * 100, b"{}", pickle.dumps(of_table), b"\xff" * 8 + b"{}"):
        path.write_bytes(content)
        refused(path, "not a file of safetensors")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../etc/passwd", "root")
    refused(path)
    save_file({"weight": np.zeros(3)}, path)
    refused(path, "something else")
    save_file({"weight": np.zeros(3)}, path, {"format": "pt"})
    refused(path, "something else")


def test_a_newer_format_says_which_version_reads_it(path):
    rewrite(path, lambda content, arrays: content.update(format=2, version="9.1"))
    refused(
        path, r"format 2, written by skmemae 9.1; .* reads format 1. Load it with the version that wrote it, or a newer one"
    )


def test_one_flipped_bit_or_a_missing_end_is_noticed(path):
    rng, whole = np.random.default_rng(0), path.read_bytes()
    for place in rng.integers(0, len(whole), size=60):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        refused(path)
        path.write_bytes(whole[:place])
        refused(path)


def test_flipped_bits_that_the_checksum_does_not_show_are_refused_or_do_no_harm(path):
    rng = np.random.default_rng(0)
    text, arrays = text_and_arrays(path)
    loaded = 0
    for trial in range(250):
        damaged, kept = bytearray(text.encode()), {name: array.copy() for name, array in arrays.items()}
        if trial % 5:
            place = rng.integers(len(damaged))
            damaged[place] = damaged[place] ^ (1 << rng.integers(7)) if trial % 2 else rng.choice(list(b'0123456789-e"[]{}$'))
        else:
            numbers = kept[rng.choice(sorted(kept))].reshape(-1).view(np.uint8)
            numbers[rng.integers(len(numbers), size=9)] ^= np.uint8(64)
        write_file(path, damaged.decode(), kept)
        try:
            again = MemAEDetector.load(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise
            continue
        loaded += 1
        with contextlib.suppress(Exception):  # nobody promises that numbers of a stranger make sense
            again.decision_function(DATA["frame"])
    assert loaded > 20


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers of a tensor that torch makes room for."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and not leaf.is_meta]
        self.numbers = max([self.numbers, *made])
        return result


def refused_at_little_cost(path):
    """The file is refused within seconds, in memory that is a small multiple of its size."""
    size, begun, largest = path.stat().st_size, time.monotonic(), LargestTensor()
    tracemalloc.start()
    try:
        with largest:
            refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 60 * size
    finally:
        tracemalloc.stop()
    assert largest.numbers < size + 100_000 and time.monotonic() - begun < 10


def config(content, *path, **changes):
    """Change the config of the model, or a part of it."""
    part = content["model"]["config"]
    for name in path:
        part = part[name]
    part.update(changes)


def cast(arrays, name, dtype):
    arrays[name] = arrays[name].astype(dtype)


def cut(arrays, name):
    arrays[name] = np.ascontiguousarray(arrays[name][..., :-1])


NETWORK, KNOWN = "model.arrays.networks.networks.0.", "model.arrays.known."
SPOILT = {
    "no text": lambda content, arrays: "no JSON",
    "no object": lambda content, arrays: "[]",
    "deeply nested": lambda content, arrays: '{"format": 1, "version": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nested lists": lambda content, arrays: json.dumps({**content, "model": 0})[:-2] + "[" * 700 + "]" * 700 + "}",
    "many digits": lambda content, arrays: '{"format": ' + "9" * 10_000 + "}",
    "no format": lambda content, arrays: content.pop("format") and content,
    "no model": lambda content, arrays: content.pop("model") and content,
    "unknown object": lambda content, arrays: content["attributes"].update(n_iter_={"$call": "os.system"}),
    "unknown parameter": lambda content, arrays: content["parameters"].update(depth=3),
    "text for a parameter": lambda content, arrays: content["parameters"].update(entropy_weight="0.1"),
    "a number that JSON has not": lambda content, arrays: content["parameters"].update(entropy_weight=float("nan")),
    "an object for a parameter": lambda content, arrays: content["parameters"].update(contamination={"fit": "os.system"}),
    "large memory": lambda content, arrays: content["parameters"].update(memory_size=10**12),
    "large ensemble": lambda content, arrays: content["parameters"].update(ensemble_size=10**9),
    "parameters as a list": lambda content, arrays: content.update(parameters=[1]),
    "attributes as a list": lambda content, arrays: content.update(attributes=[1]),
    "a method as an attribute": lambda content, arrays: content["attributes"].update(predict="x"),
    "a private method as an attribute": lambda content, arrays: content["attributes"].update(_check_scoring="x"),
    "a property as an attribute": lambda content, arrays: content["attributes"].update(offset_=1.0),
    "a class as an attribute": lambda content, arrays: content["attributes"].update(__class__="x"),
    "a parameter as an attribute": lambda content, arrays: content["attributes"].update(contamination=0.2),
    "no scores": lambda content, arrays: (
        content["attributes"].pop("decision_scores_") and arrays.pop("attributes.decision_scores_") is None
    ),
    "many members": lambda content, arrays: config(content, "network", members=10**12),
    "members of another kind": lambda content, arrays: config(content, "network", members=10**4, side_by_side=False),
    "neither side by side nor not": lambda content, arrays: config(content, "network", side_by_side="yes"),
    "no members": lambda content, arrays: config(content, "network", members=0),
    "many widths": lambda content, arrays: config(content, "network", widths={"$tuple": [1] * 10**5}),
    "large width": lambda content, arrays: config(content, "network", widths={"$tuple": [10**9]}),
    "huge width": lambda content, arrays: config(content, "network", widths={"$tuple": [10**30]}),
    "negative width": lambda content, arrays: config(content, "network", widths={"$tuple": [-6]}),
    "large network memory": lambda content, arrays: config(content, "network", memory_size=10**12),
    "large query": lambda content, arrays: config(content, "network", query_width=10**9),
    "no network memory": lambda content, arrays: config(content, "network", memory_size=0),
    "a module as the backbone": lambda content, arrays: config(content, "network", backbone="os.system", side_by_side=False),
    "a long row": lambda content, arrays: config(content, "network", sample_shape={"$tuple": [10**12]}),
    "no network": lambda content, arrays: content["model"]["config"].pop("network") and content,
    "long samples": lambda content, arrays: config(content, "layout", array_shape={"$tuple": [10**13]}),
    "many numbers": lambda content, arrays: config(content, "layout", sample_shape={"$tuple": [10**12]}),
    "samples of no numbers": lambda content, arrays: config(content, "layout", given_shape={"$tuple": [0]}),
    "shape of texts": lambda content, arrays: config(content, "layout", sample_shape={"$tuple": ["6"]}),
    "another layout": lambda content, arrays: config(content, "layout", depth=3),
    "another score": lambda content, arrays: config(content, score="power"),
    "features of rows": lambda content, arrays: config(content, score="power-turns", features=10**12),
    "no calibration": lambda content, arrays: config(content, calibrated=True),
    "another state": lambda content, arrays: content["model"].update(format=2),
    "no arrays": lambda content, arrays: content["model"].update(arrays={}),
    "missing array": lambda content, arrays: arrays.pop("attributes.labels_") is None,
    "missing weight": lambda content, arrays: (
        content["model"]["arrays"].pop("scaling.scale") and arrays.pop("model.arrays.scaling.scale") is None
    ),
    "surplus array": lambda content, arrays: arrays.update(more=np.zeros(3)),
    "surplus weight": lambda content, arrays: (
        content["model"]["arrays"].update({"networks.x": {"$array": "x"}}) or arrays.update(x=np.zeros(3, dtype=np.float32))
    ),
    "an array twice": lambda content, arrays: content["attributes"].update(more_={"$array": "attributes.labels_"}),
    "a path as an array": lambda content, arrays: content["attributes"].update(more_={"$array": "../../etc/passwd"}),
    "dtype of weights": lambda content, arrays: cast(arrays, NETWORK + "encoder.0.weight", np.float64),
    "dtype of items": lambda content, arrays: cast(arrays, NETWORK + "memory.rows", np.int32),
    "dtype of rows": lambda content, arrays: cast(arrays, "model.arrays.subsets.rows", np.int32),
    "fewer items": lambda content, arrays: cut(arrays, NETWORK + "memory.keys"),
    "fewer weights": lambda content, arrays: cut(arrays, NETWORK + "encoder.0.weight"),
    "smaller median": lambda content, arrays: cut(arrays, "model.arrays.subsets.median"),
    "smaller scale": lambda content, arrays: cut(arrays, "model.arrays.scaling.scale"),
    "fewer counts": lambda content, arrays: cut(arrays, KNOWN + "counts"),
    "fewer rows of items": lambda content, arrays: cut(arrays, KNOWN + "item_rows"),
    "items of samples that are not there": lambda content, arrays: arrays[KNOWN + "item_groups"].__setitem__((0, 0), 10**15),
    "items of samples below zero": lambda content, arrays: arrays[KNOWN + "item_groups"].__setitem__((0, 0), -1),
}


@pytest.mark.parametrize("change", SPOILT.values(), ids=SPOILT)
def test_a_file_that_says_what_cannot_be_is_refused_in_little_memory(path, change):
    rewrite(path, change)
    refused_at_little_cost(path)


FEATURES = "model.arrays.features."
SPOILT_CLIPS = {
    "many networks": lambda content, arrays: config(content, "network", members=10**12),
    "more networks": lambda content, arrays: config(content, "network", members=2),
    "large layers": lambda content, arrays: config(content, "network", widths={"$tuple": [10**9]}),
    "many heads": lambda content, arrays: config(content, "network", memory_heads=10**9),
    "large clips": lambda content, arrays: config(content, "layout", sample_shape={"$tuple": [1, 10**4, 10**4, 10**4]}),
    "no features": lambda content, arrays: config(content, features=None),
    "many features": lambda content, arrays: config(content, features=10**12),
    "features of another kind": lambda content, arrays: config(content, score="local-turns"),
    "features of no kind": lambda content, arrays: config(content, score="local-os.system"),
    "features without use": lambda content, arrays: config(content, score="local"),
    "fewer features": lambda content, arrays: cut(arrays, FEATURES + "items"),
    "narrow features": lambda content, arrays: cut(arrays, FEATURES + "head.weight"),
    "dtype of features": lambda content, arrays: cast(arrays, FEATURES + "items", np.float64),
    "fewer prints": lambda content, arrays: cut(arrays, KNOWN + "prints"),
    "other quantiles": lambda content, arrays: cut(arrays, "model.arrays.calibration.held_out"),
    "calibration without use": lambda content, arrays: config(content, calibrated=False),
}


@pytest.fixture(scope="module")
def of_clips():
    clips = np.random.default_rng(0).random((30, 1, 5, 8, 8))
    return detector(max_epochs=2, anomaly_score="local-paces").fit(clips)


@pytest.mark.parametrize("change", SPOILT_CLIPS.values(), ids=SPOILT_CLIPS)
def test_a_file_of_clips_that_says_what_cannot_be_is_refused_too(of_clips, tmp_path, change):
    path = tmp_path / "detector.safetensors"
    of_clips.save(path)
    rewrite(path, change)
    refused_at_little_cost(path)


def declare(path, **changes):
    """Change what a file declares of its training scores."""
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    header["attributes.decision_scores_"].update(changes)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + length :])


@pytest.mark.parametrize("shape", [[10**12], [2**62, 2**62], [0, 2**62], [-1], ["3"]])
def test_shapes_that_the_file_has_no_bytes_for_are_refused(path, shape):
    declare(path, shape=shape)
    refused_at_little_cost(path)


@pytest.mark.parametrize("changes", [{"dtype": "C64"}, {"dtype": "F128"}, {"dtype": "BF16", "shape": [480]}, {"dtype": "I64"}])
def test_dtypes_that_no_array_has_are_refused(path, changes):
    declare(path, **changes)
    refused(path)

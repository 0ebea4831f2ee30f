"""Files of detectors that are damaged, foreign or hostile."""

import contextlib
import json
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from skmemae import MemAEDetector
from tests.problems import data, detector, rewrite, text_and_arrays, write_file

X = pd.DataFrame(data()["table"], columns=list("abcdef"))


@pytest.fixture(scope="module")
def of_table():
    return detector(max_epochs=2, ensemble_size=2, memory_size=20).fit(X)


@pytest.fixture
def path(of_table, tmp_path):
    of_table.save(tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors"


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
            again.decision_function(X)
    assert loaded > 20


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers of a tensor that torch makes room for."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor) and not leaf.is_meta]
        self.numbers = max([self.numbers, *made])
        return result


@pytest.fixture(scope="module", autouse=True)
def torch_has_imported_what_it_needs():
    """The first tensor without numbers under such a mode makes torch import modules of tens of megabytes."""
    with LargestTensor():
        nn.Linear(2, 2, device="meta")


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
    "no places": lambda content, arrays: config(content, places=True),
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
    "narrow prints": lambda content, arrays: arrays.__setitem__(KNOWN + "prints", arrays[KNOWN + "prints"][:2]),
    "other quantiles": lambda content, arrays: cut(arrays, "model.arrays.calibration.held_out"),
    "calibration without use": lambda content, arrays: config(content, calibrated=False),
    "places without use": lambda content, arrays: config(content, places=False),
    "fewer places": lambda content, arrays: cut(arrays, "model.arrays.places.level"),
    "fewer p-values": lambda content, arrays: cut(arrays, "model.arrays.places.log_p_values"),
    "dtype of places": lambda content, arrays: cast(arrays, "model.arrays.places.quantiles", np.float64),
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

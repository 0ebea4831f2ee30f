"""Files that are no detectors: damaged, foreign and hostile ones."""

import json
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save_file

from skmemae import MemAEDetector
from tests.problems import data, detector, rewrite, text_and_arrays, write_file

X = data()["table"]


@pytest.fixture(scope="module")
def fitted():
    return detector(max_epochs=2, ensemble_size=2, memory_size=20).fit(X)


@pytest.fixture
def path(fitted, tmp_path):
    fitted.save(tmp_path / "detector.safetensors")
    return tmp_path / "detector.safetensors"


def refused(path, match=None):
    with pytest.raises(ValueError, match=match) as raised:
        MemAEDetector.load(path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 1000


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        MemAEDetector.load(tmp_path / "none.safetensors")


def test_files_of_other_kinds_are_named(tmp_path, fitted):
    refused(tmp_path, "a folder")
    path = tmp_path / "file"
    for content in (b"", b"\0" * 100, b"{}", pickle.dumps(fitted), b"\xff" * 8 + b"{}"):
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
    refused(path, "format 2, written by skmemae 9.1; .* reads format 1. Load it with the version that wrote it, or a newer one")


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
        changed = damaged.decode()
        write_file(path, changed, kept)
        try:
            again = MemAEDetector.load(path)
        except ValueError as error:
            if str(path) not in str(error):
                raise
            continue
        with np.errstate(all="ignore"):
            assert again.decision_function(X).shape == (120,) and again.reconstruct(X).shape == X.shape
        loaded += 1
    assert loaded > 20


SPOILT = {
    "no text": lambda content, arrays: "no JSON",
    "no object": lambda content, arrays: "[]",
    "deeply nested": lambda content, arrays: '{"format": 1, "version": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "nested lists": lambda content, arrays: json.dumps({**content, "model": 0})[:-2] + "[" * 700 + "]" * 700 + "}",
    "many digits": lambda content, arrays: '{"format": ' + "9" * 10_000 + "}",
    "no format": lambda content, arrays: content.pop("format") and content,
    "unknown key": lambda content, arrays: content.update(code="import os"),
    "unknown object": lambda content, arrays: content["attributes"].update(n_iter_={"$call": "os.system"}),
    "unknown parameter": lambda content, arrays: content["parameters"].update(depth=3),
    "text for a parameter": lambda content, arrays: content["parameters"].update(tol="0.1"),
    "large memory": lambda content, arrays: content["parameters"].update(memory_size=10**12),
    "large ensemble": lambda content, arrays: content["parameters"].update(ensemble_size=10**9),
    "many widths": lambda content, arrays: content["parameters"].update(widths=[1] * 10**5),
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
    "network of many widths": lambda content, arrays: network(content, widths={"$tuple": [1] * 10**5}),
    "network of a large width": lambda content, arrays: network(content, widths={"$tuple": [10**12]}),
    "network of a huge width": lambda content, arrays: network(content, widths={"$tuple": [10**30]}),
    "network with a large memory": lambda content, arrays: network(content, memory_size=10**12),
    "network without its memory": lambda content, arrays: network(content, memory_size=0),
    "network of many members": lambda content, arrays: network(content, members=10**9),
    "network with no temperature": lambda content, arrays: network(content, temperature="auto"),
    "network of a module": lambda content, arrays: network(content, backbone="os.system"),
    "network of a flag": lambda content, arrays: network(content, memory_heads=True),
    "network of a large temperature": lambda content, arrays: network(content, temperature=10**400),
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


SPOILT_CLIPS = {
    "no exemplars": lambda content, arrays: content["model"].update(exemplars=None),
    "exemplars of another kind": lambda content, arrays: content["model"]["score"].update(exemplars="turns"),
    "exemplars of no kind": lambda content, arrays: content["model"]["score"].update(exemplars="os.system"),
    "exemplars without use": lambda content, arrays: content["model"]["score"].update(exemplars=None),
    "fewer exemplars": lambda content, arrays: cut(arrays, "model.exemplars.items"),
    "narrow exemplars": lambda content, arrays: cut(arrays, "model.exemplars.head.weight"),
    "dtype of exemplars": lambda content, arrays: cast(arrays, "model.exemplars.items", np.float64),
    "prints in disorder": lambda content, arrays: arrays["model.seen.prints"].__setitem__(0, 1e9),
    "fewer prints": lambda content, arrays: cut(arrays, "model.seen.prints"),
    "quantiles in disorder": lambda content, arrays: arrays["model.seen.seen_scores"].__setitem__(0, 1e9),
    "quantiles of nothing": lambda content, arrays: arrays["model.seen.unseen_scores"].__setitem__(0, 0),
    "other quantiles": lambda content, arrays: cut(arrays, "model.seen.unseen_scores"),
}


@pytest.fixture(scope="module")
def fitted_to_clips():
    clips = np.random.default_rng(0).random((30, 1, 5, 8, 8))
    return detector(max_epochs=2, anomaly_score="motion").fit(clips)


@pytest.mark.parametrize("change", SPOILT_CLIPS.values(), ids=SPOILT_CLIPS)
def test_exemplars_and_samples_seen_that_cannot_be_are_refused(fitted_to_clips, tmp_path, change):
    path = tmp_path / "detector.safetensors"
    fitted_to_clips.save(path)
    rewrite(path, change)
    refused(path)


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
    tracemalloc.start()
    try:
        refused(path)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("changes", [{"dtype": "C64"}, {"dtype": "F128"}, {"dtype": "BF16", "shape": [480]}, {"dtype": "I64"}])
def test_dtypes_that_no_array_has_are_refused(path, changes):
    declare(path, **changes)
    refused(path)

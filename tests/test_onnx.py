"""What leaves as an ONNX graph scores, labels and maps as the detector does."""

import io
import json
import logging
import sys
import warnings

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from skmemae import presets
from skmemae._model.score import ERRORS
from tests.problems import data, detector

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def amounts(n=200):
    """A table with a column of amounts, which scaling takes the logarithm of, and with rows that are there twice."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6))
    X[:20] *= 5
    X[:, 3] = np.exp(3 * X[:, 3].clip(-3, 4))
    X[40:50] = X[50:60]
    return X


KINDS = {**data(), "table": amounts(), "colours": np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)}


def session_of(fitted, path):
    fitted.export_onnx(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def assert_agree(fitted, session, X, rtol=1e-5):
    with np.errstate(over="ignore"):
        score, label, residuals = session.run(["score", "label", "map"], {"X": X.astype(np.float64)})
        expected = -fitted.score_samples(X)
        # Both sides round to float32, so small scores agree as far as those of usual size do.
        np.testing.assert_allclose(score, expected, rtol=rtol, atol=1e-6 * np.median(fitted.decision_scores_))
        np.testing.assert_array_equal(label, fitted.predict(X))
        np.testing.assert_allclose(residuals, fitted.anomaly_map(X), rtol=1e-3, atol=1e-4)
    assert score.dtype == np.float64 and label.dtype == np.int64 and residuals.shape == X.shape


def small_backbone(sample_shape):
    return torch.nn.Linear(*sample_shape, 4), torch.nn.Linear(4, *sample_shape)


DETECTORS = {
    "rows": ("table", {}),
    "images": ("colours", {"anomaly_score": "smooth-turns"}),  # and calibrated
    "surfaces": ("images", {"anomaly_score": "smooth-patches", "scaling": "log-contrast"}),
    "clips": ("clips", {}),
    "learned": (
        "table",
        {
            "anomaly_score": "relative-query",
            "scaling": "minmax",
            "memory_unit": "sample",
            "ensemble_size": 2,
            "random_state": 1,
        },
    ),
    "no memory": ("table", {"anomaly_score": "absolute", "scaling": None, "memory_size": 0, "convention": "sklearn"}),
    "callable": ("table", {"backbone": small_backbone, "memory_size": 5, "ensemble_size": 1}),
}
MORE_DETECTORS = {
    "grey images": ("images", {}),
    "small defects": ("images", {"anomaly_score": "local", "scaling": "log", "ensemble_size": 2}),
    "clean rows": ("table", {"anomaly_score": "reconstruction", "scaling": "standard", "contamination": 0.001}),
    "dot products": ("table", {"ensemble_size": 1, "similarity": "dot", "memory_unit": "sample"}),
    "few rows": ("table", {"ensemble_size": 3, "memory_size": 50}),
    "all weights": ("images", {"anomaly_score": "smooth-query", "shrink_threshold": 0.0}),
    "paces": ("clips", {"anomaly_score": "local-paces"}),
    "images as rows": ("images", {"backbone": "fc", "contamination": "auto"}),
    "clips as wholes": ("clips", {"anomaly_score": "smooth-turns", "scaling": "minmax", "memory_unit": "sample"}),
    "rows without a memory": ("table", {"memory_size": 0}),
}


@pytest.mark.parametrize(
    "kind, params",
    [*DETECTORS.values(), *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE_DETECTORS.values())],
    ids=[*DETECTORS, *MORE_DETECTORS],
)
def test_the_graph_scores_as_the_detector_does_in_batches_of_any_size(kind, params, tmp_path):
    X = KINDS[kind]
    fitted = detector(**params).fit(X)
    session = session_of(fitted, tmp_path / "detector.onnx")
    new = np.concatenate([X, 1.01 * X[::-1]])
    many = np.concatenate([new] * (1000 // len(new) + 1))[:1000]
    few = X[-3:].astype(np.float64)
    # Beyond the limit of scaled values all places of a clip change alike, and which of equal ones count is left open.
    far = 1e6 if params.get("anomaly_score") == "local-paces" else 1e30
    extreme = np.concatenate([0.0 * few, far * few, -far * few, far**9 * few, X[:2]]) if far > 1e6 else far * few
    for batch in (X, X.astype(np.float32), new[-1:], new[-7:], many, extreme, np.repeat(new[-1:], 5, axis=0)):
        assert_agree(fitted, session, batch, 5e-5 if "patches" in str(params) else 1e-5)  # an exponential of a rounded distance
    assert_broken_samples_are_outliers(fitted, session, new[:5].astype(np.float64))


def assert_broken_samples_are_outliers(fitted, session, X):
    """With a value that is not finite a sample is an outlier, and the others of its batch stay as they are."""
    whole = session.run(["score", "label", "map"], {"X": X})
    others = np.arange(len(X)) != 2
    for value in (np.nan, np.inf, -np.inf):
        broken = X.copy()
        place = (2, *(size // 2 for size in X.shape[1:]))
        broken[place] = value
        score, label, residuals = session.run(["score", "label", "map"], {"X": broken})
        assert score[2] == np.inf and label[2] == (-1 if fitted.convention == "sklearn" else 1)
        assert np.isinf(residuals[place]) and np.isfinite(residuals).sum() == residuals.size - 1
        for found, expected in zip((score, label, residuals), whole, strict=True):
            np.testing.assert_array_equal(found[others], expected[others])
    score, label, _ = session.run(["score", "label", "map"], {"X": np.full_like(X, np.nan)})
    assert np.isinf(score).all() and len(set(label.tolist())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("scaling", ["contrast", "log-contrast", "log", "standard", "minmax", None])
@pytest.mark.parametrize("score", [*ERRORS, "auto"])
@pytest.mark.parametrize("kind", ["table", "images", "clips"])
def test_every_error_with_every_scaling(kind, score, scaling, tmp_path):
    if kind == "table" and (score in ("smooth", "local") or scaling in ("contrast", "log-contrast")):
        pytest.skip("not for tables")
    fitted = detector(anomaly_score=score, scaling=scaling).fit(KINDS[kind])
    rtol = 2e-5 if scaling else 1e-4  # small squared errors, or of numbers of all sizes: both sides round to float32
    assert_agree(fitted, session_of(fitted, tmp_path / "detector.onnx"), KINDS[kind], rtol)


PRESETS = {
    "mnist": (presets.paper("mnist"), (30, 28, 28)),
    "cifar10": (presets.paper("cifar10"), (30, 32, 32, 3)),
    "kddcup99": (presets.paper("kddcup99"), (300, 30)),
    "video": (presets.paper("video"), (6, 1, 16, 32, 32)),
    "small_video": (presets.small_video(), (10, 2, 9, 24, 36)),
    "small_sheets": ({}, (20, 100, 3)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_presets_score_the_same(name, rng, tmp_path):
    params, shape = PRESETS[name]
    X = rng.random(shape)
    fitted = detector(**{**params, "max_epochs": 1}).fit(X)
    session = session_of(fitted, tmp_path / "detector.onnx")
    assert_agree(fitted, session, X)
    assert_agree(fitted, session, 1.1 * X[:1])


@pytest.mark.slow
def test_large_memories_and_many_columns(rng, tmp_path):
    for shape in [(9000, 60), (400, 274)]:
        X = rng.normal(size=shape)
        fitted = detector(contamination=0.05, max_epochs=1).fit(X)
        assert_agree(fitted, session_of(fitted, tmp_path / "detector.onnx"), X[:1000])


def test_the_file_says_what_it_is_and_keeps_the_coding_of_labels(table, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, _ = table
    fitted = detector(convention="sklearn", memory_unit="sample", ensemble_size=1).fit(
        pandas.DataFrame(X, columns=list("abcdef"))
    )
    before = vars(fitted).copy()
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"older")
    session = session_of(fitted, path)
    assert vars(fitted) == before and [file.name for file in tmp_path.iterdir()] == [path.name]
    meta = session.get_modelmeta()
    assert meta.producer_name == "skmemae"
    assert json.loads(meta.custom_metadata_map["feature_names"]) == list("abcdef")
    assert float(meta.custom_metadata_map["threshold"]) == fitted.threshold_
    assert meta.custom_metadata_map["convention"] == "sklearn" and meta.custom_metadata_map["version"]
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape[1:]) == ("X", "tensor(double)", [6])
    (labels,) = session.run(["label"], {"X": X})
    assert set(labels) == {-1, 1}
    assert b"site-packages" not in path.read_bytes() and b".py" not in path.read_bytes()


@pytest.fixture(scope="module")
def small():
    """A detector that is exported in no time."""
    return detector(memory_size=5, memory_unit="sample", ensemble_size=1).fit(data()["table"])


def test_exporting_is_silent_and_leaves_torch_as_it_was(small, tmp_path, capfd, caplog):
    small.export_onnx(tmp_path / "first.onnx")  # imports what it needs
    scores = small.decision_function(data()["table"])
    names = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")

    def state():
        levels = [logging.getLogger(name).level for name in names]
        return torch.random.get_rng_state().tolist(), torch.is_grad_enabled(), levels, list(warnings.filters)

    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = state()
        with torch.inference_mode():
            small.export_onnx(tmp_path / "second.onnx")
        assert state() == before
    assert tuple(capfd.readouterr()) == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    session = onnxruntime.InferenceSession(tmp_path / "second.onnx")
    np.testing.assert_allclose(session.run(["score"], {"X": data()["table"]})[0], scores, rtol=1e-5)
    np.testing.assert_array_equal(small.decision_function(data()["table"]), scores)


def test_without_onnx_a_detector_says_what_to_install(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r'pip install "skmemae\[onnx\]"'):
        small.export_onnx(tmp_path / "detector.onnx")
    assert not list(tmp_path.iterdir())


def test_an_unfitted_detector_and_a_folder_that_is_not_there(small, tmp_path):
    with pytest.raises(NotFittedError):
        detector().export_onnx(tmp_path / "detector.onnx")
    missing = tmp_path / "nowhere" / "detector.onnx"
    with pytest.raises(FileNotFoundError) as raised:
        small.export_onnx(missing)
    assert raised.value.filename == str(missing)


def test_a_graph_goes_to_a_binary_file_object_from_its_position_on(small):
    file = io.BytesIO(b"before")
    file.seek(6)
    small.export_onnx(file)
    session = onnxruntime.InferenceSession(file.getvalue()[6:])
    assert file.getvalue()[:6] == b"before" and file.tell() == len(file.getvalue())
    np.testing.assert_allclose(session.run(["score"], {"X": data()["table"]})[0], small.decision_scores_, rtol=1e-5)


@pytest.mark.parametrize("target", [None, io.StringIO(), object()], ids=["None", "text", "object"])
def test_what_is_neither_a_path_nor_a_binary_file_is_refused_before_the_export(small, target, monkeypatch):
    monkeypatch.setattr(torch.export, "export", None)
    with pytest.raises(TypeError, match="The 'path' parameter must be a path or a binary file object with a write method"):
        small.export_onnx(target)


class Picky(torch.nn.Linear):
    """Cannot be exported, as what it does depends on values."""

    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def picky_backbone(sample_shape):
    return Picky(*sample_shape, 4), torch.nn.Linear(4, *sample_shape)


def test_a_backbone_that_cannot_be_exported_is_an_error_and_leaves_the_file(tmp_path):
    fitted = detector(backbone=picky_backbone, max_epochs=1, memory_size=5).fit(data()["table"])
    path = tmp_path / "detector.onnx"
    path.write_bytes(b"older")
    with pytest.raises(RuntimeError, match="export_onnx cannot export .* callable backbone"):
        fitted.export_onnx(path)
    assert path.read_bytes() == b"older" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_detector_on_a_gpu_stays_there(tmp_path):
    for kind in ("table", "images"):
        fitted = detector(device="cuda").fit(KINDS[kind])
        session = session_of(fitted, tmp_path / "detector.onnx")
        assert fitted.device_.startswith("cuda")
        score, _, _ = session.run(None, {"X": KINDS[kind].astype(np.float64)})
        np.testing.assert_allclose(score, -fitted.score_samples(KINDS[kind]), rtol=1e-4)

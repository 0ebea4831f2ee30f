"""MemAEDetector as its users meet it."""

import copy
import pickle
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from skmemae import MemAEDetector, MemoryCollapseWarning, metrics
from skmemae.engine.scoring import Score, anomaly_scores
from skmemae.health import warn_of_collapse


def detector(**params):
    return MemAEDetector(**{"max_epochs": 5, "random_state": 0, **params})


SHAPES = [
    ((40, 5), "fc", (5,)),
    ((40, 1), "fc", (1,)),
    ((30, 8, 8), "conv2d", (1, 8, 8)),
    ((30, 1, 28, 28), "conv2d", (1, 28, 28)),
    ((20, 3, 17, 23), "conv2d", (3, 17, 23)),
    ((20, 13, 32, 3), "conv2d", (3, 13, 32)),
    ((8, 1, 8, 16, 16), "conv3d", (1, 8, 16, 16)),
    ((6, 1, 5, 13, 11), "conv3d", (1, 5, 13, 11)),
    ((6, 5, 13, 11, 3), "conv3d", (3, 5, 13, 11)),
]


@pytest.mark.parametrize("shape, backbone, sample_shape", SHAPES)
@pytest.mark.parametrize("memory_unit", ["sample", "location"])
def test_any_shape_goes_in_and_comes_out(rng, shape, backbone, sample_shape, memory_unit):
    if backbone == "fc" and memory_unit == "location":
        pytest.skip("vectors have no locations")
    X = rng.normal(size=shape)
    kept = X.copy()
    det = detector(max_epochs=2, memory_unit=memory_unit).fit(X)
    assert det.backbone_ == backbone and det.sample_shape_ == sample_shape
    assert det.reconstruct(X).shape == det.anomaly_map(X).shape == shape
    weights = det.addressing_weights(X)
    assert weights.shape[0] == len(X) and weights.shape[-1] == len(det.memory_)
    assert (weights.ndim > 2) == (memory_unit == "location")
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert det.decode_memory().shape == (len(det.memory_), *shape[1:])
    assert np.isfinite(det.decision_scores_).all() and np.ptp(det.decision_scores_) > 0
    assert np.array_equal(X, kept)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, bool])
def test_any_real_dtype_is_taken(rng, dtype):
    X = (rng.uniform(0, 1.9, size=(30, 6, 6)) * (1 if dtype is bool else 100)).astype(dtype)
    det = detector().fit(X)
    assert det.decision_function(X).dtype == np.float64
    assert det.predict(X).dtype.kind == "i"


def test_images_of_bytes_score_as_the_same_images_of_floats(rng):
    X = rng.integers(0, 256, size=(50, 8, 8)).astype(np.uint8)
    np.testing.assert_allclose(detector().fit(X).decision_scores_, detector().fit(X.astype(float)).decision_scores_, rtol=0.05)


def test_the_score_is_the_squared_error_and_the_map_adds_up_to_it(table):
    X, _ = table
    det = detector(anomaly_score="reconstruction", ensemble_size=1).fit(X)
    np.testing.assert_allclose(det.anomaly_map(X).sum(axis=1), det.decision_scores_, rtol=1e-4)
    scaled = (X - X.mean(axis=0)) / X.std(axis=0)
    reconstruction = (det.reconstruct(X) - X.mean(axis=0)) / X.std(axis=0)
    np.testing.assert_allclose(((scaled - reconstruction) ** 2).sum(axis=1), det.decision_scores_, rtol=1e-3)
    images = detector(anomaly_score="relative").fit(X.reshape(300, 2, 3))
    assert np.isfinite(images.decision_scores_).all()


def test_an_ensemble_scores_by_the_geometric_mean_of_members_that_differ(table):
    X, _ = table
    det = detector(ensemble_size=3).fit(X)
    kind, typical = det._score
    alone = [
        anomaly_scores([network], det._batches(X), Score(kind, (distance,)))
        for network, distance in zip(det.model_, typical, strict=True)
    ]
    np.testing.assert_allclose(det.decision_function(X), np.exp(np.log(alone).mean(axis=0)))
    assert not np.allclose(alone[0], alone[1], rtol=0.01)


def test_the_smooth_score_is_the_energy_of_the_blurred_residual(rng):
    X = rng.uniform(size=(40, 24, 30))
    det = detector(scaling=None).fit(X)
    blurred = gaussian_filter(det.reconstruct(X) - X, (0, 1, 1), mode="nearest")
    np.testing.assert_allclose(det.decision_scores_, (blurred**2).sum(axis=(1, 2)), rtol=0.01)


def test_the_local_score_is_a_norm_of_the_errors_of_patches(rng):
    X = rng.uniform(size=(30, 2, 21, 28))
    det = detector(scaling=None, anomaly_score="local").fit(X)
    patches = sliding_window_view(det.anomaly_map(X).mean(axis=1), (3, 3), axis=(1, 2)).mean(axis=(3, 4))
    np.testing.assert_allclose(det.decision_scores_, np.linalg.norm(patches.reshape(30, -1), ord=4, axis=1), rtol=1e-4)
    clips = rng.uniform(size=(30, 2, 4, 14, 15))
    det = detector(scaling=None, anomaly_score="local").fit(clips)
    patches = sliding_window_view(det.anomaly_map(clips).mean(axis=1), (2, 2), axis=(2, 3)).mean(axis=(4, 5))
    frames = np.linalg.norm(patches.reshape(30, 4, -1), ord=4, axis=2)
    np.testing.assert_allclose(det.decision_scores_, np.median(frames, axis=1), rtol=1e-4)


def test_outliers_are_found_in_tables_images_and_clips(table, rng):
    X, y = table
    assert roc_auc_score(y, MemAEDetector(random_state=0).fit(X).decision_scores_) > 0.95
    digits = load_digits()
    zero = digits.target == 0
    det = MemAEDetector(max_epochs=40, random_state=0).fit(digits.images[zero][:100])
    assert roc_auc_score(~zero, det.decision_function(digits.images)) > 0.95
    still = np.repeat(digits.images[zero][:60, None], 4, axis=1)[:, None]
    turned = still.copy()
    turned[:, :, 2:] = still[:, :, 2:, ::-1, :].swapaxes(-1, -2)
    det = MemAEDetector(max_epochs=60, random_state=0).fit(still[:40])
    scores = det.decision_function(np.concatenate([still[40:], turned[40:]]))
    assert roc_auc_score(np.repeat([0, 1], 20), scores) > 0.9


def test_the_memory_is_alive_and_visible(table):
    X, _ = table
    det = detector(max_epochs=30).fit(X)
    assert det.memory_.shape == (4 * 75, 3) and det.memory_usage_.shape == (4 * 75,)
    assert det.zero_row_fraction_ == 0
    assert (det.memory_usage_ > 0).mean() > 0.5 and det.memory_usage_.max() < 0.9
    np.testing.assert_allclose((det.addressing_weights(X) > 0).mean(axis=0), det.memory_usage_, atol=0.02)
    assert det.n_iter_ == len(det.loss_curve_) == len(det.validation_curve_) == 30
    assert det.loss_curve_[-1] < 0.9 * det.loss_curve_[0]


def test_a_memory_that_does_not_work_as_one_warns(table):
    X, _ = table
    with pytest.warns(MemoryCollapseWarning, match="Lower shrink_threshold or temperature"):
        det = detector(temperature=1.0, shrink_threshold=20.0, ensemble_size=1).fit(X)
    assert det.zero_row_fraction_ > 0.5
    np.testing.assert_allclose(det.addressing_weights(X).max(axis=1), 1)
    with pytest.warns(MemoryCollapseWarning, match="A single memory item answers every training sample"):
        warn_of_collapse(np.array([[0.5, 1.0, 0.5], [0.0, 1.0, 0.0]]), 0.0, 1.0)


def test_the_papers_ablations_are_settings(table):
    X, _ = table
    autoencoder = detector(memory_size=0).fit(X)
    assert autoencoder.memory_.size == autoencoder.memory_usage_.size == 0 and autoencoder.zero_row_fraction_ == 0
    for method in (lambda: autoencoder.addressing_weights(X), autoencoder.decode_memory):
        with pytest.raises(ValueError, match="memory_size=0"):
            method()
    plain, sparse = (detector(memory_size=0, max_epochs=30, latent_l1=weight).fit(X).model_[0] for weight in (0.0, 10.0))
    with torch.no_grad():
        x = torch.randn(100, 6)
        assert sparse.encoder(x).abs().mean() < 0.5 * plain.encoder(x).abs().mean()
    dense = detector(shrink_threshold=0, entropy_weight=0).fit(X)
    assert (dense.addressing_weights(X) > 0).mean() > (detector().fit(X).addressing_weights(X) > 0).mean()
    sharp = detector(shrink_threshold=0, entropy_weight=100.0, temperature=1.0).fit(X)
    dense = detector(shrink_threshold=0, entropy_weight=0.0, temperature=1.0).fit(X)
    assert sharp.addressing_weights(X).max(axis=1).mean() > dense.addressing_weights(X).max(axis=1).mean()


def test_a_callable_backbone_is_used(table):
    X, _ = table
    det = detector(backbone=small_backbone, memory_size=10).fit(X)
    assert det.backbone_ is small_backbone and det.memory_.shape == (4 * 10, 2)
    assert np.array_equal(pickle.loads(pickle.dumps(det)).decision_function(X), det.decision_function(X))
    np.testing.assert_array_equal(det.decision_scores_, clone(det).fit(X).decision_scores_)


def small_backbone(sample_shape):
    return nn.Linear(sample_shape[0], 2), nn.Linear(2, sample_shape[0])


def test_one_seed_one_result_and_nothing_global_moves(table):
    X, _ = table
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), torch.get_default_dtype()
    first = detector().fit(X).decision_scores_
    with ThreadPoolExecutor(4) as pool:
        rest = list(pool.map(lambda _: detector().fit(X).decision_scores_, range(4)))
    assert all(np.array_equal(first, other) for other in rest)
    det = detector()
    assert np.array_equal(det.fit(X).decision_scores_, det.fit(X).decision_scores_)
    assert not np.array_equal(first, detector(random_state=1).fit(X).decision_scores_)
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])
    assert before[2:] == (torch.get_num_threads(), torch.get_default_dtype())


@pytest.mark.parametrize("shape", [(300, 6), (30, 8, 8), (10, 1, 4, 8, 8)])
def test_a_score_does_not_depend_on_its_neighbours(rng, shape):
    X = rng.normal(size=shape)
    det = detector(max_epochs=2).fit(X)
    together = det.decision_function(X)
    alone = np.concatenate([det.decision_function(X[i : i + 1]) for i in range(len(X))])
    order = rng.permutation(len(X))
    np.testing.assert_allclose(alone, together, rtol=1e-6)
    np.testing.assert_allclose(det.decision_function(X[order]), together[order], rtol=1e-6)
    np.testing.assert_allclose(det.decision_scores_, together, rtol=1e-6)


def test_pickles_hold_numpy_alone_and_survive_mmap_deepcopy_and_clone(table, tmp_path):
    X, _ = table
    det = detector().fit(X)
    data = pickle.dumps(det)
    assert b"torch" not in data
    joblib.dump(det, tmp_path / "detector.joblib")
    for other in (
        pickle.loads(data),
        joblib.load(tmp_path / "detector.joblib", mmap_mode="r"),
        copy.deepcopy(det),
    ):
        assert np.array_equal(other.decision_function(X), det.decision_function(X))
        assert np.array_equal(other.decode_memory(), det.decode_memory())
        assert other.get_params() == det.get_params()
    with pytest.raises(NotFittedError):
        clone(det).predict(X)


def test_a_detector_fitted_on_an_absent_device_loads_on_the_cpu(table):
    X, _ = table
    det = detector().fit(X)
    state = det.__getstate__()
    state["device_"] = "cuda:99"
    other = MemAEDetector.__new__(MemAEDetector)
    other.__setstate__(state)
    assert other.device_ == "cpu" and np.array_equal(other.decision_function(X), det.decision_function(X))


def test_lists_data_frames_and_memory_maps(table, tmp_path):
    pandas = pytest.importorskip("pandas")
    X, _ = table
    expected = detector().fit(X)
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    named = detector().fit(frame)
    assert named.feature_names_in_.tolist() == list("abcdef")
    np.testing.assert_array_equal(named.decision_scores_, expected.decision_scores_)
    with pytest.raises(ValueError, match="feature names"):
        named.predict(frame.rename(columns={"a": "z"}))
    np.testing.assert_array_equal(detector().fit(X.tolist()).decision_scores_, expected.decision_scores_)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(detector().fit(mapped).decision_scores_, expected.decision_scores_)


def test_streamed_training_gives_what_resident_training_gives(table, monkeypatch):
    X, _ = table
    resident = detector().fit(X).decision_scores_
    monkeypatch.setattr("skmemae.engine.batches._RESIDENT_BYTES", 0)
    np.testing.assert_array_equal(detector().fit(X).decision_scores_, resident)


def test_flat_rows_get_a_shape_in_a_pipeline():
    X = load_digits().data[:200]
    pipe = make_pipeline(MinMaxScaler(), detector(sample_shape=(1, 8, 8), scaling=None)).fit(X)
    assert pipe[-1].backbone_ == "conv2d" and pipe[-1].reconstruct(X).shape == X.shape
    assert make_pipeline(PCA(10), detector()).fit(X).predict(X).shape == (200,)


def test_grid_search_with_scorers_of_either_sign(table):
    X, y = table
    cv = StratifiedKFold(3, shuffle=True, random_state=0)
    for convention, coded, scoring in [
        ("pyod", y, "roc_auc"),
        ("sklearn", 1 - 2 * y, "roc_auc"),
        ("pyod", 1 - 2 * y, metrics.roc_auc),
        ("sklearn", y, metrics.average_precision),
    ]:
        search = GridSearchCV(detector(convention=convention), {"memory_size": [10, 20]}, scoring=scoring, cv=cv)
        assert search.fit(X, coded).best_score_ > 0.9


def test_the_threshold_moves_without_a_refit(table):
    X, _ = table
    det = detector(contamination=0.1).fit(X)
    assert det.labels_.sum() == 30
    at_ten_percent = det.predict_confidence(X)
    assert det.set_threshold(0.05).labels_.sum() == 15 and det.predict(X).sum() == 15
    refitted = detector(contamination=0.05).fit(X)
    np.testing.assert_array_equal(det.predict_confidence(X), refitted.predict_confidence(X))
    assert not np.array_equal(det.predict_confidence(X), at_ten_percent)
    assert det.set_threshold(threshold=1e9).labels_.sum() == 0
    assert det.offset_ == -1e9
    for wrong in ({}, {"contamination": 0.1, "threshold": 1.0}, {"contamination": 0.9}, {"threshold": np.nan}):
        with pytest.raises(ValueError):
            det.set_threshold(**wrong)


class Threshold:
    """A PyThresh-like object."""

    def __init__(self, factor=2.0):
        self.factor = factor

    def fit(self, scores):
        self.thresh_ = self.factor * np.median(scores)
        self.labels_ = (scores > self.thresh_).astype(int)
        return self

    def predict(self, scores):
        return (scores > self.thresh_).astype(int)


def test_a_pythresh_object_sets_the_threshold_and_is_not_touched(table):
    X, _ = table
    threshold = Threshold()
    det = detector(contamination=threshold).fit(X)
    assert vars(threshold) == {"factor": 2.0}
    assert det.threshold_ == 2 * np.median(det.decision_scores_)
    assert 0 < det.labels_.sum() < 300 and np.array_equal(det.predict(X), det.labels_)
    assert det.predict_confidence(X).shape == (300,)


BAD_PARAMETERS = {
    "contamination": [0.7, 0.0, -1, "auto", None],
    "convention": ["keras", None],
    "backbone": ["mlp", 3, None],
    "widths": [(), (8, 0), (8, 2.5), "wide", 8],
    "sample_shape": [(2, 2), 5, (0,)],
    "channel_axis": ["first", 1.5],
    "memory_size": [-3, 1.5, "many"],
    "memory_unit": ["pixel", "location"],
    "memory_heads": [0, 1.5, "many", 2],
    "similarity": ["euclidean"],
    "temperature": [0, -1.0, "hot"],
    "shrink_threshold": [-1.0],
    "entropy_weight": [-1e-3],
    "latent_l1": [-1.0],
    "ensemble_size": [0, 1.5, "many"],
    "anomaly_score": ["best", "smooth", "local"],
    "scaling": ["robust", True],
    "learning_rate": [0, -1],
    "batch_size": [0, 1, 1.5],
    "max_epochs": [0, -1, 2.5],
    "validation_fraction": [1.0, -0.1],
    "n_iter_no_change": [0],
    "tol": [-1],
    "device": ["abacus", "cuda:99", 3],
    "precision": ["float16"],
    "random_state": ["seed", -1],
    "verbose": [3, -1],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD_PARAMETERS.items() for value in values])
def test_parameters_out_of_range_are_named_before_any_work(table, name, value, monkeypatch):
    X, _ = table
    monkeypatch.setattr("skmemae.detector.train_members", None)  # would be a TypeError of its own if it were reached
    det = detector(**{name: value})
    before = dict(vars(det))
    with pytest.raises((ValueError, TypeError), match=name if name != "random_state" else "seed|random_state|Seed"):
        det.fit(X)
    assert vars(det) == before


def test_every_parameter_has_a_test_of_its_bounds():
    assert set(BAD_PARAMETERS) == set(MemAEDetector().get_params())


def spoiled(X, value):
    X = X.copy()
    X[3, 2] = value
    return X


BAD_INPUT = {
    "nan": (lambda X: spoiled(X, np.nan), "NaN"),
    "infinity": (lambda X: spoiled(X, np.inf), "infinity"),
    "empty axis": (lambda X: X[:, :0], "minimum of 1 is required"),
    "empty axis of images": (lambda X: X.reshape(-1, 2, 3)[:, :, :0], "minimum of 1 is required"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "one row": (lambda X: X[:1], "1 sample"),
    "one dimension": (lambda X: X[0], "Reshape your data"),
    "six dimensions": (lambda X: X.reshape(-1, 1, 1, 1, 2, 3), "got samples of shape"),
    "strings": (lambda X: X.astype(str).astype(object) + "x", "could not convert"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "too large": (lambda X: X * 1e300, "too large"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_training_and_leaves_the_detector_alone(table, case, monkeypatch):
    X, _ = table
    make, message = BAD_INPUT[case]
    det = detector().fit(X)
    before, scores = dict(vars(det)), det.decision_function(X)
    monkeypatch.setattr("skmemae.detector.train_members", None)
    with pytest.raises((ValueError, TypeError), match=message):
        det.fit(make(X))
    assert vars(det) == before
    assert np.array_equal(det.decision_function(X), scores)


def test_sparse_input_is_refused(table):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="[Ss]parse"):
        detector().fit(sparse.csr_array(table[0]))


def test_another_sample_shape_is_refused_at_predict(table, rng):
    X, _ = table
    with pytest.raises(ValueError, match="X has 5 features, but MemAEDetector is expecting 6 features as input"):
        detector().fit(X).predict(X[:, :5])
    images = rng.normal(size=(20, 8, 9))
    with pytest.raises(ValueError, match=r"X has samples of shape \(8, 8\), but MemAEDetector is expecting .* \(8, 9\)"):
        detector().fit(images).predict(images[:, :, :8])
    with pytest.raises(ValueError, match="NaN"):
        detector().fit(X).predict(spoiled(X, np.nan))


def test_constant_columns_and_constant_data_are_fine(table):
    X, _ = table
    det = detector().fit(np.column_stack([X, np.full(300, 7.0)]))
    assert np.isfinite(det.decision_scores_).all()
    flat = detector().fit(np.ones((20, 3)))
    assert np.isfinite(flat.decision_scores_).all() and flat.predict(np.ones((2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize("n", [2, 3, 33, 65])
def test_few_rows_and_awkward_batches_train(rng, n):
    for shape in ((4,), (5, 6), (1, 1)):
        for params in ({"batch_size": 32}, {"batch_size": 2}, {"validation_fraction": 0.9}):
            det = detector(**params).fit(rng.normal(size=(n, *shape)))
            assert np.isfinite(det.decision_scores_).all()


@pytest.fixture
def interrupts():
    """Ctrl-C raises, also where a shell started the tests in the background, which it does with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interruption_leaves_the_detector_as_it_was(table, interrupts):
    """Ctrl-C, as a notebook sends it, in the middle of training."""
    X, _ = table
    det = detector().fit(X)
    before, scores = dict(vars(det)), det.decision_function(X)
    det.set_params(max_epochs=100_000, validation_fraction=0.0)
    before["max_epochs"], before["validation_fraction"] = 100_000, 0.0
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        det.fit(X[:, :4])
    assert vars(det) == before
    assert np.array_equal(det.decision_function(X), scores)


def test_an_interruption_of_scoring_leaves_gradients_on(table, monkeypatch):
    X, _ = table
    det = detector().fit(X)

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmemae.engine.scoring.Score.terms", interrupt)
    with pytest.raises(KeyboardInterrupt) as kept:  # a notebook keeps the traceback and its frames as well
        det.decision_function(X)
    assert kept.tb is not None
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_an_interrupted_first_fit_leaves_it_unfitted(table, monkeypatch):
    X, _ = table

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("skmemae.engine.training.Adam.step", interrupt)
    det = detector()
    with pytest.raises(KeyboardInterrupt):
        det.fit(X)
    assert not hasattr(det, "n_features_in_")
    with pytest.raises(NotFittedError):
        det.predict(X)


def test_skops_loads_it_trusting_the_detector_alone(table):
    skops = pytest.importorskip("skops.io")
    X, _ = table
    det = detector().fit(X)
    data = skops.dumps(det)
    assert skops.get_untrusted_types(data=data) == ["skmemae.detector.MemAEDetector"]
    again = skops.loads(data, trusted=["skmemae.detector.MemAEDetector"])
    np.testing.assert_array_equal(again.decision_function(X), det.decision_function(X))

"""What X may be: shapes, dtypes, containers, and numbers of any size."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skmemae import MemAEDetector
from tests.problems import detector

SHAPES = [
    ((40, 5), "fc", (5,)),
    ((40, 1), "fc", (1,)),
    ((40, 20, 3), "fc", (60,)),
    ((30, 8, 8), "conv2d", (1, 8, 8)),
    ((30, 1, 28, 28), "conv2d", (1, 28, 28)),
    ((20, 3, 17, 23), "conv2d", (3, 17, 23)),
    ((20, 13, 32, 3), "conv2d", (3, 13, 32)),
    ((8, 1, 8, 16, 16), "conv3d", (1, 8, 16, 16)),
    ((6, 1, 5, 13, 11), "conv3d", (1, 5, 13, 11)),
    ((6, 5, 13, 11, 3), "conv3d", (3, 5, 13, 11)),
]


@pytest.mark.parametrize(
    "shape, backbone, sample_shape, memory_unit",
    [(*case, unit) for case in SHAPES for unit in ("sample", "location") if (case[1], unit) != ("fc", "location")],
)
def test_any_shape_goes_in_and_comes_out(rng, shape, backbone, sample_shape, memory_unit):
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
    assert det.channels_first(X).shape == (len(X), *sample_shape)
    assert np.isfinite(det.decision_scores_).all() and np.ptp(det.decision_scores_) > 0
    assert np.array_equal(X, kept)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float16, np.float32, np.float64, bool])
def test_any_real_dtype_is_taken(rng, dtype):
    X = (rng.uniform(0, 1.9, size=(30, 6, 6)) * (1 if dtype is bool else 100)).astype(dtype)
    det = detector().fit(X)
    assert det.decision_function(X).dtype == np.float64
    assert det.predict(X).dtype.kind == "i"
    assert det.reconstruct(X).dtype == (np.float64 if dtype is np.float64 else np.float32)
    assert det.anomaly_map(X).dtype == det.decode_memory().dtype == np.float32
    assert det.channels_first(X).dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.uint8])
def test_tensors_are_taken_for_the_arrays_that_they_are(rng, dtype):
    X = torch.from_numpy(rng.uniform(0, 100, size=(40, 5))).to(dtype).requires_grad_(dtype.is_floating_point)
    det = detector().fit(X)
    expected = detector().fit(X.detach().float().numpy() if dtype == torch.bfloat16 else X.detach().numpy())
    np.testing.assert_array_equal(det.decision_function(X), expected.decision_scores_)


def test_images_of_bytes_score_as_the_same_images_of_floats(rng):
    X = rng.integers(0, 256, size=(50, 8, 8)).astype(np.uint8)
    np.testing.assert_allclose(detector().fit(X).decision_scores_, detector().fit(X.astype(float)).decision_scores_, rtol=0.05)


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
    monkeypatch.setattr("skmemae._data.loader._RESIDENT_BYTES", 0)
    np.testing.assert_array_equal(detector().fit(X).decision_scores_, resident)


def test_flat_rows_get_a_shape_in_a_pipeline():
    X = load_digits().data[:200]
    pipe = make_pipeline(MinMaxScaler(), detector(sample_shape=(1, 8, 8), scaling=None)).fit(X)
    assert pipe[-1].backbone_ == "conv2d" and pipe[-1].reconstruct(X).shape == X.shape
    assert make_pipeline(PCA(10), detector()).fit(X).predict(X).shape == (200,)


def test_constant_columns_and_constant_data_are_fine(table):
    X, _ = table
    det = detector().fit(np.column_stack([X, np.full(300, 7.0)]))
    assert np.isfinite(det.decision_scores_).all()
    flat = detector().fit(np.ones((20, 3)))
    assert np.isfinite(flat.decision_scores_).all() and flat.predict(np.ones((2, 3))).tolist() == [0, 0]


@pytest.mark.parametrize("scaling", ["auto", "contrast", "log", "standard", "minmax", None])
@pytest.mark.parametrize("shape", [(60, 5), (40, 6, 6), (10, 1, 4, 6, 6)])
def test_any_finite_x_has_finite_scores(rng, scaling, shape):
    X = rng.normal(size=shape)
    det = detector(scaling=scaling, ensemble_size=1, max_epochs=2).fit(X)
    for wild in (X * 1e300, np.where(X > 1, np.finfo(np.float64).max, X), np.full(shape, -1.7e308)):
        scores = det.decision_function(wild)
        assert np.isfinite(scores).all() and np.median(scores) > np.median(det.decision_scores_)
        for found in (det.reconstruct(wild), det.reconstruct(X), det.anomaly_map(wild), det.addressing_weights(wild)):
            assert np.isfinite(found).all()


@pytest.mark.parametrize("scaling", ["auto", "contrast", "log", "standard", "minmax"])
@pytest.mark.parametrize("factor", [1e300, 1e-300, 1e-310])
@pytest.mark.parametrize("shape", [(60, 5), (40, 6, 6)])
def test_the_unit_of_x_makes_no_difference(rng, scaling, factor, shape):
    X = rng.normal(size=shape)
    here, there = (detector(scaling=scaling, ensemble_size=1, max_epochs=3).fit(A) for A in (X, X * factor))
    np.testing.assert_allclose(there.decision_scores_, here.decision_scores_, rtol=1e-2)
    np.testing.assert_allclose(there.reconstruct(X * factor) / factor, here.reconstruct(X), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("shape", [(60, 5), (40, 6, 6)])
def test_without_scaling_wild_values_are_fitted_all_the_same(rng, shape):
    assert np.isfinite(detector(scaling=None).fit(rng.normal(size=shape) * 1e300).decision_scores_).all()


def test_shapes_that_could_be_meant_otherwise_warn_at_the_callers_line(rng):
    with pytest.warns(UserWarning, match="taken for images") as warned:
        detector(max_epochs=1).fit(rng.normal(size=(20, 30, 5)))
    assert [w.filename for w in warned] == [__file__]
    with pytest.warns(UserWarning, match="taken for the channels") as warned:
        detector(max_epochs=1).fit(rng.normal(size=(20, 6, 5, 7)))
    assert [w.filename for w in warned] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector(max_epochs=1, backbone="conv2d").fit(rng.normal(size=(20, 30, 5)))
        detector(max_epochs=1, channel_axis=1).fit(rng.normal(size=(20, 6, 5, 7)))


@pytest.mark.filterwarnings("ignore::skmemae.MemoryCollapseWarning")
@pytest.mark.parametrize("n", [2, 3, 33, 65])
def test_few_rows_and_awkward_batches_train(rng, n):
    for shape in ((4,), (5, 6), (1, 1), (1, 2, 2)):
        for params in ({"batch_size": 32}, {"batch_size": 2}, {"validation_fraction": 0.9}):
            det = detector(**params).fit(rng.normal(size=(n, *shape)))
            assert np.isfinite(det.decision_scores_).all()


def test_numbers_of_another_byte_order_are_the_same_numbers(rng):
    X = rng.normal(size=(60, 3))
    det = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    swapped = X.astype(">f8")
    np.testing.assert_array_equal(det.decision_function(swapped), det.decision_function(X))
    assert det.reconstruct(swapped).dtype == np.float64

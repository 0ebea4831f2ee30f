"""What X may be: shapes, dtypes, containers, and numbers of any size."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch import nn

from skmemae import MemAEDetector
from tests.problems import data, detector

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


@pytest.mark.parametrize("offset", [0, 1e3, 1e6, 1e9])
def test_equal_numbers_score_alike_in_any_dtype(offset):
    spread = max(1.0, offset / 2**20)  # that float32 tells values apart
    X = (np.random.default_rng(0).normal(size=(200, 8)) * spread * 10 + offset).astype(np.float32)
    X = np.round(X).astype(np.float32)
    det = detector().fit(X.astype(np.float64))
    for dtype in (np.float32, np.int64):
        np.testing.assert_allclose(det.decision_function(X.astype(dtype)), det.decision_scores_, rtol=1e-5)
        np.testing.assert_allclose(detector().fit(X.astype(dtype)).decision_scores_, det.decision_scores_, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 10, 10), (12, 1, 4, 8, 8)])
def test_bytes_score_as_floats(shape):
    X = np.random.default_rng(0).integers(198, 203, size=shape).astype(np.uint8)
    det = detector().fit(X)
    np.testing.assert_allclose(det.decision_function(X.astype(np.float64)), det.decision_scores_, rtol=1e-5)


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


def test_numbers_of_another_byte_order_are_the_same_numbers(rng):
    X = rng.normal(size=(60, 3))
    det = MemAEDetector(max_epochs=2, random_state=0).fit(X)
    swapped = X.astype(">f8")
    np.testing.assert_array_equal(det.decision_function(swapped), det.decision_function(X))
    assert det.reconstruct(swapped).dtype == np.float64


# Shapes.


def test_flat_rows_get_a_shape_in_a_pipeline():
    X = load_digits().data[:200]
    pipe = make_pipeline(MinMaxScaler(), detector(sample_shape=(1, 8, 8), scaling=None)).fit(X)
    assert pipe[-1].backbone_ == "conv2d" and pipe[-1].reconstruct(X).shape == X.shape
    assert make_pipeline(PCA(10), detector()).fit(X).predict(X).shape == (200,)


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


@pytest.mark.parametrize(
    "shape, sample_shape",
    [
        ((6, 24, 24, 6), (6, 24, 24)),
        ((6, 24, 24, 2), (2, 24, 24)),
        ((6, 24, 24, 16), (16, 24, 24)),
        ((6, 13, 24, 24), (13, 24, 24)),
        ((6, 30, 40, 6), (6, 30, 40)),
        ((6, 30, 1), (30,)),
        ((6, 4, 30), (120,)),
        ((6, 5, 16, 16, 7), (7, 5, 16, 16)),
    ],
)
def test_channels_and_windows_are_found(shape, sample_shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector(max_epochs=1).fit(np.random.default_rng(0).random(shape)).sample_shape_ == sample_shape


@pytest.mark.parametrize(
    "shape, says", [((6, 100, 8), "backbone='fc'"), ((6, 20, 18, 17), "channel_axis"), ((6, 8, 9, 10), "channel_axis")]
)
def test_a_shape_that_leaves_a_doubt_warns_with_the_parameter_that_decides(shape, says):
    with pytest.warns(UserWarning, match=says):
        detector(max_epochs=1).fit(np.random.default_rng(0).random(shape))


def test_columns_are_counted_along_the_second_axis(rng):
    assert detector(max_epochs=1).fit(rng.random((20, 8, 9))).n_features_in_ == 8


def test_a_level_jump_in_windows_of_one_series_is_found():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30, 1))
    det = MemAEDetector(max_epochs=30, random_state=0).fit(X)
    assert (det.decision_function(rng.normal(size=(50, 30, 1)) + 3) > det.threshold_).all()


@pytest.mark.filterwarnings("ignore::skmemae.MemoryCollapseWarning")
@pytest.mark.parametrize("n", [2, 3, 33, 65])
def test_few_rows_and_awkward_batches_train(rng, n):
    for shape in ((4,), (5, 6), (1, 1), (1, 2, 2)):
        for params in ({"batch_size": 32}, {"batch_size": 2}, {"validation_fraction": 0.9}):
            det = detector(**params).fit(rng.normal(size=(n, *shape)))
            assert np.isfinite(det.decision_scores_).all()


# Numbers of any size.


def test_constant_columns_and_constant_data_are_fine(table):
    X, _ = table
    det = detector().fit(np.column_stack([X, np.full(300, 7.0)]))
    assert np.isfinite(det.decision_scores_).all()
    flat = detector().fit(np.ones((20, 3)))
    assert np.isfinite(flat.decision_scores_).all() and flat.predict(np.ones((2, 3))).tolist() == [0, 0]


@pytest.mark.filterwarnings("ignore:X has values from")
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


@pytest.mark.parametrize("shape", [(40, 3, 12, 12), (20, 2, 4, 8, 8), (40, 12, 12)])
def test_logarithms_work_by_channel(shape):
    X = np.random.default_rng(0).lognormal(sigma=3, size=shape)
    det = detector(scaling="log").fit(X)
    assert np.isfinite(det.decision_scores_).all()
    channels = 1 if len(shape) == 3 else shape[1]
    assert det._model.scaling.log_unit.shape == (channels, *[1] * (X[0].ndim if channels == 1 else X[0].ndim - 1))


@pytest.mark.parametrize("factor", [1e-300, 1e-170, 1e100, 1e300])
def test_units_do_not_matter_to_a_table(factor):
    X = data()["table"]
    det = detector().fit(X * factor)
    np.testing.assert_allclose(det.decision_scores_, detector().fit(X).decision_scores_, rtol=1e-6)
    assert np.isfinite(det.reconstruct(X * factor)).all()


def test_a_column_of_denormal_numbers_is_scaled():
    X = data()["table"]
    X[:, 0] = 1e-310
    X[:6, 0] = 1
    assert np.isfinite(detector().fit(X).decision_scores_).all()


@pytest.mark.parametrize("scaling", ["auto", "contrast", "standard", "minmax", "log", None])
@pytest.mark.parametrize("name", ["table", "images", "clips"])
def test_a_far_value_has_a_finite_score_and_is_an_outlier(name, scaling):
    X = data()[name].astype(np.float64)
    det = detector(scaling=scaling).fit(X)
    scores = []
    for far in (1e4, 1e20, -1e155, 1e300):
        odd = X[:1].copy()
        odd.flat[2] = far
        scores.append(det.decision_function(odd)[0])
        assert np.isfinite(scores[-1]) and det.predict(odd) == 1, far
        assert np.isfinite(det.reconstruct(odd)).all() and np.isfinite(det.anomaly_map(odd)).all()
    assert scores[0] < scores[1] and scores[1] <= scores[3] * 1.001


@pytest.mark.filterwarnings("ignore:X has values from")
@pytest.mark.parametrize("name", ["images", "clips"])
def test_a_sample_in_another_world_of_light_is_an_outlier(name):
    X = data()[name].astype(np.float64)
    det = detector().fit(X)
    assert (det.predict(np.concatenate([X[:1] * 1e20, X[:1] + 1e30, X[:1] * -1e300])) == 1).all()


def test_no_data_in_float32_is_an_outlier():
    X = np.random.default_rng(0).normal(scale=0.1, size=(400, 4)).astype(np.float32)
    odd = X[:1].copy()
    odd[0, 2] = np.finfo(np.float32).min
    det = detector(max_epochs=20).fit(X)
    assert np.isfinite(det.decision_function(odd)).all() and det.predict(odd) == 1


def test_a_module_that_overflows_still_scores_finitely():
    class Steep(nn.Module):
        def forward(self, x):
            return torch.exp(x.clamp(max=200))

    def backbone(shape):
        return nn.Sequential(nn.Linear(shape[0], 2), nn.Tanh()), nn.Sequential(nn.Linear(2, shape[0]))

    def overflowing(shape):
        return nn.Sequential(Steep(), nn.Linear(shape[0], 2), nn.Tanh()), nn.Linear(2, shape[0])

    X = data()["table"]
    for make in (backbone, overflowing):
        det = detector(backbone=make, scaling=None).fit(X)
        assert np.isfinite(det.decision_function(X[:1] * 1e5)).all()

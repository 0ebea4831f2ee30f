"""Faults in what was made of the shapes, values and parameters that came in, and in what was said of them."""

import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skmemae import MemAEDetector, MemoryCollapseWarning
from skmemae.video import ClipWindows
from tests.problems import data, detector

# Shapes.


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


def test_a_level_jump_in_windows_of_one_series_is_found():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 30, 1))
    det = MemAEDetector(max_epochs=30, random_state=0).fit(X)
    assert (det.decision_function(rng.normal(size=(50, 30, 1)) + 3) > det.threshold_).all()


def test_a_single_sample_is_told_how_to_become_many():
    det = detector(max_epochs=1).fit(data()["images"])
    with pytest.raises(ValueError, match=r"give X\[None\]"):
        det.predict(data()["images"][0])


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


# Messages.


@pytest.mark.parametrize(
    "name, value",
    [
        ("sample_shape", ("a", 2)),
        ("sample_shape", (2.9, 3)),
        ("backbone", lambda shape: None),
        ("backbone", lambda shape: nn.Identity()),
        ("memory_size", 2**31),
        ("ensemble_size", 10**9),
        ("channel_axis", True),
        ("max_epochs", True),
        ("learning_rate", 10**400),
        ("temperature", np.inf),
    ],
)
def test_a_bad_value_is_named(name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        detector(**{name: value}).fit(data()["table"])


@pytest.mark.parametrize("params", [{"batch_size": 2**63}, {"entropy_weight": 10**30}])
def test_a_large_integer_is_fine(params):
    det = detector(memory_unit="sample", **params).fit(data()["table"])
    assert np.isfinite(det.decision_scores_).all()


def test_too_large_networks_are_a_memory_error_that_names_them():
    with pytest.raises(MemoryError, match="widths"):
        detector(widths=(10**7, 10**6)).fit(data()["table"])


def test_tensors_that_require_gradients_are_taken():
    X = data()["table"]
    np.testing.assert_array_equal(
        detector().fit(torch.tensor(X, requires_grad=True)).decision_scores_, detector().fit(X).decision_scores_
    )


def test_a_bool_is_no_length_of_clips():
    with pytest.raises(ValueError, match="length"):
        ClipWindows(length=True).fit([np.zeros((20, 8, 8))])


# Noise.


def test_a_warning_points_at_the_callers_line():
    with pytest.warns(MemoryCollapseWarning) as caught:
        detector(temperature=1.0, shrink_threshold=20.0, ensemble_size=1, memory_unit="sample").fit(data()["table"])
    assert caught[0].filename == __file__


def test_import_and_fit_leave_no_thread_no_filter_and_no_bar():
    script = """
        import sys, threading, warnings
        import numpy, sklearn.utils.estimator_checks, scipy.stats, torch, pyod.models.base

        filters = list(warnings.filters)
        from skmemae import MemAEDetector

        assert "tqdm.auto" not in sys.modules  # which warns where notebooks have no widgets
        MemAEDetector(max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).normal(size=(50, 3))).predict([[0.0, 1, 2]])
        assert warnings.filters == filters, [f for f in warnings.filters if f not in filters]
        assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
    """
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout and not done.stderr


# State.


def test_a_pickle_of_another_format_says_so():
    state = detector().fit(data()["table"]).__getstate__()
    state["_model"]["format"] = 99
    with pytest.raises(ValueError, match="format 99"):
        MemAEDetector().__setstate__(state)
    del state["_model"]
    with pytest.raises(ValueError, match="format"):
        MemAEDetector().__setstate__(state)


def test_names_of_columns_are_forgotten_by_a_fit_on_an_array():
    pandas = pytest.importorskip("pandas")
    h5py = pytest.importorskip("h5py")
    X = data()["table"]
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    det = detector().fit(frame)
    with h5py.File("names", "w", driver="core", backing_store=False) as file:
        det.fit(file.create_dataset("X", data=X, chunks=(10, 6)))
        assert not hasattr(det, "feature_names_in_")
        det.predict(X)

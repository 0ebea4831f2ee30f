"""Parameters and X that are not accepted: named before any work, with the detector as it was."""

import warnings

import numpy as np
import pytest
import torch

from skmemae import MemAEDetector
from tests.problems import detector

BAD_PARAMETERS = {
    "contamination": [0.7, 0.0, -1, "automatic", None, True, np.nan],
    "convention": ["keras", None],
    "backbone": ["mlp", 3, None],
    "widths": [(), (8, 0), (8, 2.5), "wide", 8, (8, True)],
    "sample_shape": [(2, 2), 5, (0,), (True, 6), (6.0,)],
    "channel_axis": ["first", 1.5],
    "memory_size": [-3, 1.5, "many", True, 10**400, 2**31],
    "memory_items": ["columns", None],
    "memory_unit": ["pixel", "location"],
    "memory_heads": [0, 1.5, "many", 2, True],
    "similarity": ["euclidean"],
    "temperature": [0, -1.0, "hot", np.inf, np.nan, True],
    "shrink_threshold": [-1.0, np.inf, True, 10**400],
    "entropy_weight": [-1e-3, np.inf, True],
    "latent_l1": [-1.0, np.inf, True],
    "ensemble_size": [0, 1.5, "many", True, 10**9],
    "anomaly_score": ["best", "smooth", "local"],
    "scaling": ["robust", True],
    "thin_repeats": [1, 0.0, "often", None],
    "learning_rate": [0, -1, np.inf, True, 10**400],
    "batch_size": [0, 1, 1.5, True, 10**400],
    "max_epochs": [0, -1, 2.5, True, 10**400],
    "validation_fraction": [1.0, -0.1, False],
    "n_iter_no_change": [0, True, 10**400],
    "tol": [-1, np.inf, False],
    "device": ["abacus", "cuda:99", 3, "meta"],
    "precision": ["float16"],
    "warm_start": [2, "yes", None],
    "random_state": ["seed", -1],
    "verbose": [3, -1],
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """Training would be a TypeError of its own if it were reached."""
    monkeypatch.setattr("skmemae._fitting.train_members", None)


@pytest.fixture(scope="module")
def fitted():
    return detector().fit(np.random.default_rng(0).normal(size=(300, 6)))


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD_PARAMETERS.items() for value in values])
def test_parameters_out_of_range_are_named_before_any_work(table, name, value):
    X, _ = table
    det = detector(**{name: value})
    before = dict(vars(det))
    with pytest.raises((ValueError, TypeError), match=name if name != "random_state" else "seed|random_state|Seed"):
        det.fit(X)
    assert vars(det) == before


def test_every_parameter_has_a_test_of_its_bounds():
    assert set(BAD_PARAMETERS) == set(MemAEDetector().get_params())


def test_networks_for_which_there_is_no_room_are_a_clear_error(table, monkeypatch):
    def full(**spec):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("skmemae._fitting.build_network", full)
    with pytest.raises(MemoryError, match=r"no room for 14 network\(s\) of widths .*lower widths, memory_size"):
        detector().fit(table[0])


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
    "strings": (lambda X: X.astype(str).astype(object) + "x", "Column 0 of X holds .*could not be converted"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "nothing": (lambda X: None, "Expected 2D array|NoneType"),
    "tensor with nan": (lambda X: torch.from_numpy(spoiled(X, np.nan)), "NaN"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_training_and_leaves_the_detector_alone(table, fitted, case):
    X, _ = table
    make, message = BAD_INPUT[case]
    before, scores = dict(vars(fitted)), fitted.decision_function(X)
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.fit(make(X))
    assert vars(fitted) == before
    assert np.array_equal(fitted.decision_function(X), scores)


def test_sparse_input_is_refused(table):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="[Ss]parse"):
        detector().fit(sparse.csr_array(table[0]))


@pytest.mark.parametrize(
    "method", ["predict", "decision_function", "reconstruct", "anomaly_map", "addressing_weights", "predict_proba"]
)
def test_another_sample_shape_is_refused_when_scoring(fitted, table, method):
    X, _ = table
    with pytest.raises(ValueError, match="X has 5 features, but MemAEDetector is expecting 6 features as input"):
        getattr(fitted, method)(X[:, :5])
    with pytest.raises(ValueError, match="NaN"):
        getattr(fitted, method)(spoiled(X, np.nan))
    with pytest.raises(ValueError, match="0 sample"):
        getattr(fitted, method)(X[:0])


@pytest.fixture
def images(monkeypatch):
    monkeypatch.undo()
    return detector(max_epochs=1).fit(np.random.default_rng(0).normal(size=(20, 8, 9)))


def test_images_of_another_shape_or_alone_are_refused(images):
    X = np.zeros((3, 8, 9))
    with pytest.raises(ValueError, match=r"X has samples of shape \(8, 8\), but MemAEDetector is expecting .* \(8, 9\)"):
        images.predict(X[:, :, :8])
    with pytest.raises(ValueError, match=r"X has shape \(8, 9\), which is one sample; .* give X\[None\]"):
        images.predict(X[0])
    assert images.predict(X[:1]).shape == (1,)


def test_what_is_accepted_is_accepted_without_a_warning(table, monkeypatch):
    monkeypatch.undo()
    X, _ = table
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for params in (
            {"contamination": np.float32(0.1), "memory_size": np.int64(5), "temperature": 1, "batch_size": 10**9},
            {
                "verbose": False,
                "shrink_threshold": 0,
                "tol": 0,
                "widths": [8, np.int32(2)],
                "random_state": np.random.RandomState(0),
            },
            {"n_iter_no_change": 10**18, "sample_shape": [6], "channel_axis": None},
        ):
            assert np.isfinite(detector(max_epochs=1, **params).fit(X).decision_scores_).all()

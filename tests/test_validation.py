"""Parameters and X: what is not accepted is named before any work, with the detector as it was; DataFrames in and out."""

import datetime as dt
import warnings

import dask.array
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from torch import nn

from skmemae import MemAEDetector
from skmemae._validation import check_numbers, check_positive_int, same_frame_type, unchanged_on_error
from tests.problems import detector

BAD_PARAMETERS = {
    "contamination": [0.7, 0.0, -1, "automatic", None, True, np.nan],
    "convention": ["keras", None],
    "backbone": ["mlp", 3, None, lambda shape: None, lambda shape: nn.Identity()],
    "widths": [(), (8, 0), (8, 2.5), "wide", 8, (8, True)],
    "sample_shape": [(2, 2), 5, (0,), (True, 6), (6.0,), ("a", 2), (2.9, 3)],
    "channel_axis": ["first", 1.5, True],
    "memory_size": [-3, 1.5, "many", True, 10**400, 2**31],
    "memory_unit": ["pixel", "location", None],
    "similarity": ["euclidean"],
    "temperature": [0, -1.0, "hot", np.inf, np.nan, True],
    "shrink_threshold": [-1.0, np.inf, True, 10**400],
    "entropy_weight": [-1e-3, np.inf, True],
    "ensemble_size": [0, 1.5, "many", True, 10**9],
    "anomaly_score": ["best", "smooth", "local", "power-", "-subsets", "power-turns", "combined", None],
    "scaling": ["robust", True],
    "learning_rate": [0, -1, np.inf, True, 10**400],
    "batch_size": [0, 1, 1.5, True, 10**400],
    "max_epochs": [0, -1, 2.5, True, 10**400],
    "validation_fraction": [1.0, -0.1, False],
    "time_limit": [0, -1, np.inf, np.nan, True, "auto", "60", [1], 10**400],
    "device": ["abacus", "cuda:99", 3, "meta"],
    "precision": ["float64", "bf16", torch.bfloat16, 16, None],
    "random_state": ["seed", -1],
    "verbose": [3, -1],
}


@pytest.fixture
def no_work(monkeypatch):
    """Training would be a TypeError of its own if it were reached."""
    monkeypatch.setattr("skmemae._train.fit.train_networks", None)


@pytest.fixture(scope="module")
def fitted():
    return detector().fit(np.random.default_rng(0).normal(size=(300, 6)))


@pytest.mark.parametrize("name, value", [(name, value) for name, values in BAD_PARAMETERS.items() for value in values])
def test_parameters_out_of_range_are_named_before_any_work(table, no_work, name, value):
    X, _ = table
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
    "strings": (lambda X: X.astype(str).astype(object) + "x", "Column 0 of X holds .*could not be converted"),
    "complex": (lambda X: X + 1j, "Complex data not supported"),
    "nothing": (lambda X: None, "Expected 2D array|NoneType"),
    "tensor with nan": (lambda X: torch.from_numpy(spoiled(X, np.nan)), "NaN"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused_before_training_and_leaves_the_detector_alone(table, fitted, no_work, case):
    X, _ = table
    make, message = BAD_INPUT[case]
    before, scores = dict(vars(fitted)), fitted.decision_function(X)
    with pytest.raises((ValueError, TypeError), match=message):
        fitted.fit(make(X))
    assert vars(fitted) == before
    assert np.array_equal(fitted.decision_function(X), scores)


def test_sparse_input_is_refused(table, no_work):
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
def images():
    return detector(max_epochs=1).fit(np.random.default_rng(0).normal(size=(20, 8, 9)))


def test_images_of_another_shape_or_alone_are_refused(images):
    X = np.zeros((3, 8, 9))
    with pytest.raises(ValueError, match=r"X has samples of shape \(8, 8\), but MemAEDetector is expecting .* \(8, 9\)"):
        images.predict(X[:, :, :8])
    with pytest.raises(ValueError, match=r"X has shape \(8, 9\), which is one sample; .* give X\[None\]"):
        images.predict(X[0])
    assert images.predict(X[:1]).shape == (1,)


def test_what_is_accepted_is_accepted_without_a_warning(table):
    X, _ = table
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for params in (
            {"contamination": np.float32(0.1), "memory_size": np.int64(5), "temperature": 1, "batch_size": 10**9},
            {"verbose": False, "shrink_threshold": 0, "widths": [8, np.int32(2)], "random_state": np.random.RandomState(0)},
            {"sample_shape": [6], "channel_axis": None, "memory_unit": "sample", "entropy_weight": 10**30},
            {"batch_size": 2**63, "learning_rate": np.float32(1e-3)},
        ):
            assert np.isfinite(detector(max_epochs=1, **params).fit(X).decision_scores_).all()


@pytest.mark.parametrize("value", [True, False, np.inf, -np.inf, np.nan, np.float32(np.inf), 10**400])
def test_numbers_are_no_bools_and_fit_into_a_float(value):
    with pytest.raises(ValueError, match="'temperature' parameter must"):
        check_numbers({"batch_size": 3, "temperature": value})
    check_numbers({"temperature": 10**300, "widths": (True,), "scaling": None})


def test_what_may_be_a_bool():
    check_numbers({"verbose": True}, accepts_bool=("verbose",))


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True])
def test_a_positive_int_is_one(value):
    with pytest.raises(ValueError, match=f"The 'length' parameter of Windows must be a positive int. Got {value!r} instead."):
        check_positive_int("length", value, "Windows")
    assert type(check_positive_int("length", np.int64(3), "Windows")) is int


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_attributes_as_they_were(failure):
    det = MemAEDetector()
    det.old = before = [1]
    with pytest.raises(failure), unchanged_on_error(det):
        det.new, det.old = 1, 2
        raise failure
    assert not hasattr(det, "new") and det.old is before
    with unchanged_on_error(det):
        det.new = 1
    assert det.new == 1


# DataFrames.


@pytest.fixture(scope="module")
def numbers():
    return np.random.default_rng(0).normal(size=(40, 3))


@pytest.mark.parametrize("method", ["reconstruct", "anomaly_map"])
def test_frames_keep_their_names_and_index(numbers, method):
    X = pd.DataFrame(numbers, columns=["a", "b", "c"], index=pd.Index(range(5, 45), name="id"))
    fitted = detector(max_epochs=2).fit(X)
    expected = getattr(fitted, method)(numbers)
    assert isinstance(expected, np.ndarray)
    found = getattr(fitted, method)(X[10:20])
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected, columns=X.columns, index=X.index)[10:20])
    found = getattr(fitted, method)(pl.DataFrame(numbers, schema=["a", "b", "c"]))
    assert found.columns == ["a", "b", "c"] and np.array_equal(found.to_numpy(), expected)


def test_names_may_be_anything():
    values = np.zeros((2, 2))
    X = pd.DataFrame(values, columns=[("x", 1), "x"], index=["p", "p"])
    assert same_frame_type(X, values).columns.tolist() == [("x", 1), "x"] and same_frame_type(X, values).index.tolist() == [
        "p",
        "p",
    ]
    assert same_frame_type([[1, 2], [3, 4]], values) is values


TEXT = ["x", "y"] * 20
COLUMNS = {
    "text": TEXT,
    "categories": pd.Categorical(TEXT),
    "dates": pd.date_range("2020-01-01", periods=40),
    "durations": pd.to_timedelta(range(40), unit="D"),
    "some text": [*range(39), "x"],
    "nothing and text": [None, "x"] * 20,
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_without_numbers_is_named(numbers, column):
    X = pd.DataFrame({"a": numbers[:, 0], "b": COLUMNS[column]})
    fitted = detector(max_epochs=2).fit(numbers[:, :2])
    for call in (detector().fit, fitted.decision_function, fitted.partial_fit):
        with pytest.raises(ValueError, match="Column ('b'|1) of X holds '.*could not be converted.* OneHotEncoder"):
            call(X if call != fitted.decision_function else X.to_numpy())


@pytest.mark.parametrize("kind", [pl.String, pl.Categorical, pl.Enum(["x", "y"])])
def test_a_column_of_polars_without_numbers_is_named(numbers, no_work, kind):
    X = pl.DataFrame({"a": numbers[:, 0], "b": pl.Series(TEXT, dtype=kind)})
    with pytest.raises(ValueError, match="Column 'b' of X holds 'x'"):
        detector().fit(X)


DAYS = [dt.datetime(2020, 1, 1) + dt.timedelta(days=day) for day in range(40)]
TIMES = {
    "dates": pl.Series(DAYS).cast(pl.Date),
    "points in time": pl.Series(DAYS),
    "durations": pl.Series([day - DAYS[0] for day in DAYS]),
    "times of day": pl.Series([dt.time(1, 2)] * 40),
    "lists": pl.Series([[1.0, 2.0]] * 40),
    "arrays": pl.Series([[1.0, 2.0]] * 40, dtype=pl.Array(pl.Float64, 2)),
    "structs": pl.Series([{"x": 1}] * 40),
}


@pytest.mark.parametrize("beside", [True, False], ids=["beside numbers", "alone"])
@pytest.mark.parametrize("column", TIMES)
def test_times_and_lists_of_polars_are_no_numbers(numbers, no_work, column, beside):
    X = pl.DataFrame({**({"a": numbers[:, 0]} if beside else {}), "b": TIMES[column]})
    with pytest.raises(ValueError, match="Column 'b' of X holds .*could not be converted to a number.*such as the hour"):
        detector().fit(X)


@pytest.mark.parametrize(
    "value", [np.timedelta64(3, "s"), np.datetime64("2020-01-01"), dt.time(3), 1 + 2j, np.complex64(1), [1, 2], object()]
)
@pytest.mark.parametrize("kind", ["array", "list", "pandas", "images"])
def test_a_value_that_is_no_number_is_named(numbers, no_work, value, kind):
    X = numbers.astype(object)
    X[3, 1] = value
    X = {"array": X, "list": X.tolist(), "pandas": pd.DataFrame(X), "images": X.reshape(10, 4, 3)}[kind]
    with pytest.raises(ValueError, match="(Column 1 of )?X holds '.*could not be converted|Complex data|inhomogeneous"):
        detector().fit(X)


@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, pd.DataFrame], ids=["array", "list", "pandas"])
def test_numbers_beyond_float64_are_too_large(numbers, no_work, kind):
    X = numbers.astype(object)
    X[3, 1] = 10**400
    with pytest.raises(ValueError, match="X contains infinity or a value too large"):
        detector().fit(kind(X))


@pytest.mark.skipif(np.finfo(np.longdouble).max == np.finfo(np.float64).max, reason="long doubles are float64 here")
@pytest.mark.parametrize("kind", [np.asarray, pd.DataFrame, dask.array.from_array], ids=["array", "pandas", "dask"])
def test_long_doubles_beyond_float64_are_infinite(numbers, kind):
    X = numbers.astype(np.longdouble)
    scores = detector(max_epochs=2).fit(kind(X)).decision_scores_
    np.testing.assert_array_equal(scores, detector(max_epochs=2).fit(numbers).decision_scores_)
    X[3, 1] = np.longdouble("1e4000")
    with warnings.catch_warnings(), pytest.raises(ValueError, match="X contains infinity"):
        warnings.simplefilter("error")
        detector(max_epochs=2).fit(kind(X))


def test_masked_values_are_missing_values(numbers, no_work):
    X = np.ma.masked_greater(numbers, 2.0)
    for masked in (X, list(X)):
        with pytest.raises(ValueError, match="X contains missing values: some of its values are masked. Give X.filled"):
            detector().fit(masked)


def test_an_array_with_an_empty_mask_is_an_array(numbers):
    X = np.ma.masked_greater(numbers, 100.0)
    np.testing.assert_array_equal(
        detector(max_epochs=2).fit(X).decision_scores_, detector(max_epochs=2).fit(numbers).decision_scores_
    )


def test_a_lazy_frame_is_to_be_collected(numbers, no_work):
    with pytest.raises(ValueError, match=r"X is a LazyFrame.*X.collect\(\)"):
        detector().fit(pl.DataFrame(numbers).lazy())


def test_numbers_of_any_kind_are_taken(numbers):
    numbers = np.round(numbers * 10)
    expected = detector(max_epochs=2).fit(numbers).decision_scores_
    for X in (
        pd.DataFrame(numbers).astype("Int64"),
        pd.DataFrame(numbers).astype(int).astype("category"),
        pd.DataFrame(numbers).astype(object),
        pl.DataFrame(numbers).cast(pl.Int32),
    ):
        np.testing.assert_array_equal(detector(max_epochs=2).fit(X).decision_scores_, expected)


def test_missing_values_of_frames_are_refused(numbers):
    for X in (
        pd.DataFrame(numbers).astype("Float64").mask(numbers > 2),
        pd.DataFrame(numbers).astype(object).where(numbers < 2, None),
        pl.DataFrame({"a": [1.0, None] * 20, "b": numbers[:, 0]}),
        pl.DataFrame({"a": pl.Series([1.0, None] * 20, dtype=pl.Object), "b": numbers[:, 0]}),
    ):
        with pytest.raises(ValueError, match="NaN|missing"):
            detector().fit(X)


@pytest.mark.parametrize("unit", ["M8[D]", "m8[s]"])
def test_times_alone_are_no_numbers(rng, unit):
    times = rng.integers(0, 1000, size=(60, 2)).astype(unit)
    with pytest.raises(ValueError, match="Column 0 of X holds .* could not be converted to a number"):
        MemAEDetector(max_epochs=1).fit(times)
    with pytest.raises(ValueError, match="Column 'a' of X holds"):
        MemAEDetector(max_epochs=1).fit(pd.DataFrame(times, columns=["a", "b"]))
    with pytest.raises(ValueError, match="X holds '.*could not be converted to a number"):
        MemAEDetector(max_epochs=1).fit(times.reshape(15, 4, 2))

"""DataFrames in, DataFrames out; columns that hold no numbers are named."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skmemae import MemAEDetector
from skmemae._frames import like
from tests.problems import detector


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
    assert like(X, values).columns.tolist() == [("x", 1), "x"] and like(X, values).index.tolist() == ["p", "p"]
    assert like([[1, 2], [3, 4]], values) is values


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
def test_a_column_of_polars_without_numbers_is_named(numbers, kind):
    X = pl.DataFrame({"a": numbers[:, 0], "b": pl.Series(TEXT, dtype=kind)})
    with pytest.raises(ValueError, match="Column 'b' of X holds 'x'"):
        detector().fit(X)


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
    with pytest.raises(ValueError, match="X holds times, of dtype"):
        MemAEDetector(max_epochs=1).fit(times.reshape(15, 4, 2))

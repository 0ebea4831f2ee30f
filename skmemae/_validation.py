"""Checks of samples and of single parameters, and DataFrames in and out."""

import contextlib
import math
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import _check_n_features, check_array, validate_data

from skmemae._data.sources import RowSource, Samples, as_source

_NUMBERS = "buifc"  # kinds of dtypes; complex numbers get an error of scikit-learn's
_NO_NUMBERS = np.datetime64 | np.timedelta64 | date | timedelta | complex | np.complexfloating  # float() takes some of them


def check_positive_int(name: str, value: object, where: str) -> int:
    """Return the value of a parameter as an int.

    Parameters
    ----------
    name : str
        The parameter.
    value : object
        What the caller passed; a bool is not an int here.
    where : str
        The function or class that has the parameter.

    Raises
    ------
    ValueError
        If the value is not an int of at least 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"The {name!r} parameter of {where} must be a positive int. Got {value!r} instead.")
    return int(value)


def check_numbers(params: dict[str, Any], accepts_bool: Sequence[str] = ()) -> None:
    """Raise if a number is given as a bool, which scikit-learn's intervals accept, or is not finite as a float.

    Raises
    ------
    ValueError
    """
    for name, value in params.items():
        if isinstance(value, bool) and name not in accepts_bool:
            raise ValueError(f"The {name!r} parameter must not be a bool. Got {value!r} instead.")
        if isinstance(value, Real) and not is_finite(value):
            raise ValueError(f"The {name!r} parameter must be a finite number. Got {value!r} instead.")


def is_finite(value: Real) -> bool:
    """Whether a number is finite as a float."""
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


@contextlib.contextmanager
def unchanged_on_error(estimator: Any) -> Iterator[None]:
    """Put an estimator's attributes back if the block fails or is interrupted."""
    before = vars(estimator).copy()
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def check_samples(estimator: Any, X: Any, least: int, reset: bool) -> Samples:
    """X as an array of finite numbers, or as a source of rows, which checks its rows when they are read.

    Parameters
    ----------
    estimator : estimator
        Its ``n_features_in_`` and ``feature_names_in_`` are checked, or set if ``reset``.
    X : array-like of shape (n_samples, ...)
    least : int
        Smallest number of samples that is accepted.
    reset : bool

    Raises
    ------
    ValueError
        If X is not accepted.
    """
    _check_holds_all_values(X)
    X = as_source(X)
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    if not isinstance(X, RowSource):
        return _validated(estimator, X, least, reset)
    if len(X) < least:
        raise ValueError(f"Found array with {len(X)} sample(s) (shape={X.shape}) while a minimum of {least} is required.")
    if reset:
        estimator.__dict__.pop("feature_names_in_", None)  # of an earlier fit on a DataFrame
    _check_n_features(estimator, X, reset=reset)
    return X


def _check_holds_all_values(X: Any) -> None:
    """Raise if X has no values yet, or marks values as missing in a way that a conversion would drop."""
    if type(X).__name__ == "LazyFrame":
        raise ValueError("X is a LazyFrame, which holds no rows yet: give X.collect().")
    rows = X if isinstance(X, list | tuple) else [X]
    if any(isinstance(row, np.ma.MaskedArray) and np.ma.is_masked(row) for row in rows):
        raise ValueError(
            "Input X contains missing values: some of its values are masked. Give X.filled(value), or "
            "X.filled(np.nan) to an imputer of scikit-learn before."
        )


def _validated(estimator: Any, X: Any, least: int, reset: bool) -> np.ndarray:
    if isinstance(X, list | tuple):
        X = np.asarray(X)
    _check_numbers_of_columns(X)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the check sums X, which may overflow
            checked = validate_data(estimator, X, dtype="numeric", allow_nd=True, ensure_min_samples=least, reset=reset)
            # For polars, and for categories of pandas, validate_data returns an array of objects. Numbers of long doubles may
            # be infinite as float64, in which all is computed.
            if checked.dtype.kind == "O" or (checked.dtype.kind == "f" and checked.dtype.itemsize > 8):
                return check_array(checked.astype(np.float64), allow_nd=True, input_name="X")
            return checked
    except OverflowError as error:
        raise ValueError("Input X contains infinity or a value too large for dtype('float64').") from error


def check_shape(estimator: Any, X: Any, expected: tuple[int, ...]) -> None:
    """Raise unless samples have the expected shape.

    Raises
    ------
    ValueError
    """
    if X.shape[1:] != expected:
        raise ValueError(
            f"X has samples of shape {X.shape[1:]}, but {type(estimator).__name__} is expecting samples of shape "
            f"{expected} as input."
        )


def check_known_shape(estimator: Any, X: Any, expected: tuple[int, ...], least: int = 1) -> Samples:
    """X checked against the shape of the training samples.

    Raises
    ------
    ValueError
        If X is not accepted, or is a single sample.
    """
    if len(expected) > 1 and tuple(getattr(X, "shape", ())) == expected:
        raise ValueError(f"X has shape {expected}, which is one sample; {type(estimator).__name__} takes many: give X[None].")
    X = check_samples(estimator, X, least, reset=False)
    check_shape(estimator, X, expected)
    return X


def same_frame_type(X: Any, values: np.ndarray) -> Any:
    """Values as a DataFrame with the column names and the index of X, or unchanged if X is no DataFrame.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    values : ndarray of X's shape
    """
    if _is_pandas(X):
        return type(X)(values, index=X.index, columns=X.columns)
    return type(X)(values, schema=X.columns) if _is_polars(X) else values


def _check_numbers_of_columns(X: Any) -> None:
    """Raise if a value of X is no number, before a conversion makes numbers of dates and durations without a word.

    Raises
    ------
    ValueError
    """
    for name, column in _doubtful_columns(X):
        values = np.asarray(column)
        if values.dtype.kind in _NUMBERS and values.ndim == 1:
            continue
        value = next((value for value in values if not _is_number_or_missing(value)), None)
        if isinstance(X, np.ndarray) and isinstance(value, dict):
            continue  # scikit-learn has a TypeError for these
        if value is not None:
            where = "X" if name is None else f"Column {name!r} of X"
            raise ValueError(
                f"{where} holds {str(value)[:60]!r}, which could not be converted to a number. Encode such columns before, for "
                "example by OneHotEncoder in a ColumnTransformer of scikit-learn, and give times as numbers, such as the hour."
            )


def _is_number_or_missing(value: Any) -> bool:
    if isinstance(value, _NO_NUMBERS):
        return False
    try:
        float(value)
    except OverflowError:  # raised for all of X, whose other values may be too large as well
        return True
    except (TypeError, ValueError):
        return value is None or type(value).__name__ == "NAType"  # of pandas
    return True


def _is_pandas(X: Any) -> bool:
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _is_polars(X: Any) -> bool:
    return hasattr(X, "get_column") and hasattr(X, "columns")


def _doubtful_columns(X: Any) -> Iterator[tuple[Any, Any]]:
    """Name and values of each column whose dtype does not say that all are numbers; an array has None for a name if not 2-D."""
    if _is_pandas(X):
        doubtful = np.flatnonzero([dtype.kind not in _NUMBERS for dtype in X.dtypes])
        yield from ((X.columns[i], X.iloc[:, i]) for i in doubtful)
    elif _is_polars(X):
        yield from ((name, X.get_column(name)) for name, dtype in X.schema.items() if not dtype.is_numeric())
    elif isinstance(X, np.ndarray) and X.dtype.kind not in _NUMBERS:
        yield from enumerate(X.T) if X.ndim == 2 else [(None, X.ravel())]

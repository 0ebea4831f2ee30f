"""DataFrames of pandas and polars: results in their form, and the column that holds no numbers."""

from datetime import date, timedelta

import numpy as np

_TIMES = np.datetime64 | np.timedelta64 | date | timedelta


def like(X, values):
    """Values as a DataFrame with the column names and the index of X, or as they are if X is no DataFrame.

    Parameters
    ----------
    X : array-like of shape (n_samples, ...)
    values : ndarray of X's shape
    """
    if _is_pandas(X):
        return type(X)(values, index=X.index, columns=X.columns)
    return type(X)(values, schema=X.columns) if _is_polars(X) else values


def not_a_number(X):
    """The name of the first column that holds what is not a number, and that value; None if there is no such column."""
    for name, column in _columns(X):
        for value in np.asarray(column):
            if isinstance(value, _TIMES) or (isinstance(value, str) and not _reads_as_number(value)):
                return name, value
    return None


def _is_pandas(X):
    return hasattr(X, "iloc") and hasattr(X, "columns")


def _is_polars(X):
    return hasattr(X, "to_pandas") and hasattr(X, "columns")


def _columns(X):
    if _is_pandas(X):
        yield from ((name, X.iloc[:, i]) for i, name in enumerate(X.columns))
    elif _is_polars(X):
        yield from ((name, X[name]) for name in X.columns)
    elif isinstance(X, np.ndarray | list | tuple) and np.ndim(X) == 2:
        yield from enumerate(np.asarray(X).T)


def _reads_as_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True

"""Splits of labelled data into training and test samples."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_random_state


def one_class_split(
    X: np.ndarray,
    y: np.ndarray,
    normal: ArrayLike,
    *,
    test_size: float = 1 / 3,
    outlier_share: float = 0.3,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Split by the paper's one-class protocol: train on normal samples only, test on held-out normal samples and outliers.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Class labels.
    normal : label or list of labels
        Normal classes; samples of all other classes are outliers.
    test_size : float, default=1/3
        Share of the normal samples held out for the test set.
    outlier_share : float, default=0.3
        Share of outliers in the test set; less if the other classes have too few samples.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train`` (normal samples only), ``X_test`` and ``y_test`` (1 = outlier, 0 = inlier).
    """
    rng = check_random_state(random_state)
    inlier = np.isin(y, normal)
    train, test = train_test_split(np.flatnonzero(inlier), test_size=test_size, random_state=rng)
    n_outliers = round(len(test) * outlier_share / (1 - outlier_share))
    outliers = rng.permutation(np.flatnonzero(~inlier))[:n_outliers]
    rows = np.concatenate([test, outliers])
    return Bunch(X_train=X[train], X_test=X[rows], y_test=(~inlier[rows]).astype(int))


def contaminated_split(
    X: np.ndarray,
    y: np.ndarray,
    *,
    test_size: float = 0.4,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Split by PyOD's benchmark protocol: random training and test samples, outliers in both, not stratified.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        1 = outlier, 0 = inlier.
    test_size : float, default=0.4
        Share of the samples held out for the test set.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train``, ``X_test`` and ``y_test`` (1 = outlier, 0 = inlier).
    """
    X_train, X_test, _, y_test = train_test_split(X, y, test_size=test_size, random_state=check_random_state(random_state))
    return Bunch(X_train=X_train, X_test=X_test, y_test=y_test)


def clean_split(
    X: np.ndarray,
    y: np.ndarray,
    *,
    test_size: float = 0.5,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Split into normal training samples and a test set of the other normal samples and all outliers.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        1 = outlier, 0 = inlier.
    test_size : float, default=0.5
        Share of the normal samples held out for the test set.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train`` (normal samples only), ``X_test`` and ``y_test`` (1 = outlier, 0 = inlier).
    """
    rng = check_random_state(random_state)
    train, test = train_test_split(np.flatnonzero(y == 0), test_size=test_size, random_state=rng)
    rows = np.concatenate([test, np.flatnonzero(y != 0)])
    return Bunch(X_train=X[train], X_test=X[rows], y_test=y[rows])

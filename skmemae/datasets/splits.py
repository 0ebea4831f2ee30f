"""Splits into training and test samples: what a detector may train on, and what it is asked about."""

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils import Bunch, check_random_state


def one_class_split(X, y, normal, *, test_size=1 / 3, outlier_share=0.3, random_state=None):
    """The paper's one-class protocol: train on normal samples alone, test on the rest of them and some of the others.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        Class labels.
    normal : label or list of labels
        The classes that are normal.
    test_size : float, default=1/3
        Share of the normal samples kept for the test set.
    outlier_share : float, default=0.3
        Share of the test set drawn from the other classes, as far as they reach.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train`` (normal samples alone), ``X_test`` and ``y_test`` (1 = outlier).
    """
    rng = check_random_state(random_state)
    inlier = np.isin(y, normal)
    train, test = train_test_split(np.flatnonzero(inlier), test_size=test_size, random_state=rng)
    wanted = round(len(test) * outlier_share / (1 - outlier_share))
    outliers = rng.permutation(np.flatnonzero(~inlier))[:wanted]
    rows = np.concatenate([test, outliers])
    return Bunch(X_train=X[train], X_test=X[rows], y_test=(~inlier[rows]).astype(int))


def contaminated_split(X, y, *, test_size=0.4, random_state=None):
    """PyOD's benchmark protocol: a random part to train, with the outliers that fall into it, the rest to test.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        1 = outlier, 0 = inlier.
    test_size : float, default=0.4
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train``, ``X_test``, ``y_test``. Not stratified.
    """
    X_train, X_test, _, y_test = train_test_split(X, y, test_size=test_size, random_state=check_random_state(random_state))
    return Bunch(X_train=X_train, X_test=X_test, y_test=y_test)


def clean_split(X, y, *, test_size=0.5, random_state=None):
    """Train on a part of the normal samples, test on the rest of them and on all outliers.

    Parameters
    ----------
    X : ndarray of shape (n_samples, ...)
    y : ndarray of shape (n_samples,)
        1 = outlier, 0 = inlier.
    test_size : float, default=0.5
        Share of the normal samples kept for the test set.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    split : Bunch
        ``X_train`` (normal samples alone), ``X_test``, ``y_test``.
    """
    rng = check_random_state(random_state)
    train, test = train_test_split(np.flatnonzero(y == 0), test_size=test_size, random_state=rng)
    rows = np.concatenate([test, np.flatnonzero(y != 0)])
    return Bunch(X_train=X[train], X_test=X[rows], y_test=y[rows])

import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def table(rng):
    """300 rows of 6 columns, the first 30 far out; y says which."""
    X = rng.normal(size=(300, 6))
    X[:30] = rng.uniform(4, 8, size=(30, 6)) * rng.choice([-1, 1], size=(30, 6))
    return X, np.repeat([1, 0], [30, 270])

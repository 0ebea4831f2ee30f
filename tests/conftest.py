import matplotlib
import numpy as np
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Networks of the tests are too small to share: where cores are busy, threads spend their time waiting for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def figures():
    """Figures are drawn without a screen, and closed at the end."""
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def table(rng):
    """300 rows of 6 columns, the first 30 far out; y says which."""
    X = rng.normal(size=(300, 6))
    X[:30] = rng.uniform(4, 8, size=(30, 6)) * rng.choice([-1, 1], size=(30, 6))
    return X, np.repeat([1, 0], [30, 270])


def pytest_addoption(parser):
    parser.addoption("--data-home", help="folder of published data sets, for the slow tests that repeat the README's results")


@pytest.fixture(scope="session")
def data_home(request):
    folder = request.config.getoption("--data-home")
    if folder is None:
        pytest.skip("published data: pytest -m slow --data-home DIR")
    return folder

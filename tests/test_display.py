"""Pictures are drawn from the right numbers, readable on light and dark pages; what cannot be drawn is named."""

import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from problems import detector
from sklearn.exceptions import NotFittedError

matplotlib.use("Agg")

from skmemae.display import (
    AddressingDisplay,
    AnomalyMapDisplay,
    ExplanationDisplay,
    MemoryDisplay,
    NormalityDisplay,
    ReconstructionDisplay,
    ScoreDisplay,
    TrainingCurveDisplay,
)

STYLES = ["default", "dark_background"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    matplotlib.pyplot.close("all")


@pytest.fixture
def frame(rng):
    """120 rows with names of columns and an index."""
    names = ["height", "weight", "age", "a very long name of a column that no picture has room for"]
    return pd.DataFrame(rng.normal(size=(120, 4)) * [1, 50, 3, 1], columns=names, index=[f"row {i}" for i in range(120)])


def texts(labels):
    return [label.get_text() for label in labels]

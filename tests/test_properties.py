"""What holds for any finite X: it is refused with a ValueError, or it and all multiples of it get finite scores."""

import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skmemae import MemAEDetector
from skmemae._model.score import ERRORS

SHAPES = [(1,), (3,), (7,), (5, 5), (8, 6), (3, 6, 6), (6, 7, 3), (1, 3, 5, 5), (3, 4, 6, 2)]
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int16, np.int8, np.uint8, bool]
SCALINGS = ["auto", "contrast", "log", "standard", "minmax", None]
SCORES = ["auto", *ERRORS, "reconstruction-subsets", "relative-query", "absolute-turns", "relative-paces"]
outcomes = Counter()


@st.composite
def arrays(draw):
    """Finite arrays of every supported shape, dtype and order, from constant to the ends of the dtype's range."""
    shape = (draw(st.integers(2, 24)), *draw(st.sampled_from(SHAPES)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    offset, spread = (10.0 ** draw(st.integers(-320, 307)) for _ in range(2))
    kind = draw(st.sampled_from(["normal", "sparse", "constant", "few values", "log"]))
    with np.errstate(all="ignore"):
        X = {
            "normal": lambda: rng.normal(size=shape),
            "sparse": lambda: rng.normal(size=shape) * (rng.random(shape) < 0.1),
            "constant": lambda: np.ones(shape),
            "few values": lambda: rng.integers(0, 3, size=shape).astype(float),
            "log": lambda: np.exp(rng.normal(scale=10, size=shape)),
        }[kind]()
        X = X * spread + draw(st.sampled_from([0.0, 1.0, -1.0])) * offset
        if draw(st.booleans()):
            X.flat[rng.integers(X.size)] = draw(st.sampled_from([1e20, -1e38, 1e155, -1e300, 1e308, 1e-310]))
    return ordered(fitted_to(X, dtype), draw(st.sampled_from(["C", "F", "strided"])))


def fitted_to(X, dtype):
    """X in a dtype, clipped to its finite range."""
    if dtype.kind == "b":
        return X > 0
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    largest = float(info.max) if dtype.kind == "f" else float(info.max) * (1 - 1e-15)
    with np.errstate(all="ignore"):
        return np.clip(np.nan_to_num(X), float(info.min), largest).astype(dtype)


def ordered(X, order):
    if order == "strided":
        return np.repeat(X, 2, axis=0)[::2]
    return np.asarray(X, order=order)


def check(X, factor, scaling, anomaly_score, convention):
    det = MemAEDetector(
        max_epochs=1, ensemble_size=1, random_state=0, scaling=scaling, anomaly_score=anomaly_score, convention=convention
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            det.fit(X)
        except ValueError as error:
            outcomes["of another kind" if "anomaly_score=" in str(error) else "refused"] += 1
            return
    outcomes["scored"] += 1
    assert np.isfinite(det.decision_scores_).all() and np.isfinite(det.threshold_)
    with np.errstate(all="ignore"):
        multiple = fitted_to(np.asarray(X, dtype=np.float64) * factor, X.dtype)
    for data in (X, multiple, multiple[:1]):
        decision = det.decision_function(data)
        assert np.isfinite(decision).all()
        outlier = decision < 0 if convention == "sklearn" else decision > det.threshold_
        np.testing.assert_array_equal(det.predict(data) == (-1 if convention == "sklearn" else 1), outlier)
        assert np.isfinite(det.reconstruct(data)).all() and np.isfinite(det.anomaly_map(data)).all()
    np.testing.assert_array_equal(det.predict(X) == (-1 if convention == "sklearn" else 1), det.labels_ == 1)


cases = given(
    X=arrays(),
    factor=st.sampled_from([0.0, 1.0, -1.0, 1e-300, 1e-5, 1e5, 1e20, 1e38, 1e155, 1e300]),
    scaling=st.sampled_from(SCALINGS),
    anomaly_score=st.sampled_from(SCORES),
    convention=st.sampled_from(["pyod", "sklearn"]),
)
health = [HealthCheck.too_slow, HealthCheck.data_too_large]


def run_property(**options):
    """Check arrays, of which most are scored: the property would hold for a detector that refuses everything."""
    outcomes.clear()
    settings(deadline=None, suppress_health_check=health, **options)(cases(check))()
    assert outcomes["scored"] > 9 * outcomes["refused"] and outcomes["scored"] > 0.6 * outcomes.total(), outcomes


def test_any_finite_array_gets_finite_scores_or_is_refused():
    run_property(max_examples=300, derandomize=True)


@pytest.mark.slow
def test_ten_thousand_finite_arrays_get_finite_scores_or_are_refused():
    run_property(max_examples=10_000)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=health)
@given(X=arrays(), value=st.sampled_from([np.nan, np.inf, -np.inf]), place=st.integers(0, 10**6))
def test_a_number_that_is_not_finite_is_refused(X, value, place):
    if X.dtype.kind != "f":
        X = X.astype(np.float64)
    X = X.copy()
    X.flat[place % X.size] = value
    with pytest.raises(ValueError, match="NaN|infinity"):
        MemAEDetector(max_epochs=1, random_state=0).fit(X)

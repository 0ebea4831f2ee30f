"""Explanations add up, name the cause, and say what was expected."""

import numpy as np
import pandas as pd
import pytest

from skmemae import MemAEDetector
from skmemae._data.loader import Loader
from skmemae._model.fitted import FittedModel
from skmemae.network import Ensemble
from tests.problems import detector


def factors(rng, loadings, n):
    return rng.normal(size=(n, len(loadings))) @ loadings + 0.1 * rng.normal(size=(n, loadings.shape[1]))


@pytest.fixture(scope="module")
def moved():
    """A detector of rows of two hidden factors, new rows, and the same with one column of each moved by three deviations."""
    rng = np.random.default_rng(0)
    loadings = rng.normal(size=(2, 6))
    X, normal = factors(rng, loadings, 300), factors(rng, loadings, 100)
    column, wrong = rng.integers(6, size=100), normal.copy()
    wrong[np.arange(100), column] += 3 * X.std(axis=0)[column]
    return MemAEDetector(random_state=0).fit(X), X, normal, wrong, column


def test_the_wrong_column_is_named_and_what_it_should_have_been(moved):
    det, X, normal, wrong, column = moved
    explanation, rows = det.explain(wrong), np.arange(100)
    assert np.mean(explanation.shares.argmax(axis=1) == column) >= 0.95
    distance = np.abs(explanation.expected - normal)[rows, column] / X.std(axis=0)[column]
    assert np.median(distance) < 0.3  # of a deviation, where the value itself is off by three
    np.testing.assert_array_equal(explanation.values, wrong)


SCORES = ["reconstruction", "absolute", "power", "smooth", "local", "relative", "smooth-patches", "auto"]


@pytest.mark.parametrize("shape", [(60, 5), (30, 8, 9), (30, 8, 9, 3), (16, 1, 4, 8, 8)], ids=str)
@pytest.mark.parametrize("score", SCORES)
def test_shares_are_not_negative_and_add_up_to_the_score(rng, shape, score):
    if len(shape) == 2 and score in ("smooth", "local"):
        pytest.skip("of images")
    if len(shape) in (2, 5) and score == "smooth-patches":
        pytest.skip("of images alone")
    X = rng.random(shape).astype(np.float32)
    det = detector(anomaly_score=score, max_epochs=2).fit(X)
    new = np.concatenate([rng.random((5, *shape[1:])), X[:3]])
    explanation = det.explain(new)
    assert explanation.shares.shape == new.shape and (explanation.shares >= 0).all()
    np.testing.assert_array_equal(explanation.scores, -det.score_samples(new))
    np.testing.assert_allclose(explanation.shares.reshape(8, -1).sum(axis=1), explanation.scores, rtol=1e-9)


@pytest.mark.parametrize("parameters", [{"memory_unit": "sample"}, {"memory_size": 0}, {"contamination": 0.001}])
def test_tables_of_all_kinds_of_memory(rng, parameters):
    X = rng.normal(size=(100, 4))
    det = detector(**parameters).fit(X)
    explanation = det.explain(X[:7] + 1, n_items=3)
    np.testing.assert_allclose(explanation.shares.sum(axis=1), explanation.scores, rtol=1e-9)
    assert explanation.items.shape == explanation.weights.shape == (7, 0 if parameters == {"memory_size": 0} else 3)
    assert (explanation.rows is None) == (det.memory_rows_ is None)


@pytest.mark.parametrize("shape", [(40, 4), (30, 8, 9), (16, 1, 4, 8, 8)], ids=str)
def test_learned_items_are_named_with_their_weights_and_the_reconstruction_is_what_was_expected(rng, shape):
    det = detector(max_epochs=3, memory_unit="sample").fit(rng.random(shape))
    new = rng.random((4, *shape[1:]))
    explanation, weights = det.explain(new, n_items=3), det.addressing_weights(new)
    weights = weights.reshape(4, -1, weights.shape[-1]).mean(axis=1) if weights.ndim > 2 else weights
    np.testing.assert_allclose(explanation.weights, np.take_along_axis(weights, explanation.items, axis=1), rtol=1e-4)
    np.testing.assert_allclose(explanation.weights, np.sort(weights)[:, ::-1][:, :3], rtol=1e-4)
    if len(shape) > 2:  # of a table it is what the other columns let expect
        np.testing.assert_allclose(explanation.expected, det.reconstruct(new), rtol=1e-4, atol=1e-6)


def test_the_training_rows_that_answered_are_named(moved):
    det, X, normal, _, _ = moved
    explanation = det.explain(normal, n_items=4)
    assert explanation.rows.shape == (100, 4) and all(len(set(rows)) == 4 for rows in explanation.rows)
    assert (np.diff(explanation.weights, axis=1) <= 0).all() and explanation.weights.max() <= 1
    np.testing.assert_array_equal(det.memory_rows_[explanation.items], explanation.rows)
    of_all = det.addressing_weights(normal)[:, det.memory_rows_ == explanation.rows[0, 0]]
    assert of_all.sum(axis=1)[0] == pytest.approx(explanation.weights[0, 0], rel=1e-5)
    near = np.linalg.norm(X[explanation.rows[:, 0]] - normal, axis=1)
    assert np.median(near) < 0.5 * np.median(np.linalg.norm(X[:100] - normal, axis=1))
    own = det.explain(X[det.memory_rows_[:20]]).rows  # a training row does not answer itself
    assert not (own == det.memory_rows_[:20, None]).any()


def test_a_training_row_that_was_repaired_is_not_answered_by_itself(rng):
    X = factors(rng, rng.normal(size=(2, 6)), 200)
    X[0, 3] += 3 * X[:, 3].std()
    det = MemAEDetector(contamination=0.001, random_state=0).fit(X)
    explanation = det.explain(X[:1])
    assert abs(explanation.expected[0, 3] - X[0, 3]) > 2 * X[:, 3].std()


def test_a_frame_names_samples_and_columns(rng):
    X = pd.DataFrame(rng.normal(size=(80, 3)), columns=["height", "width", "depth"])
    new = pd.DataFrame([[0, 0, 9], [8, 0, 0]], columns=X.columns, index=["a", "b"])
    frame = detector().fit(X).explain(new).to_frame(n_features=2)
    assert list(frame.columns) == ["sample", "feature", "share", "value", "expected"]
    assert frame["sample"].tolist() == ["a", "a", "b", "b"] and frame["feature"][[0, 2]].tolist() == ["depth", "height"]
    assert frame["value"][[0, 2]].tolist() == [9, 8] and (frame["share"].diff()[[1, 3]] <= 0).all()
    unnamed = detector().fit(X.to_numpy()).explain(new.to_numpy()).to_frame()
    assert unnamed["feature"][0] == "x2" and unnamed["sample"].tolist() == [0] * 3 + [1] * 3


def test_the_region_is_where_an_image_is_wrong(rng):
    X = np.tile(np.linspace(0, 1, 24), (60, 24, 1)) + 0.05 * rng.normal(size=(60, 24, 24))
    wrong = X[:4].copy()
    wrong[:, 4:9, 12:18] += 2
    regions = detector(max_epochs=5).fit(X).explain(wrong).regions
    assert regions.shape == (4, 2, 2)
    np.testing.assert_allclose(regions, np.tile([[4, 9], [12, 18]], (4, 1, 1)), atol=2)


def test_the_region_of_a_clip_has_frames_too(rng):
    X = 0.1 * rng.normal(size=(20, 1, 6, 12, 12))
    wrong = X[:2].copy()
    wrong[:, :, 2:4, 5:9, 1:5] += 3
    regions = detector(max_epochs=2).fit(X).explain(wrong).regions
    np.testing.assert_allclose(regions, np.tile([[2, 4], [5, 9], [1, 5]], (2, 1, 1)), atol=1)


@pytest.mark.parametrize("n_items", [0, -1, 2.5, "all", True, None])
def test_a_wrong_number_of_items_is_named(moved, n_items):
    with pytest.raises(ValueError, match="'n_items' parameter of explain must be a positive int"):
        moved[0].explain(moved[1][:2], n_items=n_items)


def test_what_cannot_be_a_frame_says_why(moved, rng):
    with pytest.raises(ValueError, match="'n_features' parameter of to_frame must be None or a positive int. Got 0"):
        moved[0].explain(moved[1][:2]).to_frame(0)
    images = detector(max_epochs=1).fit(rng.random((20, 8, 8)))
    with pytest.raises(ValueError, match=r"rows of a table; these samples have shape \(8, 8\)"):
        images.explain(rng.random((2, 8, 8))).to_frame()
    with pytest.raises(ValueError, match="5 features"):
        moved[0].explain(moved[1][:2, :5])


def test_values_are_those_that_were_explained(moved):
    X = moved[1][:3].copy()
    explanation = moved[0].explain(X)
    X[:] = 0
    np.testing.assert_array_equal(explanation.values, moved[1][:3])


@pytest.mark.parametrize("kind, most", [("rows", 3), ("learned items", 3), ("images", 1), ("clips", 1)])
def test_samples_are_read_once_and_an_explanation_has_the_bits_of_the_scores(rng, kind, most, monkeypatch):
    shape = {"images": (60, 8, 9), "clips": (40, 1, 4, 8, 8)}.get(kind, (300, 5))
    X = rng.random(shape)
    det = detector(max_epochs=2, memory_unit="sample" if kind == "learned items" else "auto").fit(X)
    scores, reads, batches, passes = det.decision_function(X), [], [], []
    chunks, batch, forward = Loader.chunks, FittedModel.batch, Ensemble.forward
    monkeypatch.setattr(Loader, "chunks", lambda self, *args: reads.append(1) or chunks(self, *args))
    monkeypatch.setattr(FittedModel, "batch", lambda self, *args: batches.append(1) or batch(self, *args))
    monkeypatch.setattr(Ensemble, "forward", lambda self, *args: passes.append(1) or forward(self, *args))
    det.decision_function(X)
    of_scores = [len(counted) for counted in (reads, batches, passes)]
    for counted in (reads, batches, passes):
        counted.clear()
    np.testing.assert_array_equal(det.explain(X).scores, scores)
    assert [len(reads), len(batches)] == of_scores[:2] and len(reads) == 1
    assert len(passes) == most * of_scores[2]  # two more of a table, which find the expected value of the worst column

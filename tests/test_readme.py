"""The README's Python runs as printed and does what its comments say."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def blocks():
    found = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(found) == 2
    return found


def run(block):
    """Names after the block, and the values of its expressions by their text."""
    names, values = {}, {}
    for statement in ast.parse(block).body:
        text = ast.unparse(statement)
        if isinstance(statement, ast.Expr):
            values[text] = eval(text, names)
        else:
            exec(text, names)
    return names, values


def test_pyods_convention(blocks):
    names, values = run(blocks[0])
    detector, images, outlier = names["detector"], names["images"], names["y"] != 2
    assert detector.decision_scores_.shape == (120,) and detector.labels_.sum() == 0.05 * 120
    scores, labels = values["detector.decision_function(images)"], values["detector.predict(images)"]
    assert roc_auc_score(outlier, scores) > 0.98
    assert set(labels) == {0, 1} and np.array_equal(labels, scores > detector.threshold_)
    assert labels[outlier].mean() > 0.8 and labels[~outlier].mean() < 0.25
    probabilities = values["detector.predict_proba(images)"]
    assert probabilities.shape == (len(images), 2) and np.allclose(probabilities.sum(axis=1), 1)
    reconstructions, maps = values["(detector.reconstruct(images), detector.anomaly_map(images))"]
    assert reconstructions.shape == maps.shape == images.shape and maps.min() >= 0
    assert roc_auc_score(outlier, maps.sum(axis=(1, 2))) > 0.9


def test_sklearns_convention(blocks):
    names, values = run(blocks[1])
    detector, search, outlier = names["detector"], names["search"], names["y"] == 0
    labels, decision = values["detector.fit_predict(X)"], values["detector.decision_function(X)"]
    assert set(labels) == {-1, 1} and np.array_equal(labels, np.where(decision < 0, -1, 1))
    assert (labels == -1).sum() == pytest.approx(0.1 * len(outlier), abs=1)
    assert np.allclose(decision, detector.score_samples(names["X"]) - detector.offset_)
    assert roc_auc_score(outlier, -decision) > 0.7
    assert search.best_score_ == search.cv_results_["mean_test_score"].max() > 0.7
    assert search.best_params_["memory_size"] in (50, 100)

"""PyOD's ADEngine plans with MemAE, runs it and comes to a conclusion."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyod.utils.ad_engine import ADEngine

import knowledge
from skmemae import MemAEDetector
from skmemae.knowledge import FILES, write_knowledge

ROOT = Path(__file__).parents[1]


@pytest.fixture
def engine(tmp_path):
    return ADEngine(knowledge_dir=write_knowledge(tmp_path / "made" / "here"), random_state=0)


def test_the_files_come_from_the_stored_rows(tmp_path):
    knowledge.main(["--rows", str(ROOT / "docs" / "results"), "--folder", str(tmp_path)])
    for name in FILES:
        assert (tmp_path / f"{name}.json").read_text() == (ROOT / "skmemae" / "knowledge" / f"{name}.json").read_text()
    with pytest.raises(SystemExit, match="There are no rows"):
        knowledge.main(["--rows", str(tmp_path)])


def test_older_files_are_replaced(tmp_path):
    (tmp_path / "papers.json").write_text("older")
    write_knowledge(tmp_path)
    assert json.loads((tmp_path / "papers.json").read_text())


def test_what_pyod_knows_is_still_known(engine):
    theirs = ADEngine().kb
    assert theirs.algorithms.items() <= engine.kb.algorithms.items()
    assert theirs.benchmarks.items() <= engine.kb.benchmarks.items() and theirs.papers.items() <= engine.kb.papers.items()
    assert engine.kb.routing_rules["rules"][-len(theirs.routing_rules["rules"]) :] == theirs.routing_rules["rules"]
    # An entry of MemAE has what those of others have.
    others = set.intersection(*(set(entry) for entry in theirs.algorithms.values()))
    assert others <= set(engine.kb.algorithms["MemAE"]) | {"version_added"}


@pytest.mark.parametrize(
    "shape, priority, picked", [((300, 8), "balanced", True), ((300, 200), "accuracy", True), ((300, 8), "speed", False)]
)
def test_memae_is_picked_where_accuracy_counts(engine, rng, shape, priority, picked):
    plan = engine.plan_detection(engine.profile_data(rng.normal(size=shape)), priority=priority)
    assert (plan["detector_name"] == "MemAE") == picked


def test_a_plan_runs_to_its_end(engine, rng):
    X = rng.normal(size=(200, 6))
    X[:10] += 6
    plan = engine.plan_detection(engine.profile_data(X), priority="accuracy")
    detector = engine.build_detector(plan)
    assert isinstance(detector, MemAEDetector) and detector.random_state == 0
    result = engine.run_detection(X, plan)
    assert np.asarray(result["labels_train"])[:10].all()
    assert engine.analyze_results(result, X)["summary"]

"""Which module may know what: imports point down."""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import skmemae

PACKAGE = Path(skmemae.__file__).parent

# What each part of the package imports of the others, from the bottom up.
KNOWS = {
    "network": set(),
    "_version": set(),
    "_warnings": set(),
    "_data": {"_warnings"},
    "_runtime": {"_warnings"},
    "_score": {"_data", "network"},
    "_writing": set(),
    "_train": {"_data", "_runtime", "_version", "_writing", "network"},
    "_model": {"_data", "_runtime", "_score", "network"},
    "_resolve": {"_data"},
    "_html": set(),
    "_frames": set(),
    "_validation": set(),
    "metrics": set(),
    "_threshold": {"_warnings"},
    "_contract": {"_html", "_resolve", "_threshold", "metrics"},
    "_explanation": {"_model", "_runtime"},
    "_inspection": {"_contract", "_data", "_explanation", "_frames", "_model"},
    "_saving": {"_version", "_writing"},
    "_state": {"_data", "_model", "_runtime", "_score", "network"},
    "_untrusted": {"_data", "_resolve", "_state", "network"},
    "_onnx": {"_data", "_model", "_runtime", "_score", "network"},
    "_portable": {"_inspection", "_onnx", "_saving", "_state", "_untrusted", "_version", "_writing"},
    "_fitting": {"_data", "_model", "_resolve", "_runtime", "_score", "_train", "network"},
    "_callbacks": {"_train"},
    "_updating": {"_data", "_fitting", "_model", "_resolve", "_runtime", "_train", "network"},
    "_detector": {
        "_callbacks",
        "_contract",
        "_data",
        "_fitting",
        "_portable",
        "_resolve",
        "_runtime",
        "_train",
        "_updating",
        "_warnings",
    },
    "presets": {"network"},
    "display": {"_detector", "_explanation", "_validation", "metrics"},
    "knowledge": set(),
    "video": {"_data", "_detector", "_resolve", "_validation"},
    "datasets": {"_validation", "video"},
    "__init__": {"_detector", "_explanation", "_train", "_version", "_warnings"},
}
# Parts that know no estimator, with the files that may import scikit-learn or joblib.
PLAIN = {"network": (), "_warnings": (), "_data": ("statistics",), "_runtime": (), "_score": (), "_train": ("distributed",)}
PLAIN |= {"_model": ()}


def imported(path):
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(part):
    """What each file of a part imports."""
    paths = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else (PACKAGE / part).rglob("*.py")
    return {path.stem: set(imported(path)) for path in paths}


def parts(names):
    """Parts of the package among the names of modules; objects of the package itself count as ``__init__``."""
    ours = [name.split(".")[1] for name in names if name.split(".")[0] == "skmemae"]
    return {name if (PACKAGE / name).exists() or (PACKAGE / f"{name}.py").exists() else "__init__" for name in ours}


@pytest.mark.parametrize("part", KNOWS)
def test_a_part_knows_what_is_below_it_and_no_more(part):
    found = set().union(*(parts(names) for names in modules(part).values())) - {part}
    assert found == KNOWS[part]
    below = list(KNOWS)[: list(KNOWS).index(part)]
    assert found <= set(below)


def test_every_part_is_known():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert there - {"benchmark"} == set(KNOWS)


@pytest.mark.parametrize("part", PLAIN)
def test_parts_below_the_estimator_know_no_pyod_and_next_to_no_sklearn(part):
    for name, found in modules(part).items():
        roots = {module.split(".")[0] for module in found}
        allowed = {"torch", "skmemae"} if part == "network" else {"torch", "skmemae", "numpy", "tqdm"}
        outside = {root for root in roots if root not in sys.stdlib_module_names} - allowed
        assert outside <= ({"sklearn", "joblib"} if name in PLAIN[part] else set()), name


def test_sklearn_is_there_for_the_statistics_and_joblib_for_its_workers():
    assert {m for m in modules("_data")["statistics"] if m.startswith(("sklearn", "joblib"))} == {
        "sklearn.preprocessing.MinMaxScaler",
        "sklearn.preprocessing.StandardScaler",
    }
    assert {m for m in modules("_train")["distributed"] if m.startswith(("sklearn", "joblib"))} == {
        "joblib.parallel.get_active_backend"
    }


def test_matplotlib_is_imported_inside_functions_alone():
    for path in PACKAGE.rglob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("matplotlib" in ast.unparse(node) for node in top), path


def test_nothing_but_what_is_meant_for_users_is_public():
    for module in pkgutil.walk_packages([str(PACKAGE)], "skmemae."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    public = {name for name in vars(skmemae) if not name.startswith("_")}
    assert public == {
        *skmemae.__all__,
        "benchmark",
        "datasets",
        "display",
        "knowledge",
        "metrics",
        "network",
        "presets",
        "video",
    }
    assert set(skmemae.__all__) == {"Explanation", "MemAEDetector", "MemoryCollapseWarning", "single_process"}

"""Which module may know what: imports point down."""

import ast
import importlib
import pkgutil
import sys
from pathlib import Path

import pytest

import skmemae

PACKAGE = Path(skmemae.__file__).parent

# The parts of the package from the bottom up: each imports of those before it alone.
LAYERS = [
    "network",
    "_runtime",
    "_data",
    "_model",
    "_validation",
    "_defaults",
    "_train",
    "metrics",
    "_contract",
    "_compat",
    "_detector",
    "presets",
    "display",
    "knowledge",
    "video",
    "datasets",
    "__init__",
    "benchmark",
]


def imported(path):
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_by(part):
    """Names of the modules that a part imports."""
    paths = [PACKAGE / f"{part}.py"] if (PACKAGE / f"{part}.py").exists() else (PACKAGE / part).rglob("*.py")
    return {name for path in paths for name in imported(path)}


def parts(names):
    """Parts of the package among the names of modules; objects of the package itself count as ``__init__``."""
    ours = {(name.split(".") + ["__init__"])[1] for name in names if name.split(".")[0] == "skmemae"}
    return {name if name in LAYERS else "__init__" for name in ours}


@pytest.mark.parametrize("part", LAYERS)
def test_a_part_imports_only_parts_below_it(part):
    assert parts(imported_by(part)) - {part} <= set(LAYERS[: LAYERS.index(part)])


def test_every_part_has_its_layer():
    there = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert sorted(LAYERS) == sorted(there)


def test_the_network_imports_torch_alone():
    roots = {name.split(".")[0] for name in imported_by("network")}
    assert roots - set(sys.stdlib_module_names) == {"torch", "skmemae"}


@pytest.mark.parametrize("part", LAYERS[: LAYERS.index("_contract")])
def test_what_is_below_the_contract_knows_no_pyod(part):
    assert not any(name.split(".")[0] == "pyod" for name in imported_by(part))


def test_matplotlib_is_imported_inside_functions_alone():
    for path in PACKAGE.rglob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("matplotlib" in ast.unparse(node) for node in top), path


def test_nothing_but_what_is_meant_for_users_is_public():
    for module in pkgutil.walk_packages([str(PACKAGE)], "skmemae."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    modules = {"benchmark", "datasets", "display", "knowledge", "metrics", "network", "presets", "video"}
    assert {name for name in vars(skmemae) if not name.startswith("_")} == {*skmemae.__all__, *modules}
    assert set(skmemae.__all__) == {"Explanation", "LongFitWarning", "MemAEDetector", "MemoryCollapseWarning", "single_process"}

"""Which module may know what: imports point down."""

import ast
from pathlib import Path

import skmemae

PACKAGE = Path(skmemae.__file__).parent


def imported(path):
    """Names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder):
    return {path.name: set(imported(path)) for path in (PACKAGE / folder).glob("*.py")}


def test_the_network_knows_torch_alone():
    allowed = ("torch", "triton", "math", "typing", "itertools", "functools", "skmemae.network")
    for name, found in modules("network").items():
        assert all(module.startswith(allowed) for module in found), name


def test_the_engine_knows_no_estimator():
    for name, found in modules("engine").items():
        ours = {module for module in found if module.startswith("skmemae")}
        assert all(module.startswith(("skmemae.network", "skmemae.engine")) for module in ours), name
        assert not any(module.startswith("pyod") for module in found), name
        assert {m for m in found if m.startswith("sklearn")} <= {
            "sklearn.preprocessing.MinMaxScaler",
            "sklearn.preprocessing.StandardScaler",
            "sklearn.utils.assert_all_finite",
        }, name


def test_matplotlib_is_imported_inside_functions_alone():
    for path in PACKAGE.rglob("*.py"):
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("matplotlib" in ast.unparse(node) for node in top), path

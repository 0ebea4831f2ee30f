"""What stands in more than one place is the same everywhere, and nothing grows too long to be read."""

import ast
import re
import tomllib
from inspect import signature
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import skmemae

ROOT = Path(__file__).parents[1]


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == skmemae.__version__
    assert f"version = {{{skmemae.__version__}}}" in (ROOT / "docs" / "citing.rst").read_text()
    (ruff,) = re.findall(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert hooks[0]["rev"] == f"v{ruff}"


def test_the_oldest_versions_that_are_declared_are_those_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(re.findall(r"^([\w-]+)==(.*)$", (ROOT / "tests" / "oldest.txt").read_text().lower(), flags=re.MULTILINE))
    of_tests = {Requirement(text).name for text in project["optional-dependencies"]["test"]}
    for text in [text for extra in ("plot", "onnx", "video", "test") for text in project["optional-dependencies"][extra]]:
        assert Requirement(text).name in of_tests, text
    for text in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        (bound,) = Requirement(text).specifier
        assert (bound.operator, Version(bound.version)) == (">=", Version(pins[Requirement(text).name])), text


FILES = [path for part in ("skmemae", "tests", "benchmarks", "examples") for path in sorted(ROOT.glob(f"{part}/**/*.py"))]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of_code(source):
    """Numbers of the lines of a source that are neither docstrings, nor comments alone, nor blank."""
    texts = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = enumerate(source.splitlines(), start=1)
    return {number for number, line in lines if line.strip() and not line.strip().startswith("#")} - texts


def functions(tree, names=()):
    """Functions of a tree, and the names of the classes and functions around each with its own."""
    for node in ast.iter_child_nodes(tree):
        inner = (*names, node.name) if isinstance(node, FUNCTIONS | ast.ClassDef) else names
        if isinstance(node, FUNCTIONS):
            yield node, inner
        yield from functions(node, inner)


def test_docstrings_comments_and_blank_lines_are_no_code():
    source = '"""Text\nof two lines."""\n\nX = 1  # one\n# comment\n\n\ndef f():\n    """Text."""\n    return """a\n\nb"""\n'
    assert lines_of_code(source) == {4, 8, 10, 12}


def test_files_and_functions_stay_short():
    long = []
    for path in FILES:
        source = path.read_text()
        code = lines_of_code(source)
        long += [f"{path}: {len(code)}"] if len(code) > 400 else []
        for node, names in functions(ast.parse(source)):
            length = len(code & set(range(node.lineno, node.end_lineno + 1)))
            long += [f"{path} {'.'.join(names)}: {length}"] if length > 60 else []
    assert not long


def test_functions_that_are_not_for_users_have_seven_arguments_at_most():
    many = []
    for path in (ROOT / "skmemae").rglob("*.py"):
        is_public = not any(part.startswith("_") for part in path.relative_to(ROOT).with_suffix("").parts if part != "__init__")
        for node, names in functions(ast.parse(path.read_text())):
            if (is_public and not any(name.startswith("_") for name in names)) or names == ("MemAEDetector", "__init__"):
                continue
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([argument for argument in given if argument.arg not in ("self", "cls")])
            many += [f"{path} {'.'.join(names)}: {count}"] if count > 7 else []
    assert not many


def test_the_detector_has_24_parameters():
    assert len(signature(skmemae.MemAEDetector).parameters) == 24


def test_every_example_has_its_place_in_the_gallery():
    (names,) = re.findall(r"GALLERY = \[(.*?)\]", (ROOT / "docs" / "conf.py").read_text(), flags=re.DOTALL)
    assert set(re.findall(r'"(plot_\w+\.py)"', names)) == {path.name for path in (ROOT / "examples").glob("plot_*.py")}

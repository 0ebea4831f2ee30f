"""What stands in more than one place is the same everywhere."""

import re
import tomllib
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


def test_files_stay_short():
    files = [path for part in ("skmemae", "tests", "benchmarks", "examples") for path in ROOT.glob(f"{part}/**/*.py")]
    long = [path for path in files if len(path.read_text().splitlines()) >= 400]
    assert not long


def test_every_example_has_its_place_in_the_gallery():
    (names,) = re.findall(r"GALLERY = \[(.*?)\]", (ROOT / "docs" / "conf.py").read_text(), flags=re.DOTALL)
    assert set(re.findall(r'"(plot_\w+\.py)"', names)) == {path.name for path in (ROOT / "examples").glob("plot_*.py")}

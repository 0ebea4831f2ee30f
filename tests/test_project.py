"""What stands in more than one place is the same everywhere."""

import re
from pathlib import Path

import yaml

import skmemae

ROOT = Path(__file__).parents[1]


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == skmemae.__version__
    assert f"version = {{{skmemae.__version__}}}" in (ROOT / "docs" / "citing.rst").read_text()
    (ruff,) = re.findall(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert hooks[0]["rev"] == f"v{ruff}"


def test_files_stay_short():
    long = [path for path in ROOT.glob("skmemae/**/*.py") if len(path.read_text().splitlines()) >= 400]
    assert not long


def test_every_example_has_its_place_in_the_gallery():
    (names,) = re.findall(r"GALLERY = \[(.*?)\]", (ROOT / "docs" / "conf.py").read_text(), flags=re.DOTALL)
    assert set(re.findall(r'"(plot_\w+\.py)"', names)) == {path.name for path in (ROOT / "examples").glob("plot_*.py")}

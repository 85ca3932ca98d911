"""What the distribution declares: what it needs, what it carries, on which Pythons it is tried.

The wheel itself is built and tried by `make dist`.
"""

import ast
import re
import runpy
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OURS = ("synthdp", "gan", "classify")


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", one)[0].lower().replace("_", "-") for one in requirements}


def imported() -> set[str]:
    """The top names of what the packages import anywhere, those of an extra too."""
    names = set[str]()
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {*OURS, "__future__"}


def test_what_is_imported_is_declared() -> None:
    everything = declared(PROJECT["dependencies"])
    for requirements in PROJECT["optional-dependencies"].values():
        everything |= declared(requirements)
    distributions = metadata.packages_distributions()
    undeclared = {
        name
        for name in imported()
        if name in distributions
        and not {one.lower().replace("_", "-") for one in distributions[name]} & everything
    }
    brought = {"distributed", "pydantic_core"}  # by dask[distributed] and by pydantic
    assert undeclared - brought == set()


def test_every_python_that_is_promised_is_named_once() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert named == ["3.11", "3.12", "3.13"]
    assert PROJECT["requires-python"] == f">={named[0]}"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"PYTHONS ?= {' '.join(f'python{one}' for one in named)}" in makefile


def test_licences_of_what_is_carried_are_told() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"}
    carried = [path.name for path in (ROOT / "gan/package/pretrained").iterdir() if path.is_dir()]
    assert all(re.search(rf"\b{re.escape(name)}\b", notice) for name in carried if name[0] != "_")


def test_what_was_tried_together_is_what_is_asked_for() -> None:
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = declared([line for line in constraints if line and not line.startswith("#")])
    everything = declared(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])
    free = {"synthdp", "types-tqdm", "types-pyyaml"}
    assert everything - pinned - free == set()


def test_the_page_of_an_index_leads_to_nothing_that_only_the_source_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("setuptools.setup", given.update)
    runpy.run_path(str(ROOT / "setup.py"))
    page = given["long_description"]
    assert page.startswith("# synthdp\n\nAfter `pip install synthdp`")
    assert re.findall(r"\]\((?!https?:)|<img|<source", page) == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(heading in page for heading in re.findall(r"^## .*$", readme, re.MULTILINE))

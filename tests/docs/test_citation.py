"""CITATION.cff is of version 1.2.0 of its format, and of this version of synthdp."""

import tomllib
from pathlib import Path

import yaml

import synthdp

ROOT = Path(__file__).parents[2]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
#: All keys that version 1.2.0 knows at the top.
KEYS = {
    *("abstract", "authors", "cff-version", "commit", "contact", "date-released", "doi"),
    *("identifiers", "keywords", "license", "license-url", "message", "preferred-citation"),
    *("references", "repository", "repository-artifact", "repository-code", "title", "type"),
    *("url", "version"),
}
REFERENCE_NEEDS = {"authors", "title", "type"}


def test_it_has_what_the_format_needs_and_no_other_key() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert {"authors", "cff-version", "message", "title"} <= CITATION.keys() <= KEYS
    assert CITATION["type"] in ("software", "dataset")


def test_each_author_is_a_person_or_a_body() -> None:
    people = [*CITATION["authors"]]
    for reference in CITATION["references"]:
        assert reference.keys() >= REFERENCE_NEEDS
        people += reference["authors"]
    assert people
    assert all("name" in one or {"family-names", "given-names"} <= one.keys() for one in people)


def test_it_is_of_this_version_and_licence() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert CITATION["version"] == synthdp.__version__ == project["version"]
    assert CITATION["license"] == project["license"].split(" AND ")[0]  # of the code itself

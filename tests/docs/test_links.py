"""What pages lead to is there: files, anchors, settings files, scripts."""

import re
from pathlib import Path

import pytest
from shown_pages import NOTEBOOKS, PAGES, ROOT, TOP, anchors, links, shown_commands, slug, text_of

ALL = [*TOP, *PAGES, *NOTEBOOKS]
#: Pages that the site makes while it is built.
MADE = {"index.md", "changelog.md", "security.md"}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    lost = []
    for target in links(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there)):
            lost.append(target)
    assert not lost


@pytest.mark.parametrize("path", [*TOP[:2], TOP[3], *PAGES], ids=lambda path: path.name)
def test_named_files_of_the_repository_are_there(path: Path) -> None:
    rooms = "configs|scripts|docs|tests|synthdp|gan|classify"
    pattern = rf"(?<![\w./-])(?:{rooms})/[\w./-]*\w\.(?:py|md|yaml|json|ipynb|csv|png|svg)\b"
    named = set(re.findall(pattern, text_of(path)))
    assert not [name for name in sorted(named) if not (ROOT / name).is_file()]


@pytest.mark.parametrize("path", [*TOP, *PAGES], ids=lambda path: path.name)
def test_scripts_that_are_shown_are_there(path: Path) -> None:
    calls = shown_commands(path, "python")
    scripts = [words[0] for words in calls if words[0].endswith(".py")]
    assert not [name for name in scripts if not (ROOT / name).is_file()]


def test_every_page_of_docs_is_in_the_menu_and_all_of_the_menu_is_there() -> None:
    entries = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().split("nav:")[1])
    menu = set(entries)
    assert len(menu) == len(entries), "a page stands twice in the menu"
    pages = {path.name for path in PAGES}
    books = {f"notebooks/{path.stem}.md" for path in NOTEBOOKS}
    assert menu == pages | books | MADE


def test_a_heading_becomes_the_anchor_that_code_hosts_make() -> None:
    assert slug("What a machine must offer") == "what-a-machine-must-offer"
    assert slug("`bits`, and [DICOM](images.md)!") == "bits-and-dicom"

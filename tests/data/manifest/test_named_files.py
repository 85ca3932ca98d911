import os
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synthdp.data.images import MISSING_FILE, path_problem
from synthdp.data.manifest import named_files
from synthdp.data.manifest.named_files import NamedFiles

PARTS = ["a", "b.png", "..", ".", "", "sub", "link", "out", "loop", "x\\y", "n" * 300, "\udcff"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root") / "set"
    (folder / "a" / "sub").mkdir(parents=True)
    (folder.parent / "elsewhere").mkdir()
    for path in ("b.png", "a/b.png", "a/sub/b.png", "../elsewhere/b.png", "a/x\\y", "a/..b"):
        (folder / path).write_bytes(b"x")
    (folder / "link").symlink_to(folder / "a")
    (folder / "out").symlink_to(folder.parent / "elsewhere")
    (folder / "a" / "out").symlink_to(folder.parent / "elsewhere" / "b.png")
    (folder / "a" / "link").symlink_to(folder / "b.png")
    (folder / "loop").symlink_to(folder / "loop")
    return folder.resolve()


@given(st.lists(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), min_size=1, max_size=8))
@example([["a", "..", "b.png"], ["out", "b.png"], ["a", "out"], ["a", "x\\y"], ["", "b.png"]])
@example([["b.png"], ["a", ""], ["a", ".", "b.png"], ["a", "", "b.png"]])
@settings(derandomize=True, deadline=None, max_examples=150)
def test_it_says_what_path_problem_says(root: Path, names: list[list[str]]) -> None:
    files = NamedFiles(root)
    linked = (root.parent / "elsewhere",)
    following = NamedFiles(root, linked)
    for parts in names:
        name = "/".join(parts)
        assert files.problem(name) == path_problem(name, root), name
        assert following.problem(name) == path_problem(name, root, linked), name


def test_folders_where_links_may_lead_are_listed_once_too(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alone(*_: object) -> str:
        raise AssertionError("a file was looked at by itself")

    monkeypatch.setattr(named_files, "path_problem", alone)
    files = NamedFiles(root, [root.parent / "elsewhere"])
    assert files.problem("out/b.png") is None
    with pytest.raises(AssertionError, match="by itself"):
        NamedFiles(root).problem("out/b.png")


def test_a_name_is_found_in_the_letters_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Mu\u0308ller.png").write_bytes(b"x")
    files = NamedFiles(tmp_path.resolve())
    there = ("a/Mu\u0308ller.png", None)
    assert files.named("M\u00fcller.png", "a/") == files.named("Mu\u0308ller.png", "a/") == there
    assert files.named("M\u00f6ller.png", "a/") == ("a/M\u00f6ller.png", MISSING_FILE)


def test_states_are_of_plain_files_alone(root: Path) -> None:
    files = NamedFiles(root)
    assert files.problem("a/b.png") is None
    assert [path.name for path in files.states() or ()] == ["a"]
    assert files.problem("a/link") is None  # what it leads to may change unseen
    assert files.states() is None


def test_a_folder_that_may_not_be_entered_is_asked_file_by_file(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may enter every folder")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.png").write_bytes(b"x")
    (tmp_path / "a").chmod(0)
    try:
        assert NamedFiles(tmp_path).problem("a/b.png") == "the file cannot be reached"
    finally:
        (tmp_path / "a").chmod(0o700)

"""A release's list of its files: who made it, and what has changed since."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import synthdp
from synthdp import __version__
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.releases.contents import check_release, read_contents, running_commit
from synthdp.releases.release import release
from tests.releases.test_release import files_in


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set without patients, which is the quickest to release."""
    root = tmp_path_factory.mktemp("sets")
    made = run_phantoms(PhantomSettings(out=root / "made", patients=2, size_px=32, name="made"))
    release(made, root / "released")
    return root / "released"


def test_every_file_is_listed_and_nothing_of_when(released: Path) -> None:
    contents = read_contents(released)
    assert set(contents.files) == files_in(released) - {"release.json"}
    assert contents.synthdp == __version__
    assert set(contents.model_dump()) == {
        *("schema_version", "synthdp", "commit", "stage", "included", "licence", "licences"),
        "files",
    }
    assert check_release(released) == contents


def changed(folder: Path) -> None:
    (folder / "manifest.csv").write_text("other\n")


def gone(folder: Path) -> None:
    (folder / "images" / "000001.png").unlink()


def added(folder: Path) -> None:
    (folder / "images" / "notes.txt").write_text("x")


def unlisted(folder: Path) -> None:
    (folder / "release.json").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (changed, "manifest.csv: changed since it was released"),
        (gone, "images/000001.png: missing"),
        (added, "images/notes.txt: not a file of this release"),
        (unlisted, "of an earlier version"),
    ],
)
def test_a_folder_that_is_not_as_it_left_is_refused(
    harm: Callable[[Path], None],
    words: str,
    released: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(released, copy)
    assert main(["privacy", "--check", str(copy)]) == EXIT_DONE
    assert f"all {len(files_in(copy)) - 1} files are as synthdp" in capsys.readouterr().out
    harm(copy)
    with pytest.raises(InputError, match=words):
        check_release(copy)
    assert main(["privacy", "--check", str(copy)]) == EXIT_BAD_INPUT


def test_the_commit_is_that_of_a_checkout_and_of_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "synthdp" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(synthdp, "__file__", str(package))
    assert running_commit() == ""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "m"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert running_commit() == head.stdout.strip()
    package.write_text("edited = 1\n")
    assert running_commit() == f"{head.stdout.strip()}-changed"

"""What is uploaded is a release and nothing else, after a look and a yes. No test meets the hub."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from made_up import random_run

from gan.generate import run_generate
from gan.settings.finished import GenerateSettings
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, EXIT_FAILED, main
from synthdp.privacy.promise.stated import read_statement
from synthdp.releases.release import Asked, release
from synthdp.runs.cards import model_card

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"


class FakeHub:
    """In the place of HfApi: notes what it is asked, and has no network."""

    calls: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    error: ClassVar[Exception | None] = None

    def create_repo(self, repo: str, **options: Any) -> None:
        self.calls.append(("create_repo", {"repo": repo, **options}))

    def upload_folder(self, **options: Any) -> None:
        if self.error is not None:
            raise self.error
        folder = Path(options["folder_path"])
        there = {name: (folder / name).read_bytes() for name in options["allow_patterns"]}
        self.calls.append(("upload_folder", {**options, "content": there}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr(FakeHub, "calls", [])
    monkeypatch.setattr(FakeHub, "error", None)
    monkeypatch.setattr("huggingface_hub.HfApi", FakeHub)
    return FakeHub


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = random_run(tmp_path_factory.mktemp("runs") / "run")
    card = model_card(title="T", summary="S", statement=read_statement(run), settings={"a": 1})
    (run / "card.md").write_text(card)
    return run


@pytest.fixture(scope="module")
def released(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("share") / "model"
    release(run, out, Asked(licence="apache-2.0"))
    return out


def synthetic(out: Path, generator: str) -> Path:
    settings = GenerateSettings(
        run=Path(f"pretrained:{generator}"), out=out, per_class=2, seed=1, licence="CC-BY-3.0"
    )
    return run_generate(settings)


def test_a_released_model_goes_file_by_file(
    released: Path, hub: type[FakeHub], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(released), "clinic/model", "--yes"]) == EXIT_DONE
    shown = capsys.readouterr().out
    files = {p.relative_to(released).as_posix() for p in released.rglob("*") if p.is_file()}
    assert all(name in shown for name in files)
    assert "Epsilon 0 at delta" in shown
    assert "licence: apache-2.0" in shown
    assert shown.strip().endswith("https://huggingface.co/clinic/model")
    (_, created), (_, sent) = hub.calls
    assert created == {
        "repo": "clinic/model", "repo_type": "model", "private": True, "exist_ok": True,
    }  # fmt: skip
    assert set(sent["content"]) == files


def test_its_card_is_one_that_the_hub_reads(released: Path) -> None:
    card = ModelCard.load(released / "README.md")
    data = card.data.to_dict()
    assert data["library_name"] == "synthdp"
    assert data["license"] == "apache-2.0"
    assert data["privacy"]["epsilon"] == 0
    assert "{'" not in card.text


def test_nothing_is_sent_without_a_yes(
    released: Path,
    hub: type[FakeHub],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["push", str(released), "clinic/model", "--dry-run"]) == EXIT_DONE
    assert "release.json" in capsys.readouterr().out
    assert main(["push", str(released), "clinic/model"]) == EXIT_BAD_INPUT
    assert "add --yes" in capsys.readouterr().err
    monkeypatch.setattr("synthdp.releases.hub.may_ask", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert main(["push", str(released), "clinic/model"]) == EXIT_DONE
    assert "Nothing was sent." in capsys.readouterr().out
    assert not hub.calls
    monkeypatch.setattr("builtins.input", lambda _: "Yes")
    assert main(["push", str(released), "clinic/model"]) == EXIT_DONE
    assert hub.calls


def test_a_synthetic_set_goes_as_its_release(
    hub: type[FakeHub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = synthetic(tmp_path / "set", "mcgan-cbis-dp6")
    (made / "private" / "notes.txt").write_text("secret")
    (made / "notes.txt").write_text("secret")
    assert main(["push", str(made), "clinic/set", "--yes", "--public"]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert "images/ (4)" in shown
    assert "Epsilon 6 at delta" in shown
    assert shown.strip().endswith("https://huggingface.co/datasets/clinic/set")
    (_, created), (_, sent) = hub.calls
    assert (created["repo_type"], created["private"]) == ("dataset", False)
    assert {"README.md", "metadata.csv", "manifest.csv", "release.json"} <= set(sent["content"])
    assert not any("private" in name or "notes" in name for name in sent["content"])
    header = yaml.safe_load(sent["content"]["README.md"].decode().split("---\n")[1])
    assert header["license"] == "cc-by-3.0"


def test_no_promise_asks_for_the_word(
    hub: type[FakeHub], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = synthetic(tmp_path / "set", "mcgan-cbis")
    command = ["push", str(made), "clinic/set", "--yes"]
    assert main(command) == EXIT_BAD_INPUT
    assert "--yes-without-protection" in capsys.readouterr().err
    out = tmp_path / "released"
    release(made, out, Asked(without_protection=True))
    assert main(["push", str(out), "clinic/set", "--yes"]) == EXIT_BAD_INPUT
    assert "--yes-without-protection" in capsys.readouterr().err
    assert not hub.calls
    assert main([*command, "--yes-without-protection"]) == EXIT_DONE


def test_what_is_no_release_stays(
    run: Path,
    released: Path,
    hub: type[FakeHub],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed = Path(shutil.copytree(released, tmp_path / "changed"))
    (changed / "README.md").write_text("other")
    beside = Path(shutil.copytree(released, tmp_path / "beside"))
    (beside / "patients.csv").write_text("id")
    with_private = Path(shutil.copytree(released, tmp_path / "with"))
    (with_private / "private").mkdir()
    for folder, why in (
        (run, "is no release"),
        (changed, "README.md: changed since it was released"),
        (beside, "patients.csv: not a file of this release"),
        (with_private, "is no release"),
        (tmp_path / "nowhere", "there is no such folder"),
    ):
        assert main(["push", str(folder), "clinic/model", "--yes"]) == EXIT_BAD_INPUT
        assert why in capsys.readouterr().err
    assert main(["push", str(released), "model", "--yes"]) == EXIT_BAD_INPUT
    assert "OWNER/NAME" in capsys.readouterr().err
    assert not hub.calls


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, (EXIT_BAD_INPUT, "hf auth login")),
        (403, (EXIT_BAD_INPUT, "may not write to clinic/model")),
        (500, (EXIT_FAILED, "HTTP 500")),
        (None, (EXIT_FAILED, "could not be reached")),
    ],
)
def test_errors_are_plain_and_hold_no_token(
    status: int | None,
    expected: tuple[int, str],
    released: Path,
    hub: type[FakeHub],
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, words = expected
    error: Exception = ConnectionError(f"https://user:{TOKEN}@host")
    if status is not None:
        error = HfHubHTTPError.__new__(HfHubHTTPError, f"bad {TOKEN}")
        error.response = SimpleNamespace(status_code=status)  # type: ignore[attr-defined]
    hub.error = error  # which the fixture takes back
    assert main(["push", str(released), "clinic/model", "--yes"]) == code
    message = capsys.readouterr()
    assert words in message.err
    assert TOKEN not in message.out + message.err

"""What left a set of patients: noted in its ledger, told beside what was only made, asked back."""

from pathlib import Path

import pytest

from gan.generate import run_generate
from gan.settings.finished import GenerateSettings
from gan.train import run_train_gan
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import set_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.contents import release_id
from synthdp.releases.record import read_left, record_text, withdraw
from synthdp.releases.release import Asked, release, release_folder
from tests.releases.test_release import finetuned, gan_settings


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    out = tmp_path / "house" / "clinic"
    return run_phantoms(
        PhantomSettings(out=out, patients=20, size_px=32, name="clinic", as_real=True)
    )


@pytest.fixture
def run(clinic: Path) -> Path:
    return finetuned(clinic, clinic.parent / "left-run")


def test_what_left_stands_apart_from_what_was_only_made(
    clinic: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetuned(clinic, clinic.parent / "kept", privacy=PrivacySettings(
        epsilon=3, delta=1e-3, population=500))  # fmt: skip
    before = set_statement(open_dataset(clinic))
    assert "- nothing" in record_text(open_dataset(clinic))
    release(run, tmp_path / "share" / "model-1")
    release(run, tmp_path / "share" / "model-1")  # the very same is noted once
    on_record = read_left(open_dataset(clinic))
    assert [one.folder for one in on_record.left] == ["model-1"]
    assert on_record.left[0].id == release_id(tmp_path / "share" / "model-1")
    assert len(on_record.made) == 2
    assert len(on_record.only_made) == 1
    assert set_statement(open_dataset(clinic)) == before  # all that was made stays counted
    assert main(["privacy", str(clinic)]) == EXIT_DONE
    message = capsys.readouterr().out
    assert "model-1, a classifier, epsilon 6 at delta 0.001" in message
    assert "**All that left, together:** epsilon 6 at delta 0.001" in message
    assert "**Only made, in no folder that left:** 1 of 2 releases" in message
    both = message.split("left or not:** epsilon ")[1].split()[0]
    assert 6 < float(both) < 9
    assert f"epsilon = {both} for each patient" in message


def test_what_was_asked_back_stays_counted_as_left(
    clinic: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "share"
    release(run, out)
    words = ["privacy", "--withdraw", str(clinic), str(out)]
    assert main(words) == EXIT_BAD_INPUT
    assert "--because" in capsys.readouterr().err
    assert main([*words, "--because", "a wrong label"]) == EXIT_DONE
    message = capsys.readouterr().out
    assert "WITHDRAWN" in message
    assert "a wrong label" in message
    assert "**All that left, together:** epsilon 6" in message
    with pytest.raises(InputError, match="was withdrawn before"):
        withdraw(open_dataset(clinic), release_id(out), "again")
    with pytest.raises(InputError, match=rf"no release 0000.*{release_id(out)} \(share\)"):
        withdraw(open_dataset(clinic), "0000", "of no use")


def test_a_set_that_the_settings_do_not_lead_to_is_named_and_may_be_named(
    clinic: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = clinic.rename(clinic.parent / "moved")
    assert main(["privacy", "--release", str(run), str(tmp_path / "out")]) == EXIT_DONE
    assert "not on record at clinic" in capsys.readouterr().err
    assert read_left(open_dataset(moved)).left == ()
    released = release_folder(run, tmp_path / "out", Asked(record=(moved,)))
    assert released.unrecorded == ()
    assert len(read_left(open_dataset(moved)).left) == 1


def test_an_export_that_is_refused_is_not_on_record(
    clinic: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["export", str(run), out]) == EXIT_BAD_INPUT
    assert f"{run}: its model is no generator" in capsys.readouterr().err
    for command in (["export"], ["export-model", "--format", "torch-export"]):
        assert main([*command, str(clinic), out]) == EXIT_BAD_INPUT
        assert f"run: {clinic} is a data set and no run" in capsys.readouterr().err
    assert read_left(open_dataset(clinic)).left == ()


def test_a_record_that_was_cut_is_refused(clinic: Path, run: Path, tmp_path: Path) -> None:
    release(run, tmp_path / "out")
    ledger = clinic / "private" / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    assert b'"left"' in lines[-1]
    ledger.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(InputError, match="lines are missing"):
        read_left(open_dataset(clinic))
    with pytest.raises(InputError, match="lines are missing"):
        release(run, tmp_path / "another")
    assert not (tmp_path / "another").exists()


PUSH = ("clinic/set", "--yes", "--yes-without-protection")


@pytest.fixture
def synthetic(clinic: Path) -> Path:
    """A set of a generator of the clinic's patients, in the same house."""
    generator = run_train_gan(gan_settings(clinic, clinic.parent / "gan"))
    return run_generate(
        GenerateSettings(run=generator, out=clinic.parent / "synthetic", per_class=2)
    )


def test_a_synthetic_set_goes_on_record_when_it_is_sent_and_not_before(
    clinic: Path,
    synthetic: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen_when_sent = []

    class Hub:
        def create_repo(self, repo: str, **_: object) -> None:
            assert read_left(open_dataset(clinic)).left == ()

        def upload_folder(self, **_: object) -> None:
            seen_when_sent.extend(read_left(open_dataset(clinic)).left)

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert main(["push", str(synthetic), *PUSH, "--dry-run"]) == EXIT_DONE
    assert "It goes on record as having left at: clinic." in capsys.readouterr().out
    assert read_left(open_dataset(clinic)).left == ()
    assert main(["push", str(synthetic), *PUSH]) == EXIT_DONE
    assert [one.folder for one in seen_when_sent] == ["clinic/set"]
    release(synthetic, tmp_path / "out", Asked(without_protection=True))
    assert len(read_left(open_dataset(clinic)).left) == 1  # the very same, which was noted


def test_a_set_that_leads_to_no_record_says_so_before_it_is_sent(
    clinic: Path,
    synthetic: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Hub:
        def create_repo(self, repo: str, **_: object) -> None:
            pass

        def upload_folder(self, **_: object) -> None:
            pass

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    moved = clinic.rename(clinic.parent / "moved")
    assert main(["push", str(synthetic), *PUSH, "--dry-run"]) == EXIT_DONE
    shown = capsys.readouterr().out
    assert "NOT put on record at: clinic" in shown
    assert "synthdp privacy --release SET OUT --record DATA" in shown
    out = clinic.parent / "out"
    assert main(["push", str(synthetic), *PUSH, "--record", str(moved)]) == EXIT_DONE
    assert "NOT put on record" not in capsys.readouterr().out
    assert len(read_left(open_dataset(moved)).left) == 1
    release(synthetic, out, Asked(without_protection=True))  # a release of before
    assert main(["push", str(out), *PUSH, "--record", str(moved), "--dry-run"]) == EXIT_DONE
    assert "as having left at: clinic." in capsys.readouterr().out

"""What left a set of patients: noted in its ledger, told beside what was only made, asked back."""

from pathlib import Path

import pytest

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import PrivacySettings
from synthdp.data.dataset import open_dataset
from synthdp.data.phantoms.phantoms import PhantomSettings, run_phantoms
from synthdp.errors import InputError
from synthdp.privacy.promise.plan import set_statement
from synthdp.releases.contents import release_id
from synthdp.releases.record import read_left, record_text, withdraw
from synthdp.releases.release import Asked, release, release_folder
from tests.releases.test_release import finetuned


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
    told = capsys.readouterr().out
    assert "model-1, a classifier, epsilon 6 at delta 0.001" in told
    assert "**All that left, together:** epsilon 6 at delta 0.001" in told
    assert "**Only made, in no folder that left:** 1 of 2 releases" in told
    both = told.split("left or not:** epsilon ")[1].split()[0]
    assert 6 < float(both) < 9
    assert f"epsilon = {both} for each patient" in told


def test_what_was_asked_back_stays_counted_as_left(
    clinic: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "share"
    release(run, out)
    words = ["privacy", "--withdraw", str(clinic), str(out)]
    assert main(words) == EXIT_BAD_INPUT
    assert "--because" in capsys.readouterr().err
    assert main([*words, "--because", "a wrong label"]) == EXIT_DONE
    told = capsys.readouterr().out
    assert "WITHDRAWN" in told
    assert "a wrong label" in told
    assert "**All that left, together:** epsilon 6" in told
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

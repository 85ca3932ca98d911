"""A data set's ledger: releases once each, nothing lost without a refusal, starts and budget."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger.journal import Journal
from synthdp.privacy.ledger.set_record import (
    Record,
    begun_without_patients,
    create_record,
    recorded_releases,
)
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism

MECHANISM = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)


def release(name: str = "0", mechanism: Mechanism = MECHANISM) -> Release:
    return Release(
        id=name * 16, stage="finetune", data="clinic", mu=mechanism.mu, mechanism=mechanism
    )


def test_a_data_sets_ledger_notes_a_release_once(tmp_path: Path) -> None:
    path = tmp_path / "private" / "ledger.jsonl"
    one = release()
    two = one.model_copy(update={"id": "1" * 16})
    for found in (one, two, one):
        Record(path).add(found)
    assert recorded_releases(path) == (one, two)
    path.write_bytes(path.read_bytes() + b'{"event": "rel')  # never returned, so never begun
    assert recorded_releases(path) == (one, two)
    three = one.model_copy(update={"id": "2" * 16})
    Record(path).add(three)
    assert recorded_releases(path) == (one, two, three)


def test_a_data_sets_ledger_that_lost_a_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Record(path).add(release())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for use in (recorded_releases, lambda torn: Record(torn).add(release())):
        with pytest.raises(InputError, match="last line is damaged"):
            use(path)
    path.unlink()
    with pytest.raises(InputError, match="lines are missing"):
        recorded_releases(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "cannot be read or written"),
        (errno.EPERM, "cannot be read or written"),
    ],
)
def test_a_ledger_that_cannot_be_locked_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    path, mark = tmp_path / "private" / "ledger.jsonl", "0" * 16
    create_record(path, mark)

    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", refused)
        for use in (Record(path, mark).add, lambda _: recorded_releases(path, mark)):
            with pytest.raises(RunError, match=words) as error:
                use(release())
            assert str(tmp_path) not in str(error.value)
        assert not begun_without_patients(path)  # of patients: whoever looks at them spends nothing
    assert recorded_releases(path, mark) == ()


def test_a_ledger_on_a_read_only_disk_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mark = tmp_path / "private" / "ledger.jsonl", "0" * 16
    create_record(path, mark)
    opened = open

    def read_only(file: object, mode: str = "r", **rest: object) -> object:
        if mode.startswith("a"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
        return opened(file, mode, **rest)  # type: ignore[call-overload]

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", read_only)
        with pytest.raises(
            RunError,
            match=r"private/ledger.lock of the data set, beside the ledger of all .* cannot be",
        ):
            Record(path, mark).add(release())
        assert recorded_releases(path, mark) == ()
        with pytest.raises(RunError, match=r"private/ledger.jsonl cannot be read or written"):
            Journal(path).append({"event": "note"})
    assert recorded_releases(path, mark) == ()

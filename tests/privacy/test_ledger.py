import json
import math
from pathlib import Path

import pytest

from synthdp.errors import InputError, RunError
from synthdp.privacy import ledger as ledgers
from synthdp.privacy.ledger import (
    TORN,
    Journal,
    Ledger,
    Terms,
    record_release,
    recorded_releases,
)
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism

MECHANISM = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)


def release(mechanism: Mechanism = MECHANISM) -> Release:
    return Release(
        id="0" * 16, stage="finetune", data="phantoms", mu=mechanism.mu, mechanism=mechanism
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).claim(release(), fingerprint="f", block_steps=20)
    return path


def test_reserved_steps_stay_spent_when_the_process_dies(path: Path) -> None:
    assert Ledger(path).reserve(20) == range(20)
    after_crash = Ledger(path)
    assert after_crash.resumed(0) == range(20, 20)
    assert after_crash.reserve(20) == range(20, 40)
    assert after_crash.spent().mu == pytest.approx(math.sqrt(40) / 5)
    assert after_crash.spent().steps == 40


def test_a_clean_stop_leaves_the_untouched_steps_of_its_block(path: Path) -> None:
    ledger = Ledger(path)
    ledger.reserve(20)
    ledger.note_stop(7)
    assert Ledger(path).spent_steps == 20
    assert Ledger(path).resumed(5) == range(20, 20)  # an older checkpoint gets nothing back
    resumed = Ledger(path)
    assert resumed.resumed(7) == range(7, 20)
    assert Ledger(path).resumed(7) == range(20, 20)  # they can't be handed out twice


def test_the_budget_is_never_exceeded(path: Path) -> None:
    ledger = Ledger(path)
    for _ in range(3):
        ledger.reserve(20)
    with pytest.raises(InputError, match="exceed the budget"):
        ledger.reserve(1)
    assert ledger.steps_left == 0


def test_a_torn_last_line_counts_as_a_whole_block(path: Path) -> None:
    Ledger(path).reserve(20)
    whole = path.read_bytes()
    Ledger(path).reserve(1)
    torn = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + torn[: len(torn) // 2])
    assert Ledger(path).spent_steps == 40
    assert Ledger(path).reserve(20) == range(40, 60)
    assert Ledger(path).spent_steps == 60


def test_a_torn_block_never_exceeds_the_budget(path: Path) -> None:
    ledger = Ledger(path)
    for steps in (20, 20, 19):
        ledger.reserve(steps)
    path.write_bytes(path.read_bytes() + b'{"event"')
    assert Ledger(path).spent_steps == 60


def test_a_ledger_of_another_mechanism_or_other_data_is_refused(path: Path) -> None:
    Ledger(path).claim(release(), fingerprint="f", block_steps=20)
    louder = MECHANISM.with_noise(6.0)
    with pytest.raises(InputError, match="belongs to another release"):
        Ledger(path).claim(release(louder), fingerprint="f", block_steps=20)
    with pytest.raises(InputError, match="data set has changed"):
        Ledger(path).claim(release(), fingerprint="g", block_steps=20)


def test_a_run_keeps_the_noise_that_it_began_with_when_calibration_has_changed(path: Path) -> None:
    planned = release(MECHANISM.with_noise(5.0 * (1 + 5e-4)))
    kept = Ledger(path).claim(planned, fingerprint="f", block_steps=20)
    assert kept == release()
    assert Ledger(path).spent() == release().after(0)
    for other in (
        release(MECHANISM.with_noise(5.02)),
        planned.model_copy(
            update={"mechanism": planned.mechanism.model_copy(update={"steps": 59})}
        ),
        planned.model_copy(update={"data": "another"}),
    ):
        with pytest.raises(InputError, match="belongs to another release"):
            Ledger(path).claim(other, fingerprint="f", block_steps=20)


def test_a_state_ahead_of_its_ledger_is_refused(path: Path) -> None:
    Ledger(path).reserve(20)
    with pytest.raises(InputError, match="fewer steps than the checkpoint"):
        Ledger(path).resumed(21)


def test_nothing_is_reserved_without_a_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no release"):
        Ledger(tmp_path / "ledger.jsonl").reserve(1)


def test_what_a_statement_is_made_of_comes_back(path: Path) -> None:
    terms = Terms(
        subject="classifier", delta=1e-4, population=600, target=6.0, release=release(),
        ancestors=Lineage(releases=(release().model_copy(update={"id": "1" * 16}),)),
    )  # fmt: skip
    ledger = Ledger(path)
    assert (ledger.terms, ledger.counted) == (None, None)
    ledger.note_terms(terms)
    ledger.note_terms(terms)
    ledger.reserve(20)
    again = Ledger(path)
    assert (again.terms, again.counted) == (terms, release().after(20))
    assert path.read_bytes().count(b'"event": "terms"') == 1
    newer = terms.model_copy(update={"release": None})
    again.note_terms(newer)
    assert (Ledger(path).terms, Ledger(path).counted) == (newer, None)


def test_a_ledger_of_the_first_format_is_read_and_gone_on_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = path.with_name("old.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(ledgers, "FORMAT", 1)
        Ledger(old).claim(release(), fingerprint="f", block_steps=20)
        Ledger(old).reserve(20)
    assert b'"format": 1' in old.read_bytes()
    assert (Ledger(old).spent_steps, Ledger(old).terms) == (20, None)
    Ledger(old).reserve(20)
    Ledger(old).reserve(20)
    assert old.read_bytes().count(b'"format": 2') == 1  # from here on no earlier version reads it
    assert Ledger(old).spent_steps == 60


def test_a_data_sets_ledger_notes_a_release_once(tmp_path: Path) -> None:
    path = tmp_path / "private" / "ledger.jsonl"
    one = release()
    two = one.model_copy(update={"id": "1" * 16})
    for found in (one, two, one):
        record_release(path, found)
    assert recorded_releases(path) == (one, two)
    path.write_bytes(path.read_bytes() + b'{"event": "rel')  # never returned, so never begun
    assert recorded_releases(path) == (one, two)
    three = one.model_copy(update={"id": "2" * 16})
    record_release(path, three)
    assert recorded_releases(path) == (one, two, three)


def test_a_data_sets_ledger_that_lost_a_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    record_release(path, release())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for use in (recorded_releases, lambda torn: record_release(torn, release())):
        with pytest.raises(InputError, match="last line is damaged"):
            use(path)
    path.unlink()
    with pytest.raises(InputError, match="lines are missing"):
        recorded_releases(path)


# Of the journal that both ledgers are.


@pytest.fixture
def kept_path(tmp_path: Path) -> Path:
    kept_path = tmp_path / "ledger.jsonl"
    journal = Journal(kept_path)
    for number in range(4):
        journal.append({"event": "reserve", "n": number})
    return kept_path


def numbers(kept_path: Path) -> list[object]:
    return [entry.get("n", "torn") for entry in Journal(kept_path).entries]


def test_entries_come_back_and_the_journal_goes_on(kept_path: Path) -> None:
    assert numbers(kept_path) == [0, 1, 2, 3]
    Journal(kept_path).append({"event": "reserve", "n": 4})
    assert numbers(kept_path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_torn_last_line_is_known_as_torn(kept_path: Path, kept: int) -> None:
    lines = kept_path.read_bytes().splitlines(keepends=True)
    kept_path.write_bytes(b"".join(lines[:-1]) + lines[-1].rstrip(b"\n")[:kept])
    assert Journal(kept_path).entries[-1] is TORN
    Journal(kept_path).append({"event": "reserve", "n": 9})
    assert numbers(kept_path) == [0, 1, 2, "torn", 9]


def test_a_line_that_lacks_only_its_end_is_whole(kept_path: Path) -> None:
    kept_path.write_bytes(kept_path.read_bytes().rstrip(b"\n"))
    Journal(kept_path).append({"event": "reserve", "n": 4})
    assert numbers(kept_path) == [0, 1, 2, 3, 4]


def test_appends_torn_twice_are_both_known(kept_path: Path) -> None:
    kept_path.write_bytes(kept_path.read_bytes() + b'{"event": "res\n{"ev')
    assert numbers(kept_path) == [0, 1, 2, 3, "torn", "torn"]
    Journal(kept_path).append({"event": "reserve", "n": 4})
    assert numbers(kept_path) == [0, 1, 2, 3, "torn", "torn", 4]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7])
def test_a_file_cut_in_half_is_refused(kept_path: Path, share: float) -> None:
    content = kept_path.read_bytes()
    kept_path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"ledger\.jsonl.*what was spent is unknown"):
        Journal(kept_path)


def test_a_missing_file_whose_head_stands_is_refused(kept_path: Path) -> None:
    kept_path.unlink()
    with pytest.raises(InputError, match="lines are missing"):
        Journal(kept_path)


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_a_line_edited_by_hand_is_refused(kept_path: Path, line: int) -> None:
    lines = kept_path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(f'"n": {line}'.encode(), b'"n": 7')
    kept_path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"line {line + 1}: edited, damaged"):
        Journal(kept_path)


def test_lines_without_chain_are_no_torn_ones(kept_path: Path) -> None:
    kept_path.with_suffix(".head").unlink()
    kept_path.write_text('{"id": "0"}\n' * 3)  # as an older version wrote them
    with pytest.raises(InputError, match="line 1: edited, damaged, or of another version"):
        Journal(kept_path)


def test_a_removed_line_is_refused(kept_path: Path) -> None:
    lines = kept_path.read_bytes().splitlines(keepends=True)
    kept_path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(InputError, match="what was spent is unknown"):
        Journal(kept_path)


@pytest.mark.parametrize("head", ["", "[]", '{"lines": "4"}', "{}"])
def test_a_damaged_head_is_refused(kept_path: Path, head: str) -> None:
    kept_path.with_suffix(".head").write_text(head)
    with pytest.raises(InputError, match=r"ledger\.head"):
        Journal(kept_path)


@pytest.mark.parametrize("line", ["3", "[]", '{"format": "x", "chain": "0"}', '{"chain": 1}'])
def test_a_line_of_something_else_is_refused(kept_path: Path, line: str) -> None:
    kept_path.write_text(f"{kept_path.read_text()}{line}\n")
    with pytest.raises(InputError, match="line 5: edited"):
        Journal(kept_path)


def test_a_missing_head_is_refused(kept_path: Path) -> None:
    kept_path.with_suffix(".head").unlink()
    with pytest.raises(InputError, match="head"):
        Journal(kept_path)


def test_an_append_that_never_got_its_head_counts(kept_path: Path) -> None:
    before = kept_path.with_suffix(".head").read_bytes()
    Journal(kept_path).append({"event": "reserve", "n": 4})
    kept_path.with_suffix(".head").write_bytes(before)
    assert numbers(kept_path) == [0, 1, 2, 3, 4]


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "FORMAT", ledgers.FORMAT + 1)
    Journal(tmp_path / "ledger.jsonl").append({"event": "open"})
    monkeypatch.undo()
    with pytest.raises(InputError, match="newer synthdp"):
        Journal(tmp_path / "ledger.jsonl")


def test_a_file_without_chain_is_refused(tmp_path: Path) -> None:
    kept_path = tmp_path / "ledger.jsonl"
    kept_path.write_text('{"event": "open"}\n{"event": "reserve", "first": 0, "steps": 3}\n')
    kept_path.with_suffix(".head").write_text(json.dumps({"lines": 2}))
    with pytest.raises(InputError, match="edited, damaged"):
        Journal(kept_path)


def test_two_writers_are_refused(kept_path: Path) -> None:
    one, other = Journal(kept_path), Journal(kept_path)
    one.append({"event": "reserve", "n": 4})
    with pytest.raises(InputError, match="another process"):
        other.append({"event": "reserve", "n": 4})
    assert numbers(kept_path) == [0, 1, 2, 3, 4]


def test_a_full_disk_leaves_a_readable_journal(
    kept_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ledgers.os.write
    journal = Journal(kept_path)

    def full(descriptor: int, content: bytes) -> int:
        write(descriptor, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledgers.os, "write", full)
    with pytest.raises(RunError, match="disk is full"):
        journal.append({"event": "reserve", "n": 4})
    monkeypatch.undo()
    assert numbers(kept_path) == [0, 1, 2, 3, "torn"]


def test_an_append_between_the_two_reads_is_no_loss(
    kept_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_bytes, other = Path.read_bytes, Journal(kept_path)

    def late(file: Path) -> bytes:
        content = read_bytes(file)
        if file == kept_path and len(other.entries) == 4:
            other.append({"event": "reserve", "n": 4})  # its head is newer than what was read
        return content

    monkeypatch.setattr(Path, "read_bytes", late)
    assert numbers(kept_path) == [0, 1, 2, 3]
    assert numbers(kept_path) == [0, 1, 2, 3, 4]

import json
import shutil
from pathlib import Path
from threading import Thread

import pytest

from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger import journal as journals
from synthdp.privacy.ledger.journal import TORN, Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    journal = Journal(path)
    for number in range(4):
        journal.append({"event": "note", "n": number})
    return path


def numbers(path: Path) -> list[object]:
    return [entry.get("n", "torn") for entry in Journal(path).entries]


def test_entries_come_back_and_the_journal_goes_on(path: Path) -> None:
    assert numbers(path) == [0, 1, 2, 3]
    Journal(path).append({"event": "note", "n": 4})
    assert numbers(path) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kept", [1, 10, -1])
def test_a_torn_last_line_is_known_as_torn(path: Path, kept: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + lines[-1].rstrip(b"\n")[:kept])
    assert Journal(path).entries[-1] is TORN
    Journal(path).append({"event": "note", "n": 9})
    assert numbers(path) == [0, 1, 2, "torn", 9]


def test_a_line_that_lacks_only_its_end_is_whole(path: Path) -> None:
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    Journal(path).append({"event": "note", "n": 4})
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_appends_torn_twice_are_both_known(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'{"event": "res\n{"ev')
    assert numbers(path) == [0, 1, 2, 3, "torn", "torn"]
    Journal(path).append({"event": "note", "n": 4})
    assert numbers(path) == [0, 1, 2, 3, "torn", "torn", 4]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.7])
def test_a_file_cut_in_half_is_refused(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"ledger\.jsonl.*what was spent is unknown"):
        Journal(path)


def test_a_missing_file_whose_head_stands_is_refused(path: Path) -> None:
    path.unlink()
    with pytest.raises(InputError, match="lines are missing"):
        Journal(path)


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_a_line_edited_by_hand_is_refused(path: Path, line: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(f'"n": {line}'.encode(), b'"n": 7')
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"line {line + 1}: edited, damaged"):
        Journal(path)


def test_lines_without_chain_are_no_torn_ones(path: Path) -> None:
    path.with_suffix(".head").unlink()
    path.write_text('{"id": "0"}\n' * 3)  # as an older version wrote them
    with pytest.raises(InputError, match="line 1: edited, damaged, or of another version"):
        Journal(path)


def test_a_removed_line_is_refused(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:1] + lines[2:]))
    with pytest.raises(InputError, match="what was spent is unknown"):
        Journal(path)


@pytest.mark.parametrize("head", ["", "[]", '{"lines": "4"}', "{}"])
def test_a_damaged_head_is_refused(path: Path, head: str) -> None:
    path.with_suffix(".head").write_text(head)
    with pytest.raises(InputError, match=r"ledger\.head"):
        Journal(path)


@pytest.mark.parametrize("line", ["3", "[]", '{"format": "x", "chain": "0"}', '{"chain": 1}'])
def test_a_line_of_something_else_is_refused(path: Path, line: str) -> None:
    path.write_text(f"{path.read_text()}{line}\n")
    with pytest.raises(InputError, match="line 5: edited"):
        Journal(path)


def test_a_missing_head_is_refused(path: Path) -> None:
    path.with_suffix(".head").unlink()
    with pytest.raises(InputError, match="head"):
        Journal(path)


def test_an_append_that_never_got_its_head_counts(path: Path) -> None:
    before = path.with_suffix(".head").read_bytes()
    Journal(path).append({"event": "note", "n": 4})
    path.with_suffix(".head").write_bytes(before)
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_a_newer_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "FORMAT", journals.FORMAT + 1)
    Journal(tmp_path / "ledger.jsonl").append({"event": "note"})
    monkeypatch.undo()
    with pytest.raises(InputError, match="newer synthdp"):
        Journal(tmp_path / "ledger.jsonl")


def test_a_file_without_chain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"event": "open"}\n{"event": "reserve", "first": 0, "steps": 3}\n')
    path.with_suffix(".head").write_text(json.dumps({"lines": 2}))
    with pytest.raises(InputError, match="edited, damaged"):
        Journal(path)


def test_two_writers_are_refused(path: Path) -> None:
    one, other = Journal(path), Journal(path)
    one.append({"event": "note", "n": 4})
    with pytest.raises(InputError, match="another process"):
        other.append({"event": "note", "n": 4})
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_a_full_disk_leaves_a_readable_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = journals.os.write
    journal = Journal(path)

    def full(descriptor: int, content: bytes) -> int:
        write(descriptor, content[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journals.os, "write", full)
    with pytest.raises(RunError, match="disk is full"):
        journal.append({"event": "note", "n": 4})
    monkeypatch.undo()
    assert numbers(path) == [0, 1, 2, 3, "torn"]


def test_appends_of_another_process_wait_until_head_and_lines_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head_lines, other = Journal._head_lines, Journal(path)

    def append_twice() -> None:
        other.append({"event": "note", "n": 4})
        other.append({"event": "note", "n": 5})

    appending = Thread(target=append_twice)

    def late(journal: Journal) -> int:
        acknowledged = head_lines(journal)
        appending.start()
        appending.join(0.3)  # two lines beyond a head are no crash's, and would be refused
        return acknowledged

    monkeypatch.setattr(Journal, "_head_lines", late)
    assert numbers(path) == [0, 1, 2, 3]
    monkeypatch.undo()
    appending.join()
    assert numbers(path) == [0, 1, 2, 3, 4, 5]


def test_what_others_added_is_read_on(path: Path) -> None:
    reader, writer = Journal(path), Journal(path)
    for number in (4, 5):
        writer.append({"event": "note", "n": number})
        reader.read_on()
        assert reader.entries == writer.entries == Journal(path).entries
    reader.append({"event": "note", "n": 6})
    assert numbers(path) == [0, 1, 2, 3, 4, 5, 6]


def test_a_file_put_in_the_place_of_what_was_read_is_read_anew(path: Path) -> None:
    reader, kept = Journal(path), path.with_name("kept.jsonl")
    shutil.copy(path, kept)
    shutil.copy(path.with_suffix(".head"), kept.with_suffix(".head"))
    Journal(path).append({"event": "note", "n": 4})
    Journal(kept).append({"event": "note", "n": 7})  # as long as the other
    reader.read_on()
    shutil.copy(kept, path)
    reader.read_on()
    assert [entry["n"] for entry in reader.entries] == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("torn", [b'{"event": "res', b'{"event": "res\n'])
def test_what_follows_a_torn_line_is_read_on(path: Path, torn: bytes) -> None:
    path.write_bytes(path.read_bytes() + torn)
    reader = Journal(path)
    assert reader.entries[-1] is TORN
    Journal(path).append({"event": "note", "n": 4})
    reader.read_on()
    assert [entry.get("n", "torn") for entry in reader.entries] == [0, 1, 2, 3, "torn", 4]


def test_a_file_that_loses_what_was_read_is_refused(path: Path) -> None:
    reader, lines = Journal(path), path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]))
    with pytest.raises(InputError, match="what was spent is unknown"):
        reader.read_on()


@pytest.mark.parametrize(
    "line", [{}, {"event": 3}, {"event": "reserve", "first": 0}, {"event": "open", "release": "x"}]
)
def test_a_line_that_lacks_what_its_kind_holds_is_refused(
    tmp_path: Path, line: dict[str, object]
) -> None:
    """Its digest is right, as whoever edits a file can make it."""
    path = tmp_path / "ledger.jsonl"
    Journal(path).append(line)
    with pytest.raises(InputError, match="line 1: edited, damaged"):
        Journal(path)

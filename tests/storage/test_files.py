import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from synthdp.errors import InputError, RunError
from synthdp.storage import files
from synthdp.storage.files import (
    append_line,
    atomic_folder,
    closed_to_others,
    read_json,
    sha256_file,
    short_lived_folder,
    write_atomic,
    write_json,
)


@pytest.fixture(autouse=True)
def with_a_real_disk(waited_for_the_disk: None) -> None:
    """What is written here is waited for, as in every program."""


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", no_space)
        yield


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic_makes_the_folder_and_leaves_only_the_file(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    write_atomic(target, "one")
    write_atomic(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["file.txt"]


@pytest.mark.usefixtures("full_disk")
def test_full_disk_keeps_what_stood_before(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("before")
    with pytest.raises(RunError, match=r"the disk is full \(5 bytes .* free some space"):
        write_atomic(target, "after")
    assert target.read_text() == "before"
    assert names(tmp_path) == ["file.txt"]


def test_full_disk_at_mkdir_is_told_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "mkdir", no_space)
    with pytest.raises(RunError, match="the disk is full"):
        write_atomic(tmp_path / "new" / "file.txt", "x")
    with pytest.raises(RunError, match="the disk is full"), atomic_folder(tmp_path / "set"):
        pass


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file.txt", "x")
    assert names(tmp_path) == []


def test_other_errors_of_the_disk_pass_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "file.txt", "x")


def test_append_line_appends(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "two", durable=True)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_json_goes_there_and_back(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None, "Größe"]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


def test_write_json_refuses_what_json_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"auroc": float("nan")})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"a": ', "not valid JSON"),
        (b"", "not valid JSON"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b"\xef\xbb\xbf{}", "not valid JSON .*BOM"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[" * 65 + b"]" * 65, "nested more than 64 levels deep"),
        (b"1" * 101, "a number of 101 digits"),
        (b"1" * 10_000, "a number of 10000 digits"),
        (b"1e999", "a number too large"),
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (rb'"\ud800"', "surrogates not allowed"),
        (rb'"a\u0000b"', "the character NUL"),
        (b"[" + b"0," * 500_001 + b"0]", "more than 500,000 values"),
    ],
)
def test_read_json_refuses_what_is_no_json(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.json: .*{problem}"):
        read_json(tmp_path / "x.json")


def test_a_file_that_may_not_be_read_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.json").write_text("{}")

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(InputError, match=r"x\.json: could not be read \(Permission denied\)"):
        read_json(tmp_path / "x.json")


def test_read_json_is_bounded_and_wants_a_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps("a" * 100))
    with pytest.raises(InputError, match="larger than 50 bytes"):
        read_json(tmp_path / "x.json", max_bytes=50)
    with pytest.raises(InputError, match="there is no such file"):
        read_json(tmp_path / "y.json")


def test_sha256_of_a_known_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_file(tmp_path / "abc") == known


def test_atomic_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "set"
    with atomic_folder(target) as scratch:
        (scratch / "a.txt").write_text("a")
        assert not target.exists()
    assert names(tmp_path) == ["set"]
    assert names(target) == ["a.txt"]


def test_atomic_folder_refuses_a_link_to_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "set"
    link.symlink_to("nowhere")
    with pytest.raises(InputError, match="is a link to nowhere"), atomic_folder(link):
        pass


def test_atomic_folder_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with atomic_folder(tmp_path / "set") as scratch:
        (scratch / "a.txt").write_text("a")
    assert names(tmp_path / "set") == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_folder_vanishes_on_any_error(tmp_path: Path, error: type[BaseException]) -> None:
    def work() -> None:
        with atomic_folder(tmp_path / "set") as scratch:
            (scratch / "a.txt").write_text("a")
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == []


def test_atomic_folder_refuses_a_filled_folder_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine").write_text("x")
    (tmp_path / "file").write_text("x")
    for name in ("set", "file"):
        with pytest.raises(InputError, match="exists already"), atomic_folder(tmp_path / name):
            pass
    assert names(tmp_path) == ["file", "set"]


def test_a_folder_that_is_made_again_may_be_the_same_and_no_other(tmp_path: Path) -> None:
    def make(content: str, name: str = "a/file") -> None:
        with atomic_folder(tmp_path / "set", again=True) as folder:
            (folder / "a").mkdir()
            (folder / name).write_text(content)

    make("x")
    make("x")
    for content, name in (("y", "a/file"), ("x", "a/other")):
        with pytest.raises(InputError, match="exists already"):
            make(content, name)
    assert (tmp_path / "set" / "a" / "file").read_text() == "x"
    assert names(tmp_path) == ["set"]


def test_atomic_folder_refuses_when_another_was_faster(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_folder(tmp_path / "set"):
            (tmp_path / "set").mkdir()
            (tmp_path / "set" / "theirs").write_text("x")

    with pytest.raises(InputError, match="exists already"):
        work()
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["theirs"]


def test_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        with atomic_folder(tmp_path / "set") as part:
            monkeypatch.setattr(files.os, "fsync", no_space)
            write_atomic(part / "a.txt", "a")

    with pytest.raises(RunError, match="the disk is full"):
        work()
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib, synthdp.storage.files as files\n"
        "with files.atomic_folder(pathlib.Path(sys.argv[1])) as part:\n"
        "    (part / 'image').write_text('private')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "set")], check=False)
    (left,) = tmp_path.iterdir()
    with atomic_folder(tmp_path / "other") as first:
        assert left.exists()
        with atomic_folder(tmp_path / "set"):
            assert first.exists()
            assert not left.exists()
    assert names(tmp_path) == ["other", "set"]


def test_two_processes_that_make_one_folder_spare_each_other(tmp_path: Path) -> None:
    def work() -> None:
        with atomic_folder(tmp_path / "set") as slow:
            (slow / "slow").write_text("x")
            with atomic_folder(tmp_path / "set") as fast:
                (fast / "fast").write_text("x")
            assert slow.exists()

    with pytest.raises(InputError, match="exists already"):
        work()
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["fast"]


def test_what_a_killed_process_left_of_a_short_lived_folder_goes_when_the_next_begins(
    tmp_path: Path,
) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with short_lived_folder(tmp_path / "audit") as folder:
            (folder / "ledger.jsonl").touch()
            os.write(writer, b"x")
            time.sleep(60)
    os.read(reader, 1)
    with short_lived_folder(tmp_path / "audit") as folder:  # one that still runs is left alone
        assert len(list(tmp_path.iterdir())) == 2
        assert folder.stat().st_mode & 0o077 == 0
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with short_lived_folder(tmp_path / "audit") as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_blocks_of_several_threads_are_closed_to_the_last_and_then_open_again(
    tmp_path: Path,
) -> None:
    """A worker of a Dask cluster may have several threads, each at work on a run of its own."""
    both_in, one_out = threading.Barrier(2), threading.Event()

    def first() -> None:
        with closed_to_others():
            both_in.wait(120)
        one_out.set()

    def second() -> None:
        with closed_to_others():
            both_in.wait(120)
            one_out.wait(120)
            write_atomic(tmp_path / "closed", "x")

    mask = os.umask(0o022)
    try:
        threads = [threading.Thread(target=one) for one in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        write_atomic(tmp_path / "open", "x")
    finally:
        after = os.umask(mask)
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o644
    assert after == 0o022

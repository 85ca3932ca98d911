"""File systems without flock (some network and user-space ones): a file is the lock there."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import IO

import pytest

import synthdp.storage.locks
from synthdp.data.dataset import open_dataset
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger.journal import Journal
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.folder import RunBusyError, open_run
from synthdp.storage.locks import locked, owner_of, owner_words
from synthdp.study.sweep.state import locked_study

WITHOUT = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@pytest.fixture(params=WITHOUT)
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refused)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthdp.storage.locks, "_PATIENCE_S", 0.1)


@pytest.fixture
def lock(tmp_path: Path) -> Callable[[], IO[bytes]]:
    return lambda: open(tmp_path / "x.lock", "ab")


@pytest.mark.usefixtures("without_flock", "impatient")
def test_one_at_a_time_holds_a_lock_that_is_a_file(
    lock: Callable[[], IO[bytes]], tmp_path: Path
) -> None:
    with locked(lock(), wait=False) as mine:
        assert mine
        assert owner_of(lock()) == owner_words()
        with locked(lock(), wait=False) as other:
            assert not other
        with pytest.raises(RunError, match=rf"x\.lock\.owner: the lock of process {os.getpid()} "):
            locked(lock()).__enter__()
        assert owner_of(lock()) == owner_words()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]
    with pytest.raises(ZeroDivisionError), locked(lock(), shared=True):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


@pytest.mark.usefixtures("without_flock")
def test_what_is_shared_for_long_is_refused(lock: Callable[[], IO[bytes]]) -> None:
    with pytest.raises(OSError, match=r"\[Errno"), locked(lock(), shared=True, wait=False):
        pass


@pytest.mark.usefixtures("without_flock")
def test_nobody_writes_between_another_s_lines(
    lock: Callable[[], IO[bytes]], tmp_path: Path
) -> None:
    count = tmp_path / "count"
    count.write_text("0")

    def add() -> None:
        for _ in range(5):
            with locked(lock()):
                count.write_text(str(int(count.read_text()) + 1))

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count.read_text() == "20"


@pytest.mark.usefixtures("without_flock")
def test_a_reader_of_a_folder_that_cannot_be_written_does_without(
    lock: Callable[[], IO[bytes]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = lock()

    def read_only(*_: object) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", read_only)
    with locked(stream, shared=True) as mine:
        assert mine
    with pytest.raises(OSError, match="Read-only"):
        locked(stream).__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["x.lock"]


@pytest.mark.usefixtures("impatient")
def test_an_owner_that_may_not_be_read_is_not_waited_for_without_end(
    lock: Callable[[], IO[bytes]], tmp_path: Path
) -> None:
    """As the file of another user, whose mode is 600; root reads that, and no folder."""
    (tmp_path / "x.lock.owner").mkdir()
    with pytest.raises(RunError, match="the lock of another process; wait for that one to end"):
        locked(lock()).__enter__()


@pytest.mark.usefixtures("impatient")
def test_a_file_of_another_machine_is_honoured_where_flock_works(
    lock: Callable[[], IO[bytes]], tmp_path: Path
) -> None:
    beside = tmp_path / "x.lock.owner"
    beside.write_text("process 3 on node7\n")
    with locked(lock(), wait=False) as mine:
        assert not mine
    with pytest.raises(RunError, match="the lock of process 3 on node7; wait for that one"):
        locked(lock()).__enter__()
    beside.unlink()
    with locked(lock(), wait=False) as mine:
        assert mine


@pytest.mark.usefixtures("without_flock", "impatient")
def test_runs_and_sets_are_made_without_flock(tmp_path: Path) -> None:
    settings, out = PrivacySettings(), tmp_path / "run"
    told = rf"process {os.getpid()} on .* remove \.lock\.owner"
    with open_run(out, "finetune", settings), pytest.raises(RunBusyError, match=told):
        open_run(out, "finetune", settings).__enter__()
    (out / ".lock.owner").write_text("process 3 on node7\n")  # as a kill leaves it
    with pytest.raises(RunBusyError, match="process 3 on node7"):
        open_run(out, "finetune", settings).__enter__()
    (out / ".lock.owner").unlink()
    with open_run(out, "finetune", settings) as run:
        assert run.resumed
    journal = Journal(tmp_path / "ledger.jsonl")
    journal.append({"event": "note"})
    assert Journal(journal.path).entries == [{"format": 2, "event": "note"}]
    (tmp_path / "ledger.jsonl.owner").write_text("process 3 on node7\n")
    with pytest.raises(RunError, match=r"ledger\.jsonl\.owner: the lock of process 3 on node7"):
        journal.append({"event": "note"})
    made = run_phantoms(PhantomSettings(out=tmp_path / "set", patients=9, size_px=16, as_real=True))
    assert not list(tmp_path.rglob("*.part"))
    data = open_dataset(made)
    assert len(data.rows) >= 9


@pytest.mark.usefixtures("without_flock")
def test_shards_are_refused_without_locks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keeps no locks"):
        locked_study(tmp_path / "study", shared=True).__enter__()
    with locked_study(tmp_path / "study", shared=False):
        pass

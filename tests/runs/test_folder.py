import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from synthdp.config.settings import Settings
from synthdp.errors import InputError, RunError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.folder import Run, StageCall, open_run
from synthdp.status import read_status
from synthdp.storage import files


class Example(Settings):
    seed: int = 0
    name: str = "1e4"
    privacy: PrivacySettings = PrivacySettings()


STATEMENT = make_statement(Lineage(), subject="model")


def state(out: Path) -> str:
    return str(json.loads((out / "status.json").read_text())["state"])


def finish(out: Path, settings: Settings = Example()) -> None:  # noqa: B008 (frozen)
    with open_run(out, "pretrain", settings) as run:
        run.finish(STATEMENT, "# card\n")


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    with open_run(out, "pretrain", Example()) as run:
        assert (run.finished, run.resumed, state(out)) == (False, False, "running")
        run.log(step=1, loss=0.5)
        run.finish(STATEMENT, "# card\n")
    assert state(out) == "finished"
    assert read_statement(out) == STATEMENT
    assert json.loads((out / "private" / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.5}
    assert (out / "private").stat().st_mode & 0o077 == 0


def test_a_finished_run_is_opened_as_such(tmp_path: Path) -> None:
    finish(tmp_path)
    before = (tmp_path / "status.json").read_text()
    with open_run(tmp_path, "pretrain", Example()) as run:
        assert run.finished
    assert (tmp_path / "status.json").read_text() == before


def test_an_error_in_a_finished_run_leaves_it_finished(tmp_path: Path) -> None:
    finish(tmp_path)
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, "pretrain", Example()):
        raise KeyboardInterrupt
    assert state(tmp_path) == "finished"


@pytest.mark.parametrize(
    ("error", "word"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")]
)
def test_a_stopped_run_says_so_and_resumes(
    tmp_path: Path, error: type[BaseException], word: str
) -> None:
    releases = []

    def work() -> None:
        with open_run(tmp_path, "pretrain", Example()) as run:
            releases.append(run.release_id)
            raise error

    with pytest.raises(error):
        work()
    assert state(tmp_path) == word
    with open_run(tmp_path, "pretrain", Example()) as run:
        assert (run.resumed, run.release_id) == (True, releases[0])


def test_other_settings_are_refused_with_all_differences(tmp_path: Path) -> None:
    finish(tmp_path)
    other = Example(seed=3, privacy=PrivacySettings(epsilon=6))
    with (
        pytest.raises(InputError, match="started with other settings") as error,
        open_run(tmp_path, "pretrain", other),
    ):
        pass
    assert "seed: 0 there, 3 asked for" in str(error.value)
    assert "privacy.epsilon: None there, 6.0 asked for" in str(error.value)
    assert state(tmp_path) == "finished"


def test_another_stage_is_refused(tmp_path: Path) -> None:
    finish(tmp_path)
    with (
        pytest.raises(InputError, match="a run of pretrain, not of finetune"),
        open_run(tmp_path, "finetune", Example()),
    ):
        pass


def test_a_folder_of_other_files_and_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: 1\n")
    with pytest.raises(InputError, match="is not a run"), open_run(tmp_path, "x", Example()):
        pass
    assert (tmp_path / "config.yaml").read_text() == "mine: 1\n"
    path = tmp_path / "config.yaml"
    with pytest.raises(InputError, match="is a file"), open_run(path, "x", Example()):
        pass


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, "pretrain", Example()),
        pytest.raises(InputError, match="another process is at work"),
        open_run(tmp_path, "pretrain", Example()),
    ):
        pass


def work_until_stopped(out: Path, opened: Connection) -> None:
    with open_run(out, "pretrain", Example()):
        opened.send("open")
        time.sleep(60)


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "interrupted"), (signal.SIGINT, "interrupted"), (signal.SIGKILL, "running")],
)
def test_a_process_that_is_stopped_or_killed(
    tmp_path: Path, number: signal.Signals, word: str
) -> None:
    fork = multiprocessing.get_context("fork")
    opened, there = fork.Pipe()
    process = fork.Process(target=work_until_stopped, args=(tmp_path, there))
    process.start()
    assert opened.poll(30)
    with (
        pytest.raises(InputError, match="another process is at work"),
        open_run(tmp_path, "pretrain", Example()),
    ):
        pass
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(30)
    assert state(tmp_path) == word
    with open_run(tmp_path, "pretrain", Example()) as run:
        assert run.resumed


@pytest.mark.parametrize("killed_at", [1, 2, 3])
def test_a_run_killed_at_its_start_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    calls = 0
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise SystemExit  # nothing after this line runs, as after a kill
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", killed)
        with pytest.raises(SystemExit), open_run(tmp_path, "pretrain", Example()):
            pass
    finish(tmp_path, Example(seed=5) if killed_at < 3 else Example())
    assert state(tmp_path) == "finished"


def test_full_disk_ends_the_run_and_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        with monkeypatch.context() as patch, open_run(tmp_path, "pretrain", Example()) as run:
            patch.setattr(files.os, "fsync", no_space)
            run.finish(STATEMENT, "# card\n")

    with pytest.raises(RunError, match="the disk is full"):
        work()
    assert state(tmp_path) == "running"  # not even the failure could be written
    assert not (tmp_path / "privacy.json").exists()
    with pytest.raises(InputError, match="not a finished run"):
        read_statement(tmp_path)
    finish(tmp_path)
    assert read_statement(tmp_path) == STATEMENT


@pytest.mark.parametrize("clock", [-86_400.0, 1e12])
def test_a_clock_that_is_wrong_writes_a_status_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: float
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: clock)
        with pytest.raises(RunError), open_run(tmp_path, "pretrain", Example()):
            raise RunError("stopped")
    with open_run(tmp_path, "pretrain", Example()) as run:
        assert not run.finished
    status = read_status(tmp_path)
    assert status is not None
    assert status.attempts == 2


def test_full_disk_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", no_space)
    with pytest.raises(RunError, match="disk is full"), open_run(tmp_path / "x", "y", Example()):
        pass


def test_a_statement_of_another_version_is_refused(tmp_path: Path) -> None:
    finish(tmp_path)
    (tmp_path / "privacy.json").write_text('{"epsilon": 1}')
    with pytest.raises(InputError, match="not a statement, or a damaged one"):
        read_statement(tmp_path)
    with pytest.raises(InputError, match="no run at all"):
        read_statement(tmp_path / "elsewhere")


def test_equal_calls_share_a_folder() -> None:
    call = StageCall("example", Example(seed=1, privacy=PrivacySettings(epsilon=6.0)))
    assert call == StageCall("example", Example(privacy=PrivacySettings(epsilon=6), seed=1))
    assert call.folder == "example-1779b9434b64"
    assert call.folder != StageCall("example", Example(seed=2)).folder


def test_what_killed_writes_left_goes_when_the_run_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, "pretrain", Example()):
        raise KeyboardInterrupt
    torn = [
        ".card.md.0a.part",
        "model/.weights.safetensors.0a.part",
        "private/.ledger.head.0a.part",
    ]
    others = ["runs/finetune-0/.status.json.0a.part", "model/weights.part"]
    old_key = "private/noise.key"  # of an earlier version
    for name in (*torn, *others, "private/checkpoints/.1.json.0a.part", old_key):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with open_run(tmp_path, "pretrain", Example()):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*part*")}
        assert left == set(others)
        assert not (tmp_path / old_key).exists()


@pytest.mark.parametrize("loss", ["private/ledger.jsonl", "private/ledger.*", "private/*"])
def test_a_run_whose_ledger_is_gone_is_refused(tmp_path: Path, loss: str) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, "pretrain", Example()):
        raise KeyboardInterrupt
    for path in tmp_path.glob(loss):
        path.unlink()
    refused = pytest.raises(InputError, match=r"ledger\.jsonl.*so what .*spent is unknown")
    with refused, open_run(tmp_path, "pretrain", Example()):
        pass


def test_a_ledger_of_another_run_is_refused(tmp_path: Path) -> None:
    for name in "ab":
        with pytest.raises(KeyboardInterrupt), open_run(tmp_path / name, "pretrain", Example()):
            raise KeyboardInterrupt
    for name in ("ledger.jsonl", "ledger.head"):
        shutil.copy(tmp_path / "a" / "private" / name, tmp_path / "b" / "private" / name)
    refused = pytest.raises(InputError, match="the run's ledger is of another run")
    with refused, open_run(tmp_path / "b", "pretrain", Example()):
        pass


def test_a_run_of_an_earlier_version_has_no_ledger_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(tmp_path, "pretrain", Example()):
        raise KeyboardInterrupt
    status = json.loads((tmp_path / "status.json").read_text())
    del status["ledger"]
    (tmp_path / "status.json").write_text(json.dumps(status))
    for path in (tmp_path / "private").glob("ledger.*"):
        path.unlink()
    with open_run(tmp_path, "pretrain", Example()) as run:
        assert run.resumed


def test_a_run_that_is_refused_before_it_began_holds_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    with pytest.raises(InputError, match="no images"), open_run(out, "pretrain", Example()):
        raise InputError("no images")
    assert not out.exists()
    finish(out, Example(seed=1))  # the corrected command may name the same
    assert state(out) == "finished"


def test_a_run_that_did_something_keeps_its_folder_when_it_is_refused(tmp_path: Path) -> None:
    logged, noted, failed = (tmp_path / name for name in ("logged", "noted", "failed"))

    def refused_after(out: Path, begin: Callable[[Run], None], error: Exception) -> None:
        with suppress(type(error)), open_run(out, "pretrain", Example()) as run:
            begin(run)
            raise error

    refused_after(logged, lambda run: run.log(step=1), InputError("in the middle"))
    refused_after(noted, lambda run: run._note_terms(STATEMENT), InputError("in the middle"))
    refused_after(failed, lambda _: None, RunError("the machine"))
    assert [state(out) for out in (logged, noted, failed)] == ["failed"] * 3


def test_what_an_earlier_version_left_of_a_refused_run_is_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(RunError), open_run(tmp_path, "pretrain", Example()):
        raise RunError("as a refusal was once recorded")
    release = read_status(tmp_path)
    with open_run(tmp_path, "pretrain", Example(seed=5)) as run:
        run.finish(STATEMENT, "# card\n")
    status = read_status(tmp_path)
    assert release is not None
    assert status is not None
    assert status.release == release.release
    assert "seed: 5" in (tmp_path / "config.yaml").read_text()


def test_a_resumed_run_keeps_its_folder_whatever_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(RunError), open_run(tmp_path, "pretrain", Example()):
        raise RunError("the machine")
    with pytest.raises(InputError), open_run(tmp_path, "pretrain", Example()):
        raise InputError("an image is missing")
    assert state(tmp_path) == "failed"

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from synthdp.config.settings import validate_settings
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError, RunError
from synthdp.runs.folder import RunBusyError, StageCall
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep import engine as engines
from synthdp.study.sweep.engine import (
    Attempt,
    AttemptTogether,
    Engine,
    Job,
    Outcome,
    Together,
    WorkerSetup,
    claim_slot,
    device_names,
    opened_engine,
    workers_that_fit,
)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "cpu_count", lambda: 2)


def calls(count: int) -> list[StageCall]:
    """Calls that are told apart by their seeds."""
    return [
        StageCall("example", PhantomSettings(out=Path("unused"), seed=seed))
        for seed in range(count)
    ]


def outcomes(attempt: Attempt, count: int, **settings: object) -> dict[int, Outcome]:
    """What becomes of numbered calls on two workers, each heard of once."""
    asked = EngineSettings.model_validate({"workers": 2, **settings})
    numbers = {call.folder: call.setting("seed") for call in calls(count)}
    with opened_engine(asked) as engine:
        found = [(numbers[one.folder], one) for one in engine.outcomes(attempt, calls(count))]
    assert sorted(number for number, _ in found) == list(range(count))
    return dict(found)


def test_each_call_is_run_once_and_its_error_is_its_own(tmp_path: Path) -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        number = call.setting("seed")
        with open(tmp_path / "log", "a") as stream:
            stream.write(f"{number} {os.environ['OMP_NUM_THREADS']} {threads}\n")
        if number == 1:
            raise KeyError("patient-77")
        if number == 2:
            raise OSError(28, "No space left on device", "/srv/patient-77.png")
        if number == 3:
            raise RunBusyError("another process")
        if number == 6:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        return call.folder, "diverged" if number == 4 else None

    found = outcomes(attempt, 8)
    assert [found[number].error for number in (0, 3, 4, 5)] == [None, None, "diverged", None]
    assert str(found[1].error).startswith("unexpected KeyError at ")
    assert found[2].error == "a file could not be read or written: No space left on device"
    assert found[3].busy
    assert found[6].error == "its worker process was told to stop; it can be resumed"
    assert "patient" not in str(found)
    lines = (tmp_path / "log").read_text().splitlines()
    assert sorted(lines) == [f"{number} 1 1" for number in range(8)]


def test_a_worker_killed_once_costs_no_run(tmp_path: Path) -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        (tmp_path / f"{call.setting('seed')}-{time.monotonic_ns()}").touch()
        if call.setting("seed") == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)  # else the other worker ends all of them before the loss is noticed
        return call.folder, None

    found = outcomes(attempt, 12)
    assert {one.error for one in found.values()} == {None}
    again = [number for number in range(12) if len(list(tmp_path.glob(f"{number}-*"))) > 1]
    assert 2 in again
    assert len(again) <= 4  # those that were with the two workers


def test_a_run_that_kills_its_worker_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        if call.setting("seed") in (0, 5):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return call.folder, None

    found = outcomes(attempt, 10)
    failed = {number: one.error for number, one in found.items() if one.error is not None}
    assert set(failed) == {0, 5}
    assert all(
        "its worker process died twice (TerminatedWorkerError)" in e for e in failed.values()
    )
    assert "a worker process died" in caplog.text


def test_devices_are_dealt_out_to_the_workers(tmp_path: Path) -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        (tmp_path / str(os.getpid())).touch()
        patience = time.monotonic() + 60
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < patience:
            time.sleep(0.05)  # until the other worker has begun: one could finish all by itself
        return call.folder, f"{os.getpid()} on {os.environ['CUDA_VISIBLE_DEVICES']}"

    used = {str(one.error) for one in outcomes(attempt, 8, devices=["3", "GPU-7f"]).values()}
    assert {words.split(" on ")[1] for words in used} == {"3", "GPU-7f"}
    assert len(used) == 2  # a worker keeps its device


def test_devices_are_found_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_names("auto") == ("0", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert device_names("auto") == ("2", "5")
    assert device_names(()) == ()
    assert device_names((1,)) == ("1",)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_names("auto") == ()


def test_a_slot_is_free_again_when_its_process_ends(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(claim_slot(tmp_path, 2))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [claim_slot(tmp_path, 2), claim_slot(tmp_path, 2)] == [0, 1]
    assert claim_slot(tmp_path, 2) in (0, 1)  # none is left, so one is shared


@pytest.mark.parametrize(
    ("asked", "cores", "given"),
    [((2, 1), 2, 2), ((4, 1), 2, 2), ((2, 2), 3, 1), ((1, 8), 2, 1), (("all", 2), 9, 4)],
)
def test_threads_are_not_oversubscribed(
    asked: tuple[object, int], cores: int, given: int, caplog: pytest.LogCaptureFixture
) -> None:
    settings = EngineSettings.model_validate({"workers": asked[0], "threads": asked[1]})
    assert workers_that_fit(settings, cores, "this machine") == given
    fits = asked[0] == "all" or int(str(asked[0])) * asked[1] <= cores
    assert ("more would slow each other down" in caplog.text) is not fits
    with pytest.raises(RunError, match="has no core left"):
        workers_that_fit(settings, 0, "the dask cluster")


def test_a_cluster_without_a_core_is_told_and_no_run_is_blamed() -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        return call.folder, None

    settings = EngineSettings()
    empty = Engine(
        name="Ray",
        size=lambda: workers_that_fit(settings, 0, "the ray cluster"),
        backend=lambda size: {"backend": "threading"},
        setup=WorkerSetup(1, cluster=True),
        alive=lambda: True,
    )
    with pytest.raises(RunError, match="the ray cluster has no core left"):
        list(empty.outcomes(attempt, calls(3)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": "spark"}, "'local', 'ray' or 'dask'"),
        ({"engine_address": "tcp://a:1"}, "is of a cluster; set engine to ray or dask too"),
        ({"workers": 0}, "greater than or equal to 1"),
        ({"shard": "0/3"}, "shard"),
        ({"shard": "4/3"}, "of n parts name one from 1 to n, as in 1/4"),
        ({"shard": "one"}, "shard"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        validate_settings(EngineSettings, changes, where="study")


# Jobs of several calls.


def in_jobs(attempt: AttemptTogether, count: int, size: int) -> dict[int, Outcome]:
    """What becomes of numbered calls that are made `size` at a time, each heard of once."""

    def jobs(waiting: Sequence[StageCall], n_workers: int) -> list[Job]:
        assert n_workers == 2
        return [tuple(waiting[at : at + size]) for at in range(0, len(waiting), size)]

    def alone(call: StageCall, threads: int) -> tuple[str, str | None]:
        (error,) = attempt((call,), threads)
        return call.folder, None if error is None else str(error)

    numbers = {call.folder: call.setting("seed") for call in calls(count)}
    with opened_engine(EngineSettings(workers=2)) as engine:
        outcomes = engine.outcomes(alone, calls(count), Together(jobs, attempt))
        found = [(numbers[one.folder], one) for one in outcomes]
    assert sorted(number for number, _ in found) == list(range(count))
    return dict(found)


def test_each_call_of_a_job_has_its_own_outcome(tmp_path: Path) -> None:
    def attempt(job: Job, threads: int) -> list[Exception | None]:
        seeds = [call.setting("seed") for call in job]
        (tmp_path / "-".join(map(str, seeds))).touch()
        if 6 in seeds:
            raise KeyError("patient-77")
        raised = {1: InputError("diverged"), 2: RunBusyError("x"), 3: OSError(28, "No space left")}
        return [raised.get(seed) for seed in seeds]

    found = in_jobs(attempt, 8, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-1-2", "3-4-5", "6-7"]
    assert [found[number].error for number in (0, 1, 4, 5)] == [None, "diverged", None, None]
    assert found[2].busy
    assert found[3].error == "a file could not be read or written: No space left"
    assert all("KeyError" in str(found[number].error) for number in (6, 7))
    assert "patient" not in str(found)
    assert found[0].seconds is not None


def test_of_a_job_that_kills_its_worker_the_call_that_does_fails_alone(tmp_path: Path) -> None:
    def attempt(job: Job, threads: int) -> list[Exception | None]:
        seeds = [call.setting("seed") for call in job]
        (tmp_path / f"{'-'.join(map(str, seeds))} {time.monotonic_ns()}").touch()
        if 2 in seeds:
            os.kill(os.getpid(), signal.SIGKILL)
        return [None] * len(job)

    found = in_jobs(attempt, 8, 4)
    assert "died twice" in str(found.pop(2).error)
    assert {one.error for one in found.values()} == {None}
    tried = [path.name.split()[0] for path in tmp_path.iterdir()]
    assert tried.count("0-1-2-3") == 2
    assert tried.count("2") == 1


def test_calls_that_others_make_room_for_are_run_too() -> None:
    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        return call.folder, None

    known = calls(6)
    later = known[4:]
    with opened_engine(EngineSettings(workers=2)) as engine:
        found = engine.outcomes(attempt, known[:4], more=lambda: [later.pop()] if later else [])
        assert {one.folder for one in found} == {call.folder for call in known}

"""Studies at work at once on one folder: as shards, by mistake, and after any kill."""

import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_up import study_settings

from synthdp.config.settings import dump_settings
from synthdp.errors import InputError
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.runs.folder import RunBusyError, StageCall, open_run
from synthdp.storage.files import read_json, write_json
from synthdp.study.compare.results import read_results
from synthdp.study.settings import StudySettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import engine
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid, shard_rows
from synthdp.study.sweep.state import locked_study, open_shared_study

KILLS = 25


def finished_runs(study: Path) -> dict[Path, bytes]:
    """The statuses of finished runs: attempts and times stand in them."""
    found = {path: path.read_bytes() for path in study.glob("runs/*/status.json")}
    return {path: text for path, text in found.items() if b'"state": "finished"' in text}


def in_child(work: Callable[[], object]) -> int:
    """Start `work` in a child process; its exit code is 0 when it ends well."""
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_shards_are_disjoint_even_and_whole(shared: dict[str, object]) -> None:
    rows = expand_grid(study_settings(shared, seeds=list(range(5))))
    parts = [shard_rows(rows, index, 4) for index in range(4)]
    assert sorted(map(len, parts)) == [7, 7, 8, 8]
    assert [row for row in rows if not any(row in part for part in parts)] == []
    assert shard_rows(list(reversed(rows)), 2, 4) == list(reversed(parts[2]))
    assert shard_rows(rows, 0, 1) == rows


def test_shards_one_after_the_other_make_the_study_that_the_plain_command_makes(
    shared: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = study_settings(shared)
    assert run_study(study_settings(shared, shard="1/3")) == study.out
    assert "shard 1/3: 4 of its 4 models stand, 4 of all 12; the last shard" in caplog.text
    assert not (study.out / "results.csv").exists()
    first = finished_runs(study.out)
    assert run_study(study_settings(shared, shard="2/3")) == study.out
    assert run_study(study_settings(shared, shard="3/3")).name == "report.html"
    assert len(finished_runs(study.out)) == 13
    assert {**finished_runs(study.out), **first} == finished_runs(study.out)
    rows = read_results(study.out / "results.csv")
    assert [row.run for row in rows] == [row.calls[-1].folder for row in expand_grid(study)]
    assert {row.state for row in rows} == {"finished"}
    everything = {path: path.stat().st_mtime_ns for path in study.out.glob("runs/*/status.json")}
    assert run_study(study_settings(shared, shard="1/3")).name == "report.html"  # all is done
    assert run_study(study).name == "report.html"
    assert {path: path.stat().st_mtime_ns for path in everything} == everything


def test_shards_at_once_share_the_runs_that_others_start_from(
    shared: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "WAIT_S", 0.1)
    shards = [study_settings(shared, shard=f"{index}/3") for index in (1, 2, 3)]
    children = [in_child(lambda shard=shard: run_study(shard)) for shard in shards]  # type: ignore[misc]
    assert [exit_code(child) for child in children] == [0, 0, 0]
    out = shards[0].out
    statuses = [read_json(path) for path in out.glob("runs/*/status.json")]
    assert sorted((s["stage"], s["state"], s["attempts"]) for s in statuses) == [
        *12 * [("finetune", "finished", 1)],
        ("pretrain", "finished", 1),
    ]
    assert len(read_results(out / "results.csv")) == 12
    assert read_json(out / "status.json")["state"] == "finished"


def test_a_second_study_on_the_folder_is_refused_and_says_who_is_there(
    values: dict[str, object],
) -> None:
    study = study_settings(values)
    with locked_study(study.out, shared=False):
        owner = rf"process {os.getpid()} on .*finished runs stand"
        with pytest.raises(RunBusyError, match=owner):
            run_study(study)
        with pytest.raises(RunBusyError, match="so no shard is needed"):
            run_study(study_settings(values, shard="1/2"))
    with locked_study(study.out, shared=True), pytest.raises(RunBusyError, match="--shard i/n"):
        run_study(study)
    assert not (study.out / "runs").exists()
    run_study(study_settings(values, shard="1/2"))
    with pytest.raises(InputError, match="started with other settings"):
        run_study(study_settings(values, shard="2/2", seeds=[0]))
    with pytest.raises(InputError, match="started with other settings"):
        run_study(study_settings(values, seeds=[0]))


def test_a_run_that_another_process_makes_is_waited_for(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = study_settings(values, epsilons=["none"])
    (call,) = expand_grid(study)[1].calls
    open_shared_study(study)  # the folder of the study
    waits: list[float] = []
    other = open_run(call.out, "finetune", call.settings)
    other.__enter__()

    def let_go(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            other.__exit__(None, None, None)

    monkeypatch.setattr(sweep.time, "sleep", let_go)
    run_study(study)
    assert len(waits) == 2
    assert caplog.text.count(f"waiting for 1 run(s) that another process makes: {call.folder}") == 1
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def killed_after(seconds: float, study: StudySettings) -> bool:
    """Run a study in a child that is killed after a while; whether the child was faster."""
    child = in_child(lambda: run_study(study))
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return exit_code(child) >= 0


@pytest.mark.slow
def test_studies_killed_at_any_moment_lose_nothing_and_run_nothing_twice(
    shared: dict[str, object], tmp_path: Path
) -> None:
    moments, kills, studies = random.Random(1), 0, 0
    run_study(
        study_settings(shared, out=tmp_path / "first", seeds=[7])
    )  # imports, and caches of features
    ledger = study_settings(shared).data / "private" / "ledger.jsonl"
    while kills < KILLS:
        studies += 1
        study = study_settings(shared, out=tmp_path / f"study-{studies}")
        before, known, done = len(recorded_releases(ledger)), dict[Path, bytes](), False
        while not done and kills < KILLS:
            shard = moments.choice([None, "1/2"])
            whole = killed_after(
                moments.uniform(0.02, 0.6), study.model_copy(update={"shard": shard})
            )
            kills, done = kills + (not whole), whole and shard is None
            found = finished_runs(study.out)
            assert {**found, **known} == found, "a finished run was lost, or run again"
            known = found
        assert run_study(study).is_file()
        found = finished_runs(study.out)
        assert {**found, **known} == found
        assert len(found) == 13
        rows = read_results(study.out / "results.csv")
        assert {row.state for row in rows} == {"finished"}
        releases = recorded_releases(ledger)[before:]
        assert len({release.id for release in releases}) == len(releases) == 12
    assert studies < KILLS, "hardly a study was killed while it ran"


def test_runs_of_other_versions_are_told(
    values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    run_study(study_settings(values, shard="1/2"))
    for path in study_settings(values).out.glob("runs/*/status.json"):
        status = read_json(path)
        write_json(path, {**status, "versions": {**status["versions"], "torch": "1.0"}})
    run_study(study_settings(values))
    assert "of the finished runs 2 with torch 1.0 (now " in caplog.text


def test_where_a_study_runs_may_change_over_its_life(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "cpu_count", lambda: 1)  # all of them need no process of their own
    run_study(study_settings(values, shard="1/2", threads=1))
    assert run_study(study_settings(values, workers="all", devices=[])).is_file()


def test_a_shard_that_is_told_to_stop_stops_as_with_ctrl_c(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values, shard="1/2")
    at_work = study.out / "at-work"

    def napping(call: StageCall, threads: int) -> tuple[str, str | None]:
        at_work.touch()
        time.sleep(60)
        return call.folder, None

    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_study(study)

    monkeypatch.setattr(sweep, "attempt", napping)
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    child = in_child(stopped)
    wait_for(at_work.exists)
    os.kill(child, signal.SIGTERM)
    assert exit_code(child) == 0


@pytest.mark.slow
def test_a_study_of_two_workers_survives_the_kill_of_one_and_then_its_own(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "WAIT_S", 0.2)
    head = {"head": {"steps": 300}}
    study = study_settings(values, seeds=list(range(12)), workers=2, finetune=head, devices=[])
    config = study.out.parent / "study.yaml"
    config.write_text(dump_settings(study))
    process = subprocess.Popen([sys.executable, "-m", "synthdp.cli", "study", str(config)])
    try:
        wait_for(lambda: len(finished_runs(study.out)) >= 3)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        n_finished = len(finished_runs(study.out))
        wait_for(lambda: len(finished_runs(study.out)) > n_finished + 3)
        workers = workers_of(process.pid)
    finally:
        process.kill()
    process.wait()
    wait_for(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    known = finished_runs(study.out)
    assert len(known) < 24, "the study was finished before it was killed"
    assert run_study(study.model_copy(update={"workers": 1})).is_file()
    found = finished_runs(study.out)
    assert len(found) == 24
    assert {**found, **known} == found, "a finished run was run again"
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def workers_of(parent: int) -> list[int]:
    """The loky workers among the children of a process."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    children += [
        child
        for task in Path(f"/proc/{parent}/task").iterdir()
        if task.name != str(parent)
        for child in (task / "children").read_text().split()
    ]
    commands = {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in children}
    return [child for child, command in commands.items() if "popen_loky" in command]


def wait_for(ready: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < give_up
        time.sleep(0.05)

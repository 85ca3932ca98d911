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
from typing import Any

import pytest
import torch
from made_up import clinic_set, small_study

from synthdp.config import dump_settings, validate_settings
from synthdp.errors import InputError, RunError
from synthdp.files import read_json, write_json
from synthdp.privacy.ledger import recorded_releases
from synthdp.runs import RunBusyError, StageCall, open_run
from synthdp.study import rounds, sweep
from synthdp.study.claims import claimed, joined, part_of
from synthdp.study.compare import read_results
from synthdp.study.failures import record_failures, recorded_failures
from synthdp.study.grid import expand_grid
from synthdp.study.report import ReportSettings, run_report
from synthdp.study.settings import StudySettings
from synthdp.study.sweep import run_study

KILLS = 25


def settings(values: dict[str, object], **changes: object) -> StudySettings:
    return validate_settings(StudySettings, {**values, **changes}, where="study")


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    return small_study(tmp_path)


@pytest.fixture
def shared(values: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """A study in which all models but two start from one pretraining."""
    return {
        **values,
        "phantoms": clinic_set(tmp_path / "phantoms", "phantom"),
        "strategies": ["real_only", "phantoms_then_finetune"],
        "epsilons": [6, 12, "none"],
        "pretrain": {"trainable_blocks": 0, "epochs": 1},
        "pretrain_seed": 0,
    }


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
    rows = expand_grid(settings(shared, seeds=list(range(5))))
    parts = [part_of(rows, index, 4) for index in range(4)]
    assert sorted(map(len, parts)) == [7, 7, 8, 8]
    assert [row for row in rows if not any(row in part for part in parts)] == []
    assert part_of(list(reversed(rows)), 2, 4) == list(reversed(parts[2]))
    assert part_of(rows, 0, 1) == rows


def test_shards_one_after_the_other_make_the_study_that_the_plain_command_makes(
    shared: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = settings(shared)
    assert run_study(settings(shared, shard="1/3")) == study.out
    assert "shard 1/3: 4 of its 4 models stand, 4 of all 12; the last shard" in caplog.text
    assert not (study.out / "results.csv").exists()
    first = finished_runs(study.out)
    assert run_study(settings(shared, shard="2/3")) == study.out
    assert run_study(settings(shared, shard="3/3")).name == "report.html"
    assert len(finished_runs(study.out)) == 13
    assert {**finished_runs(study.out), **first} == finished_runs(study.out)
    rows = read_results(study.out / "results.csv")
    assert [row.run for row in rows] == [row.calls[-1].folder for row in expand_grid(study)]
    assert {row.state for row in rows} == {"finished"}
    everything = {path: path.stat().st_mtime_ns for path in study.out.glob("runs/*/status.json")}
    assert run_study(settings(shared, shard="1/3")).name == "report.html"  # all is done
    assert run_study(study).name == "report.html"
    assert {path: path.stat().st_mtime_ns for path in everything} == everything


def test_shards_at_once_share_the_runs_that_others_start_from(
    shared: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WAIT_S", 0.1)
    shards = [settings(shared, shard=f"{index}/3") for index in (1, 2, 3)]
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
    study = settings(values)
    with claimed(study.out, shared=False):
        owner = rf"process {os.getpid()} on .*finished runs stand"
        with pytest.raises(RunBusyError, match=owner):
            run_study(study)
        with pytest.raises(RunBusyError, match="so no shard is needed"):
            run_study(settings(values, shard="1/2"))
    with claimed(study.out, shared=True), pytest.raises(RunBusyError, match="--shard i/n"):
        run_study(study)
    assert not (study.out / "runs").exists()
    run_study(settings(values, shard="1/2"))
    with pytest.raises(InputError, match="started with other settings"):
        run_study(settings(values, shard="2/2", seeds=[0]))
    with pytest.raises(InputError, match="started with other settings"):
        run_study(settings(values, seeds=[0]))


def test_a_run_that_another_process_makes_is_waited_for(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    study = settings(values, epsilons=["none"])
    (call,) = expand_grid(study)[1].calls
    joined(study)  # the folder of the study
    waits: list[float] = []
    other = open_run(Path(call.settings["out"]), "finetune", sweep.STAGES["finetune"]
        .settings_class().model_validate(call.settings))  # fmt: skip
    other.__enter__()

    def let_go(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            other.__exit__(None, None, None)

    monkeypatch.setattr(rounds.time, "sleep", let_go)
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
        settings(shared, out=tmp_path / "first", seeds=[7])
    )  # imports, and caches of features
    ledger = settings(shared).data / "private" / "ledger.jsonl"
    while kills < KILLS:
        studies += 1
        study = settings(shared, out=tmp_path / f"study-{studies}")
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


def damage_statement(run: Path) -> None:
    write_json(run / "privacy.json", {"schema_version": 99})


def cut_status(run: Path) -> None:
    (run / "status.json").write_bytes(b'{"schema_v')


def empty_model(run: Path) -> None:
    for path in (run / "model").iterdir():
        path.unlink()


def cut_weights(run: Path) -> None:
    path = run / "model" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:50])


def delete_status(run: Path) -> None:
    (run / "status.json").unlink()


DAMAGES = [damage_statement, cut_status, empty_model, cut_weights, delete_status]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_that_was_cut_is_named_and_the_rest_stand(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], None]
) -> None:
    study = settings(values, epsilons=["none"])
    evaluate_all = sweep._evaluate_all

    def cut_first(settings: StudySettings, *others: object) -> dict[str, str]:
        first, *_ = sorted((settings.out / "runs").iterdir())
        damage(first)
        return evaluate_all(settings, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(sweep, "_evaluate_all", cut_first)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 1 of 2 models stand"):
        run_study(study)
    monkeypatch.setattr(sweep, "_evaluate_all", evaluate_all)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 1 of 2 models stand"):
        run_study(study)
    run, *_ = sorted((study.out / "runs").iterdir())
    (error,) = [row.error for row in read_results(study.out / "results.csv") if row.error]
    assert "delete" in error or "make the run again" in error
    assert str(study.out) not in error
    for path in sorted(run.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    run.rmdir()
    assert run_study(study).is_file()
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def test_a_run_deleted_while_it_is_at_work_stays_deleted(tmp_path: Path) -> None:
    asked = StudySettings.model_validate(small_study(tmp_path))
    (call,) = expand_grid(asked)[0].calls
    run_settings = sweep.STAGES["finetune"].settings_class().model_validate(call.settings)
    out = Path(call.settings["out"])

    def work() -> None:
        with open_run(out, "finetune", run_settings) as run:
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            out.rmdir()
            run.finish(None, "card")  # type: ignore[arg-type]

    with pytest.raises(RunError, match="deleted or cut while it was at work"):
        work()
    assert not out.exists()


def test_runs_of_other_versions_are_told(
    values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    run_study(settings(values, shard="1/2"))
    for path in settings(values).out.glob("runs/*/status.json"):
        status = read_json(path)
        write_json(path, {**status, "versions": {**status["versions"], "torch": "1.0"}})
    run_study(settings(values))
    assert "of the finished runs 2 with torch 1.0 (now " in caplog.text


def test_where_a_study_runs_may_change_over_its_life(values: dict[str, object]) -> None:
    run_study(settings(values, shard="1/2", threads=1))
    assert run_study(settings(values, workers="all", devices=[])).is_file()


def cut_metrics(evaluation: Path) -> None:
    (evaluation / "metrics.json").write_text("{")


def metrics_of_another_kind(evaluation: Path) -> None:
    (evaluation / "metrics.json").write_text("{}")


def delete_predictions(evaluation: Path) -> None:
    (evaluation / "predictions.csv").unlink()


@pytest.mark.parametrize("damage", [cut_metrics, metrics_of_another_kind, delete_predictions])
def test_an_evaluation_that_was_cut_is_named(
    values: dict[str, object], damage: Callable[[Path], None]
) -> None:
    study = settings(values, transfer={"whole": True})
    run_study(study.model_copy(update={"shard": "1/2"}))
    first, *_ = (study.out / "evaluations").iterdir()
    damage(first)
    with pytest.raises(RunError, match=r"1 run\(s\) failed"):
        run_study(study)
    (error,) = [row.error for row in read_results(study.out / "results.csv") if row.error]
    assert "delete the folder, and the same command scores the model again" in error


def test_an_evaluation_that_another_process_finishes_first_is_no_failure(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_study(settings(values, shard="1/2"))
    first, second = sorted((settings(values).out / "evaluations").iterdir())
    scored = read_json(first / "metrics.json")
    stage = sweep.STAGES["evaluate"]

    def too_late(_: object, asked: Any) -> Path:
        write_json(asked.out / "metrics.json", scored)
        (asked.out / "predictions.csv").write_bytes((first / "predictions.csv").read_bytes())
        raise InputError(f"{asked.out}: exists already; name a new folder or remove it first")

    monkeypatch.setattr(type(stage), "start", too_late)
    names = {"run": "runs/any", "dataset": str(values["data"]), "split": "train"}
    late = StageCall("evaluate", {**names, "out": str(second.with_name("late"))})
    assert sweep.attempt(late, 1) == (late.folder, None)
    monkeypatch.setattr(sweep, "is_evaluated", lambda _: False)
    assert "exists already" in str(sweep.attempt(late, 1)[1])


def test_a_shard_that_is_told_to_stop_stops_as_with_ctrl_c(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(values, shard="1/2")
    at_work = study.out / "at-work"

    def napping(call: StageCall, threads: int) -> tuple[str, str | None]:
        at_work.touch()
        time.sleep(60)
        return call.folder, None

    def stopped() -> None:
        with pytest.raises(KeyboardInterrupt):
            run_study(study)

    monkeypatch.setattr(sweep, "attempt", napping)
    child = in_child(stopped)
    wait_for(at_work.exists)
    os.kill(child, signal.SIGTERM)
    assert exit_code(child) == 0


def test_a_shard_whose_runs_fail_says_so(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(call: StageCall, threads: int) -> tuple[str, str | None]:
        return call.folder, "no luck at /srv/clinic/data"

    monkeypatch.setattr(sweep, "attempt", failing)
    told = (
        r"(?s)shard 1/2: 0 of its 2 models stand, 0 of all 4.*again what failed:.*no luck at data"
    )
    with pytest.raises(RunError, match=told):
        run_study(settings(values, shard="1/2"))


def failing_on(
    monkeypatch: pytest.MonkeyPatch, folders: set[str], tried: list[str]
) -> Callable[[StageCall, int], tuple[str, str | None]]:
    """Let the runs of these folders fail; every try is noted. Returns what stood there before."""
    attempt = sweep.attempt

    def trying(call: StageCall, threads: int) -> tuple[str, str | None]:
        tried.append(call.folder)
        if call.folder in folders:
            return call.folder, "no luck at /srv/clinic/data"
        return attempt(call, threads)

    monkeypatch.setattr(sweep, "attempt", trying)
    return attempt


@pytest.mark.parametrize("order", [("1/2", "2/2"), ("2/2", "1/2")])
def test_the_last_shard_writes_what_failed_in_any_into_results_and_report(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    study, tried = settings(values), list[str]()
    lost = part_of(expand_grid(study), 0, 2)[0].model.name  # of shard 1/2
    attempt = failing_on(monkeypatch, {lost}, tried)
    first, last = (settings(values, shard=shard) for shard in order)
    if first.shard == "1/2":
        with pytest.raises(RunError, match="shard 1/2: 1 of its 2 models stand"):
            run_study(first)
    else:
        assert run_study(first) == study.out
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 3 of 4 models stand"):
        run_study(last)
    assert tried.count(lost) == 1, "a shard tried again what had failed in another"
    for page in (study.out / "report.html", run_report(ReportSettings(study=study.out))):
        errors = {
            row.run: row.error for row in read_results(study.out / "results.csv") if row.error
        }
        assert errors == {lost: "no luck at data"}
        assert "no luck at data" in page.read_text()
    monkeypatch.setattr(sweep, "attempt", attempt)
    assert run_study(settings(values, shard="1/2")).name == "report.html"
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}
    assert not (study.out / "failures").exists()


def test_what_failed_before_and_is_finished_by_now_is_no_failure(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(values)
    rows = expand_grid(study)
    run_study(settings(values, shard="1/2"))
    stale = {row.model.name: "an old error" for row in part_of(rows, 0, 2)}
    record_failures(study.out, stale, stale)  # as of a shard that was killed before it cleared it
    assert recorded_failures(study.out) == stale
    assert run_study(settings(values, shard="2/2")).is_file()
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def test_a_damaged_record_of_a_failure_is_none(tmp_path: Path) -> None:
    record_failures(tmp_path, ["a", "b", "c"], {"a": "lost at /srv/clinic/data", "b": "gone"})
    (tmp_path / "failures" / "b.json").write_text("{")
    assert recorded_failures(tmp_path) == {"a": "lost at data"}
    record_failures(tmp_path, ["a", "b"], {})
    assert list(tmp_path.iterdir()) == []


def test_a_shard_counts_its_models_not_what_they_start_from(
    shared: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = settings(shared, strategies=["phantoms_then_finetune"])
    failing_on(monkeypatch, {expand_grid(study)[0].calls[0].folder}, [])
    told = (
        r"(?s)shard 1/2: 0 of its 3 models stand, 0 of all 6.*starts from failed: no luck at data"
    )
    with pytest.raises(RunError, match=told):
        run_study(study.model_copy(update={"shard": "1/2"}))


def test_a_run_of_another_shard_that_was_cut_is_told_in_the_results(
    values: dict[str, object],
) -> None:
    study = settings(values)
    run_study(settings(values, shard="1/2"))
    cut = part_of(expand_grid(study), 0, 2)[0].model
    cut_status(cut)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 3 of 4 models stand"):
        run_study(settings(values, shard="2/2"))
    (row,) = [row for row in read_results(study.out / "results.csv") if row.error]
    assert (row.run, "delete the folder" in row.error) == (cut.name, True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"strategies": 2 * ["real_only"], "epsilons": [6, 1, 6.0], "seeds": [3, 3]},
            ["strategies: real_only: named twice", "epsilons: 6: named twice", "seeds: 3: named"],
        ),
        ({"epsilons": ["none", "none"]}, ["epsilons: none: named twice"]),
        ({"evaluate_on": ["val", "val"]}, ["evaluate_on: split val of clinic: named twice"]),
        (
            {"evaluate_on": ["test", "tests"], "synthetic": "clinic", "phantoms": "phantoms"},
            [
                "evaluate_on.0: clinic: no image has split 'test'",
                "evaluate_on.1: split 'tests': choose one of",
                "synthetic: clinic is named as data already",
            ],
        ),
        (
            {"strategies": ["phantoms_only"], "epsilons": [1, 6, "none"], "phantoms": "phantoms"},
            ["epsilons: 1, 6: no strategy of this study meets a patient again"],
        ),
        (
            {"strategies": ["synthetic_only", "phantoms_only", "private_pretrain_then_finetune"]},
            ["`synthetic`", "`phantoms`", "`private_synthetic`"],
        ),
    ],
)
def test_a_contradictory_grid_is_refused_with_all_that_is_wrong(
    values: dict[str, object], tmp_path: Path, changes: dict[str, object], told: list[str]
) -> None:
    clinic_set(tmp_path / "phantoms", "phantom")
    for key in changes.keys() & {"synthetic", "phantoms"}:
        changes = {**changes, key: tmp_path / str(changes[key])}
    splits = changes.get("evaluate_on", [])
    assert isinstance(splits, list)
    if splits:
        changes = {**changes, "evaluate_on": [{"data": values["data"], "split": s} for s in splits]}
    with pytest.raises(InputError) as error:
        run_study(settings(values, **changes))
    assert [text for text in told if text not in str(error.value)] == []
    assert not settings(values).out.exists()


@pytest.mark.slow
def test_a_study_of_two_workers_survives_the_kill_of_one_and_then_its_own(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds, "WAIT_S", 0.2)
    head = {"head": {"steps": 300}}
    study = settings(values, seeds=list(range(12)), workers=2, finetune=head, devices=[])
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
    give_up = time.monotonic() + 90
    while not ready():
        assert time.monotonic() < give_up
        time.sleep(0.05)

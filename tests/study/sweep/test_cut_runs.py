"""Runs and evaluations that are cut, deleted or made twice cost a study themselves alone."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from made_up import small_study, study_settings

from synthdp.errors import InputError, RunError
from synthdp.runs.folder import StageCall, open_run
from synthdp.storage.files import read_json, write_json
from synthdp.study.compare.results import read_results
from synthdp.study.settings import StudySettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid, shard_rows


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
    study = study_settings(values, epsilons=["none"])
    run_alike, cut = sweep.run_alike, list[Path]()

    def cut_first(calls: Sequence[StageCall]) -> list[Exception | None]:
        if calls[0].stage == "evaluate" and not cut:
            cut.append(calls[0].setting("run"))
            damage(cut[0])
        return run_alike(calls)

    monkeypatch.setattr(sweep, "run_alike", cut_first)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 1 of 2 models stand"):
        run_study(study)
    monkeypatch.setattr(sweep, "run_alike", run_alike)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 1 of 2 models stand"):
        run_study(study)
    (run,) = cut
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
    out = call.out

    def work() -> None:
        with open_run(out, "finetune", call.settings) as run:
            for path in sorted(out.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            out.rmdir()
            run.finish(None, "card")  # type: ignore[arg-type]

    with pytest.raises(RunError, match="deleted or cut while it was at work"):
        work()
    assert not out.exists()


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
    study = study_settings(values, transfer={"whole": True})
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
    run_study(study_settings(values, shard="1/2"))
    first, second = sorted((study_settings(values).out / "evaluations").iterdir())
    scored = read_json(first / "metrics.json")
    stage = sweep.STAGES["evaluate"]

    def too_late(_: object, asked: Any) -> Path:
        write_json(asked.out / "metrics.json", scored)
        (asked.out / "predictions.csv").write_bytes((first / "predictions.csv").read_bytes())
        raise InputError(f"{asked.out}: exists already; name a new folder or remove it first")

    monkeypatch.setattr(type(stage), "start", too_late)
    names = {"run": "runs/any", "dataset": values["data"], "split": "train"}
    asked = stage.settings_class().model_validate({**names, "out": second.with_name("late")})
    late = StageCall("evaluate", asked)
    assert sweep.attempt(late, 1) == (late.folder, None)
    monkeypatch.setattr(sweep, "is_evaluated", lambda _: False)
    assert "exists already" in str(sweep.attempt(late, 1)[1])


def test_a_run_of_another_shard_that_was_cut_is_told_in_the_results(
    values: dict[str, object],
) -> None:
    study = study_settings(values)
    run_study(study_settings(values, shard="1/2"))
    cut = shard_rows(expand_grid(study), 0, 2)[0].model
    cut_status(cut)
    with pytest.raises(RunError, match=r"1 run\(s\) failed, 3 of 4 models stand"):
        run_study(study_settings(values, shard="2/2"))
    (row,) = [row for row in read_results(study.out / "results.csv") if row.error]
    assert (row.run, "delete the folder" in row.error) == (cut.name, True)

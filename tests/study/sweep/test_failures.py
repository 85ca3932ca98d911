"""What fails in a shard is on record for the one that writes the results."""

from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import study_settings

from synthdp.errors import RunError
from synthdp.runs.folder import StageCall
from synthdp.study.compare.results import read_results
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid, shard_rows
from synthdp.study.sweep.state import record_failures, recorded_failures


def test_a_shard_whose_runs_fail_says_so(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(call: StageCall, threads: int) -> tuple[str, str | None]:
        return call.folder, "no luck at /srv/clinic/data"

    monkeypatch.setattr(sweep, "attempt", failing)
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    told = (
        r"(?s)shard 1/2: 0 of its 2 models stand, 0 of all 4.*again what failed:.*no luck at data"
    )
    with pytest.raises(RunError, match=told):
        run_study(study_settings(values, shard="1/2"))


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
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    return attempt


@pytest.mark.parametrize("order", [("1/2", "2/2"), ("2/2", "1/2")])
def test_the_last_shard_writes_what_failed_in_any_into_results_and_report(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    study, tried = study_settings(values), list[str]()
    lost = shard_rows(expand_grid(study), 0, 2)[0].model.name  # of shard 1/2
    attempt = failing_on(monkeypatch, {lost}, tried)
    first, last = (study_settings(values, shard=shard) for shard in order)
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
    assert run_study(study_settings(values, shard="1/2")).name == "report.html"
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}
    assert not (study.out / "failures").exists()


def test_what_failed_before_and_is_finished_by_now_is_no_failure(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values)
    rows = expand_grid(study)
    run_study(study_settings(values, shard="1/2"))
    stale = {row.model.name: "an old error" for row in shard_rows(rows, 0, 2)}
    record_failures(study.out, stale, stale)  # as of a shard that was killed before it cleared it
    assert recorded_failures(study.out) == stale
    assert run_study(study_settings(values, shard="2/2")).is_file()
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
    study = study_settings(shared, strategies=["phantoms_then_finetune"])
    failing_on(monkeypatch, {expand_grid(study)[0].calls[0].folder}, [])
    told = (
        r"(?s)shard 1/2: 0 of its 3 models stand, 0 of all 6.*starts from failed: no luck at data"
    )
    with pytest.raises(RunError, match=told):
        run_study(study.model_copy(update={"shard": "1/2"}))

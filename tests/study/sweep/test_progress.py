"""What a person sees of a study at work: a bar at a terminal, elsewhere lines of a log."""

import logging
import sys
from collections.abc import Callable
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest

from classify.config import EvaluateSettings, FinetuneSettings, PretrainSettings
from synthdp.runs.folder import StageCall
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.engine import opened_engine
from synthdp.study.sweep.run import Progress, run_calls


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[..., None]:
    """Moves the clock on; what is logged is kept."""
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr(sweep.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == sweep.__name__]


def test_a_log_has_a_line_now_and_then_and_one_in_the_end(
    tick: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Progress(100)) as progress:
        for number in range(100):
            tick(1)
            progress.count(failed=number == 1)
    assert lines(caplog) == [
        "study: 1 of 100 done",
        "study: 30 of 100 done, 1 failed",
        "study: 60 of 100 done, 1 failed",
        "study: 90 of 100 done, 1 failed",
        "study: 99 of 100 done, 1 failed",
    ]


def test_a_study_of_nothing_says_nothing(
    tick: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    Progress(0).close()
    assert lines(caplog) == []


def test_runs_that_fail_or_can_not_run_are_counted_once(
    caplog: pytest.LogCaptureFixture, tick: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = {"data": Path("data"), "out": Path("unused")}
    parents = [StageCall("pretrain", PretrainSettings(seed=n, **at)) for n in range(2)]
    children = [
        StageCall("finetune", FinetuneSettings(init=Path(call.folder), seed=n, **at))
        for call in parents
        for n in (0, 1)
    ]
    scores = [
        StageCall(
            "evaluate",
            EvaluateSettings(run=Path("runs") / call.folder, dataset=at["data"], out=at["out"]),
        )
        for call in children
    ]

    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        tick(31)
        return call.folder, "no luck" if call.folder == parents[0].folder else None

    monkeypatch.setattr(sweep, "attempt", attempt)
    with opened_engine(EngineSettings()) as engine, closing(Progress(10)) as progress:
        runs = {call.folder: call for call in (*parents, *children)}
        errors = run_calls(engine, runs, {}, progress)
        assert sorted(errors.values()) == [
            "no luck", *2 * ["the run that it starts from failed: no luck"]
        ]  # fmt: skip
        left = {call.folder: call for call in scores[2:]}
        assert run_calls(engine, left, {}, progress) == {}
    counted = [line for line in lines(caplog) if line.startswith("study: ")]
    assert counted[0] == "study: 0 of 10 done, 1 failed"
    assert counted[-1] == "study: 5 of 10 done, 1 failed, 4 not run"


def test_a_study_that_is_stopped_says_what_was_not_run(
    tick: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    def stopped() -> None:
        with closing(Progress(3)) as progress:
            progress.count(failed=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert lines(caplog)[-1] == "study: 1 of 3 done, 2 not run"


def test_a_terminal_has_a_bar_and_the_last_line_alone(
    tick: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with closing(Progress(4)) as progress:
        for number in range(4):
            tick(31)
            progress.count(failed=number == 2)
    assert "study: " in terminal.getvalue()
    assert "| 0/4 [" in terminal.getvalue()
    assert lines(caplog) == ["study: 3 of 4 done, 1 failed"]

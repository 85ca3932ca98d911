"""What a person sees of a study at work: what is done, what runs now, and the time left."""

import json
import logging
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.machine import progress as shown
from synthdp.machine.progress import Reporter
from synthdp.machine.progress_displays import Lines
from synthdp.runs.folder import StageCall
from synthdp.status import RunStatus, write_status
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep import progress as module
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.engine import WorkerSetup, opened_engine, work
from synthdp.study.sweep.progress import StudyProgress, state_file
from synthdp.study.sweep.run import run_calls

Tick = Callable[[float], None]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Tick:
    """Moves the clock on, by which progress is shown in lines; what is logged is kept."""
    caplog.set_level(logging.INFO)
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    reporter = Reporter(clock=lambda: now[0], choose=Lines, threaded=False)
    monkeypatch.setattr(shown, "_reporter", reporter)

    def move(seconds: float) -> None:
        now[0] += seconds
        reporter.look()

    return move


def ends(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == module.__name__]


def calls_in(study: Path, *, pretrains: int = 0, finetunes: int = 0) -> dict[str, StageCall]:
    """Calls of a study, by folder."""
    runs, data = study / "runs", study / "data"
    made = [
        *(
            StageCall("pretrain", PretrainSettings(data=data, seed=n, out=runs / f"pretrain-{n}"))
            for n in range(pretrains)
        ),
        *(
            StageCall(
                "finetune",
                FinetuneSettings(
                    data=data, init=study / "init", seed=n, out=runs / f"finetune-{n}"
                ),
            )
            for n in range(finetunes)
        ),
    ]
    return {call.folder: call for call in made}


def writes(call: StageCall, **state: object) -> None:
    """A worker keeps its state, as it does now."""
    path = state_file(call)
    path.parent.mkdir(exist_ok=True)
    values = {"doing": "", "for_s": 0, "left_s": None, "at": module.time.time(), **state}
    path.write_text(json.dumps(values))


def test_a_line_every_half_minute_says_what_is_done_and_what_is_left(
    tick: Tick, caplog: pytest.LogCaptureFixture, capsys: Capture, tmp_path: Path
) -> None:
    calls = calls_in(tmp_path, finetunes=100)
    with closing(StudyProgress(calls)) as progress:
        for number, call in enumerate(calls.values()):
            tick(6)
            progress.count(call, failed=number == 1, seconds=6)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "runs and scores, 5 of 100 done, about 9 min left, 1 failed"
    assert lines[-2].startswith("runs and scores, 95 of 100 done, about 24 s left")
    assert ends(caplog) == ["study: 99 of 100 done, 1 failed"]


def test_what_runs_now_is_named_and_counted_in_the_time_left(
    tick: Tick, capsys: Capture, tmp_path: Path
) -> None:
    calls = calls_in(tmp_path, pretrains=1, finetunes=4)
    pretrain, *finetunes = calls.values()
    with closing(StudyProgress(calls)) as progress:
        assert progress.seconds_left() is None
        writes(pretrain, doing="epoch 3 of 10, 45 %", for_s=60, left_s=600)
        writes(finetunes[0])
        tick(3)
        # nobody has told how long a finetune takes: as long as what is known
        assert progress.seconds_left() == pytest.approx((597 + 657 + 3 * 660) / 2)
        tick(30)
        progress.count(finetunes[0], failed=False, seconds=33)
        state_file(finetunes[0]).unlink()
        writes(finetunes[1], for_s=3)
        writes(pretrain, doing="epoch 4 of 10, 10 %", for_s=93, left_s=567)
        tick(3)
        # the pretraining is the longest, and two work
        assert progress.seconds_left() == 564
        tick(30)
    text = capsys.readouterr().err
    assert "now pretrain (epoch 4 of 10, 10 %)" in text
    assert "about 8 min left" in text
    assert not state_file(pretrain).parent.exists()


def test_runs_that_are_made_together_share_their_time(
    tick: Tick, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    calls = calls_in(tmp_path, finetunes=40)
    first = next(iter(calls.values()))
    with closing(StudyProgress(calls)) as progress:
        writes(first, doing="training the head: 50 %", for_s=100, left_s=100, calls=20)
        assert progress.seconds_left() == 100 + 20 * 10  # of this job, and of the other 20 runs


def test_runs_that_stood_before_say_how_long_others_take(tick: Tick, tmp_path: Path) -> None:
    *stood, last = calls_in(tmp_path, finetunes=4).values()
    for call, seconds in zip(stood, (10, 20, 300), strict=True):
        call.out.mkdir(parents=True)
        write_status(call.out, RunStatus(stage="finetune", state="finished", seconds=seconds))
    with closing(StudyProgress({last.folder: last}, stood)) as progress:
        assert progress.seconds_left() == 20


def test_what_was_said_before_is_believed_while_first_calls_make_what_all_share(
    tick: Tick, tmp_path: Path
) -> None:
    """The first of 24 heads computes features for minutes, which the others find."""
    first, *others = calls_in(tmp_path, finetunes=24).values()
    calls = {call.folder: call for call in (first, *others)}
    with closing(StudyProgress(calls, expected_s=900)) as progress:
        assert progress.seconds_left() == 900
        writes(first, doing="features, 50 %", for_s=300, left_s=300)
        tick(3)
        assert progress.seconds_left() == pytest.approx(897)
        progress.count(first, failed=False, seconds=600)
        state_file(first).unlink()
        tick(297)
        assert progress.seconds_left() == pytest.approx(600)
        for call in others[:12]:
            progress.count(call, failed=False, seconds=5)
        assert progress.seconds_left() == pytest.approx(11 * 5)
        tick(601)  # what was said before is over: the calls tell
        progress.count(others[12], failed=False, seconds=605)
        assert progress.seconds_left() == pytest.approx(10 * 5)


def test_a_worker_that_is_gone_or_writes_nonsense_is_passed_over(
    tick: Tick, tmp_path: Path
) -> None:
    calls = calls_in(tmp_path, finetunes=2)
    with closing(StudyProgress(calls)) as progress:
        first, second = calls.values()
        writes(first, left_s=1000, at=0)
        writes(second)
        state_file(second).write_text("[1, 2")
        tick(3)
        assert progress.seconds_left() is None


def test_a_study_of_nothing_says_nothing(
    tick: Tick, caplog: pytest.LogCaptureFixture, capsys: Capture
) -> None:
    StudyProgress({}).close()
    tick(100)
    assert ends(caplog) == []
    assert capsys.readouterr().err == ""


def test_runs_that_fail_or_can_not_run_are_counted_once(
    caplog: pytest.LogCaptureFixture, tick: Tick, monkeypatch: pytest.MonkeyPatch
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
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    everything = {call.folder: call for call in (*parents, *children, *scores)}
    with opened_engine(EngineSettings()) as engine, closing(StudyProgress(everything)) as progress:
        runs = {call.folder: call for call in (*parents, *children)}
        errors = run_calls(engine, runs, {}, progress)
        assert sorted(errors.values()) == [
            "no luck", *2 * ["the run that it starts from failed: no luck"]
        ]  # fmt: skip
        left = {call.folder: call for call in scores[2:]}
        assert run_calls(engine, left, {}, progress) == {}
    assert ends(caplog) == ["study: 5 of 10 done, 1 failed, 4 not run"]


def test_a_study_that_is_stopped_says_what_was_not_run(
    tick: Tick, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    calls = calls_in(tmp_path, finetunes=3)

    def stopped() -> None:
        with closing(StudyProgress(calls)) as progress:
            progress.count(next(iter(calls.values())), failed=False)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert ends(caplog)[-1] == "study: 1 of 3 done, 2 not run"


def test_a_worker_writes_how_far_it_is_and_says_how_long_it_took(
    tick: Tick, capsys: Capture, tmp_path: Path
) -> None:
    (call,) = calls_in(tmp_path, finetunes=1).values()
    states = []

    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        for _ in shown.progress(range(10), what="training the head", public_unit="steps"):
            tick(10)
            states.append(json.loads(state_file(call).read_text()))
        return call.folder, None

    (outcome,) = work(attempt, call, WorkerSetup(1, cluster=True, folder=str(Path.cwd())))
    assert outcome.seconds == 100
    assert states[-1]["doing"].startswith("training the head, 9 of 10 steps")
    assert states[-1]["for_s"] == 100
    assert not state_file(call).exists()
    assert capsys.readouterr().err == ""
    assert time.monotonic() == 1100

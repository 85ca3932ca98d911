"""The count of a study's jobs and its time left, on a clock that the tests move."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from classify.config import EvaluateSettings, FinetuneSettings, PretrainSettings
from synthdp.runs import StageCall
from synthdp.study.sweep import countdown as countdowns
from synthdp.study.sweep.countdown import Countdown, Job, Kind, in_words
from synthdp.study.sweep.engine import EngineSettings, opened_engine
from synthdp.study.sweep.scheduler import crew_of, parent_of

SLOW: Kind = ("finetune", "transformer_only", "6")
FAST: Kind = ("finetune", "real_only", "6")
SCORE: Kind = ("evaluate", "clinic", "real_only")


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock on."""
    now = [1000.0]
    monkeypatch.setattr(countdowns.time, "monotonic", lambda: now[0])

    def move(seconds: float) -> None:
        now[0] += seconds

    return move


def jobs(**counts: tuple[int, Kind]) -> dict[str, Job]:
    return {
        f"{word}-{index}": Job(kind) for word, (n, kind) in counts.items() for index in range(n)
    }


def counting(given: Mapping[str, Job], workers: int = 1, **more: object) -> Countdown:
    return Countdown(given, what="study", workers=workers, **more)  # type: ignore[arg-type]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == countdowns.__name__]


def test_each_job_left_counts_as_those_of_its_kind_on_all_workers() -> None:
    count = counting(jobs(slow=(10, SLOW), fast=(10, FAST), score=(10, SCORE)), workers=2)
    assert count.seconds_left is None
    count.done("slow-0", 60.0)
    assert count.seconds_left == pytest.approx(29 * 60 / 2)  # of the others nothing is known
    for index in range(3):
        count.done(f"slow-{index}", 60.0)
        count.done(f"fast-{index}", 1.5)
        count.done(f"score-{index}", 0.5)
    assert count.seconds_left == pytest.approx(7 * (60 + 1.5 + 0.5) / 2)


def test_a_kind_of_which_none_is_done_counts_as_its_nearest_kinds() -> None:
    given = jobs(a=(3, FAST), b=(3, (*FAST[:2], "none")), c=(3, SLOW), d=(1, ("finetune", "new")))
    count = counting(given)
    count.done("a-0", 2.0)
    count.done("c-0", 60.0)
    count.done("c-1", 60.0)
    count.done("c-2", 60.0)
    assert count.seconds_left == pytest.approx(2 * 2 + 3 * 2 + 60)


def test_a_stage_that_has_not_begun_counts_as_the_shortest_kind() -> None:
    count = counting(jobs(slow=(6, SLOW), fast=(6, FAST), score=(60, SCORE)))
    for index in range(3):
        count.done(f"slow-{index}", 60.0)
        count.done(f"fast-{index}", 1.5)
    assert count.seconds_left == pytest.approx(3 * 60 + 3 * 1.5 + 60 * 1.5)


def test_the_first_of_a_kind_may_have_made_what_the_others_find() -> None:
    other = (*SLOW[:2], "none")
    count = counting(jobs(a=(6, SLOW), b=(6, other), c=(6, FAST)))
    count.done("a-0", 700.0)  # it made the features
    for index in range(3):
        count.done(f"b-{index}", 20.0)
        count.done(f"c-{index}", 2.0)
    assert count.seconds_left == pytest.approx(5 * 20 + 3 * 20 + 3 * 2)


def test_a_worker_that_was_stopped_for_minutes_changes_nothing() -> None:
    count = counting(jobs(slow=(40, SLOW), fast=(40, FAST)), workers=2)
    for index in range(20):
        stopped = 900.0 if index % 4 == 3 else 0.0
        count.done(f"slow-{index}", 60.0 + index % 2 + stopped)
        count.done(f"fast-{index}", 1.5 + stopped)
    assert count.seconds_left == pytest.approx((20 * 61 + 20 * 1.5) / 2, rel=0.02)


def test_fewer_jobs_than_workers_take_as_long_as_one() -> None:
    count = counting(jobs(slow=(5, SLOW)), workers=4)
    for index in range(4):
        count.done(f"slow-{index}", 60.0)
    assert count.seconds_left == pytest.approx(60.0)


def test_times_of_before_count_until_there_is_one_of_now() -> None:
    count = counting(jobs(slow=(4, SLOW), fast=(4, FAST)), earlier=3 * [(SLOW, 30.0), (FAST, 3.0)])
    assert count.seconds_left == pytest.approx(4 * 30 + 4 * 3)
    for index in range(3):
        count.done(f"slow-{index}", 60.0)
    assert count.seconds_left == pytest.approx(60 + 4 * 3)
    count.done("fast-0", None)  # another process made it
    assert count.seconds_left == pytest.approx(60 + 3 * 3)


def test_what_fails_tells_nothing_and_takes_what_follows_along() -> None:
    given = {
        "pretrain": Job(("pretrain",)),
        "model": Job(SLOW, after="pretrain"),
        "score": Job(SCORE, after="model"),
        **jobs(fast=(3, FAST)),
    }
    count = counting(given)
    count.done("fast-0", 2.0)
    count.failed("fast-1")
    assert count.seconds_left == pytest.approx(4 * 2)
    count.failed("pretrain")
    assert count.seconds_left == pytest.approx(2)
    count.drop("model")  # counted already
    assert count._state() == "study: 1 of 6 done, 2 failed, 2 not run, about 2 s left"


def test_a_log_has_a_line_now_and_then_and_one_in_the_end(
    tick: Callable[[float], None], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    count = counting(jobs(slow=(100, SLOW)))
    for number in range(100):
        tick(1)
        if number == 1:
            count.failed("slow-1")
        else:
            count.done(f"slow-{number}", 60)
    count.close()
    assert lines(caplog) == [
        "study: 1 of 100 done, about 1 h 39 min left",
        "study: 30 of 100 done, 1 failed, about 1 h 9 min left",
        "study: 60 of 100 done, 1 failed, about 39 min left",
        "study: 90 of 100 done, 1 failed, about 9 min left",
        "study: 99 of 100 done, 1 failed",
    ]


def test_a_study_of_nothing_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counting({}).close()
    assert lines(caplog) == []


def test_a_crew_whose_runs_fail_counts_every_job_once(
    caplog: pytest.LogCaptureFixture, tick: Callable[[float], None]
) -> None:
    caplog.set_level(logging.INFO)
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
    given = {
        **{call.folder: Job(("pretrain",)) for call in parents},
        **{c.folder: Job(("finetune",), after=parent_of(c)) for c in children},
        **{s.folder: Job(("evaluate",), parent_of(s)) for s in scores},
    }

    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        tick(31)
        return call.folder, "no luck" if call.folder == parents[0].folder else None

    with opened_engine(EngineSettings()) as engine, crew_of(engine, given, []) as crew:
        runs = {call.folder: call for call in (*parents, *children)}
        assert len(crew.run(attempt, runs, {})) == 3
        left = {call.folder: call for call in scores[2:]}
        assert crew.run(attempt, left, {}) == {}
    assert lines(caplog)[0] == "study: 0 of 10 done, 1 failed, 4 not run"
    assert "about 2 min left" in lines(caplog)[1]
    assert lines(caplog)[-1] == "study: 5 of 10 done, 1 failed, 4 not run"


def test_a_crew_that_is_stopped_says_what_was_not_run(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def stopped() -> None:
        given = jobs(slow=(3, SLOW))
        with opened_engine(EngineSettings()) as engine, crew_of(engine, given, []) as crew:
            crew.countdown.done("slow-0", 1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert lines(caplog)[-1] == "study: 1 of 3 done, 2 not run"


def test_durations_in_words() -> None:
    assert [in_words(s) for s in (0.2, 59, 90, 7500, 200_000)] == [
        "1 s", "59 s", "2 min", "2 h 5 min", "2 d 7 h",
    ]  # fmt: skip

"""What trackers get: names that may be known, and nothing else."""

import logging
import sys
from pathlib import Path

import pytest

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import open_run
from synthdp.runs.tracking import PUBLIC_NAMES, send, tensorboard_hook, track
from synthdp.storage.files import read_text

Line = tuple[int, dict[str, float]]


class Example(Settings):
    """A stage without settings."""


def test_a_run_tells_public_names_alone_unless_its_stage_says_more(tmp_path: Path) -> None:
    lines: list[Line] = []
    statement = make_statement(Lineage(), subject="classifier")
    with (
        track(lambda step, metrics: lines.append((step, metrics))),
        open_run(tmp_path / "run", "finetune", Example()) as run,
    ):
        run.log(steps_spent=8, loss=0.4, images_per_s=9.0)
        run.log(loss=0.4)
        run.names_to_send = None
        run.log(step=9, loss=0.3, words="no number", nothing=None)
        run.finish(statement, "card")
    assert lines == [
        (8, {"finetune/steps_spent": 8.0}),
        (9, {"finetune/step": 9.0, "finetune/loss": 0.3}),
    ]
    kept = read_text(tmp_path / "run" / "private" / "metrics.jsonl", 10_000)
    assert kept.count("loss") == 3  # which stays the truth


def test_nothing_is_told_outside_the_context(tmp_path: Path) -> None:
    lines: list[Line] = []
    with track(lambda step, metrics: lines.append((step, metrics))):
        pass
    send("finetune", {"step": 1}, names=PUBLIC_NAMES)
    assert lines == []


def test_a_hook_that_fails_is_left_out_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lines: list[Line] = []
    calls = []

    def broken(step: int, metrics: dict[str, float]) -> None:
        calls.append(step)
        raise ValueError("a secret of the tracker")

    with caplog.at_level(logging.WARNING), track(broken, lambda *line: lines.append(line)):
        send("finetune", {"step": 1}, names=PUBLIC_NAMES)
        send("finetune", {"step": 2}, names=PUBLIC_NAMES)
    assert calls == [1]
    assert [step for step, _ in lines] == [1, 2]
    assert "ValueError" in caplog.text
    assert "secret" not in caplog.text


def test_a_hook_can_not_change_what_others_get() -> None:
    lines: list[Line] = []
    with track(lambda _, metrics: metrics.clear(), lambda *line: lines.append(line)):
        send("finetune", {"step": 1}, names=PUBLIC_NAMES)
    assert lines == [(1, {"finetune/step": 1.0})]


def test_tensorboard_reads_what_was_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    with tensorboard_hook(tmp_path / "board") as hook, track(hook):
        send("train-gan", {"step": 3, "gap": 0.25}, names=None)
    (event,) = EventAccumulator(str(tmp_path / "board")).Reload().Scalars("train-gan/gap")
    assert (event.step, event.value) == (3, 0.25)


def test_a_missing_tensorboard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(InputError, match=r"synthdp\[tensorboard\]"),
        tensorboard_hook(tmp_path / "board"),
    ):
        pass
    assert not (tmp_path / "board").exists()

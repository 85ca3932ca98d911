"""Stops: a training that is cut off and started again may use no noise twice."""

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from classify.audit_subject import (
    Draw,
    RecordedNoise,
    Subject,
    open_ledger,
    scratch_folder,
    train,
)

CRASHES = 2
_KEY_BYTES = 32


class _CrashError(Exception):
    """Stands for a power cut."""


def stream_findings(drawn: Sequence[Draw]) -> list[str]:
    """What is wrong with all that one key gave: a stream, or its values, used twice."""
    findings = []
    if len({draw.stream for draw in drawn}) < len(drawn):
        findings.append("a stream of noise is drawn twice")
    values = {draw.noise.numpy().tobytes() for draw in drawn if draw.noise.numel() > 1}
    if len(values) < sum(draw.noise.numel() > 1 for draw in drawn):
        findings.append("the same noise is drawn twice")
    return findings


def after_stops(subject: Subject, generator: np.random.Generator) -> list[str]:
    """What is wrong when a training is stopped in the middle of blocks and goes on afterwards.

    Two crashes in one training, and a stop by Ctrl-C in another, at random steps.
    """
    return _after_crashes(subject, generator) + _after_ctrl_c(subject, generator)


def _after_crashes(subject: Subject, generator: np.random.Generator) -> list[str]:
    source = RecordedNoise(generator.bytes(_KEY_BYTES), subject.noise)

    def crash() -> None:
        raise _CrashError

    with scratch_folder() as folder:
        for _ in range(CRASHES):
            at = _inside_a_block(subject, folder, generator)
            _train_until(subject, source, folder, at, crash)
        train(subject, source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _finished(subject, source, spent, "a crash")


def _after_ctrl_c(subject: Subject, generator: np.random.Generator) -> list[str]:
    """None outside the main thread, which alone hears signals."""
    if threading.current_thread() is not threading.main_thread():
        return []
    source = RecordedNoise(generator.bytes(_KEY_BYTES), subject.noise)
    with scratch_folder() as folder:
        at = _inside_a_block(subject, folder, generator)
        _train_until(subject, source, folder, at, lambda: signal.raise_signal(signal.SIGINT))
        train(subject, source, folder)
        spent = open_ledger(subject, folder).spent_steps
    return _finished(subject, source, spent, "a clean stop")


def _finished(subject: Subject, source: RecordedNoise, spent: int, stop: str) -> list[str]:
    findings = [f"after {stop}, {finding}" for finding in stream_findings(source.drawn)]
    if spent < len(source.drawn) or len(source.drawn) > subject.mechanism.steps:
        findings.append(f"after {stop}, more steps are taken than ledger or mechanism count")
    return findings


def _inside_a_block(subject: Subject, folder: Path, generator: np.random.Generator) -> int:
    """A step in the next block but one, before its last; the very last step where there is none."""
    block = subject.recipe.block_steps
    first = open_ledger(subject, folder).spent_steps + block
    last = min(first + block, subject.mechanism.steps) - 1
    return int(generator.integers(first, last)) if first < last else last


def _train_until(
    subject: Subject, source: RecordedNoise, folder: Path, at: int, stop: Callable[[], None]
) -> None:
    """Train, and stop in the step `at`, after its noise is drawn."""

    def observe(step: int, weights: Tensor, released: Tensor) -> None:
        if step == at:
            stop()

    try:
        train(subject, source, folder, observe=observe)
    except (_CrashError, KeyboardInterrupt):
        return

"""Machines without shared memory: /dev/shm absent, or read-only, as in some containers."""

import errno
import logging
import multiprocessing
import multiprocessing.context
import os
from collections.abc import Iterator

import pytest

from synthdp.data.importing.images.parallel import in_order
from synthdp.machine.processes import can_work_together
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep.engine import opened_engine


@pytest.fixture
def without_semaphores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    can_work_together.cache_clear()
    monkeypatch.setattr(multiprocessing.context.BaseContext, "Lock", refused)
    yield
    can_work_together.cache_clear()


def process_of(_: int) -> int:
    return os.getpid()


@pytest.mark.usefixtures("without_semaphores")
def test_one_process_does_all_work_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert set(in_order(process_of, range(20), workers=2)) == {os.getpid()}
        with opened_engine(EngineSettings(workers=2)) as engine:
            assert engine.size() == 1
            assert engine.backend(1) == {"backend": "sequential"}
    message = [record.getMessage() for record in caplog.records]
    assert sum("make /dev/shm writable" in line for line in message) == 1


def test_here_there_are_several() -> None:
    assert can_work_together() == os.access("/dev/shm", os.W_OK)

"""What holds for every test: no progress is shown, the disk is not waited for, and what a test
printed can be sent on.

Progress would come or not as the machine is fast; its tests have a clock of their own
(`tests/machine/test_progress.py`).
What a disk was not waited for is lost when the power fails, which no test makes: a process that is
killed loses nothing that it wrote. A run waits some hundred times, which took as long as all that
it computes. Tests of where a program waits put a function of their own in place of `os.fsync`;
those of `tests/storage/test_files.py` and what runs in a process of its own wait for the disk.
"""

import gc
import os
import sys
from collections.abc import Generator

import pytest

from synthdp.machine.progress_displays import ENVIRONMENT

os.environ[ENVIRONMENT] = "off"
REAL_FSYNC, REAL_SYNC = os.fsync, os.sync


def unwaited(descriptor: int) -> None:
    """Wait for nothing, but fail as `os.fsync` does where nothing is open."""
    os.fstat(descriptor)


os.fsync = unwaited  # type: ignore[assignment]  # all callers give a number
os.sync = lambda: None


@pytest.fixture
def waited_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the disk in this test, as every program does."""
    monkeypatch.setattr(os, "fsync", REAL_FSYNC)
    monkeypatch.setattr(os, "sync", REAL_SYNC)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while all modules are read, a third of that time: they stay to the end.

    Nor among them afterwards.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no process idles while another ends with them.

    With pytest-xdist files are dealt out in this order when it is told not to sort them by their
    number of tests (`--no-loadscope-reorder` in the Makefile), of which slow files have few.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Compute one gradient before any test does, so that children of tests may compute theirs.

    PyTorch counts its devices at a process's first gradient, and from the second device on refuses
    gradients in forked children. `torch.export` brings a device that is none, so that a test
    of kills would fail where an export came before the first gradient.
    """
    if torch := sys.modules.get("torch"):
        weight = torch.ones(1, requires_grad=True)
        torch.autograd.grad((weight * weight).sum(), weight)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write bytes that are no text, as in names of files, in a way that another process takes."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report

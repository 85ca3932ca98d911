"""What holds for every test: no progress is shown, and what it printed can be sent on.

Progress would come or not as the machine is fast; its tests have a clock of their own
(`tests/machine/test_progress.py`).
"""

import os
from collections.abc import Generator

import pytest

from synthdp.machine.progress_displays import ENVIRONMENT

os.environ[ENVIRONMENT] = "off"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Write bytes that are no text, as in names of files, in a way that another process takes."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report

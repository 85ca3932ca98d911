"""What holds for every test: no progress is shown, which would come or not as the machine is fast.

Tests of progress have a clock of their own (`tests/machine/test_progress.py`).
"""

import os

from synthdp.machine.progress_displays import ENVIRONMENT

os.environ[ENVIRONMENT] = "off"

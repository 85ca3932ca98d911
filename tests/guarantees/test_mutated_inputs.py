"""Four thousand changed files: each is read or refused, in bounded time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutated_readers import KINDS, LIMIT_BYTES, make_world

ROOT = Path(__file__).parents[2]
COUNT = 4000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


@pytest.mark.slow
def test_a_changed_file_is_read_or_refused_and_no_more(world: Path) -> None:
    """No traceback, no reading of more than ten seconds, none of more than a gigabyte."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "mutated_readers.py"), str(world), "16", str(COUNT)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    failures = [" ".join(map(str, one)) for one in report["failures"]]
    assert not failures, f"{len(failures)} of {COUNT}, such as:\n" + "\n\n".join(failures[:5])
    assert report["refused"] + report["read"] == COUNT
    assert report["grown_bytes"] < LIMIT_BYTES
    assert report["refused"] > COUNT / 3  # the changes are met, not passed over
    assert report["slowest"].keys() == {kind.file for kind in KINDS}

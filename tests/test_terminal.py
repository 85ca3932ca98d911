"""Commands write to whatever there is: an ASCII terminal, a closed stream, a broken pipe."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings

COMMAND = f"{sys.executable} -m synthdp.cli"
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set in a folder whose name has letters of two alphabets and a byte of none."""
    folder = tmp_path / os.fsdecode("münchen-π-\udcff".encode("utf-8", "surrogateescape"))
    return run_phantoms(PhantomSettings(out=folder, patients=9, size_px=16))


def test_an_ascii_terminal_gets_escapes_and_no_traceback(data: Path, tmp_path: Path) -> None:
    again = "data phantoms patients=9 size_px=16"
    for words, code in (
        (f"{again} --out m*", 0),
        (f"{again} --out m* --dry-run", 0),
        ("data check m*", 0),
        ("privacy m*", 0),
        (f"{again} out=x name=Köln", 2),
        ("data check nö", 2),
        ("finetune nö.yaml", 2),
        ("finetune ö=1 data=ü", 2),
        ("ö", 2),
    ):
        done = shell(f"{COMMAND} {words}", tmp_path, **ASCII)
        assert done.returncode == code, (words, done.stderr)
        assert b"Traceback" not in done.stderr
        assert (done.stdout + done.stderr).isascii()
        assert done.stdout + done.stderr
    assert data.is_dir()


@pytest.mark.parametrize(
    ("streams", "code"),
    [
        ("| true", 0),
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&-", 0),
        ("> /dev/full", 1),
        ("2> /dev/full", 0),
        ("< /dev/null", 0),
    ],
)
def test_a_stream_that_takes_nothing_ends_in_no_traceback(
    streams: str, code: int, tmp_path: Path
) -> None:
    line = f"{COMMAND} data phantoms out=x --dry-run {streams}"
    done = shell(line, tmp_path)
    assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
    assert b"Exception ignored" not in done.stderr
    wrong = shell(f"{COMMAND} data phantoms out= {streams}", tmp_path)
    assert (wrong.returncode, b"Traceback" in wrong.stderr) == (2, False), wrong.stderr

"""Commands write to whatever there is: an ASCII terminal, a closed stream, a broken pipe."""

import logging
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.machine.terminal import ToldLines

COMMAND = f"{sys.executable} -m synthdp.cli"
ASCII = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment}
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


#: Runs commands that stand between commas, one after the other, and prints their exit codes.
IN_TURN = """
import itertools, sys
from synthdp.cli import main
codes = []
for is_comma, words in itertools.groupby(sys.argv[1:], ','.__eq__):
    if not is_comma:
        try:
            codes.append(main(list(words)))
        except SystemExit as ended:
            codes.append(ended.code)
print(codes)
"""


def test_an_ascii_terminal_gets_escapes_and_no_traceback(data: Path, tmp_path: Path) -> None:
    again = "data phantoms patients=9 size_px=16"
    codes = {
        f"{again} --out m*": 0,
        f"{again} --out m* --dry-run": 0,
        "data check m*": 0,
        "privacy m*": 0,
        f"{again} out=x name=Köln": 2,
        "data check nö": 2,
        "finetune nö.yaml": 2,
        "finetune ö=1 data=ü": 2,
        "ö": 2,
    }
    script = shlex.quote(IN_TURN)
    done = shell(f"{sys.executable} -c {script} {' , '.join(codes)}", tmp_path, **ASCII)
    assert b"Traceback" not in done.stderr
    *_, told = done.stdout.decode("ascii").splitlines()
    assert told == str(list(codes.values()))
    said = done.stdout + done.stderr
    assert said.isascii()
    for escaped in (rb"m\udcc3\udcbcnchen-\udccf\udc80-\udcff", rb"n\udcc3\udcb6.yaml"):
        assert escaped in said  # bytes of names, since this locale has no letters for them
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


def test_what_libraries_note_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    handler = ToldLines()
    for name, level in (("matplotlib.font_manager", logging.INFO), ("synthdpx", logging.INFO),
                        ("synthdp.runs", logging.INFO), ("classify", logging.INFO),
                        ("torch.distributed", logging.WARNING)):  # fmt: skip
        handler.handle(logging.LogRecord(name, level, "", 0, f"said by {name}", None, None))
    told = capsys.readouterr().err.splitlines()
    assert told == [f"said by {name}" for name in ("synthdp.runs", "classify", "torch.distributed")]

"""What is told of work that lasts: a bar in a terminal of any width, elsewhere lines.

Lines go to logs that are sent on, so of private images they give a share and no number. The clock
is a made one: no test waits.
"""

import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from fcntl import ioctl
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

import synthdp
from synthdp.errors import InputError
from synthdp.machine import progress as module
from synthdp.machine import progress_displays as displays
from synthdp.machine.progress import Reporter, at_work, counted, progress, stage
from synthdp.machine.progress_displays import (
    Bars,
    Display,
    FileDisplay,
    Lines,
    Nothing,
    Widget,
    chosen_display,
)

WITH_BARS = {Path("synthdp/machine/progress_displays.py")}


class Clock:
    """Seconds that pass when a test says so; whoever looks at progress does it as often."""

    def __init__(self) -> None:
        self.now, self.reporter = 100.0, Reporter()

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            self.now += 0.5
            self.reporter.look()


@pytest.fixture
def shown_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[Display], Clock]:
    """Shows progress in one way, by a clock of the test; gives the clock."""

    def start(display: Display) -> Clock:
        clock = Clock()
        clock.reporter = Reporter(clock=clock, choose=lambda: display, threaded=False)
        monkeypatch.setattr(module, "_reporter", clock.reporter)
        return clock

    return start


Capture = pytest.CaptureFixture[str]


def lines(capsys: Capture) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_line_comes_at_the_start_and_every_half_minute(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    for _ in progress(range(100), what="training", public_unit="steps"):
        clock.tick(1)
    assert lines(capsys) == [
        "training, 1 of 100 steps, 1 steps/s, about 1 min left",
        "training, 31 of 100 steps, 1 steps/s, about 1 min left",
        "training, 61 of 100 steps, 1 steps/s, about 38 s left",
        "training, 91 of 100 steps, 1 steps/s, about 8 s left",
        "training: ended after 1 min",
    ]


def test_a_loop_that_is_over_at_once_is_not_told(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    for _ in progress(range(3), what="reading"):
        clock.tick(0.5)
    assert capsys.readouterr().err == ""


def test_one_slow_item_is_told_all_the_same(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    for _ in progress(range(1), what="the first network"):
        clock.tick(65)
    assert lines(capsys)[:3] == [
        "the first network, 0 %",
        "the first network, 0 %",
        "the first network, 0 %",
    ]


@pytest.mark.parametrize("n_images", [37, 4321])
def test_no_number_of_private_images_is_told(
    shown_as: Callable[[Display], Clock], capsys: Capture, n_images: int
) -> None:
    clock = shown_as(Lines())
    for _ in progress(range(n_images), what="reading images"):
        clock.tick(200 / n_images * 10)
    text = capsys.readouterr().err
    assert str(n_images) not in text
    shares = [int(share) for share in re.findall(r"(\d+) %", text)]
    assert len(shares) > 3
    assert all(share % 5 == 0 for share in shares)
    assert "left" in text


def test_what_a_resumed_training_had_done_is_counted(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    for _ in progress(range(90, 100), what="training", public_unit="steps", begun=90):
        clock.tick(4)
    assert lines(capsys)[1] == "training, 97 of 100 steps, 15 steps/min, about 8 s left"


def test_a_stage_that_counts_nothing_says_that_it_is_at_work(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    with stage("finetune"):
        clock.tick(31)
        with at_work("the promise"):
            clock.tick(5)
        with counted("features", total=4) as advance:
            clock.tick(24)
            advance(2)
            clock.tick(9)
    assert lines(capsys) == [
        "finetune, at work for 2 s",
        "finetune: the promise, at work for 1 s",
        "finetune: features, 0 %",
        "finetune: features, 50 %, about 16 s left",
        "features: ended after 33 s",
    ]


def test_stages_within_a_study_stand_in_one_line(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    with stage("study"):
        for _ in progress(range(2), what="seeds", public_unit="runs"):
            with stage("finetune"):
                for _ in progress(range(2), what="features"):
                    clock.tick(10)
    assert lines(capsys)[:2] == [
        "study: seeds, 0 of 2 runs; finetune: features, 0 %",
        "study: seeds, 1 of 2 runs, 3 runs/min, about 8 s left; finetune: features, 50 %, "
        "about 8 s left",
    ]


def test_a_loop_that_is_left_in_the_middle_is_told_no_more(
    shown_as: Callable[[Display], Clock], capsys: Capture
) -> None:
    clock = shown_as(Lines())
    for index in progress(range(9), what="reading"):
        if index == 3:
            break
    clock.tick(90)
    assert capsys.readouterr().err == ""


def test_a_worker_keeps_its_state_in_a_file(
    shown_as: Callable[[Display], Clock], capsys: Capture, tmp_path: Path
) -> None:
    path = tmp_path / "states" / "run.json"
    clock = shown_as(FileDisplay(path))
    for index in progress(range(4321), what="features"):
        clock.tick(1)
        if index == 99:
            break
    for _ in progress(range(100), what="training", public_unit="steps"):
        clock.tick(10)
        state = json.loads(path.read_text())
    assert state["doing"] == "training, 99 of 100 steps, 6 steps/min, about 4 s left"
    assert state["left_s"] == 4.5
    assert capsys.readouterr().err == ""
    assert list(path.parent.iterdir()) == []  # of what is over nothing is left


def test_a_stream_that_was_closed_stops_nothing(
    shown_as: Callable[[Display], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = shown_as(Lines())
    closed = StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    read = []
    for item in progress(range(3), what="reading"):
        clock.tick(40)
        read.append(item)
    assert read == [0, 1, 2]


SHOWN_IN_A_TERMINAL = """
import time
from synthdp.machine import progress as shown
now = [0.0]
reporter = shown._reporter = shown.Reporter(clock=lambda: now[0], threaded=False)
with shown.stage("finetune"):
    for _ in shown.progress(range(4321), what="features of a set with a long name"):
        now[0] += 1
        if now[0] % 100 == 0:
            reporter.look()
print("the end")
"""


def in_terminal(columns: int, term: str) -> list[str]:
    """What a terminal of so many columns shows, 0 for one that does not say; each drawing."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24 if columns else 0, columns, 0, 0))
    environment = {**os.environ, "TERM": term, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("COLUMNS", displays.ENVIRONMENT):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-c", SHOWN_IN_A_TERMINAL], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other side is closed
        pass
    assert child.wait() == 0
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown.decode())
    return [line for line in re.split(r"[\r\n]+", text) if line.strip()]


@pytest.mark.parametrize(
    ("columns", "shown"), [(120, "| 1999/4321 ["), (20, " 46% ["), (0, " 46% ["), (12, " 46% [")]
)
def test_a_terminal_of_any_width_has_a_bar(columns: int, shown: str) -> None:
    lines = in_terminal(columns, "xterm")
    assert any(shown in line for line in lines)
    assert lines[-1] == "the end"
    assert max(map(len, lines[:-1])) <= (columns or 40)


def test_a_dumb_terminal_has_lines() -> None:
    lines = in_terminal(80, "dumb")
    assert lines[0].startswith("finetune: features of a set with a long name, 0 %, about")
    assert len(lines) > 10


def test_the_display_fits_where_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", StringIO())

    def chosen(asked: str | None = None, term: str = "xterm") -> str:
        monkeypatch.setenv("TERM", term)
        monkeypatch.setenv(displays.ENVIRONMENT, asked or "")
        return type(chosen_display()).__name__

    assert chosen() == Lines.__name__
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert chosen() == Bars.__name__
    assert chosen(term="dumb") == Lines.__name__
    assert chosen("lines") == Lines.__name__
    assert chosen("off") == Nothing.__name__
    with pytest.raises(InputError, match="SYNTHDP_PROGRESS: 'bar': say bars, lines, off, or"):
        chosen("bar")
    shell = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", shell)
    monkeypatch.setattr(displays, "find_spec", lambda name: None)
    assert chosen() == "_NotebookLines"
    monkeypatch.setattr(displays, "find_spec", lambda name: object())
    assert chosen() == "Widget"


def test_no_other_code_makes_bars() -> None:
    root = Path(synthdp.__file__).parents[1]
    code = [path for part in ("synthdp", "classify", "gan") for path in (root / part).rglob("*.py")]
    with_bars = {
        path.relative_to(root) for path in code if "tqdm" in path.read_text(encoding="utf-8")
    }
    assert with_bars == WITH_BARS


def test_a_notebook_keeps_no_number_of_private_images(
    shown_as: Callable[[Display], Clock], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Bar:
        def __init__(self, **about: object) -> None:
            self.about, self.n, self.drawn = about, 0, list[int]()
            made.append(self)

        def refresh(self) -> None:
            self.drawn.append(self.n)

        def close(self) -> None:
            self.drawn.append(-1)

    monkeypatch.setitem(sys.modules, "tqdm.notebook", SimpleNamespace(tqdm=Bar))
    clock = shown_as(Widget())
    for _ in progress(range(4321), what="reading images"):
        clock.tick(0.5)
    for _ in progress(range(10), what="training", public_unit="steps"):
        clock.tick(1)
    private, public = made
    assert private.about["total"] == 100
    assert max(private.drawn) <= 100
    assert private.drawn[-1] == -1
    assert public.about["total"] == 10
    assert max(public.drawn) >= 9

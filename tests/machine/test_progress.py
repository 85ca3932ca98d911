"""Bars count private images, so that they are for a terminal alone."""

import itertools
import sys
from io import StringIO
from pathlib import Path

import pytest
import tqdm as bars

import synthdp
from synthdp.machine.progress import progress

#: `progress`, and the bar of a study, which counts runs and has tests of its own.
WITH_BARS = {Path("synthdp/machine/progress.py"), Path("synthdp/study/sweep/run.py")}


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("output", [StringIO, Terminal])
def test_a_number_of_images_is_written_to_terminals_alone(
    monkeypatch: pytest.MonkeyPatch, output: type[StringIO]
) -> None:
    minutes = itertools.count(0, 60)  # the bar finds that time has passed whenever it looks
    monkeypatch.setattr(bars.std, "time", lambda: next(minutes))
    monkeypatch.setattr(sys, "stderr", output())
    seen = list(progress(range(7), what="reading images", total=4321))
    assert seen == list(range(7))
    written = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert ("4321" in written) is (output is Terminal)
    assert (written == "") is (output is not Terminal)


def test_no_other_code_makes_bars() -> None:
    root = Path(synthdp.__file__).parents[1]
    code = [path for part in ("synthdp", "classify", "gan") for path in (root / part).rglob("*.py")]
    with_bars = {
        path.relative_to(root) for path in code if "tqdm" in path.read_text(encoding="utf-8")
    }
    assert with_bars == WITH_BARS

"""The timing of generators on one GPU runs as a miniature on a CPU."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "device_gan.py"


def test_the_miniature_times_every_side_in_every_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "told.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--miniature", "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    figures = json.loads(out.read_text())
    for kind in ("training", "drawing"):
        seen = {(one["side"], one["form"]) for one in figures[kind]}
        assert len(seen) == len(figures[kind]) == 12  # three sides, four forms
        assert all(one["images_a_second"] > 0 for one in figures[kind] if not one["problem"])
    assert figures["training"][0]["problem"] == ""  # at least one is timed, however slow it is
    assert "CPU: images a second" in capsys.readouterr().out

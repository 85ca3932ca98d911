"""The check for one GPU runs as a miniature on a CPU."""

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "device_chest.py"


@pytest.mark.slow
def test_the_miniature_measures_every_way_and_trains_both_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "told.json"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--miniature", "--out", str(out)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    figures = json.loads(out.read_text())
    for name in ("resnet9", "vit_tiny_patch16_224"):
        speeds = figures[name]["images_a_second"]
        assert min(speeds["plain step"], speeds["ours (patients)"]) > 0
        assert figures[name]["trained"]["steps"] >= 1
        assert 0 < figures[name]["trained"]["epsilon"] < 10
        assert 0 <= figures[name]["trained"]["macro_auroc"] <= 1  # of few images and noise
    assert isinstance(figures["resnet9"]["images_a_second"]["Opacus hooks (images)"], float)
    assert "trained with DP" in capsys.readouterr().out

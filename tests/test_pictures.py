"""The pictures of README and docs show what was measured, and no patient."""

import csv
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"


@pytest.fixture(scope="module")
def script() -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "draw_pictures.py")))


def test_each_figure_of_the_curve_stands_in_the_results() -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    with (PICTURES / "cbis-ddsm.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 19
    for row in rows:
        interval = f" [{row['ci_low']}, {row['ci_high']}]" if row["ci_low"] else ""
        spread = f" ± {row['sd']}" if row["sd"] else ""
        assert f"{row['auroc']}{spread}{interval}" in results, row


def test_the_members_found_are_those_of_the_results(script: SimpleNamespace) -> None:
    results = (ROOT / "docs" / "results.md").read_text()
    (line,) = (line for line in results.splitlines() if line.startswith("| members that the best"))
    shares = [cell.strip() for cell in line.split("|")[3:-1]]  # at 1, 6, 12, 20, 60, none
    stated = [f"{100 * share:.2g} %" for share in script.MEMBERS_FOUND.values()]
    assert [one.replace("1e+02", "100") for one in stated] == [*shares[:2], *shares[3:]]


def test_the_curves_are_drawn_again_as_they_stand(script: SimpleNamespace, tmp_path: Path) -> None:
    script.draw_curves(tmp_path)
    for name in ("cbis-curve.svg", "cbis-curve-dark.svg"):
        drawn = (tmp_path / name).read_text()
        assert drawn.count("<path") > 80
        assert len(drawn) == pytest.approx((PICTURES / name).stat().st_size, rel=0.05)


@pytest.mark.parametrize("name", ["patches.png", "chest-phantoms.png"])
def test_a_picture_is_small_and_says_nothing_of_a_machine(name: str) -> None:
    path = PICTURES / name
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert not {key for key in picture.info if key not in {"dpi"}}


def test_radiographs_are_shown_of_each_finding_as_they_are_drawn(script: SimpleNamespace) -> None:
    images = script.phantom_radiographs()
    assert len(images) == 15
    assert {len(one) for one in images.values()} == {script.RADIOGRAPHS}
    assert len(script.phantom_slices(lesion=True)) == script.RADIOGRAPHS

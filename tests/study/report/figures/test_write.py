import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_up_study import describe, make_patches, make_study
from PIL import Image

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.fairness import FairnessFigure
from synthdp.study.compare.fairness import FairnessRow, write_fairness
from synthdp.study.compare.transfer.table import TransferRow, write_transfer
from synthdp.study.report.figures.write import _grid_caption
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings

MM_PER_PT = 25.4 / 72


def row_of(**changes: object) -> dict[str, object]:
    return {
        "strategy": "real_only",
        "epsilon": 6.0,
        "data_set": "cbis-ddsm",
        "split": "val",
        "n_seeds": 2,
        "target": "malignant",
        "measure": "auroc",
        "n_images": 96,
        "n_patients": 51,
        "ci_low": 0.6,
        "ci_high": 0.8,
        **changes,
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two sets with groups and sites, in a folder whose name must not leave it."""
    house = tmp_path_factory.mktemp("secret-house")
    make_study(house / "study", sets=("val", "external"))
    make_patches(house / "synthetic", "synthetic")
    describe(house / "study", synthetic=str(house / "synthetic"))
    groups = [
        FairnessRow(**row_of(attribute="view", group=group, value=value, epsilon=epsilon))
        for group, value in (("CC", 0.72), ("MLO", 0.69))
        for epsilon in (1.0, 6.0, None)
    ]
    write_fairness(house / "study" / "fairness.csv", groups)
    sites = [
        TransferRow(**row_of(domain=domain, split=split, value=0.7, epsilon=epsilon))
        for domain, split in (("internal", "val"), ("external", "external"))
        for epsilon in (1.0, 6.0, None)
    ]
    write_transfer(house / "study" / "transfer.csv", sites)
    return house / "study"


def drawn(study: Path, out: Path, kind: str, **figures: object) -> Path:
    return run_report(ReportSettings(study=study, format=kind, out=out, figures=figures))


def test_each_figure_is_a_file_with_a_caption(study: Path, tmp_path: Path) -> None:
    folder = drawn(study, tmp_path / "out", "svg")
    names = sorted(path.stem for path in folder.glob("*.svg"))
    assert names == ["curve-1", "curve-2", "fairness", "patches", "transfer"]
    captions = (folder / "captions.txt").read_text()
    for name in names:
        assert f"{name}.svg\n" in captions
    curve = captions.split("\n\n")[0]
    assert "2 seeds each, scored on 192 images of 102 patients" in curve
    assert "95 % intervals hold patients alone, not seeds" in curve
    assert "Hollow marks" in curve
    assert "CC: 96 images of 51 patients; MLO: 96 images of 51 patients" in captions
    assert "means over 2 seeds" in captions
    assert "calibration: not drawn, since its evaluations hold no figures" in captions
    assert "secret" not in "".join(path.read_text() for path in folder.iterdir())


def test_an_svg_has_the_journals_width_and_needs_no_font(study: Path, tmp_path: Path) -> None:
    for column, width_mm in (("single", 89), ("double", 183)):
        folder = drawn(study, tmp_path / column, "svg", column=column)
        root = ElementTree.parse(folder / "curve-1.svg").getroot()
        assert float(root.get("width", "").removesuffix("pt")) * MM_PER_PT == pytest.approx(
            width_mm, abs=0.2
        )
        assert not list(root.iter("{http://www.w3.org/2000/svg}text"))
        assert "#010101" not in (folder / "curve-1.svg").read_text()  # the page's stand-ins


def test_a_png_has_its_dots_and_a_pdf_its_fonts(study: Path, tmp_path: Path) -> None:
    with Image.open(drawn(study, tmp_path / "png", "png", single_mm=85, column="single")
                    / "curve-1.png") as picture:  # fmt: skip
        assert picture.size[0] == pytest.approx(85 / 25.4 * 300, abs=2)
        assert picture.info["dpi"] == pytest.approx((300, 300), abs=1)
        assert set(picture.info) <= {"dpi"}
    content = (drawn(study, tmp_path / "pdf", "pdf") / "curve-1.pdf").read_bytes()
    assert b"/FontFile2" in content  # TrueType, embedded
    assert b"/Type3" not in content
    for said in (b"/CreationDate", b"/Producer", b"secret"):
        assert said not in content


def test_the_same_study_gives_the_same_bytes(study: Path, tmp_path: Path) -> None:
    first, again = (drawn(study, tmp_path / name, "pdf", dpi=72) for name in ("one", "two"))
    for path in first.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_letters_are_as_large_as_asked_for(study: Path, tmp_path: Path) -> None:
    def heights(font_pt: float) -> float:
        folder = drawn(study, tmp_path / str(font_pt), "svg", font_pt=font_pt)
        scales = re.findall(r"scale\(([\d.]+) -", (folder / "curve-1.svg").read_text())
        return max(map(float, scales))

    assert heights(9) / heights(7) == pytest.approx(9 / 7, rel=1e-3)


def test_what_cannot_be_drawn_is_refused_or_told(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"figures\.font: there is no font 'Nobody Sans'"):
        drawn(study, tmp_path / "font", "svg", font="Nobody Sans")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="so name a folder"):
        drawn(study, tmp_path / "file", "svg")
    command = ["report", str(study), "--format", "pdf", f"figures.font_pt={30}"]
    assert main(command) == EXIT_BAD_INPUT
    assert "figures.font_pt" in capsys.readouterr().err
    patients = make_patches(tmp_path / "real", "real")
    make_study(tmp_path / "plain", with_failure=False)
    describe(tmp_path / "plain", synthetic=str(patients))
    assert main(["report", str(tmp_path / "plain"), "--format", "svg"]) == EXIT_DONE
    captions = (tmp_path / "plain" / "figures" / "captions.txt").read_text()
    assert "patches: not drawn, since the set that the study calls synthetic shows" in captions
    assert "fairness: not drawn, since the study judged no groups" in captions
    assert "transfer: not drawn, since the study scored its models on one set" in captions


def test_fairness_figures_fit_their_table() -> None:
    assert set(FairnessFigure.model_fields) <= set(FairnessRow.model_fields)


def test_a_caption_of_patches_speaks_of_patients_only_where_there_were_some(tmp_path: Path) -> None:
    synthetic = open_dataset(make_patches(tmp_path / "synthetic", "synthetic"))
    assert _grid_caption(synthetic, 0.0).endswith(" They descend from no patient's image.")
    assert _grid_caption(synthetic, 6.0).endswith("patients, each has a promise of epsilon 6.")

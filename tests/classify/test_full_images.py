"""Predict and evaluate on full images with a table of lesions: the scores of the imported set."""

import csv
import shutil
from pathlib import Path

import pytest
from made_up import random_run, received_run
from made_up_mammograms import breast, mammogram, write

from classify.evaluate import run_evaluate
from classify.predict import run_predict
from classify.settings.finished import EvaluateSettings, PredictSettings
from synthdp.config.settings import Settings
from synthdp.data.images import encode_png
from synthdp.data.importing.dicom import run_dicom
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.errors import InputError

CROP = {"margin_px": 10, "least_side_px": 16}
BOXES = [(30, 60, 70, 90), (20, 120, 60, 180), (5, 100, 65, 150), (40, 90, 90, 130)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def src(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two mammograms with two lesions each, of two patients; one of them as PNG."""
    folder = tmp_path_factory.mktemp("mammograms")
    write(mammogram(breast(0), "0"), folder / "0.dcm")
    (folder / "1.png").write_bytes(encode_png(breast(1)))
    lines = ["file,patient_id,malignant,xmin,ymin,xmax,ymax"]
    for index, box in enumerate(BOXES):
        name = ("0.dcm", "1.png")[index // 2]
        lines.append(f"{name},P{index // 2},{index % 2},{','.join(map(str, box))}")
    (folder / "lesions.csv").write_text("\n".join(lines) + "\n")
    return folder


def parsed(cls: type[Settings], **values: object) -> Settings:
    return cls.model_validate(values)


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def of_the_set(run: Path, src: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """The scores that evaluate gives on the imported set."""
    root = tmp_path_factory.mktemp("imported")
    values = {"src": src, "metadata": src / "lesions.csv", "out": root / "set", "split": "test"}
    dataset = run_dicom(DicomSettings.model_validate({**values, "size_px": 32, "crop": CROP}))
    settings = parsed(EvaluateSettings, run=run, dataset=dataset, split="test", out=root / "e")
    out = run_evaluate(settings)  # type: ignore[arg-type]
    return [float(row["score_malignant"]) for row in rows_of(out / "predictions.csv")]


def predicted(run: Path, src: Path, out: Path, **changes: object) -> list[dict[str, str]]:
    values = {"boxes": src / "lesions.csv", "size_px": 32, "crop": CROP, **changes}
    settings = parsed(PredictSettings, run=run, images=src, out=out, **values)
    return rows_of(run_predict(settings))  # type: ignore[arg-type]


def test_predict_scores_lesions_as_evaluate_does_on_the_imported_set(
    run: Path, src: Path, of_the_set: list[float], tmp_path: Path
) -> None:
    rows = predicted(run, src, tmp_path / "scores.csv", saliency=tmp_path / "maps", saliency_grid=3)
    assert [(row["image"], row["row"]) for row in rows] == [
        *(("0.dcm", "2"), ("0.dcm", "3"), ("1.png", "4"), ("1.png", "5")),
    ]
    assert [float(row["score_malignant"]) for row in rows] == of_the_set
    assert len(set(of_the_set)) == 4
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == [
        *("0.dcm.row-2.saliency.png", "0.dcm.row-3.saliency.png"),
        *("1.png.row-4.saliency.png", "1.png.row-5.saliency.png"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "scores.csv"]


@pytest.mark.parametrize("window", ["full", "dicom"])
def test_whole_images_are_read_and_brought_to_size_as_for_the_set(
    run: Path, tmp_path: Path, window: str
) -> None:
    """The window was left unread without boxes, and a set's size could not be told."""
    images = tmp_path / "images"
    rows = ["file,patient_id,malignant"]
    for number in (0, 1):
        one = mammogram(breast(number), str(number), WindowCenter="1500", WindowWidth="900")
        write(one, images / f"{number}.dcm")
        rows.append(f"{number}.dcm,P{number},{number}")
    (tmp_path / "table.csv").write_text("\n".join(rows) + "\n")
    same = {"dicom": {"window": window}, "size_px": 24}
    values = {"src": images, "metadata": tmp_path / "table.csv", "out": tmp_path / "set"}
    dataset = run_dicom(DicomSettings.model_validate({**values, "split": "test", **same}))
    asked = parsed(EvaluateSettings, run=run, dataset=dataset, split="test", out=tmp_path / "e")
    of_the_set = rows_of(run_evaluate(asked) / "predictions.csv")  # type: ignore[arg-type]
    scored = predicted(run, images, tmp_path / "s.csv", boxes=None, crop=None, **same)
    assert [row["score_malignant"] for row in scored] == [
        row["score_malignant"] for row in of_the_set
    ]


def test_a_released_run_scores_lesions_alike(
    run: Path, src: Path, of_the_set: list[float], tmp_path: Path
) -> None:
    rows = predicted(received_run(run, tmp_path / "received"), src, tmp_path / "scores.csv")
    assert [float(row["score_malignant"]) for row in rows] == of_the_set


def test_predict_names_all_bad_boxes_by_row(run: Path, src: Path, tmp_path: Path) -> None:
    boxes = tmp_path / "boxes.csv"
    lines = [
        "0.dcm,1,1,9000,9",
        "gone.dcm,1,1,9,9",
        "../0.dcm,1,1,9,9",
        "0.dcm,,,,",
        "1.png,9,9,1,1",
    ]
    boxes.write_text("\n".join(["image,xmin,ymin,xmax,ymax", *lines]) + "\n")
    with pytest.raises(InputError) as error:
        predicted(run, src, tmp_path / "scores.csv", boxes=boxes)
    said = [
        *("row 2: the region reaches outside", "row 3: the file is missing"),
        *("row 4: the path leads outside", "row 5: the row says nowhere", "row 6: xmin"),
    ]
    assert all(line in str(error.value) for line in said)
    assert "gone" not in str(error.value)
    boxes.write_text("image,width,height\n0.dcm,1,2\n")
    with pytest.raises(InputError, match="no columns of file and of where a lesion lies"):
        predicted(run, src, tmp_path / "scores.csv", boxes=boxes)


def test_evaluate_takes_full_images_with_a_table(
    run: Path, src: Path, of_the_set: list[float], tmp_path: Path
) -> None:
    folder = tmp_path / "src"
    shutil.copytree(src, folder)
    values = {"dataset": folder, "table": folder / "lesions.csv", "size_px": 32, "crop": CROP}
    settings = parsed(EvaluateSettings, run=run, split="test", out=tmp_path / "e", **values)
    out = run_evaluate(settings)  # type: ignore[arg-type]
    rows = rows_of(out / "predictions.csv")
    assert [float(row["score_malignant"]) for row in rows] == of_the_set
    assert {row["patient_id"][:8] for row in rows} == {"patient-"}
    assert run_evaluate(settings) == out  # type: ignore[arg-type]
    (folder / "1.png").write_bytes(encode_png(breast(7)))
    with pytest.raises(InputError, match="files in it were added, removed, renamed or changed"):
        run_evaluate(settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"crop": CROP}, "with a `table` alone"),
        ({"table": "t.csv", "split": "all"}, "name the one split"),
        ({"table": "t.csv", "auroc_epsilon": 1.0, "population": 10}, "import the images"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(EvaluateSettings, run="r", dataset="d", out="o", **values)


def test_the_settings_file_of_an_import_reads_other_tables_alike(
    run: Path, src: Path, of_the_set: list[float], tmp_path: Path
) -> None:
    lines = ["Pseudonym;Bilddatei;Dignität;links;oben;rechts;unten"]
    for index, box in enumerate(BOXES):
        numbers = ";".join(f"{side},0" for side in box)
        lines.append(
            f"K{index // 2};{('0.dcm', '1.png')[index // 2]};{('B2', 'B5')[index % 2]};{numbers}"
        )
    table, file = tmp_path / "Befunde.csv", tmp_path / "clinic.yaml"
    table.write_text("\n".join(lines) + "\n", encoding="cp1252")
    file.write_text(
        "src: elsewhere\nout: data/clinic\nval_fraction: 0.2\nfile_column: Bilddatei\n"
        "patient_column: Pseudonym\ntarget_columns: {malignant: Dignität}\n"
        "labels: {malignant: [B5], benign: [B2]}\nsize_px: 32\n"
        "region: {left: links, top: oben, right: rechts, bottom: unten}\n"
        "crop: {margin_px: 10, least_side_px: 16}\n",
        encoding="utf-8",
    )
    how = {"as_imported": file, "crop": None, "size_px": None}
    rows = predicted(run, src, tmp_path / "scores.csv", boxes=table, **how)
    assert [float(row["score_malignant"]) for row in rows] == of_the_set
    values = {"run": run, "dataset": src, "table": table, "as_imported": file, "split": "test"}
    settings = parsed(EvaluateSettings, **values, out=tmp_path / "e")
    out = run_evaluate(settings)  # type: ignore[arg-type]
    evaluated = rows_of(out / "predictions.csv")
    assert [float(row["score_malignant"]) for row in evaluated] == of_the_set
    assert [row["malignant"] for row in evaluated] == ["0", "1"] * 2
    assert run_evaluate(settings) == out  # type: ignore[arg-type]
    file.write_text(
        file.read_text(encoding="utf-8").replace("[B5]", "[B2]").replace("n: [B2]", "n: [B5]")
    )
    with pytest.raises(InputError):
        run_evaluate(settings)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="as_imported names a settings file"):
        predicted(run, src, tmp_path / "other.csv", boxes=table)
    table.write_text(table.read_text(encoding="cp1252").replace("70,0", "1,070"), encoding="cp1252")
    with pytest.raises(InputError, match="row 2: a comma may be for thousands or for decimals"):
        predicted(run, src, tmp_path / "other.csv", boxes=table, **how)

"""`synthdp init` for several findings, known collections and volumes: what it writes works."""

import csv
import math
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_up_volumes import write_series

from synthdp.cli import main
from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.init.kinds import WRITTEN
from synthdp.stages import STAGES

#: Networks that take a second, in the place of those that are written.
_SMALL = ("backbone.name=test_vit", "backbone.size_px=32", "backbone.layers=[0]")
_SMALL_VOLUMES = ("backbone.name=test_efficientnet", "backbone.size_px=16", "backbone.layers=[1]")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def radiographs(table: str, cell: str, n_patients: int = 16) -> None:
    """Two images of each patient, and a table of them whose findings are `cell` of each row."""
    Path("photos").mkdir()
    lines = [table]
    for number in range(2 * n_patients):
        rng = np.random.default_rng(number)
        name = f"image{number:03d}.png"
        cv2.imwrite(f"photos/{name}", rng.integers(0, 255, (20, 24), dtype=np.uint8))
        effusion, edema = number // 2 % 2, number % 3 == 0
        words = "|".join(w for w, has in (("Effusion", effusion), ("Edema", edema)) if has)
        filled = cell.format(effusion=effusion, edema=int(edema), words=words or "Nothing")
        lines.append(f"{name},p{number // 2},{filled},{30 + number},{'MF'[number // 2 % 2]}")
    Path("labels.csv").write_text("\n".join([*lines, ""]))


def init(*words: str) -> int:
    return main(["init", "mine", "--images", "photos", "--population", "100",
                 "--weights", "none", *words])  # fmt: skip


def readme_lines() -> list[list[str]]:
    """The commands of the README, without their comments."""
    text = Path("README.md").read_text()
    (block,) = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def walked(
    monkeypatch: pytest.MonkeyPatch, kind: str, network: tuple[str, ...], new: str, *imported: str
) -> list[dict[str, str]]:
    """Every command of the README, as it stands but for smaller networks; the scores at its end."""
    monkeypatch.chdir("mine")
    small = {
        "data import": [*imported, "val_fraction=0.5"],
        "data phantoms": ["size_px=32"],
        "study": [*network, "workers=1", "epsilons=[8]", "seeds=[0]", "shortcut=false"],
        "finetune": [*network, "head.steps=5"],
    }
    for words in readme_lines():
        line = [{"300": "4"}.get(word, new if "NEW-" in word else word) for word in words]
        extra = next((more for name, more in small.items() if " ".join(line).startswith(name)), [])
        assert main([*line, *extra]) == 0, line
    for file, (_, stage) in WRITTEN[kind].items():  # type: ignore[index]
        load_settings(STAGES[stage].settings_class(), Path(file))
    with open("scores.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_table_of_findings_comes_to_scores_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    radiographs("file,patient_id,Effusion,Edema,age,sex", "{effusion},{edema}")
    assert init("--table", "labels.csv", "--target", "Effusion,Edema") == 0
    assert "Findings are Effusion, Edema" in Path("mine/README.md").read_text()
    scores = walked(monkeypatch, "findings", _SMALL, "../photos", "size_px=32")
    assert open_dataset(Path("data/photos")).info.targets == ("Effusion", "Edema")
    assert len(scores) == 32
    assert {"score_Effusion", "score_Edema"} <= scores[0].keys()
    assert "age: paper-2302.01622, sex: none" in Path("study.yaml").read_text()


def test_lists_of_words_are_findings_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    radiographs("file,patient_id,Finding Labels,age,sex", "{words}")
    assert init("--table", "labels.csv", "--target", "Finding Labels=Effusion,Mass") == 2
    assert "'Mass': stands in no list of Finding Labels" in capsys.readouterr().err
    assert init("--table", "labels.csv", "--target", "Effusion,Mass") == 2
    assert "has no such column" in capsys.readouterr().err
    assert init("--table", "labels.csv", "--target", "Finding Labels=Effusion,Edema") == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", "size_px=32", "val_fraction=0.5"]) == 0
    dataset = open_dataset(Path("data/photos"))
    assert dataset.info.targets == ("effusion", "edema")
    assert {row.targets for row in dataset.rows} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert "subject=chest" in Path("README.md").read_text()


def test_a_column_that_is_no_finding_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    radiographs("file,patient_id,Effusion,Note,age,sex", "{effusion},seen by x{edema}")
    assert init("--table", "labels.csv", "--target", "Effusion,Note") == 2
    said = capsys.readouterr().err
    assert "'Note': 2 of its words are neither yes nor no" in said
    assert "seen by" not in said


def test_doubts_are_a_word_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    radiographs("file,patient_id,Effusion,Edema,age,sex", "{effusion},{edema}")
    text = Path("labels.csv").read_text().replace(",1,1,", ",1,-1,")
    Path("labels.csv").write_text(text)
    assert init("--table", "labels.csv", "--target", "Effusion,Edema") == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", "size_px=32", "val_fraction=0.5"]) == 0
    found = [row.targets[1] for row in open_dataset(Path("data/photos")).rows]
    assert any(map(math.isnan, found))


def nih(folder: Path) -> None:
    """A few images as NIH's download has them."""
    (folder / "images_001" / "images").mkdir(parents=True)
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
             "View Position"]  # fmt: skip
    for number in range(24):
        name = f"{number:08d}_000.png"
        pixels = np.random.default_rng(number).integers(0, 255, (24, 24), dtype=np.uint8)
        cv2.imwrite(str(folder / "images_001" / "images" / name), pixels)
        words = ("Effusion|Mass", "No Finding", "Effusion", "Mass")[number % 4]
        lines.append(f"{name},{words},0,{number},{40 + number},{'MF'[number % 2]},PA")
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join([*lines, ""]))


@pytest.mark.parametrize("like", [["--like", "nih-cxr14"], []])
def test_a_known_collection_is_named_or_known(
    like: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nih(Path("photos"))
    assert init(*like, "--target", "effusion,cough") == 2
    assert "nih-cxr14 has no such finding" in capsys.readouterr().err
    assert init(*like, "--target", "effusion,mass") == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", "size_px=32", "val_fraction=0.5"]) == 0
    info = open_dataset(Path("data/nih-cxr14")).info
    assert info.targets == ("effusion", "mass")
    assert info.population == 100
    assert (
        "fairness: {age: paper-2302.01622, sex: none, view: none}" in Path("study.yaml").read_text()
    )


def test_a_collection_whose_patients_nobody_knows_protects_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("photos").mkdir()
    assert init("--like", "rsna-pneumonia") == 0
    for file in ("study.yaml", "classifier.yaml"):
        assert "unit: image" in Path("mine", file).read_text()
    assert "the promise is to each image" in Path("mine/README.md").read_text()
    assert main(["init", "other", "--images", "photos", "--like", "nih", "--population", "9"]) == 2
    assert "no collection of this name is known" in capsys.readouterr().err


@pytest.mark.slow
def test_volumes_come_to_scores_of_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        values = np.random.default_rng(number).integers(-900, 300, (6, 10, 8)).astype(np.int16)
        folder = Path("photos") / ("lesion" if number % 2 else "free") / f"P{number:02d}"
        write_series(folder, values, person=number)
    assert init("--volumes", "--target", "lesion", "--window=-160,240") == 0
    small = ("size_px=16", "volumes={depth: 4, window: [-160, 240]}")
    scores = walked(monkeypatch, "volumes", _SMALL_VOLUMES, "../photos", *small)
    assert [row["image"] for row in scores][:2] == ["free/P00", "free/P02"]
    assert len(scores) == 12


def test_what_volumes_need_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    write_series(Path("photos/lesion/P1"), person=1)
    write_series(Path("photos/free/P2"), person=2)
    assert init("--volumes", "--target", "lesion") == 2
    assert "--window: missing" in capsys.readouterr().err  # a CT
    for wrong in ("240,-160", "black", "1,2,3"):
        assert init("--volumes", "--target", "lesion", f"--window={wrong}") == 2
        assert f"--window: '{wrong}'" in capsys.readouterr().err
    Path("empty").mkdir()
    assert main(["init", "mine", "--images", "empty", "--volumes", "--population", "9"]) == 2
    assert "--volumes: the folder holds none" in capsys.readouterr().err
    assert not Path("mine").exists()

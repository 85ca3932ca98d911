"""The student's walk: from a folder of images to figure, table, release, and another's scores.

All of it by the commands of an installed package, in the order of the README that `synthdp init`
writes; what makes it short (small networks, few steps) is said on the command line.
"""

import csv
import shutil
from pathlib import Path

import pytest
from bare_install import Walk, unpacked_wheel

from synthdp.data.dataset import open_dataset
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings

SMALL = [
    *("backbone.name=test_vit", "backbone.size_px=32", "backbone.layers=[2, 4]"),
    *("backbone.views=1", "beside=[]"),
]


def class_folders(root: Path, scratch: Path) -> Path:
    """Phantoms in folders of two classes that nobody knows, with the patient in a file's name."""
    run_phantoms(PhantomSettings(out=scratch, patients=60, seed=21, size_px=128))
    n_images: dict[str, int] = {}
    for row in open_dataset(scratch).rows:
        patient = row.patient_id.replace("phantom", "patient")
        n_images[patient] = n_images.get(patient, 0) + 1
        folder = root / ("spiculated" if row.targets[0] else "smooth")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scratch / row.image, folder / f"{patient}_{n_images[patient]}.png")
    return root


@pytest.mark.slow
def test_from_a_folder_of_images_to_somebody_elses_scores(tmp_path: Path) -> None:
    images = class_folders(tmp_path / "my-patches", tmp_path / "drawn")
    site = unpacked_wheel(tmp_path / "wheel")
    walk = Walk(site, tmp_path)
    named = ["--images", "my-patches", "--name", "lesions", "--target", "spiculated"]
    walk.run("init", "lesions", *named, "--population", "100", "--weights", "none")
    walk.folder = tmp_path / "lesions"
    (tmp_path / "key").write_bytes(bytes(range(32)))  # by it val has patients of both classes
    walk.run("data", "import", "data.yaml", "key=../key")
    checked = walk.run("data", "check", "data/lesions")
    walk.run("data", "phantoms", "--out", "data/phantoms", "--patients", "12")
    walk.run("train-gan", "generator.yaml", "kimg=0.064", "checkpoint_kimg=0.064")
    drawn = ["--out", "data/private-synthetic", "--per-class", "12"]
    walk.run("generate", "runs/private-generator", *drawn)
    short = [*SMALL, "seeds=[0]", "epsilons=[6, none]", "finetune.head.steps=20", "workers=1"]
    planned = walk.run("study", "study.yaml", *short, "--dry-run")
    walk.run("study", "study.yaml", *short)
    table = walk.run("report", "studies/lesions", "--format", "latex")
    figure = walk.run("report", "studies/lesions", "--format", "svg")
    walk.run("finetune", "classifier.yaml", *SMALL, "head.steps=20")
    promised = walk.run("privacy", "runs/classifier")
    walk.run("privacy", "--release", "runs/classifier", "to-share/classifier")

    received = Walk(site, tmp_path / "elsewhere")  # with the release, and nothing else of the walk
    received.folder.mkdir()
    shutil.copytree(tmp_path / "lesions" / "to-share", received.folder / "to-share")
    shutil.copytree(images / "smooth", received.folder / "new")
    received.run("predict", "to-share/classifier", "new", "--out", "scores.csv")

    assert len(walk.typed) + len(received.typed) == 14
    print(f"{len(walk.typed) + 1} commands, {walk.seconds + received.seconds:.0f} s, no stop")

    assert "lesions (real)" in checked
    assert "study will take about" in planned
    assert "epsilon = 6 for each patient" in promised
    assert "\\begin{tabular}" in table
    assert list((tmp_path / "lesions" / "studies" / "lesions").rglob("*.svg")), figure
    with open(received.folder / "scores.csv", encoding="utf-8", newline="") as file:
        scores = list(csv.DictReader(file))
    assert len(scores) == len(list((images / "smooth").iterdir()))
    _says_nothing_of_other_data(tmp_path / "lesions")


def _says_nothing_of_other_data(folder: Path) -> None:
    """What is about this study names its own data, and not the project's first."""
    study = folder / "studies" / "lesions"
    report = (study / "report.html").read_text(encoding="utf-8")
    assert "lesions: privacy and utility" in report
    cards = [*study.glob("*.md"), *(folder / "to-share" / "classifier").glob("*.md")]
    for text in (card.read_text(encoding="utf-8") for card in cards):
        assert "mammogra" not in text.lower()

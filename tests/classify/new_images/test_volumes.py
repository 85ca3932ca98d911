"""A classifier of volumes goes to whoever has scans: these are read as the set of its training."""

import csv
import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from made_up_volumes import write_series
from PIL import Image

import synthdp
from classify.features.input_form import InputForm
from classify.library.exported import TOLERANCE, write_classifier_file
from classify.model.folder import load_classifier
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import load_volumes, open_dataset
from synthdp.data.volumes.form import VolumeForm, form_differences
from synthdp.storage.files import read_json

FORM = "volumes={depth: 6, window: [-1000, 600], gaps: resample}"
SEES = "size_px: 16, precision: float32, axes: [0, 2], slices: 3"
NETWORK = f"backbone={{name: test_efficientnet_gn, {SEES}}}"
PROMISE = "privacy={epsilon: 8, delta: 1e-3, population: 20}"


def a_scan(number: int) -> np.ndarray[Any, Any]:
    """Noise, brighter in the middle for odd numbers; of as many slices as nobody else has."""
    rng = np.random.default_rng(number)
    values = rng.integers(-1000, 0, (7 + number % 3, 12, 10)).astype(np.int16)
    values[2:5, 4:8, 3:7] += 500 * (number % 2)
    return values


def write_scans(folder: Path, numbers: range) -> None:
    for number in numbers:
        split = "val" if number >= 6 else "train"
        name = f"{split}/{'lesion' if number % 2 else 'free'}/P{number}"
        write_series(folder / name, a_scan(number), person=number)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scans, their set, and two runs: a head on frozen features, and a network trained whole."""
    house = tmp_path_factory.mktemp("house")
    write_scans(house / "scans", range(8))
    targets = ["targets=[lesion]", "labels={lesion: [lesion], negative: [free]}"]
    words = ["--src", str(house / "scans"), "--out", str(house / "set"), "size_px=16", FORM]
    assert main(["data", "volumes", *words, *targets, r"patient_pattern=(P\d+)$"]) == EXIT_DONE
    for run, more in {
        "frozen": ["head={steps: 30}"],
        "whole": ["network={trainable_blocks: all, steps: 2, sampling_rate: 0.9}"],
    }.items():
        out = [f"data={house / 'set'}", f"out={house / run}"]
        assert main(["finetune", *out, NETWORK, PROMISE, *more]) == EXIT_DONE
        released = ["privacy", "--release", str(house / run), str(house / f"{run}-released")]
        assert main(released) == EXIT_DONE
    return house


def scores_in(table: Path) -> list[float]:
    with open(table, encoding="utf-8") as stream:
        return [float(row["score_lesion"]) for row in csv.DictReader(stream)]


@pytest.mark.parametrize("run", ["frozen", "whole"])
def test_scans_score_as_the_volumes_of_a_set_that_was_imported_from_them(
    house: Path, run: str, tmp_path: Path
) -> None:
    released = house / f"{run}-released"
    assert read_json(house / run / "model" / "settings.json")["input_form"]["size_px"] == 16
    predict = ["predict", str(released)]
    assert main([*predict, str(house / "set"), "--out", str(tmp_path / "set.csv")]) == EXIT_DONE
    assert main([*predict, str(house / "scans"), "--out", str(tmp_path / "raw.csv")]) == EXIT_DONE
    with open(tmp_path / "raw.csv", encoding="utf-8") as stream:
        names = [row["image"] for row in csv.DictReader(stream)]
    assert names == sorted(
        path.parent.relative_to(house / "scans").as_posix()
        for path in (house / "scans").rglob("slice000.dcm")
    )
    of_set = scores_in(tmp_path / "set.csv")
    assert sorted(of_set) == sorted(scores_in(tmp_path / "raw.csv"))
    # one series by its own folder, one as an array beside nothing else, and arrays in Python
    one = house / "scans" / "val" / "free" / "P6"
    assert main([*predict, str(one), "--out", str(tmp_path / "one.csv")]) == EXIT_DONE
    assert scores_in(tmp_path / "one.csv")[0] in of_set
    images, _, _ = synthdp.open_dataset(house / "set").arrays()
    classifier = synthdp.Classifier.load(released)
    assert np.allclose(classifier.predict_proba(images)[:, 0], of_set, atol=1e-6)
    with pytest.raises(synthdp.InputError, match=r"number 1 has shape \(5, 16, 16\)"):
        classifier.predict_proba([images[0], images[1][:5]])


def test_what_is_wrong_with_scans_is_told_by_number(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "new" / "b-good", a_scan(1), person=1)
    write_series(tmp_path / "new" / "a-leaning", a_scan(2), person=2, lean_mm=2.0)
    predict = ["predict", str(house / "frozen-released")]
    assert main([*predict, str(tmp_path / "new"), "--out", str(tmp_path / "s.csv")]) == 2
    said = capsys.readouterr().err
    assert re.search(r"volume 1: .*lean", said)
    assert "a-leaning" not in said
    assert not (tmp_path / "s.csv").exists()
    # what is told of these scans leaves the rest as in training
    assert main([*predict, str(tmp_path / "new"), "--out", str(tmp_path / "s.csv"),
                 "volumes.tilt=resample"]) == EXIT_DONE  # fmt: skip
    whole = ["--out", str(tmp_path / "w.csv"), FORM.replace("}", ", tilt: resample}")]
    assert main([*predict, str(tmp_path / "new"), *whole]) == EXIT_DONE
    assert scores_in(tmp_path / "s.csv") == scores_in(tmp_path / "w.csv")
    (tmp_path / "s.csv").unlink()
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "flat.png")
    (tmp_path / "flat").mkdir()
    shutil.move(tmp_path / "flat.png", tmp_path / "flat" / "flat.png")
    for folder, words in {"flat": "holds no volume", "nothing": "there is no such folder"}.items():
        assert main([*predict, str(tmp_path / folder), "--out", str(tmp_path / "s.csv")]) == 2
        assert words in capsys.readouterr().err
    drawn = tmp_path / "drawn"
    shutil.copytree(house / "frozen-released", drawn)
    settings = drawn / "model" / "settings.json"
    text = settings.read_text()
    settings.write_text(re.sub(r',\s*"input_form": \{.*?\n  \}', "", text, flags=re.DOTALL))
    assert settings.read_text() != text
    raw = ["predict", str(drawn), str(house / "scans"), "--out", str(tmp_path / "t.csv")]
    assert main(raw) == EXIT_BAD_INPUT
    assert "does not say how its volumes were made of scans" in capsys.readouterr().err
    assert main([*raw, FORM, "size_px=16"]) == EXIT_DONE
    assert main([*predict, str(house / "scans"), "--out", str(tmp_path / "u.csv")]) == EXIT_DONE
    assert scores_in(tmp_path / "t.csv") == scores_in(tmp_path / "u.csv")


def test_volumes_are_no_images_of_a_flat_classifier_nor_the_other_way_round(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = ["--out", str(tmp_path / "flat"), "subject=chest", "targets=[effusion]"]
    assert main(["data", "phantoms", *flat, "--patients", "8", "size_px=16"]) == EXIT_DONE
    network = "backbone={name: test_efficientnet_gn, size_px: 32}"
    plain = ["privacy.epsilon=none", "head={steps: 2}"]
    run = ["finetune", f"data={tmp_path / 'flat'}", f"out={tmp_path / 'run'}", network, *plain]
    assert main(run) == EXIT_DONE
    out = ["--out", str(tmp_path / "out")]
    for volumes in (house / "set", house / "set" / "images"):
        assert main(["predict", str(tmp_path / "run"), str(volumes), *out]) == EXIT_BAD_INPUT
        assert "holds volumes of 6 slices of 16 x 16 px, and the run" in capsys.readouterr().err
    for images in (house / "frozen", house / "whole"):
        assert main(["predict", str(images), str(tmp_path / "flat"), *out]) == EXIT_BAD_INPUT
        assert "holds flat images, and the run is a classifier of vol" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_set_and_a_flat_classifier_take_no_form_of_volumes(
    house: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "s.csv"), FORM]
    assert main(["predict", str(house / "frozen"), str(house / "set"), *out]) == EXIT_BAD_INPUT
    assert "is a data set, whose volumes have their form" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "said"),
    [("depth: 9, window: [-1000, 600]", "depth 9 and not 6"),
     ("depth: 6, window: [0, 80]", r"volumes.window [0, 80] and not [-1000, 600]"),
     ("depth: 6", "volumes.window none and not [-1000, 600]"),
     ("depth: 6, window: [-1000, 600], spacing_mm: 4", "volumes.spacing_mm [4, 4, 4] and not none"),
     ("depth: 6, window: [-1000, 600], orientation: ASL", "volumes.orientation ASL and not SPL"),
    ],
)  # fmt: skip
def test_volumes_of_another_form_are_refused(
    house: Path, form: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(house / "set", other)
    info = json.loads((other / "dataset.json").read_text())
    changed = VolumeForm.model_validate(yaml.safe_load(f"{{{form}, gaps: resample}}"))
    described = {"depth": changed.depth, "volumes": changed.model_dump(mode="json")}
    (other / "dataset.json").write_text(json.dumps({**info, **described}))
    run, out = str(house / "frozen"), tmp_path / "out"
    evaluate = ["evaluate", run, str(other), "--split", "val", "--out", str(out)]
    for typed in (
        evaluate,
        ["predict", run, str(other), "--out", str(out)],
        ["calibrate", run, str(other), "--out", str(out)],
        ["study", f"data={house / 'set'}", f"out={out}", NETWORK, "strategies=[real_only]",
         "epsilons=[none]", "seeds=[0]", f"evaluate_on=[{{data: {other}, split: val}}]"],
    ):  # fmt: skip
        assert main(typed) == EXIT_BAD_INPUT, typed
        assert said in capsys.readouterr().err, typed
        assert not out.exists(), typed
    if changed.depth == 6:  # a file of another depth would be of another size
        assert main([*evaluate, "other_form=true", "redraws=20"]) == EXIT_DONE


def test_how_files_were_mended_and_what_nobody_knows_is_no_other_form() -> None:
    scans = VolumeForm(depth=6, window=(0.0, 80.0))
    known = InputForm(size_px=16, depth=6, volumes=scans)
    mended = scans.model_copy(update={"gaps": "resample", "tilt": "resample"})
    for other in (mended, None):
        assert not list(form_differences(known.model_copy(update={"volumes": other}), known))
    assert not list(form_differences(InputForm(size_px=32), known))
    assert not list(form_differences(InputForm(size_px=32), InputForm(size_px=16)))


@pytest.mark.parametrize("run", ["frozen", "whole"])
def test_the_code_of_the_card_runs_as_written(
    house: Path, run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(house / f"{run}-released", tmp_path / "received")
    monkeypatch.chdir(tmp_path / "received")
    text = Path("README.md").read_text()
    (shell,) = re.findall(r"^```sh\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    install, *lines = shell.splitlines()
    assert install.startswith('pip install "synthdp[volumes]>=')
    for line in lines:
        assert main(line.split()[1:]) == EXIT_DONE, line
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    Path("use.py").write_text(code)
    capsys.readouterr()
    runpy.run_path("use.py")
    assert "('lesion',) [[" in capsys.readouterr().out
    assert Path("scores.csv").read_text() == Path("scores-again.csv").read_text()
    assert re.search(r"slices of 16 px, .*window \[-1000.0, 600.0\].*gaps resample", text)


@pytest.mark.parametrize("run", ["frozen", "whole"])
def test_networks_of_volumes_are_one_file(house: Path, run: str, tmp_path: Path) -> None:
    classifier = load_classifier(house / run)
    assert write_classifier_file(classifier, tmp_path, "torch-export", {}) <= TOLERANCE
    about = read_json(tmp_path / "export.json")
    assert about["inputs"][0]["shape"] == ["batch", 6, 16, 16]
    assert about["input_form"]["volumes"]["window"] == [-1000, 600]  # a receiver has no other word
    assert "growing to the head, the back and the patient's left" in about["inputs"][0]["meaning"]
    assert "up to -1000 are 0 and from 600 on 1" in about["inputs"][0]["meaning"]
    dataset = open_dataset(house / "set")
    volumes = load_volumes(dataset, dataset.rows)
    module = torch.export.load(tmp_path / "model.pt2").module()
    given = module(torch.from_numpy((volumes + 1) / 2)).detach().numpy()
    expected = synthdp.Classifier.load(house / run).predict_proba((volumes + 1) / 2)
    assert np.abs(given - expected).max() <= TOLERANCE

"""The officer's walk: dossier and release of a model and of a study, searched, signed, and used.

Everything is typed as docs/officer.md says. Nothing that was read in the hospital may be found in
what leaves: ids, names of files and folders, counts, exact scores, keys; and what leaves scores new
images on a machine that has synthdp alone.
"""

import base64
import csv
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_install import Walk, unpacked_wheel
from PIL import Image

from synthdp.cli import EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.data.identity import keyed_digest
from synthdp.data.phantoms.phantoms import draw_patients
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.storage.files import read_json

WEIGHTS = Path(os.environ.get("SYNTHDP_WEIGHTS", "../shared/weights"))
NETWORKS = """\
backbone:
  name: tf_efficientnet_lite0
  weights: tf_efficientnet_lite0.fp16.safetensors
  sha256: d3ff5e959742f6d33629e15ad11c39b511cf681cd730ed2f33a2ca9f9d7c41f3
  size_px: 64
  layers: [4]
  pools: [centre]
beside:
  - name: vit_small_patch14_dinov2
    weights: vit_small_patch14_dinov2.fp16.safetensors
    sha256: 46b8f90f9ef25e6c94120dbd5f0ec5082ef76b264bf044b4340ff69c4b9f1278
    size_px: 56
    layers: [6]
"""
RANDOM = "backbone: {name: test_vit, size_px: 32}\n"
SETTINGS = """\
privacy: {{epsilon: 6, delta: 1e-3, population: 997}}
head: {{steps: 40}}
{networks}"""
STUDY = """\
title: Masses of one clinic
data: clinic
out: study
strategies: [real_only]
epsilons: [3, none]
seeds: [0]
evaluate_on: [{data: clinic, split: val}]
privacy: {delta: 1e-3, population: 997}
backbone: {name: test_vit, size_px: 32}
finetune: {head: {steps: 40}}
"""


def command(line: str) -> None:
    """One line as an officer types it."""
    program, *words = shlex.split(line)
    assert program == "synthdp"
    assert main(words) == EXIT_DONE, line


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A hospital with a model, a study, and scores of both; its commands run in its folder."""
    house = tmp_path_factory.mktemp("st-marys-hospital")
    draw = PhantomSettings(out=house, patients=71, size_px=64, seed=3)
    for number, patient in enumerate(draw_patients(draw)):
        for view, patch in enumerate(patient.patches):
            folder = house / "patches" / ("malignant" if patch.malignant else "benign")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(patch.pixels).save(folder / f"mueller{number:03d}x_{view}.png")
    networks = NETWORKS if WEIGHTS.is_dir() else RANDOM
    (house / "model.yaml").write_text(SETTINGS.format(networks=networks))
    (house / "study.yaml").write_text(STUDY)
    (house / "key").write_bytes(bytes(range(32)))  # the same counts whenever it runs
    lines = (
        "synthdp data patches --src patches --out clinic --name clinic "
        r"patient_pattern='(mueller\d+)x' val_fraction=0.3 size_px=64 key=key population=997",
        "synthdp finetune model.yaml data=clinic out=runs/model",
        "synthdp evaluate runs/model clinic --split val --out scores/model --auroc-epsilon 1 "
        "--population 997",
        "synthdp study study.yaml",
        "synthdp privacy --dossier runs/model officer/model --evidence scores/model",
        "synthdp privacy --dossier study officer/study",
        "synthdp privacy --release runs/model share/model --evidence scores/model "
        "--licence CC-BY-4.0",
        "synthdp privacy --release study share/study --include models",
        "synthdp privacy --check share/model",
        "synthdp privacy --check share/study",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHDP_WEIGHTS", str(WEIGHTS.resolve()))
        patch.chdir(house)
        for line in lines:
            command(line)
        yield house


def counts_of(house: Path) -> set[str]:
    """How many patients and images there are of each split and class, where that is telling."""
    rows = open_dataset(house / "clinic").rows
    parts = [rows, *([row for row in rows if row.split == split] for split in ("train", "val"))]
    parts += [
        [row for row in part if row.targets == (label,)] for part in parts for label in (0, 1)
    ]
    numbers = {len(part) for part in parts} | {len({row.patient_id for row in p}) for p in parts}
    return {str(number) for number in numbers}


def exact_scores(house: Path) -> tuple[set[str], set[tuple[str, ...]]]:
    """Every exact figure of patients with all its digits, and each interval as texts show it.

    A figure of three digits alone is not searched: what is drawn with noise may be the same number.
    """
    figures: set[float] = set()
    intervals: set[tuple[str, ...]] = set()
    for path in (*house.glob("scores/*/metrics.json"), *house.glob("study/evaluations/*/*.json")):
        for interval in _intervals(read_json(path)):
            figures |= {*interval}
            if len({*interval}) == len(interval):
                intervals.add(tuple(f"{one:.3f}"[1:] for one in interval))
    with open(house / "study" / "results.csv", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            figures |= {float(v) for k, v in row.items() if v and k.startswith(("au", "brier"))}
    long = {one for one in figures if abs(one * 1e4 - round(one * 1e4)) > 1e-3}
    return {f"{one:.6f}"[1:] for one in long} | {repr(one)[1:] for one in long}, intervals


def _intervals(content: object) -> Iterator[tuple[float, ...]]:
    if isinstance(content, dict):
        ends = tuple(content.get(key) for key in ("value", "ci_low", "ci_high"))
        if all(isinstance(end, float) for end in ends):
            yield ends
        for value in content.values():
            yield from _intervals(value)


def secrets_of(house: Path) -> set[bytes]:
    """Ids, names of files, folders above the data, keys and fingerprints."""
    dataset = open_dataset(house / "clinic")
    words = {row.patient_id for row in dataset.rows} | {row.image for row in dataset.rows}
    words |= {keyed_digest(dataset, dataset.split(split)) for split in ("train", "val", "all")}
    words |= {"mueller", "st-marys", str(house)}
    keys = [path.read_bytes() for path in dataset.private.glob("key*")]
    assert keys
    return {word.encode() for word in words} | {*keys, *(key.hex().encode() for key in keys)}


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """Every file, and what a page holds in base64."""
    for folder in folders:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            content = path.read_bytes()
            yield f"{folder.name}/{path.relative_to(folder)}", content
            for part in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content):
                yield f"{folder.name}/{path.name}, embedded", base64.b64decode(part)


@pytest.mark.slow
def test_nothing_of_a_patient_is_found_in_dossiers_and_releases(hospital: Path) -> None:
    secrets, counts = secrets_of(hospital), counts_of(hospital)
    scores, intervals = exact_scores(hospital)
    assert len(secrets) > 100
    assert len(scores) > 10
    assert len(intervals) > 5
    searched = 0
    for folder in ("officer/model", "officer/study", "share/model", "share/study"):
        for name, content in files(hospital / folder):
            searched += 1
            assert not [one for one in secrets if one in content], name
            if name.endswith(".safetensors"):
                continue
            text = re.sub(r"<style>.*?</style>", "", content.decode(errors="replace"), flags=re.S)
            shown = {*re.findall(r"(?<!\d)0?(\.\d+)", text)}  # 1.672 is no score
            assert not scores & shown, name
            in_a_row = re.findall(r"(?=(\.\d{3})\D{1,12}(\.\d{3})\D{1,12}(\.\d{3})(?!\d))", text)
            assert not intervals & {*in_a_row}, name
            if not name.endswith("status.json"):  # versions of packages
                words = re.sub(r"(?<=[\d.])[.:-]\d|\d[.:-](?=\d)|arXiv \S+", "", text)
                of_patients = re.findall(r"(?<![\w.])(\d+) (?:patients|images)", words)
                assert not counts & {*of_patients}, name
                cells = re.findall(r"(?<=[,>])(\d+)(?=[,<\n])", text)
                assert not counts & {*cells} - {"0", "1", "2", "3", "6"}, name
    assert searched > 25


@pytest.mark.slow
def test_what_is_signed_reads_as_what_leaves(
    hospital: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The statement of the folder is that of the dossier; the study's counts its private row."""
    command("synthdp privacy share/model")
    of_model = capsys.readouterr().out
    command("synthdp privacy share/study")
    of_study = capsys.readouterr().out
    assert re.match(r"\*\*Privacy of this classifier: epsilon = 6\.\d+ for each patient", of_model)
    assert "a noisy AUROC of the val split" in of_model
    assert "chosen rows alone published together: epsilon = 3 for each patient" in of_study
    assert "have left the house" in of_study
    command("synthdp privacy clinic")
    of_set = capsys.readouterr().out
    assert "epsilon = inf" in of_set  # the study made a model without privacy, which stayed
    assert re.search(r"All that left, together:\*\* epsilon [67]\.", of_set)
    assert "Only made, in no folder that left:** 1 of 4 releases" in of_set
    command("synthdp privacy --withdraw clinic share/study --because 'a wrong title'")
    assert "WITHDRAWN" in capsys.readouterr().out


@pytest.mark.slow
def test_a_release_scores_where_synthdp_alone_is_installed(hospital: Path, tmp_path: Path) -> None:
    """Its card's own code, in a folder that was sent, on a machine that knows nothing else."""
    received = tmp_path / "received"
    (hospital / "share" / "model").rename(received)
    receiver = Walk(unpacked_wheel(tmp_path / "wheel"), received)
    for kind, code in re.findall(
        r"^```(sh|python)\n(.*?)^```$", (received / "README.md").read_text(), re.DOTALL | re.M
    ):
        if kind == "sh":
            for line in code.strip().splitlines():
                if not line.startswith("pip "):
                    program, *words = shlex.split(line)
                    assert program == "synthdp", line
                    receiver.run(*words)
        else:
            (tmp_path / "code.py").write_text(code)
            receiver.run_file(tmp_path / "code.py")
    there = (received / "scores.csv").read_bytes()
    assert there == (received / "scores-again.csv").read_bytes()
    command(f"synthdp predict runs/model {received / 'trial' / 'images'} --out {tmp_path}/here.csv")
    assert (tmp_path / "here.csv").read_bytes() == there
    assert there.count(b"\n") > 8

"""Neighbours before import, of a private generator of several findings."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from gan.methods.examples import protected_examples
from gan.plans.train import gan_plan
from gan.private.embedding import patient_rows, public_features
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.images import encode_png
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.phantoms.phantoms import PhantomSettings, run_phantoms
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger import run_ledger as ledgers
from synthdp.privacy.noisy_sum import noise
from synthdp.releases.release import release
from synthdp.runs import folder as runs
from synthdp.storage.files import sha256_file
from tests.releases.test_release import ID, PRIVACY, RANDOM, files_in, named_by

FINDINGS = ("effusion", "edema", "mass")
PATIENTS, SIDE_PX = 24, 32
#: First in every order, with the most images, the only one with all findings, and unknown ones.
LOUD = "0 Loud, Mr"


def radiographs(src: Path, *, gone: str = "") -> Path:
    """Patients' files and their table, perhaps without one of them."""
    src.mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = [["file", "patient_id", *FINDINGS]]
    for number, patient in enumerate([LOUD, *(f"p{one}" for one in range(PATIENTS - 1))]):
        for image in range(5 if patient == LOUD else 1 + number % 2):
            pixels = rng.integers(0, 256, (SIDE_PX, SIDE_PX), dtype=np.uint8)
            cells = [str(int(one)) for one in rng.random(3) < 0.3]
            if patient == LOUD:
                cells = [["1", "1", "1"], ["", "1", ""], ["", "", ""]][image % 3]
            if patient != gone:
                (src / f"{number}-{image}.png").write_bytes(encode_png(pixels))
                lines.append([f"{number}-{image}.png", patient, *cells])
    with open(src / "metadata.csv", "w", newline="") as stream:
        csv.writer(stream).writerows(lines)
    return src


def imported(world: Path, gone: str = "") -> Dataset:
    src = radiographs(world / "src", gone=gone)
    (world / "the.key").write_bytes(bytes(range(32)))
    values = {"src": src, "out": world / "clinic", "name": "clinic", "size_px": SIDE_PX,
              "split": "train", "val_fraction": None, "key": world / "the.key",
              "targets": FINDINGS}  # fmt: skip
    return open_dataset(run_patches(PatchesSettings.model_validate(values)))


@pytest.fixture(scope="module")
def public(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("public") / "phantoms"
    return run_phantoms(PhantomSettings(out=out, patients=12, size_px=SIDE_PX, seed=9))


def settings_of(data: Path, out: Path, public: Path) -> TrainGanSettings:
    values = {
        "data": data, "out": out, "privacy": PRIVACY, "method": "embedding",
        "embedding": {"features": RANDOM, "public": public, "components": 5},
        "findings": {"effusion": 0.1, "edema": 0.05, "mass": 0.3},
        "size_px": SIDE_PX, "channels": (8, 8, 8), "z_dim": 16, "batch": 8, "kimg": 0.02,
    }  # fmt: skip
    return TrainGanSettings.model_validate(values)


def rows_by_patient(data: Dataset, settings: TrainGanSettings) -> dict[str, torch.Tensor]:
    assert settings.embedding is not None
    plan = gan_plan(settings)
    examples, units = protected_examples(plan, settings.size_px)
    names = sorted(set(plan.units))
    features = public_features(settings.embedding, settings.size_px, torch.device("cpu"))
    rows = patient_rows(features, examples, units, len(names), plan.public_shares)
    return dict(zip(names, rows, strict=True))


def test_nobody_elses_vector_moves_and_the_sum_by_one_at_most(public: Path, tmp_path: Path) -> None:
    brought = []
    for name, gone in (("with", ""), ("without", LOUD)):
        world = imported(tmp_path / name, gone)
        brought.append(rows_by_patient(world, settings_of(world.root, tmp_path / "run", public)))
    everybody, fewer = brought
    (own,) = everybody.keys() - fewer.keys()
    assert all(torch.equal(everybody[one], row) for one, row in fewer.items())  # to the last bit
    assert 0.4 < float(everybody[own].double().norm()) <= 1 + 1e-6


def test_what_leaves_differs_in_the_noisy_weights_alone(
    public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "new_release_id", lambda: ID)
    monkeypatch.setattr(ledgers, "new_token", lambda: ID)
    monkeypatch.setattr(noise, "new_key", lambda: b"k" * KEY_BYTES)
    left = []
    for name, gone in (("with", ""), ("without", LOUD)):
        world = imported(tmp_path / name, gone)
        shutil.rmtree(tmp_path / name / "src")
        left.append(tmp_path / name / "released")
        release(run_train_gan(settings_of(world.root, tmp_path / name / "run", public)), left[-1])
    assert files_in(left[0]) == files_in(left[1])
    weights = next(one for one in files_in(left[0]) if one.endswith(".safetensors"))
    assert (left[0] / weights).stat().st_size == (left[1] / weights).stat().st_size
    for one in files_in(left[0]) - {weights}:
        texts = [(folder / one).read_text() for folder in left]
        if one in ("model/settings.json", "release.json"):  # hashes are of what leaves anyway
            digests = [{sha256_file(folder / name): name for name in files_in(folder)}
                       for folder in left]  # fmt: skip
            texts = [named_by(text, own) for text, own in zip(texts, digests, strict=True)]
        assert texts[0] == texts[1], one

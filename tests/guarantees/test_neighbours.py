"""Neighbours: the same data with and without one patient, from a step of training to what leaves.

Noise and samples are held fixed, so that whatever else differs would tell of the patient.
"""

import shutil
from pathlib import Path

import pytest
from made_up import begin_record, head_examples, without_head_patient, without_patient
from torch import Tensor

from classify.pretrain import run_pretrain
from classify.settings.pretrain import PretrainSettings
from gan.train import run_train_gan
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger import run_ledger as ledgers
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.releases.release import release
from synthdp.runs import folder as runs
from synthdp.storage.files import sha256_file
from tests.classify.head import test_train as head
from tests.classify.network import test_train as network
from tests.releases.test_release import (
    ID,
    RANDOM,
    UNPROTECTED,
    files_in,
    finetuned,
    gan_settings,
    named_by,
)

Draw = tuple[tuple[int, ...], float, int]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Draw]:
    """Shape, scale and stream of each Gaussian that is drawn, in order."""
    draws: list[Draw] = []
    gaussian = NoiseSource.gaussian

    def recorded(
        source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int
    ) -> Tensor:
        draws.append((shape, scale, stream))
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", recorded)
    return draws


def test_a_head_draws_the_same_noise_and_writes_the_same_ledger(
    drawn: list[Draw], tmp_path: Path
) -> None:
    head.train(tmp_path / "a", head_examples())
    first, ledger = list(drawn), (tmp_path / "a" / "ledger.jsonl").read_text().splitlines()[1:]
    drawn.clear()
    head.train(tmp_path / "b", without_head_patient(head_examples(), 3))
    assert drawn == first
    assert len(drawn) == 30
    assert (tmp_path / "b" / "ledger.jsonl").read_text().splitlines()[1:] == ledger


def test_a_network_has_the_same_control_flow(drawn: list[Draw], tmp_path: Path) -> None:
    released: dict[str, list[Tensor]] = {"a": [], "b": []}
    whole = network.examples()
    network.train(tmp_path / "a", whole, lambda step, w, out: released["a"].append(out))
    first = list(drawn)
    drawn.clear()
    neighbour = without_patient(network.examples(), 3)
    network.train(tmp_path / "b", neighbour, lambda step, w, out: released["b"].append(out))
    assert drawn == first
    assert [stream for _, _, stream in drawn] == list(range(network.RECIPE.steps))
    moved = float((released["a"][0] - released["b"][0]).norm()) * network.MECHANISM.normaliser
    assert (
        moved <= network.CLIP + 1e-5
    )  # float32 of what is released; the first step's weights and noise are the same
    events = [(tmp_path / run / "ledger.jsonl").read_text().count("reserve") for run in "ab"]
    assert events[0] == events[1] == network.RECIPE.steps // network.RECIPE.block_steps


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_phantoms(
        PhantomSettings(
            out=tmp_path_factory.mktemp("ward") / "clinic",
            patients=61,
            size_px=32,
            name="clinic",
            as_real=True,
        )
    )


def without_one_patient(clinic: Path, out: Path, gone: str) -> Path:
    dataset = open_dataset(clinic)
    with create_dataset(out, dataset.info) as writer:
        for row in (row for row in dataset.rows if row.patient_id != gone):
            writer.add(
                decode_pixels(clinic / row.image),
                patient_id=row.patient_id,
                split=row.split,
                targets=row.targets,
                attributes=row.attributes,
            )
    return out


def made_by(stage: str, data: Path, out: Path) -> Path:
    if stage == "finetune":
        return finetuned(data, out)
    if stage == "pretrain":
        return run_pretrain(
            PretrainSettings(data=data, out=out, backbone=RANDOM, trainable_blocks=0)
        )
    return run_train_gan(gan_settings(data, out))


@pytest.mark.parametrize("stage", ["finetune", "pretrain", "train-gan"])
def test_neighbouring_data_release_the_same_but_for_the_weights(
    stage: str, clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "new_release_id", lambda: ID)
    monkeypatch.setattr(ledgers, "new_token", lambda: ID)
    monkeypatch.setattr(noise, "new_key", lambda: b"k" * KEY_BYTES)
    gone = open_dataset(clinic).split("train")[0].patient_id
    left: list[Path] = []
    for world in ("with", "without"):
        data = tmp_path / world / "clinic"
        if world == "with":
            shutil.copytree(clinic, data)
            begin_record(data)
        else:
            without_one_patient(clinic, data, gone)
        left.append(tmp_path / world / "released")
        release(made_by(stage, data, tmp_path / world / "run"), left[-1], UNPROTECTED)
    assert files_in(left[0]) == files_in(left[1])
    weights = next(name for name in files_in(left[0]) if name.endswith(".safetensors"))
    assert (left[0] / weights).read_bytes() != (left[1] / weights).read_bytes()
    for name in files_in(left[0]) - {weights}:
        texts = [(folder / name).read_text() for folder in left]
        if name in ("model/settings.json", "release.json"):  # hashes are of what leaves anyway
            digests = [{sha256_file(folder / one): one for one in files_in(folder)}
                       for folder in left]  # fmt: skip
            texts = [named_by(text, own) for text, own in zip(texts, digests, strict=True)]
        assert texts[0] == texts[1], name

"""What a hook gets of classifiers' trainings: nothing beyond their promise."""

from pathlib import Path

import numpy as np
import pytest

from classify.finetune import run_finetune
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.lineage import Lineage, Release
from synthdp.runs.tracking import track

BACKBONE = FeatureSettings(name="test_vit", size_px=32)
NETWORK = {"trainable_blocks": 1, "steps": 4, "sampling_rate": 0.5, "block_steps": 2}
Line = tuple[int, dict[str, float]]


def images(out: Path, grey: int, **info: object) -> Path:
    generator = np.random.default_rng(grey)
    with create_dataset(
        out, DatasetInfo.model_validate({"name": "clinic", "size_px": 32, **info})
    ) as writer:
        for number in range(16):
            pixels = generator.normal(grey, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{number}", split="train", targets=[number % 2])
    return out


@pytest.mark.parametrize("epsilon", [6.0, None])
@pytest.mark.parametrize("network", [False, True])
def test_finetuning_tells_how_many_steps_are_spent_whoever_the_patients_are(
    epsilon: float | None, network: bool, tmp_path: Path
) -> None:
    told: list[list[Line]] = []
    for grey in (60, 190):
        values: dict[str, object] = {
            "data": images(tmp_path / f"set-{grey}", grey, kind="real"),
            "out": tmp_path / f"run-{grey}",
            "backbone": BACKBONE,
            "privacy": {"epsilon": epsilon, "delta": 1e-3, "population": 50},
        }
        if network:
            values |= {"network": NETWORK if epsilon else {"trainable_blocks": 1, "steps": 2}}
        lines: list[Line] = []
        with track(lambda step, metrics, lines=lines: lines.append((step, metrics))):
            run_finetune(FinetuneSettings.model_validate(values))
        told.append(lines)
    assert told[0] == told[1]
    assert {name for _, metrics in told[0] for name in metrics} <= {"finetune/steps_spent"}
    assert bool(told[0]) == (epsilon is not None)


@pytest.mark.parametrize("protected", [True, False])
def test_pretraining_tells_its_loss_where_no_patient_was_met_without_noise(
    protected: bool, tmp_path: Path
) -> None:
    mu = 0.5 if protected else float("inf")
    lineage = Lineage(releases=(Release(stage="train-gan", data="clinic", mu=mu),))
    data = images(tmp_path / "set", 60, kind="synthetic", lineage=lineage, delta=1e-5)
    lines: list[Line] = []
    with track(lambda step, metrics: lines.append((step, metrics))):
        run_pretrain(
            PretrainSettings(
                data=data, out=tmp_path / "run", backbone=BACKBONE, trainable_blocks=1, epochs=2
            )
        )
    names = {name.removeprefix("pretrain/") for _, metrics in lines for name in metrics}
    assert names == ({"epoch", "loss", "seconds"} if protected else {"epoch"})

"""What a hook gets of generators' trainings on patients: nothing beyond their promise."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.runs.tracking import track

Line = tuple[int, dict[str, float]]
TinySettings = Callable[..., TrainGanSettings]
NETWORK = {"name": "test_efficientnet", "size_px": 32}


def patients(out: Path, grey: int) -> Path:
    """Sets of as many patients whose images have nothing in common."""
    generator = np.random.default_rng(grey)
    info = DatasetInfo(name="clinic", kind="phantom", size_px=32, as_real=True)
    with create_dataset(out, info) as writer:
        for number in range(12):
            pixels = generator.normal(grey, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{number}", split="train", targets=[number % 2])
    return out


def told(settings: TrainGanSettings) -> list[Line]:
    lines: list[Line] = []
    with track(lambda step, metrics: lines.append((step, metrics))):
        run_train_gan(settings)
    return lines


def names_in(lines: list[Line]) -> set[str]:
    return {name.removeprefix("train-gan/") for _, metrics in lines for name in metrics}


def test_without_a_promise_only_the_way_is_told(
    tiny_settings: TinySettings, tmp_path: Path
) -> None:
    dark, light = (
        told(tiny_settings(patients(tmp_path / f"set-{grey}", grey), tmp_path / f"run-{grey}"))
        for grey in (60, 190)
    )
    assert dark
    assert dark == light  # whoever the patients are
    assert names_in(dark) == {"step", "kimg"}


@pytest.mark.parametrize("epsilon", [6.0, None])
def test_an_embedding_tells_the_gap_to_noisy_means_alone(
    epsilon: float | None, tiny_settings: TinySettings, discs: Path, tmp_path: Path
) -> None:
    settings = tiny_settings(
        patients(tmp_path / "set", 60),
        tmp_path / "run",
        method="embedding",
        embedding={"features": NETWORK, "public": discs},
        privacy={"epsilon": epsilon, "population": 20, "delta": 1e-3},
    )
    expected = {"step", "gap"} if epsilon else {"step"}
    assert names_in(told(settings)) == expected


def test_a_private_discriminator_tells_steps_and_the_generators_loss_alone(
    tiny_settings: TinySettings, tmp_path: Path
) -> None:
    recipe: dict[str, Any] = {
        "steps": 4,
        "block_steps": 2,
        "channels": (8, 8, 8),
        "fakes": 8,
        "discriminator_steps_per_generator_step": 1,
    }
    settings = tiny_settings(
        patients(tmp_path / "set", 60),
        tmp_path / "run",
        method="dp_discriminator",
        loss="non_saturating",
        dp_discriminator=recipe,
        privacy={"epsilon": 6.0, "population": 20, "delta": 1e-3},
    )
    names = names_in(told(settings))
    assert {"step", "loss_generator"} <= names <= {"step", "generator_steps", "loss_generator"}


def test_a_training_on_phantoms_tells_everything(
    tiny_settings: TinySettings, discs: Path, tmp_path: Path
) -> None:
    assert {"loss_generator", "loss_discriminator"} <= names_in(
        told(tiny_settings(discs, tmp_path / "run"))
    )

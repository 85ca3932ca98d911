from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import give_even_key

from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset

TINY = {"size_px": 32, "channels": (16, 16, 8), "z_dim": 16, "batch": 8}


def discs_at(out: Path, *, splits: tuple[str, ...] = ("train", "val"), **info: Any) -> Path:
    """Discs (malignant larger) on noise; the train split is dark, every other one white."""
    rng = np.random.default_rng(0)
    described = DatasetInfo(**{"name": "discs", "kind": "phantom", "size_px": 32, **info})
    rows, columns = np.mgrid[:32, :32] - 15.5
    with create_dataset(out, described) as writer:
        for split in splits:
            for number in range(12):
                label = number % 2
                disc = np.hypot(rows, columns) < 5 + 4 * label
                grey = 60 + 40 * disc + rng.normal(0, 5, (32, 32))
                writer.add(
                    np.clip(grey if split == "train" else grey + 255, 0, 255).astype(np.uint8),
                    patient_id=f"{split}-{number}",
                    split=split,
                    targets=[label] * len(described.targets),
                )
    return out


def settings_of(data: Path, out: Path, **changes: Any) -> TrainGanSettings:
    return TrainGanSettings(**{**TINY, "data": data, "out": out, "kimg": 0.08, **changes})


@pytest.fixture(scope="session")
def make_set() -> Callable[..., Path]:
    return discs_at


@pytest.fixture(scope="session")
def tiny_settings() -> Callable[..., TrainGanSettings]:
    return settings_of


@pytest.fixture(scope="session")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return discs_at(tmp_path_factory.mktemp("sets") / "discs")


@pytest.fixture(scope="session")
def discs_as_real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return give_even_key(discs_at(tmp_path_factory.mktemp("sets") / "patients", as_real=True))


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Path], Path]:
    made: dict[Path, Path] = {}

    def run_on(data: Path) -> Path:
        if data not in made:
            made[data] = run_train_gan(settings_of(data, tmp_path_factory.mktemp("run") / "gan"))
        return made[data]

    return run_on

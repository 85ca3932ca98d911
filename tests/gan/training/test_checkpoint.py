import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.errors import InputError

TinySettings = Callable[..., TrainGanSettings]


def test_metrics_and_grids_on_request(
    discs: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import (  # noqa: PLC0415
        EventAccumulator,
    )

    run = run_train_gan(tiny_settings(discs, tmp_path / "run", tensorboard=True))
    found = EventAccumulator(str(run / "private" / "tensorboard")).Reload()
    assert "loss_generator" in found.Tags()["scalars"]
    assert [event.step for event in found.Scalars("loss_generator")] == [10]
    assert found.Tags()["images"] == ["samples"]


def test_a_missing_package_is_named(
    discs: Path, tmp_path: Path, tiny_settings: TinySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"synthdp\[tensorboard\]"):
        run_train_gan(tiny_settings(discs, tmp_path / "run", tensorboard=True))
    plain = run_train_gan(tiny_settings(discs, tmp_path / "plain", kimg=0.008))
    assert not (plain / "private" / "tensorboard").exists()

"""A generator's one release: what can't be read is refused before it is on record."""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from gan.methods.release import SUMS_FILE
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger.set_record import recorded_releases

Nets = Mapping[str, Any]
CONVOLUTIONS: Nets = {"name": "test_efficientnet", "size_px": 32}
TRANSFORMER: Nets = {"name": "test_vit", "size_px": 32}


@pytest.mark.parametrize("method", ["embedding", "selection"])
def test_an_image_that_cannot_be_read_costs_no_release(
    method: str,
    discs: Path,
    discs_as_real: Path,
    tiny_settings: Callable[..., TrainGanSettings],
    tmp_path: Path,
) -> None:
    data = copytree(discs_as_real, tmp_path / "data")
    ledger = open_dataset(data).ledger_path
    before = len(recorded_releases(ledger))
    parts: dict[str, Nets] = {
        "embedding": {"features": CONVOLUTIONS, "public": discs},
        "selection": {
            "features": CONVOLUTIONS, "tokens": TRANSFORMER, "pool": discs,
            "images": 4, "components": 4,
        },
    }  # fmt: skip
    privacy = {"epsilon": 6.0, "population": 20, "delta": 1e-3}
    given = {"method": method, "privacy": privacy, method: parts[method]}
    settings = tiny_settings(data, tmp_path / "run", **given)
    image = data / next(row.image for row in open_dataset(data).rows if row.split == "train")
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    with pytest.raises(InputError, match=r"data/manifest\.csv, row \d+: "):
        run_train_gan(settings)
    assert len(recorded_releases(ledger)) == before
    image.write_bytes(whole)
    again = settings.model_copy(update={"out": tmp_path / "again"})
    run_train_gan(again)
    assert (again.out / "private" / SUMS_FILE).is_file()
    assert len(recorded_releases(ledger)) == before + 1

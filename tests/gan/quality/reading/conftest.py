from pathlib import Path

import pytest

from gan.reader import run_reader
from gan.settings.reader import ReaderSettings
from synthdp.data.dataset import load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import to_uint8, to_uint16
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms, phantoms that stand for patients, and made-up ones of 16 bits and another size."""
    house = tmp_path_factory.mktemp("readers")
    about = {"size_px": 16, "val_fraction": 0.0, "test_fraction": 0.0}
    real = run_phantoms(PhantomSettings(out=house / "real", patients=12, **about))
    run_phantoms(PhantomSettings(out=house / "clinic", patients=12, as_real=True, **about))
    drawn = open_dataset(real)
    images = load_images(drawn, drawn.rows)[:, 0]
    for name, write, size_px in (("synthetic", to_uint8, 16), ("deep", to_uint16, 32)):
        info = DatasetInfo(name=name, kind="synthetic", size_px=size_px)
        with create_dataset(house / name, info) as writer:
            for number, (image, row) in enumerate(zip(images, drawn.rows, strict=True)):
                pixels = write(image[::-1])
                pixels = pixels.repeat(size_px // 16, 0).repeat(size_px // 16, 1)
                patient = f"synthetic-{number}"
                writer.add(pixels, patient_id=patient, split="train", targets=row.targets)
    return house


@pytest.fixture(scope="session")
def kit(sets: Path) -> Path:
    return run_reader(
        ReaderSettings(
            synthetic=sets / "deep", real=sets / "real", out=sets / "kit", per_kind=4, size_px=16
        )
    )

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
Texture = Callable[..., Pixels]
MakeSet = Callable[..., Path]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]


@pytest.fixture(scope="session")
def texture() -> Texture:
    """Draws a noise image; two seeds give images that don't resemble each other."""

    def draw(seed: int, *, side_px: int = 32, bits: int = 8) -> Pixels:
        rng = np.random.default_rng(seed)
        if bits == 8:
            return rng.integers(0, 256, (side_px, side_px), dtype=np.uint8)
        return rng.integers(0, 65536, (side_px, side_px), dtype=np.uint16)

    return draw


@pytest.fixture
def make_set(tmp_path: Path, texture: Texture) -> MakeSet:
    """Makes a small real data set: patients P0, P1, ... of two images each, every fourth in val."""

    def make(patients: int = 4, **info: object) -> Path:
        out = tmp_path / "set"
        values = {"name": "tiny", "kind": "real", "size_px": 32, **info}
        with create_dataset(out, DatasetInfo.model_validate(values)) as writer:
            for index in range(2 * patients):
                patient = index // 2
                writer.add(
                    texture(index),
                    patient_id=f"P{patient}",
                    split="val" if patient % 4 == 3 else "train",
                    targets=[patient % 2],
                    attributes={"view": "CC" if index % 2 else "MLO"},
                )
        return out

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes files below a folder, pixels as PNG; returns the folder."""

    def make(files: Mapping[str, Pixels | bytes]) -> Path:
        src = tmp_path / "src"
        for name, content in files.items():
            (src / name).parent.mkdir(parents=True, exist_ok=True)
            data = content if isinstance(content, bytes) else encode_png(content)
            (src / name).write_bytes(data)
        return src

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; skips the test where there is none."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("SYNTHDP_DATA", beside))
    if not (folder / "cbis-ddsm").is_dir():
        pytest.skip("no real data here")
    return folder

"""What tests of trainings that are killed have in common: each draw of noise is on record."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor

from synthdp.privacy.noisy_sum.noise import NoiseSource


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[int]]:
    """The steps whose noise was drawn, by all processes, in their order."""
    path = tmp_path / "witness"
    gaussian = NoiseSource.gaussian

    def witnessed(
        source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int
    ) -> Tensor:
        with open(path, "ab", buffering=0) as notes:
            notes.write(struct.pack("<q", stream))
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", witnessed)

    def read() -> list[int]:
        content = path.read_bytes() if path.exists() else b""
        return [stream for (stream,) in struct.iter_unpack("<q", content)]

    return read

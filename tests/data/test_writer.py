import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.storage import files

MakeSet = Callable[..., Path]
Texture = Callable[..., NDArray[np.uint8]]
INFO = DatasetInfo(name="tiny", kind="real", size_px=32)


@pytest.mark.parametrize(
    "change",
    [
        {"patient_id": "Jane Doe"},
        {"patient_id": ""},
        {"split": "training"},
        {"targets": [2]},
        {"targets": []},
        {"targets": [0, 1]},
    ],
)
def test_a_row_that_does_not_fit_makes_no_set(
    tmp_path: Path, texture: Texture, change: dict[str, object]
) -> None:
    row = {"patient_id": "P", "split": "train", "targets": [1], **change}

    def work() -> None:
        with create_dataset(tmp_path / "set", INFO) as writer:
            writer.add(texture(0), **row)  # type: ignore[arg-type]

    with pytest.raises(InputError, match="image 1: "):
        work()
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_images_is_not_made(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match="no image was added"),
        create_dataset(tmp_path / "s", INFO),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_existing_set_is_not_overwritten(make_set: MakeSet, tmp_path: Path) -> None:
    make_set()
    with (
        pytest.raises(InputError, match="exists already"),
        create_dataset(tmp_path / "set", INFO),
    ):
        pass
    assert len(open_dataset(tmp_path / "set").rows) == 8


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_an_interrupted_set_is_not_there(
    tmp_path: Path, texture: Texture, stop: type[BaseException]
) -> None:
    def work() -> None:
        with create_dataset(tmp_path / "set", INFO) as writer:
            writer.add(texture(0), patient_id="P", split="train", targets=[1])
            raise stop

    with pytest.raises(stop):
        work()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("place", "name", "calls_before"),
    [
        *((Path, "write_bytes", calls) for calls in range(3)),
        *((files.os, "fsync", calls) for calls in range(7)),
    ],
)
def test_a_full_disk_leaves_no_set_at_any_moment(
    *,
    tmp_path: Path,
    texture: Texture,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    calls_before: int,
) -> None:
    calls, whole = 0, getattr(place, name)

    def full(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls > calls_before:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*arguments)

    def work() -> None:
        with create_dataset(tmp_path / "set", INFO) as writer:
            for index in range(3):
                writer.add(texture(index), patient_id="P", split="train", targets=[1])

    monkeypatch.setattr(place, name, full)
    with pytest.raises(RunError, match="the disk is full"):
        work()
    assert list(tmp_path.iterdir()) == []

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from synthdp.data import packed
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.packed import packed_images
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.machine import devices

SIDE, COUNT = 16, 11


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return made(tmp_path / "set", range(COUNT), np.uint8)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_MOST_ROWS", 4)


def made(root: Path, seeds: Sequence[int], dtype: type[Any], kind: Any = "real") -> Dataset:
    with create_dataset(root, DatasetInfo(name="set", kind=kind, size_px=SIDE)) as writer:
        for seed in seeds:
            drawn = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (SIDE, SIDE))
            writer.add(
                drawn.astype(dtype), patient_id=f"p{seed}", split="train", targets=[seed % 2]
            )
    return open_dataset(root)


def shards(dataset: Dataset) -> list[Path]:
    return sorted((dataset.private / "packed").rglob("*.bin"))


def everything(dataset: Dataset) -> NDArray[np.int64]:
    return np.arange(len(dataset.rows))


def test_images_of_the_sets_own_side_are_those_that_are_read(dataset: Dataset) -> None:
    images = packed_images(dataset, dataset.rows, SIDE)
    assert len(images) == COUNT
    np.testing.assert_array_equal(
        images.images(everything(dataset)), load_images(dataset, dataset.rows, SIDE)
    )
    assert len(shards(dataset)) == 3


@pytest.mark.parametrize(
    ("dtype", "bits", "size_px", "error"),
    [
        (np.uint8, 8, 24, 1 / 255),
        (np.uint8, 16, 24, 1 / 65535),
        (np.uint8, 16, SIDE, 1e-6),
        (np.uint16, 8, SIDE, 1 / 255),
        (np.uint16, 16, SIDE, 0),
        (np.uint16, 16, 9, 1 / 65535),
    ],
)
def test_what_is_kept_is_within_the_rounding_of_its_bits(
    tmp_path: Path, dtype: type[Any], bits: packed.Bits, size_px: int, error: float
) -> None:
    dataset = made(tmp_path / "set", range(COUNT), dtype)
    images = packed_images(dataset, dataset.rows, size_px, bits=bits).images(everything(dataset))
    read = load_images(dataset, dataset.rows, size_px)
    assert images.shape == (COUNT, 1, size_px, size_px)
    assert images.dtype == np.float32
    assert np.abs(images - read).max() <= error + 2e-7 * (error > 0)


def test_images_are_asked_for_in_any_order(dataset: Dataset) -> None:
    rows = dataset.rows[2:]
    images = packed_images(dataset, rows, SIDE)
    some = np.array([8, 0, 3, 3, 7])
    read = load_images(dataset, [rows[index] for index in some], SIDE)
    np.testing.assert_array_equal(images.images(some), read)
    assert images.images(np.array([], dtype=np.int64)).shape == (0, 1, SIDE, SIDE)
    for beyond in (-1, len(rows)):
        with pytest.raises(IndexError):
            images.images(np.array([beyond]))


def test_of_no_row_there_is_nothing(dataset: Dataset) -> None:
    none = packed_images(dataset, (), SIDE)
    assert none.images(np.array([], dtype=np.int64)).shape == (0, 1, SIDE, SIDE)


def test_a_second_asking_reads_no_image(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))

    def no_image(*_: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(packed, "load_images", no_image)
    again = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))
    np.testing.assert_array_equal(first, again)


def test_packs_of_changed_images_are_noticed_and_removed(dataset: Dataset) -> None:
    packed_images(dataset, dataset.rows, SIDE)
    packed_images(dataset, dataset.rows[:3], SIDE)
    old = shards(dataset)
    first, second = (dataset.root / row.image for row in dataset.rows[:2])
    shutil.copyfile(second, first)
    images = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))
    np.testing.assert_array_equal(images[0], images[1])
    assert len(shards(dataset)) == 3
    assert not set(old) & set(shards(dataset))


def damages(path: Path) -> Iterator[bytes]:
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    yield from (bytes(flipped), whole[:-7], whole[:20], b"", whole + b"\0")


def test_a_damaged_shard_is_made_again(dataset: Dataset) -> None:
    before = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))
    path = shards(dataset)[1]
    whole = path.read_bytes()
    for content in [*damages(path), shards(dataset)[0].read_bytes()[:-1]]:
        path.write_bytes(content)
        after = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))
        np.testing.assert_array_equal(before, after)
        assert path.read_bytes() == whole


@pytest.mark.parametrize("other", ["another shard", "another set"])
def test_a_whole_shard_in_the_place_of_another_is_made_again(
    dataset: Dataset, tmp_path: Path, other: str
) -> None:
    packed_images(dataset, dataset.rows, SIDE)
    first, second, _ = shards(dataset)
    if other == "another set":
        strange = made(tmp_path / "strange", range(20, 20 + COUNT), np.uint8)
        packed_images(strange, strange.rows, SIDE)
        second = shards(strange)[0]
    shutil.copyfile(second, first)
    images = packed_images(dataset, dataset.rows, SIDE).images(everything(dataset))
    np.testing.assert_array_equal(images, load_images(dataset, dataset.rows, SIDE))


def test_resampled_images_are_of_one_kind_of_processor(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those at the set's own side are whole numbers that all kinds read alike."""
    for processor in ("one", "another"):
        monkeypatch.setattr(devices, "kernels", lambda kind=processor, **_: kind)
        for side in (SIDE, 24):
            packed_images(dataset, dataset.rows, side)
    sides = [path.parent.name.split("-")[0] for path in shards(dataset)]
    assert sides.count(str(SIDE)) == 3
    assert sides.count("24") == 6


def test_a_patients_pixels_do_not_depend_on_who_else_is_there(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        whole = made(tmp_path / f"whole {dtype.__name__}", range(COUNT), dtype)
        without = made(tmp_path / f"without {dtype.__name__}", range(1, COUNT), dtype)
        for bits in (8, 16):
            images, fewer = (
                packed_images(one, one.rows, 12, bits=bits).images(everything(one))
                for one in (whole, without)
            )
            np.testing.assert_array_equal(images[1:], fewer)


def test_nobody_else_may_read_a_pack_and_its_names_tell_nothing(tmp_path: Path) -> None:
    names = []
    for copy in ("one", "two"):
        dataset = made(tmp_path / copy, range(3), np.uint8)
        packed_images(dataset, dataset.rows, SIDE)
        for path in (dataset.private / "packed").rglob("*"):
            assert path.stat().st_mode & 0o077 == 0
        (shard,) = shards(dataset)
        names.append((shard.parent.parent.name, shard.parent.name))
        assert [path.name for path in shard.parent.iterdir()] == [shard.name]
    assert not {*names[0]} & {*names[1]}  # the same images under another key


def test_where_nothing_can_be_kept_the_images_are_the_same(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = packed_images(dataset, dataset.rows, 12).images(everything(dataset))
    shutil.rmtree(dataset.private / "packed")

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    images = packed_images(dataset, dataset.rows, 12)
    np.testing.assert_array_equal(images.images(everything(dataset)), kept)
    assert not shards(dataset)


def test_an_unreadable_image_is_named_by_its_row(dataset: Dataset) -> None:
    path = dataset.root / dataset.rows[4].image
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="row 6"):
        packed_images(dataset, dataset.rows, SIDE)

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from numpy.typing import NDArray

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.networks import cache
from synthdp.networks.cache import cached_features


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    rng = np.random.default_rng(0)
    info = DatasetInfo(name="set", kind="phantom", size_px=16)
    with create_dataset(tmp_path / "set", info) as writer:
        for index in range(7):
            pixels = rng.integers(0, 255, (16, 16)).astype(np.uint8)
            writer.add(pixels, patient_id=f"p{index}", split="train", targets=[index % 2])
    return open_dataset(tmp_path / "set")


class Extractor:
    """Means of columns; counts the images that it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: NDArray[np.float32]) -> NDArray[Any]:
        self.seen += len(images)
        return images.mean(axis=(1, 2))


def ask(dataset: Dataset, compute: Callable[..., Any], **options: Any) -> NDArray[Any]:
    values = {"rows": dataset.rows, "extractor_id": "columns", "size_px": 16, "batch": 3}
    return cached_features(dataset, compute=compute, **{**values, **options})


def cache_files(dataset: Dataset) -> list[Path]:
    return sorted((dataset.private / "features").glob("*.safetensors"))


def test_a_second_asking_computes_nothing(dataset: Dataset) -> None:
    extractor = Extractor()
    first = ask(dataset, extractor)
    again = ask(dataset, extractor)
    assert first.shape == (7, 16)
    assert first.dtype == np.float32
    assert extractor.seen == 7
    np.testing.assert_array_equal(first, again)


def test_the_batch_does_not_change_the_result(dataset: Dataset) -> None:
    one_by_one = ask(dataset, Extractor(), extractor_id="another", batch=1)
    np.testing.assert_array_equal(ask(dataset, Extractor()), one_by_one)


@pytest.mark.parametrize(
    "change",
    [{"extractor_id": "other"}, {"size_px": 32}, {"dtype": "float16"}],
    ids=lambda change: next(iter(change)),
)
def test_another_question_is_another_array(dataset: Dataset, change: dict[str, Any]) -> None:
    extractor = Extractor()
    ask(dataset, extractor)
    values = ask(dataset, extractor, **change)
    assert extractor.seen == 14
    assert values.dtype == change.get("dtype", "float32")


def test_other_rows_and_changed_images_are_computed_anew(dataset: Dataset) -> None:
    extractor = Extractor()
    ask(dataset, extractor)
    part = ask(dataset, extractor, rows=dataset.rows[2:4])
    assert extractor.seen == 9
    np.testing.assert_array_equal(part, ask(dataset, extractor)[2:4])
    first, second = (dataset.root / row.image for row in dataset.rows[:2])
    first.write_bytes(second.read_bytes())
    changed = ask(dataset, extractor)
    assert extractor.seen == 16
    np.testing.assert_array_equal(changed[0], changed[1])


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_torn_file_is_computed_again(dataset: Dataset, share: float) -> None:
    expected = ask(dataset, Extractor())
    (path,) = cache_files(dataset)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    extractor = Extractor()
    np.testing.assert_array_equal(ask(dataset, extractor), expected)
    assert extractor.seen == 7
    assert path.read_bytes() == whole


def test_a_flipped_bit_or_a_foreign_file_is_computed_again(dataset: Dataset) -> None:
    expected = ask(dataset, Extractor())
    (path,) = cache_files(dataset)
    flipped = bytearray(path.read_bytes())
    flipped[-5] ^= 1
    foreign = safetensors.numpy.save({"values": np.zeros((7, 16), np.float32)})
    other = ask(dataset, Extractor(), extractor_id="other")
    (of_other,) = [p for p in cache_files(dataset) if p != path]
    assert not np.array_equal(other, np.zeros_like(other))
    for content in (bytes(flipped), foreign, of_other.read_bytes()):
        path.write_bytes(content)
        extractor = Extractor()
        np.testing.assert_array_equal(ask(dataset, extractor), expected)
        assert extractor.seen == 7


def test_where_nothing_can_be_written_features_are_computed_all_the_same(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    extractor = Extractor()
    for _ in range(2):
        assert ask(dataset, extractor).shape == (7, 16)
    assert extractor.seen == 14
    assert not cache_files(dataset)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_what_is_not_finite_is_not_kept(dataset: Dataset, bad: float) -> None:
    def diverged(images: NDArray[np.float32]) -> NDArray[np.float32]:
        values = images.mean(axis=(1, 2))
        values[0, 0] = bad
        return values

    with pytest.raises(RunError, match="not finite for some images"):
        ask(dataset, diverged, dtype="float16")
    assert not cache_files(dataset)


def test_what_is_not_finite_is_given_and_kept_where_patients_are_promised_something(
    dataset: Dataset,
) -> None:
    def diverged(images: NDArray[np.float32]) -> NDArray[np.float32]:
        values = images.mean(axis=(1, 2))
        values[0, 0] = np.nan
        return values

    for _ in range(2):
        values = ask(dataset, diverged, dtype="float16", finite=False)
        assert int(np.isnan(values).any(axis=1).sum()) == 3
    assert len(cache_files(dataset)) == 1
    with pytest.raises(RunError, match="not finite for some images"):
        ask(dataset, diverged, dtype="float16")


def test_of_no_image_at_all_the_shape_is_known(dataset: Dataset) -> None:
    assert ask(dataset, Extractor(), rows=()).shape == (0, 16)


def test_an_unreadable_image_is_named_by_its_row(dataset: Dataset) -> None:
    path = dataset.root / dataset.rows[4].image
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match="row 6"):
        ask(dataset, Extractor())


def test_two_at_once_compute_once(dataset: Dataset) -> None:
    extractor = Extractor()

    def slow(images: NDArray[np.float32]) -> NDArray[Any]:
        time.sleep(0.05)
        return extractor(images)

    threads = [threading.Thread(target=ask, args=(dataset, slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert extractor.seen == 7


def test_names_of_cache_files_say_nothing_about_the_images(tmp_path: Path) -> None:
    names = []
    for copy in ("one", "two"):
        info = DatasetInfo(name="set", kind="real", size_px=16)
        with create_dataset(tmp_path / copy, info) as writer:
            pixels = np.full((16, 16), 7, np.uint8)
            writer.add(pixels, patient_id="p", split="train", targets=[1])
        opened = open_dataset(tmp_path / copy)
        ask(opened, Extractor())
        names += [path.name for path in cache_files(opened)]
    extractors, images = zip(*(name.split("-") for name in names), strict=True)
    assert len(set(extractors)) == 1
    assert len(set(images)) == 2


def test_what_is_computed_and_what_is_read_stand_at_addresses_of_new_tensors(
    dataset: Dataset,
) -> None:
    for name in ("a", "ab", "abc", "abcd"):
        first, again = (ask(dataset, Extractor(), extractor_id=name) for _ in range(2))
        assert np.array_equal(first, again)
        assert {array.ctypes.data % 64 for array in (first, again)} == {0}


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven images are three parts."""
    monkeypatch.setattr(cache, "_PART_ROWS", 3)


@pytest.mark.usefixtures("in_parts")
def test_an_array_made_in_parts_is_the_same_file(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = ask(dataset, Extractor())
    (path,) = cache_files(dataset)
    content = path.read_bytes()
    assert not list(path.parent.glob("*.parts"))
    assert safetensors.numpy.load(content)["values"].tobytes() == joined.tobytes()
    path.unlink()
    monkeypatch.setattr(cache, "_PART_ROWS", 100)
    np.testing.assert_array_equal(ask(dataset, Extractor()), joined)
    assert path.read_bytes() == content


@pytest.mark.usefixtures("in_parts")
def test_two_at_once_share_the_parts(dataset: Dataset) -> None:
    extractors = [Extractor(), Extractor()]
    results = {}
    both_have_one = threading.Barrier(2)

    def shared(number: int) -> Callable[..., NDArray[Any]]:
        def compute(images: NDArray[np.float32]) -> NDArray[Any]:
            if not extractors[number].seen:
                both_have_one.wait(120)
            return extractors[number](images)

        return compute

    def work(number: int) -> None:
        results[number] = ask(dataset, shared(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(extractor.seen for extractor in extractors) in ([3, 4], [1, 6])
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], ask(dataset, Extractor(), extractor_id="other"))


#: Computes the features of a set, and hangs in the second part.
_HANGS = """
import sys, time
from pathlib import Path
from synthdp.data.dataset import open_dataset
from synthdp.networks import cache

cache._PART_ROWS = 3
dataset = open_dataset(Path(sys.argv[1]))
asked = []

def compute(images):
    asked.append(len(images))
    if len(asked) == 2:
        print("hangs", flush=True)
        time.sleep(600)
    return images.mean(axis=(1, 2))

cache.cached_features(
    dataset, dataset.rows, extractor_id="columns", size_px=16, compute=compute, batch=3
)
"""


@pytest.mark.usefixtures("in_parts")
def test_what_a_killed_process_has_finished_is_kept(dataset: Dataset) -> None:
    command = [sys.executable, "-c", _HANGS, str(dataset.root)]
    alike = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=alike) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"hangs\n"
        os.kill(killed.pid, signal.SIGKILL)
    assert not cache_files(dataset)
    extractor = Extractor()
    values = ask(dataset, extractor)
    assert extractor.seen == 4
    np.testing.assert_array_equal(values, ask(dataset, Extractor(), extractor_id="other"))
    assert len(cache_files(dataset)) == 2


@pytest.mark.usefixtures("in_parts")
def test_parts_that_another_kind_of_processor_made_are_not_taken(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which part a patient is in depends on who else is there, so all must give the same bits."""
    extractor = Extractor()

    def killed(images: NDArray[np.float32]) -> NDArray[Any]:
        if extractor.seen:
            raise KeyboardInterrupt
        return extractor(images)

    monkeypatch.setattr(cache, "kernels", lambda: "another processor")
    with pytest.raises(KeyboardInterrupt):
        ask(dataset, killed)
    monkeypatch.undo()
    monkeypatch.setattr(cache, "_PART_ROWS", 3)
    (folder,) = (dataset.private / "features").glob("*.parts")
    assert [path for path in folder.iterdir() if path.name[0] != "."]
    own = Extractor()
    ask(dataset, own)
    assert own.seen == len(dataset.rows)
    assert not list((dataset.private / "features").glob("*.parts"))


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_damaged_part_is_computed_again(dataset: Dataset, share: float) -> None:
    expected = ask(dataset, Extractor(), extractor_id="other")

    def fails(images: NDArray[np.float32]) -> NDArray[Any]:
        if len(images) == 1:
            raise RunError("the last part")
        return images.mean(axis=(1, 2))

    with pytest.raises(RunError, match="the last part"):
        ask(dataset, fails)
    folder = dataset.private / "features"
    parts = sorted(path for path in folder.glob("*.parts/*") if path.name[0] != ".")
    assert len(parts) == 2
    parts[0].write_bytes(parts[0].read_bytes()[: int(parts[0].stat().st_size * share)])
    extractor = Extractor()
    np.testing.assert_array_equal(ask(dataset, extractor), expected)
    assert extractor.seen == 4


@pytest.mark.usefixtures("in_parts")
def test_nobody_else_may_read_a_part(dataset: Dataset) -> None:
    modes = set[int]()

    def compute(images: NDArray[np.float32]) -> NDArray[Any]:
        there = (dataset.private / "features").rglob("*")
        modes.update(path.stat().st_mode & 0o077 for path in there)
        return images.mean(axis=(1, 2))

    ask(dataset, compute)
    assert modes == {0}


@pytest.mark.usefixtures("in_parts")
def test_a_part_that_is_not_finite_is_not_kept(dataset: Dataset) -> None:
    def diverged(images: NDArray[np.float32]) -> NDArray[np.float32]:
        values = images.mean(axis=(1, 2))
        values[0, 0] = np.nan
        return values

    with pytest.raises(RunError, match="not finite for some images"):
        ask(dataset, diverged)
    assert ask(dataset, Extractor()).shape == (7, 16)


def test_a_large_file_is_mapped_and_gives_the_same_numbers(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = ask(dataset, Extractor())
    read = ask(dataset, Extractor())
    (path,) = cache_files(dataset)
    whole = path.read_bytes()
    monkeypatch.setattr(cache, "_MAPPED_FROM", 0)
    mapped = ask(dataset, Extractor())
    assert isinstance(mapped.base, np.memmap)
    assert mapped.ctypes.data % 64 == 0
    np.testing.assert_array_equal(mapped, read)
    mapped[:] = 0
    assert path.read_bytes() == whole
    flipped = bytearray(whole)
    flipped[-5] ^= 1
    other = path.with_suffix(".new")
    other.write_bytes(flipped)
    os.replace(other, path)  # never in place, where it may be mapped
    extractor = Extractor()
    np.testing.assert_array_equal(ask(dataset, extractor), read)
    assert extractor.seen == 7

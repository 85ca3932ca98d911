"""What waits beside a set that is being made: taken up after a kill, never from other files."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.images import encode_png
from synthdp.data.importing.images import prepare as preparing
from synthdp.data.importing.images.prepare import Prepared, prepare, staging_beside
from synthdp.data.importing.images.survey import Pixels
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError, RunError
from synthdp.storage.locks import locked

Texture = Callable[..., Pixels]
READ: list[Path] = []
#: An import by the settings in its argument, which is killed as it puts its fourth file in place.
KILLED_AT_THE_FOURTH = """
import os, signal, sys
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
replace, calls = os.replace, 0
def killed_at_the_fourth(source, target):
    global calls
    calls += str(target).endswith(".images")
    if calls == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed_at_the_fourth
run_patches(PatchesSettings.model_validate_json(sys.argv[1]))
"""


@dataclass(frozen=True)
class Picture:
    """A file, of which `copies` images are made."""

    path: Path
    copies: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)


def read(source: Picture) -> Sequence[Pixels]:
    READ.append(source.path)
    return [decode_pixels(source.path)] * source.copies


@pytest.fixture
def pictures(tmp_path: Path, texture: Texture) -> list[Picture]:
    """Ten files, the fifth of which is no image."""
    (tmp_path / "src").mkdir()
    READ.clear()
    for index in range(10):
        content = encode_png(texture(index)) if index != 4 else b"no image"
        (tmp_path / "src" / f"{index}.png").write_bytes(content)
    return [Picture(tmp_path / "src" / f"{index}.png") for index in range(10)]


def prepared(pictures: Sequence[Picture], staging: Path, size_px: int = 32) -> list[object]:
    made = prepare(pictures, read, staging=staging, size_px=size_px, workers=1, at_once=2)
    return [
        [image.png() for image in outcome if isinstance(image, Prepared)]
        if not isinstance(outcome, str)
        else outcome
        for outcome in made.outcomes
    ]


def test_each_source_is_read_once_and_gives_its_images(
    pictures: list[Picture], tmp_path: Path, texture: Texture
) -> None:
    sources = [Picture(pictures[0].path, copies=3), pictures[4], pictures[1]]
    made = prepare(sources, read, staging=tmp_path, size_px=32, workers=1)
    first, broken, last = made.outcomes
    assert isinstance(broken, str)
    assert [len(first), len(last)] == [3, 1]
    assert [image.row for image in (*first, *last) if isinstance(image, Prepared)] == [0, 1, 2, 3]
    assert isinstance(last[0], Prepared)
    (tmp_path / "again.png").write_bytes(last[0].png())
    assert np.array_equal(decode_pixels(tmp_path / "again.png"), texture(1))
    assert len(made.thumbnails) == 4
    assert [source.path for source in sources] == READ


def test_what_is_whole_is_not_made_again(pictures: list[Picture], tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    first = prepared(pictures, staging)
    READ.clear()
    assert prepared(pictures, staging) == first
    assert READ == []


def test_a_torn_file_is_made_again(pictures: list[Picture], tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    first = prepared(pictures, staging)
    torn, cut, *_ = sorted(staging.iterdir())
    torn.write_bytes(torn.read_bytes()[:-7])
    cut.write_bytes(b"")
    READ.clear()
    assert prepared(pictures, staging) == first
    assert len(READ) == 4


def test_other_files_and_other_settings_are_not_taken(
    pictures: list[Picture], tmp_path: Path, texture: Texture
) -> None:
    staging = tmp_path / "staging"
    staging.mkdir()
    first = prepared(pictures, staging)
    before = os.stat(pictures[7].path)
    pictures[7].path.write_bytes(encode_png(texture(99)))
    os.utime(pictures[7].path, ns=(before.st_atime_ns, before.st_mtime_ns))
    READ.clear()
    second = prepared(pictures, staging)
    assert [index for index in range(10) if second[index] != first[index]] == [7]
    assert len(READ) == 2
    READ.clear()
    prepared(pictures, staging, size_px=16)
    assert len(READ) == 10
    assert len(list(staging.iterdir())) == 5  # what was made at 32 px is gone


def test_what_other_packages_made_is_not_taken(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that was missing, and was installed because the first import said so."""
    installed = preparing.metadata.version

    def without_one(name: str) -> str:
        if name == "pyjpegls":
            raise preparing.metadata.PackageNotFoundError(name)
        return installed(name)

    staging = tmp_path / "staging"
    staging.mkdir()
    monkeypatch.setattr(preparing.metadata, "version", without_one)
    prepared(pictures, staging)
    monkeypatch.undo()
    READ.clear()
    prepared(pictures, staging)
    assert len(READ) == len(pictures)


def test_workers_make_the_same(pictures: list[Picture], tmp_path: Path) -> None:
    made = []
    for workers in (1, 2):
        staging = tmp_path / f"staging {workers}"
        staging.mkdir()
        prepare(pictures, preparing_reader, staging=staging, size_px=24, workers=workers, at_once=3)
        made.append({path.name: path.read_bytes() for path in staging.iterdir()})
    assert made[0] == made[1] != {}


def preparing_reader(source: Picture) -> Sequence[Pixels]:
    return [decode_pixels(source.path)]


def test_the_folder_is_the_owners_and_goes_when_all_is_done(tmp_path: Path) -> None:
    with staging_beside(tmp_path / "deep" / "set") as staging:
        assert staging.stat().st_mode & 0o777 == 0o700
        assert staging.parent == tmp_path / "deep"
    assert list((tmp_path / "deep").iterdir()) == []


@pytest.mark.parametrize(("files", "kept"), [(3, False), (20, True)])
def test_much_that_was_made_waits_for_the_next_import(
    tmp_path: Path, files: int, kept: bool
) -> None:
    def refused() -> None:
        with staging_beside(tmp_path / "set") as staging:
            for index in range(files):
                (staging / f"{index}.images").write_bytes(b"")
            raise InputError("a label is wrong")

    with pytest.raises(InputError):
        refused()
    assert any(tmp_path.iterdir()) == kept


def test_two_imports_to_one_place_at_once_are_refused(tmp_path: Path) -> None:
    with (
        staging_beside(tmp_path / "set"),
        pytest.raises(RunError, match="another process imports there now"),
        staging_beside(tmp_path / "set"),
    ):
        pass


def test_without_locks_it_works_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with staging_beside(tmp_path / "set") as staging:
        assert staging.is_dir()


def test_without_locks_two_imports_at_once_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        staging_beside(tmp_path / "set"),
        pytest.raises(RunError, match=r"imports there now.*remove \.set\.staging beside `out`"),
        staging_beside(tmp_path / "set"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_owner_removed_locks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another import ended, and removed the folder, as the lock was open and not yet held."""

    @contextmanager
    def late(stream: IO[str], *, wait: bool) -> Iterator[bool]:
        shutil.rmtree(tmp_path / ".set.staging")
        with locked(stream, wait=wait) as held:
            yield held

    monkeypatch.setattr(preparing, "locked", late)
    with (
        pytest.raises(RunError, match="another process imports there now"),
        staging_beside(tmp_path / "set"),
    ):
        pass


def test_a_place_that_may_not_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(RunError, match="the folder above `out`, cannot be read or written"),
        staging_beside(tmp_path / "ward" / "set"),
    ):
        pass


def test_a_full_disk_half_way_keeps_what_was_made(
    pictures: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, replace, calls = tmp_path / "staging", os.replace, 0
    staging.mkdir()

    def full(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(preparing.os, "replace", full)
        with pytest.raises(RunError, match="the disk is full"):
            prepared(pictures, staging)
    assert len(list(staging.iterdir())) == 2  # nothing half-made beside them
    READ.clear()
    assert len(prepared(pictures, staging)) == 10
    assert len(READ) == 6


def test_an_import_that_was_killed_goes_on(
    make_folder: Callable[..., Path],
    texture: Texture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = {f"malignant/P{index // 2}_{index}.png": texture(index) for index in range(640)}
    src, out = make_folder(files), tmp_path / "set"
    options = {"src": src, "out": out, "name": "x", "licence": "n", "patient_pattern": "(P[0-9]+)_"}
    settings = PatchesSettings.model_validate({**options, "size_px": 32, "workers": 1})
    process = subprocess.run(
        [sys.executable, "-c", KILLED_AT_THE_FOURTH, settings.model_dump_json()], check=False
    )
    staging = tmp_path / ".set.staging"
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    made = {path.name: path.stat().st_mtime_ns for path in staging.glob("*.images")}
    assert len(made) == 3
    replaced: list[str] = []
    replace = os.replace

    def remember(source: Path, target: Path) -> None:
        replaced.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(preparing.os, "replace", remember)
    dataset = open_dataset(run_patches(settings))
    again = [name for name in replaced if name.endswith(".images")]
    assert len(again) == 10 - len(made)
    assert not made.keys() & set(again)
    assert len(dataset.rows) == 640
    assert np.array_equal(decode_pixels(out / dataset.rows[0].image), texture(0))
    assert not staging.exists()


def test_an_import_leaves_nothing_beside_the_set(
    make_folder: Callable[..., Path], texture: Texture, tmp_path: Path
) -> None:
    src = make_folder({f"benign/P{index}_.png": texture(index) for index in range(4)})
    out = run_patches(
        PatchesSettings(src=src, out=tmp_path / "set", name="x", patient_pattern="(P[0-9]+)_")
    )
    assert len(open_dataset(out).rows) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set", "src"]

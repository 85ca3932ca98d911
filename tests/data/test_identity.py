import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from made_up import clinic_set

from synthdp.data.dataset import open_dataset
from synthdp.data.identity import content_digest, keyed_digest, set_digests
from synthdp.storage.files import read_json, write_json

PLAIN = {"facts", "manifest", "images"}


def other_pixels(root: Path) -> None:
    images = sorted((root / "images").iterdir())
    images[0].write_bytes(images[1].read_bytes())


def one_byte(root: Path) -> None:
    """One byte of one file, its length and time of change as before."""
    path = sorted((root / "images").iterdir())[3]
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1
    with open(path, "r+b") as stream:
        stream.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edited(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    def edit(root: Path) -> None:
        head, *rows = (root / "manifest.csv").read_text().splitlines()
        (root / "manifest.csv").write_text("\n".join([head, *change(rows)]) + "\n")

    return edit


def other_fact(root: Path) -> None:
    write_json(root / "dataset.json", {**read_json(root / "dataset.json"), "population": 500})


CHANGES = {
    "other pixels under the same names": (other_pixels, {"images"}),
    "one byte in place": (one_byte, {"images"}),
    "another label": (edited(lambda rows: [rows[0][:-1] + "1", *rows[1:]]), {"manifest"}),
    "other patients": (
        edited(lambda rows: [r.replace("t-1,", "t-99,") for r in rows]),
        {"manifest"},
    ),
    "another split": (edited(lambda rows: [r.replace("train", "val") for r in rows]), {"manifest"}),
    "rows in another order": (edited(lambda rows: rows[::-1]), {"manifest"}),
    "a patient less": (edited(lambda rows: rows[1:]), {"manifest", "images"}),
    "another population": (other_fact, {"facts"}),
}


@pytest.mark.parametrize("kind", ["real", "synthetic"])
@pytest.mark.parametrize("how", CHANGES)
def test_every_change_of_a_set_shows_in_its_part(tmp_path: Path, kind: str, how: str) -> None:
    data = clinic_set(tmp_path / "set", kind, n_patients=4)
    before = set_digests(data)
    assert set_digests(data) == before
    change, parts = CHANGES[how]
    change(data)
    after = set_digests(data)
    changed = {part for part in before if before[part] != after[part]}
    assert changed >= parts
    assert changed - parts <= {"images"}  # which are taken in the order of the rows


def test_a_set_of_patients_that_is_made_anew_is_another_one(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set")
    before = set_digests(data)
    shutil.rmtree(data)
    clinic_set(data)  # the very same images
    after = set_digests(data)
    assert before.keys() == after.keys() == PLAIN | {"key"}
    assert all(before[part] != after[part] for part in before)


def test_a_set_without_patients_is_the_same_when_it_is_made_anew(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set", "phantom")
    before = set_digests(data)
    shutil.rmtree(data)
    clinic_set(data, "phantom")
    assert set_digests(data) == before
    assert before.keys() == PLAIN


def test_a_set_that_was_moved_or_put_back_is_the_same(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set")
    before = set_digests(data)
    shutil.copytree(data, tmp_path / "backup")
    assert set_digests(tmp_path / "backup") == before
    shutil.rmtree(data)
    (tmp_path / "backup").rename(data)
    assert set_digests(data) == before


def test_of_patients_every_digest_is_keyed(tmp_path: Path) -> None:
    one, other = (clinic_set(tmp_path / name) for name in ("set", "twin"))
    (other / "dataset.json").write_bytes((one / "dataset.json").read_bytes())
    assert not {*set_digests(one).values()} & {*set_digests(other).values()}
    public = clinic_set(tmp_path / "public", "synthetic")
    assert set_digests(one)["images"] != set_digests(public)["images"]  # of the same images


def test_what_is_spent_on_a_set_and_its_cache_change_nothing(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set")
    before = set_digests(data)
    (data / "private" / "features").mkdir()
    (data / "private" / "digests").write_bytes(b"damaged")
    write_json(data / "private" / "counts.json", {})
    assert set_digests(data) == before


def test_digests_of_rows_are_those_of_ever(tmp_path: Path) -> None:
    """Ledgers and caches on disk hold them, so that they may not change."""
    data = clinic_set(tmp_path / "set", "phantom")
    (data / "private" / "key").write_bytes(bytes([1]) * 32)
    dataset = open_dataset(data)
    assert content_digest(dataset)[:16] == CONTENT
    assert keyed_digest(dataset, dataset.rows[:5])[:16] == KEYED


CONTENT, KEYED = "00e3713d860a60fc", "151618827ae56eb6"

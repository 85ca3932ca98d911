import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from synthdp.storage import kept_digests
from synthdp.storage.kept_digests import KeptDigests
from synthdp.storage.unchanged import COARSE_NS

KEY = bytes(range(32))
NAMES = ["a.png", "below-it/b.png", "\udcff.png"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "below-it").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(bytes([number]) * 100)
    return folder


@pytest.fixture
def kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> KeptDigests:
    later(monkeypatch)
    return KeptDigests(root, root / "kept", KEY)


def later(monkeypatch: pytest.MonkeyPatch, ns: int = 10 * COARSE_NS) -> None:
    """Let the clock that files are held against be ahead, as if they had stood for a while."""
    monkeypatch.setattr(kept_digests, "clock_ns", lambda: time.time_ns() + ns)


def true_digests(root: Path) -> list[bytes]:
    return [sha256((root / name).read_bytes()).digest() for name in NAMES]


def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: str) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(kept_digests, "_read_digest", read)


def test_what_is_kept_is_not_read_again(
    root: Path, kept: KeptDigests, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept.of(NAMES) == true_digests(root)
    refuse_reading(monkeypatch)
    assert kept.of(NAMES) == true_digests(root)
    assert KeptDigests(root, root / "kept", KEY).of(NAMES[1:]) == true_digests(root)[1:]
    assert (root / "kept").stat().st_mode & 0o077 == 0


def test_what_is_kept_holds_no_name(root: Path, kept: KeptDigests) -> None:
    kept.of(NAMES)
    content = (root / "kept").read_bytes()
    assert not any(os.fsencode(part) in content for name in NAMES for part in name.split("/"))


def test_an_edit_of_the_same_length_that_puts_the_time_back_is_seen(
    root: Path, kept: KeptDigests
) -> None:
    kept.of(NAMES)
    path = root / NAMES[0]
    before = path.stat()
    with open(path, "r+b") as stream:
        stream.write(b"x")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert kept.of(NAMES) == true_digests(root)


def test_a_file_that_takes_anothers_place_is_seen(root: Path, kept: KeptDigests) -> None:
    kept.of(NAMES)
    os.replace(root / NAMES[1], root / NAMES[0])
    (root / NAMES[1]).write_bytes(b"new")
    assert kept.of(NAMES) == true_digests(root)


def test_a_file_that_changed_just_now_is_read_again_next_time(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptDigests(root, root / "kept", KEY)
    just_now = min((root / name).stat().st_ctime_ns for name in NAMES)
    monkeypatch.setattr(kept_digests, "clock_ns", lambda: just_now)
    kept.of(NAMES)
    assert not (root / "kept").exists()  # within the grain of the clock, an edit would not show
    later(monkeypatch)
    kept.of(NAMES)
    assert (root / "kept").exists()


@pytest.mark.parametrize("how", ["flipped", "cut", "other key", "forged"])
def test_what_is_kept_is_believed_under_its_key_alone(
    root: Path, kept: KeptDigests, how: str
) -> None:
    kept.of(NAMES)
    path = root / "kept"
    content = path.read_bytes()
    wrong = content[:-32] + sha256(b"another image").digest()
    if how == "flipped":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "cut":
        path.write_bytes(content[:-80])
    elif how == "forged":
        path.write_bytes(wrong)
    key = bytes(32) if how == "other key" else KEY
    assert KeptDigests(root, path, key).of(NAMES) == true_digests(root)


def test_without_a_key_or_the_right_to_write_nothing_is_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later(monkeypatch)
    assert KeptDigests(root, root / "kept", None).of(NAMES) == true_digests(root)
    assert not (root / "kept").exists()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_digests, "write_atomic", full)
    assert KeptDigests(root, root / "kept", KEY).of(NAMES) == true_digests(root)


def test_a_missing_file_is_an_error_of_the_system(root: Path, kept: KeptDigests) -> None:
    with pytest.raises(FileNotFoundError):
        kept.of(["none.png"])


def test_something_may_stand_for_a_file_that_cannot_be_read(root: Path, kept: KeptDigests) -> None:
    """Nothing of it is kept: the file is looked at again."""
    before, unread = true_digests(root), bytes(32)
    kept.of(NAMES)
    (root / NAMES[0]).rename(root / "elsewhere")
    assert kept.of(NAMES, unread=unread) == [unread, *before[1:]]
    (root / "elsewhere").rename(root / NAMES[0])
    assert kept.of(NAMES, unread=unread) == before

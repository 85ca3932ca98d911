import errno
from pathlib import Path

import pytest
import torch

from synthdp.checkpoint import load_checkpoint, load_weights, save_checkpoint, save_weights
from synthdp.errors import InputError, RunError
from synthdp.storage import files
from synthdp.storage.files import sha256_file


def save(folder: Path, step: int) -> None:
    weights = {"w": torch.full((3, 2), float(step)), "n": torch.tensor(step)}
    save_checkpoint(folder, step, weights, {"step": step, "rng": torch.arange(4)})


def newest_step(folder: Path) -> int | None:
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return None
    assert torch.equal(checkpoint.weights["w"], torch.full((3, 2), float(checkpoint.step)))
    assert checkpoint.state["step"] == checkpoint.step
    return checkpoint.step


def test_no_checkpoint(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "none") is None


def test_the_newest_is_loaded_and_two_stand(tmp_path: Path) -> None:
    for step in (5, 10, 1000):
        save(tmp_path, step)
    assert newest_step(tmp_path) == 1000
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{step:09d}{end}" for step in (10, 1000) for end in (".json", ".safetensors", ".state")
    ]


@pytest.mark.parametrize("end", [".json", ".safetensors", ".state"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "gone", "empty"])
def test_a_torn_checkpoint_gives_the_older_one(tmp_path: Path, end: str, damage: str) -> None:
    for step in (1, 2):
        save(tmp_path, step)
    path = tmp_path / f"{2:09d}{end}"
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        content[-3] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(content[: len(content) // 2] if damage == "torn" else b"")
    assert newest_step(tmp_path) == 1


def test_all_torn_gives_none(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / f"{1:09d}.state").write_bytes(b"")
    assert load_checkpoint(tmp_path) is None


def test_an_index_that_names_no_file_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / f"{1:09d}.json").write_text('{"step": 7, "sha256": {}}')
    assert load_checkpoint(tmp_path) is None


def test_a_torn_newer_one_never_displaces_a_whole_one(tmp_path: Path) -> None:
    for step in (100, 200, 300):
        save(tmp_path, step)
    (tmp_path / f"{300:09d}.state").write_bytes(b"torn")
    assert newest_step(tmp_path) == 200
    save(tmp_path, 250)
    (tmp_path / f"{250:09d}.safetensors").write_bytes(b"torn")
    assert newest_step(tmp_path) == 200


def test_leftovers_of_killed_saves_are_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".000000002.safetensors.0a1b2c3d.part").write_bytes(b"x")
    (tmp_path / "000000002.safetensors").write_bytes(b"killed before its index was written")
    save(tmp_path, 3)
    assert {path.name[:9] for path in tmp_path.iterdir()} == {"000000001", "000000003"}


def test_full_disk_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    calls = 0

    def full_after_three(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full_after_three)
        with pytest.raises(RunError, match="the disk is full"):
            save(tmp_path, 2)
    assert newest_step(tmp_path) == 1
    assert not list(tmp_path.glob(".*"))
    save(tmp_path, 2)
    assert newest_step(tmp_path) == 2


def test_weights_go_there_and_back(tmp_path: Path) -> None:
    weights = {"a": torch.randn(3, 4, requires_grad=True), "b": torch.randn(4, 6).T.half()}
    save_weights(tmp_path / "w.safetensors", weights)
    loaded = load_weights(tmp_path / "w.safetensors", sha256_file(tmp_path / "w.safetensors"))
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert loaded["b"].dtype == torch.float16


def test_bad_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(InputError, match="there is no such weights file"):
        load_weights(path)
    save_weights(path, {"a": torch.ones(2)})
    with pytest.raises(InputError, match=r"its sha256 is .* but 0000"):
        load_weights(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load_weights(path)


@pytest.mark.parametrize("length", range(1, 9))
def test_tensors_are_loaded_to_addresses_of_new_ones(tmp_path: Path, length: int) -> None:
    """So that what is computed from them rounds as before they were saved."""
    tensors = {
        "n" * length: torch.arange(7.0),
        "m": torch.arange(1000.0),
        "b": torch.ones(3).bool(),
    }
    save_weights(tmp_path / "w.safetensors", tensors)
    loaded = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert {tensor.data_ptr() % 64 for tensor in loaded.values()} == {0}

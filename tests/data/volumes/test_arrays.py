from pathlib import Path

import numpy as np
import pytest
from made_up_volumes import a_volume

from synthdp.data.volumes.arrays import read_array
from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.slices import formed
from synthdp.errors import InputError


def test_an_array_is_taken_as_it_is_stored(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", a_volume())
    np.savez_compressed(tmp_path / "one.npz", volume=np.asfortranarray(a_volume()))
    for name in ("one.npy", "one.npz"):
        assert np.array_equal(read_array(tmp_path / name).values, a_volume())


def test_unsigned_bytes_keep_their_range_and_others_are_spread(tmp_path: Path) -> None:
    values = np.full((4, 8, 8), 100, dtype=np.uint8)
    values[0] = 0
    np.save(tmp_path / "one.npy", values)
    np.save(tmp_path / "two.npy", values.astype(np.int32))
    form = VolumeForm(depth=4)
    assert formed(read_array(tmp_path / "one.npy"), form, 8).max() == 100
    assert formed(read_array(tmp_path / "two.npy"), form, 8).max() == 255
    assert formed(read_array(tmp_path / "one.npy", bits=7), form, 8).max() == 201


def test_a_spacing_of_arrays_is_said_by_the_settings(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", a_volume())
    with pytest.raises(InputError, match="array_spacing_mm"):
        formed(read_array(tmp_path / "one.npy"), VolumeForm(spacing_mm=2), 8)
    form = VolumeForm(depth=24, spacing_mm=2, array_spacing_mm=(4, 2, 2), window="full")
    assert formed(read_array(tmp_path / "one.npy"), form, 12).shape == (24 * 12, 12)


def test_what_is_no_one_volume_is_refused(tmp_path: Path) -> None:
    for number, (array, words) in enumerate(
        [
            (np.zeros((4, 4), np.uint8), "no volume"),
            (np.zeros((4, 4, 4, 3), np.uint8), "in colour"),
            (np.zeros((2, 4, 4, 4), np.uint8), "several volumes"),
            (np.full((4, 4, 4), np.inf), "no finite number"),
            (np.array([{}] * 8, dtype=object).reshape(2, 2, 2), "other than numbers"),
            (np.zeros((4, 4, 4), np.complex64), "other than numbers"),
        ]
    ):
        path = tmp_path / f"{number}.npy"
        np.save(path, array, allow_pickle=True)
        with pytest.raises(InputError, match=words):
            read_array(path)
    np.savez(tmp_path / "two.npz", a=a_volume(), b=a_volume())
    with pytest.raises(InputError, match=r"holds 2 arrays .* `arrays`"):
        read_array(tmp_path / "two.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:50])
    with pytest.raises(InputError, match="not a readable array"):
        read_array(tmp_path / "torn.npz")


def test_a_header_that_lies_takes_no_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", a_volume())
    raw = (tmp_path / "one.npy").read_bytes()
    for shape, words in ((b"(400, 900, 700)", "ends before"), (b"(4000, 4000, 90)", "larger than")):
        head = raw[:128].replace(b"(12, 10, 8)", shape)[:127] + b"\n"
        (tmp_path / "lies.npy").write_bytes(head + raw[128:])
        with pytest.raises(InputError, match=words):
            read_array(tmp_path / "lies.npy")

import gzip
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_volumes import a_volume
from numpy.typing import NDArray

from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.nifti import read_nifti
from synthdp.data.volumes.slices import formed
from synthdp.errors import InputError

nibabel = pytest.importorskip("nibabel")
#: LPS of the patient, for slices, rows and columns that grow up, back and to the left.
SPL_AS_RAS = np.diag([-2.0, -2.0, 4.0, 1.0])


def write(path: Path, voxels: NDArray[Any], affine: NDArray[Any] = SPL_AS_RAS) -> Path:
    """A NIfTI file of voxels (columns, rows, slices)."""
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)
    return path


def test_values_and_places_are_those_of_the_file(tmp_path: Path) -> None:
    scan = read_nifti(write(tmp_path / "one.nii.gz", a_volume().T))
    assert np.array_equal(scan.values, a_volume())
    assert scan.positions is not None
    assert scan.positions[1].tolist() == [0, 0, 4]
    assert scan.row_step is not None
    assert scan.column_step is not None
    assert scan.row_step.tolist() == [0, 2, 0]
    assert scan.column_step.tolist() == [2, 0, 0]
    plain = read_nifti(write(tmp_path / "one.nii", a_volume().T))
    assert np.array_equal(plain.values, scan.values)


def test_every_orientation_of_a_file_gives_one_volume(tmp_path: Path) -> None:
    volume = a_volume(12, 10, 10)
    form = VolumeForm(depth=12, window=(-1000, 500))
    wanted = formed(read_nifti(write(tmp_path / "plain.nii", volume.T)), form, 10)
    image = nibabel.Nifti1Image(volume.T, SPL_AS_RAS)
    for number, (axes, flips) in enumerate(
        itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
    ):
        turned = image.as_reoriented(np.array(list(zip(axes, flips, strict=True))))
        path = tmp_path / f"{number}.nii"
        nibabel.save(turned, path)
        assert np.array_equal(formed(read_nifti(path), form, 10), wanted), (axes, flips)


def test_another_orientation_turns_and_flips(tmp_path: Path) -> None:
    scan = read_nifti(write(tmp_path / "one.nii", a_volume(10, 10, 10).T))
    shown = {
        letters: formed(scan, VolumeForm(depth=10, window=(-1000, 500), orientation=letters), 10)
        for letters in ("SPL", "IPL", "SAR")
    }
    upright = shown["SPL"].reshape(10, 10, 10)
    assert np.array_equal(shown["IPL"].reshape(10, 10, 10), upright[::-1])
    assert np.array_equal(shown["SAR"].reshape(10, 10, 10), upright[:, ::-1, ::-1])


@pytest.mark.parametrize("letters", ["SSL", "spl", "SP", "SPLA", "XYZ", "SPA"])
def test_an_orientation_names_each_axis_once(letters: str) -> None:
    with pytest.raises(ValueError, match="orientation"):
        VolumeForm(orientation=letters)


def test_scaled_values_are_scaled(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(a_volume().T, SPL_AS_RAS)
    image.header.set_slope_inter(2, -7)
    path = tmp_path / "one.nii"
    nibabel.save(image, path)
    stored = nibabel.load(path)
    assert np.allclose(read_nifti(path).values, stored.get_fdata().T, atol=0.1)


def test_a_spacing_is_made_and_black_lies_beyond(tmp_path: Path) -> None:
    volume = np.full((12, 10, 10), 1000, dtype=np.int16)  # 48 x 20 x 20 mm
    scan = read_nifti(write(tmp_path / "one.nii", volume.T))
    form = VolumeForm(depth=8, spacing_mm=4, window=(0, 1000))
    slices = formed(scan, form, 8).reshape(8, 8, 8)  # a box of 32 mm
    assert (slices[:, 2:6, 2:6] == 255).all()
    assert not slices[:, [0, 7]].any()
    assert not slices[:, :, [0, 7]].any()


def test_a_sheared_affine_leans_and_is_set_upright(tmp_path: Path) -> None:
    affine = SPL_AS_RAS.copy()
    affine[1, 2] = -2.0  # 2 mm further back with each slice
    scan = read_nifti(write(tmp_path / "one.nii", a_volume().T, affine))
    with pytest.raises(InputError, match=r"lean by 26\.6 degrees"):
        formed(scan, VolumeForm(window="full"), 16)
    formed(scan, VolumeForm(window="full", tilt="resample"), 16)
    affine[0, 1] = -1.0
    scan = read_nifti(write(tmp_path / "two.nii", a_volume().T, affine))
    with pytest.raises(InputError, match="not at right angles"):
        formed(scan, VolumeForm(window="full", tilt="resample"), 16)


@pytest.mark.parametrize(
    ("voxels", "words"),
    [
        (np.zeros((4, 4, 4, 3), np.int16), "in colour"),
        (np.zeros((4, 4, 4, 5), np.int16), "several volumes"),
        (np.zeros((4, 4), np.int16), "no volume"),
        (np.zeros((4, 4, 1), np.int16), "flat image"),
        (np.full((4, 4, 4), np.nan, np.float32), "no finite number"),
        (np.zeros((4, 4, 4), np.complex64), "complex"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "in colour"),
    ],
)
def test_what_is_no_grey_volume_is_refused(
    tmp_path: Path, voxels: NDArray[Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        read_nifti(write(tmp_path / "one.nii.gz", voxels))


def test_one_volume_of_four_axes_is_taken(tmp_path: Path) -> None:
    assert read_nifti(write(tmp_path / "one.nii", a_volume().T[..., None])).values.shape == (
        12,
        10,
        8,
    )


def test_a_file_that_says_no_directions_needs_a_word(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(a_volume().T, SPL_AS_RAS)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nibabel.save(image, tmp_path / "one.nii")
    with pytest.raises(InputError, match=r"volumes\.orientation: stored"):
        read_nifti(tmp_path / "one.nii")
    assert read_nifti(tmp_path / "one.nii", stored=True).values.shape == (12, 10, 8)


def _altered(path: Path, at: int, content: bytes) -> Path:
    raw = bytearray(path.read_bytes())
    raw[at : at + len(content)] = content
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(
    ("at", "content", "words"),
    [
        (40, struct.pack("<8h", 3, 32767, 32767, 32767, 1, 1, 1, 1), "larger than is read"),
        (40, struct.pack("<8h", 3, 400, 400, 400, 1, 1, 1, 1), "ends before its voxels do"),
        (40, struct.pack("<8h", 3, -4, 4, 4, 1, 1, 1, 1), "flat image or empty"),
        (108, struct.pack("<f", 3e8), "where its voxels begin"),
        (108, struct.pack("<f", np.nan), "not a readable NIfTI"),
        (344, b"ni1\0", "Analyze"),
        (70, struct.pack("<h", 9999), "not a readable NIfTI"),
        (0, b"\0\0\0\0", "not a readable NIfTI"),
        (280, struct.pack("<f", np.inf), "no map of voxels to places"),
    ],
)
def test_headers_that_lie_take_no_memory(
    tmp_path: Path, at: int, content: bytes, words: str
) -> None:
    path = _altered(write(tmp_path / "one.nii", a_volume().T), at, content)
    with pytest.raises(InputError, match=words):
        read_nifti(path)
    packed = tmp_path / "one.nii.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=words):
        read_nifti(packed)


def test_a_truncated_or_damaged_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "one.nii.gz", a_volume().T)
    whole = path.read_bytes()
    for damaged in (b"", whole[:10], whole[:-40], whole[:30] + b"\xff" * 30 + whole[60:]):
        path.write_bytes(damaged)
        with pytest.raises(InputError):
            read_nifti(path)
    with pytest.raises(InputError, match="missing"):
        read_nifti(tmp_path / "none.nii")

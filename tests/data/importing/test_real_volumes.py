"""Real CT: a head with unequal gaps and a tilted gantry, and NIfTI files of TotalSegmentator."""

import os
from pathlib import Path

import numpy as np
import pytest

from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.nifti import read_nifti
from synthdp.data.volumes.scan import Scan
from synthdp.data.volumes.series import read_series
from synthdp.data.volumes.slices import formed
from synthdp.data.volumes.straight import straightened
from synthdp.errors import InputError

BESIDE = Path(__file__).parents[4] / "shared" / "data"
DATA = Path(os.environ.get("SYNTHDP_DATA", BESIDE))


def folder(name: str) -> Path:
    found = DATA / name
    if not found.is_dir():
        pytest.skip(f"no {name} here")
    return found


@pytest.fixture(scope="module")
def head() -> Scan:
    return read_series(sorted(folder("ct-head-tilted").glob("*.dcm")))


def test_a_tilted_head_needs_a_word_for_its_tilt_and_one_for_its_gaps(head: Scan) -> None:
    assert head.values.shape == (28, 512, 512)
    form = VolumeForm(window=(0, 80))
    with pytest.raises(InputError, match=r"lean by 18\.5 degrees"):
        formed(head, form, 64)
    upright = form.model_copy(update={"tilt": "resample"})
    # gaps of 1.14, 4.22 and 7.38 mm along the table are these along the normal of the slices
    with pytest.raises(InputError, match=r"gaps of 1\.08, 4, 7 mm"):
        formed(head, upright, 64)
    with pytest.raises(InputError, match="lean"):
        formed(head, form.model_copy(update={"gaps": "resample"}), 64)
    both = upright.model_copy(update={"gaps": "resample", "window": (-500, 500)})
    slices = formed(head, both, 64).reshape(32, 64, 64)
    # an upright head's middle stays where it is, slice for slice
    rows = np.arange(64)[None, :, None]
    weights = (slices > 100).astype(float)[6:26]
    middles = (weights * rows).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))
    assert float(np.ptp(middles)) < 8  # leaning, it would be 14 of 64 rows


@pytest.mark.parametrize("name", ["aorta_ct_cropped", "example_ct", "example_ct_sm"])
def test_axes_grow_where_nibabel_says_they_do(name: str) -> None:
    nibabel = pytest.importorskip("nibabel")
    path = folder("ct-volumes") / f"{name}.nii.gz"
    ras = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32)
    grid = straightened(read_nifti(path), VolumeForm())
    assert np.array_equal(grid.values, ras[::-1, ::-1].T)  # from right to left, front to back


def test_a_mask_keeps_its_own_range() -> None:
    mask = read_nifti(folder("ct-volumes") / "example_seg.nii.gz")
    assert mask.top == 255
    assert formed(mask, VolumeForm(depth=8), 32).max() > 0

from pathlib import Path

import numpy as np
import pytest
from made_up_volumes import a_volume, write_series

from synthdp.data.dicom.reading import DicomReading
from synthdp.data.volumes.form import VolumeForm
from synthdp.data.volumes.series import read_series
from synthdp.data.volumes.slices import formed
from synthdp.errors import InputError


def test_slices_are_in_hounsfield_units_and_sorted_by_where_they_lie(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "one")
    scan = read_series(paths[::-1])
    assert np.array_equal(scan.values, a_volume()[::-1])
    form = VolumeForm(depth=12, window=(-1000, 500))
    one, other = (formed(read_series(files), form, 10) for files in (paths, paths[::-1]))
    assert np.array_equal(one, other)
    slices = one.reshape(12, 10, 10)
    # padded from 8 to 10 columns, in the middle
    assert np.array_equal(slices[:, :, 1:9], np.where(a_volume() == 500, 255, 0))
    assert not slices[:, :, [0, 9]].any()


def test_a_ct_needs_a_window(tmp_path: Path) -> None:
    scan = read_series(write_series(tmp_path / "one"))
    with pytest.raises(InputError, match=r"Hounsfield units become black and white"):
        formed(scan, VolumeForm(), 16)
    formed(scan, VolumeForm(window="full"), 16)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"SeriesInstanceUID": "2.25.9"}, "of several series"),
        ({"PatientID": "P-9"}, "of several patients"),
        ({"StudyInstanceUID": "2.25.9"}, "of several studies"),
        ({"SOPInstanceUID": "2.25.20001"}, "copies of another one"),
        ({"ImageOrientationPatient": [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]}, "face several ways"),
        ({"PixelSpacing": [1.0, 1.0]}, "several distances between pixels"),
        ({"ImagePositionPatient": None}, "does not say where it lies"),
        ({"Modality": "MR"}, "modality"),
    ],
)
def test_what_is_not_of_one_volume_is_refused(
    tmp_path: Path, others: dict[str, object], words: str
) -> None:
    paths = write_series(tmp_path / "one")
    elements = {"SOPInstanceUID": "2.25.77"} | others
    stranger = write_series(tmp_path / "two", a_volume()[:1], heights_mm=[48.0], **elements)
    with pytest.raises(InputError, match=words) as refusal:
        read_series([*paths, *stranger])
    assert "P-" not in str(refusal.value)
    assert "slice0" not in str(refusal.value)


def test_slices_of_several_sizes_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "one")
    small = write_series(
        tmp_path / "two", a_volume(1, 6, 6), heights_mm=[48.0], SOPInstanceUID="2.25.77"
    )
    with pytest.raises(InputError, match="of several sizes"):
        read_series([*paths, *small])


def test_one_slice_is_no_volume(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a series of 1 slice"):
        read_series(write_series(tmp_path / "one")[:1])


def test_the_window_of_headers_is_not_one_for_volumes(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "one")
    with pytest.raises(InputError, match=r"dicom\.window"):
        read_series(paths, DicomReading(window="dicom"))


def test_two_slices_at_one_place_are_refused(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "one", heights_mm=[0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 40])
    with pytest.raises(InputError, match="two of its slices lie at one place"):
        formed(read_series(paths), VolumeForm(window="full"), 16)


def test_a_missing_slice_is_refused_or_made_up(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 12).astype(np.int16)[:, None, None] + np.zeros(
        (12, 8, 8), np.int16
    )
    paths = write_series(tmp_path / "one", values)
    del paths[5]
    form = VolumeForm(depth=12, window=(-1000, 1000))
    with pytest.raises(
        InputError, match=r"gaps of 4, 8 mm .*one is missing.*volumes\.gaps: resample"
    ):
        formed(read_series(paths), form, 8)
    made_up = formed(read_series(paths), form.model_copy(update={"gaps": "resample"}), 8)
    whole = formed(read_series(write_series(tmp_path / "two", values)), form, 8)
    assert np.abs(made_up.astype(int) - whole).max() <= 1


def test_a_leaning_stack_is_refused_or_set_upright(tmp_path: Path) -> None:
    # a column that stands upright in the patient; each slice begins 2 mm, a row, further back
    values = np.full((10, 24, 8), -1000, dtype=np.int16)
    for index in range(10):
        values[index, 12 - index : 14 - index, 2:6] = 500
    paths = write_series(tmp_path / "one", values, lean_mm=2.0)
    form = VolumeForm(depth=10, window=(-1000, 500))
    with pytest.raises(InputError, match=r"lean by 26\.6 degrees.*volumes\.tilt: resample"):
        formed(read_series(paths), form, 24)
    upright = formed(read_series(paths), form.model_copy(update={"tilt": "resample"}), 24)
    rows = np.nonzero(upright.reshape(10, 24, 24).max(axis=2) > 128)[1].reshape(10, 2)
    assert (rows == rows[0]).all()


def test_negatives_are_shown_as_pictures(tmp_path: Path) -> None:
    form = VolumeForm(depth=12, window="full")
    plain = formed(read_series(write_series(tmp_path / "one")), form, 10).reshape(12, 10, 10)
    negative = write_series(tmp_path / "two", PhotometricInterpretation="MONOCHROME1")
    shown = formed(read_series(negative), form, 10).reshape(12, 10, 10)
    assert np.array_equal(shown[:, :, 1:9], 255 - plain[:, :, 1:9])
    assert not shown[:, :, [0, 9]].any()

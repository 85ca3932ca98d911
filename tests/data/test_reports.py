"""PNG, TIFF and JPEG files that people reported to other projects; the log is reports.md.

What is right was written down from PNG, TIFF 6.0 and EXIF before this reader was asked.
"""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from image_zoo import Tiff, levels, spread, tiff
from numpy.typing import NDArray
from PIL import Image

from synthdp.cli import main
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels, square_image
from synthdp.data.images import encode_png
from synthdp.errors import InputError


def decoded(path: Path, content: bytes) -> NDArray[np.integer]:
    path.write_bytes(content)
    return decode_pixels(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "one"


DEEP = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64


def test_a_gradient_of_sixteen_bits_is_not_clipped_to_white(path: Path) -> None:
    """python-pillow/Pillow#3011"""
    np.testing.assert_array_equal(decoded(path, encode_png(DEEP)), DEEP)
    seen = square_image(path)  # as networks see it
    np.testing.assert_allclose(seen, DEEP / 32767.5 - 1, atol=1e-4)


def test_white_of_sixteen_bits_is_white(path: Path) -> None:
    """python-pillow/Pillow#5967"""
    pixels = np.full((8, 8), 65535, np.uint16)
    np.testing.assert_array_equal(decoded(path, encode_png(pixels)), pixels)
    assert square_image(path).min() == 1.0


def set_of(folder: Path, *options: str) -> list[str]:
    """The words of an import of a folder of images in class folders."""
    src, out = f"src={folder}", f"out={folder.parent / 'set'}"
    return ["data", "patches", src, out, "name=t", r"patient_pattern=(\d+)\.", *options]


def test_what_a_microscope_writes_beside_its_pixels_stays_there(tmp_path: Path) -> None:
    """python-pillow/Pillow#1099"""
    xml = "<?xml version='1.0'?><OME><Image Name='Jane Doe'><AcquisitionDate>2012</AcquisitionDate>"
    description = {270: (2, [*f"{xml}</Image></OME>".encode(), 0])}
    for number in range(4):
        values = levels(16, number, (32, 32))
        folder = tmp_path / "src" / ("malignant" if number % 2 else "benign")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.ome.tif").write_bytes(tiff(values, Tiff(16, tags=description)))
    arguments = [*set_of(tmp_path / "src"), "size_px=32"]
    assert main([word.replace(r"(\d+)\.", r"(\d+)\.ome") for word in arguments]) == 0
    dataset = open_dataset(tmp_path / "set")
    assert len(dataset.rows) == 4
    for number, row in enumerate(sorted(dataset.rows, key=lambda row: row.patient_id)):
        made = decode_pixels(dataset.root / row.image)
        np.testing.assert_array_equal(made, levels(16, number, (32, 32)))
        assert b"Jane" not in (dataset.root / row.image).read_bytes()


def test_sixteen_bits_come_to_eight_over_their_range(tmp_path: Path) -> None:
    """python-pillow/Pillow#1108: a crop of 8 bits has the picture's dark and bright, not white."""
    src = tmp_path / "src"
    src.mkdir()
    pixels = np.linspace(500, 60000, 64 * 64).astype(np.uint16).reshape(64, 64)
    for name in ("1", "2"):
        Image.fromarray(pixels).save(src / f"{name}.tif")
    head = "file,patient_id,malignant,xmin,ymin,xmax,ymax"
    (src / "t.csv").write_text(f"{head}\n1.tif,1,0,0,0,64,64\n2.tif,2,1,0,0,64,64\n")
    told = ["--images", str(src), "--table", str(src / "t.csv"), "--out", str(tmp_path / "set")]
    crop = ["crop.margin_px=0", "crop.least_side_px=8", "size_px=64"]
    assert main(["data", "dicom", *told, *crop]) == 0
    dataset = open_dataset(tmp_path / "set")
    made = decode_pixels(dataset.root / dataset.rows[0].image)
    assert made.dtype == np.uint8
    np.testing.assert_allclose(made, (pixels - 500.0) / 59500 * 255, atol=1)


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_samples_of_which_the_least_is_white(path: Path, bits: int) -> None:
    """InsightSoftwareConsortium/ITK#6636, xarray-contrib/xarray-spatial#2278

    x becomes -1 - x, so that nothing overflows at the least; then the least is black.
    """
    stored = levels(bits) - 2 ** (bits - 1)
    how = Tiff(bits, photometric=0, tags={339: (3, [2])})
    meant = (-1 - stored) + 2 ** (bits - 1)
    np.testing.assert_array_equal(decoded(path, tiff(stored, how)), meant)


def test_white_of_a_fax_is_white(path: Path) -> None:
    """image-rs/image-tiff#296: group 4 of one bit, white is 0; a black bar on a white page."""
    page = np.ones((16, 24), bool)
    page[4:8] = False
    stream = io.BytesIO()
    Image.fromarray(page).save(stream, "TIFF", compression="group4", tiffinfo={262: 0})
    np.testing.assert_array_equal(decoded(path, stream.getvalue()), page * 255)


@pytest.mark.parametrize("bits", [2, 4])
def test_few_bits_are_unpacked_and_spread(path: Path, bits: int) -> None:
    """SerenityOS/serenity#22207: rows of an odd length, white is 0."""
    values, top = levels(bits, 3, (7, 13)), 2**bits - 1
    np.testing.assert_array_equal(
        decoded(path, tiff(values, Tiff(bits, photometric=0))), spread(top - values, top)
    )


@pytest.mark.parametrize("bits", [8, 16])
def test_differences_within_tiles_that_end_beyond_the_image(path: Path, bits: int) -> None:
    """haraldk/TwelveMonkeys#77: along a row of a tile, not of the image."""
    values = levels(bits, 1, (20, 37))
    how = Tiff(bits, compression=8, predictor=2, layout="tiles")
    np.testing.assert_array_equal(decoded(path, tiff(values, how)), values)


def test_a_plain_strip_whose_length_is_counted_wrong(path: Path) -> None:
    """haraldk/TwelveMonkeys#683: too few bytes are said for rows of 12 bits, and all are there."""
    values = levels(12, 2, (6, 9))
    content = tiff(values, Tiff(12))
    said = {279: (4, [6 * 13])}
    shorter = tiff(values, Tiff(12, tags=said))
    assert content != shorter
    with pytest.raises(InputError, match="truncated"):
        decoded(path, shorter)


def test_words_in_the_other_order(path: Path) -> None:
    """pearu/pylibtiff#29"""
    values = levels(16, 3)
    np.testing.assert_array_equal(decoded(path, tiff(values, Tiff(16, order=">"))), values)


def test_planes_side_by_side_in_strips_of_few_rows(path: Path) -> None:
    """imagej/imagej2#196"""
    values = levels(8, 4)
    colours = np.stack([values] * 3, axis=2)
    how = Tiff(8, photometric=2, planar=2, layout="strips")
    np.testing.assert_array_equal(decoded(path, tiff(colours, how)), values)


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_arrays_in_fortran_s_order_are_not_turned(path: Path, kind: str) -> None:
    """OpenChemistry/tomviz#1809, sonos/tract#655"""
    pixels = (np.arange(12 * 20).reshape(12, 20) * 200).astype(kind)
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(pixels))
    np.testing.assert_array_equal(decoded(path, stream.getvalue()), pixels)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_box_lies_where_it_was_drawn_on_an_upright_picture(
    tmp_path: Path, orientation: int
) -> None:
    """open-edge-platform/datumaro#1756, tensorflow/tensorflow#49834

    Whoever draws a box on a photographed film sees it as its EXIF says it is to be seen.
    """
    src = tmp_path / "src"
    src.mkdir()
    upright = np.full((96, 64), 40, np.uint8)
    upright[64:80, 8:24] = 220
    upright[0, 0], upright[-1, -1] = 0, 255
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}
    stored = Image.fromarray(upright).transpose(back.get(orientation, Image.Transpose.ROTATE_270))
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("1.jpg", "2.jpg"):
        stored.save(src / name, quality=95, exif=exif)
    head = "file,patient_id,malignant,xmin,ymin,xmax,ymax"
    (src / "t.csv").write_text(f"{head}\n1.jpg,1,0,8,64,24,80\n2.jpg,2,1,0,56,32,88\n")
    told = ["--images", str(src), "--table", str(src / "t.csv"), "--out", str(tmp_path / "set")]
    crop = ["crop.margin_px=0", "crop.least_side_px=8", "size_px=16", "crop.levels=full_range"]
    assert main(["data", "dicom", *told, *crop, "leave_out=[narrow_range]"]) == 0
    dataset = open_dataset(tmp_path / "set")
    (row,) = dataset.rows[-1:]
    made = decode_pixels(dataset.root / row.image).astype(int)
    assert made[5:11, 5:11].min() > 200
    assert made[:3].max() < 60


def test_the_log_and_the_tests_name_the_same_reports() -> None:
    here = Path(__file__).parent
    rows = [line.split("|") for line in (here / "reports.md").read_text().splitlines()]
    rows = [[cell.strip() for cell in row[1:-1]] for row in rows if len(row) == 6][2:]
    report = re.compile(r"[\w.-]+/[\w.-]+#\d+")
    tests = [here / folder / Path(__file__).name for folder in ("", "dicom", "importing")]
    tried = {name for path in tests for name in report.findall(path.read_text())}
    logged = [name for row in rows for name in report.findall(row[0])]
    assert sorted(logged) == sorted(tried)
    held = sum(row[3] == "yes" for row in rows)
    assert len(rows) >= 40
    assert f"{held} of {len(rows)} lines held at first try" in (here / "reports.md").read_text()
    assert all(row[3] == "yes" or row[3].startswith("no: ") for row in rows)
    assert len({name.split("#")[0] for name in logged}) >= 5

"""What a set's grey levels are, from files that mean the same in other ways or nothing at all."""

import io
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from image_zoo import Tiff, chunk, exif, npy, png, tiff, turned
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.check import check_dataset
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels, narrow_range, refuse_narrow
from synthdp.data.images import encode_png
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
MakeFolder = Callable[[Mapping[str, Pixels | bytes]], Path]
Texture = Callable[..., Pixels]
PATIENT = r"(p\d)"


def imported(src: Path, **changes: object) -> list[Pixels]:
    """The pixels of the set that an import of `src` makes, in the order of the files' paths."""
    values = {"src": src, "out": src.parent / "set", "name": "tiny", "size_px": 32, **changes}
    settings = PatchesSettings.model_validate({"patient_pattern": PATIENT, **values})
    dataset = open_dataset(run_patches(settings))
    return [decode_pixels(dataset.root / row.image) for row in dataset.rows]


def refusal(src: Path, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        imported(src, **changes)
    assert not (src.parent / "set").exists()
    return str(error.value)


def jpeg(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def test_one_picture_in_many_files_is_one_picture(
    make_folder: MakeFolder, texture: Texture
) -> None:
    shown = texture(1, bits=16)
    values = shown.astype(np.int64)
    sideways = shown.T[:, ::-1]
    assert np.array_equal(turned(sideways, 8), shown)
    src = make_folder(
        {
            "benign/p1.png": shown,
            "benign/p2.tif": tiff(65535 - values, Tiff(16, 0, ">", 5, 2)),
            "benign/p3.tif": tiff(values - 32768, Tiff(16, tags={339: (3, [2])})),
            "benign/p4.tif": tiff(sideways.astype(np.int64), Tiff(16, tags={274: (3, [8])})),
            "benign/p5.png": png(sideways, 16, 0, before=chunk(b"eXIf", exif(8))),
            "benign/p6.npy": npy(shown),
            "benign/p7.png": png(np.stack([values] * 3, axis=2), 16, 2),
        }
    )
    for pixels in imported(src, split="train"):
        assert pixels.dtype == np.uint16
        assert np.array_equal(pixels, shown)


def test_twelve_bits_in_sixteen_are_refused_and_right_with_bits(
    make_folder: MakeFolder, texture: Texture
) -> None:
    stored = [texture(seed, bits=16) // 16 for seed in (1, 2)]
    src = make_folder({"benign/p1.png": stored[0], "malignant/p2.png": stored[1]})
    text = refusal(src, split="train")
    for number in (1, 2):
        assert f"image {number}: uses less than a sixteenth of its 16 bits" in text
    assert "bits" in text.split("`")
    for twelve, pixels in zip(stored, imported(src, split="train", bits=12), strict=True):
        assert np.array_equal(pixels, np.rint(twelve * (65535 / 4095)).astype(np.uint16))


def test_bits_below_what_is_used_are_refused(make_folder: MakeFolder, texture: Texture) -> None:
    src = make_folder({"benign/p1.png": texture(1, bits=16)})
    assert "image 1: holds samples above the 12 bits" in refusal(src, split="train", bits=12)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("flat.png", np.full((32, 32), 200, np.uint8)),
        ("black.png", np.zeros((32, 32), np.uint16)),
        ("offset.tif", tiff(np.arange(1024).reshape(32, 32), Tiff(16, tags={339: (3, [2])}))),
        ("raised.png", (np.arange(1024).reshape(32, 32) * 2 + 60000).astype(np.uint16)),
    ],
)
def test_what_hardly_varies_is_refused_or_left_out(
    make_folder: MakeFolder, texture: Texture, name: str, content: Pixels | bytes
) -> None:
    files = {"benign/p1.png": texture(1), f"benign/p2-{name}": content}
    src = make_folder(files)
    assert "image 2: uses less than a sixteenth" in refusal(src, split="train")
    assert len(imported(src, split="train", leave_out=["narrow_range"])) == 1


def test_a_padded_image_is_judged_before_it_is_padded(make_folder: MakeFolder) -> None:
    """Black beside it would lend it a range."""
    src = make_folder({"benign/p1.png": np.full((32, 20), 200, np.uint8)})
    assert "image 1: uses less than a sixteenth" in refusal(src, split="train")


def test_an_image_that_resampling_flattens_is_refused_as_check_would(
    make_folder: MakeFolder,
) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    src = make_folder({"benign/p1.png": board})
    assert "image 1: uses less than a sixteenth" in refusal(src, split="train")


def test_an_import_says_the_range_and_what_came_from_jpeg(
    make_folder: MakeFolder, texture: Texture, caplog: pytest.LogCaptureFixture
) -> None:
    files: dict[str, Pixels | bytes] = {
        "benign/p1.png": texture(1),
        "benign/p2.jpg": jpeg(texture(2)),
        "benign/p3.png": texture(3, bits=16) // 8,
    }
    with caplog.at_level(logging.INFO):
        imported(make_folder(files), split="train")
    words = caplog.text
    assert "grey levels at 8 bit: 0 to 255; an image spans" in words
    assert "no 16-bit image goes beyond 13 bits" in words
    assert "1 image(s) from JPEG, which has lost detail" in words


def test_colours_are_named_and_stop_an_import(make_folder: MakeFolder, texture: Texture) -> None:
    equal = np.stack([texture(1)] * 3, axis=2)
    drawn = equal.copy()
    drawn[:4, :4, 0] ^= 255
    src = make_folder({"benign/p1.png": png(drawn, 8, 2), "benign/p2.png": png(equal, 8, 2)})
    assert "image 1: is in colour: its channels differ in 16 of 1,024 pixels, by 25" in refusal(
        src, split="train"
    )


@pytest.mark.parametrize(("bits", "least"), [(8, 16), (16, 4096)])
def test_a_sixteenth_is_enough(bits: int, least: int) -> None:
    assert narrow_range(7, 7 + least, bits) is None
    words = narrow_range(7, 6 + least, bits)
    assert words is not None
    assert f"{bits} bits (grey levels 7 to {6 + least})" in words
    kind = np.uint8 if bits == 8 else np.uint16
    refuse_narrow(np.array([[9, 9 + least]], kind))
    with pytest.raises(InputError, match="less than a sixteenth"):
        refuse_narrow(np.array([[9, 8 + least]], kind))


def test_check_finds_what_hardly_varies(
    make_folder: MakeFolder, texture: Texture, tmp_path: Path
) -> None:
    src = make_folder({"benign/p1.png": texture(1), "benign/p2.png": texture(2)})
    imported(src, split="train")
    root = tmp_path / "set"
    image = root / open_dataset(root).rows[1].image
    image.write_bytes(encode_png(texture(3, bits=16) // 16))
    found = check_dataset(root).problems
    narrow = [problem for problem in found if "less than a sixteenth" in problem]
    assert [problem.split(" uses")[0] for problem in narrow] == ["row 3: image:"]


@pytest.mark.parametrize("name", ["cbis-ddsm/train", "nih-cxr/images", "mcgan-baseline"])
def test_real_images_use_enough_of_their_range(real_data: Path, name: str) -> None:
    paths = sorted((real_data / name).rglob("*.png"))[::10]
    assert len(paths) > 90
    for path in paths:
        refuse_narrow(decode_pixels(path))

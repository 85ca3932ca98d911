"""What is read of image files, and the words for what is not."""

import io
import os
import random
import struct
import tracemalloc
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from image_zoo import Tiff, chunk, npy, png, tiff, zipped
from PIL import Image

from synthdp.data.decoding import decode_pixels, square_image
from synthdp.data.dicom.image import read_dicom
from synthdp.data.images import encode_png, to_float
from synthdp.errors import InputError

GREY_8 = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
GREY_16 = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def header_only_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixel."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 100))
        + chunk(b"IEND", b"")
    )


def decoded(tmp_path: Path, content: bytes) -> np.ndarray:
    path = tmp_path / "P_00001_secret.png"
    path.write_bytes(content)
    return decode_pixels(path)


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(InputError) as error:
        decoded(tmp_path, content)
    assert "secret" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("pixels", [GREY_8, GREY_16], ids=["8bit", "16bit"])
def test_png_goes_there_and_back(tmp_path: Path, pixels: np.ndarray) -> None:
    found = decoded(tmp_path, encode_png(pixels))
    assert found.dtype == pixels.dtype
    assert np.array_equal(found, pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("pixels", [GREY_8, GREY_16], ids=["8bit", "16bit"])
def test_tiff_is_read(tmp_path: Path, pixels: np.ndarray, compression: str | None) -> None:
    content = encoded(Image.fromarray(pixels), "TIFF", compression=compression)
    assert np.array_equal(decoded(tmp_path, content), pixels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_colour_becomes_grey(tmp_path: Path, mode: str) -> None:
    content = encoded(Image.fromarray(GREY_8).convert(mode), "PNG")
    assert np.array_equal(decoded(tmp_path, content), GREY_8)


def test_a_huge_png_is_refused_by_its_header(tmp_path: Path) -> None:
    assert "more pixels than this reader takes" in refusal(tmp_path, header_only_png(60000, 60000))
    assert "9000x100 px is more pixels than" in refusal(tmp_path, header_only_png(9000, 100))
    assert "8000x8000 px is more pixels than" in refusal(tmp_path, header_only_png(8000, 8000))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    assert "truncated" in refusal(tmp_path, content[: int(share * len(content))])


@pytest.mark.parametrize(
    "content",
    [
        b"not an image",
        encode_png(GREY_8)[:-12],
        encode_png(GREY_8)[:-20] + b"\0\0\0\0" + encode_png(GREY_8)[-16:],
    ],
    ids=["text", "no-end", "checksum"],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    assert "not a readable" in refusal(tmp_path, content)


def test_several_frames_and_other_depths_are_refused(tmp_path: Path) -> None:
    frame = Image.fromarray(GREY_8)
    pages = encoded(frame, "TIFF", save_all=True, append_images=[frame])
    assert "several frames" in refusal(tmp_path, pages)
    real = encoded(Image.fromarray(GREY_8.astype(np.float32)), "TIFF")
    assert "floating-point" in refusal(tmp_path, real)
    wide = encoded(Image.fromarray(GREY_8.astype(np.int32) * 70_000), "TIFF")
    assert "32 bits" in refusal(tmp_path, wide)


def test_unsigned_samples_in_a_signed_type_are_not_half_grey(tmp_path: Path) -> None:
    """As of a 14-bit detector, saved with numpy from signed pixels: black came out as grey 128."""
    values = np.linspace(0, 16383, 64 * 64).astype(np.int16).reshape(64, 64)
    stream = io.BytesIO()
    np.save(stream, values)
    assert "none is negative" in refusal(tmp_path, stream.getvalue())
    path = tmp_path / "one.npy"
    path.write_bytes(stream.getvalue())
    np.testing.assert_allclose(decode_pixels(path, bits=14) / 65535, values / 16383, atol=1e-5)
    np.save(path, values - 8192)  # which needs its sign
    np.testing.assert_allclose(
        decode_pixels(path) / 65535, (values.astype(int) + 24576) / 65535, atol=1e-5
    )


def test_a_missing_and_a_large_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file is missing"):
        decode_pixels(tmp_path / "none.png")
    with pytest.raises(InputError, match="the file is missing"):
        decode_pixels(tmp_path)
    with open(tmp_path / "large.png", "wb") as stream:
        stream.truncate(65 * 2**20)
    with pytest.raises(InputError, match="larger than 64 MiB"):
        decode_pixels(tmp_path / "large.png")


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_an_image_or_an_input_error(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = [
        encoded(Image.fromarray(pixels), kind)
        for pixels in (GREY_8, GREY_16)
        for kind in ("PNG", "TIFF")
    ]
    refused = 0
    for _ in range(400):
        content = bytearray(rng.choice(whole))
        for _ in range(rng.choice([1, 2, 6])):
            content[rng.randrange(len(content))] = rng.choice([0, 1, 127, 255, rng.randrange(256)])
        try:
            decoded(tmp_path, bytes(content))
        except InputError:
            refused += 1
    assert 100 < refused < 400


def test_a_tiff_without_its_size_is_refused(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(GREY_8), "TIFF").replace(
        struct.pack("<HH", 257, 4), struct.pack("<HH", 32768, 4)
    )
    assert "lacks the tag 257" in refusal(tmp_path, content)


def test_networks_see_a_square_that_is_padded_and_not_stretched(tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(encode_png(np.full((20, 40), 255, dtype=np.uint8)))
    seen = square_image(tmp_path / "wide.png")
    assert seen.shape == (40, 40)
    assert (seen[10:30] == 1).all()
    assert (np.delete(seen, np.arange(10, 30), axis=0) == -1).all()
    assert square_image(tmp_path / "wide.png", 8).shape == (8, 8)
    square = np.arange(64, dtype=np.uint8).reshape(8, 8)
    (tmp_path / "square.png").write_bytes(encode_png(square))
    assert (square_image(tmp_path / "square.png") == to_float(square)).all()


@cache
def bombs() -> dict[str, bytes]:
    """Small files that would unpack to a hundred times what their headers say, or more."""
    grey = np.zeros((19, 37), np.int64)
    zeros = zlib.compress(bytes(64 * 2**20), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 37, 19, 8, 0, 0, 0, 0))
    many = 5000
    shared = {278: (4, [1]), 273: (4, [8] * many), 279: (4, [40_000] * many)}
    return {
        "png": b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zeros) + chunk(b"IEND", b""),
        "png text": png(grey, 8, 0, before=chunk(b"zTXt", b"a\0\0" + zeros)),
        "png profile": png(grey, 8, 0, before=chunk(b"iCCP", b"a\0\0" + zeros)),
        "tiff": tiff(grey, Tiff(8, 1, "<", 8), pieces=[zeros]),
        "tiff of shared strips": tiff(
            np.zeros((many, 8), np.int64), Tiff(8, 1, "<", 5, tags=shared), pieces=[zeros[:50_000]]
        ),
        "npz": zipped(image=npy(grey.astype(np.uint8)) + bytes(64 * 2**20)),
        "pgm": b"P2 37 19 255\n" + b"0 " * 2_000_000,
    }


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    decoded(tmp_path, encode_png(GREY_8))  # what is imported late is none of theirs
    for name, content in bombs().items():
        (tmp_path / "x").write_bytes(content)
        tracemalloc.start()
        with suppress(InputError):
            decode_pixels(tmp_path / "x")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 16 * len(content) + 8 * 2**20, name


def test_strips_that_share_their_bytes_without_end_are_refused(tmp_path: Path) -> None:
    assert "share their bytes" in refusal(tmp_path, bombs()["tiff of shared strips"])


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a" + bytes(40), "GIF"),
        (b"BM" + bytes(40), "BMP"),
        (b"%PDF-1.7" + bytes(40), "PDF"),
        (b"<!doctype html><html>Sign in</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "JPEG 2000"),
        (b"P6\n2 2\n255\n" + bytes(12), "PPM"),
    ],
)
def test_other_kinds_are_named(tmp_path: Path, content: bytes, name: str) -> None:
    words = refusal(tmp_path, content)
    assert f"is not an image that is read, but {name}" in words
    assert "PNG, TIFF, JPEG" in words


def test_an_empty_file_says_so(tmp_path: Path) -> None:
    assert "the file is empty" in refusal(tmp_path, b"")


def test_what_is_no_file_is_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "loop.png", "zero.png", "none.png"):
        with pytest.raises(InputError, match="the file is missing"):
            decode_pixels(tmp_path / name)


def test_a_kind_is_told_by_content(tmp_path: Path) -> None:
    for name in ("x.tif", "x.jpg", "x", "x.dcm"):
        (tmp_path / name).write_bytes(encode_png(GREY_8))
        assert np.array_equal(decode_pixels(tmp_path / name), GREY_8)


def test_dicom_goes_to_its_own_reader(tmp_path: Path) -> None:
    data = pytest.importorskip("pydicom.data").get_testdata_file("CT_small.dcm")
    (tmp_path / "x.png").write_bytes(Path(data).read_bytes())
    assert np.array_equal(decode_pixels(tmp_path / "x.png"), read_dicom(tmp_path / "x.png").pixels)

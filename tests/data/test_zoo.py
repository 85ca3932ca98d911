"""The decoder on a zoo of small files whose meaning is known, whole and damaged."""

import random
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_zoo import Specimen, levels, png, zoo

from synthdp.data.decoding import decode_pixels
from synthdp.data.formats.limits import MAX_PIXELS
from synthdp.errors import InputError

KINDS = ("tiff", "png", "jpeg", "pgm", "npy", "npz")


def outcome(path: Path, specimen: Specimen) -> str:
    """What is wrong with what is read of a specimen; an empty text where it is right."""
    path.write_bytes(specimen.content)
    try:
        pixels = decode_pixels(path, bits=specimen.bits)
    except InputError as error:
        right = specimen.meant is None and specimen.refused in str(error)
        return "" if right else f"{specimen.name}: refused: {error}"
    meant = specimen.meant
    if meant is None:
        return f"{specimen.name}: read, and not refused"
    right = pixels.dtype == meant.dtype and np.array_equal(pixels, meant)
    return "" if right else f"{specimen.name}: read as something else"


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_the_zoo_is_read_as_it_means_or_refused(tmp_path: Path, kind: str) -> None:
    of_kind = [specimen for specimen in zoo() if specimen.name.split()[0] == kind]
    assert of_kind
    wrong = [said for one in of_kind if (said := outcome(tmp_path / "x", one))]
    assert not wrong


def test_the_zoo_has_500_files_and_is_the_same_each_time() -> None:
    names = [specimen.name for specimen in zoo()]
    assert len(names) >= 500
    assert not [name for name, count in Counter(names).items() if count > 1]
    zoo.cache_clear()
    again = zoo()
    assert [one.name for one in again] == names


def test_no_refusal_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "P_00001_jane_doe.png"
    refused = [specimen for specimen in zoo() if specimen.meant is None]
    for specimen in refused:
        path.write_bytes(specimen.content)
        with pytest.raises(InputError) as error:
            decode_pixels(path, bits=specimen.bits)
        assert "jane" not in str(error.value), specimen.name
        assert len(str(error.value)) < 300, specimen.name


def mended(content: bytes) -> bytes:
    """A PNG with the checksums of its chunks made right, so that what is inside is looked at."""
    at, whole = 8, bytearray(content[:8])
    while at + 12 <= len(content):
        length = struct.unpack_from(">I", content, at)[0]
        if at + 12 + length > len(content):
            break
        body = content[at + 4 : at + 8 + length]
        whole += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(whole) + content[at:]


EXTREMES = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


def damaged(number: int, seed: int) -> bytes:
    """A specimen with bytes changed, cut out, put in, or left off at the end."""
    rng = random.Random(seed)
    specimens = zoo()
    content = bytearray(specimens[number % len(specimens)].content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        if not content:
            break
        at = rng.randrange(min(len(content), rng.choice((64, 300, len(content)))))
        match rng.randrange(6):
            case 0:
                content[at] = rng.randrange(256)
            case 1:
                content[at : at + 2] = struct.pack(
                    rng.choice("<>") + "H", rng.choice(EXTREMES) & 0xFFFF
                )
            case 2:
                content[at : at + 4] = struct.pack(rng.choice("<>") + "I", rng.choice(EXTREMES))
            case 3:
                del content[at:]
            case 4:
                del content[at : at + rng.randrange(1, 40)]
            case 5:
                other = rng.choice(specimens).content
                content[at:at] = other[: rng.randrange(1, 64)]
    return mended(bytes(content)) if rng.random() < 0.6 else bytes(content)


def refused_or_read(path: Path, content: bytes, bits: int | None = None) -> None:
    path.write_bytes(content)
    try:
        pixels = decode_pixels(path, bits=bits)
    except InputError:
        return
    assert pixels.dtype in (np.uint8, np.uint16)
    assert pixels.ndim == 2
    assert 0 < pixels.size <= MAX_PIXELS


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(0, 10_000), st.integers(0, 2**32), st.sampled_from((None, 8, 12)))
def test_damaged_files_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, number: int, seed: int, bits: int | None
) -> None:
    refused_or_read(tmp_path_factory.getbasetemp() / "damaged", damaged(number, seed), bits)


def test_a_deep_colour_png_with_a_wrong_checksum_of_its_pixels_is_refused(tmp_path: Path) -> None:
    """torchvision's reader, which was tried for these, ends the process on such a file."""
    for colour, channels in ((2, 3), (4, 2), (6, 4)):
        grey = np.stack([levels(16, 1)] * channels, axis=2)
        whole = png(grey, 16, colour)
        end = whole.index(b"IEND") - 8  # of the pixels, before the chunk's own checksum
        torn = mended(whole[: end - 1] + bytes([whole[end - 1] ^ 1]) + whole[end:])
        refused_or_read(tmp_path / "x.png", torn)
        with pytest.raises(InputError, match="not a readable PNG"):
            decode_pixels(tmp_path / "x.png")

"""PNG: grey, palette and equal colours of 1 to 16 bits, with the chunks that change their meaning.

W3C PNG (third edition), sections 11.2 and 11.3. Samples are linear in what the file stores: gamma,
ICC and the like say how to show an image, not what was measured, and are left unread.
"""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.formats.exif import exif_orientation
from synthdp.data.formats.limits import SEVERAL_FRAMES, TRUNCATED, refuse_size
from synthdp.data.formats.samples import Samples, one_channel, refuse_transparent
from synthdp.errors import InputError

BEGINNING = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_WITH_ALPHA = (_GREY_ALPHA, _RGBA)
#: Chunks that say something of the samples.
_READ = (b"IHDR", b"PLTE", b"tRNS", b"sBIT", b"acTL")


def read_png(content: bytes) -> Samples:
    """The samples of a PNG of one frame.

    Raises:
        InputError: when the file is damaged, or of a kind that is refused by name.
    """
    chunks = _chunks(content)
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise InputError(TRUNCATED)
    width, height, depth, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    refuse_size(width, height)
    if b"acTL" in chunks:
        raise InputError(SEVERAL_FRAMES)
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        image.verify()  # the checksums, which decoding alone leaves unread
    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        deep_colour = depth == 16 and colour != _GREY
        values = _deep_values(content, colour) if deep_colour else np.asarray(image)
        orientation = exif_orientation(image)
    if colour == _PALETTE:
        return Samples(_by_palette(values, chunks), 255, orientation=orientation)
    values = values.reshape(height, width, -1)
    top = 2**16 - 1 if depth == 16 else 255
    if depth < 8:  # Pillow has spread 2 and 4 bits over 8, and 1 bit is a truth
        values = values.astype(np.uint8) // (255 // (2**depth - 1)) if depth > 1 else values * 1
        top = 2**depth - 1
    if (key := chunks.get(b"tRNS")) is not None and colour not in _WITH_ALPHA:
        hidden = np.array(struct.unpack(f">{len(key) // 2}H", key[: len(key) // 2 * 2]))
        if len(hidden) != values.shape[-1]:
            raise InputError(TRUNCATED)
        hidden &= 2**depth - 1  # the rest of its two bytes means nothing
        refuse_transparent(not bool((values == hidden).all(axis=-1).any()))
    return Samples(
        values,
        top,
        has_alpha=colour in _WITH_ALPHA,
        orientation=orientation,
        doubt=_unscaled(values[..., 0], depth, chunks.get(b"sBIT", b"")),
    )


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """The bodies of the chunks that say something of the samples."""
    chunks: dict[bytes, bytes] = {}
    at = len(BEGINNING)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind in _READ:
            chunks.setdefault(kind, content[at + 8 : at + 8 + length])
        at += 12 + length
    return chunks


def _deep_values(content: bytes, colour: int) -> NDArray[np.uint16]:
    """Colours of 16 bits, (H, W, C), of which Pillow keeps the higher byte.

    It undoes the filters by the bytes of a pixel alone, so that each byte can be had: grey and
    opacity of 16 bits as four channels of 8, and colours once by their higher byte and once by the
    one that were the higher in the other byte order. (torchvision reads them, and crashes on some
    that are damaged.)
    """
    if colour == _GREY_ALPHA:
        header = content[12:24] + bytes([8, _RGBA]) + content[26:29]
        relabelled = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        with Image.open(io.BytesIO(relabelled), formats=("PNG",)) as image:
            pairs = np.asarray(image)
        return _joined(pairs[..., ::2], pairs[..., 1::2])
    halves = []
    for order in "BL":
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            image.tile = [part._replace(args=f"{image.mode};16{order}") for part in image.tile]
            halves.append(np.asarray(image))
    return _joined(*halves)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Numbers of 16 bits by their bytes."""
    return np.stack([low, high], axis=-1).view("<u2")[..., 0].astype(np.uint16)


def _by_palette(indices: NDArray[np.integer], chunks: dict[bytes, bytes]) -> NDArray[np.uint8]:
    """Grey levels (H, W, 1) of a palette whose colours are grey."""
    body = chunks.get(b"PLTE", b"")
    colours = np.frombuffer(body[: len(body) // 3 * 3], np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if used[-1] >= len(colours):
        raise InputError("uses colours that its palette lacks; export it again")
    opacity = np.frombuffer(chunks.get(b"tRNS", b""), np.uint8)
    refuse_transparent(bool((opacity[used[used < len(opacity)]] == 255).all()))
    one_channel(colours[used][None])
    greys: NDArray[np.uint8] = colours[indices][..., :1]
    return greys


def _unscaled(values: NDArray[np.integer], depth: int, significant: bytes) -> str | None:
    """Words for samples that sBIT says to have fewer bits, and that were not scaled to their depth.

    PNG asks for scaled samples, so a file with all of them below the smaller depth contradicts
    itself, or is very dark.
    """
    bits = significant[0] if significant else depth
    if not 0 < bits < depth or int(values.max()) >= 2**bits:
        return None
    return (
        f"says that {bits} of its {depth} bits are significant (sBIT), and its samples look as if "
        "they were not scaled up from those; say how many bits are used by `bits`"
    )

"""TIFF and BigTIFF: the tags decide what samples mean, libtiff (in Pillow) undoes the compression.

Pillow names a mode by tags and leaves some unread: WhiteIsZero at 16 bits, the sign of samples,
depths between 8 and 16. Here each tag is read from the file. Strips or tiles in a compression are
put, untouched, into a TIFF of 8-bit samples as wide as a row has bytes; what comes out are the
file's own bytes, and they are read by its tags. TIFF 6.0, sections 2 to 15; BigTIFF as in libtiff.
"""

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from synthdp.data.formats.limits import SEVERAL_FRAMES, TRUNCATED, refuse_size
from synthdp.data.formats.samples import Samples, one_channel, refuse_orientation
from synthdp.errors import InputError

BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266
DESCRIPTION, STRIP_OFFSETS, ORIENTATION, CHANNELS, ROWS_PER_STRIP = 270, 273, 274, 277, 278
STRIP_BYTES, GREATEST, PLANAR, FAX3_OPTIONS, FAX4_OPTIONS, PREDICTOR = 279, 281, 284, 292, 293, 317
COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 320, 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT = 338, 339
_READ = frozenset(
    {
        *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER, DESCRIPTION, STRIP_OFFSETS),
        *(ORIENTATION, CHANNELS, ROWS_PER_STRIP, STRIP_BYTES, GREATEST, PLANAR, FAX3_OPTIONS),
        *(FAX4_OPTIONS, PREDICTOR, COLOUR_MAP, TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES),
        *(EXTRA_SAMPLES, SAMPLE_FORMAT),
    }
)
#: Types of a tag's values: their size in bytes and the letter of `struct`.
_TYPES = {
    1: (1, "B"), 2: (1, "B"), 3: (2, "H"), 4: (4, "I"), 6: (1, "b"), 7: (1, "B"), 8: (2, "h"),
    9: (4, "i"), 13: (4, "I"), 16: (8, "Q"), 17: (8, "q"), 18: (8, "Q"),
}  # fmt: skip
_MAX_ENTRIES, _MAX_VALUES, _MAX_DESCRIPTION = 4096, 2**20, 2**16

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
#: How many colours a pixel has; other photometric interpretations are refused by name.
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, YCBCR: 3}
OTHER_PHOTOMETRIC = {
    4: "a transparency mask", 5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab",
    32803: "a colour filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw",
}  # fmt: skip
_SIGNED, _FLOAT = 2, 3
FORMATS = (1, _SIGNED, 4)  # the last is undefined, and read as unsigned
OTHER_FORMATS = {_FLOAT: "floating-point", 5: "complex", 6: "complex"}

_PLAIN, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_FAX = (2, 3, 4)
_LZMA, _ZSTD = 34925, 50000
_BY_LIBTIFF = (_LZW, _PACKBITS, _LZMA, _ZSTD, *_FAX)
COMPRESSIONS = (_PLAIN, _DEFLATE, _OLD_DEFLATE, _JPEG, *_BY_LIBTIFF)
_PREDICTED = (_LZW, _DEFLATE, _OLD_DEFLATE, _LZMA, _ZSTD)
OTHER_COMPRESSIONS = {
    6: "JPEG in its old form", 32809: "ThunderScan", 33003: "JPEG 2000", 33005: "JPEG 2000",
    34676: "SGI Log", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG (DNG)",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
DEPTHS = (*range(1, 17), 32)
_MAX_GROUP_BYTES = 32 * 2**20
_BLOCK_ROWS = 64
#: Pieces that are alike may share their bytes; beyond this it is a bomb.
_MOST_SHARED = 4


@dataclass(frozen=True)
class Tags:
    """The tags of the first page that this reader knows; `order` is `<` or `>`."""

    order: str
    values: dict[int, tuple[int, ...]]

    def one(self, tag: int, default: int | None = None) -> int:
        """The value of a tag that has one; several are taken where they are equal.

        Raises:
            InputError: when there is none and no default, or they differ.
        """
        values = self.values.get(tag)
        if values is None and default is not None:
            return default
        if not values:
            raise InputError(f"lacks the tag {tag}, which every TIFF must have; export it again")
        if any(value != values[0] for value in values):
            raise InputError(f"its channels differ in tag {tag}; export it as one grey channel")
        return values[0]


def read_tiff(content: bytes) -> Samples:
    """The samples of a TIFF of one page.

    Raises:
        InputError: when the file is damaged, or of a kind that is refused by name.
    """
    tags = read_tags(content)
    refuse_size(tags.one(WIDTH), tags.one(HEIGHT))
    photometric = tags.one(PHOTOMETRIC) if PHOTOMETRIC in tags.values else None
    if photometric is None:
        raise InputError("does not say whether 0 is black or white (tag 262); export it again")
    if photometric not in COLOURS:
        named = OTHER_PHOTOMETRIC.get(photometric, f"of photometric interpretation {photometric}")
        raise InputError(f"its pixels are {named} (tag 262); export it in grey")
    _refuse_formats(tags)
    colours, channels = COLOURS[photometric], tags.one(CHANNELS, 1)
    if channels not in (colours, colours + 1):
        raise InputError(
            f"has {channels} channels (tag 277) where {colours} make a pixel; export it in grey"
        )
    compression = tags.one(COMPRESSION, _PLAIN)
    if compression == _JPEG:
        return _read_jpeg(content, tags)
    if photometric == YCBCR:
        raise InputError("its pixels are YCbCr without JPEG (tag 262); export it in grey")
    values = _values(content, tags)
    return _meant(values, tags, photometric, has_alpha=channels > colours)


def read_tags(content: bytes) -> Tags:
    """The tags of the only page.

    Raises:
        InputError: when the directory is damaged, or another page follows.
    """
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    count_size, entry_size, offset_size = (8, 20, 8) if big else (2, 12, 4)
    offset_letter = "Q" if big else "I"

    def number(letter: str, at: int) -> int:
        size = struct.calcsize(letter)
        if at < 0 or at + size > len(content):
            raise InputError(TRUNCATED)
        return int(struct.unpack_from(order + letter, content, at)[0])

    start = number(offset_letter, 8 if big else 4)
    count = number("Q" if big else "H", start)
    if not 0 < count <= _MAX_ENTRIES:
        raise InputError("its directory of tags is damaged; export it again")
    values: dict[int, tuple[int, ...]] = {}
    for index in range(count):
        at = start + count_size + index * entry_size
        tag, kind = number("H", at), number("H", at + 2)
        if tag not in _READ:
            continue
        if tag in values:
            raise InputError(f"has its tag {tag} twice; export it again")
        n_values = number(offset_letter, at + 4)
        if kind not in _TYPES or n_values > _MAX_VALUES:
            raise InputError(f"its tag {tag} is damaged; export it again")
        size, letter = _TYPES[kind]
        data_at = at + 4 + offset_size
        if tag == DESCRIPTION:
            n_values = min(n_values, _MAX_DESCRIPTION)
        if n_values * size > offset_size:
            data_at = number(offset_letter, data_at)
        if data_at + n_values * size > len(content):
            raise InputError(TRUNCATED)
        values[tag] = struct.unpack_from(f"{order}{n_values}{letter}", content, data_at)
    after = number(offset_letter, start + count_size + count * entry_size)
    # ImageJ keeps a stack behind one directory and says so in words.
    described = bytes(value & 255 for value in values.pop(DESCRIPTION, ()))
    stack = re.match(rb"ImageJ=.*^images=(\d{1,9})", described, re.DOTALL | re.MULTILINE)
    if after or (stack is not None and int(stack[1]) > 1):
        raise InputError(SEVERAL_FRAMES)
    channels = max(values.get(CHANNELS, (1,)))
    for tag in {BITS, SAMPLE_FORMAT, GREATEST} & values.keys():  # some have values to spare
        values[tag] = values[tag][:channels] if channels > 0 else values[tag]
    return Tags(order, values)


def _refuse_formats(tags: Tags) -> None:
    """Refuse samples that are no whole numbers, and depths and compressions that are not read."""
    if (number := tags.one(SAMPLE_FORMAT, 1)) not in FORMATS:
        named = OTHER_FORMATS.get(number, "undefined")
        raise InputError(
            f"holds {named} samples (tag 339), whose full range it does not say; export it in 16 "
            "bits, scaled alike for all images"
        )
    bits = tags.one(BITS, 1)
    if bits not in DEPTHS:
        raise InputError(f"holds samples of {bits} bits (tag 258); export it in 16 bits")
    compression = tags.one(COMPRESSION, _PLAIN)
    if compression not in COMPRESSIONS:
        named = OTHER_COMPRESSIONS.get(compression, "unknown here")
        raise InputError(f"its compression ({compression}, {named}) is not read; export it in LZW")
    if compression in _FAX and bits != 1:
        raise InputError(f"says fax compression for samples of {bits} bits; export it again")
    if tags.one(PREDICTOR, 1) not in (1, 2) or (
        tags.one(PREDICTOR, 1) == 2 and compression in _PREDICTED and bits not in (8, 16, 32)
    ):
        raise InputError(
            "has a predictor (tag 317) that does not go with its samples; export it again"
        )


def _meant(
    values: NDArray[np.integer], tags: Tags, photometric: int, *, has_alpha: bool
) -> Samples:
    """Samples (H, W, C) with what the tags say of them."""
    bits, orientation = tags.one(BITS, 1), tags.one(ORIENTATION, 1)
    if photometric == PALETTE:
        grey, top = _by_palette(values[..., 0], tags)
        if has_alpha:
            raise InputError("has a palette and a channel beside it; export it in grey")
        return Samples(grey[..., None], top, orientation=orientation)
    signed = tags.one(SAMPLE_FORMAT, 1) == _SIGNED
    top, doubt = (2**bits - 1, None) if signed or has_alpha else _greatest(tags, bits)
    return Samples(
        values,
        top=top,
        least=-(2 ** (bits - 1)) if signed else 0,
        has_alpha=has_alpha,
        white_is_zero=photometric == WHITE_IS_ZERO,
        orientation=orientation,
        doubt=doubt,
    )


def _greatest(tags: Tags, bits: int) -> tuple[int, str | None]:
    """The greatest possible sample, and what makes it doubtful.

    Tag 281 tells it where it is the end of a whole number of bits. Otherwise it may be the maximum
    of this image alone: no doubt where that needs the whole depth, and a doubt where it does not.
    """
    top = 2**bits - 1
    greatest = max(tags.values.get(GREATEST, (top,)))
    if greatest > top or greatest.bit_length() == bits:
        return top, None
    if greatest > 0 and (greatest + 1) & greatest == 0:
        return greatest, None
    return top, (
        f"says that its greatest sample is {greatest} (tag 281), so that fewer than its {bits} "
        "bits may be used; say how many are by `bits`"
    )


def _by_palette(indices: NDArray[np.integer], tags: Tags) -> tuple[NDArray[np.integer], int]:
    """Grey levels (H, W) of a palette whose colours are grey, and the greatest possible one."""
    colours = np.array(tags.values.get(COLOUR_MAP, ()), dtype=np.int64)
    if colours.size != 3 * 2 ** tags.one(BITS, 1):
        raise InputError("its palette (tag 320) is missing or of the wrong length; export it again")
    colours = colours.reshape(3, -1)
    used = np.unique(indices)
    one_channel(colours[:, used].T[None])
    greys = colours[0]
    if colours.max() < 256:  # writers that forgot that a palette has 16 bits
        return greys[indices], 255
    for divisor in (257, 256):  # 8 bits, repeated or shifted into 16
        if not (colours % divisor).any():
            return greys[indices] // divisor, 255
    return greys[indices], 65535


def _values(content: bytes, tags: Tags) -> NDArray[np.integer]:
    """The samples (H, W, C) as numbers."""
    width, height, channels = tags.one(WIDTH), tags.one(HEIGHT), tags.one(CHANNELS, 1)
    planes = channels if tags.one(PLANAR, 1) == 2 and channels > 1 else 1
    tiled = TILE_OFFSETS in tags.values
    if tiled:
        chunk_width, chunk_height = tags.one(TILE_WIDTH), tags.one(TILE_HEIGHT)
        refuse_size(chunk_width, chunk_height)
        across = -(-width // chunk_width)
    else:
        chunk_width, chunk_height = width, min(tags.one(ROWS_PER_STRIP, height), height)
        across = 1
    if chunk_height < 1:
        raise InputError("says that a strip has no rows (tag 278); export it again")
    down = -(-height // chunk_height)
    per_plane = across * down
    chunks = _chunks(content, tags, tiled=tiled)
    sizes = _chunk_rows(height, chunk_height, down, across, tiled=tiled)
    if len(chunks) != planes * per_plane:
        raise InputError(
            f"says that its pixels stand in {len(chunks)} pieces, where its size asks for "
            f"{planes * per_plane}; export it again"
        )
    kind = np.int32 if tags.one(SAMPLE_FORMAT, 1) == _SIGNED else _holds(tags.one(BITS, 1))
    image = np.empty((down * chunk_height, across * chunk_width, channels), dtype=kind)
    in_chunk = channels // planes
    for plane in range(planes):
        of_plane = chunks[plane * per_plane : (plane + 1) * per_plane]
        unpacked = _rows(of_plane, sizes, tags, width=chunk_width, channels=in_chunk)
        for index, rows in enumerate(unpacked):
            top, left = index // across * chunk_height, index % across * chunk_width
            target = image[top : top + len(rows), left : left + chunk_width]
            target[..., plane : plane + in_chunk] = rows.reshape(len(rows), chunk_width, in_chunk)
    return image[:height, :width]


def _holds(bits: int) -> type[np.unsignedinteger]:
    """The smallest type of numpy that holds unsigned samples of so many bits."""
    return np.uint8 if bits <= 8 else np.uint16 if bits <= 16 else np.uint32


def _chunk_rows(
    height: int, chunk_height: int, down: int, across: int, *, tiled: bool
) -> list[int]:
    """The rows of each strip or tile; tiles are whole, the last strip may be short."""
    if tiled:
        return [chunk_height] * (down * across)
    return [min(chunk_height, height - chunk_height * index) for index in range(down)]


def _chunks(content: bytes, tags: Tags, *, tiled: bool) -> list[memoryview]:
    """The bytes of each strip or tile."""
    offsets = tags.values.get(TILE_OFFSETS if tiled else STRIP_OFFSETS, ())
    lengths = tags.values.get(TILE_BYTES if tiled else STRIP_BYTES)
    if lengths is None and len(offsets) == 1 and tags.one(COMPRESSION, _PLAIN) == _PLAIN:
        lengths = (max(len(content) - offsets[0], 0),)  # some writers leave it out
    if lengths is None or len(lengths) != len(offsets):
        raise InputError("does not say how long the pieces of its pixels are; export it again")
    if any(at + n > len(content) for at, n in zip(offsets, lengths, strict=True)):
        raise InputError(TRUNCATED)
    if sum(lengths) > _MOST_SHARED * len(content):
        raise InputError("says that pieces of its pixels share their bytes; export it again")
    view = memoryview(content)
    return [view[at : at + n] for at, n in zip(offsets, lengths, strict=True)]


def _rows(
    chunks: Sequence[memoryview], sizes: Sequence[int], tags: Tags, *, width: int, channels: int
) -> Iterator[NDArray[np.integer]]:
    """Samples (rows, width * channels) of each strip or tile."""
    compression = tags.one(COMPRESSION, _PLAIN)
    bits = _stored_bits(chunks, sizes, tags, in_row=width * channels)
    per_row = -(-width * channels * bits // 8)
    signed = tags.one(SAMPLE_FORMAT, 1) == _SIGNED
    predicted = tags.one(PREDICTOR, 1) == 2 and compression in _PREDICTED
    for raw, n_rows in zip(
        _uncompressed(chunks, sizes, tags, width=width, per_row=per_row), sizes, strict=True
    ):
        if len(raw) < n_rows * per_row:
            raise InputError(TRUNCATED)
        rows = np.frombuffer(raw, np.uint8, n_rows * per_row).reshape(n_rows, per_row)
        if tags.one(FILL_ORDER, 1) == 2 and compression == _PLAIN:
            rows = np.packbits(np.unpackbits(rows, axis=1, bitorder="little"), axis=1)
        samples = _unpacked(rows, bits, width * channels, tags.order)
        if predicted:
            by_pixel = samples.reshape(n_rows, width, channels)
            samples = np.cumsum(by_pixel, axis=1, dtype=samples.dtype).reshape(n_rows, -1)
        yield _signed(samples, tags.one(BITS, 1)) if signed else samples


def _stored_bits(
    chunks: Sequence[memoryview], sizes: Sequence[int], tags: Tags, *, in_row: int
) -> int:
    """The bits that a sample takes: 16 where a writer says 9 to 15 and has not packed them."""
    bits = tags.one(BITS, 1)
    in_words = [2 * in_row * n_rows for n_rows in sizes]
    unpacked = tags.one(COMPRESSION, _PLAIN) == _PLAIN and list(map(len, chunks)) == in_words
    return 16 if 8 < bits < 16 and unpacked else bits


def _unpacked(rows: NDArray[np.uint8], bits: int, count: int, order: str) -> NDArray[np.integer]:
    """`count` unsigned samples of each row of bytes; packed ones begin with the highest bit."""
    if bits in (8, 16, 32):
        stored = np.dtype(f"{order}u{bits // 8}")
        samples = np.ascontiguousarray(rows).view(stored)
        return samples.astype(stored.newbyteorder("="))
    out = np.empty((len(rows), count), dtype=_holds(bits))
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = np.unpackbits(rows[start : start + _BLOCK_ROWS], axis=1, count=count * bits)
        block = block.reshape(len(block), count, bits)
        total = np.zeros(block.shape[:2], dtype=out.dtype)
        for bit in range(bits):
            total = (total << 1) | block[..., bit]
        out[start : start + _BLOCK_ROWS] = total
    return out


def _signed(samples: NDArray[np.integer], bits: int) -> NDArray[np.int32]:
    """Numbers in two's complement of `bits` bits."""
    wide = samples.astype(np.int64)
    return np.where(wide >= 2 ** (bits - 1), wide - 2**bits, wide).astype(np.int32)


def _uncompressed(
    chunks: Sequence[memoryview], sizes: Sequence[int], tags: Tags, *, width: int, per_row: int
) -> Iterator[bytes | memoryview]:
    """The bytes of each strip or tile as they were before compression."""
    compression = tags.one(COMPRESSION, _PLAIN)
    if compression == _PLAIN:
        yield from chunks
    elif compression in (_DEFLATE, _OLD_DEFLATE) and tags.one(FILL_ORDER, 1) == 1:
        for chunk, n_rows in zip(chunks, sizes, strict=True):
            # One byte more than is needed, so that the checksum behind the pixels is read too.
            yield zlib.decompressobj().decompress(chunk, n_rows * per_row + 1)
    else:
        group = max(1, _MAX_GROUP_BYTES // max(1, per_row * max(sizes)))
        for start in range(0, len(chunks), group):
            part = slice(start, start + group)
            rows = iter(_by_libtiff(chunks[part], sizes[part], tags, width=width, per_row=per_row))
            for n_rows in sizes[part]:
                yield b"".join(next(rows) for _ in range(n_rows))


def _by_libtiff(
    chunks: Sequence[memoryview], sizes: Sequence[int], tags: Tags, *, width: int, per_row: int
) -> Iterator[bytes]:
    """Rows of bytes of strips, all of one height but the last, as libtiff decompresses them.

    Fax codes count in pixels: they stay samples of one bit.
    """
    fax = tags.one(COMPRESSION, _PLAIN) in _FAX
    offsets, at = [], 8
    for chunk in chunks:
        offsets.append(at)
        at += len(chunk)
    data = b"".join(chunks)
    data += b"\0" * (len(data) % 2)
    entries = {
        WIDTH: (width if fax else per_row,),
        HEIGHT: (sum(sizes),),
        BITS: (1 if fax else 8,),
        COMPRESSION: (tags.one(COMPRESSION),),
        PHOTOMETRIC: (BLACK_IS_ZERO,),
        FILL_ORDER: (tags.one(FILL_ORDER, 1),),
        STRIP_OFFSETS: tuple(offsets),
        CHANNELS: (1,),
        ROWS_PER_STRIP: (sizes[0],),
        STRIP_BYTES: tuple(len(chunk) for chunk in chunks),
        FAX3_OPTIONS: (tags.one(FAX3_OPTIONS, 0),),
        FAX4_OPTIONS: (tags.one(FAX4_OPTIONS, 0),),
    }
    directory_at = 8 + len(data)
    arrays_at = directory_at + 2 + 12 * len(entries) + 4
    directory, arrays = struct.pack("<H", len(entries)), b""
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        if len(values) > 1:
            packed, arrays = struct.pack("<I", arrays_at + len(arrays)), arrays + packed
        directory += struct.pack("<HHI", tag, 4, len(values)) + packed
    header = b"II*\0" + struct.pack("<I", directory_at)
    strips = io.BytesIO(header + data + directory + b"\0\0\0\0" + arrays)
    with Image.open(strips, formats=("TIFF",)) as image:
        pixels = np.asarray(image)
    rows = np.packbits(pixels, axis=1) if fax else pixels
    return (row.tobytes() for row in rows)


def _read_jpeg(content: bytes, tags: Tags) -> Samples:
    """A TIFF whose pieces are JPEG images of 8 bits, upright and with black at 0 by Pillow."""
    if tags.one(BITS, 1) != 8:
        raise InputError("holds JPEG of more than 8 bits; export it in LZW")
    refuse_orientation(tags.one(ORIENTATION, 1))  # the others Pillow follows
    with Image.open(io.BytesIO(content), formats=("TIFF",)) as image:
        if image.mode not in ("L", "RGB"):
            raise InputError(f"holds JPEG in {image.mode}; export it in grey")
        pixels = np.asarray(image)
    return Samples(pixels if pixels.ndim == 3 else pixels[..., None], top=255)

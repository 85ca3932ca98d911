"""Five hundred small image files of every kind that is read or refused, and what each one means.

The writers here are made from the specifications, so that what is expected of a file depends on no
reader: a grey level is known by construction, before it is stored. Pillow writes JPEG, fax codes,
Zstandard, LZMA and what is inside EXIF alone.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.integer]
HEIGHT, WIDTH = 19, 37


@dataclass(frozen=True, eq=False)
class Specimen:
    """A file, how it is to be read, and what comes of it: grey levels, or words of a refusal."""

    name: str
    content: bytes
    meant: Array | None = None
    refused: str = ""
    bits: int | None = None


def levels(bits: int, seed: int = 0, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> Array:
    """Random numbers of so many bits, with the least and the greatest among them."""
    values = np.random.default_rng(seed).integers(0, 2**bits, shape, dtype=np.int64)
    values[0, 0], values[-1, -1] = 0, 2**bits - 1
    return values


def spread(values: Array, top: int) -> Array:
    """Grey levels of which `top` is white, in 8 bits if that is enough and else in 16."""
    full, kind = (255, np.uint8) if top <= 255 else (65535, np.uint16)
    return np.floor(values * (full / top) + 0.5).astype(kind)


# TIFF


@dataclass(frozen=True)
class Tiff:
    """How an array is stored as TIFF."""

    bits: int = 8
    photometric: int | None = 1
    order: str = "<"
    compression: int = 1
    predictor: int = 1
    layout: str = "one"  # one strip, strips of 5 rows, or tiles of 16 x 16
    big: bool = False
    planar: int = 1
    fill_order: int = 1
    tags: dict[int, tuple[int, Sequence[int]]] = field(default_factory=dict)
    pages: int = 1


def packed(values: Array, bits: int, order: str) -> bytes:
    """Rows of samples (H, N), each row padded to whole bytes, highest bit first."""
    unsigned = values & (2**bits - 1) if bits < 64 else values
    if bits in (8, 16, 32, 64):
        return unsigned.astype(f"{order}u{bits // 8}").tobytes()
    places = np.arange(bits - 1, -1, -1)
    return np.packbits(
        (unsigned[..., None] >> places & 1).reshape(len(values), -1).astype(np.uint8), axis=1
    ).tobytes()


def packbits(raw: bytes) -> bytes:
    out, at = bytearray(), 0
    while at < len(raw):
        run = 1
        while run < 128 and at + run < len(raw) and raw[at + run] == raw[at]:
            run += 1
        if run > 1:
            out += bytes([257 - run, raw[at]])
            at += run
            continue
        end = at + 1
        while end < len(raw) and end - at < 128 and raw[end] != raw[end - 1]:
            end += 1
        out += bytes([end - at - 1]) + raw[at:end]
        at = end
    return bytes(out)


def lzw(raw: bytes) -> bytes:
    """TIFF 6.0 section 13: codes of 9 to 12 bits, highest bit first, changed one code early."""
    text = []
    table, width = {bytes([i]): i for i in range(256)}, 9

    def put(code: int) -> None:
        text.append(format(code, f"0{width}b"))

    put(256)
    following, prefix = 258, b""
    for byte in raw:
        longer = prefix + bytes([byte])
        if longer in table:
            prefix = longer
            continue
        put(table[prefix])
        table[longer] = following
        following += 1
        if following == 4094:
            put(256)
            table, width, following = {bytes([i]): i for i in range(256)}, 9, 258
        elif following in (512, 1024, 2048):
            width += 1
        prefix = bytes([byte])
    if prefix:
        put(table[prefix])
        following += 1
        if following in (512, 1024, 2048):
            width += 1
    put(257)
    joined = "".join(text)
    joined += "0" * (-len(joined) % 8)
    return int(joined, 2).to_bytes(len(joined) // 8, "big")


_COMPRESS = {1: bytes, 5: lzw, 8: zlib.compress, 32946: zlib.compress, 32773: packbits}


def _piece(part: Array, how: Tiff) -> bytes:
    """One strip or tile (H, W, C), compressed."""
    if how.predictor == 2:
        part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
    raw = packed(part.reshape(len(part), -1), how.bits, how.order)
    if how.fill_order == 2:
        flipped = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
        raw = np.packbits(flipped).tobytes()
    compress = _COMPRESS.get(how.compression, bytes)
    if how.compression == 32773:  # each row by itself
        size = len(raw) // len(part)
        return b"".join(packbits(raw[at : at + size]) for at in range(0, len(raw), size))
    return compress(raw)


def _pieces(values: Array, how: Tiff) -> list[bytes]:
    planes = (
        [values] if how.planar == 1 else [values[..., c : c + 1] for c in range(values.shape[2])]
    )
    found = []
    for plane in planes:
        height, width, channels = plane.shape
        if how.layout == "tiles":
            padded = np.zeros((-(-height // 16) * 16, -(-width // 16) * 16, channels), np.int64)
            padded[:height, :width] = plane
            found += [
                _piece(padded[y : y + 16, x : x + 16], how)
                for y in range(0, height, 16)
                for x in range(0, width, 16)
            ]
        else:
            rows = height if how.layout == "one" else 5
            found += [_piece(plane[y : y + rows], how) for y in range(0, height, rows)]
    return found


def tiff(values: Array, how: Tiff, pieces: list[bytes] | None = None) -> bytes:
    """A TIFF of samples (H, W) or (H, W, C), or of strips that were made elsewhere."""
    values = values if values.ndim == 3 else values[..., None]
    height, width, channels = values.shape
    pieces = _pieces(values, how) if pieces is None else pieces
    header = 16 if how.big else 8
    body, offsets = b"", []
    for piece in pieces:
        offsets.append(header + len(body))
        body += piece + b"\0" * (len(piece) % 2)
    sizes = [len(piece) for piece in pieces]
    tags: dict[int, tuple[int, Sequence[int]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [how.bits] * channels),
        259: (3, [how.compression]),
        277: (3, [channels]),
    }
    if how.photometric is not None:
        tags[262] = (3, [how.photometric])
    if how.layout == "tiles":
        tags |= {322: (3, [16]), 323: (3, [16]), 324: (4, offsets), 325: (4, sizes)}
    else:
        rows = height if how.layout == "one" else 5
        tags |= {273: (4, offsets), 278: (4, [rows]), 279: (4, sizes)}
    if how.predictor != 1:
        tags[317] = (3, [how.predictor])
    if channels > 1:
        tags[284] = (3, [how.planar])
    if how.fill_order != 1:
        tags[266] = (3, [how.fill_order])
    tags |= how.tags
    directory = b""
    for page in range(how.pages):
        last = page == how.pages - 1
        directory += _directory(tags, how, at=header + len(body) + len(directory), last=last)
    mark = b"II" if how.order == "<" else b"MM"
    start = header + len(body)
    if how.big:
        return mark + struct.pack(how.order + "HHHQ", 43, 8, 0, start) + body + directory
    return mark + struct.pack(how.order + "HI", 42, start) + body + directory


_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 8: "h", 16: "Q"}


def _directory(
    tags: dict[int, tuple[int, Sequence[int]]], how: Tiff, *, at: int, last: bool
) -> bytes:
    count, entry, room, offset = ("Q", 20, 8, "Q") if how.big else ("H", 12, 4, "I")
    size = struct.calcsize("<" + count) + entry * len(tags) + room
    entries, arrays = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed_values = struct.pack(f"{how.order}{len(values)}{_FORMATS[kind]}", *values)
        if len(packed_values) > room:
            reference = struct.pack(how.order + offset, at + size + len(arrays))
            arrays += packed_values + b"\0" * (len(packed_values) % 2)
            packed_values = reference
        entries += struct.pack(how.order + "HH" + offset, tag, kind, len(values))
        entries += packed_values.ljust(room, b"\0")
    following = 0 if last else at + size + len(arrays)
    return (
        struct.pack(how.order + count, len(tags))
        + entries
        + struct.pack(how.order + offset, following)
        + arrays
    )


_LAYOUTS = ("one", "strips", "tiles")


def _grey_tiffs() -> Iterator[Specimen]:
    number = 0
    for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16):
        for photometric in (0, 1):
            for order in "<>":
                for compression in (1, 5, 8, 32773):
                    number += 1
                    values, top = levels(bits, number), 2**bits - 1
                    how = Tiff(bits, photometric, order, compression, layout=_LAYOUTS[number % 3])
                    shown = values if photometric else top - values
                    name = f"tiff grey {how}"
                    yield Specimen(name, tiff(values, how), spread(shown, top))


def _predicted_tiffs() -> Iterator[Specimen]:
    for order in "<>":
        for compression in (5, 8, 32946):
            for bits in (8, 16):
                for photometric, layout in ((1, "one"), (0, "strips"), (1, "tiles")):
                    values, top = levels(bits, bits + photometric), 2**bits - 1
                    how = Tiff(bits, photometric, order, compression, 2, layout)
                    shown = values if photometric else top - values
                    yield Specimen(f"tiff predictor {how}", tiff(values, how), spread(shown, top))


def _signed_tiffs() -> Iterator[Specimen]:
    for order in "<>":
        for bits in (8, 16):
            for compression in (1, 8, 5):
                for photometric in (0, 1):
                    stored = levels(bits, 7) - 2 ** (bits - 1)
                    top = 2**bits - 1
                    shown = levels(bits, 7) if photometric else top - levels(bits, 7)
                    how = Tiff(bits, photometric, order, compression, tags={339: (3, [2])})
                    yield Specimen(f"tiff signed {how}", tiff(stored, how), spread(shown, top))


def _turned_and_big_tiffs() -> Iterator[Specimen]:
    for orientation in range(1, 9):
        for bits, layout in ((8, "one"), (16, "strips"), (12, "tiles")):
            values = levels(bits, orientation)
            how = Tiff(bits, layout=layout, tags={274: (3, [orientation])})
            shown = turned(spread(values, 2**bits - 1), orientation)
            yield Specimen(f"tiff orientation {orientation} {how}", tiff(values, how), shown)
    for order in "<>":
        for bits in (8, 12, 16):
            for compression in (1, 5):
                values = levels(bits, 3)
                how = Tiff(bits, 1, order, compression, layout="strips", big=True)
                yield Specimen(f"tiff big {how}", tiff(values, how), spread(values, 2**bits - 1))
    for bits in (1, 8, 12):
        for layout in ("one", "strips"):
            values = levels(bits, 5)
            how = Tiff(bits, layout=layout, fill_order=2, tags={266: (3, [2])})
            yield Specimen(f"tiff fill {how}", tiff(values, how), spread(values, 2**bits - 1))
    for bits in (10, 12, 14):  # unpacked, though the tag says fewer bits than a word has
        for order in "<>":
            values, top = levels(bits, bits), 2**bits - 1
            words = [packed(values, 16, order)]
            content = tiff(values, Tiff(bits, 0, order), words)
            yield Specimen(f"tiff {bits} in words {order}", content, spread(top - values, top))


def _tiffs_by_libtiff() -> Iterator[Specimen]:
    for kind in ("zstd", "lzma"):
        for bits in (8, 16):
            values = spread(levels(bits, 4), 2**bits - 1)
            stream = io.BytesIO()
            Image.fromarray(values).save(stream, "TIFF", compression=kind)
            yield Specimen(f"tiff {kind} {bits}", stream.getvalue(), values)
    for kind in ("group3", "group4"):
        for photometric in (0, 1):
            values = levels(1, 2)
            stream = io.BytesIO()
            shown = values if photometric else 1 - values
            Image.fromarray(shown.astype(bool)).save(
                stream, "TIFF", compression=kind, tiffinfo={262: photometric}
            )
            yield Specimen(f"tiff {kind} {photometric}", stream.getvalue(), spread(shown, 1))


def _tiffs_of_fewer_bits() -> Iterator[Specimen]:
    """12 bits of a detector in 16, told by `bits` or by tag 281, or not at all."""
    for order in "<>":
        for photometric in (0, 1):
            for used in (10, 12, 14):
                values, top = levels(used, used), 2**used - 1
                shown = spread(values if photometric else top - values, top)
                how = Tiff(16, photometric, order)
                yield Specimen(f"tiff {used} in 16 {how}", tiff(values, how), shown, bits=used)
                how = Tiff(16, photometric, order, tags={281: (3, [top])})
                yield Specimen(f"tiff {used} by tag {how}", tiff(values, how), shown)
    values = levels(12, 1)
    yield Specimen(
        "tiff of 13 bits read as 12", tiff(values * 2, Tiff(16)), refused="`bits`", bits=12
    )
    doubtful = Tiff(16, tags={281: (3, [3000])})
    yield Specimen("tiff 281 of 3000", tiff(values % 3001, doubtful), refused="tag 281")
    yield Specimen("tiff 281 and bits", tiff(values, doubtful), spread(values, 4095), bits=12)
    own = Tiff(16, tags={281: (3, [50000])})
    values = levels(16, 1) % 50001
    yield Specimen("tiff 281 in the top bit", tiff(values, own), spread(values, 65535))
    values = levels(12, 4)
    for order in "<>":
        for signed in (False, True):
            tags = {339: (3, [2])} if signed else {}
            wide = Tiff(32, 1, order, 8, tags=tags)
            yield Specimen(
                f"tiff 32 bits {wide}", tiff(values, wide), spread(values, 4095), bits=12
            )
            yield Specimen(f"tiff 32 bits unsaid {wide}", tiff(values, wide), refused="`bits`")
    negative = Tiff(16, tags={339: (3, [2])})
    yield Specimen("tiff below 0", tiff(values - 1000, negative), refused="negative", bits=12)


def _coloured_tiffs() -> Iterator[Specimen]:
    for bits in (8, 16):
        grey, top = levels(bits, 9), 2**bits - 1
        equal = np.stack([grey] * 3, axis=2)
        differ = equal.copy()
        differ[3, 4, 1] ^= 1
        opaque = np.concatenate([equal, np.full((HEIGHT, WIDTH, 1), top)], axis=2)
        clear = opaque.copy()
        clear[0, 0, 3] = 0
        for planar in (1, 2):
            for compression in (1, 5, 8):
                order, layout = "<>"[planar - 1], _LAYOUTS[compression % 3]
                how = Tiff(bits, 2, order, compression, layout=layout, planar=planar)
                with_alpha = Tiff(
                    bits, 2, order, compression, layout=layout, planar=planar, tags={338: (3, [2])}
                )
                yield Specimen(f"tiff equal {how}", tiff(equal, how), spread(grey, top))
                yield Specimen(f"tiff coloured {how}", tiff(differ, how), refused="in colour")
                yield Specimen(f"tiff opaque {how}", tiff(opaque, with_alpha), spread(grey, top))
                yield Specimen(f"tiff clear {how}", tiff(clear, with_alpha), refused="transparent")
        few = Tiff(bits, 2, tags={258: (3, [bits])})
        yield Specimen(f"tiff one depth for three {bits}", tiff(equal, few), spread(grey, top))
        many = Tiff(bits, 1, tags={258: (3, [bits, 0, 0, 7])})
        yield Specimen(f"tiff depths to spare {bits}", tiff(grey, many), spread(grey, top))
        mixed = Tiff(bits, 2, tags={258: (3, [bits, bits, 5])})
        yield Specimen(f"tiff depths that differ {bits}", tiff(equal, mixed), refused="tag 258")
        two = np.stack([grey, np.full_like(grey, top)], axis=2)
        yield Specimen(
            f"tiff grey alpha {bits}",
            tiff(two, Tiff(bits, 1, tags={338: (3, [2])})),
            spread(grey, top),
        )
    for bits in (4, 8):
        indices, n = levels(bits, 6), 2**bits
        greys = np.random.default_rng(bits).permutation(n)
        for factor, top in ((257, 255), (256, 255), (1, 255)):
            entries = greys * (255 // (n - 1)) * factor
            how = Tiff(bits, 3, tags={320: (3, [*entries, *entries, *entries])})
            shown = (greys * (255 // (n - 1)))[indices]
            yield Specimen(f"tiff palette {bits} {factor}", tiff(indices, how), spread(shown, top))
        entries = np.linspace(0, 65535, n).astype(int) // 2 * 2 + 1
        entries[0] = 0
        how = Tiff(bits, 3, tags={320: (3, [*entries, *entries, *entries])})
        yield Specimen(
            f"tiff palette {bits} deep", tiff(indices, how), spread(entries[indices], 65535)
        )
        how = Tiff(bits, 3, tags={320: (3, [*entries, *entries, *entries[::-1]])})
        yield Specimen(f"tiff palette {bits} coloured", tiff(indices, how), refused="in colour")
        yield Specimen(f"tiff palette {bits} gone", tiff(indices, Tiff(bits, 3)), refused="palette")


def _refused_tiffs() -> Iterator[Specimen]:
    grey = levels(8, 8)
    for bits, kind in ((16, 3), (32, 3), (64, 3), (64, 6)):
        how = Tiff(bits, tags={339: (3, [kind])})
        yield Specimen(f"tiff format {kind} {bits}", tiff(grey, how), refused="tag 339")
    for photometric in (4, 8, 9, 10, 32803, 32844, 34892, 999):
        yield Specimen(
            f"tiff is {photometric}", tiff(grey, Tiff(8, photometric)), refused="tag 262"
        )
    cmyk = np.stack([grey] * 4, axis=2)
    yield Specimen("tiff cmyk", tiff(cmyk, Tiff(8, 5)), refused="CMYK")
    yield Specimen("tiff ycbcr", tiff(cmyk[..., :3], Tiff(8, 6)), refused="YCbCr")
    yield Specimen("tiff unsaid", tiff(grey, Tiff(8, None)), refused="black or white")
    for n_pages in (2, 3):
        for big in (False, True):
            how = Tiff(8, pages=n_pages, big=big)
            yield Specimen(f"tiff pages {n_pages} {big}", tiff(grey, how), refused="several frames")
    words = b"ImageJ=1.53\nimages=4\nslices=4\n"
    how = Tiff(8, tags={270: (2, [*words, 0])})
    yield Specimen("tiff stack", tiff(grey, how), refused="several frames")
    words = b"ImageJ=1.53\nimages=1\n"
    how = Tiff(8, tags={270: (2, [*words, 0])})
    yield Specimen("tiff no stack", tiff(grey, how), spread(grey, 255))
    for bits in (17, 24, 64):
        yield Specimen(f"tiff of {bits} bits", tiff(grey, Tiff(bits)), refused="tag 258")
    for compression in (6, 34712, 34887, 50001, 4711):
        yield Specimen(
            f"tiff packed {compression}",
            tiff(grey, Tiff(8, 1, "<", compression)),
            refused="compression",
        )
    for orientation in (9, 65535):
        how = Tiff(8, tags={274: (3, [orientation])})
        yield Specimen(f"tiff turned {orientation}", tiff(grey, how), refused="orientation")
    how = Tiff(8, tags={274: (3, [0])})
    yield Specimen("tiff turned 0", tiff(grey, how), spread(grey, 255))
    how = Tiff(12, 1, "<", 8, tags={317: (3, [2])})
    yield Specimen("tiff predicted 12", tiff(levels(12), how), refused="predictor")
    for compression in (1, 5, 8, 32773):
        for layout in ("one", "strips", "tiles"):
            whole = tiff(grey, Tiff(8, 1, "<", compression, layout=layout, big=layout == "tiles"))
            yield Specimen(
                f"tiff torn {compression} {layout}", whole[: len(whole) // 2], refused=" "
            )
    lies = {
        "wide": {256: (4, [60000]), 257: (4, [60000])},
        "tall": {257: (4, [4_000_000_000])},
        "none": {256: (4, [0])},
        "longer": {257: (4, [HEIGHT + 1])},
        "broader": {256: (4, [WIDTH + 1])},
        "behind": {273: (4, [10_000_000])},
        "endless": {279: (4, [4_000_000_000])},
        "rows": {278: (4, [0])},
        "channels": {277: (3, [60000])},
        "deeper": {258: (3, [16])},
    }
    for name, tags in lies.items():
        yield Specimen(f"tiff lies {name}", tiff(grey, Tiff(8, tags=tags)), refused=" ")


def turned(shown: Array, orientation: int) -> Array:
    """What is to be seen of stored rows and columns by tag 274, in the specification's words.

    "The 0th row represents the visual top of the image, and the 0th column the left-hand side", and
    so on: here each stored pixel is put where its row's and column's words say.
    """
    row_is, column_is = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    height, width = shown.shape
    sideways = row_is in ("left", "right")
    out = np.empty((width, height) if sideways else (height, width), shown.dtype)
    for row in range(height):
        for column in range(width):
            place = {row_is: row, column_is: column}
            y = place["top"] if "top" in place else len(out) - 1 - place["bottom"]
            x = place["left"] if "left" in place else out.shape[1] - 1 - place["right"]
            out[y, x] = shown[row, column]
    return out


# PNG


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _filtered(rows: bytes, stride: int, pixel: int, kind: int) -> bytes:
    """Rows of bytes under one of PNG's five filters."""
    out, above = b"", bytes(stride)
    for at in range(0, len(rows), stride):
        row = rows[at : at + stride]
        line = []
        for i, x in enumerate(row):
            a = row[i - pixel] if i >= pixel else 0
            b, c = above[i], above[i - pixel] if i >= pixel else 0
            p = a + b - c
            nearest = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line.append((x - (0, a, b, (a + b) // 2, nearest)[kind]) & 255)
        out += bytes([kind, *line])
        above = row
    return out


_ADAM7 = (
    (0, 0, 8, 8),
    (0, 4, 8, 8),
    (4, 0, 8, 4),
    (0, 2, 4, 4),
    (2, 0, 4, 2),
    (0, 1, 2, 2),
    (1, 0, 2, 1),
)


def png(
    values: Array, bits: int, colour: int, *, before: bytes = b"", interlaced: bool = False,
    row_filter: int = 0, after: bytes = b"",
) -> bytes:  # fmt: skip
    """A PNG of samples (H, W) or (H, W, C), with more chunks before or after its pixels."""
    values = values if values.ndim == 3 else values[..., None]
    height, width, channels = values.shape
    passes = [values[y::dy, x::dx] for y, x, dy, dx in _ADAM7] if interlaced else [values]
    raw = b""
    for part in passes:
        if part.size:
            rows = packed(part.reshape(len(part), -1), bits, ">")
            raw += _filtered(rows, len(rows) // len(part), max(1, bits * channels // 8), row_filter)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, int(interlaced))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(raw))
        + after
        + chunk(b"IEND", b"")
    )


def exif(orientation: int) -> bytes:
    data = Image.Exif()
    data[274] = orientation
    return data.tobytes().removeprefix(b"Exif\0\0")


def _pngs() -> Iterator[Specimen]:
    for bits in (1, 2, 4, 8, 16):
        for interlaced in (False, True):
            for row_filter in range(5):
                values = levels(bits, row_filter)
                content = png(values, bits, 0, interlaced=interlaced, row_filter=row_filter)
                name = f"png grey {bits} {interlaced} {row_filter}"
                yield Specimen(name, content, spread(values, 2**bits - 1))


def _coloured_pngs() -> Iterator[Specimen]:
    for bits in (8, 16):
        grey, top = levels(bits, 1), 2**bits - 1
        full = np.full_like(grey, top)
        equal = np.stack([grey] * 3, axis=2)
        differ = equal.copy()
        differ[2, 2, 2] ^= 1
        shown = spread(grey, top)
        for interlaced in (False, True):
            more = {"interlaced": interlaced, "row_filter": 4}
            yield Specimen(f"png equal {bits} {interlaced}", png(equal, bits, 2, **more), shown)
            yield Specimen(
                f"png coloured {bits} {interlaced}",
                png(differ, bits, 2, **more),
                refused="in colour",
            )
            two = np.stack([grey, full], axis=2)
            yield Specimen(f"png opaque {bits} {interlaced}", png(two, bits, 4, **more), shown)
            clear = two.copy()
            clear[1, 1, 1] -= 1
            yield Specimen(
                f"png clear {bits} {interlaced}", png(clear, bits, 4, **more), refused="transparent"
            )
            four = np.concatenate([equal, full[..., None]], axis=2)
            yield Specimen(f"png four {bits} {interlaced}", png(four, bits, 6, **more), shown)
            four = four.copy()
            four[1, 1, 3] = 0
            yield Specimen(
                f"png four clear {bits} {interlaced}",
                png(four, bits, 6, **more),
                refused="transparent",
            )
        key = chunk(b"tRNS", struct.pack(">H", int(grey[3, 3])))
        yield Specimen(f"png key {bits}", png(grey, bits, 0, before=key), refused="transparent")
        unused = np.where(grey == 77, 78, grey)
        key = chunk(b"tRNS", struct.pack(">H", 77))
        yield Specimen(
            f"png key unused {bits}", png(unused, bits, 0, before=key), spread(unused, top)
        )
        key = chunk(b"tRNS", struct.pack(">HHH", *[int(grey[3, 3])] * 3))
        yield Specimen(
            f"png colour key {bits}", png(equal, bits, 2, before=key), refused="transparent"
        )


def _palette_pngs() -> Iterator[Specimen]:
    grey = levels(8, 3)
    key = chunk(b"tRNS", struct.pack(">H", 0xFF00 | int(grey[0, 1])))
    yield Specimen("png key with more bits", png(grey, 8, 0, before=key), refused="transparent")
    for bits in (1, 2, 4):
        values = levels(bits, 1)
        key = chunk(b"tRNS", struct.pack(">H", 1))
        yield Specimen(f"png key {bits}", png(values, bits, 0, before=key), refused="transparent")
    for bits in (1, 2, 4, 8):
        indices, n = levels(bits, 2), 2**bits
        greys = np.random.default_rng(bits).permutation(256)[:n]
        plte = chunk(b"PLTE", np.repeat(greys, 3).astype(np.uint8).tobytes())
        yield Specimen(
            f"png palette {bits}", png(indices, bits, 3, before=plte), spread(greys[indices], 255)
        )
        opaque = plte + chunk(b"tRNS", b"\xff" * (n // 2))
        yield Specimen(
            f"png palette opaque {bits}",
            png(indices, bits, 3, before=opaque),
            spread(greys[indices], 255),
        )
        clear = plte + chunk(b"tRNS", b"\0")
        yield Specimen(
            f"png palette clear {bits}", png(indices, bits, 3, before=clear), refused="transparent"
        )
        colours = np.repeat(greys, 3).astype(np.uint8)
        colours[1] ^= 255
        plte = chunk(b"PLTE", colours.tobytes())
        yield Specimen(
            f"png palette coloured {bits}", png(indices, bits, 3, before=plte), refused="in colour"
        )


def _pngs_with_chunks() -> Iterator[Specimen]:
    grey = levels(8, 5)
    for orientation in range(1, 9):
        said = chunk(b"eXIf", exif(orientation))
        shown = turned(spread(grey, 255), orientation)
        yield Specimen(f"png turned {orientation}", png(grey, 8, 0, before=said), shown)
        deep = levels(16, 5)
        shown = turned(spread(deep, 65535), orientation)
        yield Specimen(f"png turned after {orientation}", png(deep, 16, 0, after=said), shown)
    yield Specimen(
        "png turned 9", png(grey, 8, 0, before=chunk(b"eXIf", exif(9))), refused="orientation"
    )
    for name, extra in {
        "gamma": chunk(b"gAMA", struct.pack(">I", 45455)),
        "srgb": chunk(b"sRGB", b"\0"),
        "profile": chunk(b"iCCP", b"name\0\0" + zlib.compress(b"\0" * 128)),
        "text": chunk(b"tEXt", b"Patient\0somebody"),
        "background": chunk(b"bKGD", b"\0\x05"),
    }.items():
        yield Specimen(f"png {name}", png(grey, 8, 0, before=extra), spread(grey, 255))
    for used in (9, 10, 12, 14):
        few, top = levels(used, 3), 2**used - 1
        scaled = np.floor(few * 65535 / top + 0.5).astype(np.int64)
        said = chunk(b"sBIT", bytes([used]))
        yield Specimen(f"png sbit {used}", png(scaled, 16, 0, before=said), spread(scaled, 65535))
        yield Specimen(f"png sbit {used} unscaled", png(few, 16, 0, before=said), refused="sBIT")
        yield Specimen(
            f"png sbit {used} told", png(few, 16, 0, before=said), spread(few, top), bits=used
        )
        yield Specimen(f"png told {used}", png(few, 16, 0), spread(few, top), bits=used)


def _refused_pngs() -> Iterator[Specimen]:
    grey = levels(8, 5)
    control = chunk(b"acTL", struct.pack(">II", 2, 0))
    yield Specimen("png film", png(grey, 8, 0, before=control), refused="several frames")
    whole = png(grey, 8, 0)
    for share in (0.1, 0.3, 0.6, 0.9, 0.99):
        yield Specimen(f"png torn {share}", whole[: int(len(whole) * share)], refused=" ")
    damaged = bytearray(whole)
    damaged[60] ^= 1
    yield Specimen("png damaged", bytes(damaged), refused="not a readable PNG")
    for width, height in ((60000, 60000), (9000, 10), (0, 10), (2**31 - 1, 2**31 - 1)):
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        body = header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
        yield Specimen(f"png of {width}", whole[:8] + body, refused=" ")


# JPEG, PGM, NumPy


def _jpegs() -> Iterator[Specimen]:
    """Of blocks of one grey each, which JPEG at full quality keeps to the level."""
    blocks = np.random.default_rng(3).integers(0, 256, (3, 4))
    grey = np.kron(blocks, np.ones((8, 8), np.int64)).astype(np.uint8)

    def saved(image: Image.Image, **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=100, subsampling=0, **options)
        return stream.getvalue()

    image = Image.fromarray(grey)
    for name, options in {
        "plain": {},
        "progressive": {"progressive": True},
        "optimised": {"optimize": True},
        "restarts": {"restart_marker_rows": 1},
        "comment": {"comment": b"of a patient"},
        "resolution": {"dpi": (300, 300)},
    }.items():
        yield Specimen(f"jpeg {name}", saved(image, **options), grey)
        yield Specimen(f"jpeg equal {name}", saved(image.convert("RGB"), **options), grey)
    for orientation in range(1, 9):
        said = b"Exif\0\0" + exif(orientation)
        yield Specimen(
            f"jpeg turned {orientation}", saved(image, exif=said), turned(grey, orientation)
        )
    yield Specimen(
        "jpeg turned 10", saved(image, exif=b"Exif\0\0" + exif(10)), refused="orientation"
    )
    red = image.convert("RGB")
    red.putpixel((0, 0), (255, 0, 0))
    yield Specimen("jpeg coloured", saved(red), refused="in colour")
    yield Specimen("jpeg cmyk", saved(image.convert("CMYK")), refused="CMYK")
    whole = saved(image)
    at = whole.index(b"\xff\xc0")
    yield Specimen(
        "jpeg of 12 bits", whole[: at + 4] + b"\x0c" + whole[at + 5 :], refused="12 bits"
    )
    yield Specimen("jpeg lossless", whole[:at] + b"\xff\xc3" + whole[at + 2 :], refused="lossless")
    huge = whole[: at + 5] + struct.pack(">HH", 60000, 60000) + whole[at + 9 :]
    yield Specimen("jpeg huge", huge, refused="more pixels")
    for share in (0.01, 0.3, 0.8, 0.99):
        yield Specimen(f"jpeg torn {share}", whole[: int(len(whole) * share)], refused=" ")
    for photometric in (0, 1):
        stream = io.BytesIO()
        shown = grey if photometric else 255 - grey
        Image.fromarray(grey).save(stream, "TIFF", compression="jpeg", quality=100)
        content = bytearray(stream.getvalue())
        entry = content.index(struct.pack("<HHI", 262, 3, 1))
        content[entry + 8] = photometric
        yield Specimen(f"tiff jpeg {photometric}", bytes(content), shown)
    for orientation in range(1, 9):
        stream = io.BytesIO()
        said = {274: orientation}
        Image.fromarray(grey).save(stream, "TIFF", compression="jpeg", quality=100, tiffinfo=said)
        shown = turned(grey, orientation)
        yield Specimen(f"tiff jpeg turned {orientation}", stream.getvalue(), shown)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, "TIFF", compression="jpeg", tiffinfo={274: 8})
    content = bytearray(stream.getvalue())
    content[content.index(struct.pack("<HHI", 274, 3, 1)) + 8] = 9
    yield Specimen("tiff jpeg turned 9", bytes(content), refused="orientation")
    trailer = saved(image) + b"written by a camera" * 1000
    yield Specimen("jpeg trailer", trailer, grey)
    preview = Image.Exif()
    preview[274] = 1
    preview[305] = "\xff\xd9"
    torn = saved(image, exif=preview.tobytes() + b"\xff\xd9")
    yield Specimen("jpeg torn behind a preview", torn[:-20], refused="truncated")


def _pgms() -> Iterator[Specimen]:
    for top in (1, 15, 255, 256, 1023, 4095, 16383, 65535):
        values = levels(16, top) % (top + 1)
        values[0, 0] = top
        header = b"%d %d\n%d\n" % (WIDTH, HEIGHT, top)
        raw = values.astype(np.uint8 if top < 256 else ">u2").tobytes()
        yield Specimen(f"pgm bytes {top}", b"P5\n# made up\n" + header + raw, spread(values, top))
        numbers = b"\n".join(b" ".join(b"%d" % v for v in row) for row in values)
        yield Specimen(f"pgm words {top}", b"P2\n" + header + numbers, spread(values, top))
    grey = levels(8, 1).astype(np.uint8).tobytes()
    yield Specimen(
        "pgm torn", b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + grey[:-1], refused="truncated"
    )
    yield Specimen("pgm two", 2 * (b"P5\n%d %d\n255\n" % (WIDTH, HEIGHT) + grey), refused="several")
    yield Specimen("pgm top", b"P5\n%d %d\n70000\n" % (WIDTH, HEIGHT) + 2 * grey, refused="70000")
    yield Specimen("pgm huge", b"P5\n60000 60000\n255\n" + grey, refused="more pixels")
    yield Specimen("pgm above", b"P5\n%d %d\n100\n" % (WIDTH, HEIGHT) + grey, refused="beyond")


def npy(values: NDArray[np.generic], **options: object) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values, **options)
    return stream.getvalue()


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def _numpy_files() -> Iterator[Specimen]:
    for bits in (8, 16):
        grey, top = levels(bits, 1), 2**bits - 1
        for kind in (f"<u{bits // 8}", f">u{bits // 8}"):
            array = grey.astype(kind)
            shown = spread(grey, top)
            for name, stored in {
                "rows": array,
                "columns": np.asfortranarray(array),
                "one channel": array[..., None],
                "one image": array[None],
                "equal": np.stack([array] * 3, axis=2),
            }.items():
                yield Specimen(f"npy {kind} {name}", npy(stored), shown)
            yield Specimen(f"npz {kind}", zipped(image=npy(array)), shown)
        signed = (grey - 2 ** (bits - 1)).astype(f"<i{bits // 8}")
        yield Specimen(f"npy signed {bits}", npy(signed), spread(grey, top))
    grey = levels(12, 1)
    for kind in ("<i4", "<u4", ">i8", "<u8"):
        yield Specimen(f"npy {kind}", npy(grey.astype(kind)), spread(grey, 4095), bits=12)
        yield Specimen(f"npy {kind} unsaid", npy(grey.astype(kind)), refused="`bits`")
    truths = levels(1, 1).astype(bool)
    yield Specimen("npy truths", npy(truths), spread(truths.astype(np.int64), 1))
    for kind in ("<f2", "<f4", "<f8"):
        yield Specimen(f"npy {kind}", npy(grey.astype(kind)), refused="fraction")
    yield Specimen("npy complex", npy(grey.astype("<c8")), refused="complex")
    pickled = np.array([[{"a": 1}]], dtype=object)
    yield Specimen("npy pickle", npy(pickled, allow_pickle=True), refused="pickled")
    eight = levels(8, 1).astype(np.uint8)
    yield Specimen("npy stack", npy(np.stack([eight] * 5)), refused="several frames")
    yield Specimen("npy line", npy(eight[0]), refused="dimension")
    yield Specimen("npy torn", npy(eight)[:-1], refused="truncated")
    yield Specimen("npy more", npy(eight) + b"\0", refused="several frames")
    yield Specimen("npz two", zipped(a=npy(eight), b=npy(eight)), refused="2 arrays")
    yield Specimen("npz none", zipped(), refused=" ")
    bomb = npy(eight).replace(b"(19, 37)", b"(60000, 60000)")[: 128 + 703]
    yield Specimen("npy huge", bomb, refused=" ")
    yield Specimen(
        "npz lies", zipped(a=npy(eight).replace(b"(19, 37)", b"(19, 99)")), refused="truncated"
    )


@cache
def zoo() -> tuple[Specimen, ...]:
    """All specimens, in an order that does not change."""
    makers = (
        *(_grey_tiffs, _predicted_tiffs, _signed_tiffs),
        *(_turned_and_big_tiffs, _tiffs_by_libtiff),
        *(_tiffs_of_fewer_bits, _coloured_tiffs, _refused_tiffs),
        *(_pngs, _coloured_pngs, _palette_pngs, _pngs_with_chunks, _refused_pngs),
        *(_jpegs, _pgms, _numpy_files),
    )
    return tuple(specimen for make in makers for specimen in make())

"""What compressed pixel data say of themselves (JPEG, JPEG-LS, JPEG 2000), before they are decoded.

A decoder believes the size in its own stream: one that lies could make it set aside gigabytes.
The marks are those of ISO/IEC 10918-1 (annex B), 14495-1 (annex C) and 15444-1 (annex A).
"""

from collections.abc import Sequence

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f"
_END = b"\xff\xd9"
_JP2_BOX = b"\x00\x00\x00\x0cjP  "
#: Markers of JPEG that carry the size: those of baseline, extended and lossless frames, of JPEG-LS.
_FRAMES = frozenset((0xC0, 0xC1, 0xC3, 0xF7))
#: Markers before a scan that are nothing but tables, applications' own, and comments.
_TABLES = frozenset((0xC4, 0xDB, 0xDD, 0xF8, 0xFE, *range(0xE0, 0xF0)))
_SCAN = 0xDA
_SIZE_OF_JPEG_2000, _TILE_PART = b"\xff\x51", 0x90
#: Behind a byte of 255 in a scan: a stuffed zero or, in JPEG-LS, any byte below 128; a restart.
_IN_SCAN = frozenset((*range(0x80), *range(0xD0, 0xD8)))


def stated_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a compressed image by its own stream; None where it says none.

    None too where its markers don't follow each other to its end as they must: what stands in it
    then is damaged, and decoders differ in what they make of it. GDCM ends the process.
    """
    if stream.startswith(_JP2_BOX):  # a file format about the stream, which begins with SOC, SIZ
        start = stream.find(_JPEG_2000 + _SIZE_OF_JPEG_2000)
        return None if start < 0 else _jpeg_2000_size(stream[start:])
    if stream.startswith(_JPEG_2000):
        return _jpeg_2000_size(stream)
    return _jpeg_size(stream) if stream.startswith(_JPEG) else None


def _jpeg_2000_size(stream: bytes) -> tuple[int, int] | None:
    """The extent in SIZ less the offset within it, walked through from tile part to tile part."""
    if len(stream) < 24 or stream[2:4] != _SIZE_OF_JPEG_2000:
        return None
    right, bottom, left, top = (
        int.from_bytes(stream[at : at + 4], "big") for at in range(8, 24, 4)
    )
    at = 2
    while at + 10 <= len(stream) and stream[at] == 0xFF:
        of_part = int.from_bytes(stream[at + 6 : at + 10], "big")
        if stream[at + 1] != _TILE_PART:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        elif of_part == 0:  # it takes all that is left
            return bottom - top, right - left
        else:
            at += max(of_part, 12)
    return (bottom - top, right - left) if stream[at : at + 2] == _END else None


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    """The size in the one frame of a JPEG, walked through from marker to marker to its end."""
    at, size = 2, None
    while at + 4 <= len(stream) and stream[at] == 0xFF:
        marker, length = stream[at + 1], int.from_bytes(stream[at + 2 : at + 4], "big")
        content = stream[at + 4 : at + 2 + length]
        if marker == 0xFF:  # a filling byte
            at += 1
            continue
        if length < 2 or len(content) != length - 2:
            return None
        at += 2 + length
        if marker in _FRAMES and size is None and len(content) >= 6:
            size = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
        elif marker == _SCAN and size is not None:
            at = _end_of_scan(stream, at)
            if stream[at : at + 2] == _END:
                return size
        elif marker not in _TABLES:
            return None
    return None


def _end_of_scan(stream: bytes, start: int) -> int:
    """Where the first marker behind a scan stands; the stream's length where there is none."""
    at = stream.find(b"\xff", start)
    while 0 <= at < len(stream) - 1 and stream[at + 1] in _IN_SCAN:
        at = stream.find(b"\xff", at + 2)
    return at if at >= 0 else len(stream)


def is_whole(stream: bytes) -> bool:
    """Whether a compressed image has its end; decoders fill what is missing with grey.

    What makes a length even stands behind it, and is 0 or 255.
    """
    return stream[-64:].rstrip(b"\0\xff").endswith(_END)


def holds_another_image(fragments: Sequence[bytes]) -> bool:
    """Whether a fragment after the first begins an image of its own.

    JPEG 2000 and JPEG mark a beginning by bytes that no compressed data in their middle have.
    """
    return any(
        part.startswith((_JPEG + b"\xff", _JPEG_2000 + _SIZE_OF_JPEG_2000)) for part in fragments
    )

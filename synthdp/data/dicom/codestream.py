"""What compressed pixel data say of themselves (JPEG, JPEG-LS, JPEG 2000), before they are decoded.

A decoder believes the size in its own stream: one that lies could make it set aside gigabytes.
"""

from collections.abc import Sequence

_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f"
_END = b"\xff\xd9"
_JP2_BOX = b"\x00\x00\x00\x0cjP  "
#: Markers of JPEG that carry the size: SOF0 to SOF15 save the tables and extensions among them, and
#: the one of JPEG-LS.
_SIZE_MARKERS = frozenset((*range(0xC0, 0xD0), 0xF7)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


def stated_size(stream: bytes) -> tuple[int, int] | None:
    """Rows and columns of a compressed image by its own stream; None where it says none."""
    if stream.startswith(_JP2_BOX):  # a file format about the stream, which begins with SOC, SIZ
        start = stream.find(_JPEG_2000 + b"\xff\x51")
        return None if start < 0 else stated_size(stream[start : start + 64])
    if stream.startswith(_JPEG_2000):  # SIZ follows at once: its extent, and the offset within it
        right, bottom, left, top = (
            int.from_bytes(stream[at : at + 4], "big") for at in range(8, 24, 4)
        )
        return (bottom - top, right - left) if len(stream) >= 24 else None
    return _jpeg_size(stream) if stream.startswith(_JPEG) else None


def _jpeg_size(stream: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # a filling byte
            at += 1
        elif marker in _SIZE_MARKERS:
            rows, columns = stream[at + 5 : at + 7], stream[at + 7 : at + 9]
            return int.from_bytes(rows, "big"), int.from_bytes(columns, "big")
        elif marker in _WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + max(int.from_bytes(stream[at + 2 : at + 4], "big"), 2)
    return None


def is_whole(stream: bytes) -> bool:
    """Whether a compressed image has its end; decoders fill what is missing with grey.

    What makes a length even stands behind it, and is 0 or 255.
    """
    return stream[-64:].rstrip(b"\0\xff").endswith(_END)


def holds_another_image(fragments: Sequence[bytes]) -> bool:
    """Whether a fragment after the first begins an image of its own.

    JPEG 2000 and JPEG mark a beginning by bytes that no compressed data in their middle have.
    """
    return any(part.startswith((_JPEG + b"\xff", _JPEG_2000 + b"\xff\x51")) for part in fragments)

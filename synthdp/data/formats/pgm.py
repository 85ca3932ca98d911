"""PGM, as mini-MIAS has it: grey samples up to a greatest value that the header states (netpbm)."""

import re

import numpy as np

from synthdp.data.formats.limits import SEVERAL_FRAMES, TRUNCATED, refuse_size
from synthdp.data.formats.samples import Samples
from synthdp.errors import InputError

BEGINNINGS = (b"P5\n", b"P5\r", b"P5 ", b"P5\t", b"P2\n", b"P2\r", b"P2 ", b"P2\t")
_SPACE = rb"(?:[ \t\r\n\v\f]|#[^\r\n]*[\r\n])+"
_HEADER = re.compile(
    rb"P[25]" + 3 * (_SPACE + rb"(\d{1,9})") + rb"(?:[ \t]*#[^\r\n]*[\r\n]|[ \t\r\n\v\f])"
)
_DIGITS_AND_SPACE = b"0123456789 \t\r\n\v\f"
_MAX_HEADER_BYTES = 2**16


def read_pgm(content: bytes) -> Samples:
    """The samples of a PGM, of bytes or of decimal numbers.

    Raises:
        InputError: when the file is damaged, or holds several images.
    """
    header = _HEADER.match(content[:_MAX_HEADER_BYTES])
    if header is None:
        raise InputError("its header is damaged; export it again")
    width, height, top = (int(number) for number in header.groups())
    refuse_size(width, height)
    if not 0 < top < 2**16:
        raise InputError(f"says that its greatest sample is {top}; 1 to 65535 are possible")
    count, body = width * height, content[header.end() :]
    if content.startswith(b"P2"):
        numbers = re.sub(rb"#[^\r\n]*", b"", body)
        if numbers.translate(None, _DIGITS_AND_SPACE):
            raise InputError("holds other than numbers after its header; export it again")
        values = np.fromstring(numbers.decode("ascii"), dtype=np.int64, sep=" ")
        if len(values) < count:
            raise InputError(TRUNCATED)
        if len(values) > count:
            raise InputError("holds more than its samples; export it again")
    else:
        stored = np.dtype(np.uint8 if top < 256 else ">u2")
        n_bytes = count * stored.itemsize
        if len(body) < n_bytes:
            raise InputError(TRUNCATED)
        if body[n_bytes:].lstrip().startswith(b"P5"):
            raise InputError(SEVERAL_FRAMES)
        values = np.frombuffer(body, stored, count).astype(np.int64)
    return Samples(values.reshape(height, width, 1), top)

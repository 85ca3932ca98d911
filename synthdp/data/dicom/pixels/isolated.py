"""JPEG lossless, decoded in a process of its own, which a damaged image may end."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from synthdp.errors import InputError

TIMEOUT_S = 120
_PROGRAM = Path(__file__).with_name("gdcm_process.py")
_WITHOUT_GDCM = 3
#: What libjpeg says where it fills in what a damaged image lacks.
_OF_DAMAGE = (b"Corrupt JPEG", b"Premature end", b"Inconsistent progression", b"Bogus")


def decode_lossless(
    frame: bytes,
    size: tuple[int, int],
    *,
    bits_allocated: int,
    bits_stored: int,
    signed: bool,
    syntax: str,
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode one grey frame by GDCM.

    Returns:
        (H, W) words as they are stored.

    Raises:
        InputError: when GDCM is not installed, or the frame is damaged.
    """
    rows, columns = size
    shape = {
        "rows": rows,
        "columns": columns,
        "bits_allocated": bits_allocated,
        "bits_stored": bits_stored,
        "signed": int(signed),
        "syntax": syntax,
    }
    try:
        done = subprocess.run(  # noqa: S603 (this Python, a file of this package)
            [sys.executable, "-P", str(_PROGRAM)],
            input=json.dumps(shape).encode() + b"\n" + frame,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InputError("its compressed pixel data are damaged; copy the file again") from None
    if done.returncode == _WITHOUT_GDCM:
        raise InputError(
            "JPEG lossless is decoded by python-gdcm, which is not installed: "
            'pip install "synthdp[dicom]", or convert it to Explicit VR Little Endian'
        )
    word_bytes, beyond = divmod(len(done.stdout), rows * columns)
    if (
        done.returncode != 0
        or word_bytes not in (1, 2)
        or beyond
        or any(word in done.stderr for word in _OF_DAMAGE)
    ):
        raise InputError("its compressed pixel data are damaged; copy the file again")
    return np.frombuffer(done.stdout, dtype=f"<u{word_bytes}").reshape(size)

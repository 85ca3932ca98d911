"""Where Gaussian noise comes from.

The key of a run comes from the operating system; it moves the noise and nothing else. It stands
in the run's private folder while a resume may need it, and is deleted when the run is done.
"""

import os
import secrets
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

KEY_BYTES = 32


def new_key() -> bytes:
    """256 random bits from the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def keep_key(path: Path) -> bytes:
    """The key at `path`, made there (mode 600) when there is none yet."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink()  # torn by a crash before its first use: nothing was drawn from it
        return keep_key(path)
    with os.fdopen(descriptor, "wb") as stream:
        key = new_key()
        stream.write(key)
        stream.flush()
        os.fsync(stream.fileno())
    return key


def gaussian_noise(shape: tuple[int, ...], scale: float, *, key: bytes, stream: int) -> Tensor:
    """Float32 noise N(0, scale^2) of `shape`, a function of (key, stream) alone.

    Guarantee: two streams of one key, and any streams of two keys, are independent as far as
    Philox (counter-based, 256 bits of seed) is. It is drawn in double precision and rounded;
    the floating-point attack of Mironov (CCS 2012) is not excluded.
    """
    seed = np.random.SeedSequence([int.from_bytes(key, "big"), stream])
    draw = np.random.Generator(np.random.Philox(seed)).standard_normal(shape)
    return torch.from_numpy((draw * scale).astype(np.float32))

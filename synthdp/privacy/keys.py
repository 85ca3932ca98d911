"""Secret keys: random bits from the operating system, and files that their owner alone may read.

The key of a data set, by which patients are split and named, is kept beside it. That of a run's
noise never is (`synthdp.privacy.noisy_sum.noise`).
"""

import os
import secrets
from pathlib import Path

KEY_BYTES = 32


def new_key() -> bytes:
    """256 random bits from the operating system."""
    return secrets.token_bytes(KEY_BYTES)


def keep_key(path: Path) -> bytes:
    """The key at `path`, made there (mode 600) when there is none yet."""
    try:
        return write_key(path, new_key())
    except FileExistsError:
        key = path.read_bytes()
        if len(key) == KEY_BYTES:
            return key
        path.unlink()  # torn by a crash before its first use: nothing was drawn from it
        return keep_key(path)


def write_key(path: Path, key: bytes) -> bytes:
    """Write a key to a new file that its owner alone may read; gives it back.

    Raises:
        FileExistsError: when there is such a file.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key)
        stream.flush()
        os.fsync(stream.fileno())
    return key

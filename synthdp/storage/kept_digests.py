"""SHA-256 of many files, each read once: kept with the state that the file was in.

A file whose state (`synthdp.storage.unchanged`) is the one on record is not read again, so that two
hundred thousand images are known to be the same in a second. What is on record stands in a private
folder, authenticated by a key that stands there too: whoever could forge it could as well change
the images. It holds no name of a file, only keyed hashes of names.
"""

import hashlib
import hmac
import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from synthdp.errors import RunError
from synthdp.machine.progress import progress
from synthdp.storage.files import closed_to_others, refuse_without_descriptors, write_atomic
from synthdp.storage.unchanged import FileState, clock_ns

_MAGIC, _MAC_BYTES = b"synthdp digests 1\n", 32
_NAME_BYTES, _DIGEST_BYTES, _BLOCK = 16, 32, 2**20
_STATE = struct.Struct("<qqqQ")
_ENTRY = _NAME_BYTES + _STATE.size + _DIGEST_BYTES
#: More entries than the largest data set has files.
_MAX_BYTES = 10_000_000 * _ENTRY


class KeptDigests:
    """Digests of files below one folder.

    Args:
        root: the folder.
        path: of the file that keeps them; it need not be there.
        key: of at least 16 bytes; None keeps nothing.
    """

    def __init__(self, root: Path, path: Path, key: bytes | None) -> None:
        self._root, self._path, self._key = root, path, key

    def of(self, names: Iterable[str], *, unread: bytes | None = None) -> list[bytes]:
        """The SHA-256 of each of these files below the folder, 32 bytes each.

        What was read is kept for the next time, where the folder can be written to. A file that was
        changed just now is read again then, since another change might not show in its times.

        Args:
            names: of the files.
            unread: stands for a file that can't be read; it is refused when None.

        Raises:
            OSError: when a file can't be read, unless something stands for it.
            RunError: when no file descriptor is left.
        """
        kept = self._read()
        digests, new = list[bytes](), dict[bytes, bytes]()
        for name in progress(list(names), what="checking that files are unchanged"):
            path = os.path.join(self._root, name)
            tag = self._tag(name)
            entry = kept.get(tag)
            try:
                if entry is not None and entry[: _STATE.size] == _STATE.pack(
                    *FileState.of(os.stat(path))
                ):
                    digests.append(entry[_STATE.size :])
                    continue
                digest, state = _read_digest(path)
            except OSError as error:
                refuse_without_descriptors(error)
                if unread is None:
                    raise
                digest, state = unread, None
            digests.append(digest)
            if state is not None:
                new[tag] = _STATE.pack(*state) + digest
        if new:
            self._write({**kept, **new})
        return digests

    def _tag(self, name: str) -> bytes:
        content = os.fsencode(name)
        return hashlib.blake2b(content, digest_size=_NAME_BYTES, key=self._key or b"").digest()

    def _read(self) -> dict[bytes, bytes]:
        """What is kept, by tags of names; nothing where it is absent, damaged, or another key's."""
        if self._key is None:
            return {}
        try:
            if self._path.stat().st_size > _MAX_BYTES:
                return {}
            content = self._path.read_bytes()
        except OSError as error:
            refuse_without_descriptors(error)
            return {}
        begin = len(_MAGIC) + _MAC_BYTES
        body = memoryview(content)[begin:]
        mac = content[len(_MAGIC) : begin]
        if not content.startswith(_MAGIC) or len(body) % _ENTRY or mac != self._mac(body):
            return {}
        return {
            bytes(body[at : at + _NAME_BYTES]): bytes(body[at + _NAME_BYTES : at + _ENTRY])
            for at in range(0, len(body), _ENTRY)
        }

    def _write(self, kept: dict[bytes, bytes]) -> None:
        if self._key is None:
            return
        body = b"".join(tag + entry for tag, entry in kept.items())
        with suppress(OSError, RunError), closed_to_others():  # a read-only folder, or a full disk
            write_atomic(self._path, _MAGIC + self._mac(memoryview(body)) + body)

    def _mac(self, body: memoryview) -> bytes:
        keyed = hmac.new(self._key or b"", _MAGIC, "sha256")
        keyed.update(body)
        return keyed.digest()


def _read_digest(path: str) -> tuple[bytes, FileState | None]:
    """The SHA-256 of a file, and its state where that will tell the next change."""
    began, digest = clock_ns(), hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        before = FileState.of(os.fstat(stream.fileno()))
        while block := stream.read(_BLOCK):
            digest.update(block)
        after = FileState.of(os.fstat(stream.fileno()))
    settled = before == after and after.is_settled(began)
    return digest.digest(), after if settled else None

"""Whether a data set is the one that it was: digests of its rows and of all of it.

Of patients every digest is keyed by the set's own key, so that without its `private/` it tells
nothing; of others it is plain. No image is read twice (`synthdp.storage.kept_digests`).
"""

import hmac
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from synthdp.data.dataset import Dataset, Row, open_dataset, own_key
from synthdp.data.description import KEY_FILE
from synthdp.storage.files import read_json, sha256_file
from synthdp.storage.kept_digests import KeptDigests

#: Digests of the images beside the key, which authenticates them.
DIGESTS_FILE = "digests"
#: In place of the digest of an image that can't be read, which is another one once it can be.
_UNREAD = bytes(32)


def keyed_digest(dataset: Dataset, rows: Sequence[Row]) -> str:
    """HMAC-SHA-256, under the data set's key, of these rows' manifest entries and image files.

    Guarantee: without the key in `private/`, it says nothing about the images.

    Raises:
        RunError: when the key can't be read, or made.
    """
    digest = hmac.new(own_key(dataset), digestmod=sha256)
    for part in _digested(dataset, rows):
        digest.update(part)
    return digest.hexdigest()


def content_digest(dataset: Dataset) -> str:
    """SHA-256 of all manifest entries and image files of a set without patients.

    A digest that no key protects tells of images, so that of patients there is `keyed_digest` only.
    """
    assert not dataset.info.protects_patients
    digest = sha256()
    for part in _digested(dataset, dataset.rows):
        digest.update(part)
    return digest.hexdigest()


def _digested(dataset: Dataset, rows: Sequence[Row]) -> Iterator[bytes]:
    """What a digest of rows is of: each one's manifest entry, then its image file."""
    for row, digest in zip(rows, _image_digests(dataset, rows), strict=True):
        yield repr((row.image, row.patient_id, row.split, row.targets)).encode()
        yield digest


def _image_digests(
    dataset: Dataset, rows: Sequence[Row], *, unread: bytes | None = None
) -> list[bytes]:
    """The SHA-256 of each row's image file; `unread` as of `KeptDigests.of`."""
    key = None
    with suppress(OSError):  # a set that was received has no key, and nothing is kept beside it
        key = (dataset.private / KEY_FILE).read_bytes() or None
    kept = KeptDigests(dataset.root, dataset.private / DIGESTS_FILE, key)
    return kept.of((row.image for row in rows), unread=unread)


def set_digests(root: Path) -> dict[str, str]:
    """Digests of all of a data set, by what each is of; two sets are one where all are the same.

    `facts` is of dataset.json, save for the ledger's id; `manifest` of its bytes, so that labels,
    splits, attributes and the order of rows count; `images` of all image files. Of patients they
    are keyed, and `key` is of the key: a set that is made anew has another one, so that it is
    another set though it held the same images; its ledger knows nothing of what was released
    before. A set that was moved, or put back with its `private/`, is the same.

    Guarantee: of patients, without the key in the set's `private/`, they say nothing.

    Raises:
        InputError: when the set is damaged.
        RunError: when the key of a set of patients can't be read, or made.
    """
    dataset = open_dataset(root)
    key = own_key(dataset) if dataset.info.protects_patients else None
    facts = {
        key: value for key, value in read_json(root / "dataset.json").items() if key != "ledger"
    }
    images = sha256()
    # The whole set is looked at for runs that leave somebody out too: an image that can't be read
    # stops those that need it, where it is needed, and counts here as what it is.
    for digest in _image_digests(dataset, dataset.rows, unread=_UNREAD):
        images.update(digest)
    plain = {
        "facts": sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest(),
        "manifest": sha256_file(root / "manifest.csv"),
        "images": images.hexdigest(),
    }
    if key is None:
        return plain
    digests = {"key": "the key itself", **plain}
    return {
        part: hmac.new(key, f"synthdp set {part} {digest}".encode(), sha256).hexdigest()
        for part, digest in digests.items()
    }

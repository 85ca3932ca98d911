"""How many images of each class a set is asked for, in which order, and the room that they take."""

import shutil
from pathlib import Path

import torch
from torch import Tensor

from gan.config import GenerateSettings
from synthdp.errors import InputError

MAX_PER_CLASS = 1_000_000
#: Files take whole blocks of most file systems; a line of the manifest takes a few of their bytes.
BLOCK_BYTES = 4096
MANIFEST_BYTES = 128


def class_counts(settings: GenerateSettings) -> tuple[int, int]:
    """How many benign and how many malignant images are asked for."""
    if settings.per_class is not None:
        return settings.per_class, settings.per_class
    assert settings.total is not None
    share = 0.5 if settings.malignant_share is None else settings.malignant_share
    malignant = round(settings.total * share)
    return settings.total - malignant, malignant


def label_order(benign: int, malignant: int) -> Tensor:
    """The labels (N,) int64 of a set, the classes spread evenly: 0, 1, 0, 1 when balanced."""
    places = torch.arange(benign + malignant + 1)
    before = places * malignant // max(benign + malignant, 1)
    return before[1:] - before[:-1]


def bytes_on_disk(images: int, size_px: int, bits: int) -> int:
    """The most that a set takes on a disk: images that can't be compressed, in whole blocks."""
    blocks = -(-(size_px * size_px * bits // 8) // BLOCK_BYTES) + 1
    return images * (blocks * BLOCK_BYTES + MANIFEST_BYTES)


def refuse_what_does_not_fit(settings: GenerateSettings, size_px: int) -> str:
    """Say how much a set is; refuse one of more than a million of a class, or than the disk takes.

    Larger ones could be written, but not read: a set's manifest is read whole.

    Returns:
        Its size in words.

    Raises:
        InputError: with these words.
    """
    counts = class_counts(settings)
    needed = bytes_on_disk(sum(counts), size_px, settings.bits)
    free = shutil.disk_usage(_nearest_folder(settings.out)).free
    words = (
        f"{counts[0]:,} benign and {counts[1]:,} malignant images of {size_px} px in "
        f"{settings.bits} bits, at most {_size_words(needed)} on the disk"
    )
    if max(counts) > MAX_PER_CLASS:
        raise InputError(
            f"{words} ({_size_words(free)} are free): more than {MAX_PER_CLASS:,} of a class in "
            "one set is refused, for its manifest is read whole; make several sets, each with its "
            "own seed"
        )
    if needed > free:
        raise InputError(
            f"{words}, but {_size_words(free)} are free; ask for fewer, or name a folder on a "
            "larger disk"
        )
    return words


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _size_words(count: int) -> str:
    """Bytes for people: 49 MB."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"

"""Images of a set, made from source files: each is decoded once, and a killed import goes on.

What was made waits in a hidden folder beside the set, in a file for each few sources. A file's name
is a digest of how its sources are read, by which versions of what packages, and of what the file
system says of them, so that what was made from other files, by other settings, or without a decoder
that was installed since, is neither taken nor kept.
"""

import json
import logging
import os
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import IO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from synthdp.data.decoding import refuse_narrow
from synthdp.data.images import encode_png, fit_square
from synthdp.data.importing.images.parallel import in_order
from synthdp.data.importing.images.survey import ImageFacts, Pixels, image_facts, thumbnail
from synthdp.data.importing.images.thumbnails import THUMBNAIL_PX, Thumbnails
from synthdp.errors import InputError, RunError
from synthdp.machine.progress import progress
from synthdp.storage.files import refused_when_full, refused_without_rights
from synthdp.storage.locks import locked, owner_of

logger = logging.getLogger(__name__)

_FORM = b"synthdp prepared 2\n"
_HEAD, _SUFFIX = len(_FORM) + 12, ".images"
_LOCK = "lock"
#: Sources in a file of prepared images: what a kill costs at most, for each process.
AT_ONCE = 64
#: As small as 6 on patches of mammograms, in two thirds of the time.
_COMPRESS_LEVEL = 4
#: Packages that decide what is read of a file, or whether it can be.
_READERS = (
    *("synthdp", "numpy", "pillow", "opencv-python-headless", "pydicom", "pylibjpeg"),
    *("pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "python-gdcm", "nibabel"),
)
#: So few files are made again in a moment, and nothing waits for an import that never comes.
_KEPT_ABOVE = 8


class Source(Protocol):
    """What images are made from. Its `repr` says all that decides about them beside its files."""

    @property
    def files(self) -> Sequence[Path]:
        """The files that are read."""


SomeSource = TypeVar("SomeSource", bound=Source)
#: How a source is read: its images, (H, W) each, or in place of one what is wrong with it alone. An
#: InputError that is raised says what is wrong with all of it. A function of a module (or a
#: `functools.partial` of one), as other processes call it.
Read = Callable[[SomeSource], Sequence[Pixels | InputError]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One image that is brought to the set's size, as PNG, and what its pixels said before.

    `row` is its row among the thumbnails.
    """

    facts: ImageFacts
    row: int
    _file: Path = field(repr=False)
    _start: int = field(repr=False)
    _length: int = field(repr=False)

    def png(self) -> bytes:
        """The image as a PNG file's content."""
        with open(self._file, "rb") as stream:
            stream.seek(self._start)
            return stream.read(self._length)


@dataclass(frozen=True)
class PreparedImages:
    """What became of N sources: the images of each, or the text of what is wrong with it or one.

    `thumbnails` has a row for each image, source after source.
    """

    outcomes: Sequence[tuple[Prepared | str, ...] | str]
    thumbnails: Thumbnails


@contextmanager
def staging_beside(out: Path) -> Iterator[Path]:
    """The folder where images for `out` wait, the owner's alone; removed when the block ends well.

    Otherwise it stays, if much is in it, and the next import to `out` goes on from it.

    Raises:
        RunError: when another process imports to `out` now, or the folder cannot be made.
    """
    folder = out.parent / f".{out.name}.staging"
    with refused_without_rights(f"{out.parent.name or out.parent}, the folder above `out`,"):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = open(folder / _LOCK, "a")  # noqa: SIM115 (closed below)
    with lock, locked(lock, wait=False) as mine:
        if not mine or not _is_at(lock, folder / _LOCK):
            stale = f"; if that one has ended, remove {folder.name} beside `out`"
            raise RunError(
                f"{out}: another process imports there now; wait for it, or name a new `out`"
                f"{stale if owner_of(lock) else ''}"
            )
        try:
            yield folder
        except BaseException:
            if sum(name.endswith(_SUFFIX) for name in os.listdir(folder)) > _KEPT_ABOVE:
                logger.info(
                    "images that were made wait in the hidden folder %s beside `out`, from which "
                    "the next import there goes on; remove it if there will be none",
                    folder.name,
                )
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


def _is_at(stream: IO[str], path: Path) -> bool:
    """Whether an open file is the one of that path still, which its owner may have removed."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except OSError:
        return False


def prepare(
    sources: Sequence[SomeSource],
    read: Read[SomeSource],
    *,
    staging: Path,
    size_px: int | None,
    workers: int | None = None,
    at_once: int = AT_ONCE,
) -> PreparedImages:
    """Read every source, and bring its images to `size_px`; what is in `staging` already is kept.

    Args:
        sources: N files, or lesions in files, or the like.
        read: gives the images of one.
        staging: a folder of `staging_beside`; what other sources or settings left there goes.
        size_px: the side of what is made; None where `read` gives it as it is kept.
        workers: processes at once; as many as there are cores when None.
        at_once: sources in a file of prepared images.

    Raises:
        RunError: when the disk is full; what was made is kept.
    """
    parts = [tuple(sources[at : at + at_once]) for at in range(0, len(sources), at_once)]
    recipe = f"{size_px} {_name_of(read)} {_installed()}"
    files = [staging / _file_name(part, recipe) for part in parts]
    _clear(staging, keep={path.name for path in files})
    missing = [(part, path) for part, path in zip(parts, files, strict=True) if not _whole(path)]
    work = partial(_prepare_part, read=read, size_px=size_px)
    for _ in progress(
        in_order(work, missing, workers=workers), what="preparing images", total=len(missing)
    ):
        pass
    outcomes: list[tuple[Prepared | str, ...] | str] = []
    thumbnails = Thumbnails(staging)
    for path in files:
        outcomes_of_part, looks = _load(path, first_row=len(thumbnails))
        outcomes += outcomes_of_part
        thumbnails.append(looks)
    return PreparedImages(outcomes, thumbnails)


def _name_of(read: object) -> str:
    """A function's name; of a partial one with its arguments, which are part of how it reads."""
    if isinstance(read, partial):
        return f"{_name_of(read.func)} {read.args!r} {sorted(read.keywords.items())!r}"
    return f"{getattr(read, '__module__', '')}.{getattr(read, '__qualname__', repr(read))}"


def _installed() -> str:
    """The versions of `_READERS`, as far as they are there."""
    versions = []
    for name in _READERS:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    return ", ".join(versions)


def _file_name(part: Sequence[Source], recipe: str) -> str:
    digest = sha256(_FORM + recipe.encode())
    for source in part:
        digest.update(f"\n{source!r}".encode("utf-8", "surrogateescape"))
        for path in source.files:
            digest.update(_identity(path).encode())
    return f"{digest.hexdigest()[:40]}{_SUFFIX}"


def _identity(path: Path) -> str:
    """What the file system says of a file; another one of the same name differs in it."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return " none"
    return f" {seen.st_dev} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"


def _clear(staging: Path, keep: set[str]) -> None:
    for entry in os.scandir(staging):
        if _SUFFIX in entry.name and entry.name not in keep:
            with suppress(OSError):
                os.unlink(entry.path)


def _whole(path: Path) -> bool:
    """Whether a file of prepared images is there, to its last byte: a power cut may tear it."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    checksum = int.from_bytes(content[len(_FORM) : len(_FORM) + 4], "big")
    return content.startswith(_FORM) and zlib.crc32(content[len(_FORM) + 4 :]) == checksum


def _prepare_part(
    task: tuple[Sequence[SomeSource], Path], *, read: Read[SomeSource], size_px: int | None
) -> None:
    """Prepare the images of some sources, and write them as one file."""
    sources, path = task
    outcomes: list[object] = []
    looks, contents = [], []
    for source in sources:
        try:
            images = read(source)
        except InputError as error:
            outcomes.append(str(error))
            continue
        made: list[object] = []
        for pixels in images:
            square = _fitted(pixels, size_px)
            if isinstance(pixels, InputError) or isinstance(square, InputError):
                made.append(str(square))
                continue
            png = encode_png(square, _COMPRESS_LEVEL)
            made.append([asdict(image_facts(pixels)), len(png)])
            looks.append(thumbnail(pixels))
            contents.append(png)
        outcomes.append(made)
    header = json.dumps({"outcomes": outcomes}).encode()
    thumbnails = np.array(looks, dtype=np.float16).reshape(-1, THUMBNAIL_PX**2)
    body = b"".join(
        [len(header).to_bytes(8, "big"), header, thumbnails.tobytes(), *contents],
    )
    scratch = path.parent / f"{path.name}.{secrets.token_hex(4)}"
    with refused_when_full(len(body)):
        try:
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(_FORM + zlib.crc32(body).to_bytes(4, "big"))
                out.write(body)
            os.replace(scratch, path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise


def _fitted(pixels: Pixels | InputError, size_px: int | None) -> Pixels | InputError:
    """An image at the set's size, or what is wrong where it uses too little of its range."""
    if isinstance(pixels, InputError):
        return pixels
    try:
        refuse_narrow(pixels)
        square = pixels if size_px is None else fit_square(pixels, size_px)
        refuse_narrow(square)
    except InputError as error:
        return error
    return square


def _load(
    path: Path, *, first_row: int
) -> tuple[list[tuple[Prepared | str, ...] | str], NDArray[np.float16]]:
    """What a file of prepared images says: outcomes and thumbnails."""
    with open(path, "rb") as stream:
        stream.seek(len(_FORM) + 4)
        header_length = int.from_bytes(stream.read(8), "big")
        header = json.loads(stream.read(header_length))
        made = (
            one
            for of_source in header["outcomes"]
            if isinstance(of_source, list)
            for one in of_source
        )
        n_images = sum(not isinstance(one, str) for one in made)
        row_bytes = 2 * THUMBNAIL_PX**2
        looks = np.frombuffer(stream.read(n_images * row_bytes), dtype=np.float16)
    at, row = _HEAD + header_length + n_images * row_bytes, first_row
    outcomes: list[tuple[Prepared | str, ...] | str] = []
    for outcome in header["outcomes"]:
        if isinstance(outcome, str):
            outcomes.append(outcome)
            continue
        images: list[Prepared | str] = []
        for one in outcome:
            if isinstance(one, str):
                images.append(one)
                continue
            facts, length = one
            images.append(Prepared(ImageFacts(**facts), row, path, at, length))
            at, row = at + length, row + 1
        outcomes.append(tuple(images))
    return outcomes, looks.reshape(-1, THUMBNAIL_PX**2)

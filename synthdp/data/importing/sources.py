"""What a data set was imported from: digests of the source files, by which a change of them shows.

All of them are keyed by the set's own key and stand in its `private/`; names of files do in no form
but keyed hashes. A file is read again only when the file system says that it may have changed.
"""

import hmac
import os
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from synthdp.config.settings import Settings
from synthdp.data.importing.folders.folder import UNNAMED_IMAGES, folder_contents
from synthdp.data.importing.folders.volumes import source_volumes
from synthdp.data.importing.listing import further_tables, tables_of
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.runs.inputs import Input, named_inputs, refuse_changed
from synthdp.storage.files import sha256_file
from synthdp.storage.kept_digests import KeptDigests

#: Digests of source files beside the key of the set, for the next look at them.
SOURCE_DIGESTS_FILE = "source-digests"
#: A set's folder is not to be removed for it: its ledger would go too.
CHANGED_MEND = (
    "bring back what was there, or name a new `out`; keep this folder if anything was ever made of "
    "it, since its ledger says what was spent on its patients"
)


def source_files(settings: ListingSettings) -> list[Path]:
    """Every image below `src`, under whatever name, and its tables, in the order of paths."""
    contents = folder_contents(settings.src, settings.follow_links_into)
    unnamed = [path for path, reason in contents.others.items() if reason == UNNAMED_IMAGES]
    if settings.form is not None:
        unnamed += source_volumes(contents)
    tables = tables_of(settings)
    further = () if tables is None else (table.path for table in further_tables(settings))
    return sorted({*contents.images, *unnamed, *(tables or ()), *further})


def source_inputs(
    settings: Settings, src: Path, files: Iterable[Path], *, key: bytes, kept: Path
) -> dict[str, Input]:
    """What an import reads, by the keys of its settings.

    Args:
        settings: of the import; each file that they name is an input of its own.
        src: the folder of the images.
        files: all that are read below it.
        key: of the set.
        kept: the file that keeps digests of these files.
    """
    names, unread = list[str](), list[str]()
    for path in files:
        readable = os.access(path, os.R_OK) and os.path.isfile(path)
        (names if readable else unread).append(os.path.relpath(path, src))
    of_names = hmac.new(key, b"synthdp sources", sha256)
    for name, digest in zip(names, KeptDigests(src, kept, key).of(names), strict=True):
        of_names.update(sha256(os.fsencode(name)).digest() + digest)
    for name in unread:  # which an import may have left out
        of_names.update(sha256(os.fsencode(name)).digest())
    of_src = {"files": of_names.hexdigest()}
    inputs = {"src": Input(path=os.path.abspath(src), kind="folder", digests=of_src)}
    for name, path in named_inputs(settings).items():
        if path.is_file():
            of_file = hmac.new(key, sha256_file(path).encode(), sha256).hexdigest()
            inputs[name] = Input(path=os.path.abspath(path), kind="file", digests={"file": of_file})
    return inputs


def refuse_changed_sources(
    out: Path, settings: Settings, src: Path, files: Callable[[], Iterable[Path]], *, key_file: str
) -> None:
    """Refuse to take a set for the import of sources that have changed since.

    Args:
        out: the set.
        settings: of the import.
        src: the folder of the images; where it is gone, it can't be told.
        files: gives all that would be read below it now.
        key_file: the name of the key in `private/` that the set was imported with.

    Raises:
        InputError: saying what has changed, and the mend.
    """
    private = out / "private"

    def now() -> Mapping[str, Input]:
        if not src.is_dir():
            return {}
        kept, key = private / SOURCE_DIGESTS_FILE, (private / key_file).read_bytes()
        return source_inputs(settings, src, files(), key=key, kept=kept)

    refuse_changed(out, now, mend=CHANGED_MEND)

"""What images are declared to be, patients' own or made ones, and what that promises.

Whether patients are protected is declared once, when their files are imported. Nothing may take
them out of a promise later by importing the same files as another kind.
"""

from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np

from synthdp.data.description import DatasetInfo, charged_set_of, protected_set_of, read_info
from synthdp.data.importing.folders.folder import files_fitting
from synthdp.data.importing.listing import Listing, tables_of
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import (
    STATEMENT_FILE,
    parse_statement,
    read_statement,
    received_statement,
)
from synthdp.privacy.promise.statement import Statement, make_statement, passed_on
from synthdp.runs.inputs import INPUTS_FILE, noted_paths
from synthdp.status import read_status
from synthdp.storage.files import read_json


def imported_statement(settings: PatchesSettings) -> Statement | None:
    """What synthetic images promise by what the importer declares; None for patients' own.

    Raises:
        InputError: when the named statement is missing, damaged, or promises more than was spent.
    """
    if settings.shows_patients:
        if settings.lineage != "unprotected":
            raise InputError(
                f"lineage: {settings.kind} images have none; leave it out, or set kind=synthetic"
            )
        return None
    if settings.lineage == "none":
        lineage = Lineage(declared=(f"no patient's image went into {settings.name}",))
        return make_statement(lineage, subject="data set")
    if settings.lineage == "unprotected":
        note = "imported; its generator was trained without a guarantee"
        name = sha256(f"{settings.lineage_data}|{settings.name}".encode()).hexdigest()[:16]
        release = Release(
            id=name, stage="train-gan", data=settings.lineage_data, mu=np.inf, note=note
        )
        return make_statement(Lineage(releases=(release,)), subject="data set", stage=release)
    stated = _statement_at(Path(settings.lineage))
    declared = (
        f"the images of {settings.name} are of the {stated.subject} whose statement was given"
    )
    lineage = stated.lineage.joined([Lineage(declared=(declared,))])
    return passed_on(stated.model_copy(update={"lineage": lineage}), subject="data set")


def _statement_at(path: Path) -> Statement:
    """The statement in a file, by the record of the run whose it is, where that stands beside it.

    Raises:
        InputError: when it is missing or damaged, or promises more than was spent.
    """
    if not path.is_file():
        raise InputError(
            f"lineage: {path} is not a file; give `unprotected`, `none`, or the path of the "
            "privacy.json of the run that made the images"
        )
    if path.name == STATEMENT_FILE and read_status(path.parent) is not None:
        return read_statement(path.parent)
    where = f"lineage: {path}"
    return received_statement(parse_statement(read_json(path), where=where), where=where)


def refuse_relabelled(settings: PatchesSettings) -> None:
    """Refuse to take patients out of a promise by importing their images again as another kind.

    Raises:
        InputError: when the images or their table stand in the folder of a set that protects its
            patients, or a set beside `out` holds images of the same folder, the one of them
            declared public and the other not.
    """
    tables = [settings.metadata] if isinstance(settings.metadata, Path) else []
    _refuse_protected(settings, (settings.src, *tables))
    if settings.kind == "synthetic":
        return
    beside = _other_declaration(settings)
    if beside is not None:
        raise InputError(
            f"kind: the images of this folder are imported already, as the {beside.kind} data set "
            f"{beside.name}; of the same patients one can't be {settings.kind} too, so keep one of "
            "the two, and import other patients from a folder of their own"
        )


def refuse_protected_files(settings: PatchesSettings, listing: Listing) -> None:
    """The same of each file that is to be read: a link, or a folder below `src`, may be a set's.

    Raises:
        InputError: when one stands in the folder of a set that protects its patients.
    """
    if settings.kind == "real":
        return
    lesions = (patch.lesion for patch in listing.patches if isinstance(patch.lesion, Path))
    beside = (name for one in settings.joined for name in files_fitting(settings.src, one))
    tables = (*(tables_of(settings) or ()), *(settings.src / name for name in beside))
    files = (patch.path for patch in listing.patches)
    folders = {path.resolve().parent for path in (*files, *lesions, *tables)}
    _refuse_protected(settings, sorted(folders))


def _refuse_protected(settings: PatchesSettings, paths: Iterable[Path]) -> None:
    if settings.kind == "real":
        return
    paths = [*paths]
    for protected in filter(None, map(protected_set_of, paths)):
        raise InputError(
            f"kind: {settings.kind} would take the patients of the data set {protected.name} out "
            "of every promise, since these files are its own; whether patients are protected is "
            "declared once, when the original files are imported"
        )
    if settings.kind == "synthetic" and settings.lineage != "none":
        return  # which says what they were made from
    for charged in filter(None, map(charged_set_of, paths)):
        raise InputError(
            f"kind: these files are of the set {charged.name}, which was made from patients, and "
            "nothing would count what was spent on them; name that set where this one was to "
            "stand, or import them with kind=synthetic and a lineage"
        )


def _other_declaration(settings: PatchesSettings) -> DatasetInfo | None:
    """A set beside `out` that was imported from the same folder, public where this is not."""
    src = settings.src.resolve()
    for record in sorted(settings.out.parent.glob(f"*/{INPUTS_FILE}")):
        with suppress(InputError):  # a set that is damaged, or of another version, says nothing
            info, paths = read_info(record.parents[1]), noted_paths(record.parents[1])
            from_here = "src" in paths and paths["src"].resolve() == src
            if from_here and {info.kind, settings.kind} == {"real", "public"}:
                return info
    return None

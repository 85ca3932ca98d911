"""The table of a public collection without its images: what is known of each, and of its patients.

It is what phantoms are drawn to, and what counts are checked on. The files that it names need not
be there.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from synthdp.config.settings import load_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import raise_problems
from synthdp.data.importing.findings import sift
from synthdp.data.importing.listing import read_tables
from synthdp.data.importing.settings.dicom import DicomSettings
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.importing.settings.reports import JoinedTable
from synthdp.data.importing.tables.collection import collection_file
from synthdp.data.importing.tables.joined import FurtherTable
from synthdp.data.manifest.contract import Split
from synthdp.errors import InputError


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """One image: its file, its patient, targets (1, 0, nan), attributes, and its official split."""

    image: str
    patient_id: str
    targets: tuple[float, ...]
    attributes: Mapping[str, str]
    split: str | None


@dataclass(frozen=True)
class CollectionTable:
    """A collection by its tables: N rows, in their order, whose targets are those of `targets`.

    `passed_over` is how many rows `only` leaves aside, such as lateral views.
    """

    name: str
    targets: tuple[str, ...]
    attributes: tuple[str, ...]
    rows: tuple[CollectionRow, ...]
    passed_over: int = 0


#: A folder of a pattern whose name a table does not say.
_WILD_FOLDER = re.compile(r"[^/]*\*[^/]*/")


class _AllFiles:
    """Files of which each counts as there, under the name that the table has for it."""

    def problem(self, name: str) -> str | None:
        del name
        return None

    def named(self, name: str, folder: str = "") -> tuple[str, str | None]:
        return folder + name, None


def read_collection(name: str, tables: Path | Sequence[Path], *overrides: str) -> CollectionTable:
    """Read the table of a known collection by its mapping, as an import would.

    Args:
        name: of the mapping, such as nih-cxr14 (`collection_names` has all).
        tables: the collection's table, or all of its tables; plain or packed by gzip. A further
            table (`joined`) is told by its name; those that the mapping does not call by name are
            tables of images.
        overrides: settings that count before the mapping's, such as `uncertain=positive`,
            `only={}` (all views) or `targets=[effusion, cardiomegaly]`.

    Raises:
        InputError: when there is no such mapping or table, or with all that is wrong in them.
    """
    paths = [Path(tables)] if isinstance(tables, str | Path) else [Path(path) for path in tables]
    if missing := [path for path in paths if not path.is_file()]:
        raise InputError(f"{name}: there is no table {missing[0]}; correct the path")
    settings = _without_files(_mapped(name, overrides))
    further = [
        FurtherTable(path, how, path.name)
        for path in paths
        if (how := _joined_by(settings, path)) is not None
    ]
    of_further = {table.path for table in further}
    of_images = {path: _split_of(settings, path) for path in paths if path not in of_further}
    if not of_images:
        raise InputError(f"{name}: none of the tables is one of images; name it too")
    # The caller names the tables: no pattern finds one that may be of a patient.
    named = settings.model_copy(update={"tables": {}, "joined": {}})
    read, counted_by = read_tables(named, of_images, further, _AllFiles())
    wrong, _ = sift(read.findings, settings.leave_out, counted_by)
    raise_problems(f"{name}: the table was not read", [*read.problems, *wrong])
    rows = tuple(
        CollectionRow(
            patch.path.relative_to(settings.src).as_posix(),
            patch.patient,
            patch.targets,
            patch.attributes,
            patch.split,
        )
        for patch in read.patches
    )
    return CollectionTable(name, settings.targets, read.attributes, rows, read.passed_over)


def _mapped(name: str, overrides: Sequence[str]) -> PatchesSettings:
    """The settings of an import by a mapping, into nowhere."""
    mapping = collection_file(name)
    is_dicom = "whole_images" in read_yaml(mapping)
    own = () if "name" in read_yaml(mapping) else (f"name={name}",)
    pairs = ("src=.", "out=nowhere", *own, *overrides)
    cls = DicomSettings if is_dicom else PatchesSettings
    return load_settings(cls, None, pairs, beneath=mapping)


def _without_files(settings: ListingSettings) -> ListingSettings:
    """The settings with a file's name in place of a pattern of several folders."""
    column = settings.file_column
    if isinstance(column, str) and "{" in column:
        column = _WILD_FOLDER.sub("", column)
    return settings.model_copy(update={"file_column": column, "match_header": {}})


def _is_called(path: Path, pattern: str) -> bool:
    name = PurePosixPath(pattern).name
    return fnmatch(path.name, name) or fnmatch(path.name, f"{name}.gz")


def _joined_by(settings: ListingSettings, path: Path) -> JoinedTable | None:
    return next((how for one, how in settings.joined.items() if _is_called(path, one)), None)


def _split_of(settings: ListingSettings, path: Path) -> Split | None:
    return next((split for one, split in settings.tables.items() if _is_called(path, one)), None)

"""Which images are to be imported: by the table where there is one, else by the files' names."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from synthdp.data.dataset import raise_problems
from synthdp.data.importing.findings import Finding, Number, Reason, in_order, sift
from synthdp.data.importing.folders.arrays import patches_in_arrays
from synthdp.data.importing.folders.folder import (
    FolderContents,
    files_fitting,
    folder_contents,
    is_pattern,
    left_out_words,
    linked_folder_problems,
    unescaped,
)
from synthdp.data.importing.folders.names import folder_split, patches_by_name
from synthdp.data.importing.folders.volumes import volumes_of
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.joined import FurtherTable, joined_sheet
from synthdp.data.importing.tables.reader import Files, asked_columns, attribute_names
from synthdp.data.importing.tables.reported import reported_sheet
from synthdp.data.importing.tables.rows import RowsRead, SourceTable, patches_by_row
from synthdp.data.importing.tables.sheets import Sheet, read_sheet
from synthdp.data.manifest.contract import Split
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.errors import InputError

UNLISTED = "images that no row asks for"
PASSED_OVER = "rows that `only` leaves aside"
#: Of images, or of rows where a table names them.
OTHER_SPLITS = "of splits that `splits` leaves aside"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """Every image that was asked for, what is wrong, and what is not used.

    `left_out` counts files by the reason why they are not taken. `left_out_rows` are the images
    or rows that `leave_out` let go, by reason; `unlisted` the images that no row asks for, by their
    positions in the order of paths. `attributes` are the set's free columns: those of tables and
    settings, so that no column depends on what somebody's row or file says.
    """

    counted_by: str  # what a number counts: "metadata.csv, row" or "image"
    patches: tuple[Patch, ...]
    problems: tuple[str, ...]
    left_out: Mapping[str, int]
    left_out_rows: Mapping[Reason, tuple[Number, ...]] = field(default_factory=dict)
    unlisted: tuple[int, ...] = ()
    attributes: tuple[str, ...] = ()

    def sifted(self, findings: Iterable[Finding], leave_out: Iterable[Reason]) -> "Listing":
        """The same with findings of images among the problems, or left out where that is allowed.

        The images that they are of stay among the patches.
        """
        problems, left_out = sift(findings, leave_out, self.counted_by)
        rows = {
            reason: tuple(
                in_order((*self.left_out_rows.get(reason, ()), *left_out.get(reason, ())))
            )
            for reason in (*self.left_out_rows, *left_out)
        }
        return replace(self, problems=(*self.problems, *problems), left_out_rows=rows)


def list_patches(settings: ListingSettings) -> Listing:
    """List the images below `src` from the table, or from folder and file names.

    Raises:
        InputError: when `src` or the table is missing.
    """
    src = settings.src
    if not os.path.isdir(src):  # `Path.is_dir` fails where a folder above may not be entered
        raise InputError(f"src: there is no folder {src}, or none to be seen; correct the path")
    if not os.access(src, os.R_OK | os.X_OK):
        raise InputError(
            f"src: {src} may not be read and entered; give the user that runs this both rights"
        )
    contents = folder_contents(src, settings.follow_links_into)
    if settings.form is not None:
        contents = volumes_of(contents, src)
    tables = tables_of(settings)
    if tables is None:
        listing, findings = _listed_by_names(settings, contents)
    else:
        listing, findings = _listed_by_tables(settings, contents, tables)
    listing = listing.sifted(findings, settings.leave_out)
    if not listing.patches and not listing.problems:
        what = left_out_words(listing.left_out) or "an empty folder"
        return replace(listing, problems=(f"no image to take was found ({what})",))
    return listing


def _listed_by_names(
    settings: ListingSettings, contents: FolderContents
) -> tuple[Listing, list[Finding]]:
    """The images of a folder by their names, and what is wrong with single ones."""
    as_files = _folders_as_files(settings, contents)
    patches, findings, problems = patches_by_name(settings, contents.images, as_files=as_files)
    names = (path.relative_to(settings.src).as_posix() for path in contents.images)
    aside = sum(
        split is not None and split not in settings.splits for split in map(folder_split, names)
    )
    aside = aside if settings.given_splits == "kept" else 0
    left_out = contents.left_out() | {f"images {OTHER_SPLITS}": aside}
    problems = [*contents.problems, *problems, *linked_folder_problems(left_out)]
    return Listing("image", tuple(patches), tuple(problems), left_out), findings


def _listed_by_tables(
    settings: ListingSettings, contents: FolderContents, tables: Mapping[Path, Split | None]
) -> tuple[Listing, list[Finding]]:
    """The images of a folder that rows of tables name, and what is wrong with single rows."""
    further = further_tables(settings)
    files = NamedFiles(
        settings.src.resolve(),
        settings.linked_folders,
        as_files=_folders_as_files(settings, contents),
    )
    rows, counted_by = read_tables(settings, tables, further, files)
    taken = {*rows.files, *(patch.path for patch in rows.patches)}
    taken |= {patch.lesion for patch in rows.patches if isinstance(patch.lesion, Path)}
    numbered = enumerate(contents.images, start=1)
    unlisted = tuple(number for number, path in numbered if path not in taken)
    left_out = contents.left_out({*tables, *taken, *(table.path for table in further)}) | {
        UNLISTED: len(unlisted),
        PASSED_OVER: rows.passed_over,
        f"rows {OTHER_SPLITS}": rows.other_splits,
    }
    listing = Listing(
        counted_by,
        tuple(rows.patches),
        (*contents.problems, *rows.problems),
        left_out,
        unlisted=unlisted,
        attributes=rows.attributes,
    )
    return listing, list(rows.findings)


def _folders_as_files(settings: ListingSettings, contents: FolderContents) -> frozenset[str]:
    """The folders that are a volume each, by their names below `src`."""
    if settings.form is None:
        return frozenset()
    folders = (path for path in contents.images if path.is_dir())
    return frozenset(path.relative_to(settings.src).as_posix() for path in folders)


def tables_of(settings: ListingSettings) -> dict[Path, Split | None] | None:
    """The tables that say which images to take, each with the split of its rows, if it has one.

    None where names alone do.

    Raises:
        InputError: when one that the settings name is missing.
    """
    if isinstance(settings.metadata, Path):
        if not settings.metadata.is_file():
            raise InputError(f"metadata: there is no file {settings.metadata}; correct the path")
        return {settings.metadata: None}
    if settings.metadata is None and settings.tables:
        return _named_tables(settings.src, settings.tables)
    usual = settings.src / "metadata.csv"
    return {usual: None} if settings.metadata is None and usual.is_file() else None


def _named_tables(src: Path, tables: Mapping[str, Split | None]) -> dict[Path, Split | None]:
    splits: dict[Path, Split | None] = {}
    problems = []
    for pattern, split in tables.items():
        paths = [src / name for name in files_fitting(src, pattern)]
        twice = [path for path in paths if path in splits]
        if twice:
            problems.append(f"tables: {pattern} names a table that an earlier one names too")
        if not paths:
            workbook = pattern.endswith(".csv") and files_fitting(
                src, f"{pattern.removesuffix('.csv')}.xls*"
            )
            mend = (
                "there is a workbook: save its sheet as CSV (UTF-8) beside it"
                if workbook
                else "put it there, name it in `tables`, or give `metadata` its path"
            )
            problems.append(f"tables: no {pattern} stands in `src`; {mend}")
        splits |= dict.fromkeys(paths, split)
    raise_problems(f"{src}: nothing was imported", problems)
    return splits


def further_tables(settings: ListingSettings) -> list[FurtherTable]:
    """The tables that stand beside those of images, in the order of the settings.

    Raises:
        InputError: when one that is needed is missing, or a pattern finds several, or may find one
            of a single patient where none is needed.
    """
    further: list[FurtherTable] = []
    problems = []
    for pattern, how in settings.joined.items():
        names = files_fitting(settings.src, pattern)
        if how.optional and settings.kind == "real" and is_pattern(pattern.rstrip("*")):
            # its columns would count for everybody, and be gone with whose it is
            problems.append(
                f"joined: {pattern} is optional, and may find a table that one patient alone has, "
                "which would decide how others' rows are read; name the table (`ages.csv`, or "
                "`ages.csv*` where it may be packed), or set optional: false"
            )
        elif len(names) > 1:
            problems.append(f"joined: {len(names)} files fit {pattern}; name the right one")
        elif not names and not how.optional:
            problems.append(
                f"joined: no {pattern} stands in `src`; put it there, or set joined={{}} to go on "
                "without what it says"
            )
        elif not names:
            logger.info("joined: no %s stands in `src`, so that what it says is unknown", pattern)
        else:
            said = unescaped(PurePosixPath(pattern).name)  # the file may be called by a patient
            further.append(FurtherTable(settings.src / names[0], how, said))
    raise_problems(f"{settings.src}: nothing was imported", problems)
    return further


def read_tables(
    settings: ListingSettings,
    tables: Mapping[Path, Split | None],
    further: Sequence[FurtherTable] = (),
    files: Files | None = None,
) -> tuple[RowsRead, str]:
    """What tables say, and what a number of theirs counts.

    Args:
        settings: how they are read.
        tables: those of images, each with the split of its rows, if it has one.
        further: tables that are put beside each of them.
        files: which of the named files are there; those on the disk when None.
    """
    if settings.arrays is not None:
        (path, *others), name = tables, _names(settings, list(tables))[0]
        more = [f"arrays: {len(others)} more files fit `tables`; name one"] if others else []
        patches, findings, problems = patches_in_arrays(settings, settings.arrays, path)
        named = [*(f"{name}: {problem}" for problem in problems), *more]
        return RowsRead(patches, findings, named), f"{name}, image"
    wanted, several = asked_columns(settings), len(tables) > 1
    read, findings = list[SourceTable](), list[Finding]()
    names = _names(settings, list(tables))
    for (path, split), name in zip(tables.items(), names, strict=True):
        sheet = read_sheet(path, settings.sheet_form, wanted=wanted)
        if sheet.said:
            logger.info("%s: %s", name, sheet.said)
        joined = joined_sheet(sheet, further)
        reported = reported_sheet(joined.sheet, settings)
        table = _source_table(settings, path, name, reported.sheet, split, several=several)
        findings += [
            replace(one, number=table.number(int(one.number)))
            for one in (*joined.findings, *reported.findings)
        ]
        read.append(table)
    counted_by = "row" if several else f"{names[0]}, row"
    rows = patches_by_row(settings, read, files)
    if settings.kind == "real" and _finds_tables(settings):
        # each may be of a patient, whose columns nobody else has, and who may be the only one
        rows = replace(rows, attributes=attribute_names(settings))
    return replace(rows, findings=[*findings, *rows.findings]), counted_by


def _finds_tables(settings: ListingSettings) -> bool:
    """Whether tables are found by a pattern, one or several, not named one by one."""
    of_images = settings.tables if settings.metadata is None else ()
    return any(map(is_pattern, (*of_images, *settings.joined)))


def _names(settings: ListingSettings, paths: Sequence[Path]) -> list[str]:
    """A name for each table, without its folder; those called alike are numbered in their order.

    A name that `tables` does not say is not shown: where a pattern finds a table, be it one alone,
    it may be of a patient, and called so.
    """
    asked = settings.tables if settings.metadata is None else ()
    said = {unescaped(PurePosixPath(pattern).name) for pattern in asked}
    names = [
        f"table {number}" if said and path.name not in said else path.name
        for number, path in enumerate(paths, start=1)
    ]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: index + 1].count(name)})"
        for index, name in enumerate(names)
    ]


def _source_table(
    settings: ListingSettings,
    path: Path,
    name: str,
    sheet: Sheet,
    split: Split | None,
    *,
    several: bool,
) -> SourceTable:
    folder = ""
    if settings.paths_from == "table" and path.is_relative_to(settings.src):
        folder = path.parent.relative_to(settings.src).as_posix() + "/"
    named = replace(sheet, problems=tuple(f"{name}, {text}" for text in sheet.problems))
    return SourceTable(
        named,
        name,
        "" if folder == "./" else folder,
        split,
        number=f"{{}} of {name}".format if several else int,
    )

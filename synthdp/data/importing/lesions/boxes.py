"""Lesions cut from new images by a table that says where they lie, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.images.prepare import prepare
from synthdp.data.importing.lesions.full_images import (
    FULL_IMAGES_AT_ONCE,
    full_images,
    read_lesions,
)
from synthdp.data.importing.lesions.region import Region, guessed_columns, region_in
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings.lesions import CropSettings, RegionColumns
from synthdp.data.importing.tables.cells import (
    Cell,
    Column,
    Decimal,
    column_problem,
    find_cell,
    has_wildcards,
    names_in,
)
from synthdp.data.importing.tables.sheets import Sheet, SheetForm, read_sheet
from synthdp.data.manifest.named_files import NamedFiles

#: What the column of the image's file may be called.
FILE_COLUMNS = ("file", "image", "filename", "file_name", "path", "image_path", "image_id")

_NO_COLUMNS = (
    "no columns of file and of where a lesion lies (such as file, xmin, ymin, xmax, ymax; "
    "as_imported names a settings file of `data dicom` that has file_column, without a pattern, "
    "and region)"
)


@dataclass(frozen=True)
class CutLesion:
    """A lesion that was cut: the row of the table, the image's name below its folder, the crop."""

    row: int
    name: str
    png: bytes = field(repr=False)


def cut_boxes(
    images: Path,
    boxes: Path,
    *,
    crop: CropSettings,
    reading: DicomReading,
    size_px: int,
    bits: int | None,
    staging: Path,
    follow_links_into: Sequence[Path] = (),
    form: SheetForm | None = None,
    file_column: Column = FILE_COLUMNS,
    region: RegionColumns | None = None,
    decimal: Decimal = "auto",
) -> tuple[list[CutLesion], list[str]]:
    """The lesions that a table names, in the order of its rows, and what is wrong with others.

    Args:
        images: the folder of the full images.
        boxes: a table with a column of files, and columns of where a lesion lies.
        crop: how they are cut; extra crops are left out.
        reading: which DICOM images are taken.
        size_px: the side that crops are averaged to.
        bits: how many bits of a file's samples are used, where it does not say.
        staging: a folder for what was made, of the block around this call.
        follow_links_into: folders outside `images` into which links may lead.
        form: how the table is written, as far as it is known.
        file_column: which column names the file, or several by which it is looked for.
        region: which columns say where a lesion lies; those of usual names when None.
        decimal: what a comma in a number is.
    """
    sheet = read_sheet(boxes, form or SheetForm(), wanted=names_in(file_column))
    columns = region or guessed_columns(sheet.columns)
    file_cell = find_cell(file_column, sheet.columns)
    if columns is None or file_cell is None or has_wildcards(file_column):
        return [], [*sheet.problems, _NO_COLUMNS]
    asked = () if region is None else region.names
    missing = [problem for name in asked if (problem := column_problem("region", name, sheet))]
    if wrong := [*sheet.problems, *missing]:
        return [], wrong
    linked = tuple(folder.resolve() for folder in follow_links_into)
    listed, problems = _listed(images, sheet, file_cell, columns, decimal=decimal, linked=linked)
    together = list(full_images(listed))
    made = prepare(
        [source for source, _ in together],
        partial(
            read_lesions,
            crop=crop.model_copy(update={"extra_crops": 0}),
            reading=reading,
            bits=bits,
            size_px=size_px,
        ),
        staging=staging,
        size_px=size_px,
        at_once=FULL_IMAGES_AT_ONCE,
    )
    lesions: list[CutLesion] = []
    for (_, patches), outcome in zip(together, made.outcomes, strict=True):
        of_each = [outcome] * len(patches) if isinstance(outcome, str) else outcome
        for patch, one in zip(patches, of_each, strict=True):
            if isinstance(one, str):
                problems.append((int(patch.number), one))
            else:
                name = patch.path.relative_to(images).as_posix()
                lesions.append(CutLesion(int(patch.number), name, one.png()))
    lesions.sort(key=lambda lesion: lesion.row)
    return lesions, [f"row {row}: {problem}" for row, problem in sorted(problems)]


def _listed(
    images: Path,
    sheet: Sheet,
    file_cell: Cell,
    columns: RegionColumns,
    *,
    decimal: Decimal,
    linked: Sequence[Path],
) -> tuple[list[Patch], list[tuple[int, str]]]:
    """The lesions of the rows, as patches of nobody, and what is wrong with others by row."""
    files = NamedFiles(images.resolve(), linked)
    patches: list[Patch] = []
    problems: list[tuple[int, str]] = []
    for row, record in sheet.records.items():
        name, wrong = files.named(file_cell.text(record).replace("\\", "/"))
        lesion: Region | Path | None = None
        try:
            where = region_in(record, columns, decimal)
            if isinstance(where, str):
                mask, problem = files.named(where.replace("\\", "/"))
                lesion = images / mask
                wrong = wrong if problem is None else f"{columns.names[0]}: {problem}"
            elif where is not None:
                lesion = where
            else:
                wrong = "the row says nowhere where a lesion lies"
        except ValueError as error:
            wrong = str(error)
        if wrong is not None or lesion is None:
            problems.append((row, str(wrong)))
        else:
            patches.append(Patch(row, images / name, "", None, (), lesion=lesion))
    return patches, problems

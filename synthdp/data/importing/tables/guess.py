"""What a folder of images and tables looks like: the mapping by which it would be imported.

It is printed for the one who holds the data, to be read, mended and kept; nothing is imported.
"""

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from synthdp.config.yaml_core import read_yaml
from synthdp.data.decoding import IMAGE_SUFFIXES
from synthdp.data.importing.folders.folder import folder_contents
from synthdp.data.importing.folders.names import SPLIT_FOLDERS
from synthdp.data.importing.labels import Labels, default_labels, names_mask
from synthdp.data.importing.lesions.full_images import is_dicom
from synthdp.data.importing.lesions.region import guessed_columns
from synthdp.data.importing.settings.lesions import RegionColumns
from synthdp.data.importing.tables.cells import Column, find_column, names_in, says_target
from synthdp.data.importing.tables.collection import collection_file, collection_names
from synthdp.data.importing.tables.sheets import Sheet, SheetForm, read_sheet
from synthdp.errors import InputError

#: Mappings that fit anything: their synonyms say what columns are often called.
_GENERIC = ("class-folders", "table", "table-a-split")
_DICOM_SUFFIXES = (".dcm", ".dicom")
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
#: How many rows of a table a guess looks at.
_MAX_ROWS = 300
#: A column with more words than these is not one of classes or splits.
_MAX_WORDS = 12
_MAX_WORD_CHARS = 40
#: A column that leads to files for more than this share of the rows may be the one of files.
_MOST_ROWS = 0.5
#: A number of pixels in a table, and the fewest columns that say where a lesion lies.
_PIXELS = re.compile(r"-?\d{1,5}(?:[.,]\d*)?")
_LEAST_REGION = 3
#: How names show a patient, most certain first; each with one group around the id.
_PATIENT_PATTERNS = (
    r"(?i)patient[ _-]?(?:id)?[ _-]?([a-z]*[_-]?\d+)",
    r"(?i)(?:^|[/_-])((?:pat|subj|sub|case|p)[_-]?\d+)",
    r"(?:^|/)(\d+)[_-][^/]*$",
)


def guess(src: Path, table: Path | None = None) -> str:
    """A settings file for `data import` of a folder, with the reason of each line as a comment.

    `table` is the one that names the images, where it stands elsewhere or is one of several.

    Raises:
        InputError: when there is no such folder or table, or nothing in it to import.
    """
    if not os.path.isdir(src):
        raise InputError(f"src: there is no folder {src}, or none to be seen; correct the path")
    if table is not None and not table.is_file():
        raise InputError(f"metadata: there is no file {table}; correct the path")
    contents = folder_contents(src)
    images = [path.relative_to(src).as_posix() for path in contents.images]
    others = sorted(path.relative_to(src).as_posix() for path in contents.others)
    if table is None and (name := _known_collection(src, [*images, *others])) is not None:
        return (
            f"# This looks like {name}: its tables are here, with the columns that it has.\n"
            f"# synthdp data import --like {name} --src {src} --out ... uses this:\n"
            f"{collection_file(name).read_text(encoding='utf-8')}"
        )
    files = {
        file: src / file
        for file in others
        if PurePosixPath(file).suffix.lower() in _TABLE_SUFFIXES
        if not PurePosixPath(file).name.startswith(".")
    }
    sheets = [
        (file, sheet)
        for file, path in (files if table is None else {str(table): table}).items()
        if (sheet := read_sheet(path, wanted=_usual_names())).records
    ]
    has_dicom = any(_may_be_dicom(src / image) for image in images)
    guesses = [_of_table(file, sheet, images, has_dicom=has_dicom) for file, sheet in sheets]
    best = max(guesses, key=lambda one: one.certainty, default=None)
    if (
        images
        and not (best is not None and best.names_files)
        and (best is None or _classes(images))
    ):
        lines = _of_names(images)
    else:
        lines = [] if best is None else best.lines
        if best is not None and table is None:
            lines = [*_tables_lines(best.file, sheets), *lines]
        elif best is not None:
            lines = [_line("metadata", str(table), _read_as(sheets[0][1])), *lines]
    if not lines:
        raise InputError(
            f"src: {src} holds neither images nor a table that names any; name another folder"
        )
    head = [f"# {len(images)} file(s) that may be images, {len(sheets)} table(s) with rows."]
    return "\n".join([*head, _line("src", str(src)), *lines, ""])


def known_collection(text: str) -> str:
    """The collection that a guess of this text has found."""
    match = re.match(r"# This looks like (\S+):", text)
    assert match is not None  # its mapping has no `src`
    return match[1]


@dataclass(frozen=True)
class _Guess:
    """How one table would be read, without the line that names it."""

    file: str
    certainty: float
    names_files: bool
    lines: list[str]


def _may_be_dicom(path: Path) -> bool:
    """Whether a file is called as DICOM, or is it where its name says nothing."""
    suffix = path.suffix.lower()
    return suffix in _DICOM_SUFFIXES or (suffix not in IMAGE_SUFFIXES and is_dicom(path))


def _known_collection(src: Path, files: Sequence[str]) -> str | None:
    """The collection whose tables stand there, with the columns that its mapping asks for."""
    for name in collection_names():
        mapping = read_yaml(collection_file(name))
        if name in _GENERIC or not mapping.get("tables"):
            continue
        files_of = {pattern: _matching(files, pattern) for pattern in mapping["tables"]}
        if not all(files_of.values()):
            continue
        if "arrays" in mapping:
            return name
        form = SheetForm(
            delimiter=mapping.get("delimiter", "auto"),
            header=tuple(mapping["header"]) if "header" in mapping else None,
        )
        asked = [names for column in _columns_of(mapping) for names in names_in(column)]
        sheets = [
            read_sheet(src / file, form, wanted=asked)
            for group in files_of.values()
            for file in group
        ]
        if all(find_column(names, sheet.columns) for names in asked for sheet in sheets):
            return name
    return None


def _columns_of(mapping: Mapping[str, Any]) -> list[Column]:
    """The columns without which a mapping can't be used."""
    asked = [mapping.get("file_column"), mapping.get("patient_column")]
    asked += [*mapping.get("target_columns", {}).values()]
    asked += [*mapping.get("filled_columns", {}).values(), *mapping.get("only", {})]
    asked.append(mapping.get("word_list", {}).get("column"))
    asked.append((mapping.get("gather") or {}).get("reader_column"))
    return [tuple(column) if isinstance(column, list) else column for column in asked if column]


def _matching(files: Iterable[str], pattern: str) -> list[str]:
    bare = pattern.removeprefix("**/")
    if bare != pattern:
        return [file for file in files if fnmatch(PurePosixPath(file).name, bare)]
    return [file for file in files if "/" not in file and fnmatch(file, pattern)]


@cache
def _usual() -> Mapping[str, Any]:
    return read_yaml(collection_file("table"))


def _usual_names() -> list[tuple[str, ...]]:
    return [tuple(_usual()[key]) for key in ("file_column", "patient_column", "split_column")]


def _of_table(file: str, sheet: Sheet, images: Sequence[str], *, has_dicom: bool) -> _Guess:
    """How a table would be read, and how many of the four things that matter were found."""
    records = list(islice(sheet.records.values(), _MAX_ROWS))
    usually = find_column(_usual()["file_column"], sheet.columns)
    naming = _naming_files(records, _may_name_files(sheet.columns), images)
    template, fits, others = _most_likely(naming, usually)
    parts = [
        _file_lines(template, fits, others),
        _people_lines(sheet, records),
        _class_lines(sheet, records),
    ]
    lines = [line for of_part, _ in parts for line in of_part]
    attributes = {
        ours: column
        for ours, names in _usual()["attribute_columns"].items()
        if (column := find_column(names, sheet.columns)) is not None
    }
    if attributes:
        lines.append(_line("attribute_columns", attributes))
    region = guessed_columns(sheet.columns)
    of_region = _region_lines(records, sheet.columns, region)
    lines += of_region
    if template and has_dicom:
        reason = "DICOM files: their headers are held against the table, and ids are hashed"
        if of_region and region is None:
            reason += "; name `region`, or say true to take images whole"
        lines.append(_line("whole_images", not of_region, reason))
    return _Guess(file, sum(certainty for _, certainty in parts), bool(template), lines)


#: Lines of a settings file, and by how much they make it likely that the table is the one.
_Lines = tuple[list[str], float]


def _file_lines(template: str, fits: float, others: Sequence[str]) -> _Lines:
    """The column of files, or what is asked of it."""
    if others:
        shown = ", ".join([template, *others])
        return [f"# file_column: each of these leads to files; name the right one: {shown}"], 0
    if template:
        reason = f"{fits:.0%} of the rows lead to a file"
        return [_line("file_column", template, reason)], 1 + fits
    return ["# file_column: no column names the files here; name one, or a template"], 0


def _people_lines(sheet: Sheet, records: Sequence[Mapping[str, str]]) -> _Lines:
    """The columns of patients and of splits."""
    lines, certainty = list[str](), 0.0
    for key in ("patient_column", "split_column"):
        column = find_column(_usual()[key], sheet.columns)
        if column is not None:
            certainty += 1
            different = len({record[column] for record in records})
            lines.append(_line(key, column, f"{different} different ones in {len(records)} rows"))
        elif key == "patient_column":
            lines.append(
                "# patient_column: no column is called as one of patients; name it, or set "
                f"patient_pattern (columns: {', '.join(sheet.columns)})"
            )
    split = find_column(_usual()["split_column"], sheet.columns)
    return [*lines, *_split_lines(records, split)], certainty


def _class_lines(sheet: Sheet, records: Sequence[Mapping[str, str]]) -> _Lines:
    """The column of classes, and what its words mean."""
    target = find_column(_usual()["target_columns"]["malignant"], sheet.columns)
    benign = find_column(["is_benign"], sheet.columns)
    unsaid = _unsaid(records, target)
    if benign is not None and (target is None or unsaid):
        return [_line("benign_column", benign, "1 is benign")], 1
    if target is None:
        none_is = "# target_columns: {malignant: ...}: no column is called as a class"
        return [none_is, *_answers_line(records, sheet.columns)], 0
    words = _label_lines({record[target] for record in records}, default_labels(), unsaid)
    return [_line("target_columns", {"malignant": target}), *words], 1


def _read_as(sheet: Sheet, rows: int | None = None) -> str:
    """How a table was read, with the number of its rows, or of all tables' like it."""
    return f"{len(sheet.records) if rows is None else rows} rows; {sheet.said or 'plain CSV'}"


def _tables_lines(file: str, sheets: Sequence[tuple[str, Sheet]]) -> list[str]:
    """The line that names the tables: all that have the columns of the one that is read."""
    (sheet,) = (sheet for name, sheet in sheets if name == file)
    alike = {name: one for name, one in sheets if set(one.columns) == set(sheet.columns)}
    rows = sum(len(one.records) for one in alike.values())
    reason = _read_as(sheet, rows)
    splits = {name: SPLIT_FOLDERS.get(PurePosixPath(name).stem.lower()) for name in alike}
    named: list[str] | dict[str, str | None] = [glob.escape(name) for name in alike]
    if all(splits.values()):
        named = {glob.escape(name): split for name, split in splits.items()}
        reason += "; each is a split, by its name"
    lines = [_line("tables", named, reason)]
    if len(alike) < len(sheets):
        others = len(sheets) - len(alike)
        lines.append(f"# {others} further table(s) have other columns, and are not read")
    return lines


def _may_name_files(columns: Sequence[str]) -> list[str]:
    """The columns that may name files: numbers of an age or a class do so by chance alone."""
    usual = _usual()
    kinds = [*usual["attribute_columns"].values(), *usual["target_columns"].values()]
    kinds += [usual["split_column"], ["is_benign"]]
    usually = find_column(usual["file_column"], columns)
    others = {find_column(names, columns) for names in kinds} - {usually}
    return [name for name in columns if name not in others]


def _unsaid(records: Sequence[Mapping[str, str]], target: str | None) -> bool:
    """Whether a column of classes holds answers whose question its name does not say."""
    if target is None or says_target(target, "malignant"):
        return False
    return any(default_labels().is_answer(record[target]) for record in records)


def _split_lines(records: Sequence[Mapping[str, str]], split: str | None) -> list[str]:
    if split is None:
        return []
    words = {record[split].lower() for record in records} - {""}
    strange = sorted(words - set(SPLIT_FOLDERS))
    if not strange or len(words) > _MAX_WORDS:
        return []
    shown = ", ".join(word[:_MAX_WORD_CHARS] for word in strange)
    return [f"# split_words: say which of train, val, test, external is meant by: {shown}"]


def _answers_line(records: Sequence[Mapping[str, str]], columns: Sequence[str]) -> list[str]:
    """The columns that hold nothing but 0 and 1, which may be targets."""
    names = [name for name in columns if {record[name] for record in records} == {"0", "1"}]
    return [f"# columns of 0 and 1 that may be targets: {', '.join(names)}"] if names else []


def _region_lines(
    records: Sequence[Mapping[str, str]], columns: Sequence[str], region: RegionColumns | None
) -> list[str]:
    """Where a lesion lies; else the columns of numbers that may say it, if they are enough."""
    if region is not None:
        roles = {role: getattr(region, role) for role in region.form}
        return [_line("region", roles, "where a lesion lies: it will be cut out")]
    numeric = [
        name
        for name in columns
        if len(cells := {record[name] for record in records} - {""}) > 1
        and all(_PIXELS.fullmatch(cell) for cell in cells)
    ]
    if len(numeric) < _LEAST_REGION:
        return []
    return [
        "# region: {left: ..., top: ..., right: ..., bottom: ...}: columns by which lesions are to "
        f"be cut out, if any do (of numbers: {', '.join(numeric)})"
    ]


def _label_lines(cells: set[str], labels: Labels, unsaid: bool) -> list[str]:
    """What the words of a column of classes mean, and which of them nobody knows.

    That is all answers such as 0 and 1, where the column leaves their question `unsaid`.
    """
    if len(cells) > _MAX_WORDS or any(len(cell) > _MAX_WORD_CHARS for cell in cells):
        return [f"# it holds {len(cells)} different words, so it may not be one of classes"]
    of_class: dict[str, list[str]] = {"malignant": [], "benign": [], "unknown": []}
    strange = []
    for cell in sorted(cells):
        value = labels.of_cell(cell)
        if value is None or (unsaid and labels.is_answer(cell)):
            strange.append(cell)
        elif cell:
            of_class[
                "unknown" if math.isnan(value) else ("benign", "malignant")[value == 1]
            ].append(cell)
    if not strange:
        shown = "; ".join(
            f"{name}: {', '.join(words)}" for name, words in of_class.items() if words
        )
        return [f"# its words are understood: {shown}"]
    filled = {name: words for name, words in of_class.items() if words or name != "unknown"}
    return [
        f"# put each of these words where it belongs: {', '.join(strange)}",
        _line("labels", filled),
    ]


@dataclass(frozen=True)
class _Naming:
    """A column, or a template with it, that leads to files, for a share of the rows.

    `whole` says whether its cells are whole names of files, with their ends.
    """

    column: str
    template: str
    share: float
    whole: bool
    files: tuple[str, ...]


def _naming_files(
    records: Sequence[Mapping[str, str]], columns: Sequence[str], images: Sequence[str]
) -> list[_Naming]:
    """Every way in which one of the columns leads to images."""
    paths = set(images)
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for image in images:
        path = PurePosixPath(image)
        by_name.setdefault(path.name, []).append(image)
        by_stem.setdefault(path.stem, []).append(image)
    ways = []
    for column in columns:
        cells = [record[column].replace("\\", "/") for record in records]
        filled = sum(map(bool, cells))
        if direct := tuple(cell for cell in cells if cell in paths):
            ways.append(_Naming(column, column, len(direct) / filled, whole=True, files=direct))
            continue
        for index in (by_name, by_stem):
            named = [
                (record, index[cell][0])
                for record, cell in zip(records, cells, strict=True)
                if len(index.get(cell, ())) == 1
            ]
            if named:
                end = PurePosixPath(named[0][1]).suffix if index is by_stem else ""
                template = "/".join([*_folders(named, list(records[0])), f"{{{column}}}{end}"])
                files = tuple(path for _, path in named)
                share, whole = len(named) / filled, index is by_name
                ways.append(_Naming(column, template, share, whole=whole, files=files))
    return ways


def _most_likely(ways: Sequence[_Naming], usually: str | None) -> tuple[str, float, list[str]]:
    """The template that names the files, and for how many of the rows; others that may as well.

    A column that is `usually` called so counts first, then whole names. Numbers without an end may
    be those of files or of rows, and where several lead to different files nobody can tell.
    """
    if not ways:
        return "", 0.0, []

    def certainty(way: _Naming) -> tuple[bool, bool, bool, float]:
        often = way.share > _MOST_ROWS
        return often and way.column == usually, often, way.whole, way.share

    best = max(ways, key=certainty)
    others = [
        way.template
        for way in ways
        if way.share > _MOST_ROWS and not way.whole and way.files != best.files
    ]
    is_sure = best.column == usually or best.whole
    return best.template, best.share, [] if is_sure else others


def _folders(named: Sequence[tuple[Mapping[str, str], str]], columns: Sequence[str]) -> list[str]:
    """The folders of found files as a template: one name for all, a column's cell, or any name."""
    parts = [PurePosixPath(path).parent.parts for _, path in named]
    if len({len(one) for one in parts}) > 1:
        return ["**"]
    made = []
    for position in range(len(parts[0])):
        names = [one[position] for one in parts]
        same = next(
            (
                column
                for column in columns
                if all(
                    record[column] == name for (record, _), name in zip(named, names, strict=True)
                )
            ),
            None,
        )
        one_name = names[0] if len(set(names)) == 1 else "*"
        made.append(f"{{{same}}}" if same is not None else one_name)
    return made


def _classes(images: Sequence[str]) -> Counter[str]:
    """How many images have a class by their names, of each."""
    labels = default_labels()
    readings: Counter[str] = Counter()
    for image in images:
        parts = map(labels.of_name, reversed(PurePosixPath(image).parts))
        reading = next((one for one in parts if one in ("positive", "negative")), None)
        if reading is not None:
            readings[reading] += 1
    return readings


def _of_names(images: Sequence[str]) -> list[str]:
    """How images without a table would be read: class and patient by their names."""
    words = {"positive": "malignant", "negative": "benign"}
    masks = sum(map(names_mask, images))
    images = [one for one in images if not names_mask(one)]
    readings = _classes(images)
    counts = {word: readings[reading] for reading, word in words.items()}
    counts["no class"] = len(images) - readings.total()
    shown = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    lines = [_line("metadata", "none", f"no table names these images; by their names: {shown}")]
    if masks:
        lines.append(_line("leave_out", ["mask"], f"{masks} further file(s) are called masks"))
    if line := patient_line(images):
        return [*lines, line]
    return [
        *lines,
        "# patient_pattern: names show no patient that is known as such; give a pattern with one "
        "group, or none where each image is to count as a patient of its own",
    ]


def patient_line(images: Sequence[str]) -> str:
    """The line of the pattern that finds a patient in each name; empty where none does."""
    for pattern in _PATIENT_PATTERNS:
        patients = [match[1] for image in images if (match := re.search(pattern, image))]
        if len(patients) == len(images):
            reason = (
                f"finds {len(set(patients))} patients in {len(images)} images; look whether it does"
            )
            return _line("patient_pattern", pattern, reason)
    return ""


def _line(key: str, value: object, reason: str = "") -> str:
    flow = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    shown = flow.strip().removesuffix("...").strip()  # YAML's end of a document
    text = f"{key}: {shown}"
    return f"{text} # {reason}" if reason else text

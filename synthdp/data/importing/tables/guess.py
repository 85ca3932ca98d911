"""What a folder of images and tables looks like: the mapping by which it would be imported.

It is printed for the one who holds the data, to be read, mended and kept; nothing is imported.
"""

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from synthdp.data.importing.folders.folder import IMAGE_SUFFIXES, is_skipped_folder
from synthdp.data.importing.folders.names import SPLIT_FOLDERS
from synthdp.data.importing.labels import Labels, default_labels
from synthdp.data.importing.lesions.region import guessed_columns
from synthdp.data.importing.tables.cells import Column, find_column, names_in
from synthdp.data.importing.tables.collection import collection_file, collection_names
from synthdp.data.importing.tables.sheets import Sheet, SheetForm, read_sheet
from synthdp.errors import InputError
from synthdp.files import folders_below
from synthdp.yaml_core import read_yaml

#: Mappings that fit anything: their synonyms say what columns are often called.
_GENERIC = ("class-folders", "table", "table-a-split")
_DICOM_SUFFIXES = (".dcm", ".dicom")
_TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
#: What a guess looks at: files below the folder, and rows of a table.
_MAX_FILES, _MAX_ROWS = 500_000, 300
#: A column with more words than these is not one of classes or splits.
_MAX_WORDS = 12
_MAX_WORD_CHARS = 40
#: How names show a patient, most certain first; each with one group around the id.
_PATIENT_PATTERNS = (
    r"(?i)patient[ _-]?(?:id)?[ _-]?([a-z]*[_-]?\d+)",
    r"(?i)(?:^|[/_-])((?:pat|subj|sub|case|p)[_-]?\d+)",
    r"(?:^|/)(\d+)[_-][^/]*$",
)


def guess(src: Path) -> str:
    """A settings file for `data import` of a folder, with the reason of each line as a comment.

    Raises:
        InputError: when there is no such folder, or nothing in it to import.
    """
    if not os.path.isdir(src):
        raise InputError(f"src: there is no folder {src}, or none to be seen; correct the path")
    files = _files(src)
    if (name := _known_collection(src, files)) is not None:
        return (
            f"# This looks like {name}: its tables are here, with the columns that it has.\n"
            f"# synthdp data import --like {name} --src {src} --out ... uses this:\n"
            f"{collection_file(name).read_text(encoding='utf-8')}"
        )
    images = [file for file in files if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES]
    sheets = [
        (file, sheet)
        for file in files
        if PurePosixPath(file).suffix.lower() in _TABLE_SUFFIXES
        and (sheet := read_sheet(src / file, wanted=_usual_names())).records
    ]
    guesses = [_of_table(file, sheet, images) for file, sheet in sheets]
    lines = max(guesses, key=lambda found: found.certainty, default=_Guess(-1, [])).lines
    if not lines and images:
        lines = _of_names(images)
    if not lines:
        raise InputError(
            f"src: {src} holds neither images nor a table that names any; name another folder"
        )
    head = [f"# {len(images)} file(s) that may be images, {len(sheets)} table(s) with rows."]
    return "\n".join([*head, _line("src", str(src)), *lines, ""])


@dataclass(frozen=True)
class _Guess:
    certainty: float
    lines: list[str]


def _files(src: Path) -> list[str]:
    """Paths below the folder, relative to it, in order; hidden folders and files left out."""
    folders, _ = folders_below(src)
    names = (
        (folder / name).relative_to(src).as_posix()
        for folder, _, files in folders
        if not any(map(is_skipped_folder, folder.relative_to(src).parts))
        for name in files
        if not name.startswith(".")
    )
    return sorted(islice(names, _MAX_FILES))


def _known_collection(src: Path, files: Sequence[str]) -> str | None:
    """The collection whose tables stand there, with the columns that its mapping asks for."""
    for name in collection_names():
        mapping = read_yaml(collection_file(name))
        if name in _GENERIC or not mapping.get("tables"):
            continue
        found = {pattern: _matching(files, pattern) for pattern in mapping["tables"]}
        if not all(found.values()):
            continue
        if "arrays" in mapping:
            return name
        form = SheetForm(
            delimiter=mapping.get("delimiter", "auto"),
            header=tuple(mapping["header"]) if "header" in mapping else None,
        )
        asked = [names for column in _columns_of(mapping) for names in names_in(column)]
        sheets = [
            read_sheet(src / file, form, wanted=asked) for group in found.values() for file in group
        ]
        if all(find_column(names, sheet.columns) for names in asked for sheet in sheets):
            return name
    return None


def _columns_of(mapping: Mapping[str, Any]) -> list[Column]:
    """The columns without which a mapping can't be used."""
    asked = [mapping.get("file_column"), mapping.get("patient_column")]
    asked += [*mapping.get("target_columns", {}).values()]
    return [tuple(column) if isinstance(column, list) else column for column in asked if column]


def _matching(files: Iterable[str], pattern: str) -> list[str]:
    bare = pattern.removeprefix("**/")
    if bare != pattern:
        return [file for file in files if fnmatch(PurePosixPath(file).name, bare)]
    return [file for file in files if "/" not in file and fnmatch(file, pattern)]


def _usual() -> Mapping[str, Any]:
    return read_yaml(collection_file("table"))


def _usual_names() -> list[tuple[str, ...]]:
    return [tuple(_usual()[key]) for key in ("file_column", "patient_column", "split_column")]


def _of_table(file: str, sheet: Sheet, images: Sequence[str]) -> _Guess:
    """How a table would be read, and how many of the four things that matter were found."""
    usual = _usual()
    records = list(islice(sheet.records.values(), _MAX_ROWS))
    lines = [_line("tables", [file], f"{len(sheet.records)} rows; {sheet.said or 'plain CSV'}")]
    certainty = 0.0
    template, fits = _file_template(records, sheet.columns, images)
    if template:
        certainty += 1 + fits
        lines.append(_line("file_column", template, f"{fits:.0%} of the rows lead to a file"))
    else:
        lines.append("# file_column: no column names the files here; name one, or a template")
    for key in ("patient_column", "split_column"):
        found = find_column(usual[key], sheet.columns)
        if found is not None:
            certainty += 1
            different = len({record[found] for record in records})
            lines.append(_line(key, found, f"{different} different ones in {len(records)} rows"))
        elif key == "patient_column":
            lines.append(
                "# patient_column: no column is called as one of patients; name it, or set "
                f"patient_pattern (columns: {', '.join(sheet.columns)})"
            )
    split = find_column(usual["split_column"], sheet.columns)
    lines += _split_lines(records, split)
    target = find_column(usual["target_columns"]["malignant"], sheet.columns)
    benign = find_column(["is_benign"], sheet.columns)
    if target is None and benign is not None:
        certainty += 1
        lines.append(_line("benign_column", benign, "1 is benign"))
    elif target is None:
        lines.append("# target_columns: {malignant: ...}: no column is called as a class")
        lines += _answers_line(records, sheet.columns)
    else:
        certainty += 1
        lines.append(_line("target_columns", {"malignant": target}))
        lines += _label_lines({record[target] for record in records}, default_labels())
    attributes = {
        ours: column
        for ours, names in usual["attribute_columns"].items()
        if (column := find_column(names, sheet.columns)) is not None
    }
    if attributes:
        lines.append(_line("attribute_columns", attributes))
    region = guessed_columns(sheet.columns)
    if region is not None:
        roles = {role: getattr(region, role) for role in region.form}
        lines.append(_line("region", roles, "where a lesion lies: it will be cut out"))
    if template and any(PurePosixPath(image).suffix.lower() in _DICOM_SUFFIXES for image in images):
        reason = "DICOM files: their headers are held against the table, and ids are hashed"
        lines.append(_line("whole_images", region is None, reason))
    return _Guess(certainty, lines)


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


def _label_lines(cells: set[str], labels: Labels) -> list[str]:
    """What the words of a column of classes mean, and which of them nobody knows."""
    if len(cells) > _MAX_WORDS or any(len(cell) > _MAX_WORD_CHARS for cell in cells):
        return [f"# it holds {len(cells)} different words, so it may not be one of classes"]
    of_class: dict[str, list[str]] = {"malignant": [], "benign": [], "unknown": []}
    strange = []
    for cell in sorted(cells):
        value = labels.of_cell(cell)
        if value is None:
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


def _file_template(
    records: Sequence[Mapping[str, str]], columns: Sequence[str], images: Sequence[str]
) -> tuple[str, float]:
    """The column or template that leads to files, and for how many of the rows it does."""
    whole = set(images)
    by_name: dict[str, list[str]] = {}
    by_stem: dict[str, list[str]] = {}
    for image in images:
        path = PurePosixPath(image)
        by_name.setdefault(path.name, []).append(image)
        by_stem.setdefault(path.stem, []).append(image)
    best: tuple[str, float] = ("", 0.0)
    for column in columns:
        cells = [record[column].replace("\\", "/") for record in records]
        filled = [cell for cell in cells if cell]
        if not filled:
            continue
        direct = sum(cell in whole for cell in filled) / len(filled)
        if direct > best[1]:
            best = column, direct
        for index, field in ((by_name, "{%s}"), (by_stem, "{%s}%s")):
            found = [
                (record, index[cell][0])
                for record, cell in zip(records, cells, strict=True)
                if len(index.get(cell, ())) == 1
            ]
            share = len(found) / len(filled)
            if found and share > best[1]:
                suffix = PurePosixPath(found[0][1]).suffix
                last = field % ((column, suffix) if index is by_stem else column)
                best = "/".join([*_folders(found, columns), last]), share
    return best


def _folders(found: Sequence[tuple[Mapping[str, str], str]], columns: Sequence[str]) -> list[str]:
    """The folders of found files as a template: one name for all, a column's cell, or any name."""
    parts = [PurePosixPath(path).parent.parts for _, path in found]
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
                    record[column] == name for (record, _), name in zip(found, names, strict=True)
                )
            ),
            None,
        )
        one_name = names[0] if len(set(names)) == 1 else "*"
        made.append(f"{{{same}}}" if same is not None else one_name)
    return made


def _of_names(images: Sequence[str]) -> list[str]:
    """How images without a table would be read: class and patient by their names."""
    labels = default_labels()
    readings = Counter(
        next(
            (
                reading
                for part in reversed(PurePosixPath(image).parts)
                if (reading := labels.of_name(part)) in ("positive", "negative")
            ),
            "no class",
        )
        for image in images
    )
    words = {"positive": "malignant", "negative": "benign"}
    shown = ", ".join(f"{count} {words.get(what, what)}" for what, count in readings.items())
    lines = [_line("metadata", "none", f"no table names these images; by their names: {shown}")]
    for pattern in _PATIENT_PATTERNS:
        found = [match[1] for image in images if (match := re.search(pattern, image))]
        if len(found) == len(images):
            reason = (
                f"finds {len(set(found))} patients in {len(images)} images; look whether it does"
            )
            return [*lines, _line("patient_pattern", pattern, reason)]
    return [
        *lines,
        "# patient_pattern: names show no patient that is known as such; give a pattern with one "
        "group, or none where each image is to count as a patient of its own",
    ]


def _line(key: str, value: object, reason: str = "") -> str:
    flow = yaml.safe_dump(
        value, default_flow_style=True, width=10_000, allow_unicode=True, sort_keys=False
    )
    shown = flow.strip().removesuffix("...").strip()  # YAML's end of a document
    text = f"{key}: {shown}"
    return f"{text} # {reason}" if reason else text

"""What is class 1 and class 0 in one's own images: by folders, or by a column of a table."""

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from synthdp.config.yaml_core import yaml_listed, yaml_quoted
from synthdp.data.importing.folders.names import SPLIT_FOLDERS, name_label
from synthdp.data.importing.labels import answers, default_labels, names_mask
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import same_word
from synthdp.data.importing.tables.sheets import Sheet, read_sheet
from synthdp.errors import InputError, quoted
from synthdp.init.asking import Ask, needed, plain

#: More different words than these are patients or findings in free text, and are never shown.
_MOST_CLASSES = 12
_MOST_LETTERS = 40
#: Between the words of a list, most likely first.
_SEPARATORS = ("|", ";", ",")
#: What collections of reports write where nobody is certain.
_DOUBT = "-1"


def classes_in_folders(
    images: Path, names: Sequence[str], target: str | None, ask: Ask | None
) -> tuple[str, str]:
    """The name of the target, and the lines that say which folders hold its classes.

    Args:
        images: the folder.
        names: of what stands in it, as paths below it.
        target: the folder of class 1, where it was said.
        ask: at a terminal.

    Raises:
        InputError: when no folders tell classes, or nobody says which is class 1.
    """
    names = [name for name in names if not names_mask(name)]
    if target is None and _names_say_classes(images, names):
        return "malignant", ""
    folders = _class_folders(names)
    if not 1 < len(folders) <= _MOST_CLASSES:
        raise InputError(
            "--images: its folders tell no classes; put images into a folder a class, such as "
            "normal and pneumonia, or name a table with --table"
        )
    values = [default_labels().of_cell(folder) for folder in folders]
    if target is None and sorted(map(str, values)) == ["0.0", "1.0"]:  # such as 0 and 1
        target = folders[values.index(1.0)]
    question = f"Which of {', '.join(folders)} is what a classifier is to find (class 1)"
    target = needed(target, "--target", question, ask)
    if target not in folders:
        raise InputError(
            f"--target: {quoted(target)}: no folder of a class is called so; there are "
            f"{', '.join(folders)}"
        )
    name = "positive" if answers().of_cell(target) is not None else plain(target)
    return name, f"targets: [{name}]\n{_labels([target], folders)}"


def classes_in_table(table: Path, target: str | None, ask: Ask | None) -> tuple[str, str]:
    """The name of the target, and the lines that say which column and words hold its classes.

    `target` is a column, or COLUMN=WORD where the word that is class 1 must be said.

    Raises:
        InputError: when there is no such column or word, or nobody says which is class 1.
    """
    sheet = read_sheet(table, wanted=())
    columns = list(sheet.columns)
    target = needed(target, "--target", f"Column of the class, of {', '.join(columns)}", ask)
    column, _, word = (target, "", "") if target in columns else target.partition("=")
    if column not in columns:
        raise InputError(
            f"--target: {quoted(column)}: {table.name} has no such column; it has "
            f"{', '.join(columns)} (--table names another table)"
        )
    name = plain(column)
    lines = f"targets: [{name}]\ntarget_columns: {{{name}: {yaml_quoted(column)}}}\n"
    cells = sorted({record[column].strip() for record in sheet.records.values()})
    if not word and all(answers().of_cell(cell) is not None for cell in cells):
        return name, lines
    return name, lines + _labels(_words_of_class_1(column, word, cells, ask), cells)


def findings_in_table(table: Path, findings: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The names of several targets, and the lines that say which columns hold them.

    Args:
        table: with a row for each image.
        findings: columns of 0 and 1, yes and no and the like; or one column of lists of words, as
            COLUMN=WORD for the first word and WORD for each further one.

    Raises:
        InputError: when a column is not there, or holds something else.
    """
    sheet = read_sheet(table, wanted=())
    columns = list(sheet.columns)
    column, is_list, first = findings[0].partition("=")
    if is_list and findings[0] not in columns:
        return _listed_words(table, column, [first, *findings[1:]], sheet)
    unknown = [name for name in findings if name not in columns]
    if unknown:
        raise InputError(
            f"--target: {quoted(', '.join(unknown))}: {table.name} has no such column; it has "
            f"{', '.join(columns)} (a column of lists is named with its words, as "
            "--target 'Finding Labels=Effusion,Mass')"
        )
    doubtful = False
    for name in findings:
        cells = {record[name].strip() for record in sheet.records.values()} - {""}
        doubtful |= _DOUBT in cells
        if strange := [cell for cell in cells - {_DOUBT} if answers().of_cell(cell) is None]:
            raise InputError(
                f"--target: {quoted(name)}: {len(strange)} of its words are neither yes nor no (1 "
                "or 0); several findings have a column of these each"
            )
    names = tuple(map(plain, findings))
    pairs = ", ".join(
        f"{name}: {yaml_quoted(column)}" for name, column in zip(names, findings, strict=True)
    )
    lines = f"targets: [{', '.join(names)}]\ntarget_columns: {{{pairs}}}\n"
    if doubtful:
        lines += (
            f"uncertain_words: [{_DOUBT}] # of nobody's certainty\n"
            "uncertain: unknown # or positive, or negative\n"
        )
    return names, lines


def _listed_words(
    table: Path, column: str, words: Sequence[str], sheet: Sheet
) -> tuple[tuple[str, ...], str]:
    """As `findings_in_table`, of words that stand in one column's lists."""
    if column not in sheet.columns:
        raise InputError(
            f"--target: {quoted(column)}: {table.name} has no such column; it has "
            f"{', '.join(sheet.columns)}"
        )
    cells = [record[column] for record in sheet.records.values()]
    separator = max(_SEPARATORS, key=lambda one: sum(one in cell for cell in cells))
    there = {same_word(word.strip(" []'\"")) for cell in cells for word in cell.split(separator)}
    if absent := [word for word in words if same_word(word) not in there]:
        raise InputError(
            f"--target: {quoted(', '.join(absent))}: stands in no list of {column}, as its words "
            f"are parted by {separator!r}"
        )
    names = tuple(plain(word).lower().replace("-", "_") for word in words)
    pairs = "".join(
        f"    {name}: [{yaml_quoted(word)}]\n" for name, word in zip(names, words, strict=True)
    )
    return names, (
        f"targets: [{', '.join(names)}]\nword_list:\n  column: {yaml_quoted(column)}\n"
        f"  separator: {yaml_quoted(separator)}\n  others: pass_over # words of no target\n"
        f"  words:\n{pairs}"
    )


def _words_of_class_1(column: str, word: str, cells: Sequence[str], ask: Ask | None) -> list[str]:
    """Which words of a column are class 1: those known to be, or the one that is named."""
    known = {cell: default_labels().of_cell(cell) for cell in cells}
    if not word and None not in known.values():
        return [cell for cell, value in known.items() if value == 1]
    words = [cell for cell, value in known.items() if value is None or not math.isnan(value)]
    if len(words) > _MOST_CLASSES or any(len(one) > _MOST_LETTERS for one in words):
        raise InputError(
            f"--target: {quoted(column)}: this column holds {len(words)} different words, so it "
            "may not be one of classes; name another, or make one with a word for each class"
        )
    question = f"Which of {', '.join(words)} in {column} is class 1"
    if ask is None and not word:
        raise InputError(
            f"--target: {quoted(column)}: {question[0].lower()}{question[1:]}; say --target "
            f"{quoted(f'{column}=WORD')}"
        )
    word = needed(word or None, "--target", question, ask)
    if word not in words:
        raise InputError(
            f"--target: {quoted(word)}: is no word of {column}, which has {', '.join(words)}"
        )
    return [word]


def _labels(positive: Sequence[str], words: Sequence[str]) -> str:
    """The line of words for class 1 and, of all others that say something, for class 0."""
    of_cell = default_labels().of_cell
    others = [
        word
        for word in words
        if word not in positive and not ((value := of_cell(word)) is not None and math.isnan(value))
    ]
    return f"labels: {{positive: {yaml_listed(positive)}, negative: {yaml_listed(others)}}}\n"


def _names_say_classes(images: Path, names: Sequence[str]) -> bool:
    """Whether each name tells the class in words that the import knows, and both classes are."""
    settings = ListingSettings.model_construct(src=images)
    return {name_label(settings, name)[0] for name in names} == {0.0, 1.0}


def _class_folders(names: Sequence[str]) -> list[str]:
    """The names of the folders, at that depth where they are fewest, and more than one.

    So patients' folders in or above those of the classes are none; nor are those of splits.
    """
    folders = [
        [part for part in PurePosixPath(name).parent.parts if part.lower() not in SPLIT_FOLDERS]
        for name in names
    ]
    depths = [sorted(set(parts)) for parts in zip(*folders, strict=False)]
    return min((parts for parts in depths if len(parts) > 1), key=len, default=[])

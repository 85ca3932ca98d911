"""What a setting says of a column: its name, several names, or a template; and words of cells."""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from synthdp.data.importing.tables.sheets import Sheet, known_columns, same_name

#: A column's name, or a text with `{names}` of columns in it; several names are synonyms, of which
#: the first that the table has counts. `{a|b}` names synonyms inside a template.
Column = str | tuple[str, ...]
Decimal = Literal["auto", "point", "comma"]
#: Names, as `same_name` spells them, of columns in which yes means malignant.
_SAY_MALIGNANT = ("malignant", "malignancy", "cancer", "ismalignant", "iscancer")
#: What tables call the left and the right side, in several languages.
_SIDES = {
    **dict.fromkeys(
        ("l", "left", "li", "links", "gauche", "izquierda", "sinistra", "esquerda"), "l"
    ),
    **dict.fromkeys(("r", "right", "re", "rechts", "droite", "derecha", "destra", "direita"), "r"),
    **dict.fromkeys(("b", "both", "bilateral", "beidseits"), "b"),
}
_FIELD = re.compile(r"\{([^{}]+)\}")
_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_COMMA = re.compile(r"[+-]?\d*,\d+")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")


@dataclass(frozen=True)
class Cell:
    """How a value is made of a record: texts as they stand, and the cells of columns."""

    parts: tuple[tuple[str, bool], ...]  # a text, or a column's name and True

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read."""
        return tuple(text for text, is_column in self.parts if is_column)

    @property
    def shown(self) -> str:
        """The column, or the template, as an error calls it."""
        return "".join(
            f"{{{text}}}" if self.is_template and is_column else text
            for text, is_column in self.parts
        )

    @property
    def is_template(self) -> bool:
        """Whether more than the cell of one column is read."""
        return len(self.parts) != 1 or not self.parts[0][1]

    def text(self, record: Mapping[str, str]) -> str:
        """The value; empty where any of the columns is."""
        if len(self.parts) == 1 and self.columns:
            return record[self.columns[0]]
        if not all(record[name] for name in self.columns):
            return ""
        return "".join(record[text] if is_column else text for text, is_column in self.parts)

    def words(self, record: Mapping[str, str]) -> str:
        """The value for a label: empty cells stay, and `1.0` is written as `1` in a template."""
        if not self.is_template:
            return record[self.columns[0]]
        return "".join(
            _WHOLE.sub(r"\1", record[text]) if is_column else text for text, is_column in self.parts
        )

    def pattern(self, record: Mapping[str, str]) -> str:
        """The value as a pattern of file names, in which what cells hold stands for itself."""
        if not all(record[name] for name in self.columns):
            return ""
        return "".join(
            glob.escape(record[text].replace("\\", "/")) if is_column else text
            for text, is_column in self.parts
        )


def names_in(column: Column) -> list[tuple[str, ...]]:
    """The synonyms of each column that a setting asks for."""
    if isinstance(column, str) and "{" in column:
        return [tuple(field.split("|")) for field in _FIELD.findall(column)]
    return [(column,) if isinstance(column, str) else column]


def has_wildcards(column: Column) -> bool:
    """Whether a template names files by a pattern."""
    return isinstance(column, str) and any(
        glob.has_magic(text) for text in _FIELD.split(column)[::2]
    )


def find_column(names: Sequence[str], columns: Sequence[str]) -> str | None:
    """The column of one of these names; else one that is called so but for case and blanks."""
    for name in names:
        if name in columns:
            return name
    for name in names:
        alike = [column for column in columns if same_name(column) == same_name(name)]
        if len(alike) == 1:
            return alike[0]
    return None


def find_cell(column: Column, columns: Sequence[str]) -> Cell | None:
    """How to read what a setting names from a table of these columns; None where it has none."""
    known = [find_column(names, columns) for names in names_in(column)]
    if not isinstance(column, str) or "{" not in column:
        return None if known[0] is None else Cell(((known[0], True),))
    texts = _FIELD.split(column)[::2]
    parts: list[tuple[str, bool]] = []
    for position, text in enumerate(texts):
        parts += [(text, False)] if text else []
        if position < len(known):
            name = known[position]
            if name is None:
                return None
            parts.append((name, True))
    return Cell(tuple(parts))


def says_target(column: str, target: str) -> bool:
    """Whether a column's name says that 1 and yes in it mean the target.

    Under `label`, `target` and the like 1 is the benign class in as many tables as it is not.
    """
    known = _SAY_MALIGNANT if target == "malignant" else (same_name(target),)
    return same_name(column) in known


def column_problem(key: str, column: Column, sheet: Sheet) -> str | None:
    """What is wrong with a column that the setting `key` asks for; None when nothing is."""
    for names in names_in(column):
        column_name = find_column(names, sheet.columns)
        shown = " or ".join(repr(name) for name in names)
        if column_name is None:
            known = known_columns(sheet)
            return f"{key}: the table has no column {shown} ({known}); set {key}"
        if column_name in sheet.repeated:
            return (
                f"{key}: several columns are called {column_name!r}; give them names of their own"
            )
    return None


def same_word(text: str) -> str:
    """What spellings of one word in a cell share: `Yes` and `yes`, 1 and 1.0."""
    text = text.strip().casefold()
    return _WHOLE.sub(r"\1", text) if "." in text else text


def known_cells(cells: Mapping[str, str], unknown: frozenset[str]) -> Mapping[str, str]:
    """A record in which words for nothing are empty cells."""
    if not unknown:
        return cells
    return {name: "" if same_word(cell) in unknown else cell for name, cell in cells.items()}


def number_text(text: str, decimal: Decimal) -> str:
    """A cell's number with a decimal point; other texts as they stand.

    Raises:
        ValueError: where a comma may be for decimals or for thousands.
    """
    if "," not in text:
        return text
    if decimal == "point":
        return text.replace(",", "") if _THOUSANDS.fullmatch(text.partition(".")[0]) else text
    if decimal == "comma":
        text = (
            text.replace(".", "") if re.fullmatch(r"[+-]?\d{1,3}(?:\.\d{3})+,\d+", text) else text
        )
    elif _THOUSANDS.fullmatch(text):
        raise ValueError("a comma may be for thousands or for decimals; set decimal")
    return text.replace(",", ".") if _COMMA.fullmatch(text) else text


def with_point(cell: str, decimal: Decimal) -> str:
    """A cell with a decimal point, if it is a number; a comma of which nobody knows stays."""
    try:
        return number_text(cell, decimal)
    except ValueError:
        return cell


def same_side_or_view(one: str, other: str) -> bool:
    """Whether two words mean one side or view: `L`, `Left` and `links` do."""
    one, other = one.strip().casefold(), other.strip().casefold()
    return _SIDES.get(one, one) == _SIDES.get(other, other)


def is_side(word: str) -> bool:
    """Whether a word is known to mean a side."""
    return word.strip().casefold() in _SIDES

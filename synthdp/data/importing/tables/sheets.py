"""A table as somebody else wrote it: encoding, delimiter and header found out, and what is wrong.

The header decides how a table is cut, and rows are judged one by one, so that no patient's row
changes how another's is read: at worst it is refused.
"""

import codecs
import csv
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from synthdp.data.manifest.tables import (
    MAX_COLUMNS,
    MAX_TABLE_BYTES,
    MAX_TORN_ROWS,
    NO_ROWS,
    Table,
    csv_problem,
    plain_text,
)
from synthdp.storage.files import refuse_without_descriptors

Delimiter = Literal["auto", "comma", "semicolon", "tab", "pipe", "whitespace"]
_SIGNS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
#: The header is looked for in so many rows: exports begin with a title and a date.
HEADER_ROWS = 20
#: A title seldom fills as many cells: above the header of so many columns it is a row.
_LEAST_COLUMNS = 3
#: How files begin that are no text, and what to do about them.
_NO_TEXT = (
    (
        (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"),
        "a workbook (such as .xlsx), not text; save the sheet as CSV (UTF-8) and name that file",
    ),
    ((b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"), "compressed; unpack it first"),
    ((b"PAR1", b"SQLite format 3", b"%PDF"), "not a text table; export it as CSV (UTF-8)"),
)
_GZIP = b"\x1f\x8b"
_TOO_LARGE = f"larger than {MAX_TABLE_BYTES // 2**20} MiB, so it was not read"
_WEB_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html)", re.IGNORECASE)
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What surrounds a cell beside blanks: marks of byte order and of no width, from joined files.
_NO_WIDTH = "\ufeff\u200b\u200e\u200f\u2060"
_SEP_LINE = re.compile(r"sep=(.)\r?\n?", re.IGNORECASE)
#: What stands in rows and not in headers: numbers, dates, long numbers in ids, names of files.
_VALUE = re.compile(
    r"^[+-]?\d+([.,]\d+)?$|\d[-./]\d+[-./]\d|\d{3}|[\\^]|\.(png|tiff?|jpe?g|dcm|dicom|pgm|npy)$",
    re.IGNORECASE,
)
_NOT_UTF8 = re.compile(r"[\udc80-\udcff]")
_SHOWN = {"utf-8-sig": "UTF-8", "utf-8": "UTF-8", "cp1252": "Windows-1252"}


@dataclass(frozen=True)
class SheetForm:
    """How a table is written; what is `auto` is found out.

    `header` names the columns of a table that has no row of names. `short_rows: blank` takes cells
    that are missing at the end of a row for empty, as Excel leaves them out.
    """

    delimiter: Delimiter = "auto"
    encoding: str = "auto"
    header: tuple[str, ...] | None = None
    short_rows: Literal["refuse", "blank"] = "refuse"


@dataclass(frozen=True)
class Sheet(Table):
    """A table of another's making.

    `said` is how it was read, for the terminal, where that is not as plain CSV; `repeated` are the
    names that several columns have, of which the record holds the first.
    """

    said: str = ""
    repeated: frozenset[str] = frozenset()


def is_encoding(name: str) -> bool:
    """Whether Python knows a way of writing text by this name."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        return False
    return True


class _UnreadableError(ValueError):
    """What is wrong with a table, none of which can be read then."""


def read_sheet(
    path: Path, form: SheetForm = SheetForm(), *, wanted: Sequence[Sequence[str]] = ()
) -> Sheet:
    """Read a table. Every text is trimmed; rows are numbered as in a spreadsheet.

    Args:
        path: of the file.
        form: what is known of how it is written.
        wanted: the names that each column has which will be asked for; the header is the row, and
            the delimiter the sign, that shows the most of them.

    Returns:
        The sheet; what is wrong is among its problems, which hold no cell.

    Raises:
        RunError: when no file descriptor is left.
    """
    try:
        content = _content(path)
        encoding = form.encoding if form.encoding != "auto" else _marked_encoding(content)
        if encoding is None:
            text, encoding = _unmarked_text(content, form, wanted)
        else:
            text = _decoded(content, encoding, "set encoding")
    except _UnreadableError as problem:
        return Sheet(problems=(str(problem),))
    return _parsed(text, encoding, form, wanted)


def _content(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise _UnreadableError("missing; correct the path")
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise _UnreadableError(_TOO_LARGE)
        content = _unpacked(path.read_bytes())
    except OSError as error:
        refuse_without_descriptors(error)
        raise _UnreadableError(
            "cannot be read; give the user that runs this the right to"
        ) from error
    for beginnings, problem in _NO_TEXT:
        if content.startswith(beginnings):
            raise _UnreadableError(problem)
    if _WEB_PAGE.match(content):
        raise _UnreadableError("a web page, not a table; download the table itself")
    return content


def _unpacked(content: bytes) -> bytes:
    """What a file holds that gzip has packed, as collections hand out tables; others as they are.

    No more is unpacked than a table may have, however much is promised.
    """
    whole = bytearray()
    while content.startswith(_GZIP):  # of several parts, one after the other
        unpacking = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            whole += unpacking.decompress(content, MAX_TABLE_BYTES + 1 - len(whole))
        except zlib.error as error:
            raise _UnreadableError("damaged where gzip packed it; download it again") from error
        if len(whole) > MAX_TABLE_BYTES:
            raise _UnreadableError(_TOO_LARGE)
        if not unpacking.eof:
            raise _UnreadableError("ends before gzip's end; download it again")
        content = unpacking.unused_data
        if not content.startswith(_GZIP):
            return bytes(whole)
    return content


def _marked_encoding(content: bytes) -> str | None:
    return next((name for mark, name in _MARKS if content.startswith(mark)), None)


def _decoded(content: bytes, encoding: str, mend: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start].decode(encoding, "replace")
        row = 1 + (before.count("\n") or before.count("\r"))
        shown = _SHOWN.get(encoding, encoding)
        raise _UnreadableError(f"row {row}: not readable as {shown}; {mend}") from error


def _unmarked_text(
    content: bytes, form: SheetForm, wanted: Sequence[Sequence[str]]
) -> tuple[str, str]:
    """The text of a table without a mark of its encoding: UTF-8, or Windows-1252, never both."""
    beginning = content[:2000]
    if beginning.count(0) > len(beginning) // 4:
        raise _UnreadableError(
            "looks like UTF-16 without its byte-order mark; set encoding=utf-16-le or utf-16-be, "
            "or save it as CSV (UTF-8)"
        )
    text = content.decode("utf-8", "surrogateescape")
    if not _NOT_UTF8.search(text):
        return text, "utf-8"
    lines = _numbered_lines(text, form, wanted)
    torn = [number for number, line in lines if _NOT_UTF8.search(line)]
    if any(not line.isascii() and not _NOT_UTF8.search(line) for _, line in lines):
        shown = ", ".join(map(str, torn[:10])) + (" and more" if len(torn) > 10 else "")
        raise _UnreadableError(
            f"row(s) {shown}: not UTF-8, while other rows are, so two encodings are mixed and "
            "no name can be trusted; save the table anew as UTF-8"
        )
    mend = (
        "nor as UTF-8; save the table anew as UTF-8, or set encoding (such as latin-1, "
        "mac_roman, gb18030 or shift_jis)"
    )
    return _decoded(content, "cp1252", mend), "cp1252"


def _numbered_lines(
    text: str, form: SheetForm, wanted: Sequence[Sequence[str]]
) -> list[tuple[int, str]]:
    """The rows of a table as single texts; its lines where rows are torn."""
    cut, _, _ = _header(text, form, wanted)
    try:
        return [(number, "".join(row)) for number, row in _records(text, cut)]
    except csv.Error:
        return list(enumerate(text.splitlines(), start=1))


@dataclass(frozen=True)
class _Cut:
    """At which sign a table is cut (blanks where it is empty), and how many lines come before."""

    sign: str
    skipped: int  # lines that a spreadsheet does not show


def _records(text: str, cut: _Cut) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table with their numbers, empty ones too; csv.Error where one is torn."""
    stream = io.StringIO(text, newline="")
    for _ in range(cut.skipped):
        stream.readline()
    if not cut.sign:
        yield from ((number, line.split()) for number, line in enumerate(stream, start=1))
        return
    yield from enumerate(csv.reader(stream, delimiter=cut.sign, strict=True), start=1)


def _cuts(text: str, delimiter: Delimiter) -> list[_Cut]:
    """The ways in which a table may be cut."""
    said = _SEP_LINE.match(text)
    if delimiter == "whitespace":
        return [_Cut("", 0)]
    if delimiter != "auto":
        return [_Cut(_SIGNS[delimiter], int(said is not None))]
    if said is not None and said[1] in _SIGNS.values():
        return [_Cut(said[1], 1)]
    return [_Cut(sign, 0) for sign in _SIGNS.values()]


def trimmed(cell: str) -> str:
    """A cell without the blanks and marks around it, and without a spreadsheet's mark of text."""
    return plain_text(cell).strip().strip(_NO_WIDTH).strip()


def _header(
    text: str, form: SheetForm, wanted: Sequence[Sequence[str]]
) -> tuple[_Cut, int, tuple[str, ...]]:
    """How the table is cut, the number of the row of names, and the names."""
    best = (-1, 0, 0)
    header: tuple[_Cut, int, tuple[str, ...]] = (_cuts(text, form.delimiter)[0], 1, ())
    for cut in _cuts(text, form.delimiter):
        try:
            for number, row in islice(_records(text, cut), HEADER_ROWS):
                names = tuple(map(trimmed, row[: MAX_COLUMNS + 1]))
                known = {same_name(name) for name in names}
                shown = sum(any(same_name(one) in known for one in names_) for names_ in wanted)
                filled = sum(map(bool, names))
                # Without a name that is asked for, the first row that holds something, cut at the
                # sign that gives the most columns.
                score = (shown, -number if filled else -HEADER_ROWS - 1, filled)
                if score > best:
                    best, header = score, (cut, number, names)
        except csv.Error:
            continue  # said when all of it is read
    return header


def same_name(name: str) -> str:
    """What two spellings of a column's name share: `Patient ID`, `patient_id`, `PatientID`."""
    return re.sub(r"[\s_.-]+", "", name).casefold()


def known_columns(sheet: Sheet) -> str:
    """The names of a table's columns for an error, unless they are somebody's values.

    The first row of a table without names is of a patient.
    """
    if any(map(_VALUE.search, sheet.columns)):
        return "the row taken for its header holds values; name the columns in `header`"
    return f"it has: {', '.join(sheet.columns)}"


def _parsed(text: str, encoding: str, form: SheetForm, wanted: Sequence[Sequence[str]]) -> Sheet:
    text = text.removeprefix("\ufeff")
    if form.header is not None:
        cut, header_row, columns = _cuts(text, form.delimiter)[0], 0, form.header
    else:
        cut, header_row, columns = _header(text, form, wanted)
    while columns and not columns[-1]:  # Excel's empty columns
        columns = columns[:-1]
    if len(columns) > MAX_COLUMNS:
        return Sheet(columns, problems=(f"more than {MAX_COLUMNS} columns",))
    names = tuple(name or f"column {number}" for number, name in enumerate(columns, start=1))
    repeated = frozenset(name for name in names if names.count(name) > 1)
    kept = [(names.index(name), name) for name in dict.fromkeys(names)]
    records: dict[int, dict[str, str]] = {}
    problems: list[str] = []
    number = longer = 0
    try:
        for number, row in _records(text, cut):
            cells = _cells(row, len(names), filled=form.short_rows == "blank" or not cut.sign)
            if (
                number < header_row
                and len(names) >= _LEAST_COLUMNS
                and sum(map(bool, cells)) >= len(names)
            ):
                problems.append(
                    f"row {number}: stands above the header (row {header_row}) and is as full; "
                    "take it away, or put it below where it is of an image"
                )
            if number <= header_row or not cells:
                continue
            if form.header is not None and not records and _names_the_same(cells, names):
                continue  # the table has a row of names after all
            problem = _swallowed(row, cut.sign, len(names)) or _row_problem(cells, len(names))
            if problem is None:
                records[number] = {name: cells[index] for index, name in kept}
                continue
            longer += len(cells) == len(names) + 1
            problems.append(f"row {number}: {problem}")
            if len(problems) == MAX_TORN_ROWS:
                problems.append("so many rows are torn that the rest was not read")
                break
    except csv.Error as error:
        problems.append(csv_problem(error, number + 1))
    if longer > 1 and longer >= len(problems) - 1 and not records:
        problems = [
            "every row has one cell more than the header, as where R writes row names; give the "
            "header a name for the first column"
        ]
    problems += [] if records or problems else [NO_ROWS]
    said = _said(encoding, cut, header_row)
    return Sheet(names, records, tuple(problems), said, repeated)


def _cells(row: Sequence[str], columns: int, *, filled: bool) -> list[str]:
    """The trimmed cells of a row; none of an empty row.

    Delimiters that end it are passed over; where it is to be `filled`, missing cells are empty.
    """
    cells = list(map(trimmed, row))
    if not any(cells):
        return []
    while len(cells) > columns and not cells[-1]:
        cells.pop()
    return cells + [""] * (columns - len(cells)) if filled else cells


def _names_the_same(cells: Sequence[str], names: Sequence[str]) -> bool:
    return list(map(same_name, cells)) == list(map(same_name, names))


def _swallowed(row: Sequence[str], sign: str, columns: int) -> str | None:
    """What is wrong with a row of which a cell holds further rows.

    Where one quote too many opens a cell and another one closes it rows below, those between, of
    whomever, would be gone without a word.
    """
    if not any("\n" in cell or "\r" in cell for cell in row):
        return None
    for position, cell in enumerate(row, start=1):
        _, *lines = re.split(r"\r\n?|\n", cell)
        cells = [line.count(sign) + 1 for line in lines]
        # Whole rows, then the beginning of the one in which the cell ends.
        whole = max(cells[:-1], default=0) >= columns
        if columns > 1 and (whole or (cells and cells[-1] == position > 1)):
            return (
                "a cell holds line breaks and what looks like further rows; take out the quote "
                "that is too many there, or the line breaks of the cell"
            )
    return None


def _row_problem(cells: Sequence[str], columns: int) -> str | None:
    if any("\0" in cell for cell in cells):
        return "holds a NUL character; save the table anew"
    return _torn_words(len(cells), columns) if len(cells) != columns else None


def _torn_words(cells: int, columns: int) -> str:
    if cells > columns:
        return f"has {cells} cells, more than the {columns} columns of the header"
    return (
        f"has {cells} cells, fewer than the {columns} columns of the header; mend it, or set "
        "short_rows=blank where empty cells at the end were left out"
    )


def _said(encoding: str, cut: _Cut, header_row: int) -> str:
    shown = _SHOWN.get(encoding, encoding.upper())
    sign = next((word for word, sign in _SIGNS.items() if sign == cut.sign), "blank")
    words = [] if shown == "UTF-8" else [f"encoding {shown}"]
    words += [] if sign == "comma" else [f"cut at each {sign}"]
    words += [f"header in row {header_row}"] if header_row > 1 else []
    return ", ".join(words)

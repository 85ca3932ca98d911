"""What may tell who the patients are, left in the files of a set beside pixels and labels.

Nothing here can find everything: a number may be a hospital's, a word a surname. What is found is
of forms that have no place in a set, or that are as a rule somebody's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath

from synthdp.data.people.ages import AGE_COLUMNS, capped_age

_PNG = b"\x89PNG\r\n\x1a\n"
#: Chunks of a PNG that hold nothing but the picture and how it is to be shown.
_OF_PICTURES = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"sBIT", b"bKGD"),
    *(b"pHYs", b"cICP"),
)
_NAMED_CHUNKS = {
    **dict.fromkeys((b"tEXt", b"zTXt", b"iTXt"), "text"),
    **{b"eXIf": "EXIF", b"tIME": "a time"},
}

_COUNTER = re.compile(r"\d{1,7}")
_YEAR = r"(?:18|19|20)\d\d"
_DATE = re.compile(
    rf"(?<!\d)(?:{_YEAR}(?P<by>[-/._]?)(?:0[1-9]|1[0-2])(?P=by)(?:0[1-9]|[12]\d|3[01])"
    rf"|(?:0?[1-9]|[12]\d|3[01])(?P<of>[-/._])(?:0?[1-9]|[12]\d|3[01])(?P=of)(?:{_YEAR}|\d\d))(?!\d)"
)
_UID = re.compile(r"(?<!\d)[012](?:[._-]\d+){4,}(?!\d)")
_LONG_NUMBER = re.compile(r"\d{9,}")
#: A name as DICOM writes it (Doe^Jane), or a table (Doe, Jane; Doe_Jane), without a digit.
_NAME = re.compile(r"[^\W\d_]{2,}\^[^\d]*|[^\W\d_]{2,}(?:, ?|[_ -])[^\W\d_]{2,}")
_FREE_TEXT_CHARS, _FREE_TEXT_WORDS = 40, 6
#: Words of a column's name that announce a person, a moment, or a thing to look people up by.
_TELLING = frozenset(
    (
        *("name", "surname", "birth", "birthdate", "birthday", "dob", "address", "phone", "email"),
        *("mrn", "ssn", "accession", "uid", "date", "time", "datetime", "timestamp", "path"),
        *("file", "filename", "comment", "comments", "note", "notes", "report", "physician"),
        *("institution",),
    )
)


def png_leftover(content: bytes) -> str | None:
    """What the content of an image's file holds beside a picture; None where it holds nothing else.

    It is walked from chunk to chunk; no pixel is decoded, and what was found is not repeated.
    """
    if not content.startswith(_PNG):
        return "is not a PNG, so that what stands beside its pixels is not known; import it again"
    at = len(_PNG)
    while at + 8 <= len(content):
        length, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        if kind not in _OF_PICTURES:
            named = _NAMED_CHUNKS.get(kind, "a chunk of another kind than a picture needs")
            return f"holds {named} beside its pixels; import it again, or write it without"
        at += 12 + length
        if kind == b"IEND":
            beyond = len(content) - at
            return f"{beyond} byte(s) stand behind its end; import it again" if beyond > 0 else None
    return None  # truncated, which whoever decodes it says


def table_leftovers(
    records: Mapping[int, Mapping[str, str]], attributes: tuple[str, ...]
) -> Iterator[tuple[str, list[int]]]:
    """What the manifest of real patients may tell of them, and the rows where it does.

    Args:
        records: the cells of each row, by its number.
        attributes: the free columns.

    Yields:
        What is wrong, which repeats no cell, and the numbers of rows; none where it is a column.
    """
    of_files = _rows_where(records, "image", lambda name: not _is_counter(name))
    if of_files:
        yield "image: a file or folder name is no counter, and may hold an id or a date", of_files
    for form, rows in _forms(records, "patient_id", long_numbers=False):
        yield f"patient_id: looks like {form}; import with `ids: hashed`", rows
    for column in attributes:
        if telling := sorted(_TELLING & set(re.split(r"[\W_]+", column.lower()))):
            yield f"{column}: what is called a {telling[0]} may tell who it is; leave it out", []
        for form, rows in _forms(records, column, long_numbers=True):
            yield f"{column}: looks like {form}; leave the column out of `attributes`", rows
        if column.lower() in AGE_COLUMNS and (old := _rows_where(records, column, _is_old)):
            yield f"{column}: an age above 90 is rare enough to tell who it is; write 90", old


def _is_counter(image: str) -> bool:
    path = PurePosixPath(image)
    parts = (*path.parts[1:-1], path.stem)  # behind the folder `images`
    return all(_COUNTER.fullmatch(part) for part in parts)


def _is_old(age: str) -> bool:
    return capped_age(age) != age


def _forms(
    records: Mapping[int, Mapping[str, str]], column: str, *, long_numbers: bool
) -> Iterator[tuple[str, list[int]]]:
    """The forms of personal data in a column, and the rows of each."""
    forms: dict[str, Callable[[str], object]] = {
        "a UID": _UID.search,
        "a date": lambda cell: not _UID.search(cell) and _DATE.search(cell),
        "a person's name": _NAME.fullmatch if column == "patient_id" else _is_dicom_name,
    }
    if long_numbers:
        forms["a number of a record"] = _LONG_NUMBER.fullmatch
        forms["free text"] = _is_free_text
    for form, matches in forms.items():
        if rows := _rows_where(records, column, matches):
            yield form, rows


def _is_dicom_name(cell: str) -> bool:
    """Attributes are words, often two: only what no attribute is written like counts as a name."""
    return "^" in cell or bool(re.fullmatch(r"[A-Z][^\W\d_]+, ?[A-Z][^\W\d_]+", cell))


def _is_free_text(cell: str) -> bool:
    return len(cell) > _FREE_TEXT_CHARS and len(cell.split()) >= _FREE_TEXT_WORDS


def _rows_where(
    records: Mapping[int, Mapping[str, str]], column: str, matches: Callable[[str], object]
) -> list[int]:
    return [number for number, record in records.items() if matches(record.get(column) or "")]

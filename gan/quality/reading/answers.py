"""The files that readers saved: read, checked against the key, every problem at once."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan.quality.reading.key import Key, Kind
from synthdp.data.manifest.tables import read_table
from synthdp.errors import InputError, quoted

_COLUMNS = ("kit", "reader", "code", "origin", "confidence", "rating")
_ORIGINS: Mapping[str, Kind] = {"real": "real", "synthetic": "synthetic"}
_CONFIDENCES, _RATINGS = range(1, 4), range(1, 6)
_READER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]{0,39}")
_MAX_BYTES = 2**20
#: Codes and problems that an error names at most.
_MAX_NAMED = 10


@dataclass(frozen=True)
class Answer:
    """What a reader said of one image: each part may be missing.

    confidence: 1 a guess, 2 fairly sure, 3 certain. rating: 1 to 5, from surely without the target
    to surely with it.
    """

    origin: Kind | None
    confidence: int | None
    rating: int | None

    @property
    def is_whole(self) -> bool:
        """Whether all three were answered."""
        return None not in (self.origin, self.confidence, self.rating)

    @property
    def surely_synthetic(self) -> int | None:
        """How sure the reader is that it is synthetic: -3 certainly real to 3 certainly not."""
        if self.origin is None or self.confidence is None:
            return None
        return self.confidence if self.origin == "synthetic" else -self.confidence


@dataclass(frozen=True)
class Reading:
    """One reader's answers by code; an image without any has none."""

    reader: str
    answers: Mapping[str, Answer]


def read_readings(files: Sequence[Path], key: Key, *, allow_missing: bool) -> list[Reading]:
    """The readings of one or more readers, in the order of the files.

    Args:
        files: as the page saved them, or with semicolons, as a spreadsheet saves them again.
        key: of the kit.
        allow_missing: take answers that are there where some are missing.

    Raises:
        InputError: with every problem of every file: of another kit, an unknown or repeated code, a
            value out of range, missing answers, a reader who has two files.
    """
    problems: list[str] = []
    readings = []
    for path in files:
        reading, wrong = _read(path, key)
        if reading is not None and not wrong and not allow_missing:
            wrong = [*_missing(reading, key)]
        problems += [f"{path.name}: {problem}" for problem in wrong]
        readings += [] if reading is None else [reading]
    names = Counter(reading.reader for reading in readings)
    problems += [
        f"reader {name}: has {count} files; name the last one alone"
        for name, count in names.items()
        if count > 1
    ]
    if problems:
        raise InputError("\n".join(problems))
    return readings


def _read(path: Path, key: Key) -> tuple[Reading | None, list[str]]:
    if not path.is_file():
        return None, ["there is no such file"]
    table = read_table(path, max_bytes=_MAX_BYTES, semicolons=True)
    problems = list(table.problems)
    lacking = [name for name in _COLUMNS if name not in table.columns]
    if lacking and not problems:
        problems.append(f"has no column {', '.join(lacking)}; give the file that the page saved")
    if problems:
        return None, problems[:_MAX_NAMED]
    rows = list(table.records.values())
    if wrong := {row["kit"] for row in rows} - {key.kit}:
        return None, [
            f"is of the page {quoted(sorted(wrong)[0])}, and this kit's is {key.kit}; name the kit "
            "that it belongs to"
        ]
    readers = {row["reader"] for row in rows}
    if wrong_readers := _reader_problem(readers):
        return None, [wrong_readers]
    problems += _code_problems([row["code"] for row in rows], key)
    answers: dict[str, Answer] = {}
    wrong_values: list[str] = []
    for number, row in table.records.items():
        values = [*_value_problems(row)]
        wrong_values += [f"row {number}: {value}" for value in values]
        if not values:
            answers[row["code"]] = _answer(row)
    problems += _cut(wrong_values)
    return Reading(next(iter(readers)), answers), problems


def _reader_problem(readers: Collection[str]) -> str:
    """What is wrong with the readers' names in one file; empty where nothing is."""
    if "" in readers:
        return "names no reader in some rows; give the file that the page saved, which has a name"
    if len(readers) > 1:
        return "holds more than one reader; give each reader's own file"
    (name,) = readers
    if not _READER.fullmatch(name):
        return (
            f"its reader is {quoted(name)}, and the page takes up to 40 letters, digits, spaces "
            "and _ . - alone; give the file that it saved"
        )
    return ""


def _code_problems(codes: Sequence[str], key: Key) -> Iterator[str]:
    unknown = sorted(set(codes) - key.by_code.keys())
    if unknown:
        yield (
            f"{len(unknown)} code(s) are not of this kit, such as {quoted(unknown[0])}; give the "
            "file as the page saved it"
        )
    twice = sorted(code for code, count in Counter(codes).items() if count > 1)
    if twice:
        yield f"{_named(twice)} stand(s) twice; keep one row of each"


def _value_problems(row: Mapping[str, str]) -> Iterator[str]:
    if row["origin"] and row["origin"] not in _ORIGINS:
        yield f"origin is {quoted(row['origin'])}, and may be real or synthetic"
    for name, allowed in (("confidence", _CONFIDENCES), ("rating", _RATINGS)):
        if row[name] and row[name] not in map(str, allowed):
            yield f"{name} is {quoted(row[name])}, and may be {allowed[0]} to {allowed[-1]}"


def _answer(row: Mapping[str, str]) -> Answer:
    return Answer(
        origin=_ORIGINS.get(row["origin"]),
        confidence=int(row["confidence"]) if row["confidence"] else None,
        rating=int(row["rating"]) if row["rating"] else None,
    )


def _missing(reading: Reading, key: Key) -> Iterator[str]:
    """What to say of images that a reader did not answer in full."""
    nothing = Answer(None, None, None)
    left = sorted(code for code in key.by_code if not reading.answers.get(code, nothing).is_whole)
    if left:
        yield (
            f"{len(left)} of {len(key.images)} images are not answered in full: {_named(left)}; "
            "let the reader go on from this file, or score what is there with allow_missing=true"
        )


def _named(codes: Sequence[str]) -> str:
    more = len(codes) - _MAX_NAMED
    return ", ".join(codes[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _cut(problems: Sequence[str]) -> list[str]:
    more = len(problems) - _MAX_NAMED
    return [*problems[:_MAX_NAMED], *([f"and {more} more rows"] if more > 0 else [])]

"""The files that a row of a table names."""

import re
from collections.abc import Mapping

from synthdp.data.decoding import IMAGE_SUFFIXES
from synthdp.data.images import MISSING_FILE
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.importing.tables.cells import same_side_or_view
from synthdp.data.importing.tables.reader import Reader
from synthdp.errors import InputError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_OUTSIDE = "the path leads outside the folder; name files as they are called from `src`"


def file_names(
    settings: ListingSettings, folder: str, reader: Reader, record: Mapping[str, str]
) -> list[str] | str:
    """The files that a row names, relative to `src`; else what is wrong. None is repeated."""
    text = reader.file.text(record)
    if not text:
        return "no file is named"
    if _DRIVE.match(text):
        return _OUTSIDE
    name = slashed(reader, text)
    if reader.many_files:
        return _files_by_pattern(settings, folder, reader, record, name)
    named, problem = reader.files.named(name, folder)
    if problem == MISSING_FILE:
        problem = _without_end(folder, reader, name) or problem
    return [named] if problem is None else problem


def slashed(reader: Reader, text: str) -> str:
    """A file's name with the slashes of this system; below `src` where it is a whole path."""
    return text.replace("\\", "/").removeprefix(f"{reader.root}/")


def _without_end(folder: str, reader: Reader, name: str) -> str | None:
    """What to do where a table names a file without its end, as `image_id` columns do."""
    column = reader.file.shown
    template = column if reader.file.is_template else f"{{{column}}}"
    return next(
        (
            f"there is such a file with the end {end}; where it is the one that is meant, set "
            f"file_column={template}{end}, else name the column of files"
            for end in IMAGE_SUFFIXES
            if reader.files.problem(folder + name + end) is None
        ),
        None,
    )


def _files_by_pattern(
    settings: ListingSettings,
    folder: str,
    reader: Reader,
    record: Mapping[str, str],
    text: str,
) -> list[str] | str:
    """The files that a row's pattern finds, whose text is given too; else what is wrong."""
    if ".." in text.split("/") or text.startswith("/"):
        return _OUTSIDE
    pattern = folder + reader.file.pattern(record)
    names = reader.below.fitting(pattern)
    problems = map(reader.files.problem, names)
    problem = next((problem for problem in problems if problem is not None), None)
    if problem is not None or not names:
        return problem or MISSING_FILE
    return _of_the_header(settings, reader, record, names)


def _of_the_header(
    settings: ListingSettings, reader: Reader, record: Mapping[str, str], names: list[str]
) -> list[str] | str:
    """Those of several files whose DICOM header says what the row does."""
    if not reader.header:
        return (
            names
            if len(names) == 1
            else (
                f"{len(names)} files fit; name the one in file_column, or tell them by match_header"
            )
        )
    from synthdp.data.dicom.header import read_header  # noqa: PLC0415 (an extra)

    kept = []
    for name in names:
        try:
            header = read_header(settings.src / name)
        except InputError as error:
            return f"one of {len(names)} files: {error}"
        said = {"laterality": header.laterality, "view": header.view}
        if unsaid := [fact for fact in reader.header if not said[fact]]:
            return f"one of {len(names)} files does not say its {unsaid[0]}"
        if all(
            same_side_or_view(said[fact], cell.text(record)) for fact, cell in reader.header.items()
        ):
            kept.append(name)
    return kept or f"{len(names)} files fit, none of them with the row's {', '.join(reader.header)}"

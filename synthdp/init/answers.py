"""What `synthdp init` must know: from options, from the images, or asked at a terminal."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.config.yaml_core import parse_yaml, yaml_quoted
from synthdp.data.importing.folders.names import SPLIT_FOLDERS
from synthdp.data.importing.tables.guess import guess
from synthdp.errors import InputError, quoted
from synthdp.init.asking import Ask, needed, plain
from synthdp.init.classes import classes_in_folders, classes_in_table
from synthdp.init.weights import chosen_weights

#: A folder's name too: not `.` or `..`, nor what a shell takes for an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Options:
    """What the command line said; None where it said nothing."""

    images: Path | None = None
    table: Path | None = None
    name: str | None = None
    target: str | None = None
    patient_pattern: str | None = None
    population: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Answers:
    """What the settings are written from.

    mapping: the text of the import's settings, with a comment for what was found; population: a
    public round number above that of the patients; weights: `found`, `hub`, `none` or a folder.
    """

    name: str
    target: str
    mapping: str
    population: int
    weights: str


def answered(options: Options, ask: Ask | None) -> Answers:
    """The answers to all that is needed; `ask` is None where nobody is at a terminal.

    Raises:
        InputError: when something is missing and nobody can be asked, or an answer does not fit.
    """
    images = Path(needed(options.images, "--images", "Folder of your images", ask))
    images = images.expanduser().resolve()
    if options.table is not None and not options.table.is_file():
        raise InputError(f"--table: there is no file {options.table}; correct the path")
    table = options.table.resolve() if options.table is not None else None
    text = guess(images, table)
    known = parse_yaml(text, where="the guess")
    target, more = "malignant", f"src: {yaml_quoted(str(images))}\n"
    if "src" in known:  # else the images are of a known collection, whose settings say all
        if options.patient_pattern is not None:
            text = re.sub(r"(?m)^patient_pattern:.*\n", "", text)
        target, more = _classes(options, images, table, known, ask)
        more += _patients(options, known, ask)
        if not _has_splits(images, known):
            more += "val_fraction: 0.2 # a fifth of the patients, by a keyed hash of their ids\n"
    name = needed(options.name, "--name", "Short name of the data set", ask, plain(images.name))
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"--name: {quoted(name)}: letters, digits, - _ and . alone, the "
            "first one no - or ., 64 at most"
        )
    population = _population(options, ask)
    return Answers(name, target, text + more, population, chosen_weights(options.weights, ask))


def _population(options: Options, ask: Ask | None) -> int:
    question = (
        "A public round number above the number of your patients, such as 600 or 2000 (the true "
        "number is private)"
    )
    text = needed(options.population, "--population", question, ask)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:  # the digit ² is no number
        raise InputError(f"--population: {quoted(text)}: a whole number, 1 or more")
    return int(text)


def _patients(options: Options, known: Mapping[str, Any], ask: Ask | None) -> str:
    """The line by which patients are found, where the guess has none or another is wanted."""
    if options.patient_pattern is None and known.keys() & {"patient_pattern", "patient_column"}:
        return ""
    question = (
        r"Regular expression whose one group is the patient's id in a file's path, such as "
        r"(patient\d+), or ([^/]+)/[^/]+$ where each patient has a folder, or none where each "
        "image is a patient of its own"
    )
    pattern = needed(options.patient_pattern, "--patient-pattern", question, ask)
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise InputError(f"--patient-pattern: {quoted(pattern)}: {error}") from error
    if pattern != "none" and n_groups != 1:
        raise InputError(f"--patient-pattern: {quoted(pattern)}: needs one group, in brackets")
    return f"patient_pattern: {yaml_quoted(pattern)}\n"


def _has_splits(images: Path, known: Mapping[str, Any]) -> bool:
    """Whether folders or a table say already who is in which split."""
    if known.keys() & {"split_column", "split", "arrays"}:
        return True
    return any(part.name.lower() in SPLIT_FOLDERS for part in images.iterdir() if part.is_dir())


def _classes(
    options: Options,
    images: Path,
    table: Path | None,
    known: Mapping[str, Any],
    ask: Ask | None,
) -> tuple[str, str]:
    """The name of the target, and the lines that say how its classes are told."""
    named = known.get("target_columns") or {}
    if options.target is None and (named or "benign_column" in known or "arrays" in known):
        return next(iter(named), "malignant"), ""
    if table is None and "tables" in known:
        table = images / str(next(iter(known["tables"])))
    if table is not None:
        return classes_in_table(table, options.target, ask)
    return classes_in_folders(images, options.target, ask)

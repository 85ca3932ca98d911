"""What `synthdp init` must know: from options, from the images, or asked at a terminal."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from synthdp.config.yaml_core import parse_yaml
from synthdp.data.importing.folders.folder import folder_contents
from synthdp.data.importing.folders.names import SPLIT_FOLDERS
from synthdp.data.importing.labels import default_labels
from synthdp.data.importing.tables.guess import guess
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.errors import InputError, quoted

#: Asks a question, with an answer to begin with, and gives what was typed.
Ask = Callable[[str, str], str]
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


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
    images = Path(_needed(options.images, "--images", "Folder of your images", ask))
    images = images.expanduser().resolve()
    if options.table is not None and not options.table.is_file():
        raise InputError(f"--table: there is no file {options.table}; correct the path")
    table = options.table.resolve() if options.table is not None else None
    text = guess(images, table)
    known = parse_yaml(text, where="the guess")
    target, more = "malignant", f"src: {_quoted_yaml(str(images))}\n"
    if "src" in known:  # else the images are of a known collection, whose settings say all
        if options.patient_pattern is not None:
            text = re.sub(r"(?m)^patient_pattern:.*\n", "", text)
        target, more = _classes(options, images, table, known, ask)
        more += _patients(options, known, ask)
        if not _has_splits(images, known):
            more += "val_fraction: 0.2 # a fifth of the patients, by a keyed hash of their ids\n"
    name = _needed(options.name, "--name", "Short name of the data set", ask, plain(images.name))
    if _NAME.fullmatch(name) is None:
        raise InputError(f"--name: {quoted(name)}: letters, digits, - _ and . alone, 64 at most")
    population, weights = _population(options, ask), options.weights or "found"
    if weights not in ("found", "hub", "none"):
        weights = str(Path(weights).resolve())
    return Answers(name, target, text + more, population, weights)


def _needed(given: object, option: str, question: str, ask: Ask | None, default: str = "") -> str:
    """What an option says, else what is typed, else the default."""
    if given is not None:
        return str(given)
    text = ask(question, default).strip() if ask is not None else default
    if not text:
        raise InputError(f"{option}: missing; {question[0].lower()}{question[1:]}")
    return text


def plain(word: str) -> str:
    """A word as the name of a set or a target may be: letters, digits and lines."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", word).strip("-") or "mine"


def _population(options: Options, ask: Ask | None) -> int:
    question = (
        "A public round number above the number of your patients, such as 600 or 2000 (the true "
        "number is private)"
    )
    text = _needed(options.population, "--population", question, ask)
    if not text.isdigit() or int(text) < 1:
        raise InputError(f"--population: {quoted(text)}: a whole number, 1 or more")
    return int(text)


def _patients(options: Options, known: Mapping[str, Any], ask: Ask | None) -> str:
    """The line by which patients are found, where the guess has none or another is wanted."""
    if options.patient_pattern is None and known.keys() & {"patient_pattern", "patient_column"}:
        return ""
    question = (
        r"Regular expression whose one group is the patient's id in a file's path, such as "
        r"(patient\d+), or none where each image is a patient of its own"
    )
    pattern = _needed(options.patient_pattern, "--patient-pattern", question, ask)
    try:
        n_groups = re.compile(pattern).groups
    except re.error as error:
        raise InputError(f"--patient-pattern: {quoted(pattern)}: {error}") from error
    if pattern != "none" and n_groups != 1:
        raise InputError(f"--patient-pattern: {quoted(pattern)}: needs one group, in brackets")
    return f"patient_pattern: {_quoted_yaml(pattern)}\n"


def _quoted_yaml(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _has_splits(images: Path, known: Mapping[str, Any]) -> bool:
    """Whether folders or a table say already who is in which split."""
    if known.keys() & {"split_column", "split", "arrays"}:
        return True
    return any(part.name.lower() in SPLIT_FOLDERS for part in images.iterdir() if part.is_dir())


# The classes.


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
    if table is not None or "tables" in known:
        return _column_target(options, table or _only_table(images, known), ask)
    folders = _class_folders(images)
    labels = default_labels()
    values = {folder: labels.of_cell(folder) for folder in folders}
    if options.target is None and set(values.values()) == {0.0, 1.0}:
        return "malignant", ""
    if len(folders) < 2:
        raise InputError(
            "--images: its folders tell no classes; put images into a folder a class, such as "
            "normal and pneumonia, or name a table with --table"
        )
    question = f"Which of {', '.join(folders)} is what a classifier is to find (class 1)"
    target = _needed(options.target, "--target", question, ask)
    if target not in folders:
        raise InputError(
            f"--target: {quoted(target)}: no folder of a class is called so; there are "
            f"{', '.join(folders)}"
        )
    others = [folder for folder in folders if folder != target]
    words = f"{{positive: [{_quoted_yaml(target)}], negative: [{_listed(others)}]}}"
    return plain(target), f"targets: [{plain(target)}]\nlabels: {words}\n"


def _listed(words: list[str]) -> str:
    return ", ".join(_quoted_yaml(word) for word in words)


def _class_folders(images: Path) -> list[str]:
    """The names of the folders that images stand in, splits apart."""
    parents = {
        PurePosixPath(path.relative_to(images).as_posix()).parent.name
        for path in folder_contents(images).images
    }
    return sorted(name for name in parents if name and name.lower() not in SPLIT_FOLDERS)


def _only_table(images: Path, known: Mapping[str, Any]) -> Path:
    return images / str(next(iter(known["tables"])))


def _column_target(options: Options, table: Path, ask: Ask | None) -> tuple[str, str]:
    columns = list(read_sheet(table, wanted=()).columns)
    question = f"Column of the class, of {', '.join(columns)}"
    target = _needed(options.target, "--target", question, ask)
    if target not in columns:
        raise InputError(
            f"--target: {quoted(target)}: the table has no such column; it has {', '.join(columns)}"
        )
    name = plain(target)
    return name, f"targets: [{name}]\ntarget_columns: {{{name}: {_quoted_yaml(target)}}}\n"

"""What `synthdp init` must know: from options, from the images, or asked at a terminal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.config.yaml_core import parse_yaml, read_yaml, yaml_quoted
from synthdp.data.importing.folders.folder import folder_contents
from synthdp.data.importing.folders.names import SPLIT_FOLDERS
from synthdp.data.importing.settings.patches import on_its_mapping
from synthdp.data.importing.tables.cells import find_column
from synthdp.data.importing.tables.collection import collection_file
from synthdp.data.importing.tables.guess import guess, known_collection, patient_line
from synthdp.data.importing.tables.sheets import read_sheet
from synthdp.data.looks.pose import shows_chests
from synthdp.errors import InputError, quoted
from synthdp.init.asking import Ask, needed, plain
from synthdp.init.classes import classes_in_folders, classes_in_table, findings_in_table
from synthdp.init.kinds import WRITTEN, Kind
from synthdp.init.volumes import form_lines, volumes_in
from synthdp.init.weights import chosen_weights
from synthdp.privacy.units import Unit

#: A folder's name too: not `.` or `..`, nor what a shell takes for an option.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
#: Sets that what is written makes beside the patients' own, in the same folder.
_OTHER_SETS = ("phantoms", "pool", "private-synthetic")
_VAL = "val_fraction: 0.2 # a fifth of the patients, by a keyed hash of their ids\n"
_SIDE = "size_px: 128\n"
#: Columns of people by which figures are judged, where a set of findings has them.
JUDGED_BY = ("age", "sex", "view")


@dataclass(frozen=True)
class Options:
    """What the command line said; None where it said nothing."""

    images: Path | None = None
    table: Path | None = None
    like: str | None = None
    volumes: bool = False
    window: str | None = None
    name: str | None = None
    target: str | None = None
    patient_pattern: str | None = None
    population: str | None = None
    weights: str | None = None


@dataclass(frozen=True)
class Answers:
    """What the settings are written from.

    mapping: the text of the import's settings, with a comment for what was found; targets: what is
    told of an image; population: a public round number above that of the patients; weights:
    `found`, `hub`, `none` or a folder; unit: whom a promise is made to; attributes: columns of
    people by which figures are judged.
    """

    kind: Kind
    name: str
    targets: tuple[str, ...]
    mapping: str
    population: int
    weights: str
    unit: Unit = "patient"
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Read:
    """How images are read: kind, targets, the mapping's text, a name that offers itself."""

    kind: Kind
    targets: tuple[str, ...]
    mapping: str
    name: str


def answered(options: Options, ask: Ask | None) -> Answers:
    """The answers to all that is needed; `ask` is None where nobody is at a terminal.

    Raises:
        InputError: when something is missing and nobody can be asked, or an answer does not fit.
    """
    images = Path(needed(options.images, "--images", "Folder of your images", ask))
    images = images.expanduser().resolve()
    if options.table is not None and not options.table.is_file():
        raise InputError(f"--table: there is no file {options.table}; correct the path")
    read = _read_as(options, images, ask)
    name = needed(options.name, "--name", "Short name of the data set", ask, plain(read.name))
    if _NAME.fullmatch(name) is None:
        raise InputError(
            f"--name: {quoted(name)}: letters, digits, - _ and . alone, the "
            "first one no - or ., 64 at most"
        )
    if name in _OTHER_SETS:
        raise InputError(
            f"--name: data/{name} is to be another set than your patients', which is made beside "
            "it; choose another name"
        )
    population = _population(options, ask)
    weights = chosen_weights(options.weights, ask, WRITTEN[read.kind]["study.yaml"][0])
    said = on_its_mapping(parse_yaml(read.mapping, where="the mapping"))
    unit: Unit = "image" if said.get("patient_pattern") == "none" else "patient"
    columns = said.get("attribute_columns") or {} if read.kind == "findings" else {}
    attributes = tuple(one for one in JUDGED_BY if one in columns)
    return Answers(
        read.kind, name, read.targets, read.mapping, population, weights, unit, attributes
    )


def _read_as(options: Options, images: Path, ask: Ask | None) -> _Read:
    if options.like is not None:
        return _as_collection(options.like, images, options.target)
    if (volumes := volumes_in(images, asked=options.volumes)) is not None:
        return _as_volumes(options, images, volumes, ask)
    if options.window is not None:
        raise InputError("--window: is of volumes, and these are flat images; leave it out")
    table = options.table.resolve() if options.table is not None else None
    text = guess(images, table)
    known = parse_yaml(text, where="the guess")
    if "src" not in known:  # the images are of a known collection, whose settings say all
        if shows_chests(known.get("targets") or ()) or options.target is not None:
            return _as_collection(known_collection(text), images, options.target)
        text += f"src: {yaml_quoted(str(images))}\n"
        return _Read("patches", ("malignant",), text + _SIDE, images.name)
    targets, more = _classes(options, images, table, known, ask)
    without_table = known.get("metadata") == "none"
    more += _patients(options, known, ask, _names(images) if without_table else ())
    if not _has_splits(images, known):
        more += _VAL
    kind: Kind = "findings" if len(targets) > 1 else "patches"
    said = list(parse_yaml(more, where="the answers") or ())
    return _Read(kind, targets, _without(text, said) + more + _SIDE, images.name)


def _as_collection(name: str, images: Path, target: str | None) -> _Read:
    """A known collection, whose mapping stands beneath what is written."""
    known = read_yaml(collection_file(name))
    targets = tuple(known.get("targets") or ("malignant",))
    text = f"like: {name}\nsrc: {yaml_quoted(str(images))}\n"
    if target is not None:
        chosen = tuple(filter(None, (word.strip() for word in target.split(","))))
        if absent := [one for one in chosen if one not in targets]:
            raise InputError(
                f"--target: {quoted(', '.join(absent))}: {name} has no such finding; it has "
                f"{', '.join(targets)}"
            )
        targets, text = chosen, f"{text}targets: [{', '.join(chosen)}]\n"
    chests = shows_chests(targets)
    return _Read("findings" if chests else "patches", targets, text + _SIDE, name)


def _as_volumes(options: Options, images: Path, volumes: Sequence[Path], ask: Ask | None) -> _Read:
    names = [path.relative_to(images).as_posix() for path in volumes]
    text = f"src: {yaml_quoted(str(images))}\n"
    known: dict[str, Any] = {}
    table = options.table
    if table is None and (images / "metadata.csv").is_file():
        table = images / "metadata.csv"
    if table is not None:
        text += f"metadata: {yaml_quoted(str(table.resolve()))}\n"
        target, lines = classes_in_table(table, options.target, ask)
        usual = read_yaml(collection_file("table"))
        columns = read_sheet(table, wanted=()).columns
        for key in ("file_column", "patient_column", "split_column"):
            if (column := find_column(usual[key], columns)) is not None:
                known[key] = column
                text += f"{key}: {yaml_quoted(column)}\n"
    else:
        target, lines = classes_in_folders(images, names, options.target, ask)
        if options.patient_pattern is None and (line := patient_line(names)):
            known["patient_pattern"] = line
            text += f"{line}\n"
    text += lines + _patients(options, known, ask, names if table is None else ())
    if not _has_splits(images, known):
        text += _VAL
    text += form_lines(volumes, options.window, ask)
    return _Read("volumes", (target,), text, images.name)


def _without(text: str, keys: Sequence[str]) -> str:
    """The text of settings without the lines of some keys, which an answer says otherwise, and
    without the comments that ask for them.
    """
    for key in keys:
        text = re.sub(rf"(?m)^(?:# )?{re.escape(key)}:.*\n", "", text)
    return text


def _population(options: Options, ask: Ask | None) -> int:
    question = (
        "A public round number above the number of your patients, such as 600 or 2000 (the true "
        "number is private)"
    )
    text = needed(options.population, "--population", question, ask)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:  # the digit ² is no number
        raise InputError(f"--population: {quoted(text)}: a whole number, 1 or more")
    return int(text)


def _names(images: Path) -> list[str]:
    """The paths of the images below their folder."""
    return [path.relative_to(images).as_posix() for path in folder_contents(images).images]


def _patients(
    options: Options, known: Mapping[str, Any], ask: Ask | None, names: Sequence[str]
) -> str:
    """The line by which patients are found, where the guess has none or another is wanted.

    `names` are the paths that it must find a patient in; none where a table names the images.
    """
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
    if pattern != "none" and names and not any(re.search(pattern, name) for name in names):
        raise InputError(
            f"--patient-pattern: {quoted(pattern)}: finds no patient in any of {len(names):,} "
            "paths below --images; correct it to what these show"
        )
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
) -> tuple[tuple[str, ...], str]:
    """The names of the targets, and the lines that say how their classes are told."""
    named = known.get("target_columns") or {}
    if options.target is None and (named or "benign_column" in known or "arrays" in known):
        return (next(iter(named), "malignant"),), ""
    if table is None and "tables" in known:
        table = images / str(next(iter(known["tables"])))
    if table is None:
        target, lines = classes_in_folders(images, _names(images), options.target, ask)
        return (target,), lines
    columns = read_sheet(table, wanted=()).columns
    several = [] if options.target in columns else _several(options.target)
    if len(several) > 1:
        return findings_in_table(table, several)
    target, lines = classes_in_table(table, options.target, ask)
    return (target,), lines


def _several(target: str | None) -> list[str]:
    return [word.strip() for word in (target or "").split(",") if word.strip()]

"""What the path of an image tells: its class, its patient and its split."""

import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

from synthdp.data.images import MISSING_FILE
from synthdp.data.importing.findings import Finding, Number, Reason
from synthdp.data.importing.labels import Reading, names_mask
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.patients.ids import id_problem, normalised_id
from synthdp.data.importing.settings.listing import ListingSettings
from synthdp.data.manifest.contract import SPLITS
from synthdp.data.manifest.named_files import NamedFiles
from synthdp.storage.files import readable_name

SPLIT_FOLDERS: dict[str, str] = {
    **{name: name for name in SPLITS},
    **{"training": "train", "valid": "val", "validation": "val", "testing": "test"},
}


def folder_split(name: str) -> str | None:
    """The split that a folder of a relative path is named after, the outermost first."""
    folders = PurePosixPath(name).parent.parts
    return next((split for part in folders if (split := _named_split(part)) is not None), None)


@lru_cache(maxsize=4096)
def _named_split(folder: str) -> str | None:
    """The split of a folder's name: its word, alone or beside `set` and numbers.

    `train_images` is none: downloads call all that has labels so.
    """
    words = set(re.findall(r"[^\W\d_]+", folder.casefold())) - {"set", "split"}
    return SPLIT_FOLDERS.get(words.pop()) if len(words) == 1 else None


def named_patient(settings: ListingSettings, name: str, number: Number) -> str | None:
    """The id that a file's name holds, as it stands there; None where a real one has none."""
    if settings.kind == "synthetic":
        return f"synthetic-{number:06d}" if isinstance(number, int) else f"synthetic {number}"
    name = readable_name(name)
    if settings.images_are_patients:
        return name  # not its number, which depends on who else is there
    match = re.search(settings.patient_pattern, name) if settings.patient_pattern else None
    return match.group(1) or None if match else None


def name_label(settings: ListingSettings, name: str) -> tuple[float | None, bool]:
    """The class that a relative path names, and whether other folders or the file's name disagree.

    The innermost folder that names a class is believed, then the file name, then the whole path.
    Where words are denied or left open, no folder further out is believed, and a file's name
    disagrees with its folder.
    """
    *folders, file = PurePosixPath(name).parts or ("",)
    # A folder that is a value alone belongs to the word above it, as in `malignant/0`.
    values = [settings.words.is_answer(part) for part in folders] + [False]
    parts = [
        f"{part} {folders[index + 1]}" if values[index + 1] else part
        for index, part in enumerate(folders)
    ]
    readings = [_reading(settings, f"{part}/") for part in reversed(parts)]
    classes = [one for one in readings if one not in ("nothing", "both")]
    folder = classes[0] if classes else "nothing"
    own = _reading(settings, file)
    if folder in _CLASSES:
        others = {*classes, own} - {folder, "nothing", "both", "open"}
        return _CLASSES[folder], bool(others)
    if folder == "nothing" and own in _CLASSES:
        return _CLASSES[own], False
    by_pattern = settings.malignant_pattern is not None or settings.benign_pattern is not None
    return (_CLASSES.get(_reading(settings, name)) if by_pattern else None), False


_CLASSES: dict[Reading, float] = {"positive": 1.0, "negative": 0.0}


def _reading(settings: ListingSettings, text: str) -> Reading:
    """What a text says by the words for classes, or by a pattern in the place of those of one."""
    malignant, benign = settings.malignant_pattern, settings.benign_pattern
    by_words = settings.words.of_name(text.removesuffix("/"))
    if malignant is None and benign is None:
        return by_words
    says = [
        by_words == reading if pattern is None else re.search(pattern, text) is not None
        for pattern, reading in ((malignant, "positive"), (benign, "negative"))
    ]
    if all(says):
        return "both"
    return "positive" if says[0] else "negative" if says[1] else "nothing"


def patches_by_name(
    settings: ListingSettings, files: Sequence[Path], *, as_files: Collection[str] = ()
) -> tuple[list[Patch], list[Finding], list[str]]:
    """The images that were asked for, by what their paths tell; what is wrong with others, and with
    the settings. `as_files` are folders that are an image each, as of a volume's slices.
    """
    if len(settings.targets) > 1 or (settings.targets != ("malignant",) and not settings.labels):
        return (
            [],
            [],
            [
                "targets: names tell only `malignant`; give `labels` for another one, or a table "
                "(metadata) for several"
            ],
        )
    if settings.shows_patients and settings.patient_pattern is None:
        return (
            [],
            [],
            [
                "patient_pattern: real images need their patient, and there is no table; give a "
                r"pattern with one group, such as 'patient(\d+)', or the word none where each "
                "image counts as a patient of its own"
            ],
        )
    named = NamedFiles(settings.src.resolve(), settings.linked_folders, as_files=as_files)
    patches: list[Patch] = []
    findings: list[Finding] = []
    for number, path in enumerate(files, start=1):
        name = path.relative_to(settings.src).as_posix()
        split = folder_split(name) if settings.given_splits == "kept" else None
        if split is not None and split not in settings.splits:
            continue
        label, conflict = name_label(settings, name)
        patient, of_image = patient_in_name(settings, name, number)
        if (problem := named.problem(name)) is not None:
            of_image.append(Finding(number, problem, file_reason(problem)))
        if names_mask(name):
            of_image.append(Finding(number, _A_MASK, "mask"))
        if label is None:
            of_image.append(Finding(number, _NO_CLASS, "unknown_class"))
        findings += of_image
        if label is not None and not of_image:
            patches.append(Patch(number, path, patient, split, (label,), conflict=conflict))
    return patches, findings, []


_A_MASK = (
    "its name says that it is a mask, not a picture; leave_out: [mask], move it away, or name the "
    "pictures in a table"
)
#: A name says none, or denies one, or leaves it open.
_NO_CLASS = (
    "its path tells no class beyond doubt (a denial such as no_malignant does not, nor an open "
    "malignant_0, nor a word beside others that may change it); give its words, all together, in "
    "`labels`, or patterns, such as malignant_pattern=malignant and benign_pattern=benign, where "
    "every name may be believed"
)


def file_reason(problem: str) -> Reason | None:
    """Why an image may be left out whose path has this problem."""
    return "missing_file" if problem == MISSING_FILE else None


def patient_in_name(
    settings: ListingSettings, name: str, number: Number
) -> tuple[str, list[Finding]]:
    """The patient that a name holds, in the id's one spelling, or what is wrong."""
    text = named_patient(settings, name, number)
    if text is None:
        return "", [Finding(number, "patient_pattern finds no patient", "no_patient")]
    if settings.kind == "synthetic" or settings.images_are_patients:
        return text, []
    if (problem := id_problem(text)) is not None:
        reason: Reason | None = "no_patient" if normalised_id(text) is None else None
        return "", [Finding(number, f"patient_pattern: {problem}", reason)]
    return normalised_id(text) or "", []

"""What the path of an image tells: its class, its patient and its split."""

import math
import re
from pathlib import Path, PurePosixPath

from synthdp.data.dataset import SPLITS
from synthdp.data.images import path_problem
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.settings import ListingSettings

SPLIT_FOLDERS: dict[str, str] = {
    **{name: name for name in SPLITS},
    **{"training": "train", "valid": "val", "validation": "val", "testing": "test"},
}


def folder_split(name: str) -> str | None:
    """The split that a folder of a relative path is named after, the outermost first."""
    folders = (part.lower() for part in PurePosixPath(name).parent.parts)
    return next((SPLIT_FOLDERS[part] for part in folders if part in SPLIT_FOLDERS), None)


def named_patient(settings: ListingSettings, name: str, number: int) -> str | None:
    """The patient that a file's name holds; None where a real one has none."""
    if settings.kind == "synthetic":
        return f"synthetic-{number:06d}"
    if settings.images_are_patients:
        return name  # not its number, which hangs on who else is there
    match = re.search(settings.patient_pattern, name) if settings.patient_pattern else None
    return match.group(1) or None if match else None


def name_label(settings: ListingSettings, name: str) -> tuple[float | None, bool]:
    """The class that a relative path names, and whether folder and file name disagree.

    The innermost folder that names a class is believed, then the file name, then the whole path.
    """
    *folders, file = PurePosixPath(name).parts or ("",)
    labels = [_pattern_label(settings, f"{part}/") for part in reversed(folders)]
    folder = next((label for label in labels if label is not None), None)
    own = _pattern_label(settings, file)
    if folder is None:
        return (own if own is not None else _pattern_label(settings, name)), False
    return folder, own is not None and own != folder


def _pattern_label(settings: ListingSettings, text: str) -> float | None:
    malignant = re.search(settings.malignant_pattern, text) is not None
    benign = re.search(settings.benign_pattern, text) is not None
    return float(malignant) if malignant != benign else None


def patches_by_name(settings: ListingSettings, files: list[Path]) -> tuple[list[Patch], list[str]]:
    """The images that were asked for, by what their paths tell, and what is wrong with others."""
    if settings.targets != ("malignant",):
        return [], ["targets: names tell only `malignant`; give a metadata table for others"]
    if settings.kind == "real" and settings.patient_pattern is None:
        return [], [
            "patient_pattern: real images need their patient, and there is no table; give a "
            r"pattern with one group, such as 'patient(\d+)', or the word none where each image "
            "counts as a patient of its own"
        ]
    root = settings.src.resolve()
    patches, problems = [], []
    for number, path in enumerate(files, start=1):
        name = path.relative_to(settings.src).as_posix()
        split = folder_split(name)
        if split is not None and split not in settings.splits:
            continue
        label, conflict = name_label(settings, name)
        patient = named_patient(settings, name, number)
        of_image = [
            path_problem(name, root),
            "neither pattern tells its class" if label is None else None,
            "patient_pattern finds no patient" if patient is None else None,
        ]
        problems += [f"image {number}: {problem}" for problem in of_image if problem]
        if not any(of_image):
            target = math.nan if label is None else label
            patches.append(Patch(number, path, patient or "", split, (target,), conflict=conflict))
    return patches, problems

"""What the path of an image tells: its class, its patient and its split."""

import re
from pathlib import PurePosixPath

from synthdp.data.dataset import SPLITS
from synthdp.data.listing_settings import ListingSettings

SPLIT_FOLDERS: dict[str, str] = {
    **{name: name for name in SPLITS},
    **{"training": "train", "valid": "val", "validation": "val", "testing": "test"},
}


def folder_split(name: str) -> str | None:
    """The split that a folder of a relative path is named after, the outermost first."""
    folders = (part.lower() for part in PurePosixPath(name).parent.parts)
    return next((SPLIT_FOLDERS[part] for part in folders if part in SPLIT_FOLDERS), None)


def named_patient(settings: ListingSettings, name: str, number: int) -> str | None:
    """The patient that a file's name tells; None where a real one has none."""
    if settings.kind == "synthetic":
        return f"synthetic-{number:06d}"
    if settings.images_are_patients:
        return f"image-{number:06d}"
    found = re.search(settings.patient_pattern, name) if settings.patient_pattern else None
    return found.group(1) or None if found else None


def name_label(settings: ListingSettings, name: str) -> tuple[float | None, bool]:
    """The class that a relative path tells, and whether folder and file name disagree.

    The innermost folder that tells a class is believed, then the file name, then the whole path.
    """
    *folders, file = PurePosixPath(name).parts or ("",)
    told = [_pattern_label(settings, f"{part}/") for part in reversed(folders)]
    folder = next((label for label in told if label is not None), None)
    own = _pattern_label(settings, file)
    if folder is None:
        return (own if own is not None else _pattern_label(settings, name)), False
    return folder, own is not None and own != folder


def _pattern_label(settings: ListingSettings, text: str) -> float | None:
    malignant = re.search(settings.malignant_pattern, text) is not None
    benign = re.search(settings.benign_pattern, text) is not None
    return float(malignant) if malignant != benign else None

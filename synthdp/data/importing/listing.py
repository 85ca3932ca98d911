"""Which images are to be imported: by the table where there is one, else by the files' names."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.importing.folder import files_below, linked_folder_problems, other_kind
from synthdp.data.importing.names import patches_by_name
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.rows import patches_by_row
from synthdp.data.importing.settings import ListingSettings
from synthdp.data.tables import read_table
from synthdp.errors import InputError


@dataclass(frozen=True)
class Listing:
    """Every image that was asked for, what is wrong, and how many other files stand there."""

    counted_by: str  # what a number counts: "metadata.csv, row" or "image"
    patches: tuple[Patch, ...]
    problems: tuple[str, ...]
    left_out: Mapping[str, int]


def list_patches(settings: ListingSettings) -> Listing:
    """List the images below `src` from the table, or from folder and file names.

    Raises:
        InputError: when `src` or the table is missing.
    """
    src = settings.src
    if not os.path.isdir(src):  # `Path.is_dir` fails where a folder above may not be entered
        raise InputError(f"src: there is no folder {src}, or none to be seen; correct the path")
    if not os.access(src, os.R_OK | os.X_OK):
        raise InputError(
            f"src: {src} may not be read and entered; give the user that runs this both rights"
        )
    names, left_out, problems = files_below(src)
    table_path = src / "metadata.csv" if settings.metadata is None else settings.metadata
    if isinstance(table_path, Path) and (table_path.is_file() or settings.metadata is not None):
        if not table_path.is_file():
            raise InputError(f"metadata: there is no file {table_path}; correct the path")
        patches, listed = patches_by_row(settings, read_table(table_path))
        counted_by = f"{table_path.name}, row"
        problems += [f"{table_path.name}, {line}" for line in listed]
        taken = {patch.path for patch in patches}
        left_out["images not listed"] = len(set(names) - taken)
        for kind, count in Counter(map(other_kind, taken - set(names))).items():
            left_out[kind] = max(left_out.get(kind, 0) - count, 0)
    else:
        patches, listed = patches_by_name(settings, names)
        counted_by = "image"
        problems += listed
        problems += linked_folder_problems(left_out)
    if not patches and not problems:
        kinds = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if count)
        problems.append(f"no PNG or TIFF image to take was found ({kinds or 'an empty folder'})")
    return Listing(counted_by, tuple(patches), tuple(problems), left_out)

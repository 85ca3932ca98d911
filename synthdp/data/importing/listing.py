"""Which images are to be imported: by the table where there is one, else by the files' names."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from synthdp.data.importing.findings import Finding, Reason, sift
from synthdp.data.importing.folder import (
    folder_contents,
    left_out_words,
    linked_folder_problems,
)
from synthdp.data.importing.names import patches_by_name
from synthdp.data.importing.patch import Patch
from synthdp.data.importing.rows import patches_by_row
from synthdp.data.importing.settings import ListingSettings
from synthdp.data.tables import read_table
from synthdp.errors import InputError

UNLISTED = "images that the table does not name"


@dataclass(frozen=True)
class Listing:
    """Every image that was asked for, what is wrong, and what is not used.

    `left_out` counts files by the reason why they are not taken. `left_out_rows` are the images
    or rows that `leave_out` let go, by reason; `unlisted` the files that the table does not name,
    by their positions in the order of paths.
    """

    counted_by: str  # what a number counts: "metadata.csv, row" or "image"
    patches: tuple[Patch, ...]
    problems: tuple[str, ...]
    left_out: Mapping[str, int]
    left_out_rows: Mapping[Reason, tuple[int, ...]] = field(default_factory=dict)
    unlisted: tuple[int, ...] = ()

    def sifted(self, findings: Iterable[Finding], leave_out: Iterable[Reason]) -> "Listing":
        """The same with findings of images among the problems, or left out where that is allowed.

        The images that they are of stay among the patches.
        """
        problems, left_out = sift(findings, leave_out, self.counted_by)
        rows = {
            reason: tuple(sorted((*self.left_out_rows.get(reason, ()), *left_out.get(reason, ()))))
            for reason in (*self.left_out_rows, *left_out)
        }
        return replace(self, problems=(*self.problems, *problems), left_out_rows=rows)


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
    contents = folder_contents(src, settings.follow_links_into)
    problems, unlisted = list(contents.problems), tuple[int, ...]()
    table_path = src / "metadata.csv" if settings.metadata is None else settings.metadata
    if isinstance(table_path, Path) and (table_path.is_file() or settings.metadata is not None):
        if not table_path.is_file():
            raise InputError(f"metadata: there is no file {table_path}; correct the path")
        patches, findings, of_table = patches_by_row(settings, read_table(table_path))
        counted_by = f"{table_path.name}, row"
        problems += [f"{table_path.name}, {problem}" for problem in of_table]
        taken = {patch.path for patch in patches}
        unlisted = tuple(
            number for number, path in enumerate(contents.images, start=1) if path not in taken
        )
        left_out = contents.left_out({table_path, *taken}) | {UNLISTED: len(unlisted)}
    else:
        patches, findings, of_settings = patches_by_name(settings, contents.images)
        counted_by, left_out = "image", contents.left_out()
        problems += [*of_settings, *linked_folder_problems(left_out)]
    listing = Listing(counted_by, tuple(patches), tuple(problems), left_out, unlisted=unlisted)
    listing = listing.sifted(findings, settings.leave_out)
    if not patches and not listing.problems:
        what = left_out_words(left_out) or "an empty folder"
        return replace(listing, problems=(f"no image to take was found ({what})",))
    return listing

"""Images of a folder that are to be scored: found, looked at before any is, and never named.

They are read as an import reads them. Chest radiographs that look inverted or turned are scored
and told, since what looks so may be an image that is unlike others.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthdp.data.dataset import raise_problems
from synthdp.data.decoding import decode_pixels, refuse_narrow
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.images import path_problem
from synthdp.data.importing.folders.folder import (
    folder_contents,
    left_out_words,
    linked_folder_problems,
)
from synthdp.data.importing.images.survey import thumbnail
from synthdp.data.importing.images.thumbnails import Thumbnails
from synthdp.data.looks.pose import unlike_upright
from synthdp.data.manifest.tables import read_table
from synthdp.data.phantoms.chest.chest_set import draw_images, plan_of
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder

logger = logging.getLogger(__name__)

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class NewImage:
    """An image to score: how errors call it, its name below the folder, and its file.

    Of a lesion that was cut from an image, the file is that of the crop, and `row` is of its box.
    `looks` says in which wrong pose an image seems to be, where images are looked at for it.
    """

    label: str
    name: str
    path: Path
    row: int | None = None
    looks: str | None = None


def find_images(folder: Path, follow_links_into: Sequence[Path] = ()) -> tuple[NewImage, ...]:
    """The images of a folder: those that its manifest names, or all below it in sorted order.

    What else stands in a folder without a manifest is counted on the terminal, by reason.

    Args:
        folder: of the images.
        follow_links_into: folders outside it where links may lead.

    Raises:
        InputError: when there is none, a folder cannot be read, or a name leads out of the folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that holds the images")
    root = folder.resolve()
    if (folder / MANIFEST).is_file():
        table = read_table(folder / MANIFEST, required=("image",))
        raise_problems(f"{folder.name}/{MANIFEST}", table.problems)
        named = [(f"row {number}", record["image"]) for number, record in table.records.items()]
    else:
        contents = folder_contents(folder, follow_links_into)
        left_out = contents.left_out()
        links = linked_folder_problems(left_out)
        raise_problems(_heading(folder.name), [*contents.problems, *links])
        if passed_over := left_out_words(left_out):
            extra = for_the_holder("some files there are no images, and are not scored")
            logger.info("not scored: %s", passed_over, extra=extra)
        names = (path.relative_to(folder).as_posix() for path in contents.images)
        named = [(f"image {number}", name) for number, name in enumerate(names, start=1)]
    if not named:
        raise InputError(f"{folder}: holds no image, so there is nothing to score")
    linked = [one.resolve() for one in follow_links_into]
    problems = [(label, path_problem(name, root, linked)) for label, name in named]
    raise_problems(
        _heading(folder.name), [f"{label}: {problem}" for label, problem in problems if problem]
    )
    return tuple(NewImage(label, name, folder / name) for label, name in named)


def refuse_bad_images(
    where: str,
    images: Sequence[NewImage],
    bits: int | None = None,
    reading: DicomReading | None = None,
) -> Thumbnails:
    """Small pictures of images; refuses what can't be read, or uses too little of its range.

    Args:
        where: what errors call the folder.
        images: to look at.
        bits: how many bits of their samples are used, as in `decode_pixels`.
        reading: how DICOM is read.

    Raises:
        InputError: with all of them, by number and never by name.
    """
    problems, thumbnails = [], Thumbnails()
    for image in progress(images, what="reading images"):
        try:
            pixels = decode_pixels(image.path, bits=bits, reading=reading)
            refuse_narrow(pixels)
            thumbnails.append(thumbnail(pixels)[None])
        except InputError as error:
            problems.append(f"{image.label}: {error}")
    raise_problems(_heading(where), problems)
    return thumbnails


#: Radiographs as they should be are drawn for so many patients, at this side.
_UPRIGHT = PhantomSettings(out=Path("never-written"), subject="chest", patients=24, size_px=64)


def with_poses(images: Sequence[NewImage], thumbnails: Thumbnails) -> Sequence[NewImage]:
    """The images of chests, each with the pose that it seems to be in, where one's is wrong.

    Args:
        images: of chest radiographs.
        thumbnails: of these.
    """
    plan = plan_of(_UPRIGHT)
    drawn = (
        image
        for number in range(1, _UPRIGHT.patients + 1)
        for image in draw_images(plan, plan.patient(number), 0.0, _UPRIGHT.size_px)
    )
    upright = np.stack([thumbnail(image) for image in drawn]).astype(np.float32)
    poses = dict(unlike_upright(thumbnails, upright).of_images)
    if not poses:
        return images
    logger.info(
        "%d image(s) look inverted or turned: the column `looks` says how, and what their scores "
        "say is unknown; mend the files and score them again",
        len(poses),
        extra=for_the_holder("some images look inverted or turned, as the column `looks` says"),
    )
    return [replace(image, looks=poses.get(index, "")) for index, image in enumerate(images)]


def _heading(where: str) -> str:
    return f"{where}: nothing was scored (images are counted in the order of their paths)"

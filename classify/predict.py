"""The predict stage: scores of new images by a finished run, or by a released copy of one.

It needs nothing from any private folder, reads the images' folder and writes nothing into it. A
score is the one that `synthdp evaluate` gives for the same image of a set, given the settings of
its import. What is written here is about the patients on the images: it is theirs, and outside
every promise.
"""

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.features.extract import features_on_arrays, volume_features
from classify.features.input_form import InputForm, refuse_unlike_images
from classify.features.volumes import VOLUMES_AT_ONCE
from classify.model.classifier import (
    Classifier,
    FeatureSource,
    logits,
    probabilities,
    restore_backbone,
    sees_volumes,
)
from classify.model.folder import load_classifier
from classify.new_images.images import NewImage, find_images, refuse_bad_images, with_poses
from classify.new_images.saliency import FloatImage, draw_saliency, one_view, saliency_map
from classify.new_images.volumes import Volumes, find_volumes, read_volumes
from classify.settings.finished import PredictSettings
from synthdp.config.settings import MAX_NAME_BYTES
from synthdp.data.dataset import load_volumes, open_dataset, raise_problems
from synthdp.data.decoding import is_jpeg, square_image
from synthdp.data.description import is_dataset, set_around
from synthdp.data.dicom.reading import DicomReading
from synthdp.data.importing.dicom import settings_as_imported
from synthdp.data.importing.lesions.boxes import FILE_COLUMNS, cut_boxes
from synthdp.data.importing.settings.lesions import CropSettings
from synthdp.data.looks.pose import shows_chests
from synthdp.data.manifest.tables import MAX_TABLE_BYTES, csv_text
from synthdp.data.volumes.form import VolumeForm
from synthdp.errors import InputError, RunError
from synthdp.machine.progress import progress
from synthdp.machine.terminal import for_the_holder
from synthdp.networks.alone import BATCH
from synthdp.networks.denoise import resampled_for
from synthdp.storage.files import (
    atomic_folder,
    closed_to_others,
    read_text,
    readable_name,
    short_lived_folder,
    write_atomic,
)

logger = logging.getLogger(__name__)

#: What a file that is being written has more in its name, and what is kept of a name too long.
_SCRATCH_BYTES, _KEPT_BYTES = 24, 120

#: An image file as networks see it, of a side or, for None, of its own.
ReadSquare = Callable[[Path, int | None], FloatImage]


def run_predict(settings: PredictSettings) -> Path:
    """Score every image of a folder and write the table `out`.

    Its columns: `image`, the path below the folder; `score_<target>`, a probability, calibrated
    where the run is; and `positive_<target>`, 0 or 1 at the run's threshold, where it has one.
    Images of any size are padded with black to a square and resampled to the side that the model
    takes, by way of `size_px` where it is given, as `synthdp data patches` does. With `boxes` the
    lesions of that table are cut from them and scored, as `synthdp data dicom` cuts them, and a
    column `row` says of which row each is.

    Raises:
        InputError: when `out` holds anything but the same table, the run has no classifier, no
            image is found, or images are unreadable or not scaled to their depth: all of them, by
            number.
        RunError: when a score is not finite.
    """
    _refuse_outputs(settings.images, settings.out, settings.saliency)
    classifier = load_classifier(settings.run)
    if sees_volumes(classifier):
        return _scored_volumes(settings, classifier)
    if settings.volumes is not None:
        raise InputError(f"volumes: {settings.run} is a classifier of flat images; leave it out")
    form, of_set = classifier.input_form, set_around(settings.images)
    if of_set is not None:  # a volume's file is a picture too, of its slices below each other
        refuse_unlike_images(form, of_set, of_volumes=False)
    if settings.size_px is None and form is not None and not is_dataset(settings.images):
        settings = settings.model_copy(update={"size_px": form.size_px})
    if settings.boxes is None:
        return _scored(
            settings, classifier, find_images(settings.images, settings.follow_links_into)
        )
    with short_lived_folder(settings.out) as scratch:
        return _scored(settings, classifier, find_lesions(settings, scratch))


def _scored_volumes(settings: PredictSettings, classifier: Classifier) -> Path:
    """Score the volumes of a data set, or those of a folder, read as an import reads them.

    Raises:
        InputError: when nothing says how volumes were brought to their form, some can't be read, or
            what is of flat images is asked for.
    """
    if settings.boxes is not None or settings.saliency is not None:
        raise InputError("boxes, saliency: are for flat images; leave them out")
    if is_dataset(settings.images):
        if settings.volumes is not None:
            raise InputError(
                f"volumes: {settings.images} is a data set, whose volumes have their form; leave "
                "it out"
            )
        dataset = open_dataset(settings.images)
        refuse_unlike_images(classifier.input_form, dataset.info, of_volumes=True)
        images = [
            NewImage(f"row {number}", row.image, settings.images / row.image)
            for number, row in enumerate(dataset.rows, start=2)
        ]
        raws = _volume_features(
            classifier,
            lambda begin, end: load_volumes(dataset, dataset.rows[begin:end]),
            len(images),
        )
    else:
        form = _volume_form(settings, classifier)
        listed = find_volumes(settings.images, settings.follow_links_into)
        images = [
            NewImage(f"volume {number}", one.name, one.source.path)
            for number, one in enumerate(listed, start=1)
        ]
        with short_lived_folder(settings.out) as scratch:
            volumes = read_volumes(
                listed, form, scratch, bits=settings.bits, reading=settings.dicom
            )
            raws = _volume_features(classifier, volumes, len(images))
    _write_table(settings.out, _table(classifier, images, _finite_scores(classifier, raws)))
    return settings.out


def _volume_form(settings: PredictSettings, classifier: Classifier) -> InputForm:
    """How new volumes are brought to the form of those that the classifier was trained on.

    Raises:
        InputError: when neither the settings nor the run say it.
    """
    kept, form = classifier.input_form, settings.volumes
    size_px = settings.size_px or (kept.size_px if kept is not None else None)
    if kept is not None and kept.volumes is not None:
        # what is not set is as in training, and no default: `tilt: resample` leaves the window
        form = kept.volumes if form is None else kept.volumes.model_copy(update=_as_set(form))
    if form is not None and size_px is not None:
        return InputForm(size_px=size_px, depth=form.depth, volumes=form)
    raise InputError(
        f"{settings.run}: does not say how its volumes were made of scans (it was trained on "
        "volumes that were drawn, or by an earlier version); say it as its import did, by "
        "volumes={depth: ...} and size_px, or name a data set"
    )


def _as_set(form: VolumeForm) -> dict[str, Any]:
    return {name: getattr(form, name) for name in form.model_fields_set}


def _volume_features(classifier: Classifier, volumes: Volumes, count: int) -> list[Tensor]:
    """Raw features of `count` volumes from each network, (N, F)."""
    raws = []
    for one in classifier.feature_sources:
        compute = volume_features(restore_backbone(one))
        starts = progress(range(0, count, VOLUMES_AT_ONCE), what=f"features of {one.backbone.name}")
        parts = [compute(volumes(start, min(start + VOLUMES_AT_ONCE, count))) for start in starts]
        raws.append(torch.from_numpy(np.concatenate(parts)))
    return raws


def find_lesions(settings: PredictSettings, scratch: Path) -> tuple[NewImage, ...]:
    """The lesions of the table `boxes`, cut into files below `scratch`.

    Raises:
        InputError: when there is none, or with all that is wrong, by row and never by name.
    """
    assert settings.boxes is not None
    if not settings.images.is_dir():
        raise InputError(
            f"{settings.images}: there is no such folder; name one that holds the images"
        )
    (scratch / "staging").mkdir()
    how = settings_as_imported(
        settings.as_imported,
        src=settings.images,
        metadata=settings.boxes,
        out=settings.out,
        name="predicted",
        crop=settings.crop,
        dicom=settings.dicom,
        bits=settings.bits,
        size_px=settings.size_px,
    )
    lesions, problems = cut_boxes(
        settings.images,
        settings.boxes,
        crop=how.crop or CropSettings(),
        reading=how.dicom or DicomReading(),
        size_px=how.size_px,
        bits=how.bits,
        staging=scratch / "staging",
        follow_links_into=settings.follow_links_into,
        form=how.sheet_form,
        file_column=how.file_column if "file_column" in how.model_fields_set else FILE_COLUMNS,
        region=how.region,
        decimal=how.decimal,
    )
    raise_problems(f"boxes, {settings.boxes.name}: nothing was scored", problems)
    images = []
    for lesion in lesions:
        path = scratch / f"{lesion.row}.png"
        path.write_bytes(lesion.png)
        images.append(NewImage(f"row {lesion.row}", lesion.name, path, lesion.row))
    return tuple(images)


def _scored(settings: PredictSettings, classifier: Classifier, images: Sequence[NewImage]) -> Path:
    """Score images and write the table, as `run_predict` says."""
    read: ReadSquare = square_image
    if settings.boxes is None:  # crops are cut, at their size and at their full range
        reading = settings.dicom
        read = partial(
            square_image, bits=settings.bits, reading=reading, fitted_px=settings.size_px
        )
        thumbnails = refuse_bad_images(settings.images.name, images, settings.bits, reading)
        if shows_chests(classifier.targets):
            images = with_poses(images, thumbnails)
    paths = [image.path for image in images]
    if n_jpeg := sum(is_jpeg(path) for path in paths):
        what = "JPEG, which has lost detail that scores may depend on"
        logger.info("%d image(s) are %s", n_jpeg, what, extra=for_the_holder(f"some are {what}"))
    raws = [_features(one, paths, read) for one in classifier.feature_sources]
    scores = _finite_scores(classifier, raws)
    table = _table(classifier, images, scores)
    _refuse_other_table(settings.out, table)
    if settings.saliency is not None:
        with atomic_folder(settings.saliency, closed=True, again=True) as folder:
            _draw_all(classifier, images, scores, settings.saliency_grid, folder, read=read)
    _write_table(settings.out, table)
    return settings.out


def _finite_scores(classifier: Classifier, raws: Sequence[Tensor]) -> NDArray[np.float32]:
    """Probabilities of each target, (N, T), from the raw features of each network.

    Raises:
        RunError: when one is not finite.
    """
    raw_scores = logits(classifier, raws)
    if not bool(torch.isfinite(raw_scores).all()):
        raise RunError("a score is not finite; the weights have diverged or are damaged")
    return probabilities(classifier, raw_scores)


def _refuse_other_table(out: Path, table: str) -> None:
    if out.exists() and read_text(out, MAX_TABLE_BYTES) != table:
        raise InputError(f"{out}: holds other scores; name a new file or remove it first")


def _write_table(out: Path, table: str) -> None:
    _refuse_other_table(out, table)
    with closed_to_others():
        write_atomic(out, table)


def _refuse_outputs(images: Path, out: Path, saliency: Path | None) -> None:
    """Refuse to overwrite the table, and to write among the images."""
    if out.exists() and not out.is_file():
        raise InputError(f"{out}: is a folder; name a file for the table")
    for key, path in (("out", out), ("saliency", saliency)):
        if path is not None and path.resolve().is_relative_to(images.resolve()):
            raise InputError(
                f"{key}: lies inside the folder of images, which is left as it is; name a place "
                "outside it"
            )
    if saliency is not None and out.resolve().is_relative_to(saliency.resolve()):
        raise InputError("out: lies inside the folder `saliency`; name a file outside it")


def _features(feature_source: FeatureSource, paths: Sequence[Path], read: ReadSquare) -> Tensor:
    """Raw features of image files, (N, D), in batches of fixed size."""
    settings = feature_source.backbone
    compute = features_on_arrays(restore_backbone(feature_source))
    what, parts = f"features of {settings.name}", []
    for start in progress(range(0, len(paths), BATCH), what=what):
        batch = [resampled_for(settings, read(path, None)) for path in paths[start : start + BATCH]]
        parts.append(compute(np.stack(batch)[:, None]))
    return torch.from_numpy(np.concatenate(parts))


def _table(classifier: Classifier, images: Sequence[NewImage], scores: NDArray[np.float32]) -> str:
    points = dict(zip(classifier.targets, classifier.points, strict=False))
    scored = [f"score_{name}" for name in classifier.targets]
    of_row = ["row"] if any(image.row is not None for image in images) else []
    looks = ["looks"] if any(image.looks is not None for image in images) else []
    columns = ["image", *of_row, *scored, *(f"positive_{name}" for name in points), *looks]
    cells: list[list[object]] = []
    for image, values in zip(images, scores, strict=True):
        called = [
            int(float(value) >= point.threshold)
            for value, point in zip(values, points.values(), strict=False)
        ]
        row = [] if image.row is None else [image.row]
        cells.append(
            [
                readable_name(image.name),
                *row,
                *(f"{value:.9g}" for value in values),
                *called,
                *([] if image.looks is None else [image.looks]),
            ]
        )
    return csv_text(columns, cells)


def _draw_all(
    classifier: Classifier,
    images: Sequence[NewImage],
    scores: NDArray[np.float32],
    grid: int,
    folder: Path,
    *,
    read: ReadSquare,
) -> None:
    """A picture for each image, under its name below the folder."""
    model = one_view(classifier)
    for image, values in progress(
        list(zip(images, scores, strict=True)), what="saliency (one view an image)"
    ):
        pixels = read(image.path, None)
        falls = saliency_map(pixels, model, grid)
        picture = draw_saliency(pixels, falls, dict(zip(classifier.targets, values, strict=True)))
        name = image.name if image.row is None else f"{image.name}.row-{image.row}"
        write_atomic(folder / picture_name(name), picture)


def picture_name(name: str) -> str:
    """The file of an image's picture, by the image's name below its folder.

    A name that would be too long for a file system is cut, and told from others by a digest.
    """
    suffix, last = ".saliency.png", os.fsencode(PurePosixPath(name).name)
    if len(last) + len(suffix) <= MAX_NAME_BYTES - _SCRATCH_BYTES:
        return f"{name}{suffix}"
    kept = last[:_KEPT_BYTES].decode(errors="ignore")
    cut = f"{kept}-{sha256(last).hexdigest()[:16]}{suffix}"
    return str(PurePosixPath(name).with_name(cut))

"""The predict stage: scores of new images by a finished run, or by a released copy of one.

It needs nothing from any private folder, reads the images' folder and writes nothing into it. A
score is the one that `synthdp evaluate` gives for the same image. What is written here is about the
patients on the images: it is theirs, and outside every promise.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.classifier import Classifier, Source, logits, probabilities, restore_backbone
from classify.config import PredictSettings
from classify.feature_cache import BATCH, uncached_features
from classify.model_folder import load_classifier
from classify.saliency import draw_saliency, one_view, saliency_map
from synthdp.data.dataset import refuse_findings
from synthdp.data.images import decode_pixels, path_problem, square_image
from synthdp.data.listing import files_below
from synthdp.data.tables import read_table
from synthdp.errors import InputError, RunError
from synthdp.files import atomic_folder, write_atomic
from synthdp.progress import progress

MANIFEST = "manifest.csv"
#: An image that is nowhere above this share of its depth's full scale was not scaled to it.
LEAST_RANGE = 1 / 16

FloatImages = NDArray[np.float32]


@dataclass(frozen=True)
class NewImage:
    """An image to score: its place in errors, its name below the folder, and its file."""

    place: str
    name: str
    path: Path


def run_predict(settings: PredictSettings) -> Path:
    """Score every image of a folder and write the table `out`.

    Its columns: `image`, the path below the folder; `score_<target>`, a probability, calibrated
    where the run is; and `positive_<target>`, 0 or 1 at the run's threshold, where it has one.
    Images of any size are padded with black to a square and resampled to the side that the model
    takes, as `synthdp data patches` does.

    Raises:
        InputError: when `out` stands already, the run has no classifier, no image is found, or
            images are unreadable or not scaled to their depth: all of them, by number.
        RunError: when a score is not finite.
    """
    _refuse_places(settings)
    classifier = load_classifier(settings.run)
    images = find_images(settings.images)
    refuse_bad_images(settings.images.name, images)
    paths = [image.path for image in images]
    raws = [_features(source, paths) for source in classifier.sources]
    found = logits(classifier, raws)
    if not bool(torch.isfinite(found).all()):
        raise RunError("a score is not finite; the weights have diverged or are damaged")
    scores = probabilities(classifier, found)
    table = _table(classifier, images, scores)
    if settings.saliency is not None:
        with atomic_folder(settings.saliency) as folder:
            _draw_all(settings, classifier, images, scores, folder)
    write_atomic(settings.out, table)
    return settings.out


def _refuse_places(settings: PredictSettings) -> None:
    """Refuse to overwrite, and to write among the images."""
    if settings.out.exists():
        raise InputError(f"{settings.out}: exists already; name a new file or remove it first")
    images = settings.images.resolve()
    for key, path in (("out", settings.out), ("saliency", settings.saliency)):
        if path is not None and path.resolve().is_relative_to(images):
            raise InputError(
                f"{key}: lies inside the folder of images, which is left as it is; name a place "
                "outside it"
            )
    if settings.saliency is not None and settings.out.resolve().is_relative_to(
        settings.saliency.resolve()
    ):
        raise InputError("out: lies inside the folder `saliency`; name a file outside it")


def find_images(folder: Path) -> tuple[NewImage, ...]:
    """The images of a folder: those that its manifest names, or all below it in sorted order.

    Raises:
        InputError: when there is none, or a name leads out of the folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name one that holds the images")
    root = folder.resolve()
    if (folder / MANIFEST).is_file():
        table = read_table(folder / MANIFEST, required=("image",))
        refuse_findings(f"{folder.name}/{MANIFEST}", table.findings)
        named = [(f"row {number}", record["image"]) for number, record in table.records.items()]
    else:
        files, _ = files_below(folder)
        names = (path.relative_to(folder).as_posix() for path in files)
        named = [(f"image {number}", name) for number, name in enumerate(names, start=1)]
    if not named:
        raise InputError(f"{folder}: holds no PNG or TIFF image, so there is nothing to score")
    problems = [(place, path_problem(name, root)) for place, name in named]
    refuse_findings(_heading(folder.name), [f"{p}: {found}" for p, found in problems if found])
    return tuple(NewImage(place, name, folder / name) for place, name in named)


def refuse_bad_images(where: str, images: Sequence[NewImage]) -> None:
    """Refuse images that can't be read, or would be scored as nearly black.

    Raises:
        InputError: with all of them, by number and never by name.
    """
    findings = []
    for image in progress(images, what="reading images"):
        try:
            pixels = decode_pixels(image.path)
        except InputError as error:
            findings.append(f"{image.place}: {error}")
            continue
        bits = 8 * pixels.dtype.itemsize
        if int(pixels.max()) < np.iinfo(pixels.dtype).max * LEAST_RANGE:
            findings.append(
                f"{image.place}: uses less than a sixteenth of its {bits} bits and would be "
                "scored as nearly black; rescale its pixels to the full range"
            )
    refuse_findings(_heading(where), findings)


def _heading(where: str) -> str:
    return f"{where}: nothing was scored (images are counted in the order of their paths)"


def _loaded(paths: Sequence[Path], size_px: int) -> FloatImages:
    """Images (B, 1, size_px, size_px) in [-1, 1], as `load_images` gives those of a data set."""
    return np.stack([square_image(path, size_px) for path in paths])[:, None]


def _features(source: Source, paths: Sequence[Path]) -> Tensor:
    """Raw features of image files, (N, D), in batches of fixed size."""
    size_px = source.backbone.size_px
    compute = uncached_features(restore_backbone(source))
    starts = progress(range(0, len(paths), BATCH), what=f"features of {source.backbone.name}")
    parts = [compute(_loaded(paths[start : start + BATCH], size_px)) for start in starts]
    return torch.from_numpy(np.concatenate(parts))


def _table(classifier: Classifier, images: Sequence[NewImage], scores: NDArray[np.float32]) -> str:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    points = dict(zip(classifier.targets, classifier.points, strict=False))
    header = [*(f"score_{name}" for name in classifier.targets)]
    writer.writerow(["image", *header, *(f"positive_{name}" for name in points)])
    for image, values in zip(images, scores, strict=True):
        called = [
            int(float(value) >= point.threshold)
            for value, point in zip(values, points.values(), strict=False)
        ]
        writer.writerow([image.name, *(f"{value:.9g}" for value in values), *called])
    return stream.getvalue()


def _draw_all(
    settings: PredictSettings,
    classifier: Classifier,
    images: Sequence[NewImage],
    scores: NDArray[np.float32],
    folder: Path,
) -> None:
    """A picture for each image, under its name below the folder."""
    model = one_view(classifier)
    for image, values in progress(
        list(zip(images, scores, strict=True)), what="saliency (one view an image)"
    ):
        pixels = square_image(image.path)
        falls = saliency_map(pixels, model, settings.saliency_grid)
        picture = draw_saliency(pixels, falls, dict(zip(classifier.targets, values, strict=True)))
        write_atomic(folder / f"{image.name}.saliency.png", picture)

"""A finished classifier as an object: opened by its folder, and asked for scores of arrays.

A score is the one that `synthdp predict` gives for the same pixels in a file.
"""

from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.features.extract import features_on_arrays, volume_features
from classify.features.volumes import VOLUMES_AT_ONCE, OnArrays
from classify.model.classifier import Classifier as Model
from classify.model.classifier import logits, probabilities, restore_backbone, sees_volumes
from classify.model.folder import load_classifier
from synthdp.data.images import pad_square, to_float
from synthdp.errors import InputError, RunError
from synthdp.networks.alone import BATCH
from synthdp.networks.denoise import resampled_for
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.promise.plan import statement_of

if TYPE_CHECKING:
    from synthdp.privacy.promise.statement import Statement

Images = NDArray[Any] | Sequence[NDArray[Any]]


class Classifier:
    """A finished classifier, that of a run or of a released folder; scores arrays of images.

    `Classifier.load` opens one. Scores of patients are theirs: no promise covers them.

    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np, synthdp
    >>> with TemporaryDirectory() as folder:
    ...     data = synthdp.make_phantoms(f"{folder}/set", patients=20, size_px=32)
    ...     run = synthdp.run_stage("pretrain", data=data.root, out=f"{folder}/run",
    ...         backbone={"name": "test_vit", "size_px": 32}, trainable_blocks=0)
    ...     classifier = synthdp.Classifier.load(run)
    ...     scores = classifier.predict_proba(np.zeros((2, 40, 30), np.uint8))
    ...     print(classifier.targets, scores.shape, classifier.statement.epsilon)
    ('malignant',) (2, 1) 0.0
    """

    def __init__(self, folder: Path, model: Model) -> None:
        self._folder, self._model = folder, model

    @classmethod
    def load(cls, run: str | PathLike[str]) -> "Classifier":
        """Open the classifier of a finished run, or of a folder that was released.

        Nothing is downloaded: a network that is missing is named, with what fetches it.

        Raises:
            InputError: when the run is not finished or holds no classifier, or weights are missing
                or damaged.
        """
        folder = Path(run)
        return cls(folder, load_classifier(folder))

    @property
    def targets(self) -> tuple[str, ...]:
        """What is told of an image, by name, such as `malignant`."""
        return self._model.targets

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """The probability from which on each target is called present; None without calibration."""
        return tuple(point.threshold for point in self._model.points) or None

    @cached_property
    def statement(self) -> "Statement":
        """What is promised of it, made again from its ledger."""
        return statement_of([self._folder])

    @cached_property
    def _networks(self) -> list[tuple[FeatureSettings, OnArrays]]:
        """Of each network its settings, and what computes its features."""
        features = volume_features if sees_volumes(self._model) else features_on_arrays
        sources = self._model.feature_sources
        return [(one.backbone, features(restore_backbone(one))) for one in sources]

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Probabilities of each target, calibrated where the run is.

        Args:
            images: (N, H, W) or (N, 1, H, W), or a sequence of N (H, W) of any sides; grey, 0 is
                black; uint8 or uint16 over their whole range, or floats in [0, 1]. Those that are
                not square are padded with black, and resampled to the side that the network takes.
                Of a classifier of volumes (N, D, S, S), as `Dataset.arrays` of an imported set
                gives them: slices, side and grey levels as in training.

        Returns:
            (N, T), in the order of `targets`, each in [0, 1].

        Raises:
            InputError: when an image has another form, or weights are missing.
            RunError: when a score is not finite.
        """
        if len(images) == 0:
            return np.zeros((0, len(self.targets)), np.float32)
        of_volumes = sees_volumes(self._model)
        raws = self._of_volumes(images) if of_volumes else self._of_images(images)
        scores = logits(self._model, raws)
        if not bool(torch.isfinite(scores).all()):
            raise RunError("a score is not finite; the weights have diverged or are damaged")
        return probabilities(self._model, scores)

    def _of_images(self, images: Images) -> list[Tensor]:
        """Raw features of flat images from each network, (N, F)."""
        prepared = [_as_network_sees(image, number) for number, image in enumerate(images)]
        raws = []
        for settings, compute in self._networks:
            parts = []
            for start in range(0, len(prepared), BATCH):
                some = prepared[start : start + BATCH]
                batch = [resampled_for(settings, image) for image in some]
                parts.append(compute(np.stack(batch)[:, None]))
            raws.append(torch.from_numpy(np.concatenate(parts)))
        return raws

    def _of_volumes(self, images: Images) -> list[Tensor]:
        """Raw features of volumes from each network, (N, F)."""
        kept = self._model.input_form
        form = None if kept is None else (kept.depth, kept.size_px, kept.size_px)
        parts: list[list[NDArray[np.float32]]] = [[] for _ in self._networks]
        for start in range(0, len(images), VOLUMES_AT_ONCE):
            numbered = enumerate(images[start : start + VOLUMES_AT_ONCE], start=start)
            volumes = np.stack([_as_volume(volume, number, form) for number, volume in numbered])
            for own, (_, compute) in zip(parts, self._networks, strict=True):
                own.append(compute(volumes))
        return [torch.from_numpy(np.concatenate(own)) for own in parts]

    def predict(self, images: Images) -> NDArray[np.int64]:
        """Whether each target is called present: (N, T) of 0 and 1, at `thresholds`, or at 0.5.

        Raises:
            InputError, RunError: as `predict_proba`.
        """
        present = self.predict_proba(images) >= np.array(self.thresholds or 0.5)
        called: NDArray[np.int64] = present.astype(np.int64)
        return called


def _as_network_sees(image: NDArray[Any], number: int) -> NDArray[np.float32]:
    """One image as a square in [-1, 1], padded with black.

    Raises:
        InputError: when it has another form; says which image, counted from 0.
    """
    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.ndim != 2 or 0 in pixels.shape:
        raise InputError(
            f"images: number {number} has shape {np.shape(image)}; give (H, W) grey images, of "
            "several a sequence or an array (N, H, W)"
        )
    scaled = _scaled(pixels, number)
    return scaled if scaled.shape[0] == scaled.shape[1] else pad_square(scaled, black=-1.0)


def _as_volume(
    volume: NDArray[Any], number: int, form: tuple[int | None, int, int] | None
) -> NDArray[np.float32]:
    """One volume (D, S, S) in [-1, 1], of the form of those of the training where that is kept.

    Raises:
        InputError: when it has another form; says which volume, counted from 0.
    """
    voxels = np.asarray(volume)
    fits = voxels.ndim == 3 and voxels.shape[1] == voxels.shape[2] and 0 not in voxels.shape
    if not fits or form not in (None, voxels.shape):
        wanted = "(D, S, S)" if form is None else str(form)
        raise InputError(
            f"images: number {number} has shape {voxels.shape}; give volumes of {wanted}, slices "
            "first, as `open_dataset(SET).arrays()` does of a set with the import's settings of "
            "the training; `synthdp predict` reads scans"
        )
    return _scaled(voxels, number)


def _scaled(values: NDArray[Any], number: int) -> NDArray[np.float32]:
    """Grey levels in [-1, 1].

    Raises:
        InputError: when they are of another kind or range.
    """
    if values.dtype.kind == "f":
        if not ((values >= 0) & (values <= 1)).all():
            raise InputError(
                f"images: number {number} has values outside [0, 1]; scale floats to that, 0 "
                "being black, or give uint8 or uint16 pixels"
            )
        scaled: NDArray[np.float32] = 2 * values.astype(np.float32) - 1
        return scaled
    if values.dtype in (np.uint8, np.uint16):
        return to_float(values)
    raise InputError(
        f"images: number {number} is of {values.dtype}; give uint8, uint16, or floats in [0, 1]"
    )

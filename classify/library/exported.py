"""A classifier as one file: a grey image or a volume goes in, probabilities of targets come out.

All that decides a score is inside: the networks, their views and slices, the scaling of features,
the head, and the calibration where the run has one.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.features.extract import features_on_arrays, volume_features
from classify.features.input_form import InputForm
from classify.features.scaling import head_input
from classify.model.classifier import (
    Classifier,
    logits,
    probabilities,
    restore_backbone,
    sees_volumes,
)
from classify.model.folder import WEIGHTS_FILE, load_classifier
from synthdp.data.images import resample, resampling_weights
from synthdp.errors import InputError
from synthdp.networks.backbone import Backbone
from synthdp.networks.denoise import LARGEST_PX, SMALLEST_PX, denoised, preparation
from synthdp.networks.exported.model_file import (
    ExportFormat,
    Interface,
    Port,
    export_folder,
    write_exported,
)
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.networks.readout import dihedral_views
from synthdp.networks.slices import SLICE_POOL, SLICES, slices_along
from synthdp.networks.volume_network import VolumeNetwork
from synthdp.privacy.promise.stated import read_statement
from synthdp.storage.files import sha256_file

#: Probabilities of the file may differ by as much: sums of float32 come in another order there.
TOLERANCE = 1e-4
_CHECKED = 5


class WholeClassifier(nn.Module):
    """Grey images (B, 1, S, S) float32 in [0, 1] to probabilities (B, T) float32.

    Volumes are (B, D, S, S).

    Args:
        classifier: all that decides a score; its public weights are read.
        size_px: the side S; of flat images each network's own side is resampled from it.
    """

    def __init__(self, classifier: Classifier, size_px: int) -> None:
        super().__init__()
        self._of_volumes = sees_volumes(classifier)
        self._sources = classifier.feature_sources
        self._denoises = _denoises(classifier)
        self.backbones = nn.ModuleList(
            restore_backbone(one).float() for one in classifier.feature_sources
        )
        self.resampling: list[Tensor | None] = []
        for one in classifier.feature_sources:
            side = one.backbone.size_px
            as_it_is = self._of_volumes or side == size_px
            matrix = None if as_it_is else torch.tensor(resampling_weights(size_px, side))
            self.resampling.append(matrix)
        self.hidden = classifier.hidden
        self.weight, self.bias = classifier.head_weight, classifier.head_bias
        points = classifier.points
        self.slopes = torch.tensor([point.slope for point in points]) if points else None
        self.offsets = torch.tensor([point.offset for point in points]) if points else None

    def forward(self, images: Tensor) -> Tensor:
        """The probability of each target."""
        whole = images * 2 - 1
        clean = denoised(whole) if self._denoises else whole
        raws = []
        for backbone, matrix in zip(self.backbones, self.resampling, strict=True):
            assert isinstance(backbone, Backbone)
            seen = whole if backbone.settings.denoise is None else clean
            seen = seen if matrix is None else matrix @ seen @ matrix.T
            of_slices = self._of_volumes and not isinstance(backbone, VolumeNetwork)
            raws.append(_slice_features(backbone, seen) if of_slices else _features(backbone, seen))
        values = head_input(raws, [one.scaling for one in self._sources])
        if self.hidden is not None:
            weight, bias = self.hidden
            values = (values @ weight.T + bias).relu()
        values = values @ self.weight.T + self.bias
        if self.slopes is not None and self.offsets is not None:
            values = values * self.slopes + self.offsets
        return values.sigmoid()


def _features(backbone: Backbone, images: Tensor) -> Tensor:
    """As `features_on_arrays`: tokens before trained blocks pass through float16.

    Views stand in the batch, so that the file holds a network once, however many there are.
    """
    if not backbone.in_one_piece:
        features: Tensor = backbone.top(backbone.trunk(images).half().float()).float()
        return features
    views, order = backbone.settings.views, backbone.settings.view_order
    seen = torch.cat(list(dihedral_views(images, views, order)))
    of_views: Tensor = backbone.top(backbone.trunk(seen)).float()
    mean: Tensor = of_views.unflatten(0, (views, -1)).mean(dim=0)
    return mean


def _slice_features(backbone: Backbone, volumes: Tensor) -> Tensor:
    """As `classify.features.volumes.of_slices`: a frozen network's features of slices, pooled."""
    settings = backbone.settings
    assert settings.axes is not None
    count, pool = settings.slices or SLICES, settings.slice_pool or SLICE_POOL
    planes = slices_along(volumes, settings.axes, count, settings.size_px)
    vectors: Tensor = _features(backbone, planes.flatten(0, 1)).unflatten(0, (-1, planes.shape[1]))
    return vectors.amax(dim=1) if pool == "max" else vectors.mean(dim=1)


def run_export_model(settings: ExportModelSettings) -> Path:
    """Write the classifier of a released run as one file.

    Raises:
        InputError, RunError: as `export_folder`, `load_classifier` and `write_exported`.
    """
    classifier = load_classifier(settings.run)
    return export_folder(
        settings,
        statement=read_statement(settings.run),
        weights_sha256=sha256_file(settings.run / "model" / WEIGHTS_FILE),
        write=lambda folder, about: write_classifier_file(
            classifier, folder, settings.format, about, size_px=settings.size_px
        ),
    )


def write_classifier_file(
    classifier: Classifier,
    folder: Path,
    file_format: ExportFormat,
    about: Mapping[str, Any],
    *,
    size_px: int | None = None,
) -> float:
    """Write a classifier as one file into `folder`, with what it says of itself.

    Args:
        classifier: all that decides a score.
        folder: which is there.
        file_format: which kind of file.
        about: for its metadata.
        size_px: the side of the images that it takes; None for the largest side of its networks.
            Where these denoise, images should have the side of the training's: noise is told from
            detail by what is white at that side.

    Returns:
        The largest difference of a probability from the original's, on random images.

    Raises:
        InputError, RunError: as `write_exported`.
    """
    classifier = _in_float32(classifier)
    depth, side = _input_size(classifier, size_px)
    images = _images(np.random.default_rng(0), depth or 1, side)
    meaning = (
        "grey images, 0 black, 1 white, padded with black to a square and resampled to this side"
        if depth is None
        else volume_words(classifier.input_form)
    )
    interface = Interface(
        (Port("images", meaning, (depth or 1, side, side)),),
        Port(
            "probabilities",
            f"of {', '.join(classifier.targets)}"
            + (", calibrated" if classifier.points else ", not calibrated"),
            (len(classifier.targets),),
        ),
    )
    points = dict(zip(classifier.targets, classifier.points, strict=False))
    facts = {
        "kind": "classifier",
        "targets": list(classifier.targets),
        "thresholds": {name: point.threshold for name, point in points.items()},
    }
    if depth is not None and classifier.input_form is not None:
        facts["input_form"] = classifier.input_form.as_json()
    return write_exported(
        folder,
        file_format,
        WholeClassifier(classifier, side),
        interface,
        example=(torch.from_numpy(images),),
        original=_original(classifier, images),
        tolerance=TOLERANCE,
        about={**facts, **about},
    )


_DIRECTIONS = {
    "S": "the head",
    "I": "the feet",
    "P": "the back",
    "A": "the front",
    "L": "the patient's left",
    "R": "the patient's right",
}


def volume_words(form: InputForm | None) -> str:
    """How a scan becomes a volume that the file takes, for whoever has no synthdp."""
    words = "volumes, 0 black, 1 white, slices first"
    if form is None or form.volumes is None:
        return f"{words}, in the form of the set of the training"
    how, side = form.volumes, f"{form.size_px} x {form.size_px}"
    if how.orientation == "stored":
        words += ", axes as they are stored"
    else:
        ends = (_DIRECTIONS[letter] for letter in how.orientation)
        words += ", slices, rows and columns growing to {}, {} and {}".format(*ends)
    if isinstance(how.window, tuple):
        low, high = how.window
        words += f"; values up to {low:g} are 0 and from {high:g} on 1, linear between"
    else:
        words += "; the lowest value of a volume is 0 and its highest 1"
        words += "" if how.window == "full" else ", of unsigned bytes 0 and 255"
    if how.spacing_mm is None:
        return (
            f"{words}; slices padded with 0 to a square and resampled to {side}, and to "
            f"{form.depth} of them"
        )
    spacing = " x ".join(f"{one:g}" for one in how.spacing_mm)
    return (
        f"{words}; resampled to voxels of {spacing} mm, of which a box of {form.depth} x {side} "
        "about the middle is taken, 0 beyond the volume"
    )


def _denoises(classifier: Classifier) -> bool:
    """Whether a network of its sees images after noise is taken out."""
    return any(one.backbone.denoise is not None for one in classifier.feature_sources)


def _in_float32(classifier: Classifier) -> Classifier:
    """The same without bfloat16 where the hardware multiplies it: a file runs on any hardware."""
    sources = [
        replace(one, backbone=one.backbone.model_copy(update={"precision": "float32"}))
        for one in classifier.feature_sources
    ]
    return classifier.with_feature_sources(sources)


def _input_size(classifier: Classifier, size_px: int | None) -> tuple[int | None, int]:
    """Of the images that a file takes: slices, None of flat images, and side.

    Raises:
        InputError: when volumes are of another size than is asked for, or of none that is kept, or
            where noise is taken out images of no known side, or of one that is not filtered.
    """
    form = classifier.input_form
    if not sees_volumes(classifier):
        if size_px is None and form is not None:
            size_px = form.size_px
        if size_px is None and _denoises(classifier):
            raise InputError(
                "size_px: name the side of the training's images, at which noise is taken out "
                "(backbone.denoise); the run doesn't say it"
            )
        side = size_px or max(one.backbone.size_px for one in classifier.feature_sources)
        if _denoises(classifier) and not SMALLEST_PX <= side <= LARGEST_PX:
            raise InputError(
                f"size_px is {side}, and noise is taken out (backbone.denoise) of images of "
                f"{SMALLEST_PX} to {LARGEST_PX} px; name the side of the training's images"
            )
        return None, side
    if form is None or form.depth is None:
        raise InputError(
            "the run does not say of what size its volumes are, since an earlier version made it; "
            "make it again with this one"
        )
    if size_px not in (None, form.size_px):
        raise InputError(
            f"size_px is {size_px}, but the classifier takes volumes of {form.depth} slices of "
            f"{form.size_px} px, as in training; leave it out"
        )
    return form.depth, form.size_px


def _images(generator: np.random.Generator, depth: int, side: int) -> NDArray[np.float32]:
    """Smooth random images with noise, or volumes of such slices, (B, D, S, S) in [0, 1]."""
    coarse = generator.random((_CHECKED * depth, 8, 8)).astype(np.float32)
    smooth = np.stack([resample(image, side) for image in coarse])
    noisy = smooth + 0.05 * generator.standard_normal(smooth.shape)
    return np.clip(noisy, 0, 1).astype(np.float32).reshape(_CHECKED, depth, side, side)


def _original(classifier: Classifier, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What `synthdp predict` gives for images of this size."""
    raws = []
    for one in classifier.feature_sources:
        backbone, side = restore_backbone(one), one.backbone.size_px
        if sees_volumes(classifier):
            raws.append(torch.from_numpy(volume_features(backbone)(images * 2 - 1)))
            continue
        prepare = preparation(one.backbone) or (lambda image: image)
        whole = [prepare(image * 2 - 1) for image in images[:, 0]]
        seen = [image if len(image) == side else resample(image, side) for image in whole]
        raws.append(torch.from_numpy(features_on_arrays(backbone)(np.stack(seen)[:, None])))
    scores = probabilities(classifier, logits(classifier, raws))
    if not np.isfinite(scores).all():
        raise InputError("the classifier gives scores that are no numbers; it can't be exported")
    return scores

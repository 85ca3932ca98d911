"""The filter that drops the least realistic images by looking at real ones, and what that costs.

It reads patients without noise. So it is allowed only where the generator has read the same
patients without noise before, and the lineage of what it leaves names them once more.
"""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from gan.config import GenerateSettings
from synthdp.data.cohorts import cohort_of, patient_tags
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.errors import InputError
from synthdp.networks.frozen import build_extractor, extract
from synthdp.privacy.ledger import record_release, recorded_releases
from synthdp.privacy.lineage import Cohort, Lineage, Part, Release
from synthdp.privacy.statement import number

STAGE = "generate"
ALL = Part(part=1, of=1)


@dataclass(frozen=True)
class RealFilter:
    """The real rows to look at, and the release that looking at them is; None without patients."""

    dataset: Dataset
    rows: tuple[Row, ...]
    release: Release | None

    def joined(self, lineage: Lineage) -> Lineage:
        """The lineage of what the filter leaves of something of this `lineage`."""
        found = lineage.joined([self.dataset.info.lineage])
        return found if self.release is None else found.with_release(self.release)

    def record(self) -> None:
        """Note the release in the ledger beside the data set, before an image is read."""
        if self.release is not None:
            record_release(self.dataset.ledger_path, self.release)


def plan_filter(settings: GenerateSettings, lineage: Lineage) -> RealFilter | None:
    """What the filter will read; None where none is asked for. Reads no image.

    Guarantee: no patient is read whom the generator of this `lineage` had not seen without noise.

    Raises:
        InputError: when the promise to these patients is better than infinite, or there are fewer
            images than neighbours.
    """
    if settings.filter_real is None:
        return None
    dataset = open_dataset(settings.filter_real)
    rows, release = dataset.split("train"), None
    if dataset.info.protects_patients:
        seen = _seen_without_noise(dataset, lineage)
        if seen.cohort is not None:
            rows = _rows_of(dataset, rows, seen.cohort)
        release = Release(
            id=_release_id(settings, lineage, dataset.info.name),
            stage=STAGE,
            data=dataset.info.name,
            unit=dataset.info.unit,
            mu=math.inf,
            cohort=seen.cohort or cohort_of(dataset, None),
            note="images filtered by their likeness to real ones, without differential privacy",
        )
    if len(rows) < settings.filter_neighbours:
        raise InputError(
            f"filter_real: {dataset.info.name} has fewer images to compare with than "
            f"filter_neighbours, {settings.filter_neighbours}; ask for fewer neighbours"
        )
    return RealFilter(dataset, rows, release)


def _seen_without_noise(dataset: Dataset, lineage: Lineage) -> Release:
    """The release without protection on these patients; one on all of them, if there is any.

    It is found by its id in the set's own ledger, or by the set's name.
    """
    recorded = {release.id for release in recorded_releases(dataset.ledger_path)}
    name = dataset.info.name
    here = [r for r in lineage.releases if r.data == name or r.id in recorded]
    unprotected = [release for release in here if math.isinf(release.mu)]
    if unprotected:
        return min(unprotected, key=lambda release: release.cohort is not None)
    promised = number(Lineage(releases=tuple(here)).epsilon(1e-4))
    raise InputError(
        f"filter_real: the filter reads the patients of {name} without noise, but the generator "
        f"keeps a promise to them (epsilon {promised}); leave filter_real out, or name the data "
        "that a generator was trained on without differential privacy"
    )


def _rows_of(dataset: Dataset, rows: tuple[Row, ...], cohort: Cohort) -> tuple[Row, ...]:
    whole = cohort_of(dataset, ALL)
    if whole is None or whole.key_id != cohort.key_id:
        raise InputError(
            f"filter_real: the generator saw cohort {cohort.part} of {dataset.info.name}, and this "
            "copy of it has another key, so whom it saw can't be known; name the very data set"
        )
    tags = patient_tags(dataset, [row.patient_id for row in rows])
    return tuple(row for row, tag in zip(rows, tags, strict=True) if cohort.holds(tag))


def _release_id(settings: GenerateSettings, lineage: Lineage, name: str) -> str:
    """The same for the same command, which reads the same again, wherever the files stand."""
    places = {"run", "out", "filter_real", "filter_features", "batch", "device", "licence"}
    assert settings.filter_features is not None
    features = settings.filter_features.model_dump(mode="json", exclude={"weights"})
    shown = [settings.model_dump(mode="json", exclude=places), features, name]
    content = json.dumps([shown, [release.id for release in lineage.releases]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def drawn_for(count: int, share: float) -> int:
    """How many images of a class to draw so that `count` are left."""
    return math.ceil(round(count / (1 - share), 6))


def distances_to_real(
    batches: Iterable[Tensor], chosen: RealFilter, settings: GenerateSettings
) -> Tensor:
    """How far images are from the real ones: the distance to the k-th nearest, (N,) float32.

    The k-nearest-neighbour estimate of the real density falls as it grows (Loftsgaarden and
    Quesenberry, 1965).

    Args:
        batches: images (B, 1, S, S) in [-1, 1], on any device.
        chosen: what to compare with.
        settings: name the network and k.
    """
    assert settings.filter_features is not None
    extractor = build_extractor(settings.filter_features)
    real = torch.from_numpy(extract(extractor, chosen.dataset, list(chosen.rows)))
    found = []
    for images in batches:
        with torch.inference_mode():
            features = extractor(images.cpu())
            nearest = torch.cdist(features, real).kthvalue(settings.filter_neighbours, dim=1)
        found.append(nearest.values)
    return torch.cat(found)


def nearest_places(distances: Tensor, labels: Tensor, counts: tuple[int, int]) -> Tensor:
    """The places of the `counts` nearest images of each class, in their order.

    Args:
        distances: (N,).
        labels: (N,) of 0 and 1.
        counts: how many of class 0 and of class 1 to keep.
    """
    kept = [
        places[distances[places].argsort(stable=True)[:count]]
        for label, count in enumerate(counts)
        for places in [(labels == label).nonzero().flatten()]
    ]
    return torch.cat(kept).sort().values

"""What may be said of the data sets of a study: what their folders say in public, no count."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from synthdp.config import Settings, read_yaml
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.errors import InputError
from synthdp.privacy.lineage import Spent
from synthdp.privacy.mechanism import Unit
from synthdp.study.places import without_paths

_ROLES = {
    "data": "training",
    "synthetic": "pretraining, or training beside patients",
    "private_synthetic": "pretraining, or training beside patients; of a private generator",
    "phantoms": "pretraining, or centring of features",
}


class SetFacts(Settings):
    """The public facts of one data set, and its roles in the study; nothing counted.

    `epsilon` is what the releases that it descends from spent, at delta 1e-4: 0 for images of
    patients themselves, which promise nothing, and for phantoms.
    """

    name: str
    kind: Literal["real", "synthetic", "phantom"]
    stands_for_patients: bool
    roles: tuple[str, ...]
    size_px: int
    targets: tuple[str, ...]
    unit: Unit
    licence: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    epsilon: Spent = 0.0


def read_sets(study: Path) -> tuple[SetFacts, ...]:
    """The sets that a study's settings name; those that are no longer there are left out."""
    roles: dict[Path, list[str]] = {}
    with contextlib.suppress(InputError):  # a study without readable settings names no set
        for path, role in _named(read_yaml(study / "config.yaml")):
            roles.setdefault(path, []).append(role)
    found = []
    for path, names in roles.items():
        with contextlib.suppress(InputError):
            dataset = open_dataset(path if path.exists() else study / path)
            found.append(_facts(dataset, tuple(dict.fromkeys(names))))
    return tuple(found)


def _named(settings: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for key, role in _ROLES.items():
        if isinstance(settings.get(key), str):
            yield Path(settings[key]), role
    places = settings.get("evaluate_on")
    for place in places if isinstance(places, list) else []:
        if isinstance(place, Mapping) and isinstance(place.get("data"), str):
            yield Path(place["data"]), f"evaluation, split {place.get('split', 'val')}"


def _facts(dataset: Dataset, roles: tuple[str, ...]) -> SetFacts:
    info = dataset.info
    return SetFacts(
        name=info.name,
        kind=info.kind,
        stands_for_patients=info.protects_patients,
        roles=roles,
        size_px=info.size_px,
        targets=info.targets,
        unit=info.unit,
        licence=info.licence,
        description=without_paths(info.description),
        columns=tuple(dataset.rows[0].attributes) if dataset.rows else (),
        epsilon=info.lineage.epsilon(1e-4),
    )

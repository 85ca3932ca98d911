"""What is said about a synthetic set: in a line of `dataset.json`, and on its card."""

from collections.abc import Mapping
from typing import Any

from gan.amount import class_counts
from gan.conditions import conditions_of
from gan.config import GenerateSettings
from gan.finished import WEIGHTS
from gan.pretrained import resolve_run
from synthdp.cards import dataset_card
from synthdp.data.dataset import DatasetInfo
from synthdp.files import sha256_file
from synthdp.privacy.statement import Statement


def set_description(settings: GenerateSettings, described: Mapping[str, Any]) -> str:
    """One paragraph that tells this set from every other: what it is made of, and how."""
    made = "; ".join(f"{name} {value}" for name, value in how_it_was_made(settings, described))
    return (
        f"Images drawn by a generator that was trained on {described['data']}. Every image and "
        f"every patient id is made up; one image stands for one made-up patient. Made with: {made}."
    )


def how_it_was_made(
    settings: GenerateSettings, described: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Name and value of everything that decides the images; no place of this machine."""
    benign, malignant = class_counts(settings)
    target = described["target"]
    weights = resolve_run(settings.run) / "model" / WEIGHTS
    made = [
        ("generator", f"{described['architecture']} trained on {described['data']}"),
        ("sha256 of its weights", sha256_file(weights)[:16]),
        (f"images with {target} 0", f"{benign:,}"),
        (f"images with {target} 1", f"{malignant:,}"),
        ("seed", str(settings.seed)),
        ("bits", str(settings.bits)),
        ("truncation", f"{settings.truncation:g}" if settings.truncation < 1 else "none"),
    ]
    if settings.filter_real is None or settings.filter_features is None:
        return [*made, ("filter", "none")]
    words = (
        f"of each class, the {100 * settings.filter_share:g} % least like real images dropped "
        f"(neighbour {settings.filter_neighbours} in features of {settings.filter_features.name} "
        f"at {settings.filter_features.size_px} px)"
    )
    return [*made, ("filter", words)]


def set_card(
    settings: GenerateSettings,
    described: Mapping[str, Any],
    info: DatasetInfo,
    statement: Statement,
) -> str:
    """The card of a set: what it is, how it was made, its columns, and what it promises."""
    target = described["target"]
    counts = class_counts(settings)
    told = {
        name: f"what the generator was asked for: {', '.join(levels)}; empty is unknown"
        for name, levels in _levels(described).items()
    }
    return dataset_card(
        title=f"Synthetic patches: {counts[0]:,} with {target} 0, {counts[1]:,} with {target} 1",
        summary=(
            f"Grey {info.size_px} x {info.size_px} px patches in {settings.bits} bits, drawn by a "
            f"generator that was trained on {described['data']}. Every image and every patient id "
            "is made up; one image stands for one made-up patient."
        ),
        licence=info.licence,
        statement=statement,
        n_images=sum(counts),
        made=dict(how_it_was_made(settings, described)),
        columns={
            "image": "path of the PNG below this folder",
            "patient_id": "a made-up patient, one an image",
            "split": "always train",
            target: "1 or 0, as the generator was asked for; no reader has looked at the image",
            **told,
        },
    )


def _levels(described: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    conditions = conditions_of(described)
    return dict(zip(conditions.names, conditions.levels, strict=True))

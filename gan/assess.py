"""The assess stage: how close a synthetic set is to a real one, and whether it copies patients."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

from gan.config import AssessSettings, FeatureSpace
from gan.quality.figures import (
    coverage_figures,
    detector_figures,
    distance_figures,
    inception_figures,
    label_figures,
    spectrum_figures,
    spectrum_words,
)
from gan.quality.memorisation import (
    copy_figures,
    draw_closest_pairs,
    judge,
    membership_figures,
    nearest_table,
)
from gan.quality.page import assessment_page, findings
from gan.quality.sets import Material, MeasuredSet, Opened, read_material
from synthdp.config import dump_settings, read_yaml, validate_settings
from synthdp.data.dataset import Dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import (
    QUALITY_FILE,
    AssessedSet,
    Assessment,
    FeatureFacts,
    Figure,
    Section,
)
from synthdp.files import atomic_folder, write_atomic, write_json
from synthdp.networks.weights import HUB
from synthdp.progress import progress

CONFIG_FILE, PAGE_FILE, PRIVATE = "config.yaml", "quality.html", "private"
SECTIONS = get_args(Section)


def run_assess(settings: AssessSettings) -> Path:
    """Judge a synthetic set and write its figures, a page and the closest pairs, or return at once.

    Nothing is fitted on val. All figures are exact functions of the patients, outside every
    promise; `private/` holds patients' images, and nothing of it may leave.

    Raises:
        InputError: when a set cannot be used, weights do not fit, an image is unreadable, or `out`
            holds something else.
        RunError: when features are not finite, or the disk is full.
    """
    if _stands(settings):
        return settings.out
    with atomic_folder(settings.out) as folder:  # first, so that a taken `out` is told at once
        material = read_material(settings)
        figures = sorted(
            [*_quality(settings, material), *_copies(material, folder / PRIVATE)],
            key=lambda figure: SECTIONS.index(figure.section),
        )
        found = _assessment(settings, material, figures)
        write_atomic(folder / CONFIG_FILE, dump_settings(settings))
        write_json(folder / QUALITY_FILE, found.model_dump(mode="json"))
        page = assessment_page(found, material.sets, material.synthetic.dataset)
        write_atomic(folder / PAGE_FILE, page)
    return settings.out


def _stands(settings: AssessSettings) -> bool:
    """Whether the folder holds this very assessment."""
    if not (settings.out / QUALITY_FILE).is_file():
        return False
    where = f"{settings.out.name}/{CONFIG_FILE}"
    stored = validate_settings(AssessSettings, read_yaml(settings.out / CONFIG_FILE), where=where)
    if stored != settings:
        raise InputError(
            f"{settings.out}: holds an assessment with other settings; name another out"
        )
    return True


def _quality(settings: AssessSettings, material: Material) -> Iterator[Figure]:
    sets = material.sets
    spaces = list(material.networks.extractors)
    for space in progress(spaces, what="figures in each feature space"):
        yield from distance_figures(sets, space)
        yield from coverage_figures(sets, space, settings.neighbours)
        yield from detector_figures(sets, space)
        yield from label_figures(sets, space)
    if settings.inception is not None:
        yield from inception_figures(sets)
    yield from spectrum_figures(sets, material.train.dataset.info.size_px)


def _copies(material: Material, private: Path) -> Iterator[Figure]:
    """The figures of memorisation and membership; pictures and tables go to `private`."""
    judged = judge(material.sets)
    private.mkdir(mode=0o700)
    for subject, opened in material.made_up.items():
        ending = "" if subject == "synthetic" else f"_{subject}"
        picture = draw_closest_pairs(
            judged[subject],
            synthetic=opened.dataset,
            synthetic_rows=opened.rows,
            real=material.train.dataset,
            train_rows=material.train.rows,
        )
        write_atomic(private / f"closest_pairs{ending}.png", picture)
        table = nearest_table(judged[subject], opened.rows, material.train.rows)
        write_atomic(private / f"nearest{ending}.csv", table)
    yield from copy_figures(judged)
    yield from membership_figures(material.sets)


def _assessment(
    settings: AssessSettings, material: Material, figures: Sequence[Figure]
) -> Assessment:
    sets, real = material.sets, material.train.dataset
    baseline, held_out = material.baseline, material.held_out
    return Assessment(
        promise=_promise(real),
        findings=(*findings(figures), spectrum_words(sets, real.info.size_px)),
        info=material.synthetic.dataset.info,
        synthetic=_described(material.synthetic, sets.synthetic),
        baseline=_described(baseline, sets.baseline) if baseline and sets.baseline else None,
        real=_described(material.train, sets.train),
        held_out=_described(held_out, sets.held_out) if held_out and sets.held_out else None,
        features=tuple(_space_facts(material, space) for space in settings.features),
        figures=tuple(figures),
    )


def _promise(real: Dataset) -> str:
    name = real.info.name
    if not real.info.protects_patients:
        return f"{name} holds no patients, so these figures tell nothing of any."
    words = (
        f"These figures are exact functions of the patients of {name}: no noise was added, so they "
        "stand outside every promise. Keep them in the house, or count them as a disclosure."
    )
    if real.info.unit == "image":
        words += " Its patients are not known: each image stands for one, so copies may look rarer."
    return words


def _described(opened: Opened, measured: MeasuredSet) -> AssessedSet:
    info = opened.dataset.info
    return AssessedSet(
        name=info.name,
        kind=info.kind,
        size_px=info.size_px,
        images=opened.n_images,
        used=len(opened.rows),
        duplicates=measured.duplicates,
        label_conflicts=measured.label_conflicts,
    )


def _space_facts(material: Material, space: FeatureSpace) -> FeatureFacts:
    low = material.networks.extractors[space.label].in_bfloat16
    weights = space.sha256 or "" if space.weights is not None else "random start"
    return FeatureFacts(
        label=space.label,
        network=space.name,
        size_px=space.size_px,
        precision="bfloat16" if low else "float32",
        weights="hub" if space.weights == HUB else weights,
    )

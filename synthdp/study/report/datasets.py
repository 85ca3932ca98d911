"""What a report shows of data sets: patches, and the assessment of the synthetic set."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import CLOSEST_PAIRS_FILE, Assessment, read_assessment
from synthdp.pages import ClassPatches, class_patches
from synthdp.paths import without_paths
from synthdp.privacy.statement import make_statement
from synthdp.study.record import StudyRecord
from synthdp.study.report.promises import Promise, statement_html

MAX_PAIRS_BYTES = 8 * 2**20


@dataclass(frozen=True)
class Patches:
    """Patches to show, with the promise of their data set, or why there are none."""

    title: str
    classes: tuple[ClassPatches, ...] = ()
    promise: Promise | None = None
    problem: str = ""


@dataclass(frozen=True)
class Assessed:
    """The assessment of the study's synthetic set, or why it can't be shown.

    `pairs` is the picture of its closest pairs as a data URI: it shows patients' images, so it is
    empty unless these may be shown.
    """

    found: Assessment | None = None
    problem: str = ""
    pairs: str = ""


def shown_patches(study: Path, record: StudyRecord, *, show_real: bool) -> Iterator[Patches]:
    """The galleries of a study: of its synthetic set, and of patients where that is allowed."""
    facts = record.facts
    if facts.synthetic is not None:
        yield _patches_of(study, facts.synthetic, "Synthetic patches", record)
    if facts.real is not None and show_real:
        yield _patches_of(study, facts.real, "Real patches", record)


def _patches_of(study: Path, path: Path, title: str, record: StudyRecord) -> Patches:
    try:
        dataset = open_dataset(path if path.exists() else study / path)
        classes = tuple(class_patches(dataset))
    except InputError as error:
        return Patches(title, problem=f"The data set can't be shown: {_reason(error)}")
    if dataset.info.protects_patients:
        return Patches(f"{title}: {dataset.info.name}", classes)
    lineage = dataset.info.lineage
    stated = next(iter(record.statements.values()), None)
    statement = make_statement(
        lineage,
        subject="data set",
        delta=stated.delta if stated else 1e-4,
        unit=lineage.releases[0].unit if lineage.releases else "patient",
        population=stated.population if stated else None,
    )
    promise = Promise("Promise of this set", statement.epsilon, (statement_html(statement),))
    return Patches(f"{title}: {dataset.info.name}", classes, promise)


def shown_assessment(study: Path, path: Path | None, *, show_real: bool) -> Assessed | None:
    """The assessment that the study names; it holds exact figures of patients, no release does."""
    if path is None:
        return None
    folder = path if path.exists() else study / path
    try:
        found = read_assessment(folder)
    except InputError as error:
        return Assessed(problem=_reason(error))
    return Assessed(found, pairs=_pairs(folder / CLOSEST_PAIRS_FILE) if show_real else "")


def _pairs(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > MAX_PAIRS_BYTES:
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _reason(error: InputError) -> str:
    return without_paths(str(error)).splitlines()[0]

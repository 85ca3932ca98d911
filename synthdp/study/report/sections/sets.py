"""A study's data sets: patches, and the assessment of the synthetic set, for `sets.html.j2`."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import CLOSEST_PAIRS_FILE, Assessment, read_assessment
from synthdp.pages.html import ClassPatches, class_patches
from synthdp.privacy.promise.statement import make_statement
from synthdp.storage.paths import reason_of
from synthdp.study.record import StudyRecord
from synthdp.study.report.sections.promises import PromiseView, statement_html
from synthdp.study.sets import seen_from

MAX_PAIRS_BYTES = 8 * 2**20


@dataclass(frozen=True)
class PatchesView:
    """Patches as `sets.html.j2` shows them, with their set's promise, or why there are none.

    are_whole: they are whole radiographs or volumes.
    """

    title: str
    classes: tuple[ClassPatches, ...] = ()
    promise: PromiseView | None = None
    problem: str = ""
    are_whole: bool = False


def shown_patches(study: Path, record: StudyRecord, *, show_real: bool) -> Iterator[PatchesView]:
    """The galleries of a study: of its synthetic set, and of patients where that is allowed."""
    facts = record.facts
    if facts.real is not None and show_real:
        yield _patches_of(study, facts.real, "Real patches", record)
    if facts.synthetic is not None:
        yield _patches_of(study, facts.synthetic, "Synthetic patches", record)


def _patches_of(study: Path, path: Path, title: str, record: StudyRecord) -> PatchesView:
    try:
        dataset = open_dataset(seen_from(study, path))
        classes = tuple(class_patches(dataset))
    except InputError as error:
        return PatchesView(title, problem=f"The data set can't be shown: {reason_of(error)}")
    phantoms = dataset.info.kind == "phantom"
    are_whole = dataset.info.depth is not None or len(dataset.info.targets) > 1
    if are_whole:
        title = "Phantoms" if phantoms else title.replace("patches", "images")
    if dataset.info.protects_patients:
        what = "Phantoms in place of patients" if phantoms else title
        return PatchesView(f"{what}: {dataset.info.name}", classes, are_whole=are_whole)
    lineage = dataset.info.lineage
    stated = next(iter(record.statements.values()), None)
    statement = make_statement(
        lineage,
        subject="data set",
        delta=stated.delta if stated else 1e-4,
        unit=lineage.unit,
        population=stated.population if stated else None,
    )
    promise = PromiseView("Promise of this set", statement.epsilon, (statement_html(statement),))
    return PatchesView(f"{title}: {dataset.info.name}", classes, promise, are_whole=are_whole)


@dataclass(frozen=True)
class AssessmentView:
    """The assessment of the study's synthetic set, as `sets.html.j2` shows it, or why it can't.

    `pairs` is the picture of its closest pairs as a data URI: it shows patients' images, so it is
    empty unless these may be shown.
    """

    assessment: Assessment | None = None
    problem: str = ""
    pairs: str = ""


def shown_assessment(study: Path, path: Path | None, *, show_real: bool) -> AssessmentView | None:
    """The assessment that the study names, None where it names none.

    It holds exact figures of patients, so a released study has none.
    """
    if path is None:
        return None
    folder = seen_from(study, path)
    try:
        assessment = read_assessment(folder)
    except InputError as error:
        return AssessmentView(problem=reason_of(error))
    file = folder / CLOSEST_PAIRS_FILE
    if not show_real or not file.is_file() or file.stat().st_size > MAX_PAIRS_BYTES:
        return AssessmentView(assessment)
    picture = base64.b64encode(file.read_bytes()).decode()
    return AssessmentView(assessment, pairs=f"data:image/png;base64,{picture}")

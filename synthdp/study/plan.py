"""What a study will promise, planned before any image is read."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from synthdp.data.dataset import open_dataset
from synthdp.data.description import read_info
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.plan import with_records
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.runs.folder import StageCall, spelled_as_started
from synthdp.stages import STAGES
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import GridRow, expand_grid, refuse_unfit_grid, refuse_unfit_sets
from synthdp.study.sweep.tuning import tuning_lineage


def plan_study(settings: StudySettings) -> Statement:
    """The promise of publishing all runs of the study, before any image is read.

    Raises:
        InputError: when the grid or an ingredient does not fit.
    """
    settings = spelled_as_started(settings.out, settings)
    refuse_unfit_sets(settings)
    rows = expand_grid(settings)
    refuse_unfit_grid(settings, rows)
    tuned_on = tuned_promise(settings, rows)
    planned: dict[Path, Lineage] = {}  # by folder: what later stages of a recipe start from
    for row in rows:
        for call in row.calls:
            if call.out not in planned:
                planned[call.out] = _planned(call, planned)
    return study_statement(settings, [*planned.values(), tuned_on.lineage])


def _planned(call: StageCall, to_come: Mapping[Path, Lineage]) -> Lineage:
    """What a call's result will descend from.

    Images that are drawn, and networks that are pretrained on these, add nothing to what their
    generator spent.
    """
    source = call.setting("run" if call.stage == "generate" else "data")
    if source in to_come:
        return to_come[source]
    statement = STAGES[call.stage].planned(call.settings, to_come)
    return statement.lineage if statement is not None else Lineage()


def tuned_promise(settings: StudySettings, rows: Sequence[GridRow]) -> Statement:
    """The promise behind tuned values, which descend from the sets that they are chosen on.

    Raises:
        InputError: when scores of a set may not choose among values, or its promise has another
            unit than the study.
    """
    lineage = Lineage()
    if settings.tune is not None:
        lineage = tuning_lineage(settings.sets, [call for row in rows for call in row.calls])
    return _statement(settings, lineage, "choice of tuned settings")


def study_statement(settings: StudySettings, lineages: Iterable[Lineage]) -> Statement:
    """The promise of publishing models of these lineages, and the patches that the report shows."""
    shown = [path for path in (settings.shown_synthetic, settings.phantoms) if path is not None]
    lineage = Lineage().joined([*lineages, *(read_info(path).lineage for path in shown)])
    statement = _statement(settings, lineage, "study, all of its runs published together")
    return with_records(statement, [open_dataset(settings.data)])


def _statement(settings: StudySettings, lineage: Lineage, subject: str) -> Statement:
    return make_statement(
        lineage,
        subject=subject,
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
    )

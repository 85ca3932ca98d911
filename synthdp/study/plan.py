"""What a study will promise, planned before any image is read."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from synthdp.data.dataset import open_dataset
from synthdp.data.description import read_info
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import refuse_overspent, with_records
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.runs.folder import StageCall, spelled_as_started
from synthdp.runs.to_come import AllToCome, ToCome
from synthdp.stages import STAGES
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import (
    GridRow,
    expand_grid,
    refuse_problems,
    refuse_unfit_grid,
    refuse_unfit_sets,
)
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
    planned = plan_calls(rows)
    refuse_overspent_sets(planned)
    lineages = [one.lineage for one in planned.values()]
    return study_statement(settings, [*lineages, tuned_on.lineage])


def plan_calls(rows: Sequence[GridRow], *, weights: bool = False) -> dict[Path, ToCome]:
    """What the calls of a study will make, by folder; each is planned after what it starts from.

    Args:
        rows: of the study.
        weights: whether files of public weights are looked for too.

    Raises:
        InputError: with all that stages would refuse in their runs, as far as settings and the
            public values of sets tell, by the strategy that asks for it.
    """
    planned, unfit, problems = dict[Path, ToCome](), dict[Path, str](), list[str]()
    for row in rows:
        for call in row.calls:
            if call.out not in planned and call.out not in unfit:
                try:
                    planned[call.out] = _planned(call, planned, weights=weights)
                except InputError as error:
                    unfit[call.out] = str(error)
            if call.out in unfit:  # nor can what starts from it be planned
                problems.append(f"{row.strategy}: {unfit[call.out]}")
                break
    refuse_problems(problems)
    return planned


def _planned(call: StageCall, to_come: AllToCome, *, weights: bool) -> ToCome:
    """What a call will make: a run or a set."""
    stage = STAGES[call.stage]
    statement = stage.planned(call.settings, to_come, weights=weights)
    stage.refuse_networks(call.settings, to_come)
    # images have the targets of their generator, a model those of what it learns
    source = call.setting("run") or call.setting("data")
    learned = to_come[source].targets if source in to_come else read_info(source).targets
    return ToCome(
        lineage=Lineage() if statement is None else statement.lineage,
        targets=call.setting("targets") or learned,
        settings=call.settings,
    )


def refuse_overspent_sets(planned: AllToCome) -> None:
    """Refuse runs that would together take a set's patients beyond its budget.

    Args:
        planned: of `plan_calls`.

    Raises:
        InputError: as `synthdp.privacy.promise.plan.refuse_overspent`.
    """
    of_sets = defaultdict[Path, dict[Path, Release]](dict)
    for out, one in planned.items():
        source = getattr(one.settings, "data", None)
        if source is None or source in planned:
            continue
        if read_info(source).protects_patients:  # then the run's own release is the last
            of_sets[source][out] = one.lineage.releases[-1]
    for source, releases in of_sets.items():
        refuse_overspent(open_dataset(source), releases)


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

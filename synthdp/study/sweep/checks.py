"""What a study asks for and cannot have, refused before anything runs.

Manifests and public facts of data sets are read for it, and no image.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from synthdp.data.columns import rows_where
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import read_assessment
from synthdp.evaluation.fairness import FairnessSettings, refuse_no_groups
from synthdp.stages import crosses_grid
from synthdp.study.settings import EvaluateOn, StudySettings, shown_entry
from synthdp.study.sweep.grid import GridRow, refuse_problems


def refuse_unfit_sets(settings: StudySettings) -> None:
    """Refuse sets that lack what their images are chosen, judged or shown by.

    Raises:
        InputError: when the assessment is missing or of another synthetic set, a set lacks a column
            of `fairness`, or a site has no image to train on or to be scored on.
    """
    if settings.assessment is not None and settings.synthetic is not None:
        assessed = read_assessment(settings.assessment).info
        if assessed != open_dataset(settings.synthetic).info:
            raise InputError(
                f"assessment: {settings.assessment.name!r} is of another synthetic set; name the "
                "one that `synthdp assess` made of this study's set, or leave it out"
            )
    if settings.fairness is not None:
        refuse_unfit_attributes(settings.fairness, settings.evaluation_sets)
    if settings.transfer is not None:
        _refuse_unfit_sites(settings)


def refuse_unfit_attributes(settings: FairnessSettings, sets: Iterable[EvaluateOn]) -> None:
    """Refuse columns that a set which models are scored on lacks, or that make no groups.

    Raises:
        InputError: with the columns that the set has.
    """
    for on in sets:
        dataset = open_dataset(on.data)
        rows = rows_where(dataset, dataset.split(on.split), on.where)
        refuse_no_groups(dataset, rows, settings)


def _refuse_unfit_sites(settings: StudySettings) -> None:
    paths: dict[str, Path] = {}  # of the sets that models are trained on, by name
    for strategy in settings.strategies:
        training_sets = settings.training_sets(strategy)
        if len({one.name for one in training_sets}) < len(training_sets):
            raise InputError(
                "transfer.data: two training sets have one name, so results could not tell them "
                "apart; import one under another name, or leave out one that is named already"
            )
        for one in training_sets:
            dataset = open_dataset(one.data)
            rows_where(dataset, dataset.split("train"), one.where)
            paths[dataset.info.name] = one.data.resolve()
    for on in settings.evaluation_sets:
        dataset = open_dataset(on.data)
        rows_where(dataset, dataset.split(on.split), on.where)
        if paths.get(dataset.info.name, on.data.resolve()) != on.data.resolve():
            raise InputError(
                f"evaluate_on: {dataset.info.name} is the name of another set that models are "
                "trained on, so the one would count as the other's site; import it under another "
                "name"
            )


def refuse_unfit_grid(settings: StudySettings, rows: Sequence[GridRow]) -> None:
    """Refuse a grid that asks for what it cannot give.

    Raises:
        InputError: with everything that is wrong: one set in two roles, a split that is not there,
            two sets of one name to score on, an epsilon that no strategy uses.
    """
    refuse_problems(
        [*_sets_in_two_roles(settings), *_unscorable_sets(settings), *_unused(settings, rows)]
    )


def _sets_in_two_roles(settings: StudySettings) -> Iterator[str]:
    roles = ("data", "synthetic", "private_synthetic")  # phantoms may stand for patients too
    named: dict[Path, str] = {}
    for role in roles:
        path = getattr(settings, role)
        if path is not None:
            first = named.setdefault(path.resolve(), role)
            if first != role:
                yield f"{role}: {path.name} is named as {first} already; keep one of the two"


def _unscorable_sets(settings: StudySettings) -> Iterator[str]:
    named: dict[tuple[str, str], EvaluateOn] = {}
    for index, on in enumerate(settings.evaluation_sets):
        try:
            dataset = open_dataset(on.data)
            dataset.split(on.split)
        except InputError as error:
            yield f"evaluate_on.{index}: {error}"
            continue
        first = named.setdefault((on.name, on.split), on)
        if first is on:
            continue
        if first.data.resolve() == on.data.resolve():
            yield f"evaluate_on: {on.name}, {on.split} stands twice; keep one"
        else:
            yield (
                f"evaluate_on.{index}: another set is called {dataset.info.name} too, so results "
                "could not tell them apart; import one under another name"
            )


def _unused(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    unused: list[float | None]
    if not any(crosses_grid(name) for name in settings.strategies):
        unused = [epsilon for epsilon in settings.epsilons if epsilon is not None]
        why = "no strategy of this study meets a patient again, so none is repeated for it"
    else:
        used = {row.epsilon for row in rows if crosses_grid(row.strategy)}
        unused = [epsilon for epsilon in settings.epsilons if epsilon not in used]
        why = "what its strategies start from has spent it already"
    if unused:
        yield f"epsilons: {', '.join(map(shown_entry, unused))}: {why}; leave it out"

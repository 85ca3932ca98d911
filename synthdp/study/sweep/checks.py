"""What a study asks for and cannot have, refused before anything runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from synthdp.data.columns import rows_where
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.assessment import read_assessment
from synthdp.stages import crosses_grid
from synthdp.study.compare.fairness import refuse_unfit_attributes
from synthdp.study.settings import EvaluateOn, StudySettings, shown_entry
from synthdp.study.sweep.grid import GridRow, refuse_problems


def refuse_contradictions(settings: StudySettings, rows: Sequence[GridRow]) -> None:
    """Refuse a grid that asks for what it cannot give, before anything runs.

    Raises:
        InputError: with every contradiction: a set that stands for two things, a split that is not
            there, two sets of one name to score on, an epsilon that no strategy uses.
    """
    refuse_problems([*_sets_twice(settings), *_unscorable(settings), *_unused(settings, rows)])


def refuse_unfit_sites(settings: StudySettings) -> None:
    """Refuse sites that have no image to train on or to be scored on; manifests are read alone.

    Raises:
        InputError: naming the set and what it lacks.
    """
    sets: dict[str, Path] = {}
    for strategy in settings.strategies:
        trained_at = settings.trained_at(strategy)
        if len({at.name for at in trained_at}) < len(trained_at):
            raise InputError(
                "transfer.data: two training sets have one name, so results could not tell them "
                "apart; import one under another name, or leave out one that is named already"
            )
        for at in trained_at:
            dataset = open_dataset(at.data)
            rows_where(dataset, dataset.split("train"), at.where)
            sets[dataset.info.name] = at.data.resolve()
    for place in settings.places:
        dataset = open_dataset(place.data)
        rows_where(dataset, dataset.split(place.split), place.where)
        if sets.get(dataset.info.name, place.data.resolve()) != place.data.resolve():
            raise InputError(
                f"evaluate_on: {dataset.info.name} is the name of another set that models are "
                "trained on, so the one would count as the other's site; import it under another "
                "name"
            )


def refuse_other_assessment(settings: StudySettings) -> None:
    """Refuse an assessment that is missing, or of another set than the study's."""
    if settings.assessment is None or settings.synthetic is None:
        return
    assessed = read_assessment(settings.assessment).info
    if assessed != open_dataset(settings.synthetic).info:
        raise InputError(
            f"assessment: {settings.assessment.name!r} is of another synthetic set; name the one "
            "that `synthdp assess` made of this study's set, or leave it out"
        )


def refuse_unfit_sets(settings: StudySettings) -> None:
    """Refuse sets that lack what their images are to be chosen or judged by."""
    if settings.fairness is not None:
        refuse_unfit_attributes(settings.fairness, settings.places)
    if settings.transfer is not None:
        refuse_unfit_sites(settings)


def _sets_twice(settings: StudySettings) -> Iterator[str]:
    roles = ("data", "synthetic", "private_synthetic")  # phantoms may stand for patients too
    named: dict[Path, str] = {}
    for role in roles:
        path = getattr(settings, role)
        if path is not None:
            first = named.setdefault(path.resolve(), role)
            if first != role:
                yield f"{role}: {path.name} is named as {first} already; keep one of the two"


def _unscorable(settings: StudySettings) -> Iterator[str]:
    names: dict[tuple[str, str], EvaluateOn] = {}
    for number, where in enumerate(settings.places):
        try:
            dataset = open_dataset(where.data)
            dataset.split(where.split)
        except InputError as error:
            yield f"evaluate_on.{number}: {error}"
            continue
        first = names.setdefault((where.name, where.split), where)
        if first is where:
            continue
        if first.data.resolve() == where.data.resolve():
            yield f"evaluate_on: {where.name}, {where.split} stands twice; keep one"
        else:
            yield (
                f"evaluate_on.{number}: another set is called {dataset.info.name} too, so results "
                "could not tell them apart; import one under another name"
            )


def _unused(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    crossed = {row.epsilon for row in rows if crosses_grid(row.strategy)}
    unused: list[float | None]
    if not any(crosses_grid(name) for name in settings.strategies):
        unused = [epsilon for epsilon in settings.epsilons if epsilon is not None]
        why = "no strategy of this study meets a patient again, so none is repeated for it"
    else:
        unused = [epsilon for epsilon in settings.epsilons if epsilon not in crossed]
        why = "what its strategies start from has spent it already"
    if unused:
        yield f"epsilons: {', '.join(map(shown_entry, unused))}: {why}; leave it out"

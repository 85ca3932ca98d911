"""A grid that asks for what it cannot give, refused before anything runs."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.stages import crosses_grid
from synthdp.study.grid import EvaluateOn, GridRow, StudySettings, refuse_problems, shown_entry


def refuse_contradictions(settings: StudySettings, rows: Sequence[GridRow]) -> None:
    """Refuse a grid that asks for what it cannot give, before anything runs.

    Raises:
        InputError: with every contradiction: a set that stands for two things, a split that is not
            there, two sets of one name to score on, an epsilon that no strategy uses.
    """
    refuse_problems([*_sets_twice(settings), *_unscorable(settings), *_unused(settings, rows)])


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
        if first is not where:
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

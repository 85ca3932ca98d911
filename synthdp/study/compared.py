"""What a study compares: with what, on which redraws, and at which thresholds.

Some differences are primary: they answer the study's questions, and are tested by themselves. Those
in the settings that a study was started with are registered: they were named before any result.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from synthdp.config.settings import ADDED_LATER, Names, Settings, validate_settings
from synthdp.config.yaml_core import read_yaml
from synthdp.errors import InputError
from synthdp.evaluation.settings import AT_SENSITIVITY, MARGIN, REDRAWS
from synthdp.privacy.settings import EpsilonTarget
from synthdp.storage.files import read_json
from synthdp.study.sets import EvaluateOn, share_of, share_words

#: In a study's folder: what a report needs beside the results, as the study ran.
FACTS_FILE = "study.json"


class FixedOn(Settings):
    """The split of a data set, by its name, that thresholds are fixed on."""

    data_set: str
    """Name of the set, as results call it. Example: cbis-ddsm"""

    split: str
    """Its split. Example: val"""


class PrimaryDifference(Settings):
    """One strategy less another, at the same epsilons and on the same shares of the patients."""

    strategy: str
    """The strategy. Example: private_synthetic_start"""

    against: str
    """The one that it is compared with. Example: real_only"""

    epsilons: tuple[EpsilonTarget, ...] = ()
    """Those of the study at which it counts; all when none is named. Example: [1, 6]"""

    shares: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    """Those of `cross_validation.shares` on which it counts; all when none is named.
    Example: [0.8]
    """

    @model_validator(mode="after")
    def _compares_two(self) -> "PrimaryDifference":
        if self.strategy == self.against:
            raise ValueError(
                f"{self.strategy} less itself is nothing to test; name another strategy as against"
            )
        return self


class ComparePlan(Settings):
    """What a study compares; `study.json` holds it."""

    reference: Names = ()
    """Strategies that every one is compared with; the first of the study when none is named.
    Example: [real_only]
    """

    primary: Annotated[tuple[PrimaryDifference, ...] | None, ADDED_LATER] = Field(
        default=None, min_length=1
    )
    """The differences that answer the study's questions, adjusted for one another alone. What a
    study is started with is registered: no later setting changes it.
    Example: [{strategy: private_synthetic_start, against: real_only}]
    """

    margin: float = Field(default=MARGIN, gt=0, lt=1)
    """A loss of less than this in AUROC counts as none."""

    redraws: int = Field(default=REDRAWS, ge=1, le=100_000)
    """How often patients are drawn for the intervals."""

    threshold_on: FixedOn | None = None
    """Where thresholds for `sensitivity` are fixed, to be applied to the other sets.
    Example: {data_set: cbis-ddsm, split: val}
    """

    sensitivity: float = Field(default=AT_SENSITIVITY, gt=0, lt=1)
    """Share of positives that these thresholds find there."""


class CompareSettings(ComparePlan):
    """What the study's recipes are compared with, and how."""

    # the plan names a set where the settings give its path; in all else they are the same
    threshold_on: EvaluateOn | None = None  # type: ignore[assignment]
    """One of `evaluate_on`, where each run's threshold for `sensitivity` is fixed: exactly, so that
    its patients are outside every promise.
    Example: {data: data/cbis-ddsm, split: val}
    """

    @property
    def plan(self) -> ComparePlan:
        """The same, with the data set by its name instead of its path."""
        on = self.threshold_on
        fixed_on = FixedOn(data_set=on.name, split=on.split) if on is not None else None
        return ComparePlan(**{**dict(self), "threshold_on": fixed_on})


def unknown_reference(reference: Sequence[str], strategies: Collection[str]) -> str:
    """What is wrong with strategies to compare with, in words; empty when all are the study's."""
    unknown = [name for name in reference if name not in strategies]
    if not unknown:
        return ""
    return (
        f"compare.reference: {', '.join(unknown)}: not among this study's strategies "
        f"({', '.join(strategies)})"
    )


# The primary differences, one by one.


@dataclass(frozen=True)
class ComparedGrid:
    """What a study has to compare.

    level: the strategies that have one cell each, since they meet no patient; epsilons and parts:
    those of the others, a part being what results say that models were trained on (empty where all
    were trained on the same).
    """

    strategies: tuple[str, ...]
    level: frozenset[str]
    epsilons: tuple[float | None, ...]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class PrimaryCell:
    """A primary difference at one epsilon, of models that were trained on one part."""

    strategy: str
    against: str
    epsilon: float | None
    trained_on: str


def primary_cells(
    primary: Sequence[PrimaryDifference] | None, grid: ComparedGrid
) -> Iterator[PrimaryCell]:
    """The differences one by one: in the order of the list, then by part and epsilon.

    Two strategies that meet no patient are compared once, whatever epsilons and shares are named.
    """
    for one in primary or ():
        parts = tuple(map(share_words, one.shares)) or grid.parts
        epsilons = one.epsilons or grid.epsilons
        if {one.strategy, one.against} <= grid.level:
            parts, epsilons = ("",), (None,)
        for trained_on, epsilon in product(parts, epsilons):
            yield PrimaryCell(one.strategy, one.against, epsilon, trained_on)


def unfit_primary(primary: Sequence[PrimaryDifference] | None, grid: ComparedGrid) -> str:
    """What is wrong with primary differences, in words; empty when the study has all of them."""
    for one in primary or ():
        kinds = (
            ("strategies", (one.strategy, one.against), grid.strategies),
            ("epsilons", map(_epsilon_words, one.epsilons), map(_epsilon_words, grid.epsilons)),
            ("shares", map(share_words, one.shares), filter(share_of, grid.parts)),
        )
        for kind, named, known in kinds:
            there = tuple(known)
            if unknown := [name for name in named if name not in there]:
                return (
                    f"compare.primary: {one.strategy} less {one.against}: {', '.join(unknown)}: "
                    f"not among this study's {kind} ({', '.join(there) or 'it names none'})"
                )
    # one strategy less another and the other less the one are one test
    count = Counter(
        (frozenset((one.strategy, one.against)), one.epsilon, one.trained_on)
        for one in primary_cells(primary, grid)
    )
    for (pair, epsilon, trained_on), times in count.items():
        if times > 1:
            at = ", ".join(word for word in (_epsilon_words(epsilon), trained_on) if word)
            return (
                f"compare.primary: {' and '.join(sorted(pair))} are compared {times} times at "
                f"{at}; keep one"
            )
    return ""


def _epsilon_words(epsilon: float | None) -> str:
    return "epsilon none" if epsilon is None else f"epsilon {epsilon:g}"


def registered_differences(study: Path) -> tuple[PrimaryDifference, ...]:
    """The primary differences in the settings that a study was started with.

    None where these name none or can't be read; nor where `study.json`, which a study that has run
    leaves beside its results, names others: then somebody has written them into the settings since.
    """
    with suppress(InputError):
        settings, facts = read_yaml(study / "config.yaml"), study / FACTS_FILE
        registered = _primary_in(settings) or ()
        about = read_json(facts) if facts.is_file() else None
        if isinstance(about, dict) and "compare" in about:
            return registered if (_primary_in(about) or ()) == registered else ()
        return registered
    return ()


def _primary_in(written: Mapping[str, Any]) -> tuple[PrimaryDifference, ...] | None:
    """The primary differences in a file that holds what a study compares, if it names any."""
    compare = written.get("compare")
    if not isinstance(compare, Mapping) or compare.get("primary") is None:
        return None
    plan = {"primary": compare["primary"]}
    return validate_settings(ComparePlan, plan, where="compare").primary

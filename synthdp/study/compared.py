"""What a study compares: with what, on which redraws, and at which thresholds."""

from collections.abc import Collection, Sequence

from pydantic import Field

from synthdp.config.settings import Names, Settings
from synthdp.evaluation.settings import AT_SENSITIVITY, MARGIN, REDRAWS
from synthdp.study.sets import EvaluateOn


class FixedOn(Settings):
    """The split of a data set, by its name, that thresholds are fixed on."""

    data_set: str
    """Name of the set, as results call it. Example: cbis-ddsm"""

    split: str
    """Its split. Example: val"""


class ComparePlan(Settings):
    """What a study compares; `study.json` holds it."""

    reference: Names = ()
    """Strategies that every one is compared with; the first of the study when none is named.
    Example: [real_only]
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

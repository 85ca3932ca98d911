"""What a study compares: with what, on which redraws, and at which thresholds."""

from collections.abc import Collection, Sequence

from pydantic import Field

from synthdp.config import Names, Settings
from synthdp.evaluation.metrics import AT_SENSITIVITY
from synthdp.evaluation.statistics import REDRAWS

MARGIN = 0.05


class FixedOn(Settings):
    """The split of a data set, by its name, that thresholds are fixed on."""

    data_set: str
    split: str


class ComparePlan(Settings):
    """What a study compares; `study.json` holds it.

    Every strategy is compared with each of `reference` (none named: the first strategy). A loss of
    less than `margin` in AUROC counts as none. `redraws` is how often patients are drawn. With
    `threshold_on`, thresholds that find a share `sensitivity` there are applied to the other sets.
    """

    reference: Names = ()
    margin: float = Field(default=MARGIN, gt=0, lt=1)
    redraws: int = Field(default=REDRAWS, ge=1, le=100_000)
    threshold_on: FixedOn | None = None
    sensitivity: float = Field(default=AT_SENSITIVITY, gt=0, lt=1)


def unknown_reference(reference: Sequence[str], strategies: Collection[str]) -> str:
    """What is wrong with strategies to compare with, in words; empty when all are the study's."""
    unknown = [name for name in reference if name not in strategies]
    if not unknown:
        return ""
    return (
        f"compare.reference: {', '.join(unknown)}: not among this study's strategies "
        f"({', '.join(strategies)})"
    )

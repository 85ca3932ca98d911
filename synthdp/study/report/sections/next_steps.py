"""What to do after a study of phantoms, for `next.html.j2`: the way of one's own images."""

from collections.abc import Sequence
from dataclasses import dataclass

from synthdp.data.looks.pose import shows_chests
from synthdp.study.record import SetFacts

_AFTER = (
    "synthdp report STUDY --format pdf    # the figures of a study, at a journal's size; --format "
    "latex: its table",
    "synthdp privacy STUDY    # what was promised to each patient, in words to sign",
)
_WRITES = "# looks at your folders, and writes settings and a README of what to run"


@dataclass(frozen=True)
class NextSteps:
    """images: what phantoms say nothing about, in words; commands: what a hospital runs itself."""

    images: str
    commands: tuple[str, ...]


def next_steps(sets: Sequence[SetFacts]) -> NextSteps | None:
    """The next steps of a study whose patients are phantoms; None for any other.

    Args:
        sets: those of the study.
    """
    for one in sets:
        if one.kind == "phantom" and one.stands_for_patients and "training" in one.roles:
            images, own, more = _own_images(one)
            return NextSteps(images, (f"synthdp init mine {own}    {_WRITES}", *more, *_AFTER))
    return None


def _own_images(drawn: SetFacts) -> tuple[str, str, tuple[str, ...]]:
    """Words for images as a set has drawn them, what `init` is told of one's own, what else runs.

    Words of a command line are those of a target's or a column's name; a page escapes them.
    """
    if drawn.depth is not None:
        return "scans", "--images my-scans --volumes", ()
    if shows_chests(drawn.targets):
        table = f"--images my-images --table labels.csv --target {','.join(drawn.targets)}"
        return "radiographs", table, ()
    generated = (
        "synthdp generate pretrained:cbis-selected6 --out data/synthetic --per-class 300    "
        "# synthetic patches with a promise, now"
    )
    return "mammograms", "--images my-patches", (generated,)

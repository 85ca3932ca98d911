"""What the statement of a release says of figures in it that no promise covers."""

from collections.abc import Sequence

from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.units import CROSS_VALIDATED

#: Splits whose patients trained the models: an exact score of theirs stays in the house.
TRAINED_ON = ("train", "all", CROSS_VALIDATED)


#: Of rows of a study that were chosen by name, after it was scored on patients.
CHOICE = (
    "which rows of the study are here: whoever chose them may have looked at exact scores of "
    "patients, of which the choice then tells"
)
#: By what words of a former release are known, whose figures may be in it alone.
_BY_NAME = "in this release because"


def with_uncovered(statement: Statement, words: Sequence[str]) -> Statement:
    """The statement that says of these things in the release that no promise covers them.

    What it said of exact figures in a former release, of which this one is made, it says no more.
    """
    kept = [one for one in statement.not_covered if _BY_NAME not in one]
    named = tuple(dict.fromkeys([*kept, *words]))
    return statement.model_copy(update={"not_covered": named})


def exact_words(splits: Sequence[str], *, scores: bool, counts: bool) -> list[str]:
    """What the statement says of exact figures that leave because somebody asked for them.

    Args:
        splits: of patients, as in `clinic (val)`.
        scores: whether their exact scores leave.
        counts: whether it leaves how many there are.
    """
    words, of = [], ", ".join(dict.fromkeys(splits))
    if of and scores:
        words.append(
            f"exact scores of the patients of {of}, which are {_BY_NAME} they were asked for by "
            "name (how many patients there are can be worked out from them)"
        )
    if of and counts:
        words.append(
            f"how many images and patients of {of} were scored, which is {_BY_NAME} it was asked "
            "for by name"
        )
    return words

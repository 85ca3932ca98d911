"""What the statement of a release says of figures in it that no promise covers."""

from collections.abc import Sequence

from synthdp.privacy.promise.statement import Statement

#: Splits whose patients trained the models: an exact score of theirs stays in the house.
TRAINED_ON = ("train", "all")


def with_uncovered(statement: Statement, words: Sequence[str]) -> Statement:
    """The statement that says of these things in the release that no promise covers them."""
    named = tuple(dict.fromkeys([*statement.not_covered, *words]))
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
            f"exact scores of the patients of {of}, which are in this release because they were "
            "asked for by name (how many patients there are can be worked out from them)"
        )
    if of and counts:
        words.append(
            f"how many images and patients of {of} were scored, which is in this release because "
            "it was asked for by name"
        )
    return words

"""One model with its promise, its card and its list of files: a released run."""

from collections.abc import Collection, Sequence
from pathlib import Path

from synthdp.config.card_file import HUB_CARD
from synthdp.errors import InputError
from synthdp.privacy.promise.stated import noisy_statement
from synthdp.privacy.promise.statement import Statement, joined_statement
from synthdp.privacy.promise.uncovered import TRAINED_ON, exact_words, with_uncovered
from synthdp.releases.card import RESULT, CardParts, released_card
from synthdp.releases.contents import (
    CONTENTS_FILE,
    INCLUDABLE,
    Contents,
    read_contents,
    write_contents,
)
from synthdp.releases.copies.runs import (
    PROMISE,
    card_of,
    copy_config,
    copy_model,
    copy_promise,
    released_status,
)
from synthdp.runs.cards import section_text
from synthdp.runs.evaluations import ScoredSplit, read_evaluation
from synthdp.stages import make_compact
from synthdp.storage.files import write_atomic, write_json


def copy_run(
    run: Path,
    folder: Path,
    *,
    include: Collection[str] = (),
    evidence: Sequence[Path] = (),
    licence: str = "",
    compact: bool = False,
) -> Statement:
    """Copy a finished run into the folder of its release.

    A noisy AUROC that the card shows was paid for by itself: the statement then counts it too.

    Args:
        run: of a classifier or a generator.
        folder: of the release.
        include: `scores` and `counts` of patients, where the card may show them.
        evidence: evaluations of the run.
        licence: of the model's own weights.
        compact: writes which phantoms a generator keeps in the place of their images.

    Raises:
        InputError: when the run is not as its stage wrote it, an evaluation is of another one,
            what is included stands in none of them, or the model can't be made compact.
    """
    results = [read_evaluation(Path(one), run) for one in evidence]
    statement = _with_noisy(copy_promise(run, folder), evidence, results)
    exact, counts = "scores" in include, "counts" in include
    of_patients = [one for one in results if one.of_patients]
    if (exact or counts) and not of_patients:
        raise InputError(
            "--include: names figures of patients, and no evaluation of the run on patients was "
            "named with --evidence"
        )
    statement = with_uncovered(statement, _exact_words(of_patients, exact=exact, counts=counts))
    write_json(folder / PROMISE, statement.model_dump(mode="json"))
    copy_config(run, folder)
    copy_model(run, folder)
    if compact:
        make_compact(run, folder)
    before = _before(run)
    stage = str(released_status(run)["stage"])
    parts = CardParts(
        stage=stage,
        licence=licence or ("" if before is None else before.licence),
        results=results,
        exact=exact,
        counts=counts,
        kept_result=_kept_result(run),
    )
    write_atomic(folder / HUB_CARD, released_card(card_of(run), statement, folder, parts))
    write_contents(
        folder,
        stage=stage,
        included=tuple(one for one in INCLUDABLE if one in include),
        licence=parts.licence,
    )
    return statement


def _with_noisy(
    statement: Statement, evidence: Sequence[Path], results: Sequence[ScoredSplit]
) -> Statement:
    """The statement of the model and of the noisy figures that its card shows."""
    noisy = [
        noisy_statement(Path(folder))
        for folder, one in zip(evidence, results, strict=True)
        if one.noisy is not None
    ]
    if not noisy:
        return statement
    together = joined_statement([statement, *noisy], subject=statement.subject)
    stage = {"epsilon_stage": statement.epsilon_stage, "risk": statement.risk}
    return together.model_copy(update=stage)


def _exact_words(results: Sequence[ScoredSplit], *, exact: bool, counts: bool) -> list[str]:
    """What the statement says of exact figures that leave because somebody asked for them.

    Raises:
        InputError: when scores are of a split that patients were trained on.
    """
    if exact and any(one.split in TRAINED_ON for one in results):
        raise InputError(
            "--include scores: an evaluation is of a split that patients were trained on, which "
            "the promise does not allow; name one of another split"
        )
    splits = [f"{one.data_set} ({one.split})" for one in results]
    return exact_words(splits, scores=exact, counts=counts)


def _before(run: Path) -> Contents | None:
    """What `release.json` said of a run that was released before."""
    return read_contents(run) if (run / CONTENTS_FILE).is_file() else None


def _kept_result(run: Path) -> str:
    """The result on the card of a run that was released before, unless it holds exact figures."""
    before = _before(run)
    if before is None or before.included:
        return ""
    return section_text(card_of(run), RESULT).partition("\n\n")[0]

"""A release: what may leave of a run, a study or a data set, in a folder that works by itself.

Every file is on a list; whatever is not stays. What stays, and why:

- `private/` and locks: checkpoints, ledgers, keys, keyed digests, counts, predictions;
- times (of `status.json`, and in a study's report): they grow with the number of images, which is
  private; a released status names stage, release and versions alone;
- paths: a folder may be named after a hospital or a patient, so that settings name a data set as it
  calls itself, and of all else nothing;
- exact scores and counts of patients, since no promise covers them: in tables, report and card they
  are blank, unless `scores` or `counts` is included by name, which the statement then says;
- scores of a split that patients were trained on: the promise covers these patients, and an exact
  score of them is outside it, so that they are refused even by name;
- rows of a study that promise nothing, unless they are named; and failed runs, whose failing may
  depend on a patient;
- the assessment of a synthetic set, and its section in a study's report: exact figures of the
  patients that the generator learnt from;
- images of patients, and a study's picture gallery: a synthetic set leaves by itself, with its own
  statement.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from synthdp.data.dataset import Dataset, described_dataset, open_dataset
from synthdp.data.description import is_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger.left import Left
from synthdp.privacy.promise.plan import named_sets
from synthdp.privacy.promise.statement import Statement
from synthdp.releases.contents import INCLUDABLE, read_contents, release_id, write_contents
from synthdp.releases.copies.datasets import copy_dataset
from synthdp.releases.copies.models import copy_run
from synthdp.releases.copies.rows import Selection, parse_selection
from synthdp.releases.copies.runs import STATUS, WEIGHTS, released_status
from synthdp.releases.copies.studies import RUNS, copy_study
from synthdp.releases.files import paths_in, refuse_paths
from synthdp.releases.record import Noting, noting, today
from synthdp.runs.inputs import made_from
from synthdp.storage.files import atomic_folder

_DATA_SET = "data set"


@dataclass(frozen=True)
class Asked:
    """What is asked of a release beyond what always leaves.

    include: `scores`, `counts` and `models`, by name; rows: of a study, in the words of
    `parse_selection`; evidence: evaluations of a run, whose results the card shows; licence: of the
    model's own weights; without_protection: that a release whose epsilon is infinite may leave;
    record: data sets of patients that are to note it, beside those that the settings name; compact:
    that a generator which keeps phantoms leaves as which ones they are, without their images.
    """

    include: Sequence[str] = ()
    rows: Sequence[str] = ()
    evidence: Sequence[Path] = ()
    licence: str = ""
    without_protection: bool = False
    record: Sequence[Path] = ()
    compact: bool = False

    def __post_init__(self) -> None:
        unknown = sorted({*self.include} - {*INCLUDABLE})
        if unknown:
            raise InputError(f"--include: {unknown[0]!r} is none of {', '.join(INCLUDABLE)}")


@dataclass(frozen=True)
class Released:
    """What left: its statement, what it is called on record, and the patients' sets by name that
    its lineage names and that could not note it, since they are not at hand."""

    statement: Statement
    id: str
    unrecorded: tuple[str, ...]


def release(original: Path, out: Path, asked: Asked = Asked()) -> Statement:
    """As `release_folder`; returns the statement under which it leaves."""
    return release_folder(original, out, asked).statement


def release_folder(original: Path, out: Path, asked: Asked) -> Released:
    """Copy what may leave of a folder into the new folder `out`, which appears only when whole.

    Args:
        original: a finished run of a stage of `WEIGHTS`, a finished study, or a synthetic or
            phantom data set.
        out: a folder that is not there yet, or empty, or holds the very same release.
        asked: what is included by name, which rows, and what may leave unprotected.

    Guarantee: the files are a function of what the returned statement covers, of public facts, and
    of what it names as not covered because it was asked for. When the folder appears, each set of
    patients at hand has it on record.

    Raises:
        InputError: when the original is unfinished, holds patients' images or unexpected files,
            promises nothing while `without_protection` is not set, what is asked for does not fit
            it, or `out` is taken.
    """
    original, out = Path(original), Path(out)
    with atomic_folder(out, again=True) as folder:
        statement, to_note = prepared_release(original, folder, out.resolve().name, asked)
        to_note.note()
    return Released(statement, to_note.left.id, to_note.unrecorded)


def prepared_release(
    original: Path, folder: Path, called: str, asked: Asked
) -> tuple[Statement, Noting]:
    """Copy what may leave into an empty folder; it is not on record before it is noted.

    Args:
        original: as `release_folder` takes it.
        folder: which is there, and is not given away before what is returned was noted.
        called: where it will be, for the record.
        asked: as `release_folder` takes it.

    Raises:
        InputError: as `release_folder`.
    """
    statement = _copier(original)(original, folder, asked)
    _refuse_unprotected(original, statement, asked)
    refuse_paths(folder, paths_in(original))
    sets = [*_sets_behind(original), *_sets_named(asked)]
    return statement, noting_of(folder, called, statement, sets)


def noting_of(
    folder: Path, called: str, statement: Statement, datasets: Sequence[Dataset]
) -> Noting:
    """How a whole release goes on record at those of `datasets` whose patients it descends from.

    Raises:
        InputError: as `noting`.
    """
    left = Left(
        id=release_id(folder),
        folder=called,
        subject=statement.subject,
        epsilon=statement.epsilon,
        delta=statement.delta,
        counted=tuple(one.id for one in statement.lineage.releases),
        included=read_contents(folder).included,
        day=today(),
    )
    there = {dataset.root.resolve(): dataset for dataset in datasets}
    return noting(there.values(), statement, left)


def _sets_behind(original: Path) -> list[Dataset]:
    """The data sets of patients behind a folder that can be found: from its settings, those of its
    runs, and of the runs and sets that each was made from."""
    sets: list[Dataset] = []
    seen: set[Path] = set()
    left = [original, *sorted(path for path in original.glob(f"{RUNS}/*") if path.is_dir())]
    while left:
        part = left.pop(0)
        if part.resolve() in seen:
            continue
        seen.add(part.resolve())
        sets += named_sets(part)
        left += made_from(part)
    return sets


def _sets_named(asked: Asked) -> list[Dataset]:
    return [described_dataset(Path(path)) for path in asked.record]


def _refuse_unprotected(original: Path, statement: Statement, asked: Asked) -> None:
    if math.isfinite(statement.epsilon) or asked.without_protection:
        return
    raise InputError(
        f"{original.name}: its epsilon is infinite ({statement.because}): whoever receives it may "
        "find patients in it. Release a private one, or, if the patients' data may be given away "
        "like this, say so with --yes-without-protection"
    )


def _copier(original: Path) -> Callable[[Path, Path, Asked], Statement]:
    """What copies a folder of this kind, given it, the new folder, and what is asked."""
    if (original / STATUS).is_file():
        stage = released_status(original)["stage"]
        if stage == "study":
            return _release_study
        if stage in WEIGHTS:
            return _release_run
        raise InputError(
            f"{original}: a run of {stage!r}, which has nothing to release; name a run of "
            f"{', '.join(WEIGHTS)}, a study or a data set"
        )
    if is_dataset(original):
        return _release_dataset
    raise InputError(f"{original}: neither a run, a study nor a data set, so nothing was released")


def _release_run(run: Path, folder: Path, asked: Asked) -> Statement:
    _refuse_for("a run", rows=asked.rows, others="models" in asked.include)
    return copy_run(
        run,
        folder,
        include=asked.include,
        evidence=asked.evidence,
        licence=asked.licence,
        compact=asked.compact,
    )


def _release_study(study: Path, folder: Path, asked: Asked) -> Statement:
    if asked.evidence:
        raise InputError("--evidence: goes with a run; a study has its own results")
    _refuse_compact("a study", asked)
    selection: Selection = parse_selection(asked.rows)
    statement, runs = copy_study(study, folder, selection, asked.include)
    if "models" in asked.include:
        for run in runs:
            copy_run(study / RUNS / run, folder / RUNS / run, licence=asked.licence)
    write_contents(
        folder,
        stage="study",
        included=tuple(one for one in INCLUDABLE if one in asked.include),
        licence=asked.licence,
    )
    return statement


def _release_dataset(root: Path, folder: Path, asked: Asked) -> Statement:
    _refuse_for("a data set", rows=asked.rows, others=bool(asked.include or asked.evidence))
    _refuse_compact("a data set", asked)
    statement = copy_dataset(root, folder)
    info = open_dataset(folder).info
    write_contents(folder, stage=_DATA_SET, licence=info.licence)
    return statement


def _refuse_for(what: str, *, rows: Sequence[str], others: bool) -> None:
    """Refuse what a folder of this kind has not: rows, or figures and models by name."""
    if rows:
        raise InputError(f"--rows: chooses rows of a study, and this is {what}; leave it out")
    if others:
        raise InputError(f"--include, --evidence: {what} has nothing of the kind; leave it out")


def _refuse_compact(what: str, asked: Asked) -> None:
    if asked.compact:
        raise InputError(f"--compact: goes with the run of a generator, and this is {what}")

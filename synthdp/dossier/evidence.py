"""What commands wrote down about a run, a study or a set: read, and found to be of that very thing.

Nothing is worked out here that no command has made. An audit or an evaluation of something else is
refused, so that a dossier shows no attack that another model withstood.
"""

import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import open_dataset
from synthdp.data.description import is_dataset
from synthdp.dossier.audits import Audit, read_audits, release_of
from synthdp.errors import InputError
from synthdp.evaluation.assessment import QUALITY_FILE, Assessment, read_assessment
from synthdp.evaluation.predictions import METRICS_FILE
from synthdp.privacy.lineage import Release
from synthdp.privacy.noisy_sum.noise import KEY_FILE
from synthdp.privacy.promise.dossier import DossierSubject
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.evaluations import ScoredSplit, is_of_another, read_evaluation
from synthdp.status import STATUS_FILE, RunStatus, read_status
from synthdp.storage.files import read_json
from synthdp.storage.paths import settings_without_paths, without_paths
from synthdp.study.compare.aurocs import ComparisonRow, read_comparisons
from synthdp.study.compare.fairness import FAIRNESS_FILE, FairnessRow, read_fairness
from synthdp.study.compare.results import RESULTS_FILE, ResultRow, headline_rows, read_results
from synthdp.study.compared import FACTS_FILE
from synthdp.study.record import SetFacts, private_part, read_record, read_sets
from synthdp.study.sweep.grid import evaluation_folder

#: Settings of a stage that name the run which it goes on from.
_ANCESTORS = ("run", "init")


@dataclass(frozen=True)
class StudyTables:
    """The tables of a study: every model on every set, and groups where they were judged.

    private_part: the promise of publishing its runs with a finite epsilon alone; None without any.
    compared: its comparisons, which have the intervals to cite.
    """

    rows: tuple[ResultRow, ...]
    groups: tuple[FairnessRow, ...]
    private_part: Statement | None
    compared: tuple[ComparisonRow, ...] = ()


@dataclass(frozen=True)
class Access:
    """How `private/` stands on this disk: there at all, closed to others, without a noise key."""

    there: bool
    closed: bool
    key_left: bool


@dataclass(frozen=True)
class Evidence:
    """All that a dossier is made of.

    settings: of config.yaml, each path cut to its last part; sets: the public facts of those that
    the settings name and that are at hand; stale: audits of another training, by run.
    """

    subject: DossierSubject
    statement: Statement
    settings: Mapping[str, Any]
    sets: tuple[SetFacts, ...]
    access: Access
    audits: tuple[Audit, ...]
    stale: tuple[str, ...]
    evaluations: tuple[ScoredSplit, ...]
    assessments: tuple[Assessment, ...]
    tables: StudyTables | None

    @property
    def releases(self) -> tuple[Release, ...]:
        """Every release that the statement counts."""
        return self.statement.lineage.releases


def read_evidence(original: Path, beside: Sequence[Path] = ()) -> Evidence:
    """Read what commands wrote about `original`, and what is named beside it.

    Args:
        original: a finished run or study, or a synthetic or phantom data set.
        beside: evaluations of the run or the study that it is a part of, assessments of the set,
            and runs that it descends from.

    Raises:
        InputError: when it is none of these, holds patients' images, or something beside it is of
            another model or set.
    """
    original = Path(original)
    status = read_status(original)
    if status is None and not is_dataset(original):
        raise InputError(
            f"{original}: neither a run, a study nor a data set, so there is nothing to make a "
            "dossier of"
        )
    subject = _set_subject(original) if status is None else _run_subject(original, status)
    statement = statement_of([original])
    settings = _settings_of(original)
    assessments, evaluations, runs = _sorted_out(original, subject, beside)
    audits, stale = read_audits(
        [original, *_ancestor_runs(original), *runs, *_runs_of_study(original, subject)], statement
    )
    for run in runs:
        if release_of(run) not in {release.id for release in statement.lineage.releases}:
            raise InputError(f"{run}: {original.name} does not descend from it; name an ancestor")
    return Evidence(
        subject=subject,
        statement=statement,
        settings=settings_without_paths(settings),
        sets=() if status is None else read_sets(original),
        access=_access(original / "private"),
        audits=audits,
        stale=stale,
        evaluations=evaluations,
        assessments=assessments,
        tables=_tables(original) if subject.kind == "study" else None,
    )


def _run_subject(run: Path, status: RunStatus) -> DossierSubject:
    is_study = status.stage == "study"
    title = ""
    if is_study and (run / FACTS_FILE).is_file():
        facts = read_json(run / FACTS_FILE)
        title = str(facts.get("title", "")) if isinstance(facts, dict) else ""
    return DossierSubject(
        kind="study" if is_study else "run",
        stage=status.stage,
        name=run.resolve().name,
        title=without_paths(title),
        versions=dict(status.versions),
    )


def _set_subject(root: Path) -> DossierSubject:
    info = open_dataset(root).info
    if info.protects_patients:
        raise InputError(
            f"{info.name}: holds patients' images (or phantoms made to stand for them), which "
            "promise nothing; make a dossier of a model or a synthetic set made from them, and see "
            f"what is on record with `synthdp privacy {root.name}`"
        )
    if info.kind == "public":
        raise InputError(
            f"{info.name}: is a public set, whose patients nothing protects, so that there is no "
            "promise to make a dossier of; make one of what was trained on it"
        )
    return DossierSubject(kind="data set", stage=f"{info.kind} data set", name=info.name)


def _settings_of(original: Path) -> Mapping[str, Any]:
    return read_yaml(original / "config.yaml") if (original / "config.yaml").is_file() else {}


def _sorted_out(
    original: Path, subject: DossierSubject, beside: Sequence[Path]
) -> tuple[tuple[Assessment, ...], tuple[ScoredSplit, ...], list[Path]]:
    """What was named beside the original, by what it is."""
    assessments: list[Assessment] = []
    evaluations: list[ScoredSplit] = []
    runs: list[Path] = []
    for path in map(Path, beside):
        if (path / RESULTS_FILE).is_file():
            evaluations += _evaluations_in(path, original)
        elif (path / QUALITY_FILE).is_file():
            assessments.append(_assessment_of(path, original, subject))
        elif (path / METRICS_FILE).is_file():
            evaluations.append(read_evaluation(path, original))
        elif (path / STATUS_FILE).is_file():
            runs.append(path)
        else:
            raise InputError(
                f"{path}: neither an evaluation, an assessment nor a run, so it is no evidence"
            )
    return tuple(assessments), tuple(evaluations), runs


def _assessment_of(folder: Path, original: Path, subject: DossierSubject) -> Assessment:
    assessment = read_assessment(folder)
    other = subject.kind != "data set" or assessment.info != open_dataset(original).info
    if other or is_of_another(folder, "synthetic", original):
        raise InputError(
            f"{folder}: an assessment of {assessment.info.name}, not of {original.name}; name one "
            "of this very set"
        )
    return assessment


def _evaluations_in(study: Path, original: Path) -> Iterator[ScoredSplit]:
    """What a study scored of the run, which is one of its runs."""
    every = headline_rows(read_results(study / RESULTS_FILE))
    rows = [row for row in every if row.run == original.name]
    if not rows or (study / "runs" / original.name).resolve() != original.resolve():
        raise InputError(f"{study}: a study that {original} is no run of; name its own")
    for row in rows:
        yield read_evaluation(evaluation_folder(study, row.run, row.data_set, row.split), original)


def _ancestor_runs(original: Path) -> Iterator[Path]:
    """The runs that the settings go on from, where they are still at hand."""
    settings = _settings_of(original)
    for key in _ANCESTORS:
        named = settings.get(key)
        if isinstance(named, str) and (Path(named) / STATUS_FILE).is_file():
            yield Path(named)


def _runs_of_study(original: Path, subject: DossierSubject) -> list[Path]:
    if subject.kind != "study":
        return []
    return sorted(path.parent for path in (original / "runs").glob(f"*/{STATUS_FILE}"))


def _access(private: Path) -> Access:
    if not private.is_dir():
        return Access(there=False, closed=True, key_left=False)
    return Access(
        there=True,
        closed=not stat.S_IMODE(private.stat().st_mode) & 0o077,
        key_left=(private / KEY_FILE).exists(),
    )


def _tables(study: Path) -> StudyTables:
    rows = read_results(study / RESULTS_FILE)
    groups = read_fairness(study / FAIRNESS_FILE) if (study / FAIRNESS_FILE).is_file() else []
    return StudyTables(
        tuple(rows),
        tuple(groups),
        private_part(read_record(study, rows)),
        compared=read_comparisons(study).aurocs,
    )

"""What a stage will spend on patients, and promise of what it makes: decided before any image.

What its ancestors spent on the same patients is taken off the target, the mechanism is calibrated
to the rest, and the release that comes of it stands on top of what was spent before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from synthdp.config.yaml_core import read_yaml
from synthdp.data.dataset import Dataset, described_dataset
from synthdp.data.description import DatasetInfo, is_dataset
from synthdp.data.importing.note import refuse_moved_patients, refuse_units_of_crops
from synthdp.data.people.units import refuse_unknown_image_counts
from synthdp.errors import InputError
from synthdp.privacy.accounting.privacy_loss import NO_LOSS, PrivacyLoss
from synthdp.privacy.ledger.run_ledger import Ledger, Terms
from synthdp.privacy.ledger.set_record import Record
from synthdp.privacy.lineage import Cohort, Lineage, Release
from synthdp.privacy.mechanism import Mechanism, refuse_too_much_noise
from synthdp.privacy.promise.stated import NOISY_FILE, noisy_statement, read_statement
from synthdp.privacy.promise.statement import (
    OnRecord,
    Statement,
    fitting_delta,
    joined_statement,
    make_statement,
    refuse_unstatable,
)
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.target import Target
from synthdp.privacy.units import Part, Unit
from synthdp.status import read_status

UNPROTECTED_NOTE = "trained without differential privacy"
FIXED_NOISE_NOTE = "noise from a fixed key, for tests"


@dataclass(frozen=True)
class PrivacyPlan:
    """What one stage will spend on the patients of a data set, and promise of its result.

    ancestors: what the result descends from beside this stage; before: what was taken off for them;
    release: the stage's own, with its full budget; target: what was asked for, None for nothing;
    subject, delta and population: as the statement gives them.
    """

    dataset: Dataset
    ancestors: Lineage
    before: PrivacyLoss
    release: Release
    subject: str
    target: Target | None
    delta: float
    population: int | None

    @property
    def counted(self) -> bool:
        """Whether the rows are patients, so that the release is counted."""
        return self.dataset.info.protects_patients

    @property
    def mechanism(self) -> Mechanism | None:
        """How the stage protects its patients; None where it does not."""
        return self.release.mechanism

    @cached_property
    def stage_epsilon(self) -> float:
        """Epsilon of the mechanism alone, a fixed key of its noise apart; inf without one."""
        return math.inf if self.mechanism is None else self.mechanism.loss().epsilon(self.delta)

    @property
    def n_units(self) -> float | None:
        """How many units sums are divided by in a full step; None without a mechanism."""
        if self.mechanism is None:
            return None
        return self.mechanism.normaliser / self.mechanism.sampling_rate

    @property
    def statement(self) -> Statement:
        """The promise when the release spends its full budget."""
        return self.statement_after(self.release)

    def statement_to_come(self, out: Path) -> Statement:
        """The promise of a run at `out`, which the set's budget allows.

        Raises:
            InputError: as `refuse_overspent`.
        """
        self.refuse_overspent(out)
        return self.statement

    def refuse_overspent(self, out: Path) -> None:
        """Refuse a run at `out` that the set's budget does not allow, before any patient is read.

        Raises:
            InputError: as the function of this name.
        """
        if self.counted:
            refuse_overspent(self.dataset, {out: self.release})

    def lineage_after(self, spent: Release) -> Lineage:
        """What the result descends from when the release came out as `spent`."""
        return self.ancestors.with_release(spent) if self.counted else self.ancestors

    def statement_after(self, spent: Release) -> Statement:
        """The promise when the release came out as `spent`: a crash may have left steps unused."""
        return make_statement(
            self.lineage_after(spent),
            subject=self.subject,
            delta=self.delta,
            unit=spent.unit,
            population=self.population,
            stage=spent if self.counted else None,
            risk=None if self.target is None else self.target.risk,
            on_record=on_record(self.dataset, self.lineage_after(spent), self.delta, spent.unit),
        )

    @property
    def terms(self) -> Terms:
        """What the statement is made of, for the run's ledger."""
        return Terms(
            subject=self.subject,
            delta=self.delta,
            unit=self.release.unit,
            population=self.population,
            target=None if self.target is None else self.target.epsilon,
            risk=None if self.target is None else self.target.risk,
            ancestors=self.ancestors,
            release=self.release if self.counted else None,
        )

    def with_release_id(self, release_id: str) -> "PrivacyPlan":
        """The same plan, its release counted under the id of the run that carries it out."""
        release = Release(**(dict(self.release) | {"id": release_id}))
        return replace(self, release=release)

    def claim(
        self,
        ledger: Ledger,
        *,
        fingerprint: str,
        block_steps: int,
        inputs: Mapping[str, str] | None = None,
    ) -> "PrivacyPlan":
        """The plan to go on with, whose release is the one that a run's ledger was opened for.

        Args:
            ledger: of the run.
            fingerprint: as `Ledger.claim`.
            block_steps: as `Ledger.claim`.
            inputs: as `Ledger.claim`.

        Guarantee: that of `plan_privacy`, with the ledger's noise; when it returns, the release is
        on record beside the data set and within its budget, before a step of it is reserved, and
        this process is the newest that works on it (`Ledger.start`).

        Raises:
            InputError: when the ledger is that of another release, mechanism, data or input, was
                lost, or is not the newest copy; when the data set's ledger was lost or its budget
                does not allow the release; or when the noise is too little after what ancestors
                have spent by now.
        """
        record = self._record
        if self.counted:
            ledger.refuse_lost(record, self.release.id)
        if ledger.terms is not None and ledger.terms.ancestors != self.ancestors:
            raise InputError(
                "private/ledger.jsonl: an ancestor of this run (init, synthetic, centre, or the "
                "data set) has spent something else than when the run began; bring back what was "
                "there, or start in a new run folder"
            )
        release = ledger.claim(
            self.release, fingerprint=fingerprint, block_steps=block_steps, inputs=inputs
        )
        if release != self.release and math.isfinite(release.mu):
            # Noise may differ by rounding of calibrations, and by an ancestor that changed a bit.
            assert self.target is not None  # a finite mu has a mechanism, and that a target
            if not self.target.kept_by(self.before.with_loss(release.loss)):
                raise InputError(
                    "private/ledger.jsonl: an ancestor spends more than when this run began, so "
                    f"that its noise would exceed {self.target}; start in a new run folder"
                )
        plan = replace(self, release=release)
        plan.record(ledger)
        if self.counted:
            ledger.start(record)
        return plan

    @property
    def _record(self) -> Record:
        """The data set's ledger."""
        return record_of(self.dataset)

    def record(self, ledger: Ledger) -> None:
        """Note the terms in the run's ledger, and the release beside a data set of patients.

        Guarantee: when it returns, a release that is counted is on the disk, within the set's
        budget; nothing takes it back.

        Raises:
            InputError: when the data set's ledger was lost, or its budget is too small.
        """
        ledger.note_terms(self.terms)
        if self.counted:
            self._record.add(self.release, delta=self.delta)


def record_of(dataset: Dataset) -> Record:
    """The ledger of a data set."""
    return Record(dataset.ledger_path, dataset.info.ledger)


def refuse_overspent(dataset: Dataset, planned: Mapping[Path, Release]) -> None:
    """Refuse runs that would together take a set's patients beyond its budget.

    Of a run that is finished, or on record, nothing is asked: it is held to what it began with.
    This spares work that `Record.add` would refuse later, and holds nothing back for it.

    Args:
        dataset: of patients.
        planned: the release of each run, by the run's folder.

    Raises:
        InputError: when the set's ledger was lost, or its budget is too small.
    """
    record = record_of(dataset)
    # read before the folders are: what another process begins meanwhile counts once
    on_record = record.releases
    ids = {release.id for release in on_record}

    def to_come(out: Path) -> bool:
        status = read_status(out)
        return status is None or not (status.state == "finished" or status.release in ids)

    record.budget.refuse_overspent(
        on_record, [release for out, release in planned.items() if to_come(out)]
    )


def declared_units(privacy: PrivacySettings, cohort: Part | None) -> float | None:
    """How many units there are by declaration: `population`, or the cohort's share of it.

    None where no population is declared.
    """
    if privacy.population is None:
        return None
    share = 1.0 if cohort is None else 1.0 / cohort.of
    return privacy.population * share


def plan_privacy(
    dataset: Dataset,
    privacy: PrivacySettings,
    *,
    stage: str,
    subject: str,
    ancestors: Lineage,
    cohort: Cohort | None,
    n_units: float | None = None,
    steps: int = 1,
    sampling_rate: float = 1.0,
    clip_norm: float = 1.0,
    unprotected_note: str = UNPROTECTED_NOTE,
    note: str = "",
    charge_public_rows: bool = False,
) -> PrivacyPlan:
    """Plan the release of one stage; reads no image.

    What ancestors spent is not taken off where they have left the patients without protection:
    their epsilon is infinite whatever this stage spends.

    Args:
        dataset: whose rows the stage reads.
        privacy: the promise that is asked for; without a target there is no mechanism.
        stage: the name that the release is recorded under.
        subject: what the statement is about: "classifier".
        ancestors: all that the result descends from beside this stage.
        cohort: the patients that take part; None for all.
        n_units: how many units there are by declaration (`declared_units`), which every sum is
            divided by; None is allowed without a target alone.
        steps: of the mechanism.
        sampling_rate: with which each unit takes part in a step.
        clip_norm: of each unit's vector.
        unprotected_note: says why nothing protects a release without a mechanism.
        note: said of the release in any case.
        charge_public_rows: take off what ancestors spent where the rows are no patients, too, as
            trainings of generators always have.

    Guarantee: where the rows are patients, this release and ancestors that all protect its cohort
    together cost no unit of it more than (`privacy.epsilon`, `privacy.delta`), or than
    `privacy.risk` allows. A release whose noise has a fixed key counts as unprotected.

    Raises:
        InputError: when the ancestors have spent the target already, or protect another unit,
            delta is too large for a population, the target takes more noise than a lattice holds,
            or who is in the set's splits was not decided patient by patient.
    """
    if dataset.info.protects_patients and privacy.protects:
        refuse_moved_patients(dataset)
        refuse_units_of_crops(dataset, privacy.unit)
    refuse_unknown_image_counts(dataset.info, privacy.images_per_patient)
    mechanism, before = None, NO_LOSS
    target = Target.of(privacy)
    if target is not None:
        assert n_units is not None  # settings ask for a population with every target
        if dataset.info.protects_patients or charge_public_rows:
            spent = ancestors.loss_on(cohort, privacy.delta)
            before = NO_LOSS if spent.unbounded else spent
        mechanism = Mechanism.reaching(
            epsilon=target.epsilon,
            risk=target.risk,
            delta=target.delta,
            steps=steps,
            sampling_rate=sampling_rate,
            normaliser=n_units * sampling_rate,
            before=before,
            clip_norm=clip_norm,
            unit=privacy.unit,
        )
        refuse_too_much_noise(mechanism)
    if mechanism is None:
        mu, exposed = math.inf, unprotected_note
    elif privacy.fixed_noise_key is not None:
        mu, exposed = math.inf, FIXED_NOISE_NOTE
    else:
        mu, exposed = mechanism.mu, ""
    release = Release(
        stage=stage,
        data=dataset.info.name,
        unit=privacy.unit,
        mu=mu,
        mechanism=mechanism,
        cohort=cohort,
        note=", ".join(filter(None, (exposed, note))),
        noise=None if mechanism is None else privacy.noise,
        unit_from=dataset.info.unit_from,
        images_per_patient=privacy.images_per_patient if privacy.unit == "image" else None,
    )
    plan = PrivacyPlan(
        dataset,
        ancestors,
        before=before,
        release=release,
        subject=subject,
        target=target,
        delta=privacy.delta,
        population=privacy.population,
    )
    # a part of the patients may be declared smaller; delta stays below one over all of them
    populations = (privacy.population, dataset.info.population)
    declared = [number for number in populations if number is not None]
    refuse_unstatable(plan.lineage_after(release), privacy.unit, privacy.delta, declared)
    return plan


def on_record(dataset: Dataset, lineage: Lineage, delta: float, unit: Unit) -> tuple[OnRecord, ...]:
    """What else the ledger of a data set of patients holds beside what a lineage counts.

    Nothing where no more is on record. The epsilon of all together is that of each `unit`.

    Raises:
        InputError: when the ledger is damaged or lost.
    """
    if not dataset.info.protects_patients:
        return ()
    record = record_of(dataset)
    counted = {release.id for release in lineage.releases}
    others = [release for release in record.releases if release.id not in counted]
    budget = record.budget
    if not others and budget.epsilon is None:
        return ()
    together = lineage.joined([Lineage(releases=tuple(others))])
    ids = {release_id for one in record.left for release_id in one.counted}
    left = [release for release in others if release.id in ids]
    seen = lineage.joined([Lineage(releases=tuple(left))])
    return (
        OnRecord(
            data=dataset.info.name,
            other_releases=len(others),
            epsilon=together.epsilon_to(unit, delta),
            budget=budget.epsilon,
            budget_delta=budget.delta,
            ledger=dataset.info.ledger,
            left=len(left),
            left_epsilon=seen.epsilon_to(unit, delta),
        ),
    )


def statement_of(paths: Sequence[Path], known: Mapping[Path, Statement] | None = None) -> Statement:
    """The statement of one run, study, noisy evaluation or data set, or of several together.

    Of a data set that holds patients it is that of all releases on record about them so far. What
    else is on record of the data sets that they name is read anew, where these are still there.
    `known` has the statements of paths that are no folders: generators that come with the package.

    Raises:
        InputError: when a path is none of these, promises more than its record allows, or a record
            is damaged.
    """
    given = known or {}
    statements = [given.get(Path(path)) or _statement_of_one(Path(path)) for path in paths]
    if len(statements) == 1:
        together = statements[0]
    else:
        together = joined_statement(statements, subject="collection")
    return with_records(together, [data for path in paths for data in named_sets(Path(path))])


def _statement_of_one(path: Path) -> Statement:
    if read_status(path) is not None:
        return read_statement(path)
    if not is_dataset(path) and (path / NOISY_FILE).is_file():
        return noisy_statement(path)
    return set_statement(described_dataset(path))


def set_statement(dataset: Dataset) -> Statement:
    """The statement of a data set itself; of one of patients, of all on record about them so far.

    Delta is that of the runs whose releases it counts, populations are theirs.

    Raises:
        InputError: when its ledger is damaged or lost.
    """
    record = record_of(dataset)
    lineage = dataset.info.lineage.joined([Lineage(releases=record.releases)])
    made = dataset.info.kind in ("synthetic", "public")
    deltas = [*record.deltas, *([] if dataset.info.delta is None else [dataset.info.delta])]
    delta = fitting_delta(deltas, lineage.populations)
    statement = make_statement(
        lineage,
        subject="data set" if made else "data set's releases so far, taken together",
        delta=delta,
        unit=lineage.unit,
        on_record=on_record(dataset, lineage, delta, lineage.unit),
    )
    if lineage.releases or not dataset.info.protects_patients:
        return statement
    nothing = "Nothing is on record as released of its patients; the set itself never leaves"
    return statement.model_copy(update={"because": nothing})


def named_sets(path: Path) -> list[Dataset]:
    """The data set that a run or an evaluation was made on, where it is still there.

    None for what was received: its settings name folders of another machine.
    """
    if not ((path / "config.yaml").is_file() and (path / "private").is_dir()):
        return []
    settings = read_yaml(path / "config.yaml")
    named = [settings[key] for key in ("data", "dataset") if isinstance(settings.get(key), str)]
    return [described_dataset(Path(one)) for one in named if is_dataset(Path(one))]


def with_records(statement: Statement, datasets: Sequence[Dataset]) -> Statement:
    """The statement with what these data sets have on record by now.

    Of others it tells what their record held when the run was finished, and says so.
    """
    there = {dataset.root.resolve(): dataset for dataset in datasets}.values()
    records = [
        record if record.held_by else record.model_copy(update={"earlier": True})
        for record in statement.on_record
        if record.held_by or not any(_is_of(record, dataset.info) for dataset in there)
    ]
    for dataset in there:
        records += on_record(dataset, statement.lineage, statement.delta, statement.unit)
    return statement.model_copy(update={"on_record": tuple(records)})


def _is_of(record: OnRecord, info: DatasetInfo) -> bool:
    """Whether a record is that of this set: by the ledger's id, or by name where one has none."""
    if record.ledger is not None and info.ledger is not None:
        return record.ledger == info.ledger
    return record.data == info.name

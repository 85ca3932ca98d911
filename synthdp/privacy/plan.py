"""What a stage will spend on patients, and promise of what it makes: decided before any image.

What its ancestors spent on the same patients is taken off the target, the mechanism is calibrated
to the rest, and the release that comes of it stands on top of what was spent before.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from synthdp.config import PrivacySettings
from synthdp.data.dataset import Dataset, open_dataset, refuse_unknown_image_counts
from synthdp.data.importing.note import refuse_moved_patients
from synthdp.errors import InputError
from synthdp.privacy.accounting import NO_LOSS, PrivacyLoss
from synthdp.privacy.ledger import Ledger, Terms
from synthdp.privacy.lineage import Cohort, Lineage, Part, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.record import Record, recorded_releases
from synthdp.privacy.statement import (
    Statement,
    joined_statement,
    make_statement,
    read_statement,
    refuse_other_units,
)
from synthdp.privacy.target import Target

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
    def statement(self) -> Statement:
        """The promise when the release spends its full budget."""
        return self.statement_after(self.release)

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
        return Record(self.dataset.ledger_path, self.dataset.info.ledger)

    def record(self, ledger: Ledger) -> None:
        """Note the terms in the run's ledger, and the release beside a data set of patients.

        Guarantee: when it returns, a release that is counted is on the disk, within the set's
        budget; nothing takes it back.

        Raises:
            InputError: when the data set's ledger was lost, or its budget is too small.
        """
        ledger.note_terms(self.terms)
        if self.counted:
            self._record.add(self.release)


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
        InputError: when the ancestors have spent the target already, or protect another unit, or
            who is in the set's splits was not decided patient by patient.
    """
    if dataset.info.protects_patients and privacy.protects:
        refuse_moved_patients(dataset)
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
    refuse_other_units(plan.lineage_after(release), privacy.unit)
    return plan


def statement_of(paths: Sequence[Path]) -> Statement:
    """The statement of one run, study or data set, or of publishing several of them together.

    Of a data set that holds patients it is that of all releases on record about them so far.

    Raises:
        InputError: when a path is neither a finished run or study nor a data set, or a record is
            damaged.
    """
    statements = [_statement_of_one(Path(path)) for path in paths]
    return (
        statements[0]
        if len(statements) == 1
        else joined_statement(statements, subject="collection")
    )


def _statement_of_one(path: Path) -> Statement:
    if (path / "status.json").is_file():
        return read_statement(path)
    dataset = open_dataset(path)
    recorded = Lineage(releases=recorded_releases(dataset.ledger_path, dataset.info.ledger))
    lineage = dataset.info.lineage.joined([recorded])
    made = dataset.info.kind == "synthetic"
    subject = "data set" if made else "data set's releases so far, taken together"
    return make_statement(lineage, subject=subject, unit=lineage.unit)

"""Where releases of patients are counted whose images came as arrays: a folder with a ledger.

It is the folder of a data set of patients, or one of the same form without images, made here: the
same ledger and budget stand in it, so that `synthdp privacy DIR` and `synthdp data budget DIR` work
on either. Without a folder all of it is in memory: a folder that goes with the process, which the
statement says.
"""

import math
import os
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory

from synthdp.config.settings import validate_settings
from synthdp.data.dataset import Dataset, described_dataset
from synthdp.data.description import DatasetInfo, is_dataset
from synthdp.data.people.cohorts import patient_tags
from synthdp.data.people.units import refuse_fewer_than_imported, refuse_unknown_patients
from synthdp.data.writer import DatasetWriter
from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Lineage, new_release_id
from synthdp.privacy.promise.plan import PrivacyPlan, plan_privacy
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.storage.files import atomic_folder, closed_to_others, write_json

IN_MEMORY = "its ledger was kept in memory, so that no record counts it"
_NAME_IN_MEMORY = "arrays"
#: A file system that is kept in memory, where the machine has one.
_MEMORY = Path("/dev/shm")  # noqa: S108 (the folder made in it is its owner's alone)
_DESCRIPTION = (
    "No images: the ledger of what was released of patients whose images were given as arrays."
)


@dataclass(frozen=True)
class LedgerFolder:
    """An opened folder with the ledger of a set of patients.

    dataset: without rows; scratch: what holds it in memory, gone with this object.
    """

    dataset: Dataset
    scratch: "TemporaryDirectory[str] | None" = field(default=None, repr=False)

    @property
    def in_memory(self) -> bool:
        """Whether it goes with the process."""
        return self.scratch is not None

    def tags(self, patients: list[str]) -> list[bytes]:
        """A secret name for each patient, under the folder's key."""
        return patient_tags(self.dataset, patients)

    def claimed(
        self, plan: PrivacyPlan, *, block_steps: int, counts: dict[str, int]
    ) -> tuple[PrivacyPlan, Ledger, Path]:
        """The plan to carry out, whose release is on record, its ledger, and the run's folder.

        Args:
            plan: of one release that has not begun.
            block_steps: the most steps that are reserved at a time.
            counts: what was not refused though it may be a mistake, for the owner alone.

        Guarantee: that of `PrivacyPlan.claim`.

        Raises:
            InputError: when the folder's budget does not allow the release, or its ledger was lost.
        """
        release_id = new_release_id()
        run = self.dataset.private / "in_python" / release_id
        plan.refuse_overspent(run)  # before a folder is made
        with closed_to_others():
            run.mkdir(parents=True)
            write_json(run / "unrefused.json", counts)
            ledger = Ledger(run / "ledger.jsonl")
            ledger.create(release_id)
            plan = plan.with_release_id(release_id)
            if plan.mechanism is None:
                plan.record(ledger)
            else:
                plan = plan.claim(ledger, fingerprint=release_id, block_steps=block_steps)
        return plan, ledger, run


def open_ledger_folder(path: Path | str | None) -> LedgerFolder:
    """The folder at `path`, made where there is none; in memory for None.

    Raises:
        InputError: when it is the folder of a set without patients, or holds other files.
    """
    if path is None:
        memory = _MEMORY if _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) else None
        scratch = TemporaryDirectory(prefix="synthdp-", dir=memory)
        with closed_to_others():
            DatasetWriter(Path(scratch.name), _info_of(_NAME_IN_MEMORY)).finish()
        return LedgerFolder(described_dataset(Path(scratch.name)), scratch)
    folder = Path(path)
    if not is_dataset(folder):
        _make(folder)
    dataset = described_dataset(folder)
    if not dataset.info.protects_patients:
        raise InputError(
            f"ledger: {dataset.info.name} is a set without patients, so that nothing would be "
            "counted there; name a new folder, or the data set of these patients"
        )
    return LedgerFolder(dataset)


def _make(folder: Path) -> None:
    """Make the folder, unless another fit that runs at the same time has.

    Raises:
        InputError: when it holds other files, or its name is not one that a data set may have.
    """
    info = _info_of(folder.name)
    try:
        with atomic_folder(folder, closed=True) as root:
            DatasetWriter(root, info).finish()
    except (InputError, OSError):
        if not is_dataset(folder):
            raise


def _info_of(name: str) -> DatasetInfo:
    """What the folder says of itself.

    Raises:
        InputError: when the name is not one that a data set may have.
    """
    values = {
        "name": name,
        "kind": "real",
        "size_px": 8,
        "unit": "patient",
        "unit_from": "declared",
        "description": _DESCRIPTION,
    }
    return validate_settings(DatasetInfo, values, where=f"ledger ({name})")


def plan_for_arrays(
    folder: LedgerFolder,
    *,
    stage: str,
    subject: str,
    epsilon: float,
    delta: float,
    population: int,
    steps: int,
    clip_norm: float,
    sampling_rate: float = 1.0,
    declared: tuple[str, ...] = (),
    note: str = "",
    starts_from: Statement | None = None,
) -> PrivacyPlan:
    """What one training on arrays will spend, and promise, with what rests on the caller's words.

    Args:
        folder: whose ledger counts it.
        stage: what it is called there.
        subject: what the statement is about.
        epsilon: for each patient; inf for no privacy.
        delta: below 1 / population.
        population: public round number, at least the patients.
        steps: of the mechanism.
        clip_norm: of each patient's vector.
        sampling_rate: with which each patient takes part in a step.
        declared: what the caller says of the arrays, and no record shows.
        note: said of the release wherever it is counted.
        starts_from: of what the training begins with; what it spent is taken off.

    Raises:
        InputError: as `plan_privacy`, or when the folder's set was imported for more patients.
    """
    target = None if _checked(epsilon) == math.inf else epsilon
    values = {"epsilon": target, "delta": delta, "population": population}
    privacy = validate_settings(PrivacySettings, values, where=stage)
    if privacy.population is None:
        raise InputError(
            f"{stage}: population is missing: a public round number, surely at least the number of "
            "patients; the true one is private"
        )
    info = folder.dataset.info
    refuse_unknown_patients(info, privacy.unit)
    refuse_fewer_than_imported(info, privacy.population, privacy.unit)
    before = Lineage() if starts_from is None else starts_from.lineage
    return plan_privacy(
        folder.dataset,
        privacy,
        stage=stage,
        subject=subject,
        ancestors=info.lineage.joined([before, Lineage(declared=declared)]),
        cohort=None,
        n_units=privacy.population,
        steps=steps,
        sampling_rate=sampling_rate,
        clip_norm=clip_norm,
        note=", ".join(filter(None, (note, IN_MEMORY if folder.in_memory else ""))),
    )


def _checked(epsilon: float) -> float:
    """Epsilon, a positive number or infinite.

    Raises:
        InputError: when it is anything else.
    """
    if isinstance(epsilon, Real) and not isinstance(epsilon, bool) and epsilon > 0:
        return float(epsilon)
    raise InputError(
        f"epsilon is {epsilon!r}; name what each patient may lose, such as 6, or math.inf for no "
        "privacy"
    )

"""The audit of generators: tries to break a finished run's promise, and says how far it came.

It makes the run's one release of mean features again, on the run's own patients with other noise,
and looks at the noise of the one that the run made. What it finds is private.
"""

from pathlib import Path

from torch import Tensor

from gan.auditing.attack import attack_embedding
from gan.auditing.replay import broken_release
from gan.auditing.subject import EmbeddingSubject
from gan.methods.embedding import with_directions
from gan.methods.examples import protected_examples
from gan.methods.release import SUMS_FILE
from gan.plans.train import gan_plan
from gan.private.condition_means import condition_part
from gan.private.embedding import PublicMap, public_features
from gan.private.wide_map import RawMap, saved_wide_map
from gan.settings.train import TrainGanSettings
from synthdp.checkpoint import load_weights
from synthdp.config.settings import read_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.machine.devices import chosen_device
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.promise.stated import written_statement
from synthdp.runs.audit_record import (
    CHECKS,
    Audited,
    AuditResult,
    audited_plan,
    broken_records,
    keep_audit,
    refuse_unprotected,
)


def run_audit(settings: AuditSettings) -> Path:
    """Audit a finished run of train-gan; at once when the same audit stands.

    Returns:
        `RUN/private/audit`, with audit.json and audit.md.

    Raises:
        InputError: when the run is not finished, promises nothing, or can't be attacked.
        RunError: when the promise is broken; the folder says how.
    """
    statement = written_statement(settings.run)

    def attacked() -> tuple[AuditResult, Audited]:
        asked = _auditable_settings(settings.run)
        patients = open_dataset(asked.data)
        broken = broken_records(settings.run, statement, asked.privacy.delta, patients)
        subject = subject_of(settings.run, asked)
        released = _released(settings.run)["sums"]
        broken += broken_release(subject, released, settings.false_alarms / CHECKS)
        return attack_embedding(subject, settings, broken), subject.audited

    return keep_audit(settings, attacked)


def _auditable_settings(run: Path) -> TrainGanSettings:
    """The settings of a run whose release can be audited.

    Raises:
        InputError: when the run promises nothing, or trains what the attacks do not know.
    """
    values = read_settings(TrainGanSettings, run / "config.yaml")
    settings = validate_settings(TrainGanSettings, values, where=f"{run.name}/config.yaml")
    looks = " (`synthdp assess` looks for copies in what it draws)"
    refuse_unprotected(run, settings.privacy, instead=looks)
    if settings.method not in {"embedding", "selection"}:
        raise InputError(
            f"{run}: the audit attacks the release of method: embedding or selection; "
            f"{settings.method}, which is experimental, has no audit"
        )
    return settings


def subject_of(run: Path, settings: TrainGanSettings) -> EmbeddingSubject:
    """The release of a run, with the mechanism that stands in its ledger.

    Raises:
        InputError: when the data or an ancestor has changed since.
    """
    plan = gan_plan(settings)
    mechanism = audited_plan(run, plan.privacy).mechanism
    assert mechanism is not None  # `audited_plan` has asked
    part = condition_part(settings, plan.conditions)
    examples, units = protected_examples(plan, settings.size_px, part)
    return EmbeddingSubject.of(
        _public_map(run, settings),
        examples,
        units,
        mechanism=mechanism,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        shares=plan.public_shares,
        part=part,
    )


def _public_map(run: Path, settings: TrainGanSettings) -> PublicMap:
    """The map from images to vectors that the run's release was made by."""
    device, released = chosen_device(settings.device), _released(run)
    if settings.selection is not None and settings.method == "selection":
        raw = RawMap.of(settings.selection, settings.size_px, device)
        return saved_wide_map(raw, released, constant=settings.selection.constant)
    assert settings.embedding is not None  # TrainGanSettings asks for it
    features = public_features(settings.embedding, settings.size_px, device)
    return with_directions(features, released)


def _released(run: Path) -> dict[str, Tensor]:
    """What the run released, and the directions that it lies along, if any."""
    return load_weights(run / "private" / SUMS_FILE)

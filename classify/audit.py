"""The audit of classifiers: tries to break a finished run's promise, and says how far it came.

It trains again on the run's own features and mechanism with other noise: replays neighbours,
plants canaries, and asks who was in. What it finds is private.
"""

from pathlib import Path

from classify.auditing.head.attack import attack_head
from classify.auditing.head.subject import HeadSubject
from classify.auditing.network.attack import attack_network
from classify.auditing.network.subject import NetworkSubject
from classify.head.train import head_recipe
from classify.plans import finetuning_plan
from classify.settings.finetune import FinetuneSettings
from classify.settings.network import NetworkSettings
from classify.setup.head import set_up_head
from classify.setup.network import set_up_network
from synthdp.config.settings import read_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.promise.stated import written_statement
from synthdp.runs.audit_record import (
    Audited,
    AuditResult,
    audited_plan,
    broken_records,
    keep_audit,
    refuse_unprotected,
)
from synthdp.status import read_status


def run_audit(settings: AuditSettings) -> Path:
    """Audit a finished run of finetune; at once when the same audit stands.

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
        if asked.network is None:
            head = head_subject(settings.run, asked)
            return attack_head(head, settings, broken), head.audited
        network = network_subject(settings.run, asked, asked.network)
        result = attack_network(network, settings, broken, run=settings.run)
        return result, network.audited

    return keep_audit(settings, attacked)


def _auditable_settings(run: Path) -> FinetuneSettings:
    """The settings of a run whose head can be audited.

    Raises:
        InputError: when the run is of another stage, promises nothing, or trains what the attacks
            do not know.
    """
    status = read_status(run)
    stage = status.stage if status is not None else "nothing"
    if stage != "finetune":
        raise InputError(
            f"{run}: a run of {stage}; audit takes one of finetune or train-gan with an epsilon"
        )
    values = read_settings(FinetuneSettings, run / "config.yaml")
    settings = validate_settings(FinetuneSettings, values, where=f"{run.name}/config.yaml")
    refuse_unprotected(run, settings.privacy)
    if settings.network is None and (
        settings.head.kind == "mlp" or settings.head.sampling_rate < 1
    ):
        raise InputError(
            f"{run}: the audit attacks linear heads that see all patients in each step; audit a "
            "run of another head.kind, with head.sampling_rate 1"
        )
    return settings


def head_subject(run: Path, settings: FinetuneSettings) -> HeadSubject:
    """The training of a run's head, with the mechanism that stands in its ledger.

    Raises:
        InputError: when the data or an ancestor has changed since.
    """
    plan = audited_plan(run, finetuning_plan(settings))
    assert plan.mechanism is not None  # `audited_plan` has asked
    setup = set_up_head(settings, plan.dataset)
    return HeadSubject(
        examples=setup.examples,
        recipe=head_recipe(settings.head, plan.stage_epsilon, plan.n_units),
        mechanism=plan.mechanism,
        start=setup.start,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        public=setup.public,
    )


def network_subject(
    run: Path, settings: FinetuneSettings, recipe: NetworkSettings
) -> NetworkSubject:
    """The training of a run's network, or of its last blocks, as `head_subject`."""
    plan = audited_plan(run, finetuning_plan(settings))
    assert plan.mechanism is not None  # `audited_plan` has asked
    setup = set_up_network(settings, recipe, plan.dataset)
    return NetworkSubject(
        top=setup.trained,
        examples=setup.examples,
        recipe=recipe.at(plan.stage_epsilon),
        mechanism=plan.mechanism,
        delta=settings.privacy.delta,
        noise=settings.privacy.noise,
        seed=settings.seed,
        dataset=plan.dataset,
    )

"""The ledger of a run, claimed for its release: what is spent is on record before it is spent."""

import hashlib
from dataclasses import replace

from gan.package.conditions import encode
from gan.package.opened import open_generator
from gan.plans.train import GanPlan
from gan.settings.train import TrainGanSettings
from synthdp.data.dataset import open_dataset
from synthdp.data.identity import content_digest, keyed_digest
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.runs.folder import Run


def claimed(
    settings: TrainGanSettings, run: Run, plan: GanPlan, block_steps: int
) -> tuple[Ledger, GanPlan]:
    """The ledger of the run, for its release alone, which the data set has on record by then.

    With it the plan to go on with, whose release is the ledger's; without a promise the plan as it
    was, whose release is on record.

    Raises:
        InputError: as `PrivacyPlan.claim`.
    """
    ledger = Ledger(run.ledger_path)
    if plan.privacy.mechanism is None:
        plan.privacy.record(ledger)
        return ledger, plan
    fingerprint = keyed_digest(plan.privacy.dataset, plan.rows)
    privacy = plan.privacy.claim(
        ledger, fingerprint=fingerprint, block_steps=block_steps, inputs=_inputs(settings, plan)
    )
    return ledger, replace(plan, privacy=privacy)


def spent(ledger: Ledger, plan: GanPlan) -> Release:
    """What a finished training has spent of its release: all of it where nothing was promised."""
    return plan.privacy.release if plan.privacy.mechanism is None else ledger.close()


def _inputs(settings: TrainGanSettings, plan: GanPlan) -> dict[str, str]:
    """Digests of what a training begins with beside its rows, which a resume must find unchanged.

    Public weights are not among them: their own sha256 stands in the settings.
    """
    # cells that a private one is told of stand in the manifest, which a run looks at itself
    learned = plan.rows if settings.method == "adversarial" else ()
    codes = encode(plan.conditions, learned).numpy().tobytes()
    known = plan.conditions.model_dump_json().encode() + codes
    digests = {"conditions": hashlib.sha256(known).hexdigest()}
    if settings.init is not None:
        digests["init"] = open_generator(settings.init).weights_sha256
    if settings.method == "embedding" and settings.embedding is not None:
        digests["embedding.public"] = content_digest(open_dataset(settings.embedding.public))
    if settings.selection is not None:
        for number, path in enumerate(settings.selection.pool):
            digests[f"selection.pool {number}"] = content_digest(open_dataset(path))
    return digests

"""The one noisy release of a run: the mean of public features, made and saved once."""

from collections.abc import Mapping

from torch import Tensor

from gan.methods.examples import unit_indices
from gan.package.conditions import encode_known
from gan.plans.train import GanPlan
from gan.private.condition_means import condition_part
from gan.private.embedding import released_sums, vectors_of_patients
from gan.settings.train import TrainGanSettings
from gan.training.examples import known_labels
from synthdp.checkpoint import load_tensor, load_weights, save_weights
from synthdp.data.people.units import note_unrefused
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import run_once
from synthdp.privacy.noisy_sum.noise import open_noise_source
from synthdp.runs.folder import Run

#: Within a run's private part: the release.
SUMS_FILE = "embedding.safetensors"


def is_released(run: Run) -> bool:
    """Whether the release of the run was made: nothing is read of patients from then on."""
    return (run.private / SUMS_FILE).is_file()


def released(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    ledger: Ledger,
    *,
    vectors: Tensor | None,
    saved: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The release of the run, made and saved once, read from its file ever after.

    The `vectors` (N, 1 + D) are those of the plan's rows, None where it is made already. They are
    computed before the run claims its release, so that an image that can't be read costs none. The
    `sums` are (2, 1 + D), with more rows where conditions are told, or one row of several findings.
    What was found of the public features is `saved` beside them: another processor may find other
    directions that are as good.
    """
    path, mechanism = run.private / SUMS_FILE, plan.privacy.mechanism
    rows, size = None, 0
    if vectors is not None:
        size = vectors.shape[1]
        note_unrefused(run.private, plan.rows, settings.privacy)
        names, units = unit_indices(plan)
        labels = known_labels(plan.rows, plan.targets)
        part = condition_part(settings, plan.conditions)
        codes = encode_known(plan.conditions, plan.rows if part else ())
        rows = vectors_of_patients(
            vectors, labels, units, len(names), plan.public_shares, codes=codes, part=part
        )

    def release() -> dict[str, Tensor]:
        assert rows is not None  # nothing is released while a file stands
        noise = None if mechanism is None else open_noise_source(settings.privacy)
        sums = released_sums(rows, mechanism=mechanism, noise_source=noise)
        if plan.public_shares is None:
            sums = sums.view(-1, size)
        return {"sums": sums, **saved}

    if mechanism is not None:
        return run_once(ledger, path, release)
    if not path.is_file():
        save_weights(path, release())
    return {**load_weights(path), "sums": load_tensor(path, "sums")}

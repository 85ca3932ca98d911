"""Which runs of a study share their work: what settings have in common, as a text.

Read by the study's own process, before anything is computed, so that it imports no torch.
"""

import json

from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings


def finetunes_alike(settings: FinetuneSettings) -> str | None:
    """What heads have in common that are trained together; None for one that is trained alone.

    Such heads stand on the same features of the same patients, all of whom take part in each step.
    They differ in epsilon, seed, folder, and in how long their steps are.
    """
    head = settings.head
    if settings.network is not None or head.kind == "mlp" or head.sampling_rate < 1:
        return None
    common = settings.model_dump(
        mode="json",
        exclude={
            "out": True,
            "seed": not _drawn_by_seed(settings),
            "privacy": {"epsilon", "risk"},
            "head": {"lr_times_steps", "average_from", "optimizer"},
        },
    )
    return json.dumps([settings.privacy.protects, common], sort_keys=True)


def _drawn_by_seed(settings: FinetuneSettings) -> bool:
    """Whether the seed decides features: of a network without public weights."""
    networks = (settings.backbone, *settings.beside)
    return any(one is not None and one.weights is None for one in networks)


def evaluations_alike(settings: EvaluateSettings) -> str | None:
    """What evaluations have in common that are made together: all but the run that is scored."""
    if settings.table is not None or settings.auroc_epsilon is not None:
        return None
    common = settings.model_dump(mode="json", exclude={"run", "out"})
    return json.dumps(common, sort_keys=True)

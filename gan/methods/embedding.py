"""`method: embedding`: a generator that is matched to one noisy release of mean features."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from gan.methods.claim import claimed, spent
from gan.methods.examples import images_of_plan
from gan.methods.release import is_released, released
from gan.methods.training import begun_training, checkpointed_training
from gan.network.generator import Generator
from gan.package.model import load_generator
from gan.package.networks import TrainedGenerator
from gan.plans.train import GanPlan
from gan.private.embedding import (
    Matching,
    PublicFeatures,
    class_means,
    image_vectors,
    match,
    matched_findings,
    matched_means,
    public_features,
)
from gan.private.findings import finding_means
from gan.settings.train import TrainGanSettings
from gan.training.loop import Schedule
from synthdp.machine.devices import chosen_device
from synthdp.privacy.lineage import Release
from synthdp.runs.folder import Run

#: In the file of the release, beside the sums: the principal directions of the features.
DIRECTIONS = "directions"


def train_on_embedding(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train on one noisy release of mean features.

    Guarantee: with a promise the rows are read for that release alone (`run_once`); everything else
    is a function of its result and of public values.

    Raises:
        InputError: when the public set, the network's weights or an image can't be used, before
            anything is spent; when the step is spent, and what was released is gone.
    """
    embedding = settings.embedding
    assert embedding is not None  # TrainGanSettings asks for it
    device = chosen_device(settings.device)
    features = public_features(embedding, settings.size_px, device)
    vectors = None
    if not is_released(run):
        vectors = image_vectors(features, images_of_plan(plan, settings.size_px).images)
    ledger, plan = claimed(settings, run, plan, block_steps=1)
    saved = {} if features.directions is None else {DIRECTIONS: features.directions.cpu()}
    tensors = released(settings, run, plan, ledger, vectors=vectors, saved=saved)
    features = with_directions(features, tensors)
    target = matched_target(
        tensors["sums"].to(device), plan, constant=embedding.constant,
        separation=embedding.separation, class_prior=settings.class_prior,
    )  # fmt: skip
    training = begun_training(settings, plan, device)
    start = None if settings.init is None else load_generator(settings.init, device)
    assert start is None or isinstance(start, Generator)  # arch: haar
    matching = Matching(features, target, start, embedding.layout_weight)
    schedule, every_kimg = Schedule.of(settings), settings.checkpoint_kimg
    with checkpointed_training(settings, run, plan, training, matching) as (log, keep):
        match(
            training, matching, schedule, checkpoint_kimg=every_kimg, log=log, keep=keep,
            findings=plan.conditions.tables,
        )  # fmt: skip
    return training.averaged, spent(ledger, plan)


def matched_target(
    sums: Tensor, plan: GanPlan, *, constant: float, separation: float, class_prior: float
) -> Tensor:
    """The class means that a generator is matched to, from the release: (2, D), or (2 T, D)."""
    shares = plan.public_shares
    if shares is None:
        means, deviations = class_means(
            sums, plan.privacy.mechanism, class_prior=class_prior, constant=constant
        )
        return matched_means(means, deviations, separation)
    of_findings = finding_means(sums, plan.privacy.mechanism, shares=shares, constant=constant)
    return matched_findings(of_findings, separation)


def with_directions(features: PublicFeatures, tensors: Mapping[str, Tensor]) -> PublicFeatures:
    """The public features along the directions that were saved with a release, if any were."""
    if DIRECTIONS not in tensors:
        return features
    return replace(features, directions=tensors[DIRECTIONS].to(features.mean))

"""Fine-tuning of the last blocks with their head, as part of a finetune run."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from classify.config import FinetuneSettings, NetworkSettings
from classify.features.extract import trunk_views
from classify.head.task import bound_on_units, sample_source, units_of
from classify.model import Classifier, FeatureSource, restore_backbone
from classify.network.gradients import TokenExamples
from classify.network.top import TrainedTop, merge_low_rank, trained_top
from classify.network.train import train_network, train_private_network
from synthdp.data.cohorts import patient_tags
from synthdp.data.dataset import Dataset, Row, keyed_digest, targets_array
from synthdp.devices import auto_device
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.noise import NoiseSource
from synthdp.privacy.plan import PrivacyPlan
from synthdp.runs import Run


@dataclass(frozen=True, eq=False)
class NetworkTask:
    """What blocks and head are trained on, and from: all but recipe and noise.

    rows: the patients' images; classifier: with its centre, cut where the training begins; start:
    (T, D + 1) weights of the head, the last of them the bias's.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    start: Tensor


def cut_for(classifier: Classifier, network: NetworkSettings) -> Classifier:
    """The same classifier, whose last blocks are to be trained.

    Raises:
        InputError: when they can't be, as `trained_top`.
    """
    feature_source = replace(_only_source(classifier), trainable_blocks=network.trainable_blocks)
    n_targets, n_features = classifier.head_weight.shape
    trained_top(
        restore_backbone(feature_source),
        torch.zeros(n_targets, n_features + 1),
        scaling=None,
        tune=network.tune,
        lora_rank=network.lora_rank,
    )
    return classifier.with_feature_sources([feature_source])


def _only_source(classifier: Classifier) -> FeatureSource:
    # FinetuneSettings allows no network beside one that is trained
    (feature_source,) = classifier.feature_sources
    return feature_source


def train_blocks(
    settings: FinetuneSettings,
    run: Run,
    plan: PrivacyPlan,
    task: NetworkTask,
    source: NoiseSource | None,
) -> tuple[Classifier, Release]:
    """Train the last blocks and the head; gives the classifier and what was spent.

    Args:
        settings: with `network`.
        run: for ledger, checkpoints and log.
        plan: of the run.
        task: data and start.
        source: where noise and samples come from; None trains without privacy.

    Raises:
        InputError: when the ledger or a checkpoint is of another run or data.
        RunError: when a training without privacy diverges.
    """
    network = settings.network
    assert network is not None  # the caller has asked
    feature_source = _only_source(task.classifier)
    backbone = restore_backbone(feature_source).to(auto_device())
    examples = _examples(settings, plan.dataset, task, network)
    top = trained_top(
        backbone,
        task.start.to(auto_device()),
        scaling=feature_source.scaling,
        bias_input=settings.head.bias_input,
        scale=network.scale,
        tune=network.tune,
        lora_rank=network.lora_rank,
        seed=settings.seed,
    ).to(auto_device())
    if source is None:
        bound = bound_on_units(settings, plan.dataset.info) or len(examples.tags)
        _train_plainly(network, top, examples, seed=settings.seed, population=bound)
        spent = plan.release
    else:
        fingerprint = keyed_digest(plan.dataset, task.rows)
        spent = _train_privately(
            settings, run, plan, top, examples, source=source, fingerprint=fingerprint
        )
    merge_low_rank(top)
    head = top.head.weight.detach().cpu()
    moved = replace(feature_source, trained={**feature_source.trained, **backbone.own_tensors()})
    classifier = task.classifier.with_feature_sources([moved])
    return classifier.with_head(head[:, :-1], head[:, -1] * settings.head.bias_input), spent


def _train_plainly(
    network: NetworkSettings,
    top: TrainedTop,
    examples: TokenExamples,
    *,
    seed: int,
    population: int,
) -> None:
    train_network(
        top,
        examples,
        network,
        normaliser=population * network.sampling_rate,
        noise_source=sample_source(seed),
    )


def _train_privately(
    settings: FinetuneSettings,
    run: Run,
    plan: PrivacyPlan,
    top: TrainedTop,
    examples: TokenExamples,
    *,
    source: NoiseSource,
    fingerprint: str,
) -> Release:
    network, mechanism = settings.network, plan.mechanism
    assert network is not None
    assert mechanism is not None  # there is a source of noise
    ledger = Ledger(run.private / "ledger.jsonl")
    ledger.claim(plan.release, fingerprint=fingerprint, block_steps=network.block_steps)
    train_private_network(
        top,
        examples,
        network,
        mechanism=mechanism,
        ledger=ledger,
        noise_source=source,
        checkpoints=run.checkpoints,
        on_block=lambda steps: run.log(steps_spent=steps),
    )
    return ledger.spent()


def _examples(
    settings: FinetuneSettings, dataset: Dataset, task: NetworkTask, network: NetworkSettings
) -> TokenExamples:
    backbone = restore_backbone(_only_source(task.classifier))
    ids, units = np.unique(units_of(settings, task.rows), return_inverse=True)
    return TokenExamples(
        tokens=trunk_views(backbone, dataset, task.rows, network.views),
        targets=torch.from_numpy(targets_array(task.rows)),
        units=torch.from_numpy(units),
        tags=patient_tags(dataset, [str(name) for name in ids]),
    )

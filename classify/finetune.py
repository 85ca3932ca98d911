"""The finetune stage: a head on frozen features of patients, with or without privacy.

The unit is the patient; all patients take part in every step; accounting is the exact Gaussian
one. With `network` the last blocks are trained too, on Poisson samples (`classify.dp_sgd`).
`privacy.epsilon` is the end-to-end target: what ancestors spent is taken off first.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classify.classifier import (
    Classifier,
    features,
    head_input,
    load_classifier,
    new_classifier,
    save_classifier,
)
from classify.config import FinetuneSettings
from classify.dp_head import (
    Examples,
    PublicExamples,
    train_head,
    train_private_head,
)
from classify.finetune_network import NetworkTask, cut_for, train_blocks, units_of
from classify.plan import Plan, make_plan, statement_after
from synthdp.cards import model_card
from synthdp.data.cohorts import cohort_rows
from synthdp.data.dataset import (
    Dataset,
    DatasetInfo,
    Row,
    keyed_digest,
    open_dataset,
    refuse_small_population,
    targets_array,
)
from synthdp.errors import InputError
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Lineage, Release, new_release_id
from synthdp.privacy.noise import forget_key, noise_source
from synthdp.privacy.statement import Statement
from synthdp.runs import Run, open_run


def plan_finetune(
    settings: FinetuneSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """The promise of the run, before any image is read.

    Args:
        settings: of the run.
        to_come: lineages of runs that are only planned yet, where `init` may be one of them.

    Raises:
        InputError: when the ancestors have spent the target already, or a folder does not fit.
    """
    return make_plan(settings, new_release_id(), to_come).statement


def run_finetune(settings: FinetuneSettings) -> Path:
    """Fine-tune a head, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan_finetune(settings)  # what does not fit is refused before a folder is made
    start = _starting_classifier(settings, open_dataset(settings.data).info)
    if settings.network is not None:
        cut_for(start, settings.network)
    with open_run(settings.out, "finetune", settings) as run:
        if not run.finished:
            _finetune(settings, run, make_plan(settings, run.release_id))
    return settings.out


@dataclass(frozen=True, eq=False)
class HeadTask:
    """What a head is trained on, and from: all that decides a training but recipe and noise.

    rows: the patients' images; classifier: with its centre, whose head is to be replaced; examples:
    of `rows`; public: images mixed in; start: (T, D + 1) weights, the last of them the bias's.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    examples: Examples
    public: PublicExamples | None
    start: Tensor


def head_task(settings: FinetuneSettings, dataset: Dataset) -> HeadTask:
    """What a run of these settings trains its head on.

    Raises:
        InputError: when there are more patients than `privacy.population`, or an image or weights
            are missing.
    """
    rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
    classifier = _centred(settings, _starting_classifier(settings, dataset.info))
    examples = _examples(classifier, dataset, rows, settings)
    privacy = settings.privacy
    refuse_small_population(privacy.population, examples.n_units, privacy.unit)
    public = _public_examples(settings, classifier)
    return HeadTask(rows, classifier, examples, public, _start_weights(settings, classifier))


def _finetune(settings: FinetuneSettings, run: Run, plan: Plan) -> None:
    train = _train_head if settings.network is None else _train_network
    trained, spent = train(settings, run, plan)
    save_classifier(run.model, trained)
    forget_key(run.private)  # first: no finished run keeps its key
    statement = statement_after(settings, plan.dataset, plan.ancestors, spent)
    run.finish(statement, _card(settings, plan.dataset, statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _record(plan: Plan) -> None:
    if plan.dataset.info.protects_patients:
        record_release(plan.dataset.ledger_path, plan.release)


def _train_head(settings: FinetuneSettings, run: Run, plan: Plan) -> tuple[Classifier, Release]:
    task = head_task(settings, plan.dataset)
    classifier, examples, public, start = task.classifier, task.examples, task.public, task.start
    _record(plan)
    if plan.release.mechanism is None:
        normaliser = settings.privacy.population or examples.n_units
        weights = train_head(start, examples, plan.recipe, normaliser=normaliser, public=public)
        spent = plan.release
    else:
        weights, spent = _train_privately(
            settings, run, plan, start, examples, rows=task.rows, public=public
        )
    return _with_head(classifier, weights, settings.head.bias_input), spent


def _train_network(settings: FinetuneSettings, run: Run, plan: Plan) -> tuple[Classifier, Release]:
    assert settings.network is not None  # the caller has asked
    dataset = plan.dataset
    rows = cohort_rows(dataset, dataset.split("train"), settings.cohort)
    privacy, n_units = settings.privacy, len(set(units_of(settings, rows)))
    refuse_small_population(privacy.population, n_units, privacy.unit)
    cut = cut_for(_starting_classifier(settings, dataset.info), settings.network)
    classifier = _centred(settings, cut)
    _record(plan)
    private = plan.release.mechanism is not None
    task = NetworkTask(rows, classifier, _start_weights(settings, classifier))
    source = noise_source(run.private, settings.privacy) if private else None
    return train_blocks(settings, run, plan, task, source)


def _train_privately(
    settings: FinetuneSettings,
    run: Run,
    plan: Plan,
    start: Tensor,
    examples: Examples,
    *,
    rows: Sequence[Row],
    public: PublicExamples | None,
) -> tuple[Tensor, Release]:
    mechanism = plan.release.mechanism
    assert mechanism is not None  # the caller has asked
    ledger = Ledger(run.private / "ledger.jsonl")
    ledger.claim(
        plan.release,
        fingerprint=keyed_digest(plan.dataset, rows),
        block_steps=plan.recipe.block_steps,
    )
    weights = train_private_head(
        start,
        examples,
        plan.recipe,
        mechanism=mechanism,
        ledger=ledger,
        source=noise_source(run.private, settings.privacy),
        checkpoints=run.checkpoints,
        public=public,
        on_block=lambda spent: run.log(steps_spent=spent),
    )
    return weights, ledger.spent()


def _starting_classifier(settings: FinetuneSettings, info: DatasetInfo) -> Classifier:
    if settings.init is None:
        assert settings.backbone is not None  # FinetuneSettings asks for one of the two
        return new_classifier(settings.backbone, info.targets, seed=settings.seed)
    classifier = load_classifier(settings.init)
    if classifier.targets != info.targets:
        raise InputError(
            f"{settings.init}: trained for {', '.join(classifier.targets)}, but the data set has "
            f"{', '.join(info.targets)}"
        )
    return classifier


def _centred(settings: FinetuneSettings, classifier: Classifier) -> Classifier:
    """The classifier with the mean feature of the set `centre` as its centre."""
    if settings.centre is None:
        return classifier
    public = open_dataset(settings.centre)
    return replace(classifier, centre=features(classifier, public, public.rows).mean(dim=0))


def _with_bias(inputs: Tensor, bias_input: float) -> Tensor:
    """Append the constant that the bias sees, so that it is clipped and noised as a weight."""
    return torch.cat([inputs, inputs.new_full((len(inputs), 1), bias_input)], dim=1)


def _examples(
    classifier: Classifier, dataset: Dataset, rows: Sequence[Row], settings: FinetuneSettings
) -> Examples:
    inputs = head_input(features(classifier, dataset, rows), classifier.centre)
    _, units = np.unique(units_of(settings, rows), return_inverse=True)
    return Examples(
        inputs=_with_bias(inputs, settings.head.bias_input),
        targets=torch.from_numpy(targets_array(rows)),
        units=torch.from_numpy(units),
    )


def _public_examples(settings: FinetuneSettings, classifier: Classifier) -> PublicExamples | None:
    if settings.synthetic is None:
        return None
    dataset = open_dataset(settings.synthetic)
    examples = _examples(classifier, dataset, dataset.split("train"), settings)
    return PublicExamples(examples, settings.synthetic_weight)


def _start_weights(settings: FinetuneSettings, classifier: Classifier) -> Tensor:
    weight, bias = classifier.head_weight, classifier.head_bias
    if settings.head.start == "zero":
        return weight.new_zeros(weight.shape[0], weight.shape[1] + 1)
    scale = settings.head.bias_input
    column = bias / scale if scale else torch.zeros_like(bias)
    return torch.cat([weight, column.unsqueeze(1)], dim=1)


def _with_head(classifier: Classifier, weights: Tensor, bias_input: float) -> Classifier:
    return classifier.with_head(weights[:, :-1], weights[:, -1] * bias_input)


def _card(settings: FinetuneSettings, dataset: Dataset, statement: Statement) -> str:
    head, network = settings.head, settings.network
    recipe = f"logistic, {head.steps} steps of gradient descent, averaged iterate"
    summary = "A linear head on frozen features of a vision transformer."
    if network is not None:
        moved = {
            "blocks": "the",
            "biases": "biases and norms of the",
            "lora": f"rank-{network.lora_rank} additions to the",
        }
        blocks = f"{moved[network.tune]} last {network.trainable_blocks} blocks"
        recipe = f"logistic, with {blocks}: {network.steps} steps of SGD, averaged iterate"
        summary = f"A vision transformer, {blocks} and a linear head trained on these images."
    facts = {
        "data set": dataset.info.name,
        "targets": ", ".join(dataset.info.targets),
        "head": recipe,
        "started from": "a pretrained run" if settings.init else "public weights",
        "mixed with": open_dataset(settings.synthetic).info.name if settings.synthetic else "-",
    }
    return model_card(
        title=f"Malignancy classifier for {dataset.info.name}",
        summary=summary,
        statement=statement,
        settings=facts,
    )

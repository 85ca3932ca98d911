"""The finetune stage: a head on frozen features of patients, with or without privacy.

The unit is the patient; all patients take part in every step; accounting is the exact Gaussian
one. `privacy.epsilon` is the end-to-end target: what ancestors spent is taken off first.
"""

import math
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
    HeadRecipe,
    PublicExamples,
    train_head,
    train_private_head,
)
from synthdp.cards import model_card
from synthdp.data.dataset import (
    Dataset,
    DatasetInfo,
    Row,
    keyed_digest,
    open_dataset,
    refuse_unknown_patients,
    targets_array,
)
from synthdp.errors import InputError
from synthdp.privacy.accounting import gaussian_epsilon, gaussian_mu
from synthdp.privacy.ledger import Ledger, Lineage, Release, new_release_id, record_release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import keep_key
from synthdp.privacy.statement import Statement, make_statement
from synthdp.runs import Run, open_run, read_statement

#: epsilon -> learning rate x steps for unit-norm features, by the linear scaling rule of
#: arXiv 2212.04486. The points come from a feasibility probe on the public CBIS-DDSM patches.
LR_TIMES_STEPS = {1.0: 100.0, 6.0: 400.0, 12.0: 1000.0, 20.0: 2000.0}
UNPROTECTED_NOTE = "trained without differential privacy"


def auto_lr_times_steps(epsilon: float) -> float:
    """Learning rate x steps for a stage's epsilon: log-linear between the points, flat beyond."""
    points, values = zip(*LR_TIMES_STEPS.items(), strict=True)
    if math.isinf(epsilon):
        return float(values[-1])
    return float(np.exp(np.interp(np.log(epsilon), np.log(points), np.log(values))))


@dataclass(frozen=True)
class Plan:
    """What a run will do and promise, decided from settings and cards before an image is read."""

    dataset: Dataset
    ancestors: Lineage
    release: Release
    recipe: HeadRecipe
    statement: Statement


def _ancestors(settings: FinetuneSettings, to_come: Mapping[Path, Lineage]) -> Lineage:
    sets = [path for path in (settings.synthetic, settings.centre) if path is not None]
    infos = [open_dataset(path).info for path in sets]
    for info in infos:
        if info.protects_patients:
            raise InputError(
                f"{info.name}: holds patients, so it may not stand as `synthetic` or `centre`, "
                "which get no noise; name a synthetic or a phantom set"
            )
    lineages = [info.lineage for info in infos]
    if settings.init is not None:
        planned = to_come.get(settings.init)
        lineages.append(planned or read_statement(settings.init).lineage)
    return Lineage().joined(lineages)


def _stage_mu(settings: FinetuneSettings, ancestors: Lineage) -> float:
    """What the target leaves to this stage: mu^2 of the target less mu^2 of the ancestors."""
    privacy = settings.privacy
    if privacy.epsilon is None:
        return math.inf
    target = gaussian_mu(privacy.epsilon, privacy.delta)
    if math.isinf(ancestors.mu):
        return target
    if ancestors.mu >= target:
        spent = gaussian_epsilon(ancestors.mu, privacy.delta)
        raise InputError(
            f"privacy.epsilon is {privacy.epsilon:g}, but what this run starts from has spent "
            f"{spent:.3g} already; raise it, or start from something that spent less"
        )
    return math.sqrt(target**2 - ancestors.mu**2)


def _release(settings: FinetuneSettings, dataset: Dataset, mu: float, release_id: str) -> Release:
    mechanism = None
    if math.isfinite(mu):
        population = settings.privacy.population
        assert population is not None  # FinetuneSettings asks for it with every epsilon
        mechanism = Mechanism.calibrate(
            mu=mu,
            steps=settings.head.steps,
            normaliser=population,
            clip_norm=settings.head.clip_norm,
            unit=settings.privacy.unit,
        )
    return Release(
        id=release_id,
        stage="finetune",
        data=dataset.info.name,
        unit=settings.privacy.unit,
        mu=mu if mechanism is None else mechanism.mu,
        mechanism=mechanism,
        note=UNPROTECTED_NOTE if mechanism is None else "",
    )


def _plan(
    settings: FinetuneSettings, release_id: str, to_come: Mapping[Path, Lineage] | None = None
) -> Plan:
    dataset = open_dataset(settings.data)
    refuse_unknown_patients(dataset.info, settings.privacy.unit)
    ancestors = _ancestors(settings, to_come or {})
    release = _release(settings, dataset, _stage_mu(settings, ancestors), release_id)
    stage_epsilon = gaussian_epsilon(release.mu, settings.privacy.delta)
    head = settings.head
    lr_times_steps = head.lr_times_steps or auto_lr_times_steps(stage_epsilon)
    recipe = HeadRecipe(
        head.steps, lr_times_steps / head.steps, head.average_from, head.block_steps
    )
    return Plan(
        dataset, ancestors, release, recipe, _statement(settings, dataset, ancestors, release)
    )


def _statement(
    settings: FinetuneSettings, dataset: Dataset, ancestors: Lineage, release: Release
) -> Statement:
    counted = dataset.info.protects_patients
    return make_statement(
        ancestors.with_release(release) if counted else ancestors,
        subject="classifier",
        delta=settings.privacy.delta,
        unit=settings.privacy.unit,
        population=settings.privacy.population,
        stage=release if counted else None,
    )


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
    return _plan(settings, new_release_id(), to_come).statement


def run_finetune(settings: FinetuneSettings) -> Path:
    """Fine-tune a head, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan_finetune(settings)  # what does not fit is refused before a folder is made
    _starting_classifier(settings, open_dataset(settings.data).info)
    with open_run(settings.out, "finetune", settings) as run:
        if not run.finished:
            _finetune(settings, run, _plan(settings, run.release_id))
    return settings.out


def _finetune(settings: FinetuneSettings, run: Run, plan: Plan) -> None:
    dataset = plan.dataset
    rows = dataset.split("train")
    classifier = _centred(settings, _starting_classifier(settings, dataset.info))
    examples = _examples(classifier, dataset, rows, settings)
    _refuse_small_population(settings, examples.n_units)
    public = _public_examples(settings, classifier)
    start = _start_weights(settings, classifier)
    if dataset.info.protects_patients:
        record_release(dataset.ledger_path, plan.release)
    if plan.release.mechanism is None:
        normaliser = settings.privacy.population or examples.n_units
        weights = train_head(start, examples, plan.recipe, normaliser=normaliser, public=public)
        spent = plan.release
    else:
        weights, spent = _train_privately(run, plan, start, examples, rows=rows, public=public)
    trained = _with_head(classifier, weights, settings.head.bias_input)
    save_classifier(run.model, trained)
    statement = _statement(settings, dataset, plan.ancestors, spent)
    run.finish(statement, _card(settings, dataset, statement))
    (run.private / "noise.key").unlink(missing_ok=True)


def _train_privately(
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
    if ledger.release is None:
        ledger.open(plan.release)
    elif ledger.release != plan.release:
        raise InputError(
            "private/ledger.jsonl belongs to another release than this run plans (an ancestor or "
            "the data set has changed); start in a new run folder"
        )
    weights = train_private_head(
        start,
        examples,
        plan.recipe,
        mechanism=mechanism,
        ledger=ledger,
        key=keep_key(run.private / "noise.key"),
        checkpoints=run.checkpoints,
        fingerprint=keyed_digest(plan.dataset, rows),
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
    by_image = settings.privacy.unit == "image"
    names = range(len(rows)) if by_image else [row.patient_id for row in rows]
    _, units = np.unique(list(names), return_inverse=True)
    return Examples(
        inputs=_with_bias(inputs, settings.head.bias_input),
        targets=torch.from_numpy(targets_array(rows)),
        units=torch.from_numpy(units),
    )


def _refuse_small_population(settings: FinetuneSettings, n_units: int) -> None:
    population = settings.privacy.population
    if population is not None and n_units > population:
        raise InputError(
            f"privacy.population is {population}, but train holds more {settings.privacy.unit}s; "
            "declare a public round number that is surely above it"
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
    head = settings.head
    facts = {
        "data set": dataset.info.name,
        "targets": ", ".join(dataset.info.targets),
        "head": f"logistic, {head.steps} steps of gradient descent, averaged iterate",
        "started from": "a pretrained run" if settings.init else "public weights",
        "mixed with": open_dataset(settings.synthetic).info.name if settings.synthetic else "-",
    }
    return model_card(
        title=f"Malignancy classifier for {dataset.info.name}",
        summary="A linear head on frozen features of a vision transformer.",
        statement=statement,
        settings=facts,
    )

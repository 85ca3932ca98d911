"""The finetune stage: a head on frozen features of patients, with or without privacy.

The unit is the patient; all patients take part in every step; accounting is the exact Gaussian
one. With `network` the last blocks are trained too, on Poisson samples (`classify.network.train`).
`privacy.epsilon` is the end-to-end target: what ancestors spent is taken off first.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from classify.config import FinetuneSettings
from classify.head.task import (
    HeadTask,
    bound_on_units,
    centred,
    head_recipe,
    head_task,
    sample_source,
    start_weights,
    starting_classifier,
    training_rows,
    units_of,
)
from classify.head.train import train_head, train_private_head
from classify.model import Classifier, save_classifier
from classify.network.task import NetworkTask, cut_for, train_blocks
from synthdp.cards import model_card
from synthdp.data.cohorts import cohort_of
from synthdp.data.columns import where_words
from synthdp.data.dataset import (
    Dataset,
    keyed_digest,
    open_dataset,
    refuse_small_population,
    refuse_unknown_patients,
)
from synthdp.errors import InputError
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import forget_key, noise_source
from synthdp.privacy.plan import (
    FIXED_NOISE_NOTE,
    UNPROTECTED_NOTE,
    PrivacyPlan,
    declared_units,
    plan_privacy,
)
from synthdp.privacy.statement import Statement, read_statement
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
    return finetune_plan(settings, to_come).statement


def finetune_plan(
    settings: FinetuneSettings, to_come: Mapping[Path, Lineage] | None = None
) -> PrivacyPlan:
    """What the run will spend and promise; as `plan_finetune`."""
    dataset, privacy = open_dataset(settings.data), settings.privacy
    refuse_unknown_patients(dataset.info, privacy.unit)
    training = settings.network or settings.head
    fixed_noise = privacy.fixed_noise_key is not None
    return plan_privacy(
        dataset,
        privacy,
        stage="finetune",
        subject="classifier",
        ancestors=_ancestors(settings, dataset, to_come or {}),
        cohort=cohort_of(dataset, settings.cohort),
        n_units=declared_units(privacy, settings.cohort),
        steps=training.steps,
        sampling_rate=training.sampling_rate,
        clip_norm=training.clip_norm,
        unprotected_note=FIXED_NOISE_NOTE if fixed_noise else UNPROTECTED_NOTE,
        note=f"images of {where_words(settings.where)} alone" if settings.where else "",
    )


def _ancestors(
    settings: FinetuneSettings, dataset: Dataset, to_come: Mapping[Path, Lineage]
) -> Lineage:
    """What the model descends from, a synthetic set in the place of patients included."""
    sets = [path for path in (settings.synthetic, settings.centre) if path is not None]
    infos = [open_dataset(path).info for path in sets]
    for info in infos:
        if info.protects_patients:
            raise InputError(
                f"{info.name}: holds patients, so it may not stand as `synthetic` or `centre`, "
                "which get no noise; name a synthetic or a phantom set"
            )
    lineages = [info.lineage for info in (dataset.info, *infos)]
    if settings.init is not None:
        planned = to_come.get(settings.init)
        lineages.append(planned or read_statement(settings.init).lineage)
    return Lineage().joined(lineages)


def run_finetune(settings: FinetuneSettings) -> Path:
    """Fine-tune a head, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan = finetune_plan(settings)  # what does not fit is refused before a folder is made
    start = starting_classifier(settings, plan.dataset.info)
    if settings.network is not None:
        cut_for(start, settings.network)
    with open_run(settings.out, "finetune", settings) as run:
        if not run.finished:
            _finetune(settings, run, plan.with_release_id(run.release_id))
    return settings.out


def _finetune(settings: FinetuneSettings, run: Run, plan: PrivacyPlan) -> None:
    train = _train_head if settings.network is None else _train_network
    trained, spent = train(settings, run, plan)
    save_classifier(run.model, trained)
    forget_key(run.private)  # first: no finished run keeps its key
    statement = plan.statement_after(spent)
    run.finish(statement, _card(settings, plan.dataset, statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _train_head(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan
) -> tuple[Classifier, Release]:
    task = head_task(settings, plan.dataset)
    plan.record()
    if plan.mechanism is None:
        weights, spent = train_plainly(settings, plan, task), plan.release
    else:
        weights, spent = _train_privately(settings, run, plan, task)
    return task.classifier_of(weights, settings.head), spent


def train_plainly(settings: FinetuneSettings, plan: PrivacyPlan, task: HeadTask) -> Tensor:
    """Weights of a head trained without privacy, by the same recipe; as `train_head`."""
    rate, recipe = settings.head.sampling_rate, head_recipe(settings.head, plan.stage_epsilon)
    population = bound_on_units(settings, plan.dataset.info) or task.examples.n_units
    return train_head(
        task.start,
        task.examples,
        recipe,
        sampling=Mechanism(
            sampling_rate=rate,
            noise_multiplier=0,
            steps=recipe.steps,
            normaliser=population * rate,
        ),
        noise_source=sample_source(settings.seed),
        public=task.public,
    )


def _train_network(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan
) -> tuple[Classifier, Release]:
    assert settings.network is not None  # the caller has asked
    dataset = plan.dataset
    rows = training_rows(settings, dataset)
    bound, n_units = bound_on_units(settings, dataset.info), len(set(units_of(settings, rows)))
    refuse_small_population(bound, n_units, settings.privacy.unit)
    cut = cut_for(starting_classifier(settings, dataset.info), settings.network)
    classifier = centred(settings, cut)
    plan.record()
    private = plan.mechanism is not None
    task = NetworkTask(rows, classifier, start_weights(settings, classifier))
    source = noise_source(run.private, settings.privacy) if private else None
    return train_blocks(settings, run, plan, task, source)


def _train_privately(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan, task: HeadTask
) -> tuple[Tensor, Release]:
    mechanism = plan.mechanism
    assert mechanism is not None  # the caller has asked
    recipe = head_recipe(settings.head, plan.stage_epsilon)
    ledger = Ledger(run.private / "ledger.jsonl")
    ledger.claim(
        plan.release,
        fingerprint=keyed_digest(plan.dataset, task.rows),
        block_steps=recipe.block_steps,
    )
    weights = train_private_head(
        task.start,
        task.examples,
        recipe,
        mechanism=mechanism,
        ledger=ledger,
        noise_source=noise_source(run.private, settings.privacy),
        checkpoints=run.checkpoints,
        public=task.public,
        on_block=lambda spent: run.log(steps_spent=spent),
    )
    return weights, ledger.spent()


def _card(settings: FinetuneSettings, dataset: Dataset, statement: Statement) -> str:
    head, network = settings.head, settings.network
    recipe = f"{head.kind.replace('_', ' ')}, {head.steps} steps of {head.optimizer}"
    summary = "A head on frozen features of public networks."
    if network is not None:
        moved = {"blocks": "the", "lora": f"rank-{network.lora_rank} additions to the"}
        blocks = f"{moved[network.tune]} last {network.trainable_blocks} blocks"
        recipe = f"logistic, with {blocks}: {network.steps} steps of SGD, averaged iterate"
        summary = f"A vision transformer, {blocks} and a linear head trained on these images."
    facts = {
        "data set": dataset.info.name,
        "targets": ", ".join(dataset.info.targets),
        "images": f"those of {where_words(settings.where)}" if settings.where else "all of train",
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

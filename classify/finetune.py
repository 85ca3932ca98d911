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
from classify.plan import Plan, make_plan, statement_after
from synthdp.cards import model_card
from synthdp.data.columns import where_words
from synthdp.data.dataset import (
    Dataset,
    keyed_digest,
    open_dataset,
    refuse_small_population,
)
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Lineage, Release, new_release_id
from synthdp.privacy.mechanism import Mechanism
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
    start = starting_classifier(settings, open_dataset(settings.data).info)
    if settings.network is not None:
        cut_for(start, settings.network)
    with open_run(settings.out, "finetune", settings) as run:
        if not run.finished:
            _finetune(settings, run, make_plan(settings, run.release_id))
    return settings.out


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
    _record(plan)
    if plan.release.mechanism is None:
        weights, spent = train_plainly(settings, plan, task), plan.release
    else:
        weights, spent = _train_privately(settings, run, plan, task)
    return task.classifier_of(weights, settings.head), spent


def train_plainly(settings: FinetuneSettings, plan: Plan, task: HeadTask) -> Tensor:
    """Weights of a head trained without privacy, by the same recipe; as `train_head`."""
    rate = settings.head.sampling_rate
    population = bound_on_units(settings, plan.dataset.info) or task.examples.n_units
    return train_head(
        task.start,
        task.examples,
        plan.recipe,
        sampling=Mechanism(
            sampling_rate=rate,
            noise_multiplier=0,
            steps=plan.recipe.steps,
            normaliser=population * rate,
        ),
        noise_source=sample_source(settings.seed),
        public=task.public,
    )


def _train_network(settings: FinetuneSettings, run: Run, plan: Plan) -> tuple[Classifier, Release]:
    assert settings.network is not None  # the caller has asked
    dataset = plan.dataset
    rows = training_rows(settings, dataset)
    bound, n_units = bound_on_units(settings, dataset.info), len(set(units_of(settings, rows)))
    refuse_small_population(bound, n_units, settings.privacy.unit)
    cut = cut_for(starting_classifier(settings, dataset.info), settings.network)
    classifier = centred(settings, cut)
    _record(plan)
    private = plan.release.mechanism is not None
    task = NetworkTask(rows, classifier, start_weights(settings, classifier))
    source = noise_source(run.private, settings.privacy) if private else None
    return train_blocks(settings, run, plan, task, source)


def _train_privately(
    settings: FinetuneSettings, run: Run, plan: Plan, task: HeadTask
) -> tuple[Tensor, Release]:
    mechanism = plan.release.mechanism
    assert mechanism is not None  # the caller has asked
    ledger = Ledger(run.private / "ledger.jsonl")
    ledger.claim(
        plan.release,
        fingerprint=keyed_digest(plan.dataset, task.rows),
        block_steps=plan.recipe.block_steps,
    )
    weights = train_private_head(
        task.start,
        task.examples,
        plan.recipe,
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

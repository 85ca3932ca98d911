"""Training a generator, as a stage; and the adversarial training, which is not private."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from gan.architectures import TrainedGenerator
from gan.checkpoints import kept
from gan.config import TrainGanSettings
from gan.examples import Examples, draw_batch, load_examples
from gan.finished import generator_card, start_from, write_generator
from gan.finishing import finish_generator
from gan.networks import Generator
from gan.plan import STAGE, GanPlan, make_plan, statement_after
from gan.steps import (
    Training,
    new_training,
    schedule_at,
    total_steps,
    train_step,
    weights_are_finite,
)
from gan.train_privately import train_against_private_discriminator, train_on_embedding
from synthdp.devices import chosen_device, reduced_precision
from synthdp.errors import RunError
from synthdp.privacy.ledger import record_release
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.noise import forget_key
from synthdp.privacy.statement import Statement
from synthdp.progress import progress
from synthdp.runs import Run, open_run

PLANNED_RELEASE = "0" * 16
LOG_KIMG = 1.0


def plan_train_gan(
    settings: TrainGanSettings, to_come: Mapping[Path, Lineage] | None = None
) -> Statement:
    """What the generator will promise; reads no image.

    Args:
        settings: of the run.
        to_come: lineages of runs that are only planned yet, where `init` may be one of them.

    Raises:
        InputError: when the data set or `init` cannot be used, or the ancestors have spent the
            target already.
    """
    return make_plan(settings, PLANNED_RELEASE, to_come).statement


def run_train_gan(settings: TrainGanSettings) -> Path:
    """Train the generator, or resume its training, or return at once; gives the run folder.

    Raises:
        InputError: when the data set cannot be used, or the folder holds something else.
        RunError: when the training diverges.
    """
    if not (settings.out / "status.json").is_file():
        make_plan(settings, PLANNED_RELEASE)  # what does not fit is refused before a folder is made
    with open_run(settings.out, STAGE, settings) as run:
        if not run.finished:
            plan = make_plan(settings, run.release_id)
            generator, spent = METHODS[settings.method](settings, run, plan)
            _finish(run, generator, settings, plan, spent)
    return settings.out


def _train_adversarially(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    examples = load_examples(plan.dataset, plan.rows, settings.size_px, plan.conditions)
    if plan.counted:
        record_release(plan.dataset.ledger_path, plan.release)
    training = new_training(settings, chosen_device(settings.device), plan.conditions)
    start_from(settings.init, training.generator, training.averaged)
    with kept(settings, run, plan, training, examples.attributes) as (log, keep):
        train(training, examples, settings, log=log, keep=keep)
    if isinstance(training.averaged, Generator):
        return finish_generator(training.averaged, examples, settings), plan.release
    return training.averaged, plan.release


METHODS: Mapping[
    str, Callable[[TrainGanSettings, Run, GanPlan], tuple[TrainedGenerator, Release]]
] = {
    "adversarial": _train_adversarially,
    "embedding": train_on_embedding,
    "dp_discriminator": train_against_private_discriminator,
}


def _finish(
    run: Run, generator: TrainedGenerator, settings: TrainGanSettings, plan: GanPlan, spent: Release
) -> None:
    info = plan.dataset.info
    write_generator(run, generator, settings, plan.conditions, info)
    forget_key(run.private)  # first: no finished run keeps its key
    statement = statement_after(settings, plan.dataset, plan.ancestors, spent)
    run.finish(statement, generator_card(settings, plan.conditions, info, statement))


def train(
    training: Training,
    examples: Examples,
    settings: TrainGanSettings,
    *,
    log: Callable[..., None],
    keep: Callable[[], None],
) -> None:
    """Train from where `training` stands to the end.

    Args:
        training: moved in place.
        examples: the real images, on the CPU.
        settings: the settings of the run.
        log: takes one line of metrics about every thousand images.
        keep: saves a checkpoint; called every `checkpoint_kimg` and at the end.

    Raises:
        RunError: when a loss or a weight is no longer a number; no such weight is kept.
    """
    device = training.generator.device
    autocast = reduced_precision(device)
    last = total_steps(settings)
    kept_step = training.step
    recent: dict[str, list[Tensor]] = {}
    since, steps_since = time.monotonic(), 0
    for step in progress(range(training.step, last), what="training the generator"):
        real = draw_batch(examples, settings, training.rng).to(device)
        metrics = train_step(training, real, settings, autocast)
        kept_now = training.step == last or _passes(settings.checkpoint_kimg, step, settings.batch)
        finite = math.isfinite(float(sum(metrics.values())))
        if not finite or (kept_now and not weights_are_finite(training)):
            raise RunError(_divergence_words(step, kept_step, settings))
        for name, value in metrics.items():  # guidance is not asked in every step
            recent.setdefault(name, []).append(value)
        steps_since += 1
        if training.step == last or _passes(LOG_KIMG, step, settings.batch):
            seconds = time.monotonic() - since
            log(
                step=training.step,
                kimg=round(training.step * settings.batch / 1000, 3),
                **{
                    name: round(torch.stack(found).mean().item(), 5)
                    for name, found in recent.items()
                },
                sign_mean=round(training.sign_mean, 4),
                augmentation=round(training.strength, 4),
                class_strength=round(schedule_at(step, settings).class_strength, 4),
                images_per_s=round(steps_since * settings.batch / seconds, 2),
            )
            recent, since, steps_since = {}, time.monotonic(), 0
        if kept_now:
            keep()
            kept_step = training.step


def _passes(every_kimg: float, step: int, batch: int) -> bool:
    """Whether a step takes the count of images seen over a multiple of `every_kimg` thousand."""
    every = max(1, round(every_kimg * 1000))
    return (step + 1) * batch // every > step * batch // every


def _divergence_words(step: int, kept_step: int, settings: TrainGanSettings) -> str:
    last_good = f"the last good checkpoint is that of step {kept_step}"
    kept = last_good if kept_step else "no checkpoint was kept"
    return (
        f"the training diverged at step {step + 1}: a loss or a weight is no longer a number; "
        f"{kept}. Start a new run with lower learning rates (generator_lr "
        f"{settings.generator_lr:g}, discriminator_lr {settings.discriminator_lr:g}) or a higher "
        "gamma_start"
    )

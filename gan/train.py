"""Training a generator, as a stage."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gan.board import open_board
from gan.checkpoints import restore_training, save_picture, save_training
from gan.config import TrainGanSettings
from gan.examples import Examples, draw_batch, load_examples
from gan.finished import generator_card, write_generator
from gan.plan import STAGE, GanPlan, make_plan
from gan.steps import (
    Training,
    new_training,
    sample_grid,
    schedule_at,
    total_steps,
    train_step,
    weights_are_finite,
)
from synthdp.data.dataset import keyed_digest
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger import record_release
from synthdp.privacy.statement import Statement
from synthdp.progress import progress
from synthdp.runs import Run, open_run

PLANNED_RELEASE = "0" * 16
LOG_KIMG = 1.0


def plan_train_gan(settings: TrainGanSettings) -> Statement:
    """What the generator will promise; reads no image.

    Raises:
        InputError: when the data set cannot be used.
    """
    return make_plan(settings, PLANNED_RELEASE).statement


def run_train_gan(settings: TrainGanSettings) -> Path:
    """Train the generator, or resume its training, or return at once; gives the run folder.

    Raises:
        InputError: when the data set cannot be used, or the folder holds something else.
        RunError: when the training diverges.
    """
    with open_run(settings.out, STAGE, settings) as run:
        if run.finished:
            return run.path
        plan = make_plan(settings, run.release_id)
        examples = load_examples(plan.dataset, plan.rows, settings.size_px, plan.conditions)
        if plan.release is not None:
            record_release(plan.dataset.ledger_path, plan.release)
        digest = keyed_digest(plan.dataset, plan.rows)
        training = new_training(settings, chosen_device(settings.device), plan.conditions)
        restore_training(run, training, digest, examples.attributes)
        folder = run.private / "tensorboard"
        with open_board(folder, enabled=settings.tensorboard, step=training.step) as board:

            def log(**metrics: float) -> None:
                run.log(**metrics)
                board.scalars(**metrics)

            def keep() -> None:
                save_training(run, training, digest, examples.attributes)
                grid = sample_grid(training, settings)
                kimg = training.step * settings.batch / 1000
                save_picture(run, grid, f"{kimg:08.1f}-kimg")
                board.picture(grid, training.step)

            train(training, examples, settings, log=log, keep=keep)
        _finish(run, training, settings, plan)
        return run.path


def _finish(run: Run, training: Training, settings: TrainGanSettings, plan: GanPlan) -> None:
    info = plan.dataset.info
    write_generator(run, training.averaged, settings, plan.conditions, info)
    card = generator_card(settings, plan.conditions, info, plan.statement)
    run.finish(plan.statement, card)


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
    sums: dict[str, Tensor] = {}
    since, steps_since = time.monotonic(), 0
    for step in progress(range(training.step, last), what="training the generator"):
        real = draw_batch(examples, settings, training.rng).to(device)
        metrics = train_step(training, real, settings, autocast)
        kept_now = training.step == last or _passes(settings.checkpoint_kimg, step, settings.batch)
        finite = math.isfinite(float(sum(metrics.values())))
        if not finite or (kept_now and not weights_are_finite(training)):
            raise RunError(_divergence_words(step, kept_step, settings))
        sums = {name: sums.get(name, 0) + value for name, value in metrics.items()}
        steps_since += 1
        if training.step == last or _passes(LOG_KIMG, step, settings.batch):
            seconds = time.monotonic() - since
            log(
                step=training.step,
                kimg=round(training.step * settings.batch / 1000, 3),
                **{name: round(value.item() / steps_since, 5) for name, value in sums.items()},
                sign_mean=round(training.sign_mean, 4),
                augmentation=round(training.strength, 4),
                class_strength=round(schedule_at(step, settings).class_strength, 4),
                images_per_s=round(steps_since * settings.batch / seconds, 2),
            )
            sums, since, steps_since = {}, time.monotonic(), 0
        if kept_now:
            keep()
            kept_step = training.step


def _passes(every_kimg: float, step: int, batch: int) -> bool:
    """Whether a step takes the count of images seen over a multiple of `every_kimg` thousand."""
    every = max(1, round(every_kimg * 1000))
    return (step + 1) * batch // every > step * batch // every


def chosen_device(name: str) -> torch.device:
    """The device that a setting names; `auto` takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and absent.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda was asked for, but torch finds no CUDA device; use auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def reduced_precision(device: torch.device) -> torch.autocast:
    """Bfloat16 where the hardware multiplies it, else a context that changes nothing."""
    if device.type == "cuda":
        return torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    found: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    fast = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast)


def _divergence_words(step: int, kept_step: int, settings: TrainGanSettings) -> str:
    last_good = f"the last good checkpoint is that of step {kept_step}"
    kept = last_good if kept_step else "no checkpoint was kept"
    return (
        f"the training diverged at step {step + 1}: a loss or a weight is no longer a number; "
        f"{kept}. Start a new run with lower learning rates (generator_lr "
        f"{settings.generator_lr:g}, discriminator_lr {settings.discriminator_lr:g}) or a higher "
        "gamma_start"
    )

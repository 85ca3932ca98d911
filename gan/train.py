"""Training a generator, as a stage; and the adversarial training, which is not private."""

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan.config import TrainGanSettings
from gan.network.architectures import TrainedGenerator
from gan.network.generator import Generator
from gan.package.model import generator_card, start_from, write_generator
from gan.plan import STAGE, GanPlan, declared_units, make_plan, statement_after, units_of
from gan.private.dp_discriminator import PatientImages, PrivateGame, play_plainly, play_privately
from gan.private.embedding import RELEASED, train_from_embedding
from gan.training.checkpoint import kept
from gan.training.examples import Examples, draw_batch, load_examples
from gan.training.finish import finish_generator
from gan.training.loop import (
    Training,
    new_training,
    schedule_at,
    total_steps,
    train_step,
    weights_are_finite,
)
from synthdp.data.cohorts import patient_tags
from synthdp.data.dataset import keyed_digest
from synthdp.devices import chosen_device, reduced_precision
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import KEY_FILE, NoiseSource, forget_key, noise_source
from synthdp.privacy.statement import Statement
from synthdp.progress import progress
from synthdp.runs import Run, open_run

# The private methods of training a generator, as part of a train-gan run: record, claim, train.


def claimed_ledger(run: Run, plan: GanPlan, block_steps: int) -> Ledger:
    """The ledger of the run, for its release alone, which the data set has on record by then.

    Raises:
        InputError: when the ledger is that of another release, mechanism or data.
    """
    if plan.counted:
        record_release(plan.dataset.ledger_path, plan.release)
    ledger = Ledger(run.private / "ledger.jsonl")
    fingerprint = keyed_digest(plan.dataset, plan.rows)
    ledger.claim(plan.release, fingerprint=fingerprint, block_steps=block_steps)
    return ledger


def train_on_embedding(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train on one noisy release of mean features (`gan.private.embedding`); gives what it spent.

    Key and step of the release stand on the disk before anything is computed. A crash takes neither
    back: the release that is then made anew is the same one, since its noise has the same key.

    Raises:
        InputError: when the step is spent, and both the key and what was released are gone.
    """
    if plan.release.mechanism is None:
        _record_unprotected(plan)
    else:
        _reserve_release(settings, run, claimed_ledger(run, plan, block_steps=1))
    return train_from_embedding(settings, run, plan, plan.rows), plan.release


def _reserve_release(settings: TrainGanSettings, run: Run, ledger: Ledger) -> None:
    if ledger.steps_left:
        noise_source(run.private, settings.privacy)  # keeps its key
        ledger.reserve(1)
    elif (
        settings.privacy.fixed_noise_key is None
        and not (run.private / RELEASED).is_file()
        and not (run.private / KEY_FILE).is_file()
    ):
        raise InputError(
            f"{run.path}: the release is spent, but neither what was released nor its noise key is "
            "there, and a second release would cost again; start in a new run folder"
        )


def train_against_private_discriminator(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train against a discriminator that learns by DP-SGD; gives what was spent of the release."""
    device = chosen_device(settings.device)
    patients = _patients(settings, plan)
    training = new_training(settings, device)
    start_from(settings.init, training.generator, training.averaged)
    unconditional = torch.empty(len(plan.rows), 0, dtype=torch.int64)
    block_steps = settings.dp_discriminator.block_steps
    with kept(settings, run, plan, training, unconditional) as (log, keep):
        autocast = reduced_precision(device)
        game = PrivateGame(training, settings, autocast=autocast, log=log, keep=keep)
        if plan.release.mechanism is None:
            _record_unprotected(plan)
            sampling = _sampling(settings, len(patients.tags))
            play_plainly(game, patients, sampling, _samples(settings), block_steps)
            return training.averaged, plan.release
        ledger = claimed_ledger(run, plan, block_steps)
        play_privately(
            game,
            patients,
            mechanism=plan.release.mechanism,
            ledger=ledger,
            source=noise_source(run.private, settings.privacy),
            block_steps=block_steps,
        )
    return training.averaged, ledger.spent()


def _record_unprotected(plan: GanPlan) -> None:
    if plan.counted:
        record_release(plan.dataset.ledger_path, plan.release)


def _patients(settings: TrainGanSettings, plan: GanPlan) -> PatientImages:
    examples = load_examples(plan.dataset, plan.rows, settings.size_px)
    names, units = np.unique(units_of(settings, plan.rows), return_inverse=True)
    tags = patient_tags(plan.dataset, [str(name) for name in names])
    return PatientImages.of(examples.images, examples.labels, torch.from_numpy(units), tags)


def _sampling(settings: TrainGanSettings, n_units: int) -> Mechanism:
    """How patients are sampled where nothing protects them; the true count may be used there."""
    recipe = settings.dp_discriminator
    units = n_units if settings.privacy.population is None else declared_units(settings)
    return Mechanism(
        unit=settings.privacy.unit,
        sampling_rate=recipe.sampling_rate,
        noise_multiplier=0,
        clip_norm=recipe.clip_norm,
        steps=recipe.steps,
        normaliser=units * recipe.sampling_rate,
    )


def _samples(settings: TrainGanSettings) -> NoiseSource:
    return NoiseSource(hashlib.sha256(f"samples {settings.seed}".encode()).digest())


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

"""Training a generator, as a stage: adversarially, without privacy, or by one of the private ways.

`METHODS` names them. Each gives the trained generator and what it spent of the planned release; the
algorithms themselves are `gan.training.loop`, `gan.private.embedding` and
`gan.private.dp_discriminator`.
"""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan.config import TrainGanSettings
from gan.network.architectures import TrainedGenerator
from gan.network.generator import Generator
from gan.package.model import generator_card, load_generator, start_from, write_generator
from gan.plan import STAGE, GanPlan, declared_units, make_plan, statement_after, units_of
from gan.private.dp_discriminator import (
    GameRecipe,
    PatientImages,
    PrivateGame,
    play_plainly,
    play_privately,
)
from gan.private.embedding import (
    Matching,
    PublicFeatures,
    class_means,
    match,
    matched_means,
    public_features,
    released_sums,
)
from gan.training.checkpoint import Companion, LearnedRows, kept
from gan.training.examples import load_examples
from gan.training.finish import finish_generator
from gan.training.guidance import Guidance
from gan.training.loop import Recipe, Schedule, Training, new_training, train_adversarially
from synthdp.checkpoint import load_weights, save_weights
from synthdp.data.cohorts import patient_tags
from synthdp.data.dataset import keyed_digest
from synthdp.devices import chosen_device, reduced_precision
from synthdp.errors import InputError
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import KEY_FILE, NoiseSource, forget_key, noise_source
from synthdp.privacy.statement import Statement
from synthdp.runs import Run, open_run

PLANNED_RELEASE = "0" * 16
#: Within a run's private part: the one noisy release of `method: embedding`.
RELEASED = "embedding.safetensors"


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


def _finish(
    run: Run, generator: TrainedGenerator, settings: TrainGanSettings, plan: GanPlan, spent: Release
) -> None:
    info = plan.dataset.info
    write_generator(run, generator, settings, plan.conditions, info)
    forget_key(run.private)  # first: no finished run keeps its key
    statement = statement_after(settings, plan.dataset, plan.ancestors, spent)
    run.finish(statement, generator_card(settings, plan.conditions, info, statement))


def _train_adversarially(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train without privacy, on real images as they are."""
    examples = load_examples(plan.dataset, plan.rows, settings.size_px, plan.conditions)
    _record_unprotected(plan)
    device = chosen_device(settings.device)
    training = new_training(settings, device, plan.conditions)
    start_from(settings.init, training.generator, training.averaged)
    guidance = None
    if settings.guidance is not None:
        guidance = Guidance(settings.guidance, settings.size_px, settings.seed, device)
    kept_on = _kept(
        settings, run, plan, training, attributes=examples.attributes, companion=guidance
    )
    with kept_on as (log, keep):
        recipe = Recipe.of(settings)
        train_adversarially(training, examples, recipe, guidance, log=log, keep=keep)
    if not isinstance(training.averaged, Generator):
        return training.averaged, plan.release
    finished = finish_generator(
        training.averaged,
        examples,
        class_spread=settings.class_spread,
        style_spread=settings.style_spread,
        film=settings.film,
    )
    return finished, plan.release


def _train_on_embedding(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train on one noisy release of mean features.

    Key and step of the release are on the disk before anything is computed. A crash takes neither
    back: the release that is then made anew is the same one, since its noise has the same key.

    Guarantee: the rows are read for that release alone; everything else is a function of its result
    and of public things.

    Raises:
        InputError: when the step is spent, and both the key and what was released are gone.
    """
    embedding, mechanism = settings.embedding, plan.release.mechanism
    assert embedding is not None  # TrainGanSettings asks for it
    if mechanism is None:
        _record_unprotected(plan)
    else:
        _reserve_release(settings, run, _claimed_ledger(run, plan, block_steps=1))
    device = chosen_device(settings.device)
    features = public_features(embedding, settings.size_px, device)
    sums = _released_sums(settings, run, plan, features).to(device)
    means, deviations = class_means(
        sums, mechanism, class_prior=settings.class_prior, constant=embedding.constant
    )
    target = matched_means(means, deviations, embedding.separation)
    training = new_training(settings, device)
    start_from(settings.init, training.generator, training.averaged)
    start = None if settings.init is None else load_generator(settings.init, device)
    assert start is None or isinstance(start, Generator)  # arch: haar
    matching = Matching(features, target, start, embedding.layout_weight)
    with _kept(settings, run, plan, training, companion=matching) as (log, keep):
        match(
            training,
            matching,
            Schedule.of(settings),
            checkpoint_kimg=settings.checkpoint_kimg,
            log=log,
            keep=keep,
        )
    return training.averaged, plan.release


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


def _released_sums(
    settings: TrainGanSettings, run: Run, plan: GanPlan, features: PublicFeatures
) -> Tensor:
    """The release of the run, (2, 1 + D), made once and kept: later starts read what was kept."""
    path, mechanism = run.private / RELEASED, plan.release.mechanism
    if not path.is_file():
        examples = load_examples(plan.dataset, plan.rows, settings.size_px)
        names, units = _units(settings, plan)
        source = None if mechanism is None else noise_source(run.private, settings.privacy)
        sums = released_sums(
            features, examples, units, len(names), mechanism=mechanism, noise_source=source
        )
        save_weights(path, {"sums": sums})
    return load_weights(path)["sums"]


def _train_against_private_discriminator(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train against a discriminator that learns by DP-SGD; gives what was spent of the release."""
    device = chosen_device(settings.device)
    patients = _patient_images(settings, plan)
    training = new_training(settings, device)
    start_from(settings.init, training.generator, training.averaged)
    block_steps = settings.dp_discriminator.block_steps
    with _kept(settings, run, plan, training) as (log, keep):
        autocast = reduced_precision(device)
        recipe = GameRecipe.of(settings)
        game = PrivateGame(training, recipe, autocast=autocast, log=log, keep=keep)
        if plan.release.mechanism is None:
            _record_unprotected(plan)
            sampling = _plain_sampling(settings, len(patients.tags))
            samples = hashlib.sha256(f"samples {settings.seed}".encode()).digest()
            play_plainly(game, patients, sampling, NoiseSource(samples), block_steps)
            return training.averaged, plan.release
        ledger = _claimed_ledger(run, plan, block_steps)
        play_privately(
            game,
            patients,
            mechanism=plan.release.mechanism,
            ledger=ledger,
            noise_source=noise_source(run.private, settings.privacy),
            block_steps=block_steps,
        )
    return training.averaged, ledger.spent()


METHODS: Mapping[
    str, Callable[[TrainGanSettings, Run, GanPlan], tuple[TrainedGenerator, Release]]
] = {
    "adversarial": _train_adversarially,
    "embedding": _train_on_embedding,
    "dp_discriminator": _train_against_private_discriminator,
}


def _patient_images(settings: TrainGanSettings, plan: GanPlan) -> PatientImages:
    examples = load_examples(plan.dataset, plan.rows, settings.size_px)
    names, units = _units(settings, plan)
    tags = patient_tags(plan.dataset, names)
    return PatientImages.of(examples.images, examples.labels, units, tags)


def _units(settings: TrainGanSettings, plan: GanPlan) -> tuple[list[str], Tensor]:
    """The names of the units, and for each row (N,) int64 the index of its own among them."""
    names, units = np.unique(units_of(settings, plan.rows), return_inverse=True)
    return [str(name) for name in names], torch.from_numpy(units)


def _plain_sampling(settings: TrainGanSettings, n_units: int) -> Mechanism:
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


def _kept(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    training: Training,
    *,
    attributes: Tensor | None = None,
    companion: Companion | None = None,
) -> AbstractContextManager[tuple[Callable[..., None], Callable[[], None]]]:
    """The training restored from the run's newest checkpoint, and kept from there on.

    Without `attributes`, codes (N, A), the generator knows the class alone.
    """
    if attributes is None:
        attributes = torch.empty(len(plan.rows), 0, dtype=torch.int64)

    def picture_name(step: int) -> str:
        if settings.method == "adversarial":
            return f"{step * settings.batch / 1000:08.1f}-kimg"
        return f"{step:06d}-steps"

    return kept(
        run,
        training,
        LearnedRows(keyed_digest(plan.dataset, plan.rows), attributes, plan.conditions),
        companion,
        seed=settings.seed,
        batch=settings.batch,
        picture_name=picture_name,
        tensorboard=settings.tensorboard,
    )


def _record_unprotected(plan: GanPlan) -> None:
    """Put a release without a guarantee on the data set's record, where the rows are patients."""
    if plan.counted:
        record_release(plan.dataset.ledger_path, plan.release)


def _claimed_ledger(run: Run, plan: GanPlan, block_steps: int) -> Ledger:
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

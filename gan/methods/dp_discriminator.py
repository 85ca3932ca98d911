"""`method: dp_discriminator`, EXPERIMENTAL: a generator against a discriminator of DP-SGD."""

import hashlib

from gan.methods.claim import claimed, spent
from gan.methods.examples import images_of_plan, unit_indices
from gan.methods.training import begun_training, checkpointed_training
from gan.package.networks import TrainedGenerator
from gan.plans.train import GanPlan
from gan.private.dp_discriminator import (
    GameRecipe,
    PatientImages,
    PrivateGame,
    play_plainly,
    play_privately,
)
from gan.settings.parts import DpDiscriminatorSettings
from gan.settings.train import TrainGanSettings
from synthdp.data.people.cohorts import patient_tags
from synthdp.data.people.units import note_unrefused
from synthdp.machine.devices import chosen_device, reduced_precision
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource, open_noise_source
from synthdp.privacy.promise.plan import declared_units
from synthdp.privacy.units import Unit
from synthdp.runs.folder import Run


def train_against_private_discriminator(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train against a discriminator that learns by DP-SGD; gives what was spent of the release."""
    device = chosen_device(settings.device)
    examples = images_of_plan(plan, settings.size_px)
    note_unrefused(run.private, plan.rows, settings.privacy)
    names, units = unit_indices(plan)
    tags = patient_tags(plan.privacy.dataset, names)
    patients = PatientImages.of(examples.images, examples.labels, units, tags)
    training = begun_training(settings, plan, device)
    block_steps = settings.dp_discriminator.block_steps
    with checkpointed_training(settings, run, plan, training) as (log, keep):
        autocast = reduced_precision(device)
        recipe = GameRecipe.of(settings)
        game = PrivateGame(training, recipe, autocast=autocast, log=log, keep=keep)
        ledger, plan = claimed(settings, run, plan, block_steps)
        if plan.privacy.mechanism is None:
            # Without a promise the true count may stand in for the declared one.
            n_units = declared_units(settings.privacy, settings.cohort) or len(patients.tags)
            sampling = _unprotected_sampling(
                settings.dp_discriminator, settings.privacy.unit, n_units
            )
            samples = hashlib.sha256(f"samples {settings.seed}".encode()).digest()
            play_plainly(game, patients, sampling, NoiseSource(samples), block_steps)
        else:
            play_privately(
                game,
                patients,
                ledger=ledger,
                noise_source=open_noise_source(settings.privacy),
                block_steps=block_steps,
            )
    return training.averaged, spent(ledger, plan)


def _unprotected_sampling(recipe: DpDiscriminatorSettings, unit: Unit, n_units: float) -> Mechanism:
    """How `n_units` patients are sampled where nothing protects them."""
    return Mechanism(
        unit=unit,
        sampling_rate=recipe.sampling_rate,
        noise_multiplier=0,
        clip_norm=recipe.clip_norm,
        steps=recipe.steps,
        normaliser=n_units * recipe.sampling_rate,
    )

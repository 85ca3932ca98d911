"""The private methods of training a generator, as part of a train-gan run: record, claim, train."""

import hashlib

import numpy as np
import torch

from gan.architectures import TrainedGenerator
from gan.checkpoints import kept
from gan.config import TrainGanSettings
from gan.dp_discriminator import PrivateGame, play_plainly, play_privately
from gan.embedding import RELEASED, train_from_embedding
from gan.examples import load_examples
from gan.finished import start_from
from gan.patient_gradients import PatientImages
from gan.plan import GanPlan, declared_units, units_of
from gan.steps import new_training
from synthdp.data.cohorts import patient_tags
from synthdp.data.dataset import keyed_digest
from synthdp.devices import chosen_device, reduced_precision
from synthdp.errors import InputError
from synthdp.privacy.ledger import Ledger, record_release
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import KEY_FILE, NoiseSource, noise_source
from synthdp.runs import Run


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
    """Train on one noisy release of mean features (`gan.embedding`); gives what it spent.

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

"""Training a generator, as a stage: adversarially, without privacy, or by one of the private ways.

`METHODS` names them. Each gives the trained generator and what it spent of the planned release; the
algorithms themselves are `gan.training.loop`, `gan.private.embedding`, `gan.private.selection` and
`gan.private.dp_discriminator`.
"""

import hashlib
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gan.network.bank import Bank
from gan.network.generator import Generator
from gan.package.conditions import encode, encode_known
from gan.package.description import AnyShape, BankShape, Description
from gan.package.model import load_generator, write_generator
from gan.package.networks import TrainedGenerator
from gan.package.opened import open_generator
from gan.package.pretrained import resolve_run
from gan.plans import GanPlan, gan_plan, selected_pool
from gan.private.condition_means import ConditionPart, condition_part
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
    image_vectors,
    match,
    matched_findings,
    matched_means,
    public_features,
    released_sums,
    vectors_of_patients,
)
from gan.private.findings import finding_means
from gan.private.selection import (
    ReleasedConditions,
    candidate_vectors,
    patients_vectors,
    pool_features,
    pool_images,
    refuse_drowned,
    select,
)
from gan.private.tilting import Groups, PoolMoments
from gan.private.wide_map import RawMap, fit_wide_map, saved_wide_map
from gan.settings.parts import DpDiscriminatorSettings, SelectionSettings
from gan.settings.train import TrainGanSettings
from gan.training.checkpoint import Companion, LearnedRows, checkpointed
from gan.training.examples import Examples, known_labels, load_examples, load_protected
from gan.training.finish import finish_generator
from gan.training.guidance import Guidance
from gan.training.loop import (
    AdversarialRecipe,
    Schedule,
    Training,
    new_training,
    train_adversarially,
)
from synthdp.checkpoint import load_tensor, load_weights, save_weights
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import content_digest, keyed_digest
from synthdp.data.people.cohorts import patient_tags
from synthdp.data.people.units import note_unrefused
from synthdp.machine.devices import chosen_device, reduced_precision
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import run_once
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource, open_noise_source
from synthdp.privacy.promise.plan import declared_units
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.units import Unit
from synthdp.runs.cards import model_card
from synthdp.runs.folder import Run, open_run
from synthdp.runs.tracking import names_to_send

logger = logging.getLogger(__name__)

STAGE = "train-gan"
#: Within a run's private part: the one noisy release of `method: embedding`.
SUMS_FILE = "embedding.safetensors"
#: In that file, beside the sums: the principal directions of the features.
DIRECTIONS = "directions"
_NO_DISCRIMINATOR = "Its discriminator is not part of it."
#: What the card says of each method.
_CARD_WORDS = {
    "adversarial": _NO_DISCRIMINATOR,
    "embedding": "It saw patients through one noisy mean of public features alone.",
    "selection": (
        "It draws among images that were kept of a public pool, which cost nothing; it saw "
        "patients through one noisy mean of public features alone, by which the pool was weighted."
    ),
    "selection, conditions": (
        " What is drawn beside the class is what the pool's images are labelled with, as often as "
        "public shares say: of patients none of it was read, so it tells nothing of theirs."
    ),
    "selection, released conditions": (
        " What is drawn beside the class is what the pool's images are labelled with, as often as "
        "public shares say; how images of each value look is part of that same release of "
        "patients."
    ),
    "dp_discriminator": (
        "EXPERIMENTAL: it learned from a discriminator that was trained on patients by DP-SGD. "
        f"{_NO_DISCRIMINATOR}"
    ),
}


def run_train_gan(settings: TrainGanSettings) -> Path:
    """Train the generator, or resume its training, or return at once; gives the run folder.

    Raises:
        InputError: when the data set cannot be used, or the folder holds something else.
        RunError: when the training diverges.
    """
    plan = None
    if not (settings.out / "status.json").is_file():
        plan = gan_plan(settings)  # what does not fit is refused before a folder is made
    with open_run(settings.out, STAGE, settings, resolve=resolve_run) as run:
        if not run.finished:
            plan = plan or gan_plan(settings)
            plan = replace(plan, privacy=plan.privacy.with_release_id(run.release_id))
            run.names_to_send = names_to_send(plan.privacy)
            generator, spent = METHODS[settings.method](settings, run, plan)
            _finish(run, generator, settings, plan, spent)
    return settings.out


def _finish(
    run: Run,
    generator: TrainedGenerator | Bank,
    settings: TrainGanSettings,
    plan: GanPlan,
    spent: Release,
) -> None:
    info = plan.privacy.dataset.info
    shape: AnyShape
    if isinstance(generator, Bank):
        shape = _bank_shape(settings, plan)
    else:
        shape = settings.shape(plan.conditions)
        if isinstance(generator, Generator) and generator.film is not None:
            shape = shape.model_copy(update={"film": True})
    target = "" if len(plan.targets) > 1 else next(iter(plan.targets))
    description = Description(shape, target, info.name)
    write_generator(run.path, generator.state_dict(), description)
    statement = plan.privacy.statement_after(spent)
    run.finish(statement, _card(settings, info, description, statement))


def _bank_shape(settings: TrainGanSettings, plan: GanPlan) -> BankShape:
    """What is kept of a pool."""
    assert settings.selection is not None  # TrainGanSettings asks for it
    return BankShape(
        size_px=settings.size_px, images=settings.selection.images, conditions=plan.conditions
    )


def _card(
    settings: TrainGanSettings, info: DatasetInfo, description: Description, statement: Statement
) -> str:
    """The card of a trained generator; of files and folders it gives the names alone."""
    given = f", of given {', '.join(settings.conditions)}" if settings.conditions else ""
    film = (
        " Its opaque marks and grain come from a formula, not a network." if settings.film else ""
    )
    of_conditions = ""
    if settings.method == "selection" and settings.conditions:
        released = "released " if settings.releases_conditions else ""
        of_conditions = _CARD_WORDS[f"selection, {released}conditions"]
    unused = {"dp_discriminator", "embedding", "selection"} - {settings.method}
    facts = settings.model_dump(exclude={"data", "out", "device", *unused})
    return model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {description.classes_in_words}{given}. "
            f"It was trained on the train split of {info.name!r} ({info.kind}). `synthdp generate` "
            f"makes a data set with it. {_CARD_WORDS[settings.method]}{of_conditions}{film}"
        ),
        statement=statement,
        settings={name: _names_alone(value) for name, value in facts.items()},
    )


def _names_alone(value: Any) -> Any:
    """A setting, or settings, with each path cut to its name."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {name: _names_alone(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_names_alone(part) for part in value]
    return value


def _train_adversarially(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train without privacy, on real images as they are."""
    examples = load_examples(
        plan.privacy.dataset, plan.rows, settings.size_px, plan.conditions, plan.targets
    )
    plan.privacy.record(Ledger(run.ledger_path))
    device = chosen_device(settings.device)
    training = _new_training(settings, plan, device)
    guidance = None
    if settings.guidance is not None:
        guidance = Guidance(
            settings.guidance, settings.size_px, settings.seed, device, len(plan.targets)
        )
    recipe = AdversarialRecipe.of(settings)
    with _checkpointed(settings, run, plan, training, guidance) as (log, keep):
        train_adversarially(training, examples, recipe, guidance, log=log, keep=keep)
    if not isinstance(training.averaged, Generator):
        return training.averaged, plan.privacy.release
    generator = finish_generator(
        training.averaged,
        examples,
        class_spread=settings.class_spread,
        style_spread=settings.style_spread,
        film=settings.film,
    )
    return generator, plan.privacy.release


def _select_from_pool(settings: TrainGanSettings, run: Run, plan: GanPlan) -> tuple[Bank, Release]:
    """Keep the candidates of a public pool that one noisy release of mean features speaks for.

    Guarantee: as `_train_on_embedding`.

    Raises:
        InputError: as there, or when the noise would drown what patients differ by.
    """
    selection = settings.selection
    assert selection is not None  # TrainGanSettings asks for it
    pool = selected_pool(settings, next(iter(plan.targets)))
    part = condition_part(settings, plan.conditions)
    _warn_of_random_networks(selection)
    raw = RawMap.of(selection, settings.size_px, chosen_device(settings.device))
    of_pool = pool_features(pool, raw, settings.size_px)
    fitted = fit_wide_map(
        raw, of_pool, components=selection.components, constant=selection.constant
    )
    if plan.privacy.mechanism is None:
        ledger = Ledger(run.ledger_path)
        plan.privacy.record(ledger)
    else:
        moments = PoolMoments.of(candidate_vectors(fitted, of_pool))
        refuse_drowned(moments, plan.privacy.mechanism, settings.privacy.delta, part)
        ledger, plan = _claimed(settings, run, plan, block_steps=1)
    tensors = _released(
        settings, run, plan, ledger,
        vectors=lambda: patients_vectors(
            fitted, plan.privacy.dataset, plan.rows, plan.among, settings.size_px
        ),
        saved=fitted.saved(),
    )  # fmt: skip
    made_by = saved_wide_map(raw, tensors, constant=selection.constant)
    selected = select(
        tensors["sums"], plan.privacy.mechanism, candidate_vectors(made_by, of_pool), pool.labels,
        images=selection.images, constant=selection.constant, class_prior=settings.class_prior,
        separation=selection.separation, seed=settings.seed,
        combinations=Groups(pool.combinations, pool.shares),
        conditions=None if part is None else ReleasedConditions(part, pool.values),
    )  # fmt: skip
    run.log(
        candidates=len(pool.labels),
        effective_without=round(selected.effective[0], 1),
        effective_with=round(selected.effective[1], 1),
        shift=round(selected.shift, 4),
        z=round(selected.z, 2),
    )
    bank = Bank(**_bank_shape(settings, plan).arguments)
    for value, places in enumerate(selected.places):
        bank.images[value] = pool_images(pool, places, settings.size_px)
    if plan.privacy.mechanism is None:
        return bank, plan.privacy.release
    return bank, ledger.close()


def _warn_of_random_networks(selection: SelectionSettings) -> None:
    """Say so where what is selected by means little, since no weights are there."""
    networks = {"selection.features": selection.features, "selection.tokens": selection.tokens}
    if random := [name for name, one in networks.items() if one.weights is None]:
        logger.warning(
            "warning: %s %s no weights, so that what is kept is chosen by networks that start at "
            "random: to try things out. For a set to be used name their weights (hub lets timm "
            "download them, once)",
            " and ".join(random),
            "have" if len(random) > 1 else "has",
        )


def _train_on_embedding(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train on one noisy release of mean features.

    Guarantee: the rows are read for that release alone (`run_once`); everything else is a function
    of its result and of public values.

    Raises:
        InputError: when the step is spent, and what was released is gone.
    """
    embedding = settings.embedding
    assert embedding is not None  # TrainGanSettings asks for it
    device = chosen_device(settings.device)
    if plan.privacy.mechanism is None:
        ledger = Ledger(run.ledger_path)
        plan.privacy.record(ledger)
    else:
        ledger, plan = _claimed(settings, run, plan, block_steps=1)
    features = public_features(embedding, settings.size_px, device)
    saved = {} if features.directions is None else {DIRECTIONS: features.directions.cpu()}
    tensors = _released(
        settings, run, plan, ledger,
        vectors=lambda: image_vectors(features, _examples(plan, settings.size_px).images),
        saved=saved,
    )  # fmt: skip
    features = with_directions(features, tensors)
    target = matched_target(
        tensors["sums"].to(device), plan, constant=embedding.constant,
        separation=embedding.separation, class_prior=settings.class_prior,
    )  # fmt: skip
    training = _new_training(settings, plan, device)
    start = None if settings.init is None else load_generator(settings.init, device)
    assert start is None or isinstance(start, Generator)  # arch: haar
    matching = Matching(features, target, start, embedding.layout_weight)
    schedule, every_kimg = Schedule.of(settings), settings.checkpoint_kimg
    with _checkpointed(settings, run, plan, training, matching) as (log, keep):
        match(
            training, matching, schedule, checkpoint_kimg=every_kimg, log=log, keep=keep,
            findings=plan.conditions.tables,
        )  # fmt: skip
    if plan.privacy.mechanism is None:
        return training.averaged, plan.privacy.release
    return training.averaged, ledger.close()


def matched_target(
    sums: Tensor, plan: GanPlan, *, constant: float, separation: float, class_prior: float
) -> Tensor:
    """The class means that a generator is matched to, from the release: (2, D), or (2 T, D)."""
    shares = plan.public_shares
    if shares is None:
        means, deviations = class_means(
            sums, plan.privacy.mechanism, class_prior=class_prior, constant=constant
        )
        return matched_means(means, deviations, separation)
    of_findings = finding_means(sums, plan.privacy.mechanism, shares=shares, constant=constant)
    return matched_findings(of_findings, separation)


def _released(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    ledger: Ledger,
    *,
    vectors: Callable[[], Tensor],
    saved: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """The release of the run, made and saved once, read from its file ever after.

    The `vectors` (N, 1 + D) of the plan's rows are asked for where it isn't made yet. The `sums`
    are (2, 1 + D), with more rows where conditions are told, or one row of several findings. What
    was found of the public features is `saved` beside them: another processor may find other
    directions that are as good.
    """
    path, mechanism = run.private / SUMS_FILE, plan.privacy.mechanism
    rows, size = None, 0
    if not path.is_file():
        of_images = vectors()
        size = of_images.shape[1]
        note_unrefused(run.private, plan.rows, settings.privacy)
        names, units = _unit_indices(plan)
        labels = known_labels(plan.rows, plan.targets)
        part = condition_part(settings, plan.conditions)
        codes = encode_known(plan.conditions, plan.rows if part else ())
        rows = vectors_of_patients(
            of_images, labels, units, len(names), plan.public_shares, codes=codes, part=part
        )

    def release() -> dict[str, Tensor]:
        assert rows is not None  # nothing is released while a file stands
        noise = None if mechanism is None else open_noise_source(settings.privacy)
        sums = released_sums(rows, mechanism=mechanism, noise_source=noise)
        if plan.public_shares is None:
            sums = sums.view(-1, size)
        return {"sums": sums, **saved}

    if mechanism is not None:
        return run_once(ledger, path, release)
    if not path.is_file():
        save_weights(path, release())
    return {**load_weights(path), "sums": load_tensor(path, "sums")}


def with_directions(features: PublicFeatures, tensors: Mapping[str, Tensor]) -> PublicFeatures:
    """The public features along the directions that were saved with a release, if any were."""
    if DIRECTIONS not in tensors:
        return features
    return replace(features, directions=tensors[DIRECTIONS].to(features.mean))


def _train_against_private_discriminator(
    settings: TrainGanSettings, run: Run, plan: GanPlan
) -> tuple[TrainedGenerator, Release]:
    """Train against a discriminator that learns by DP-SGD; gives what was spent of the release."""
    device = chosen_device(settings.device)
    examples = _examples(plan, settings.size_px)
    note_unrefused(run.private, plan.rows, settings.privacy)
    names, units = _unit_indices(plan)
    tags = patient_tags(plan.privacy.dataset, names)
    patients = PatientImages.of(examples.images, examples.labels, units, tags)
    training = _new_training(settings, plan, device)
    block_steps = settings.dp_discriminator.block_steps
    with _checkpointed(settings, run, plan, training) as (log, keep):
        autocast = reduced_precision(device)
        recipe = GameRecipe.of(settings)
        game = PrivateGame(training, recipe, autocast=autocast, log=log, keep=keep)
        if plan.privacy.mechanism is None:
            plan.privacy.record(Ledger(run.ledger_path))
            # Without a promise the true count may stand in for the declared one.
            n_units = declared_units(settings.privacy, settings.cohort) or len(patients.tags)
            sampling = _unprotected_sampling(
                settings.dp_discriminator, settings.privacy.unit, n_units
            )
            samples = hashlib.sha256(f"samples {settings.seed}".encode()).digest()
            play_plainly(game, patients, sampling, NoiseSource(samples), block_steps)
            return training.averaged, plan.privacy.release
        ledger, plan = _claimed(settings, run, plan, block_steps)
        play_privately(
            game,
            patients,
            ledger=ledger,
            noise_source=open_noise_source(settings.privacy),
            block_steps=block_steps,
        )
    return training.averaged, ledger.close()


METHODS: Mapping[
    str, Callable[[TrainGanSettings, Run, GanPlan], tuple[TrainedGenerator | Bank, Release]]
] = {
    "adversarial": _train_adversarially,
    "embedding": _train_on_embedding,
    "selection": _select_from_pool,
    "dp_discriminator": _train_against_private_discriminator,
}


def _examples(plan: GanPlan, size_px: int) -> Examples:
    """The images of a private method; some may be unlabelled where something is promised."""
    if plan.privacy.mechanism is None:
        dataset = plan.privacy.dataset
        return load_examples(dataset, plan.rows, size_px, targets=plan.targets)
    return load_protected(plan.privacy.dataset, plan.rows, size_px, plan.targets)


def protected_examples(
    plan: GanPlan, size_px: int, part: ConditionPart | None = None
) -> tuple[Examples, Tensor]:
    """What a run with a promise learns from: images, and (N,) int64 whose each is, from 0."""
    examples = load_protected(plan.privacy.dataset, plan.rows, size_px, plan.targets)
    if part is not None:
        examples = replace(examples, attributes=encode_known(plan.conditions, plan.rows))
    return examples, _unit_indices(plan)[1]


def _unit_indices(plan: GanPlan) -> tuple[list[str], Tensor]:
    """The names of the units, and for each row (N,) int64 the index of its own among them."""
    names, units = np.unique(plan.units, return_inverse=True)
    return [str(name) for name in names], torch.from_numpy(units)


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


def _new_training(settings: TrainGanSettings, plan: GanPlan, device: torch.device) -> Training:
    """A new training of the settings' networks, from the weights of `init` where it is given."""
    training = new_training(settings, device, plan.conditions)
    start_from(settings.init, training.generator, training.averaged)
    return training


def start_from(init: Path | None, *generators: TrainedGenerator) -> None:
    """Give generators the weights of a finished one of the same shape; None leaves them.

    Its film, if any, is left out: training goes on without one, and fits another at its end.
    """
    if init is not None:
        weights = load_generator(init, torch.device("cpu")).state_dict()
        unfilmed = {k: tensor for k, tensor in weights.items() if not k.startswith("film.")}
        for generator in generators:
            generator.load_state_dict(unfilmed)


def _checkpointed(
    settings: TrainGanSettings,
    run: Run,
    plan: GanPlan,
    training: Training,
    companion: Companion | None = None,
) -> AbstractContextManager[tuple[Callable[..., None], Callable[[], None]]]:
    """The training restored from the run's newest checkpoint, and saved from there on."""
    rows = LearnedRows(
        digest=keyed_digest(plan.privacy.dataset, plan.rows),
        attributes=encode(plan.conditions, plan.rows),
        conditions=plan.conditions,
    )

    def picture_name(step: int) -> str:
        if settings.method == "adversarial":
            return f"{step * settings.batch / 1000:08.1f}-kimg"
        return f"{step:06d}-steps"

    return checkpointed(
        run,
        training,
        rows,
        companion,
        seed=settings.seed,
        batch=settings.batch,
        picture_name=picture_name,
        tensorboard=settings.tensorboard,
    )


def _claimed(
    settings: TrainGanSettings, run: Run, plan: GanPlan, block_steps: int
) -> tuple[Ledger, GanPlan]:
    """The ledger of the run, for its release alone, which the data set has on record by then.

    With it the plan to go on with, whose release is the ledger's.

    Raises:
        InputError: as `PrivacyPlan.claim`.
    """
    ledger = Ledger(run.ledger_path)
    fingerprint = keyed_digest(plan.privacy.dataset, plan.rows)
    claimed = plan.privacy.claim(
        ledger, fingerprint=fingerprint, block_steps=block_steps, inputs=_inputs(settings, plan)
    )
    return ledger, replace(plan, privacy=claimed)


def _inputs(settings: TrainGanSettings, plan: GanPlan) -> dict[str, str]:
    """Digests of what a training begins with beside its rows, which a resume must find unchanged.

    Public weights are not among them: their own sha256 stands in the settings.
    """
    # cells that a private one is told of stand in the manifest, which a run looks at itself
    learned = plan.rows if settings.method == "adversarial" else ()
    codes = encode(plan.conditions, learned).numpy().tobytes()
    known = plan.conditions.model_dump_json().encode() + codes
    digests = {"conditions": hashlib.sha256(known).hexdigest()}
    if settings.init is not None:
        digests["init"] = open_generator(settings.init).weights_sha256
    if settings.method == "embedding" and settings.embedding is not None:
        digests["embedding.public"] = content_digest(open_dataset(settings.embedding.public))
    if settings.selection is not None:
        for place, path in enumerate(settings.selection.pool):
            digests[f"selection.pool {place}"] = content_digest(open_dataset(path))
    return digests

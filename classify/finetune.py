"""The finetune stage: a head on frozen features of patients, with or without privacy.

The unit is the patient. Unless patients are sampled, all take part in every step, and accounting is
the exact Gaussian one. With `network` its last blocks are trained too, or all of it, on Poisson
samples (`classify.network.train`). `privacy.epsilon` is the end-to-end target: what ancestors spent
is taken off first.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from classify.features.input_form import input_form
from classify.head.train import (
    HeadRecipe,
    PrivateHead,
    head_recipe,
    train_head,
    train_private_heads,
)
from classify.model.classifier import Classifier
from classify.model.folder import save_classifier
from classify.network.team import Team, joined_team
from classify.network.train import follow, train_network, train_private_network
from classify.plans import finetuning_plan
from classify.settings.finetune import FinetuneSettings
from classify.settings.network import NetworkSettings
from classify.setup.head import HeadSetup, set_up_head
from classify.setup.network import NetworkSetup, set_up_network
from classify.setup.patients import chosen_words
from classify.setup.start import starting_classifier
from classify.setup.targets import shared_targets
from classify.setup.trial import refuse_untrainable
from synthdp.data.dataset import Dataset, Row, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import content_digest, keyed_digest
from synthdp.data.people.units import note_unrefused
from synthdp.machine.rank import own_rank, refuse_several
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource, open_noise_source
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import model_card
from synthdp.runs.folder import Run, open_run
from synthdp.storage.files import sha256_file


def run_finetune(settings: FinetuneSettings) -> Path:
    """Fine-tune a head, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan, start = planned_finetune(settings)
    if settings.network is None:
        refuse_several("a head on features")
    elif not (settings.out / "status.json").is_file():
        refuse_untrainable(start.feature_sources[0].backbone, settings.network)
    with joined_team(own_rank()) as team:
        if not team.rank.leads:
            _follow(settings, plan.dataset, team)
            return settings.out
        plan.refuse_overspent(settings.out)
        with open_run(settings.out, "finetune", settings) as run:
            if run.finished:
                return settings.out
            plan = plan.with_release_id(run.release_id)
            if settings.network is None:
                classifier, spent = _train_head(settings, run, plan)
            else:
                classifier, spent = _train_network(settings, settings.network, run, plan, team)
            finish_finetune(settings, run, plan, classifier, spent)
    return settings.out


def planned_finetune(settings: FinetuneSettings) -> tuple[PrivacyPlan, Classifier]:
    """What a run will promise, and the classifier that it starts from, before a folder is made.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan = finetuning_plan(settings)
    return plan, starting_classifier(settings, plan.dataset.info)


def _train_head(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan
) -> tuple[Classifier, Release]:
    """The classifier under a new head, and what was spent."""
    setup = set_up_head(settings, plan.dataset)
    if plan.mechanism is None:
        plan.record(Ledger(run.ledger_path))
        recipe = head_recipe(settings.head, plan.stage_epsilon, plan.n_units)
        rate, seed = settings.head.sampling_rate, settings.seed
        weights = train_plain_head(setup, recipe, sampling_rate=rate, seed=seed)
        return setup.classifier_of(weights, settings.head), plan.release
    head = private_head(settings, run, plan, setup, keyed_digest(plan.dataset, setup.rows))
    (trained,) = train_private_heads([head], setup.examples, public=setup.public)
    if not isinstance(trained, Tensor):
        raise trained
    return setup.classifier_of(trained, settings.head), head.ledger.close()


def private_head(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan, setup: HeadSetup, fingerprint: str
) -> PrivateHead:
    """The training of a run's head, whose release is on record from here on.

    Args:
        settings: of the run.
        run: the run.
        plan: of its release.
        setup: what it is trained on.
        fingerprint: keyed digest of `setup.rows`.

    Raises:
        InputError: as `PrivacyPlan.claim`.
    """
    ledger, plan = _claimed(
        settings, run, plan, setup.rows, fingerprint, block_steps=settings.head.block_steps
    )
    return PrivateHead(
        setup.start,
        head_recipe(settings.head, plan.stage_epsilon, plan.n_units),
        ledger,
        open_noise_source(settings.privacy),
        run.checkpoints,
        on_block=lambda spent: run.log(steps_spent=spent),
    )


def train_plain_head(
    setup: HeadSetup, recipe: HeadRecipe, *, sampling_rate: float, seed: int
) -> Tensor:
    """Weights of a head trained without privacy, by the same recipe; as `train_head`."""
    population = setup.bound_on_units or setup.examples.n_units
    return train_head(
        setup.start,
        setup.examples,
        recipe,
        sampling=Mechanism(
            sampling_rate=sampling_rate,
            noise_multiplier=0,
            steps=recipe.steps,
            normaliser=population * sampling_rate,
        ),
        noise_source=_public_sampling(seed),
        public=setup.public,
    )


def _train_network(
    settings: FinetuneSettings,
    network: NetworkSettings,
    run: Run,
    plan: PrivacyPlan,
    team: Team,
) -> tuple[Classifier, Release]:
    """The classifier with its network, or the end of it, and head trained, and what was spent."""
    team.announce()
    setup = set_up_network(settings, network, plan.dataset)
    network = network.at(plan.stage_epsilon)
    team.refuse_different(_same_for_all_ranks(settings, setup))
    if plan.mechanism is None:
        plan.record(Ledger(run.ledger_path))
        spent = plan.release
        train_network(
            setup.trained,
            setup.examples,
            network,
            normaliser=(setup.bound_on_units or len(setup.examples.tags)) * network.sampling_rate,
            noise_source=_public_sampling(settings.seed),
            seed=settings.seed,
            checkpoints=run.checkpoints,
            team=team,
        )
    else:
        fingerprint = keyed_digest(plan.dataset, setup.rows)
        ledger, _ = _claimed(
            settings, run, plan, setup.rows, fingerprint, block_steps=network.block_steps
        )
        train_private_network(
            setup.trained,
            setup.examples,
            network,
            ledger=ledger,
            noise_source=open_noise_source(settings.privacy),
            checkpoints=run.checkpoints,
            seed=settings.seed,
            on_block=lambda steps: run.log(steps_spent=steps),
            team=team,
        )
        spent = ledger.close()
    return setup.trained_classifier(settings.head), spent


def _follow(settings: FinetuneSettings, dataset: Dataset, team: Team) -> None:
    """Compute gradients for the process that leads, while there is anything to train."""
    assert settings.network is not None  # heads have no team
    if not team.is_announced():
        return
    setup = set_up_network(settings, settings.network, dataset)
    team.refuse_different(_same_for_all_ranks(settings, setup))
    follow(
        setup.trained,
        setup.examples,
        settings.network,
        team=team,
        private=settings.privacy.protects,
        seed=settings.seed,
    )


def _same_for_all_ranks(settings: FinetuneSettings, setup: NetworkSetup) -> bytes:
    """What all processes of a training must have in common: settings, patients, where it begins."""
    settings_text = settings.model_dump_json(exclude={"out"}).encode()
    weights = setup.trained.flat().cpu().numpy().tobytes()
    targets = setup.examples.targets.numpy().tobytes()
    return b"|".join([settings_text, weights, targets, *setup.examples.tags])


def _claimed(
    settings: FinetuneSettings,
    run: Run,
    plan: PrivacyPlan,
    rows: Sequence[Row],
    fingerprint: str,
    *,
    block_steps: int,
) -> tuple[Ledger, PrivacyPlan]:
    """A run's ledger and plan, its release on the record of its patients before any step is taken.

    Raises:
        InputError: as `PrivacyPlan.claim`.
    """
    note_unrefused(run.private, rows, settings.privacy)
    ledger = Ledger(run.ledger_path)
    plan = plan.claim(
        ledger, fingerprint=fingerprint, block_steps=block_steps, inputs=_inputs(settings)
    )
    return ledger, plan


def _inputs(settings: FinetuneSettings) -> dict[str, str]:
    """Digests of what goes into the sums beside the patients, which a resume must find unchanged.

    Public weights are not among them: their own sha256 stands in the settings, and in `init`'s.
    """
    sets = {"synthetic": settings.synthetic, "centre": settings.centre}
    digests = {
        name: content_digest(open_dataset(path)) for name, path in sets.items() if path is not None
    }
    if settings.init is not None:
        digests["init"] = sha256_file(settings.init / "model" / "settings.json")
    return digests


def _public_sampling(seed: int) -> NoiseSource:
    """What samples of patients are drawn from where nothing is promised: the seed."""
    return NoiseSource(hashlib.sha256(f"samples {seed}".encode()).digest())


def finish_finetune(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan, classifier: Classifier, spent: Release
) -> None:
    """Write the model, the statement and the card of a run, which is finished then."""
    networks = [one.backbone for one in classifier.feature_sources]
    classifier = replace(classifier, input_form=input_form(plan.dataset.info, networks))
    save_classifier(run.model, classifier)
    statement = plan.statement_after(spent)
    run.finish(statement, _card(settings, plan.dataset, classifier, statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _start_words(settings: FinetuneSettings) -> str:
    """What the networks' weights were before; random ones are not called public."""
    if settings.init:
        return "a pretrained run"
    networks = [one for one in (settings.backbone, *settings.beside) if one is not None]
    drawn = sum(one.weights is None for one in networks)
    if drawn == len(networks):
        return "random weights"
    return "public weights, and random ones" if drawn else "public weights"


def _card(
    settings: FinetuneSettings, dataset: Dataset, classifier: Classifier, statement: Statement
) -> str:
    name = classifier.feature_sources[0].backbone.name
    head, network, targets = settings.head, settings.network, dataset.info.targets
    recipe = f"{head.kind.replace('_', ' ')}, {head.steps} steps of {head.optimizer}"
    summary = "A head on what frozen networks give for an image."
    if network is not None:
        moved = _trained_words(network)
        optimizer = "NAdam" if network.optimizer == "nadam" else "SGD"
        recipe = f"logistic, with {moved}: {network.steps} steps of {optimizer}, averaged iterate"
        kind = "A vision transformer" if "vit" in name else f"The network {name}"
        summary = f"{kind}, {moved} and a linear head trained on these images."
        if network.trainable_blocks == "all" and network.tune == "blocks":
            summary = f"{kind} and a linear head, all weights trained on these images."
    mixed = None if settings.synthetic is None else open_dataset(settings.synthetic).info
    facts = {
        "data set": dataset.info.name,
        "targets": ", ".join(targets),
        "images": chosen_words(settings, where="those of {}") or "all of train",
        "head": recipe,
        "started from": _start_words(settings),
        "mixed with": "-" if mixed is None else _mixed_words(dataset.info.targets, mixed),
    }
    if head.start == "centre" and settings.centre is not None:
        facts["head began with"] = f"the labels of {open_dataset(settings.centre).info.name}"
    if head.prior is not None:
        shares = (f"{name} {share:g}" for name, share in head.prior.items())
        facts["public shares of positives"] = ", ".join(shares)
    what = "Malignancy classifier" if targets == ("malignant",) else "Classifier"
    return model_card(
        title=f"{what} for {dataset.info.name}",
        summary=summary,
        statement=statement,
        settings=facts,
    )


def _trained_words(network: NetworkSettings) -> str:
    """What of a network is trained."""
    additions = "" if network.tune == "blocks" else f"rank-{network.lora_rank} additions to "
    if network.trainable_blocks == "all":
        return f"{additions}the whole network"
    return f"{additions}the last {network.trainable_blocks} blocks"


def _mixed_words(names: Sequence[str], mixed: DatasetInfo) -> str:
    """A set that was mixed in, and which labels it had where it had not all."""
    shared = shared_targets(names, mixed.targets)
    return mixed.name if len(shared) == len(names) else f"{mixed.name}, of {', '.join(shared)}"

"""The finetune stage: a head on frozen features of patients, with or without privacy.

The unit is the patient. Unless patients are sampled, all take part in every step, and accounting is
the exact Gaussian one. With `network` its last blocks are trained too, or all of it, on Poisson
samples (`classify.network.train`). `privacy.epsilon` is the end-to-end target: what ancestors spent
is taken off first.
"""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from classify.features.extract import on_arrays, refuse_damaged, trunk_views
from classify.features.input_form import input_form
from classify.features.volumes import refuse_other_form
from classify.head.examples import HeadExamples, MlpExamples, MlpShape, PublicExamples
from classify.head.prior import positive_weights, start_bias
from classify.head.train import (
    HeadRecipe,
    PrivateHead,
    head_recipe,
    train_head,
    train_private_heads,
)
from classify.model import (
    Classifier,
    FeatureSource,
    features,
    inputs_of,
    load_classifier,
    new_classifier,
    new_feature_source,
    restore_backbone,
    save_classifier,
)
from classify.network.gradients import Examples, TokenExamples
from classify.network.images import ImageExamples
from classify.network.team import Team, joined_team
from classify.network.top import TrainedNetwork, merge_low_rank, trained_network
from classify.network.train import follow, train_network, train_private_network
from classify.plans import finetuning_plan
from classify.settings.finetune import FinetuneSettings
from classify.settings.head import HeadSettings
from classify.settings.network import NetworkSettings
from synthdp.config.settings import PrivacySettings
from synthdp.data.columns import rows_where, where_words
from synthdp.data.dataset import (
    Dataset,
    Row,
    labels_of,
    open_dataset,
    refuse_one_class,
    refuse_small_population,
    targets_array,
    units_of,
)
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import content_digest, keyed_digest
from synthdp.data.packed import packed_images
from synthdp.data.people.cohorts import cohort_rows, patient_tags
from synthdp.data.people.units import bounded_rows, note_unrefused
from synthdp.errors import InputError
from synthdp.machine.devices import auto_device
from synthdp.machine.rank import own_rank, refuse_several
from synthdp.networks.backbone import Backbone
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.noise import NoiseSource, open_noise_source
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.units import Unit
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
        _refuse_untrainable(start, settings.network)
    with joined_team(own_rank()) as team:
        if not team.rank.leads:
            _follow(settings, plan.dataset, team)
            return settings.out
        with open_run(settings.out, "finetune", settings) as run:
            if not run.finished:
                _finetune(settings, run, plan.with_release_id(run.release_id), team)
    return settings.out


def planned_finetune(settings: FinetuneSettings) -> tuple[PrivacyPlan, Classifier]:
    """What a run will promise, and the classifier that it starts from, before a folder is made.

    Raises:
        InputError: when settings, data and ancestors don't fit together.
    """
    plan = finetuning_plan(settings)
    start = starting_classifier(settings, plan.dataset.info)
    _refuse_unknown_targets(settings, plan.dataset.info)
    return plan, start


def _finetune(settings: FinetuneSettings, run: Run, plan: PrivacyPlan, team: Team) -> None:
    if settings.network is None:
        classifier, spent = _train_head(settings, run, plan)
    else:
        classifier, spent = _train_network(settings, settings.network, run, plan, team)
    finish_finetune(settings, run, plan, classifier, spent)


def finish_finetune(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan, classifier: Classifier, spent: Release
) -> None:
    """Write the model, the statement and the card of a run, which is finished then."""
    classifier = replace(classifier, input_form=input_form(plan.dataset.info))
    save_classifier(run.model, classifier)
    statement = plan.statement_after(spent)
    run.finish(statement, _card(settings, plan.dataset, classifier, statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _train_head(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan
) -> tuple[Classifier, Release]:
    """The classifier under a new head, and what was spent."""
    setup = set_up_head(settings, plan.dataset)
    if plan.mechanism is None:
        plan.record(Ledger(run.ledger_path))
        recipe = head_recipe(settings.head, plan.stage_epsilon)
        rate, seed = settings.head.sampling_rate, settings.seed
        weights = train_plain_head(setup, recipe, sampling_rate=rate, seed=seed)
        return setup.classifier_of(weights, settings.head), plan.release
    head = private_head(settings, run, plan, setup, keyed_digest(plan.dataset, setup.rows))
    (trained,) = train_private_heads([head], setup.examples, public=setup.public)
    if not isinstance(trained, Tensor):
        raise trained
    return setup.classifier_of(trained, settings.head), head.ledger.close()


def private_head(
    settings: FinetuneSettings, run: Run, plan: PrivacyPlan, setup: "HeadSetup", fingerprint: str
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
    note_unrefused(run.private, setup.rows, settings.privacy)
    ledger = Ledger(run.ledger_path)
    plan = plan.claim(
        ledger,
        fingerprint=fingerprint,
        block_steps=settings.head.block_steps,
        inputs=_inputs(settings),
    )
    return PrivateHead(
        setup.start,
        head_recipe(settings.head, plan.stage_epsilon),
        ledger,
        open_noise_source(settings.privacy),
        run.checkpoints,
        on_block=lambda spent: run.log(steps_spent=spent),
    )


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


def train_plain_head(
    setup: "HeadSetup", recipe: HeadRecipe, *, sampling_rate: float, seed: int
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


def _follow(settings: FinetuneSettings, dataset: Dataset, team: Team) -> None:
    """Compute gradients for the process that leads, while there is anything to train."""
    assert settings.network is not None  # heads have no team
    if not team.awaited():
        return
    setup = set_up_network(settings, settings.network, dataset)
    team.meet(_common(settings, setup))
    follow(
        setup.trained,
        setup.examples,
        settings.network,
        team=team,
        private=settings.privacy.protects,
        seed=settings.seed,
    )


def _common(settings: FinetuneSettings, setup: "NetworkSetup") -> bytes:
    """What all processes of a training must have in common: settings, patients, where it begins."""
    settings_text = settings.model_dump_json(exclude={"out"}).encode()
    weights = setup.trained.flat().cpu().numpy().tobytes()
    targets = setup.examples.targets.numpy().tobytes()
    return b"|".join([settings_text, weights, targets, *setup.examples.tags])


def _train_network(
    settings: FinetuneSettings,
    network: NetworkSettings,
    run: Run,
    plan: PrivacyPlan,
    team: Team,
) -> tuple[Classifier, Release]:
    """The classifier with its network, or the end of it, and head trained, and what was spent."""
    team.gather()
    setup = set_up_network(settings, network, plan.dataset)
    network = network.at(plan.stage_epsilon)
    team.meet(_common(settings, setup))
    ledger, spent = Ledger(run.ledger_path), plan.release
    if plan.mechanism is None:
        plan.record(ledger)
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
        note_unrefused(run.private, setup.rows, settings.privacy)
        fingerprint = keyed_digest(plan.dataset, setup.rows)
        plan = plan.claim(
            ledger,
            fingerprint=fingerprint,
            block_steps=network.block_steps,
            inputs=_inputs(settings),
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


def _refuse_unknown_targets(settings: FinetuneSettings, info: DatasetInfo) -> None:
    """Refuse settings that speak of other targets than those of the data set."""
    if unknown := [name for name in settings.head.prior or {} if name not in info.targets]:
        raise InputError(
            f"head.prior: {info.name} has no target {', '.join(unknown)} (it has "
            f"{', '.join(info.targets)})"
        )
    if settings.synthetic is None:
        return
    mixed = open_dataset(settings.synthetic).info
    if not _shared_targets(info.targets, mixed):
        raise InputError(
            f"synthetic: {mixed.name} has labels of {', '.join(mixed.targets)}, and {info.name} of "
            f"{', '.join(info.targets)}; name a set that shares a target"
        )


def _shared_targets(names: Sequence[str], mixed: DatasetInfo) -> list[str]:
    """Which of the targets a set that is mixed in has labels of, matched by their names.

    Where both have one, it is the same, whatever they are called: class 1 of one stands for class 1
    of the other.
    """
    if len(names) == len(mixed.targets) == 1:
        return list(names)
    return [name for name in names if name in mixed.targets]


def _refuse_untrainable(classifier: Classifier, network: NetworkSettings) -> None:
    """Refuse a network that can't be trained, as `trained_network`."""
    cut = replace(_only_source(classifier), trainable_blocks=network.trainable_blocks)
    n_targets, n_features = classifier.head_weight.shape
    backbone = restore_backbone(cut)
    trained_network(
        backbone,
        torch.zeros(n_targets, n_features + 1),
        scaling=None,
        precision=_asked_precision(backbone),
        tune=network.tune,
        lora_rank=network.lora_rank,
    )


def _asked_precision(backbone: Backbone) -> torch.dtype | None:
    """What settings ask for; None for what the hardware has."""
    return torch.float32 if backbone.settings.precision == "float32" else None


def _only_source(classifier: Classifier) -> FeatureSource:
    # FinetuneSettings allows no network beside one that is trained
    (feature_source,) = classifier.feature_sources
    return feature_source


def _public_sampling(seed: int) -> NoiseSource:
    """What samples of patients are drawn from where nothing is promised: the seed."""
    return NoiseSource(hashlib.sha256(f"samples {seed}".encode()).digest())


# What a training begins with: the patients' images, the classifier, its head's weights.


@dataclass(frozen=True, eq=False)
class NetworkSetup:
    """What a network, or its last blocks, is trained on, and from.

    rows: the patients' images; classifier: before training, with its centre; backbone: its network,
    of which `trained` moves what is open; examples: of `rows`; trained: network and head where the
    training begins, moved in place by it; bound_on_units: as in `HeadSetup`.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    backbone: Backbone
    examples: Examples
    trained: TrainedNetwork
    bound_on_units: int | None

    def trained_classifier(self, head: HeadSettings) -> Classifier:
        """The classifier with network and head as they stand in `trained` now."""
        merge_low_rank(self.trained)
        weight = self.trained.head.weight.detach().cpu()
        source = _only_source(self.classifier)
        moved = replace(source, trained={**source.trained, **self.backbone.own_tensors()})
        trained = self.classifier.with_feature_sources([moved])
        return trained.with_head(weight[:, :-1], weight[:, -1] * head.bias_input)


def set_up_network(
    settings: FinetuneSettings, network: NetworkSettings, dataset: Dataset
) -> NetworkSetup:
    """What a run of these settings trains its network on.

    Raises:
        InputError: when an image or weights are missing; without privacy also when there are more
            patients than `privacy.population`, or none.
    """
    unit, promised = settings.privacy.unit, settings.privacy.protects
    rows = _training_rows(settings, dataset)
    bound = _bound_on_units(settings.privacy, dataset.info)
    if not promised:  # else the refusal itself would tell of the patients
        refuse_small_population(bound, len(set(units_of(rows, unit))), unit)
    start = starting_classifier(settings, dataset.info)
    cut = replace(_only_source(start), trainable_blocks=network.trainable_blocks)
    classifier = _centred(settings, start.with_feature_sources([cut]))
    feature_source = _only_source(classifier)
    backbone = restore_backbone(feature_source).to(auto_device())
    examples = _network_examples(settings, network, dataset, rows, backbone)
    trained = trained_network(
        backbone,
        _start_weights(settings.head, classifier).to(auto_device()),
        scaling=feature_source.scaling,
        bias_input=settings.head.bias_input,
        scale=network.scale,
        precision=_asked_precision(backbone),
        tune=network.tune,
        lora_rank=network.lora_rank,
        seed=settings.seed,
    ).to(auto_device())
    return NetworkSetup(rows, classifier, backbone, examples, trained, bound)


def _network_examples(
    settings: FinetuneSettings,
    network: NetworkSettings,
    dataset: Dataset,
    rows: tuple[Row, ...],
    backbone: Backbone,
) -> Examples:
    """The patients' images: as kept tokens of the frozen trunk, or read and augmented as they come.

    Guarantee: what is shown of a patient is a function of that patient's rows, tag and public
    numbers. Tokens of images that are shown once each may be kept; those of random views, drawn
    anew in each step, are computed by the trunk when they are asked for, each by itself.
    """
    finite = not settings.privacy.protects
    names, units = np.unique(units_of(rows, settings.privacy.unit), return_inverse=True)
    targets = torch.from_numpy(targets_array(rows, len(dataset.info.targets)))
    owners, tags = torch.from_numpy(units), patient_tags(dataset, [str(name) for name in names])
    weights = positive_weights(settings.head.prior, dataset.info.targets)
    refuse_other_form(backbone.settings, dataset)
    if backbone.cuts_tokens and network.augment is None:
        tokens = trunk_views(backbone, dataset, rows, network.views, finite=finite)
        return TokenExamples(tokens, targets, owners, tags, weights)
    if not finite:
        refuse_damaged(backbone)
    of_volumes = dataset.info.depth is not None  # slices are made of the whole volume
    return ImageExamples(
        packed_images(
            dataset,
            rows,
            dataset.info.size_px if of_volumes else backbone.settings.size_px,
            bits=network.packed_bits or 8,
        ),
        targets,
        owners,
        tags,
        n_views=network.views,
        augmentation=network.augment,
        seed=settings.seed,
        trunk=_streamed(backbone) if backbone.cuts_tokens else None,
        positive_weights=weights,
    )


def _streamed(backbone: Backbone) -> Callable[[Tensor], Tensor]:
    """The frozen trunk for images as they come, each by itself; through float16 as kept tokens."""
    compute = on_arrays(backbone.trunk, backbone)
    return lambda images: torch.from_numpy(compute(images.numpy()).astype(np.float16))


@dataclass(frozen=True, eq=False)
class HeadSetup:
    """What a head is trained on, and from: all that decides a training but recipe and noise.

    rows: the patients' images; classifier: with its centre, whose head is to be replaced; examples:
    of `rows`; public: images mixed in; start: the weights to begin with, (T, D + 1) of a linear
    head, whose last column is the bias's; bound_on_units: how many patients there are at most, by
    declaration, None where nothing bounds them.
    """

    rows: tuple[Row, ...]
    classifier: Classifier
    examples: HeadExamples
    public: PublicExamples | None
    start: Tensor
    bound_on_units: int | None

    def classifier_of(self, weights: Tensor, head: HeadSettings) -> Classifier:
        """The classifier with a head of trained weights, shaped as `start`."""
        norm, bias_input = head.norm, head.bias_input
        if not isinstance(self.examples, MlpExamples):
            return self.classifier.with_head(weights[:, :-1] * norm, weights[:, -1] * bias_input)
        first, second = self.examples.shape.split(weights)
        return replace(
            self.classifier,
            hidden=(first[:, :-1] * norm, first[:, -1] * bias_input),
            head_weight=second[:, :-1].contiguous(),
            head_bias=second[:, -1].contiguous(),
            points=(),
        )


def set_up_head(settings: FinetuneSettings, dataset: Dataset) -> HeadSetup:
    """What a run of these settings trains its head on.

    Raises:
        InputError: when an image or weights are missing; without privacy also when there are more
            patients than `privacy.population`, none, or the images are of one class.
    """
    head, privacy = settings.head, settings.privacy
    rows = _training_rows(settings, dataset)
    classifier = _centred(settings, starting_classifier(settings, dataset.info))
    promised = privacy.protects
    examples = _head_examples(classifier, dataset, rows, head, privacy.unit, finite=not promised)
    bound = _bound_on_units(privacy, dataset.info)
    if not promised:  # else the refusal itself would tell of the patients
        refuse_one_class(f"{dataset.info.name}, train", dataset.info.targets, targets_array(rows))
        refuse_small_population(bound, examples.n_units, privacy.unit)
    public = None
    if settings.synthetic is not None:
        synthetic = open_dataset(settings.synthetic)
        public = PublicExamples(
            _head_examples(
                classifier, synthetic, synthetic.split("train"), head, privacy.unit, finite=True
            ),
            settings.synthetic_weight,
            sampling_rate=head.sampling_rate,
            seed=settings.seed,
        )
    if isinstance(examples, MlpExamples):
        start = examples.shape.start(settings.seed, head.norm)
        _, last = examples.shape.split(start)
        last[:, -1] = start_bias(head.prior, classifier.targets)
    else:
        start = _start_weights(head, classifier)
    return HeadSetup(rows, classifier, examples, public, start, bound)


def _bound_on_units(privacy: PrivacySettings, info: DatasetInfo) -> int | None:
    """How many units there are at most, by declaration; None where nothing bounds them.

    Rows that are no patients, trained on without noise, may be as many as there are.
    """
    bounds = info.protects_patients or privacy.protects
    return privacy.population if bounds else None


def _training_rows(settings: FinetuneSettings, dataset: Dataset) -> tuple[Row, ...]:
    """The images of patients that a run is trained on.

    Guarantee: a patient's rows stay or go by a keyed hash of the id, by public columns of each row
    and by a public bound on how many there are, whoever else is in the set. With a promise there
    may be none.

    Raises:
        InputError: when none is left, and nothing is promised.
    """
    promised = settings.privacy.protects
    rows = rows_where(
        dataset,
        dataset.split("train", may_be_empty=promised),
        settings.where,
        may_be_empty=promised,
    )
    of_cohort = cohort_rows(dataset, rows, settings.cohort, may_be_empty=promised)
    return bounded_rows(of_cohort, settings.privacy.images_per_patient)


def starting_classifier(settings: FinetuneSettings, info: DatasetInfo) -> Classifier:
    """The classifier before training, on the networks that the settings name.

    Raises:
        InputError: when the head of `init` is kept and was trained for other targets, or weights
            are missing.
    """
    beside = [new_feature_source(one, seed=settings.seed) for one in settings.beside]
    if settings.init is None:
        assert settings.backbone is not None  # FinetuneSettings asks for one of the two
        first = new_feature_source(settings.backbone, seed=settings.seed)
        return new_classifier([first, *beside], info.targets)
    classifier = load_classifier(settings.init)
    if settings.head.start == "zero":  # features alone are taken, whatever they were learned for
        return new_classifier([*classifier.feature_sources, *beside], info.targets)
    if lacking := [name for name in info.targets if name not in classifier.targets]:
        raise InputError(
            f"{settings.init}: its head was trained for {', '.join(classifier.targets)}, but the "
            f"data set has {', '.join(lacking)} too; leave head.start out, or pretrain on a set "
            "that has the same targets"
        )
    if classifier.hidden is not None:
        raise InputError(
            f"{settings.init}: its head has a hidden layer, which training can't start from; "
            "leave head.start out"
        )
    return replace(classifier.of_targets(info.targets), points=())


def _centred(settings: FinetuneSettings, classifier: Classifier) -> Classifier:
    """The classifier whose new networks are centred and whitened by the set `centre`."""
    if settings.centre is None:
        return classifier
    public = open_dataset(settings.centre)
    n_kept = 0 if settings.init is None else len(classifier.feature_sources) - len(settings.beside)
    kept, new = classifier.feature_sources[:n_kept], classifier.feature_sources[n_kept:]
    raws = features(classifier.with_feature_sources(new), public, public.rows)
    fitted = [
        replace(one, scaling=one.scaling.fitted(raw, one.backbone.whiten))
        for one, raw in zip(new, raws, strict=True)
    ]
    return classifier.with_feature_sources([*kept, *fitted])


def _head_examples(
    classifier: Classifier,
    dataset: Dataset,
    rows: Sequence[Row],
    head: HeadSettings,
    unit: Unit,
    *,
    finite: bool,
) -> HeadExamples:
    raws = features(classifier, dataset, rows, views=head.views, finite=finite)
    scaled = inputs_of(classifier, raws)
    inputs = scaled.new_empty(len(scaled), scaled.shape[1] + 1)
    torch.mul(scaled, head.norm, out=inputs[:, :-1])
    # the constant that the bias sees, so that the bias is clipped and noised as a weight
    inputs[:, -1] = head.bias_input
    del raws, scaled  # of many images they take as much memory again
    names, units = np.unique(units_of(rows, unit), return_inverse=True)
    own = dataset.info.targets
    names_there = own if len(own) == len(classifier.targets) == 1 else classifier.targets
    labels = torch.from_numpy(labels_of(dataset, rows, names_there))
    targets = labels.repeat_interleave(head.views, dim=0)
    owners = torch.from_numpy(units).repeat_interleave(head.views)
    tags = patient_tags(dataset, [str(name) for name in names]) if head.sampling_rate < 1 else []
    weights = positive_weights(head.prior, classifier.targets)
    if head.kind != "mlp":
        return HeadExamples(inputs, targets, owners, head.kind, tags, weights)
    return MlpExamples(
        inputs,
        targets,
        owners,
        tags=tags,
        positive_weights=weights,
        shape=MlpShape(inputs.shape[1], head.hidden, targets.shape[1]),
        smoothing=head.label_smoothing,
    )


def _start_weights(head: HeadSettings, classifier: Classifier) -> Tensor:
    """Weights of a linear head to begin with, (T, D + 1), the last column the bias's."""
    weight, bias = classifier.head_weight, classifier.head_bias
    if head.start == "zero":
        weight, bias = torch.zeros_like(weight), start_bias(head.prior, classifier.targets)
    column = bias / head.bias_input if head.bias_input else torch.zeros_like(bias)
    return torch.cat([weight / head.norm, column.unsqueeze(1)], dim=1)


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
        "images": f"those of {where_words(settings.where)}" if settings.where else "all of train",
        "head": recipe,
        "started from": _start_words(settings),
        "mixed with": "-" if mixed is None else _mixed_words(dataset.info.targets, mixed),
    }
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
    shared = _shared_targets(names, mixed)
    return mixed.name if len(shared) == len(names) else f"{mixed.name}, of {', '.join(shared)}"

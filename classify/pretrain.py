"""The pretrain stage: ordinary training of a classifier, on synthetic, phantom or public images.

Backbone and head are trained together, or the head alone on cached features; the last iterate is
the model. In place of labels the backbone may learn to reproduce the features that a frozen teacher
gives for an image (distillation). On patients this is the baseline without privacy, and the
statement says so.
"""

import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from classify.features.extract import backbone_features, kept_views, seen_views
from classify.features.input_form import input_form, refuse_other_form
from classify.features.scaling import head_input, plain_scaling
from classify.model.classifier import Classifier, FeatureSource
from classify.model.folder import save_classifier
from classify.plans import pretraining_plan
from classify.settings.pretrain import PretrainSettings
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.data.dataset import Dataset, Row, open_dataset, refuse_one_class, targets_array
from synthdp.data.packed import PackedImages, packed_images
from synthdp.data.people.cohorts import cohort_rows
from synthdp.data.views.augment import RandomViews
from synthdp.errors import RunError
from synthdp.machine.devices import auto_device, reduced_precision
from synthdp.machine.progress import at_work, progress
from synthdp.machine.time_budget import TimeBudget, budget_of
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import model_card
from synthdp.runs.folder import Run, open_run
from synthdp.runs.tracking import names_to_send


def run_pretrain(settings: PretrainSettings) -> Path:
    """Train a classifier, or resume or return a run that stands at `settings.out`.

    Raises:
        InputError: when settings and data don't fit together.
        RunError: when the loss is not finite; the last good checkpoint stands.
    """
    dataset = open_dataset(settings.data)
    info, rows = dataset.info, _rows(settings, dataset)
    refuse_one_class(f"{info.name}, train", info.targets, targets_array(rows))
    plan = pretraining_plan(settings, dataset)
    plan.refuse_overspent(settings.out)
    if not (settings.out / "status.json").is_file():
        _backbone(settings)  # refuses before a folder is made, so that a mend needs no new one
    with open_run(settings.out, "pretrain", settings) as run:
        if not run.finished:
            _pretrain(settings, run, plan.with_release_id(run.release_id))
    return settings.out


def _rows(settings: PretrainSettings, dataset: Dataset) -> tuple[Row, ...]:
    return cohort_rows(dataset, dataset.split("train"), settings.cohort)


def _pretrain(settings: PretrainSettings, run: Run, plan: PrivacyPlan) -> None:
    plan.record(Ledger(run.ledger_path))
    run.names_to_send = names_to_send(plan)
    save_classifier(run.model, _trained(settings, run, plan.dataset))
    run.finish(plan.statement, _card(settings, plan.dataset, plan.statement))
    shutil.rmtree(run.checkpoints, ignore_errors=True)


def _trained(settings: PretrainSettings, run: Run, dataset: Dataset) -> Classifier:
    """The classifier; its features are centred by the images that it was trained on."""
    rows = _rows(settings, dataset)
    backbone = _backbone(settings)
    head = None
    if settings.trainable_blocks != 0:
        head = _train_blocks(settings, run, backbone, dataset, rows)
    raw = backbone_features(backbone, dataset, rows)
    scaling = plain_scaling(backbone).fitted(raw, settings.backbone.whiten)
    if head is None:
        with at_work("fitting the head"):
            fitted = fit_logistic(
                head_input([raw], [scaling]),
                torch.from_numpy(targets_array(rows)),
                l2=settings.weight_decay,
                smoothing=settings.label_smoothing,
            )
        if not math.isfinite(fitted.loss):
            raise RunError("the loss of the head is not finite; raise weight_decay")
        run.log(loss=fitted.loss)
        head = fitted.weight, fitted.bias
    feature_source = FeatureSource(
        backbone=settings.backbone,
        scaling=scaling,
        trainable_blocks=settings.trainable_blocks,
        trained=backbone.own_tensors(),
        seed=settings.seed,
    )
    form = input_form(dataset.info, [settings.backbone])
    return Classifier((feature_source,), dataset.info.targets, *head, input_form=form)


def _backbone(settings: PretrainSettings) -> Backbone:
    return build_backbone(
        settings.backbone, seed=settings.seed, trainable_blocks=settings.trainable_blocks
    )


def _card(settings: PretrainSettings, dataset: Dataset, statement: Statement) -> str:
    blocks = settings.trainable_blocks
    moved = {0: "head alone", "all": "whole network and head"}.get(
        blocks, f"last {blocks} blocks and head"
    )
    name = settings.backbone.name
    what, summary = "network", f"The network {name} with a linear head, trained without"
    if "vit" in name:
        what, summary = "transformer", "A vision transformer with a linear head, trained without"
    facts = {
        "data set": f"{dataset.info.name} ({dataset.info.kind})",
        "targets": ", ".join(dataset.info.targets),
        what: f"{settings.backbone.name} at {settings.backbone.size_px} px",
        "weights": settings.backbone.sha256 or settings.backbone.weights or "random start",
        "trained": moved,
    }
    return model_card(
        title=f"Classifier pretrained on {dataset.info.name}",
        summary=f"{summary} differential privacy.",
        statement=statement,
        settings=facts,
    )


#: The head sees vectors of norm 1; their products with its weights are scaled up by this.
HEAD_SCALE = 16.0
#: Share of the running mean of features that a step keeps, at most.
_CENTRE_MOMENTUM = 0.95
#: Views of more bytes are read anew in each epoch, which gives the same numbers.
_MOST_BYTES = 2**28


@dataclass(frozen=True, eq=False)
class _KeptViews:
    """What the trunk gave for each image, (N, ...), and for its other views, (N, K - 1, ...)."""

    own: NDArray[np.float16]
    others: NDArray[np.float16] | None

    def __len__(self) -> int:
        return len(self.own)

    @property
    def n_views(self) -> int:
        """K."""
        return 1 if self.others is None else 1 + self.others.shape[1]

    def numbers(self, generator: np.random.Generator, epoch: int) -> NDArray[np.int64]:
        """Which view of each image an epoch shows, (N,): one of those that are kept, at random."""
        return generator.integers(self.n_views, size=len(self))

    def of(self, chosen: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[Any]:
        """These views of these images, (B, ...)."""
        values = np.array(self.own[chosen])
        if self.others is not None:
            other = views > 0
            values[other] = self.others[chosen[other], views[other] - 1]
        return values


@dataclass(frozen=True, eq=False)
class _ReadViews:
    """Views of images that are read when they are shown; the same few in every epoch."""

    backbone: Backbone
    dataset: Dataset
    rows: Sequence[Row]
    n_views: int

    def __len__(self) -> int:
        return len(self.rows)

    def numbers(self, generator: np.random.Generator, epoch: int) -> NDArray[np.int64]:
        """Which view of each image an epoch shows, (N,), at random."""
        return generator.integers(self.n_views, size=len(self))

    def of(self, chosen: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[Any]:
        """These views of these images, (B, ...)."""
        rows = [self.rows[index] for index in chosen.tolist()]
        seen = seen_views(self.backbone, self.dataset, rows, self.n_views)
        return seen[np.arange(len(rows)), views]


@dataclass(frozen=True, eq=False)
class _DrawnViews:
    """Images that are read when they are shown, each epoch as another random view."""

    source: PackedImages
    random_views: RandomViews
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def numbers(self, generator: np.random.Generator, epoch: int) -> NDArray[np.int64]:
        """That of the epoch, for each image, (N,)."""
        return np.full(len(self.source), epoch)

    def of(self, chosen: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[Any]:
        """These views of these images, (B, 1, S, S); of volumes (B, D, S, S)."""
        images = self.source.images(chosen)
        for image, index, view in zip(images, chosen.tolist(), views.tolist(), strict=True):
            name = f"{self.seed} {view} {index}".encode()
            for plane in image:  # the slices of a volume move together
                plane[:] = self.random_views.view(plane, name)
        return images


def _shown(
    settings: PretrainSettings, backbone: Backbone, dataset: Dataset, rows: Sequence[Row]
) -> _KeptViews | _ReadViews | _DrawnViews:
    """What training shows of each image; memory does not grow with their number beyond a bound."""
    of_volumes = dataset.info.depth is not None  # slices are made of the whole volume
    size_px = dataset.info.size_px if of_volumes else settings.backbone.size_px
    if settings.augment is None:
        if not (of_volumes or backbone.hands_on_images):
            return _KeptViews(*kept_views(backbone, dataset, rows, settings.views))
        of_image = settings.views * (dataset.info.depth or 1) * size_px**2 * 2
        if len(rows) * of_image > _MOST_BYTES:
            return _ReadViews(backbone, dataset, rows, settings.views)
        seen = seen_views(backbone, dataset, rows, settings.views)
        return _KeptViews(seen[:, 0], seen[:, 1:] if settings.views > 1 else None)
    refuse_other_form(settings.backbone, dataset.info)
    images = packed_images(dataset, rows, size_px, bits=settings.packed_bits or 8)
    return _DrawnViews(images, RandomViews(settings.augment), settings.seed)


class _HeadedBackbone(nn.Module):
    """The top of a backbone under a head, with a running mean of the features as centre."""

    centre: Tensor
    n_updates: Tensor

    def __init__(self, backbone: Backbone, n_targets: int, *, seed: int) -> None:
        super().__init__()
        self.backbone = backbone
        generator = torch.Generator().manual_seed(seed)
        start = torch.randn(n_targets, backbone.n_features, generator=generator)
        self.weight = nn.Parameter(start / math.sqrt(backbone.n_features))
        self.bias = nn.Parameter(torch.zeros(n_targets))
        self.register_buffer("centre", torch.zeros(backbone.n_features))
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    def forward(self, tokens: Tensor) -> Tensor:
        """What the trunk gave for a batch to logits (B, T); moves the centre towards the batch."""
        wanted = self.backbone.settings.precision == "auto"
        with reduced_precision(tokens.device, wanted=wanted):
            raw = self.backbone.top(tokens)
        raw = raw.float()
        n = int(self.n_updates)
        kept = min(_CENTRE_MOMENTUM, n / (n + 1))
        self.centre.lerp_(raw.detach().mean(dim=0), 1 - kept)
        self.n_updates += 1
        scaling = replace(plain_scaling(self.backbone), centre=self.centre)
        return HEAD_SCALE * head_input([raw], [scaling]) @ self.weight.T + self.bias

    def tensors(self) -> dict[str, Tensor]:
        """All that training moves, by name."""
        own = {"weight": self.weight, "bias": self.bias, "centre": self.centre}
        own |= {"n_updates": self.n_updates}
        trained = {f"backbone.{k}": v for k, v in self.backbone.trained_state().items()}
        return {name: tensor.detach() for name, tensor in {**own, **trained}.items()}


def _train_blocks(
    settings: PretrainSettings,
    run: Run,
    backbone: Backbone,
    dataset: Dataset,
    rows: Sequence[Row],
) -> tuple[Tensor, Tensor] | None:
    """Train the backbone in place under a head: AdamW, a cosine schedule, resumable to the bit.

    Returns:
        The head: weight (T, D) for inputs of norm 1, and bias (T,); None after distillation, whose
        head knows no labels.

    Raises:
        RunError: when the loss is not finite; it names the last good checkpoint.
    """
    targets = torch.from_numpy(targets_array(rows))
    if settings.teacher is not None:
        targets = _teacher_features(settings.teacher, dataset, rows, seed=settings.seed)
    model = _HeadedBackbone(backbone, targets.shape[1], seed=settings.seed).to(auto_device())
    optimizer = _optimizer(model, settings.lr, settings.head_lr, settings.weight_decay)
    inputs = _shown(settings, backbone, dataset, rows)
    budget = budget_of(settings.epochs, settings.minutes)
    first_epoch = _resume(model, optimizer, run.checkpoints, budget)
    for epoch in range(first_epoch, settings.epochs):
        if budget.is_over(epoch):
            break
        started = time.monotonic()
        loss = _epoch(
            model,
            optimizer,
            settings,
            epoch=epoch,
            inputs=inputs,
            targets=targets,
            budget=budget,
        )
        if not math.isfinite(loss) or not all(map(_is_finite, model.tensors().values())):
            good = f"private/checkpoints/{epoch:09d}"
            raise RunError(
                f"loss or weights are not finite in epoch {epoch + 1}, so it stopped (last good "
                f"checkpoint: {good if epoch else 'none, since this is the first epoch'}); start "
                "in a new folder with a smaller lr"
            )
        state = {"optimizer": optimizer.state_dict(), "budget": budget.state()}
        save_checkpoint(run.checkpoints, epoch + 1, model.tensors(), state)
        run.log(epoch=epoch + 1, loss=loss, seconds=round(time.monotonic() - started, 2))
    if settings.teacher is not None:
        return None
    return HEAD_SCALE * model.weight.detach().cpu(), model.bias.detach().cpu()


def _is_finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())


def _teacher_features(
    teacher: FeatureSettings, dataset: Dataset, rows: Sequence[Row], *, seed: int
) -> Tensor:
    """A frozen network's features of `rows`, (N, D), centred and whitened over them, of norm 1."""
    network = build_backbone(teacher, seed=seed)
    raw = backbone_features(network, dataset, rows)
    return head_input([raw], [plain_scaling(network).fitted(raw, teacher.whiten)])


def _optimizer(
    model: _HeadedBackbone, lr: float, head_lr: float, weight_decay: float
) -> torch.optim.AdamW:
    """AdamW; vectors (biases, norms, the head) and tokens are not decayed."""
    named = [(k, p) for k, p in model.backbone.network.named_parameters() if p.requires_grad]
    matrices = [p for k, p in named if p.ndim > 1 and not k.endswith(("token", "pos_embed"))]
    chosen = {id(p) for p in matrices}
    vectors = [p for _, p in named if id(p) not in chosen]
    groups = [
        {"params": matrices, "lr": lr, "weight_decay": weight_decay},
        {"params": vectors, "lr": lr, "weight_decay": 0.0},
        {"params": [model.weight, model.bias], "lr": head_lr, "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak_lr"] = group["lr"]
    return torch.optim.AdamW(groups)


def _resume(
    model: _HeadedBackbone, optimizer: torch.optim.Optimizer, folder: Path, budget: TimeBudget
) -> int:
    """Load the newest checkpoint, if there is one; gives the epochs that are done."""
    checkpoint = load_checkpoint(folder)
    if checkpoint is None:
        return 0
    with torch.no_grad():
        for name, tensor in model.tensors().items():
            tensor.copy_(checkpoint.weights[name])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    if "budget" in checkpoint.state:  # those of earlier versions have none
        budget.load(checkpoint.state["budget"])
    return checkpoint.step


def _epoch(
    model: _HeadedBackbone,
    optimizer: torch.optim.Optimizer,
    settings: PretrainSettings,
    *,
    epoch: int,
    inputs: _KeptViews | _ReadViews | _DrawnViews,
    targets: Tensor,
    budget: TimeBudget,
) -> float:
    """One pass over the images, or what the budget leaves of it; gives the mean loss.

    It is nan as soon as the loss of a step is not finite.

    It shows each image once, as one of its views; order and choice of views come from the seed and
    the number of the epoch alone, so that a resumed training sees what a whole one does.
    """
    device = model.weight.device
    generator = np.random.default_rng([settings.seed, epoch])
    order = generator.permutation(len(inputs))
    views = inputs.numbers(generator, epoch)
    starts = range(0, len(order), settings.batch)
    losses = []
    what = f"epoch {epoch + 1} of {settings.epochs}"
    shown = progress(starts, what=what, estimate=budget.seconds_left)
    for step, start in enumerate(shown):
        if budget.is_over(epoch + step / len(starts)):
            break
        chosen = order[start : start + settings.batch]
        done = budget.share(epoch + (step + 0.5) / len(starts))
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_share(done, settings.warmup)
        tokens = torch.from_numpy(inputs.of(chosen, views[chosen])).to(device, torch.float32)
        wanted = targets[chosen].to(device)
        if settings.teacher is not None:  # the mean squared distance to the teacher's features
            loss = (model(tokens) - wanted).square().sum(dim=1).mean()
        else:
            loss = smoothed_loss(model(tokens), wanted, settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return math.nan
        optimizer.step()
        budget.note(epoch + (step + 1) / len(starts))
    return float(np.mean(losses))


def rate_share(done: float, warmup: float) -> float:
    """Share of the peak learning rate when a share `done` of the training is over.

    >>> [round(rate_share(done, 0.2), 2) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2


def smoothed_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Mean binary cross-entropy over known targets, these pulled towards one half.

    Args:
        logits: (B, T).
        targets: (B, T) of 0, 1 or nan (left out).
        smoothing: 0 keeps the targets, 1 would make them all one half.
    """
    known = ~torch.isnan(targets)
    soft = targets[known] * (1 - smoothing) + smoothing / 2
    total: Tensor = F.binary_cross_entropy_with_logits(logits[known], soft, reduction="sum")
    return total / known.sum().clamp(min=1)


@dataclass(frozen=True)
class FittedHead:
    """weight: (T, D); bias: (T,); loss: the mean over targets without the penalty."""

    weight: Tensor
    bias: Tensor
    loss: float


def fit_logistic(
    inputs: Tensor, targets: Tensor, *, l2: float, smoothing: float = 0.0
) -> FittedHead:
    """Logistic regression on all rows at once, to the optimum.

    Minimises the mean loss of each target over the rows whose label is known, plus `l2` / 2 times
    the squared norm of its weights (not the bias): each as if there were no other target.

    Args:
        inputs: (N, D).
        targets: (N, T) of 0, 1 or nan (left out).
        l2: weight of the penalty.
        smoothing: of the targets.
    """
    x, y = inputs.double(), targets.double()
    weight = torch.zeros(y.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(y.shape[1], dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=1000,
        tolerance_grad=1e-8,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def mean_loss() -> Tensor:
        columns = zip((x @ weight.T + bias).split(1, dim=1), y.split(1, dim=1), strict=True)
        return torch.stack([smoothed_loss(*column, smoothing) for column in columns]).mean()

    def objective() -> Tensor:
        solver.zero_grad()
        value = mean_loss() + l2 / 2 * weight.square().sum() / y.shape[1]
        value.backward()
        return value

    solver.step(objective)
    loss = mean_loss()
    return FittedHead(weight.detach().float(), bias.detach().float(), float(loss.detach()))

"""Training backbone and head together: AdamW under a cosine schedule, resumable to the bit.

The head learns the labels, or without them what a frozen teacher's features tell (distillation).
An epoch shows each image once, as one of its views; order and choice of views come from the seed
and the number of the epoch alone.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from classify.config import PretrainSettings
from classify.features.extract import backbone_features, trunk_views
from classify.features.scaling import head_input, plain_scaling
from classify.head.logistic import smoothed_loss
from synthdp.checkpoint import load_checkpoint, save_checkpoint
from synthdp.config import FeatureSettings
from synthdp.data.dataset import Dataset, Row, targets_array
from synthdp.devices import auto_device, reduced_precision
from synthdp.errors import RunError
from synthdp.networks.backbone import Backbone, build_backbone
from synthdp.progress import progress
from synthdp.runs import Run

#: The head sees vectors of norm 1; their products with its weights are scaled up by this.
HEAD_SCALE = 16.0
#: Share of the running mean of features that a step keeps, at most.
CENTRE_MOMENTUM = 0.95


class JointModel(nn.Module):
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
        with reduced_precision(tokens.device):
            raw = self.backbone.top(tokens)
        raw = raw.float()
        n = int(self.n_updates)
        kept = min(CENTRE_MOMENTUM, n / (n + 1))
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


def train_jointly(
    settings: PretrainSettings,
    run: Run,
    backbone: Backbone,
    dataset: Dataset,
    rows: Sequence[Row],
) -> tuple[Tensor, Tensor] | None:
    """Train the backbone in place, under a head.

    Returns:
        The head: weight (T, D) for inputs of norm 1, and bias (T,); None after distillation, whose
        head knows no labels.

    Raises:
        RunError: when the loss is not finite; it names the last good checkpoint.
    """
    device = auto_device()
    targets = torch.from_numpy(targets_array(rows))
    if settings.teacher is not None:
        targets = teacher_features(settings.teacher, dataset, rows, seed=settings.seed)
    model = JointModel(backbone, targets.shape[1], seed=settings.seed).to(device)
    optimizer = _optimizer(model, settings)
    first_epoch = _resume(model, optimizer, run)
    inputs = trunk_views(backbone, dataset, rows, settings.views)
    for epoch in range(first_epoch, settings.epochs):
        started = time.monotonic()
        loss = _epoch(model, optimizer, settings, epoch=epoch, inputs=inputs, targets=targets)
        if not math.isfinite(loss):
            raise RunError(_diverged(epoch))
        state = {"optimizer": optimizer.state_dict()}
        save_checkpoint(run.checkpoints, epoch + 1, model.tensors(), state)
        run.log(epoch=epoch + 1, loss=loss, seconds=round(time.monotonic() - started, 2))
    if settings.teacher is not None:
        return None
    return HEAD_SCALE * model.weight.detach().cpu(), model.bias.detach().cpu()


def teacher_features(
    teacher: FeatureSettings, dataset: Dataset, rows: Sequence[Row], *, seed: int
) -> Tensor:
    """What a frozen network tells of `rows`, (N, D): centred and whitened over them, of norm 1."""
    network = build_backbone(teacher, seed=seed)
    raw = backbone_features(network, dataset, rows)
    return head_input([raw], [plain_scaling(network).fitted(raw, teacher.whiten)])


def distillation_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance between predicted and teacher's features, (B, D) each."""
    return (predicted - target).square().sum(dim=1).mean()


def _diverged(epoch: int) -> str:
    good = f"private/checkpoints/{epoch:09d}" if epoch else "none, since this is the first epoch"
    return (
        f"the loss is not finite in epoch {epoch + 1}, so training stopped (last good checkpoint: "
        f"{good}); start in a new folder with a smaller lr"
    )


def _optimizer(model: JointModel, settings: PretrainSettings) -> torch.optim.AdamW:
    """AdamW; vectors (biases, norms, the head) and tokens are not decayed."""
    named = [(k, p) for k, p in model.backbone.network.named_parameters() if p.requires_grad]
    matrices = [p for k, p in named if p.ndim > 1 and not k.endswith(("token", "pos_embed"))]
    chosen = {id(p) for p in matrices}
    vectors = [p for _, p in named if id(p) not in chosen]
    groups = [
        {"params": matrices, "lr": settings.lr, "weight_decay": settings.weight_decay},
        {"params": vectors, "lr": settings.lr, "weight_decay": 0.0},
        {"params": [model.weight, model.bias], "lr": settings.head_lr, "weight_decay": 0.0},
    ]
    for group in groups:
        group["peak_lr"] = group["lr"]
    return torch.optim.AdamW(groups)


def _resume(model: JointModel, optimizer: torch.optim.Optimizer, run: Run) -> int:
    """Load the newest checkpoint, if there is one; gives the epochs that are done."""
    checkpoint = load_checkpoint(run.checkpoints)
    if checkpoint is None:
        return 0
    with torch.no_grad():
        for name, tensor in model.tensors().items():
            tensor.copy_(checkpoint.weights[name])
    optimizer.load_state_dict(checkpoint.state["optimizer"])
    return checkpoint.step


def _epoch(
    model: JointModel,
    optimizer: torch.optim.Optimizer,
    settings: PretrainSettings,
    *,
    epoch: int,
    inputs: NDArray[np.float16],
    targets: Tensor,
) -> float:
    """One pass over the images; gives the mean loss, nan as soon as one is not finite."""
    device = model.weight.device
    generator = np.random.default_rng([settings.seed, epoch])
    order = generator.permutation(len(inputs))
    views = generator.integers(inputs.shape[1], size=len(inputs))
    starts = range(0, len(order), settings.batch)
    losses = []
    for step, start in enumerate(progress(starts, what=f"epoch {epoch + 1} of {settings.epochs}")):
        chosen = order[start : start + settings.batch]
        done = (epoch + (step + 0.5) / len(starts)) / settings.epochs
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate_share(done, settings.warmup)
        tokens = torch.from_numpy(inputs[chosen, views[chosen]]).to(device, torch.float32)
        shown = targets[chosen].to(device)
        if settings.teacher is not None:
            loss = distillation_loss(model(tokens), shown)
        else:
            loss = smoothed_loss(model(tokens), shown, settings.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return math.nan
        optimizer.step()
    return float(np.mean(losses))


def rate_share(done: float, warmup: float) -> float:
    """Share of the peak learning rate when a share `done` of the training is over.

    >>> [round(rate_share(done, 0.2), 2) for done in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if done < warmup:
        return done / warmup
    return (1 + math.cos(math.pi * (done - warmup) / (1 - warmup))) / 2

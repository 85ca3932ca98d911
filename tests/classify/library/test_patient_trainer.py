"""The trainer of any module: its gradients, what can't be done by mistake, and what it promises."""

import copy
import math
import multiprocessing
import os
import pickle
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from classify.library.patient_trainer import PatientTrainer
from synthdp.data.budget import change_budget
from synthdp.errors import InputError
from synthdp.privacy import keys
from synthdp.privacy.keys import KEY_BYTES
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.noisy_sum import noise
from synthdp.privacy.noisy_sum.lattice import clip_bound
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.plan import statement_of

PUBLIC = {"epsilon": 6, "delta": 1e-3, "population": 40, "steps": 4, "clip_norm": 0.5}


class SmallViT(nn.Module):
    """A vision transformer of one block on 8 x 8 patches."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, 4)
        self.place = nn.Parameter(0.02 * torch.randn(1, 16, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, dropout=drop, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.block(tokens).mean(dim=1))


def small_cnn(norm: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), norm or nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(784, 2)
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, labels = batch
    return F.cross_entropy(model(images), labels)


def clinic(n_patients: int = 12) -> tuple[TensorDataset, list[str]]:
    """Patients of one to three images each."""
    names = [f"secret-{n}" for n in range(n_patients) for _ in range(1 + n % 3)]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(len(names), 1, 16, 16, generator=generator)
    return TensorDataset(images, torch.arange(len(names)) % 2), names


def without(data: TensorDataset, names: list[str], gone: str) -> tuple[TensorDataset, list[str]]:
    kept = [number for number, name in enumerate(names) if name != gone]
    return TensorDataset(*(tensor[kept] for tensor in data.tensors)), [names[n] for n in kept]


def made(
    data: Dataset | None = None,
    names: list[str] | None = None,
    model: nn.Module | None = None,
    **changes: object,
) -> PatientTrainer:
    torch.manual_seed(1)
    if data is None or names is None:
        data, names = clinic()
    model = small_cnn() if model is None else model
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    return PatientTrainer(model, optimizer, data, names, **(PUBLIC | changes))


def train(trainer: PatientTrainer, of: Callable[..., Tensor] = loss) -> list[Tensor]:
    """Take all steps; what each released, before the normaliser."""
    released: list[Tensor] = []
    move = trainer._move
    trainer._move = lambda part: (released.append(part), move(part))
    for _ in trainer:
        trainer.step(of)
    return [part * trainer._sampling.normaliser for part in released]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise, so that what is released is the sum."""
    monkeypatch.setattr(
        NoiseSource,
        "gaussian",
        lambda self, shape, scale, stream: torch.zeros(shape, dtype=torch.float64),
    )


@pytest.fixture
def one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key for all that is secret, so that only what differs by a patient differs."""
    for module in (keys, noise):
        monkeypatch.setattr(module, "new_key", lambda: b"k" * KEY_BYTES)


def naive(
    model: nn.Module, data: TensorDataset, names: list[str], of: Callable[..., Tensor] = loss
) -> Tensor:
    """The clipped sum over patients by autograd, each image by itself.

    A clipped vector is a little shorter than the clip norm, for what rounding to the lattice adds.
    """
    total = torch.zeros(sum(p.numel() for p in model.parameters()), dtype=torch.float64)
    bound = clip_bound(0.5, len(total)) * (1 - 1e-5) * (1 - 1e-6)
    for name in dict.fromkeys(names):
        images = [number for number, other in enumerate(names) if other == name]
        mean = torch.zeros_like(total)
        for number in images:
            batch = tuple(tensor[number : number + 1] for tensor in data.tensors)
            parts = torch.autograd.grad(of(model, batch), list(model.parameters()))
            mean += torch.cat([part.flatten() for part in parts]).double() / len(images)
        total += mean * min(1, bound / float(mean.norm()))
    return total


@pytest.mark.parametrize("build", [small_cnn, SmallViT])
@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_a_step_is_the_clipped_sum_of_each_patients_mean_gradient(
    build: Callable[[], nn.Module], at_once: int, quiet: None
) -> None:
    torch.manual_seed(1)
    data, names = clinic()
    model = build()
    expected = naive(copy.deepcopy(model), data, names)
    released = train(made(data, names, model, images_at_once=at_once, steps=1))[0]
    assert float((released - expected).norm()) < 1e-5 * float(expected.norm())
    assert float((released - expected).abs().max()) < 1e-5


def test_a_loss_for_each_image_is_averaged(quiet: None) -> None:
    each = train(
        made(steps=1), lambda model, b: F.cross_entropy(model(b[0]), b[1], reduction="none")
    )
    assert torch.allclose(each[0], train(made(steps=1))[0], atol=1e-5)


@pytest.mark.parametrize("rate", [1.0, 0.5])
@pytest.mark.parametrize("extreme", [1.0, 1e4, math.nan])
@pytest.mark.parametrize("drop", [0.0, 0.5])
def test_a_neighbour_moves_a_sum_by_the_clip_norm(
    rate: float, extreme: float, drop: float, one_key: None, quiet: None
) -> None:
    data, names = clinic()
    taken = names.index("secret-7")
    data.tensors[0][taken : taken + 2] *= extreme
    statements, sums = [], []
    for some in ((data, names), without(data, names, "secret-7")):
        torch.manual_seed(2)
        model = SmallViT(drop)
        trainer = made(*some, model, sampling_rate=rate, clip_norm=0.01, steps=1)
        sums.append(train(trainer)[0])
        statements.append(trainer.statement())
    moved = float((sums[0] - sums[1]).norm())
    assert moved <= 0.01 + 1e-6  # float32 of what is released
    if rate == 1.0:
        assert (moved > 0.009) == math.isfinite(extreme)
    alike = [
        (one.epsilon, one.population, one.odds, one.lineage.releases[0].mechanism)
        for one in statements
    ]
    assert alike[0] == alike[1]


def test_nobody_at_all_is_a_run_of_noise_alone() -> None:
    data, _ = clinic()
    released = train(made(TensorDataset(*(tensor[:0] for tensor in data.tensors)), []))
    assert len(released) == PUBLIC["steps"]
    assert all(float(part.norm()) > 0 for part in released)


class Augmented(Dataset):
    """Images moved at random, by each of the generators that people use."""

    def __init__(self, data: TensorDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.data[index]
        shift = random.random() + np.random.random() + float(torch.rand(()))
        return image + shift, label


def test_random_augmentation_of_one_moves_nobody_else(one_key: None, quiet: None) -> None:
    data, names = clinic()
    sums = []
    for some, ids in ((data, names), without(data, names, "secret-0")):
        torch.manual_seed(3)
        sums.append(train(made(Augmented(some), ids, small_cnn(), clip_norm=0.01, steps=1))[0])
    assert float((sums[0] - sums[1]).norm()) <= 0.01 + 1e-6


def test_the_global_generators_go_on_as_if_nothing_had_been() -> None:
    trainer = made(steps=1)
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    train(trainer)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert after == states


def test_it_states_what_was_spent(tmp_path: Path) -> None:
    trainer = made(ledger=tmp_path / "mine", block_steps=2)
    planned = trainer.statement()
    assert planned.epsilon == pytest.approx(6, rel=1e-3)
    assert not statement_of([tmp_path / "mine"]).lineage.releases  # nothing has run yet
    assert next(trainer) == 0
    trainer.step(loss)
    # whoever ends a loop early may have looked at what was released: the whole plan counts
    assert trainer.statement().epsilon == planned.epsilon
    train(trainer)
    assert len(trainer) == 4
    whole = trainer.statement()
    assert whole.epsilon == planned.epsilon
    assert "Privacy of this model: epsilon = 6 for each patient" in str(whole)
    assert "which items of the Dataset are one patient's" in str(whole)
    assert statement_of([tmp_path / "mine"]).epsilon == pytest.approx(whole.epsilon)
    with pytest.raises(StopIteration):
        next(trainer)


def test_samples_are_accounted_as_samples() -> None:
    trainer = made(sampling_rate=0.25)
    train(trainer)
    message = str(trainer.statement())
    assert "with probability 0.25 in each of 4 steps (Poisson)" in message
    assert "kept in memory" in message
    assert trainer.mechanism is not None
    assert trainer.mechanism.normaliser == 10


def test_without_privacy_it_is_the_plain_sum(tmp_path: Path) -> None:
    data, names = clinic()
    model = small_cnn()
    expected = naive(copy.deepcopy(model), data, names, lambda m, b: 1e-6 * loss(m, b)) * 1e6
    trainer = made(data, names, model, epsilon=math.inf, ledger=tmp_path / "mine", steps=1)
    assert torch.allclose(train(trainer)[0].double(), expected, atol=1e-5)
    assert math.isinf(trainer.statement().epsilon)
    assert math.isinf(statement_of([tmp_path / "mine"]).epsilon)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_optimisers_and_schedulers_come_after_the_noise(kind: type) -> None:
    data, names = clinic()
    model = small_cnn()
    optimizer = kind(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    trainer = PatientTrainer(model, optimizer, data, names, **PUBLIC)
    before = copy.deepcopy(model.state_dict())
    for _ in trainer:
        trainer.step(loss)
        scheduler.step()
    assert trainer.statement().epsilon <= 6
    assert not torch.equal(before["0.weight"], model.state_dict()["0.weight"])


# What can't be done by mistake.


@pytest.mark.parametrize(
    ("norm", "named"),
    [
        (nn.BatchNorm2d(4), r"the layer 1 \(BatchNorm2d\).*GroupNorm"),
        (nn.BatchNorm2d(4, track_running_stats=False), r"the layer 1 \(BatchNorm2d\)"),
        (nn.InstanceNorm2d(4, track_running_stats=True), r"the layer 1 \(InstanceNorm2d\)"),
    ],
)
def test_a_layer_that_mixes_images_is_named(norm: nn.Module, named: str) -> None:
    with pytest.raises(InputError, match=named):
        made(model=small_cnn(norm))


def test_a_batch_norm_that_is_frozen_may_stay_until_it_is_thawed() -> None:
    model = small_cnn(nn.BatchNorm2d(4))
    model[1].eval()
    trainer = made(model=model)
    next(trainer)
    trainer.step(loss)
    model.train()
    next(trainer)
    with pytest.raises(InputError, match="BatchNorm2d"):
        trainer.step(loss)


class Observing(nn.Module):
    """A layer that keeps a figure of what it saw, and shows it to nobody while it trains."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.seen = kind, 0.0
        if kind == "tensor":
            self.seen = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "made at once":
            self.map = x.detach()
        else:
            self.seen = self.seen + x.detach().mean()
            self.seen = float(self.seen) if self.kind == "number" else self.seen
        return x


class Calibrating(nn.Module):
    """A layer whose `state_dict` holds the largest value that it saw, as quantisers do."""

    def __init__(self) -> None:
        super().__init__()
        self.most = [0.0]

    def forward(self, x: Tensor) -> Tensor:
        self.most = [max(*self.most, float(x.detach().max()))]
        return x

    def get_extra_state(self) -> list[float]:
        return self.most

    def set_extra_state(self, state: list[float]) -> None:
        self.most = state


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (Observing("tensor"), r"1\.seen: changed while"),
        (Observing("number"), r"1\.seen: changed while"),
        (Observing("made at once"), r"1\.map: changed while"),
        (Calibrating(), r"1\.get_extra_state\(\): changed while"),
    ],
)
def test_a_figure_of_patients_that_leaves_with_the_module_is_found(
    layer: nn.Module, words: str
) -> None:
    trainer = made(model=small_cnn(layer))
    next(trainer)
    with pytest.raises(InputError, match=words):
        trainer.step(loss)


def test_what_the_loop_sets_on_its_module_is_its_own() -> None:
    model = small_cnn()
    trainer = made(model=model)

    def in_training(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss(model.train(), batch)

    for step in trainer:
        model.eval()
        model[1].eps, model[2].heat = 1e-5 * (step + 1), torch.tensor(step)
        trainer.step(in_training)
    assert trainer.statement().epsilon <= 6


class Counting(nn.Module):
    """A layer that keeps a figure of what it saw, in a buffer or out of sight."""

    def __init__(self, *, seen: bool) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.hidden, self.seen = [0.0], seen

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = [self.hidden[0] + float(x.detach().mean())]
        if self.seen:
            self.mean += x.detach().mean()
        return x + self.hidden[0]


@pytest.mark.parametrize(("seen", "words"), [(True, r"1\.mean"), (False, "remembers what it saw")])
def test_a_layer_that_remembers_patients_is_found_before_anything_is_released(
    seen: bool, words: str
) -> None:
    trainer = made(model=small_cnn(Counting(seen=seen)))
    before = trainer._model[0].weight.clone()
    next(trainer)
    with pytest.raises(InputError, match=words):
        trainer.step(loss)
    assert torch.equal(trainer._model[0].weight, before)


class _Leftover(torch.autograd.Function):
    """The gradient of a weight with what memory held before, as some kernels give it."""

    left = 0.0

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs * weight

    @staticmethod
    def backward(ctx: Any, *towards: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        return towards[0] * weight, (towards[0] * inputs).sum() + _Leftover.left


class _WithLeftovers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return _Leftover.apply(x, self.scale)


def test_kernels_that_hold_what_memory_held_are_found_before_anything_is_released(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small_cnn(_WithLeftovers())
    trainer = made(model=model)  # of kernels that keep nothing
    next(trainer)
    trainer.step(loss)
    monkeypatch.setattr(
        "classify.library.kept_by_module.leave_in_memory",
        lambda value, _: setattr(_Leftover, "left", value),
    )
    trainer = made(model=small_cnn(_WithLeftovers()))
    before = trainer._model[0].weight.clone()
    next(trainer)
    with pytest.raises(InputError, match="holds what stood in memory before"):
        trainer.step(loss)
    assert torch.equal(trainer._model[0].weight, before)


class _NarrowInBfloat16(nn.Module):
    """A convolution over maps of one pixel, with a stride of 2, beside what goes through."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            inner: Tensor = self.conv(x.mean(dim=(2, 3), keepdim=True))
        return x + inner.float()


def test_a_kernel_that_is_known_to_read_memory_is_refused_whatever_stands_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("classify.library.kept_by_module.leave_in_memory", lambda *_: None)
    monkeypatch.setattr("classify.library.kept_by_module._SAME", float("inf"))
    trainer = made(model=small_cnn(_NarrowInBfloat16()))
    next(trainer)
    with pytest.raises(InputError, match="holds what stood in memory before"):
        trainer.step(loss)


def test_complex_weights_are_refused() -> None:
    class Phase(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.phase = nn.Parameter(torch.ones((), dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            return (x * self.phase).abs()

    with pytest.raises(InputError, match=r"weight 1\.phase is complex"):
        made(model=small_cnn(Phase()))


def test_a_loss_that_mixes_patients_is_found() -> None:
    bank: list[Tensor] = []

    def against_others(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        scores = model(batch[0])
        bank.append(scores.detach().mean(dim=0))
        return (scores - torch.stack(bank).mean(dim=0)).square().mean()

    trainer = made()
    next(trainer)
    with pytest.raises(InputError, match="remembers what it saw"):
        trainer.step(against_others)


def test_a_loss_sees_one_patient_at_a_time() -> None:
    data, names = clinic()
    marked = TensorDataset(data.tensors[0], data.tensors[1], torch.arange(len(names)))
    seen: list[set[str]] = []

    def noted(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        seen.append({names[number] for number in batch[2].tolist()})
        return loss(model, batch[:2])

    train(made(marked, names, steps=1), noted)
    assert seen
    assert {len(patients) for patients in seen} == {1}


def test_a_loss_that_hangs_on_no_weight_is_refused() -> None:
    trainer = made()
    next(trainer)
    with pytest.raises(InputError, match="depends on the module's trained weights"):
        trainer.step(lambda model, batch: loss(model, batch).detach())


def test_an_optimiser_that_steps_past_the_trainer_raises() -> None:
    trainer = made()
    optimizer = trainer._optimizer
    with pytest.raises(InputError, match="past its trainer"):
        optimizer.step()
    train(trainer)
    loss(trainer._model, next(iter(torch.utils.data.DataLoader(trainer._dataset)))).backward()
    with pytest.raises(InputError, match="past its trainer"):
        optimizer.step()


def test_weights_that_something_else_moves_are_found() -> None:
    trainer = made()
    next(trainer)
    trainer.step(loss)
    other = torch.optim.SGD(trainer._model.parameters(), lr=0.1)
    loss(trainer._model, next(iter(torch.utils.data.DataLoader(trainer._dataset)))).backward()
    other.step()
    next(trainer)
    with pytest.raises(InputError, match=r"0\.weight: something but trainer\.step has moved it"):
        trainer.step(loss)
    with pytest.raises(InputError, match="would not hold"):
        trainer.statement()


def test_a_turn_takes_one_step_no_more_and_no_fewer() -> None:
    trainer = made()
    with pytest.raises(InputError, match="inside `for step in trainer:`"):
        trainer.step(loss)
    next(trainer)
    with pytest.raises(InputError, match="ended without"):
        next(trainer)
    trainer.step(loss)
    with pytest.raises(InputError, match="once"):
        trainer.step(loss)
    train(trainer)
    with pytest.raises(InputError, match="inside"):
        trainer.step(loss)


def test_a_step_that_failed_after_its_noise_was_drawn_is_not_taken_again() -> None:
    trainer = made()
    next(trainer)
    trainer._optimizer.param_groups[0]["lr"] = "fast"
    with pytest.raises(TypeError):
        trainer.step(loss)
    with pytest.raises(InputError, match="once"):
        trainer.step(loss)


def test_a_trainer_that_follows_has_to_know_the_one_before() -> None:
    model = small_cnn()
    first = made(model=model)
    train(first)
    with pytest.raises(InputError, match="starts_from"):
        made(model=model)
    before = first.statement()
    second = made(model=model, epsilon=9, starts_from=before)
    train(second)
    assert len(second.statement().lineage.releases) == 2
    assert second.statement().epsilon == pytest.approx(9, rel=1e-3)
    with pytest.raises(InputError, match="spent 6"):
        made(model=small_cnn(), epsilon=5, starts_from=before)


def reloaded(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    "another",
    [
        copy.deepcopy,
        reloaded,
        nn.Sequential,
        lambda model: model[-1],
        lambda model: nn.Sequential(model[0], nn.Flatten(), nn.Linear(784, 2)),
    ],
    ids=["copy", "pickle", "wrapped", "a part", "a part with a new head"],
)
def test_trained_layers_are_known_in_whatever_module_they_stand(
    another: Callable[[nn.Module], nn.Module],
) -> None:
    model = small_cnn()
    train(made(model=model, steps=1))
    with pytest.raises(InputError, match=r"starts_from: the module, or a layer of it"):
        made(model=another(model))


def test_a_frozen_layer_that_was_there_is_not_known_as_trained() -> None:
    model = small_cnn()
    model[0].requires_grad_(False)
    train(made(model=model, steps=1))
    beside_it = made(model=nn.Sequential(model[0], nn.Flatten(), nn.Linear(784, 2)))
    assert len(beside_it.statement().lineage.releases) == 1


def test_a_statement_from_the_middle_of_a_training_counts_all_of_it() -> None:
    model = small_cnn()
    first = made(model=model, steps=30)
    next(first)
    first.step(loss)
    before = first.statement()
    train(first)
    second = made(model=model, epsilon=9, starts_from=before)
    train(second)
    assert [one.steps for one in second.statement().lineage.releases] == [None, None]
    with pytest.raises(InputError, match="spent 6"):
        made(model=small_cnn(), epsilon=5, starts_from=before)


def test_no_two_trainers_draw_from_one_key() -> None:
    trainer = made()
    next(trainer)
    for twice in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(InputError, match="the same noise"):
            twice(trainer)
    child = os.fork()
    if child == 0:
        refused = 0
        for goes_on in (lambda: next(trainer), lambda: trainer.step(loss)):
            try:
                goes_on()
            except InputError as error:
                refused += "made in another process" in str(error)
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    trainer.step(loss)


def test_a_training_that_an_error_ended_does_not_end_as_if_all_were_done(tmp_path: Path) -> None:
    made(ledger=tmp_path / "mine")
    change_budget(tmp_path / "mine", epsilon="3", delta=1e-3, because="agreed")
    trainer = made(ledger=tmp_path / "mine")
    with pytest.raises(InputError, match="budget"):
        train(trainer)
    assert not list((tmp_path / "mine" / "private").glob("in_python/*"))
    with pytest.raises(InputError, match="an error has ended this training"):
        train(trainer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_patient_is_clipped_alike_whatever_floats_are_the_default(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
        images = 100 * torch.randn(20, 1, 16, 16)
        trainer = made(TensorDataset(images, torch.arange(20) % 2), list(range(20)), model)
        next(trainer)
        norms = [float(trainer._summed(loss, [patient], 0).norm()) for patient in range(20)]
    finally:
        torch.set_default_dtype(torch.float32)
    assert max(norms) <= PUBLIC["clip_norm"]
    assert max(norms) > 0.99 * PUBLIC["clip_norm"]


def test_a_sparse_gradient_is_clipped_as_any_other(quiet: None) -> None:
    released = []
    for sparse in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Embedding(5, 4, sparse=sparse), nn.Flatten(), nn.Linear(8, 2))
        words = TensorDataset(torch.arange(20).reshape(10, 2) % 5, torch.arange(10) % 2)
        released += train(made(words, list(range(10)), model, steps=1))
    assert torch.equal(*released)


def test_a_new_trainer_takes_an_optimiser_over() -> None:
    data, names = clinic()
    model = small_cnn()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first = PatientTrainer(model, optimizer, data, names, **PUBLIC)
    second = PatientTrainer(model, optimizer, data, names, **PUBLIC)
    train(second)
    next(first)
    with pytest.raises(InputError):
        first.step(loss)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"names": ["a"]}, "one patient for each row or item"),
        ({"steps": 0}, "steps"),
        ({"population": None}, "population"),
        ({"delta": 0.1}, "not below 1/population"),
        ({"sampling_rate": 2}, "sampling_rate"),
        ({"clip_norm": 0}, "clip_norm"),
        ({"images_at_once": 0}, "images_at_once"),
        ({"epsilon": -1}, "epsilon is -1"),
        ({"epsilon": -math.inf}, "epsilon is -inf"),
        ({"epsilon": math.nan}, "epsilon is nan"),
        ({"epsilon": "6"}, "epsilon is '6'"),
        ({"epsilon": None}, "epsilon is None"),
    ],
)
def test_wrong_settings_are_told(changes: dict[str, object], words: str) -> None:
    data, names = clinic()
    with pytest.raises(ValueError, match=words):
        made(data, changes.pop("names", names), **changes)


def test_optimiser_and_module_train_the_same() -> None:
    data, names = clinic()
    model = small_cnn()
    some = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(InputError, match=r"1\.weight: is not among the optimiser's"):
        PatientTrainer(model, some, data, names, **PUBLIC)
    more = torch.optim.SGD([*model.parameters(), nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(InputError, match="the module doesn't train"):
        PatientTrainer(model, more, data, names, **PUBLIC)
    with pytest.raises(InputError, match="LBFGS"):
        PatientTrainer(model, torch.optim.LBFGS(model.parameters()), data, names, **PUBLIC)
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(InputError, match="shape is not known"):
        PatientTrainer(lazy, torch.optim.SGD(lazy.parameters()), data, names, **PUBLIC)
    model.requires_grad_(False)
    with pytest.raises(InputError, match="nothing is trained"):
        PatientTrainer(model, some, data, names, **PUBLIC)


def killed(ledger: Path) -> None:
    doomed = made(ledger=ledger, steps=40, block_steps=4)
    for step in doomed:
        doomed.step(loss)
        if step == 9:
            os.kill(os.getpid(), signal.SIGKILL)


def test_after_a_kill_what_was_reserved_stays_spent(tmp_path: Path) -> None:
    # not a fork: autograd refuses one where other tests have started its threads
    child = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path / "mine",))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    (path,) = (tmp_path / "mine" / "private" / "in_python").glob("*/ledger.jsonl")
    assert Ledger(path).spent_steps == 12  # ten were taken, of three blocks of four
    (release,) = statement_of([tmp_path / "mine"]).lineage.releases
    again = made(ledger=tmp_path / "mine", steps=40)
    train(again)
    (record,) = again.statement().on_record
    assert record.other_releases == 1
    assert record.epsilon > again.statement().epsilon
    assert release.id == path.parent.name

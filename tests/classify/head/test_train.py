import hashlib
import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up import claimed_ledger
from torch import Tensor

from classify.config import LinearLoss
from classify.head.examples import (
    HeadExamples,
    PublicExamples,
    image_gradients,
    private_sum,
    residuals,
)
from classify.head.train import HeadRecipe, train_head, train_private_head
from synthdp.errors import InputError
from synthdp.privacy.clipping import clip_rows, unit_means
from synthdp.privacy.ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noise import NoiseSource
from synthdp.privacy.sampling import sampled_units

SOURCE = NoiseSource(bytes(range(32)))
RECIPE = HeadRecipe(steps=30, lr=2.0, average_from=0.5, block_steps=10)
MECHANISM = Mechanism(noise_multiplier=4.0, steps=30, normaliser=50)


def without_noise(normaliser: float) -> Mechanism:
    """Everybody in each step, without noise."""
    return Mechanism(noise_multiplier=0, steps=30, normaliser=normaliser)


def examples(n_patients: int = 40, seed: int = 0) -> HeadExamples:
    """Unit-norm inputs of patients with one to three images, two targets, some unknown."""
    generator = torch.Generator().manual_seed(seed)
    units = torch.arange(n_patients).repeat_interleave(
        torch.randint(1, 4, (n_patients,), generator=generator)
    )
    inputs = torch.randn(len(units), 9, generator=generator)
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    targets = (inputs[:, :2] > 0).float()
    targets[::7, 1] = math.nan
    return HeadExamples(inputs, targets, units)


def without_patient(data: HeadExamples, patient: int) -> HeadExamples:
    kept = data.units != patient
    units = data.units[kept]
    units = units - (units > patient).long()
    return HeadExamples(data.inputs[kept], data.targets[kept], units)


def train(
    folder: Path, data: HeadExamples, mechanism: Mechanism = MECHANISM, **changes: object
) -> Tensor:
    return train_private_head(
        torch.zeros(2, 9),
        data,
        RECIPE,
        mechanism=mechanism,
        ledger=claimed_ledger(folder, mechanism, block_steps=RECIPE.block_steps),
        noise_source=SOURCE,
        checkpoints=folder / "checkpoints",
        **changes,
    )


def test_closed_form_gradients_equal_autograd() -> None:
    data = examples()
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    closed = image_gradients(weights, data.inputs, data.targets)
    for index in range(len(data.inputs)):
        free = weights.clone().requires_grad_()
        known = ~torch.isnan(data.targets[index])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            (free @ data.inputs[index])[known], data.targets[index][known], reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, free)
        assert torch.allclose(closed[index], gradient.flatten(), atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_removing_any_patient_moves_the_sum_by_at_most_the_clip_norm(scale: float) -> None:
    data = examples()
    data = HeadExamples(data.inputs * scale, data.targets, data.units)
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    whole = private_sum(weights, data, 1.0)
    for patient in range(data.n_units):
        neighbour = private_sum(weights, without_patient(data, patient), 1.0)
        assert (whole - neighbour).norm() <= 1.0 + 1e-5


@pytest.mark.parametrize("clip_norm", [0.05, 0.3, 0.7, 5.0])
@pytest.mark.parametrize("loss", ["logistic", "least_squares"])
def test_patients_who_need_no_clipping_are_summed_to_the_same(
    clip_norm: float, loss: LinearLoss
) -> None:
    data = replace(examples(), loss=loss)
    lengths = torch.linspace(0.1, 3, len(data.inputs)).unsqueeze(1)
    data = replace(data, inputs=data.inputs * lengths)
    weights = torch.randn(2, 9, generator=torch.Generator().manual_seed(1))
    means = unit_means(data.gradients(weights), data.units, data.n_units)
    expected = clip_rows(means, clip_norm).sum(dim=0).reshape(2, 9)
    torch.testing.assert_close(
        private_sum(weights, data, clip_norm), expected, atol=1e-5, rtol=1e-5
    )


def test_a_patient_of_500_images_weighs_as_much_as_any_other() -> None:
    data = examples()
    many = HeadExamples(
        torch.cat([data.inputs, data.inputs[:1].repeat(500, 1)]),
        torch.cat([data.targets, data.targets[:1].repeat(500, 1)]),
        torch.cat([data.units, data.units[:1].repeat(500)]),
    )
    weights = torch.zeros(2, 9)
    moved = private_sum(weights, many, 1.0) - private_sum(weights, without_patient(many, 0), 1.0)
    assert moved.norm() <= 1.0 + 1e-5


def test_a_nan_image_costs_its_patient_only() -> None:
    data = examples()
    spoiled = data.inputs.clone()
    spoiled[0] = math.nan
    total = private_sum(torch.zeros(2, 9), HeadExamples(spoiled, data.targets, data.units), 1.0)
    assert torch.allclose(total, private_sum(torch.zeros(2, 9), without_patient(data, 0), 1.0))


def test_replay_on_a_neighbour_draws_the_same_noise_and_writes_the_same_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[tuple[int, ...], float, int]] = []

    gaussian = NoiseSource.gaussian

    def recorded(
        source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int
    ) -> Tensor:
        drawn.append((shape, scale, stream))
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", recorded)
    train(tmp_path / "a", examples())
    first, ledger = list(drawn), (tmp_path / "a" / "ledger.jsonl").read_text().splitlines()[1:]
    drawn.clear()
    train(tmp_path / "b", without_patient(examples(), 3))
    assert drawn == first
    assert len(drawn) == 30
    assert (tmp_path / "b" / "ledger.jsonl").read_text().splitlines()[1:] == ledger


def test_no_patient_at_all_is_a_run_of_noise_alone(tmp_path: Path) -> None:
    nobody = HeadExamples(torch.zeros(0, 9), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    weights = train(tmp_path, nobody)
    assert torch.isfinite(weights).all()
    assert weights.norm() > 0


@pytest.mark.parametrize("at", [0, 13, 19, 29])
def test_a_clean_stop_resumes_bit_exactly(tmp_path: Path, at: int) -> None:
    whole = train(tmp_path / "whole", examples())

    def stop(step: int, weights: Tensor, released: Tensor) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "torn", examples(), observe=stop)
    assert torch.equal(train(tmp_path / "torn", examples()), whole)


def test_samples_of_patients_are_those_of_the_key_alone(tmp_path: Path) -> None:
    data = examples()
    tags = [hashlib.sha256(b"%d" % patient).digest() for patient in range(data.n_units)]
    data = replace(data, tags=tags)
    sampled = MECHANISM.model_copy(update={"sampling_rate": 0.3})
    seen: list[int] = []

    def count(step: int, weights: Tensor, released: Tensor) -> None:
        drawn = sampled_units(sampled, tags, SOURCE, step)
        expected = private_sum(weights, data.of(drawn), 1.0)
        noise = SOURCE.gaussian((2, 9), sampled.noise_scale, stream=step)
        assert torch.allclose(50 * released, expected + noise, atol=1e-5)
        seen.append(len(drawn))

    train(tmp_path, data, sampled, observe=count)
    assert len(seen) == 30
    assert 6 < sum(seen) / 30 < 18


def test_the_images_of_chosen_patients_are_theirs_and_counted_anew() -> None:
    data = examples()
    chosen = data.of(torch.tensor([3, 7]))
    assert chosen.n_units == 2
    for new, old in enumerate((3, 7)):
        assert torch.equal(chosen.inputs[chosen.units == new], data.inputs[data.units == old])
    assert data.of(torch.zeros(0, dtype=torch.int64)).n_units == 0


@pytest.mark.parametrize(
    ("loss", "formula"),
    [
        ("logistic", lambda z, y: torch.nn.functional.softplus(z) - y * z),
        ("least_squares", lambda z, y: (z - (2 * y - 1)).square() / 4),
        ("class_means", lambda z, y: -(2 * y - 1) * z / 2),
    ],
)
def test_residuals_are_the_derivatives_of_their_losses(
    loss: LinearLoss, formula: Callable[[Tensor, Tensor], Tensor]
) -> None:
    logits = torch.linspace(-3, 3, 13).unsqueeze(1).requires_grad_()
    targets = (torch.arange(13) % 2).float().unsqueeze(1)
    (expected,) = torch.autograd.grad(formula(logits, targets).sum(), logits)
    torch.testing.assert_close(residuals(logits.detach(), targets, loss), expected)
    unknown = residuals(logits.detach(), torch.full((13, 1), math.nan), loss)
    assert torch.equal(unknown, torch.zeros(13, 1))
    at_zero = residuals(torch.zeros(13, 1), targets, loss)
    torch.testing.assert_close(at_zero, 0.5 - targets)


def test_class_means_are_the_difference_of_sums_in_one_step() -> None:
    data = replace(examples(), loss="class_means")
    data = replace(data, targets=(data.inputs[:, :1] > 0).float())
    recipe = HeadRecipe(steps=1, lr=2.0, average_from=0.0, block_steps=1)
    found = train_head(torch.zeros(1, 9), data, recipe, sampling=without_noise(1.0))
    signs = 2 * data.targets - 1
    by_patient = [
        (signs * data.inputs)[data.units == patient].mean(dim=0) for patient in range(data.n_units)
    ]
    torch.testing.assert_close(found[0], torch.stack(by_patient).sum(dim=0))


def test_adamw_takes_the_steps_of_torch(tmp_path: Path) -> None:
    data = examples()
    data = replace(data, targets=torch.nan_to_num(data.targets))
    recipe = HeadRecipe(steps=30, lr=0.1, average_from=1.0, block_steps=10, optimizer="adamw")
    found = train_head(torch.zeros(2, 9), data, recipe, sampling=without_noise(40.0))
    weights = torch.nn.Parameter(torch.zeros(2, 9))
    optimizer = torch.optim.AdamW([weights], lr=0.1)
    for _ in range(30):
        weights.grad = private_sum(weights.detach(), data, None) / 40
        optimizer.step()
    torch.testing.assert_close(found, weights.detach(), atol=1e-5, rtol=1e-4)


def test_a_crash_leaves_its_block_spent_and_reuses_no_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[int] = []

    gaussian = NoiseSource.gaussian

    def dying(source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        streams.append(stream)
        if stream == 13:
            raise KeyboardInterrupt
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", dying)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, examples())
    train(tmp_path, examples())
    assert len(streams) == len(set(streams))
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == 30
    assert streams[-10:] == list(range(20, 30))


def test_an_older_checkpoint_refunds_nothing_and_needs_its_ledger(tmp_path: Path) -> None:
    train(tmp_path, examples())
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == 30
    (tmp_path / "ledger.jsonl").unlink()
    (tmp_path / "ledger.head").unlink()
    with pytest.raises(InputError, match="fewer steps than the checkpoint"):
        train(tmp_path, examples())


def test_it_learns_and_less_noise_learns_more(tmp_path: Path) -> None:
    data, fresh = examples(400), examples(400, seed=1)

    def accuracy(weights: Tensor) -> float:
        known = ~torch.isnan(fresh.targets)
        agree = (fresh.inputs @ weights.T > 0).float() == fresh.targets
        return float(agree[known].float().mean())

    plain = train_head(torch.zeros(2, 9), data, RECIPE, sampling=without_noise(400))
    assert accuracy(plain) > 0.9
    by_noise = []
    for noise in (400.0, 4.0):
        mechanism = Mechanism(noise_multiplier=noise, steps=30, normaliser=400)
        weights = train(tmp_path / f"{noise}", data, mechanism)
        by_noise.append(accuracy(weights))
    assert by_noise[0] < by_noise[1]


def test_public_images_add_no_noise_and_pull_the_head() -> None:
    data, public = examples(seed=0), examples(seed=2)
    alone = train_head(torch.zeros(2, 9), data, RECIPE, sampling=without_noise(40))
    both = train_head(
        torch.zeros(2, 9),
        data,
        RECIPE,
        sampling=without_noise(40),
        public=PublicExamples(public, 0.9),
    )
    target = train_head(torch.zeros(2, 9), public, RECIPE, sampling=without_noise(40))
    assert (both - target).norm() < (alone - target).norm()


def test_public_images_are_drawn_at_the_sampling_rate() -> None:
    known, weights = examples(seed=2), torch.zeros(2, 9)
    every = PublicExamples(known, 0.5).mean(weights, 0)
    drawn = PublicExamples(known, 0.5, sampling_rate=0.25, seed=1)
    steps = torch.stack([drawn.mean(weights, step) for step in range(400)])
    assert torch.equal(steps[3], drawn.mean(weights, 3))
    assert not torch.equal(steps[3], steps[4])
    nobody = PublicExamples(known, 0.5, sampling_rate=1e-9).mean(weights, 0)
    assert torch.equal(nobody, torch.zeros_like(weights))
    error = steps.std(dim=0) / 20
    assert bool(((steps.mean(dim=0) - every).abs() < 5 * error + 1e-6).all())
    assert bool((error > 0).all())

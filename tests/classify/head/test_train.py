import hashlib
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made_up import claimed_ledger, head_examples
from torch import Tensor

from classify.head.examples import (
    HeadExamples,
    PublicExamples,
    private_sum,
)
from classify.head.train import (
    HeadRecipe,
    PrivateHead,
    head_recipe,
    train_head,
    train_private_head,
    train_private_heads,
)
from classify.settings.head import HeadSettings
from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.steps import Observer
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import lattice_step
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units

Heads = dict[str, PrivateHead]
SOURCE = NoiseSource(bytes(range(32)))
RECIPE = HeadRecipe(steps=30, lr=2.0, average_from=0.5, block_steps=10)
MECHANISM = Mechanism(noise_multiplier=4.0, steps=30, normaliser=50)


def without_noise(normaliser: float) -> Mechanism:
    """Everybody in each step, without noise."""
    return Mechanism(noise_multiplier=0, steps=30, normaliser=normaliser)


def train(
    folder: Path, data: HeadExamples, mechanism: Mechanism = MECHANISM, **changes: object
) -> Tensor:
    return train_private_head(
        torch.zeros(2, 9),
        data,
        RECIPE,
        ledger=claimed_ledger(folder, mechanism, block_steps=RECIPE.block_steps),
        noise_source=SOURCE,
        checkpoints=folder / "checkpoints",
        **changes,
    )


def test_no_patient_at_all_is_a_run_of_noise_alone(tmp_path: Path) -> None:
    nobody = HeadExamples(torch.zeros(0, 9), torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    weights = train(tmp_path, nobody)
    assert torch.isfinite(weights).all()
    assert weights.norm() > 0


@pytest.mark.parametrize("at", [0, 13, 19, 29])
def test_a_clean_stop_resumes_bit_exactly(tmp_path: Path, at: int) -> None:
    whole = train(tmp_path / "whole", head_examples())

    def stop(step: int, weights: Tensor, released: Tensor) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "torn", head_examples(), observe=stop)
    assert torch.equal(train(tmp_path / "torn", head_examples()), whole)


def test_samples_of_patients_are_those_of_the_key_alone(tmp_path: Path) -> None:
    data = head_examples()
    tags = [hashlib.sha256(b"%d" % patient).digest() for patient in range(data.n_units)]
    data = replace(data, tags=tags)
    sampled = MECHANISM.model_copy(update={"sampling_rate": 0.3})
    seen: list[int] = []

    def count(step: int, weights: Tensor, released: Tensor) -> None:
        drawn = sampled_units(sampled, tags, SOURCE, step)
        expected = private_sum(weights, data.of(drawn), 1.0)
        unit = lattice_step(sampled.clip_norm)
        noise = SOURCE.gaussian((2, 9), sampled.noise_scale / unit, stream=step).round() * unit
        assert torch.equal(released, ((expected + noise) / 50).float())
        seen.append(len(drawn))

    train(tmp_path, data, sampled, observe=count)
    assert len(seen) == 30
    assert 6 < sum(seen) / 30 < 18


def test_class_means_are_the_difference_of_sums_in_one_step() -> None:
    data = replace(head_examples(), loss="class_means")
    data = replace(data, targets=(data.inputs[:, :1] > 0).float())
    recipe = HeadRecipe(steps=1, lr=2.0, average_from=0.0, block_steps=1)
    found = train_head(torch.zeros(1, 9), data, recipe, sampling=without_noise(1.0))
    signs = 2 * data.targets - 1
    by_patient = [
        (signs * data.inputs)[data.units == patient].mean(dim=0) for patient in range(data.n_units)
    ]
    torch.testing.assert_close(found[0], torch.stack(by_patient).sum(dim=0))


def test_adamw_takes_the_steps_of_torch(tmp_path: Path) -> None:
    data = head_examples()
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
        train(tmp_path, head_examples())
    train(tmp_path, head_examples())
    assert len(streams) == len(set(streams))
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == 30
    assert streams[-10:] == list(range(20, 30))


def test_an_older_checkpoint_refunds_nothing_and_needs_its_ledger(tmp_path: Path) -> None:
    train(tmp_path, head_examples())
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == 30
    (tmp_path / "ledger.jsonl").unlink()
    (tmp_path / "ledger.head").unlink()
    with pytest.raises(InputError, match="fewer steps than the checkpoint"):
        train(tmp_path, head_examples())


def test_it_learns_and_less_noise_learns_more(tmp_path: Path) -> None:
    data, fresh = head_examples(400), head_examples(400, seed=1)

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
    data, public = head_examples(seed=0), head_examples(seed=2)
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


# Several heads on the same patients, trained together: each is what it would be alone.

EPSILONS = {"strong": 8.0, "middle": 4.0, "weak": 2.0}


def heads_in(folder: Path, observe: Observer = lambda step, weights, released: None) -> Heads:
    """Heads of different noise and rates, by name; each with a key of its own."""
    heads = {}
    for number, (name, noise) in enumerate(EPSILONS.items()):
        mechanism = Mechanism(noise_multiplier=noise, steps=30, normaliser=50)
        heads[name] = PrivateHead(
            torch.zeros(2, 9),
            replace(RECIPE, lr=2.0 + number, block_steps=10),
            claimed_ledger(folder / name, mechanism, block_steps=10),
            NoiseSource(bytes([number]) * 32),
            folder / name / "checkpoints",
            observe=observe,
        )
    return heads


def train_together(heads: Heads, **changes: object) -> dict[str, Tensor]:
    trained = train_private_heads([*heads.values()], head_examples(), **changes)
    assert all(isinstance(weights, Tensor) for weights in trained)
    return dict(zip(heads, trained, strict=True))  # type: ignore[arg-type]


def train_alone(heads: Heads, **changes: object) -> dict[str, Tensor]:
    found = {}
    for name, head in heads.items():
        (found[name],) = train_private_heads([head], head_examples(), **changes)
    return found  # type: ignore[return-value]


def test_heads_trained_together_are_those_trained_alone_to_the_bit(tmp_path: Path) -> None:
    released: dict[str, list[Tensor]] = {"together": [], "alone": []}

    def keep(kind: str) -> Observer:
        return lambda step, weights, noisy: released[kind].extend([weights, noisy])

    together = train_together(heads_in(tmp_path / "together", keep("together")))
    alone = train_alone(heads_in(tmp_path / "alone", keep("alone")))
    assert all(torch.equal(together[name], alone[name]) for name in EPSILONS)
    assert len(released["alone"]) == 2 * 30 * len(EPSILONS)
    both = [sorted(values, key=lambda one: one.flatten().tolist()) for values in released.values()]
    assert all(torch.equal(a, b) for a, b in zip(*both, strict=True))
    for name in EPSILONS:
        ledgers = [tmp_path / kind / name / "ledger.jsonl" for kind in released]
        assert Ledger(ledgers[0]).spent_steps == 30
        assert ledgers[0].read_text() == ledgers[1].read_text()


def test_beside_public_images_heads_differ_by_rounding_alone(tmp_path: Path) -> None:
    public = PublicExamples(head_examples(seed=2), 0.5)
    together = train_together(heads_in(tmp_path / "together"), public=public)
    alone = train_alone(heads_in(tmp_path / "alone"), public=public)
    for name in EPSILONS:
        torch.testing.assert_close(together[name], alone[name], rtol=1e-5, atol=1e-5)


def test_a_stop_of_several_heads_resumes_each_bit_exactly(tmp_path: Path) -> None:
    whole, stops = train_together(heads_in(tmp_path / "whole")), list[int]()

    def stop(step: int, weights: Tensor, released: Tensor) -> None:
        if step == 13 and not stops:  # a second request would stop at once
            stops.append(step)
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        train_together(heads_in(tmp_path / "torn", stop))
    torn = heads_in(tmp_path / "torn")
    assert {head.ledger.spent_steps for head in torn.values()} == {20}
    one = train_alone({"weak": torn.pop("weak")})  # which may go on by itself
    found = {**train_together(torn), **one}
    assert all(torch.equal(found[name], whole[name]) for name in EPSILONS)


def test_a_crash_in_the_middle_leaves_the_block_of_each_head_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[bytes, int]] = []
    gaussian = NoiseSource.gaussian

    def dying(source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        drawn.append((source.key, stream))
        if len(drawn) == 3 * 13 + 2:  # of step 13 one head has drawn, the next is about to
            raise MemoryError
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", dying)
    with pytest.raises(MemoryError):
        train_together(heads_in(tmp_path))
    again = heads_in(tmp_path)
    assert {head.ledger.spent_steps for head in again.values()} == {20}
    train_together(again)
    assert len(drawn) == len(set(drawn)), "noise was used twice"
    assert {head.ledger.spent_steps for head in again.values()} == {30}
    assert [stream for _, stream in drawn[-30:]] == [step for step in range(20, 30) for _ in "abc"]


def test_what_ends_one_head_ends_no_other(tmp_path: Path) -> None:
    heads = heads_in(tmp_path / "heads")
    journal = tmp_path / "heads" / "middle" / "ledger.jsonl"

    def meddle(step: int, weights: Tensor, released: Tensor) -> None:
        if step == 4:  # another process has written to one ledger, so that it can't reserve more
            with open(journal, "a") as stream:
                stream.write("{}\n")

    heads["strong"] = replace(heads["strong"], observe=meddle)
    strong, middle, weak = train_private_heads([*heads.values()], head_examples())
    assert isinstance(middle, InputError)
    alone = train_alone(heads_in(tmp_path / "alone"))
    assert torch.equal(strong, alone["strong"])  # type: ignore[arg-type]
    assert torch.equal(weak, alone["weak"])  # type: ignore[arg-type]


def test_samples_of_patients_are_each_heads_own(tmp_path: Path) -> None:
    data = head_examples()
    tags = [hashlib.sha256(b"%d" % patient).digest() for patient in range(data.n_units)]
    data, found = replace(data, tags=tags), list[Tensor]()
    for kind in ("together", "alone"):
        heads = []
        for number in range(2):
            mechanism = MECHANISM.model_copy(update={"sampling_rate": 0.3})
            folder = tmp_path / kind / str(number)
            ledger = claimed_ledger(folder, mechanism, block_steps=10)
            source = NoiseSource(bytes([number]) * 32)
            heads.append(PrivateHead(torch.zeros(2, 9), RECIPE, ledger, source, folder / "c"))
        groups = [heads] if kind == "together" else [[head] for head in heads]
        found += [one for group in groups for one in train_private_heads(group, data)]  # type: ignore[misc]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


def test_the_rate_is_read_at_the_epsilon_that_is_as_noisy_with_so_many_patients() -> None:
    rates = {1: 100.0, 6: 600.0, math.inf: 3200.0}
    head = HeadSettings(steps=10, lr_times_steps=rates)
    of_600 = head.model_copy(update={"lr_population": 600})
    rate = {
        (one.lr_population, epsilon, n): head_recipe(one, epsilon, n).lr
        for one in (head, of_600)
        for epsilon, n in ((6, 600), (6, 100), (1, 600), (1, 3600), (math.inf, None))
    }
    assert rate[600, 6, 600] == rate[None, 6, 600] == rate[None, 6, 100]
    assert rate[600, 6, 100] == pytest.approx(rate[None, 1, 600])
    assert rate[600, 1, 3600] == pytest.approx(rate[None, 6, 600])
    assert rate[600, math.inf, None] == rate[None, math.inf, None] == 320

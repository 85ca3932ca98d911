"""The audit of a network's training: sound it passes, and each planted fault is named."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from classify.auditing.network.canaries import broken_promise, one_run
from classify.auditing.network.declared import declared_sum, patient_gradient
from classify.auditing.network.planted import planted_among
from classify.auditing.network.replay import replay
from classify.auditing.network.subject import NetworkSubject
from classify.network import train as network_train
from classify.network.gradients import PatientGradients, all_views
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum import clipped_total
from synthdp.privacy.noisy_sum.noise import NoiseSource
from tests.classify.network.test_train import RECIPE, examples, new_top

RISK = 1e-5


def subject(sampling_rate: float = 1.0, steps: int = 4) -> NetworkSubject:
    """Ten patients with up to three images, at epsilon 6."""
    mechanism = Mechanism.reaching(
        epsilon=6,
        delta=1e-3,
        steps=steps,
        normaliser=10 * sampling_rate,
        sampling_rate=sampling_rate,
        clip_norm=0.5,
    )
    changes = {"steps": steps, "sampling_rate": sampling_rate, "block_steps": 2}
    return NetworkSubject(
        top=new_top(),
        examples=examples(views=2),
        recipe=RECIPE.model_copy(update=changes),
        mechanism=mechanism,
        delta=1e-3,
        noise="philox",
    )


def test_the_sum_of_its_own_is_that_of_the_code() -> None:
    audited = subject()
    top, everybody = audited.top, torch.arange(10)
    planted = planted_among(
        audited.examples, [], torch.zeros((0, 5, 64)), torch.zeros(0).long(),
        (torch.zeros(0).long(), torch.zeros(0)),
    )  # fmt: skip
    views = all_views(audited.examples, everybody)
    declared, norms = declared_sum(top, planted, range(10), views, 0.5)
    longest = max(norms, key=lambda patient: norms[patient])
    own = all_views(audited.examples, torch.tensor([longest]))
    apart = patient_gradient(top, audited.examples, own)
    assert float(apart.norm()) == pytest.approx(norms[longest])
    total = PatientGradients(top).clipped_sum(audited.examples, views, clip_norm=0.5, batch=4)
    assert torch.allclose(total.detach().double(), declared, atol=1e-5)


@pytest.mark.parametrize("sampling_rate", [1.0, 0.5])
def test_a_sound_training_passes(sampling_rate: float) -> None:
    audited = subject(sampling_rate)
    replayed = replay(audited, np.random.default_rng(0), steps=2, patients=1, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=1e-3)
    assert replayed.draws == 2 * len(audited.top.flat())
    scores = one_run(audited, np.random.default_rng(0), 150)
    assert broken_promise(audited, scores, RISK) == []
    expected = sampling_rate * audited.mechanism.mu
    assert scores.inside.mean() == pytest.approx(expected, abs=0.45)
    assert scores.outside.mean() == pytest.approx(0, abs=0.45)


Plant = Callable[[pytest.MonkeyPatch], None]
true_gaussian = NoiseSource.gaussian


def scaled_noise(share: float) -> Plant:
    def gaussian(self: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        return share * true_gaussian(self, shape, scale, stream=stream)

    return lambda patch: patch.setattr(NoiseSource, "gaussian", gaussian)


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    def ones(norms: Tensor, clip_norm: float) -> Tensor:
        return torch.where(torch.isfinite(norms), 1.0, 0.0).to(norms)

    patch.setattr(clipped_total, "clip_factors", ones)


def crash_refunds_its_block(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "resumed", lambda self, state_at: range(state_at, self.spent_steps))


def true_count(patch: pytest.MonkeyPatch) -> None:
    noisy = network_train.noisy_mean
    summed = PatientGradients.clipped_sum
    counted = [1.0]

    def counting(self: PatientGradients, *arguments: object, **named: object) -> Tensor:
        counted[0] = float(len(arguments[0].tags))
        return summed(self, *arguments, **named)

    def over_count(total: Tensor, mechanism: Mechanism, source: NoiseSource, step: int) -> Tensor:
        over = mechanism.model_copy(update={"normaliser": counted[0]})
        return noisy(total, over, source, step)

    patch.setattr(PatientGradients, "clipped_sum", counting)
    patch.setattr(network_train, "noisy_mean", over_count)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (scaled_noise(0.0), "the noise is of another scale"),
        (scaled_noise(2 / 3), "the noise is of another scale"),
        (no_clipping, "by more than the clip norm"),
        (true_count, "declared normaliser"),
        (crash_refunds_its_block, "a stream of noise is drawn twice"),
    ],
)
def test_a_planted_fault_is_named(
    plant: Plant, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    replayed = replay(subject(), np.random.default_rng(0), steps=2, patients=0, risk=RISK)
    assert any(words in said for said in replayed.broken), replayed.broken


@pytest.mark.parametrize("plant", [scaled_noise(0.0), scaled_noise(1 / 3), no_clipping])
def test_canaries_alone_show_a_broken_promise(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited = subject()
    plant(monkeypatch)
    assert broken_promise(audited, one_run(audited, np.random.default_rng(0), 150), RISK)

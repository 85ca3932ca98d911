"""Networks trained whole under attack: last bits, canaries, neighbours, and clipping taken away."""

import numpy as np
import pytest
import torch
from torch import Tensor

from classify.auditing.network.canaries import broken_promise, one_run
from classify.auditing.network.replay import replay
from classify.auditing.network.subject import NetworkSubject
from classify.network.gradients import PatientGradients, TokenExamples, all_views
from classify.settings.network import NetworkSettings
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum import clipped_total
from synthdp.privacy.noisy_sum.lattice import lattice_step, noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from tests.classify.network.test_whole import (
    image_examples,
    resnet9,
    swin,
    trained,
    without_patient,
)

RISK, CLIP = 1e-5, 1.0


def clipped_sum(data: TokenExamples) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        gradients = PatientGradients(trained(swin()))
    views = all_views(data, torch.arange(len(data.tags)))
    return gradients.clipped_sum(data, views, clip_norm=CLIP, batch=4)


def test_last_bits_of_what_is_released_speak_of_no_patient() -> None:
    data = image_examples()
    mechanism = Mechanism(noise_multiplier=1.0, steps=1, normaliser=64.0, clip_norm=CLIP)
    sums = [clipped_sum(data), clipped_sum(without_patient(data, 3))]
    assert not torch.equal(*sums)
    step = lattice_step(CLIP)
    for total in sums:
        released = noisy_mean(total, mechanism, NoiseSource(bytes(32)), 0).double()
        # float32 holds what leaves to 2^-24, and the normaliser is a power of two
        steps = (released * mechanism.normaliser / step).abs()
        exact = steps < 2**24
        assert exact.float().mean() > 0.9
        assert torch.equal(steps[exact], steps[exact].round())
        assert torch.equal(total / step, (total / step).round())
        # an attacker who takes either sum off is left with whole steps in each coordinate
        for candidate in sums:
            left = released[exact] * mechanism.normaliser / step - candidate[exact] / step
            assert torch.equal(left, left.round())


@pytest.fixture(params=[swin, resnet9])
def subject(request: pytest.FixtureRequest) -> NetworkSubject:
    """A tiny network, trained whole on five patients at epsilon 6."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = trained(request.param())
    return NetworkSubject(
        top=network,
        examples=image_examples(),
        recipe=NetworkSettings(steps=4, sampling_rate=1.0, lr=0.1, batch=4, block_steps=2),
        mechanism=Mechanism.reaching(epsilon=6, delta=1e-3, steps=4, normaliser=5, clip_norm=0.5),
        delta=1e-3,
        noise="philox",
    )


@pytest.mark.slow
def test_a_sound_training_of_a_whole_network_passes_its_audit(subject: NetworkSubject) -> None:
    replayed = replay(subject, np.random.default_rng(0), steps=2, patients=1, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=0.02)
    scores = one_run(subject, np.random.default_rng(0), 80)
    assert broken_promise(subject, scores, RISK) == []
    assert scores.inside.mean() == pytest.approx(subject.mechanism.mu, abs=0.45)
    assert scores.outside.mean() == pytest.approx(0, abs=0.45)


@pytest.mark.slow
def test_without_clipping_canaries_and_replay_tell(
    subject: NetworkSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ones(norms: Tensor, clip_norm: float) -> Tensor:
        return torch.where(torch.isfinite(norms), 1.0, 0.0).to(norms)

    monkeypatch.setattr(clipped_total, "clip_factors", ones)
    replayed = replay(subject, np.random.default_rng(0), steps=1, patients=0, risk=RISK)
    assert any("by more than the clip norm" in words for words in replayed.broken)
    assert broken_promise(subject, one_run(subject, np.random.default_rng(0), 40), RISK)

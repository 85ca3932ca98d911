"""Six faults, each planted into the real code: the audit must find each in 19 of 20 trials.

The sound code must pass in 19 of 20. A trial has patients, noise keys and moments of a crash of its
own. The audit here is the replay and the canaries of one run: hundreds of runs would take minutes.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from classify.auditing.head.canaries import one_run, one_run_bounds
from classify.auditing.head.replay import replay
from classify.auditing.head.subject import HeadSubject
from classify.head import examples as head_examples
from classify.head import train as dp_head
from classify.head.examples import HeadExamples, private_sum
from classify.head.train import HeadRecipe
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import noisy_mean
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.runs.audit_record import broken_bounds

pytestmark = pytest.mark.slow
TRIALS, ENOUGH = 20, 19
RISK = 1e-5
STEPS, FEATURES = 12, 24
Plant = Callable[[pytest.MonkeyPatch], None]
true_gaussian = NoiseSource.gaussian


def subject(generator: np.random.Generator) -> HeadSubject:
    """A dozen patients with one to three images each, at epsilon 6."""
    units = torch.arange(12).repeat_interleave(torch.from_numpy(generator.integers(1, 4, 12)))
    inputs = torch.from_numpy(generator.normal(size=(len(units), FEATURES))).float()
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    mechanism = Mechanism.reaching(epsilon=6, delta=1e-3, steps=STEPS, normaliser=20)
    return HeadSubject(
        examples=HeadExamples(inputs, (inputs[:, :1] > 0).float(), units),
        recipe=HeadRecipe(steps=STEPS, lr=2.0, average_from=0.5, block_steps=6),
        mechanism=mechanism,
        start=torch.zeros(1, FEATURES),
        delta=1e-3,
        noise="philox",
    )


def scaled_noise(share: float) -> Plant:
    def gaussian(self: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        return share * true_gaussian(self, shape, scale, stream=stream)

    return lambda patch: patch.setattr(NoiseSource, "gaussian", gaussian)


def no_clipping(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(head_examples, "clip_rows", lambda rows, clip_norm: torch.nan_to_num(rows))


def clipping_by_image(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(head_examples, "unit_means", lambda gradients, units, n_units: gradients)


def true_count(patch: pytest.MonkeyPatch) -> None:
    counted = [0]

    def counting(weights: Tensor, examples: HeadExamples, clip_norm: float | None) -> Tensor:
        counted[0] = examples.n_units
        return private_sum(weights, examples, clip_norm)

    def over_count(total: Tensor, mechanism: Mechanism, source: NoiseSource, step: int) -> Tensor:
        over = mechanism.model_copy(update={"normaliser": float(counted[0])})
        return noisy_mean(total, over, source, step)

    patch.setattr(dp_head, "private_sum", counting)
    patch.setattr(dp_head, "noisy_mean", over_count)


def crash_refunds_its_block(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ledger, "resumed", lambda self, state_at: range(state_at, self.spent_steps))


FAULTS: dict[str, tuple[Plant, str]] = {
    "no noise": (scaled_noise(0.0), "the noise is of another scale"),
    "noise at two thirds": (scaled_noise(2 / 3), "the noise is of another scale"),
    "no clipping": (no_clipping, "by more than the clip norm"),
    "clipping by image": (clipping_by_image, "by more than the clip norm"),
    "normaliser from the true count": (true_count, "declared normaliser"),
    "noise used again after a crash": (crash_refunds_its_block, "a stream of noise is drawn twice"),
}


def findings(seed: int) -> tuple[tuple[str, ...], list[str]]:
    """What the replay and the canaries find in one trial."""
    generator = np.random.default_rng(seed)
    attacked = subject(generator)
    replayed = replay(attacked, generator, patients=0, risk=RISK)
    scores = one_run(attacked, generator, 200)
    return replayed.broken, broken_bounds(
        one_run_bounds(scores, attacked, 1 - RISK), attacked.epsilon
    )


def test_the_sound_version_passes() -> None:
    passed = sum(findings(seed) == ((), []) for seed in range(TRIALS))
    assert passed >= ENOUGH


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, words = FAULTS[fault]
    plant(monkeypatch)
    caught: Counter[str] = Counter()
    for seed in range(TRIALS):
        by_replay, by_canaries = findings(seed)
        caught["audit"] += bool(by_replay or by_canaries)
        caught["replay"] += bool(by_replay)
        caught["canaries"] += bool(by_canaries)
        caught["named"] += any(words in found for found in by_replay)
    print(f"{fault}: {dict(caught)} of {TRIALS}")
    assert caught["audit"] >= ENOUGH
    assert caught["named"] >= ENOUGH

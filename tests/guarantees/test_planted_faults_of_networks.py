"""Faults of several findings, of whole networks and of several processes, planted into real code.

The audit must name each of them; what it cannot see is found by a trial before the training.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from classify.auditing.head.replay import replay as replay_head
from classify.auditing.head.subject import HeadSubject
from classify.auditing.network.replay import replay as replay_network
from classify.auditing.network.subject import NetworkSubject
from classify.features import extract
from classify.head.examples import HeadExamples
from classify.head.train import HeadRecipe
from classify.network import gradients
from classify.network.gradients import Views
from classify.network.images import ImageExamples
from classify.network.team import Team
from classify.network.top import trained_network
from synthdp.errors import InputError
from synthdp.networks.volume_network import VolumeNetwork
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.clipped_total import ClippedTotal
from tests.classify.features import test_volumes
from tests.classify.network import test_train_whole
from tests.classify.network.test_images import Kept, image_examples

RISK, STEPS = 1e-6, 4
Plant = Callable[[pytest.MonkeyPatch], None]
TOO_FAR, NOT_THE_SUM = "by more than the clip norm", "is not the clipped sum plus the noise drawn"
OTHERS = "one patient moves what others add to a step's sum"


# Several findings: all targets of a patient are one bounded vector.


def head_subject(features: int) -> HeadSubject:
    """A dozen patients with two images each and three findings, at epsilon 6."""
    generator = torch.Generator().manual_seed(0)
    units = torch.arange(12).repeat_interleave(2)
    inputs = torch.randn(len(units), features, generator=generator)
    inputs = torch.nn.functional.normalize(inputs, dim=1)
    targets = (inputs[:, :3] > 0).float()
    targets[::5, 1] = torch.nan
    return HeadSubject(
        examples=HeadExamples(inputs, targets, units),
        recipe=HeadRecipe(steps=STEPS, lr=2.0, average_from=0.5, block_steps=2),
        mechanism=Mechanism.reaching(epsilon=6, delta=1e-3, steps=STEPS, normaliser=20),
        start=torch.zeros(3, features),
        delta=1e-3,
        noise="philox",
    )


def of_one(examples: HeadExamples, target: int) -> HeadExamples:
    """The same images of one finding alone."""
    return HeadExamples(examples.inputs, examples.targets[:, [target]], examples.units)


def each_target_bounded(patch: pytest.MonkeyPatch) -> None:
    honest = HeadExamples.patient_sum

    def summed(self: HeadExamples, weights: Tensor, clip_norm: float | None) -> Tensor:
        rows = enumerate(weights.split(1))
        return torch.cat([honest(of_one(self, n), row, clip_norm) for n, row in rows])

    patch.setattr(HeadExamples, "patient_sum", summed)


def last_target_unbounded(patch: pytest.MonkeyPatch) -> None:
    honest = HeadExamples.patient_sum

    def summed(self: HeadExamples, weights: Tensor, clip_norm: float | None) -> Tensor:
        total = honest(self, weights, clip_norm)
        last = len(weights) - 1
        total[last] = of_one(self, last).plain_sum(weights[[last]])[0].nan_to_num()
        return total

    patch.setattr(HeadExamples, "patient_sum", summed)


@pytest.mark.parametrize("features", [24, 400])  # gradients that are made, and those that are not
def test_a_sound_head_of_several_findings_passes(features: int) -> None:
    replayed = replay_head(head_subject(features), np.random.default_rng(0), patients=2, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("features", [24, 400])
@pytest.mark.parametrize("plant", [each_target_bounded, last_target_unbounded])
def test_a_target_outside_the_bounded_vector_is_named(
    plant: Plant, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    replayed = replay_head(head_subject(features), np.random.default_rng(0), patients=0, risk=RISK)
    for words in (TOO_FAR, NOT_THE_SUM):
        assert any(words in found for found in replayed.broken), replayed.broken


# Whole networks, their augmentation, and the processes that share their gradients.


def network_subject(clip_norm: float = 0.05) -> NetworkSubject:
    """Four patients with one to four images, augmented in each step, at epsilon 6."""
    mechanism = Mechanism.reaching(
        epsilon=6, delta=1e-3, steps=STEPS, normaliser=4, clip_norm=clip_norm
    )
    changes = {"steps": STEPS, "sampling_rate": 1.0, "block_steps": 2}
    return NetworkSubject(
        top=test_train_whole.new_network(),
        examples=image_examples(4, n_views=1),
        recipe=test_train_whole.RECIPE.model_copy(update=changes),
        mechanism=mechanism,
        delta=1e-3,
        noise="philox",
    )


def forgets_its_part(patch: pytest.MonkeyPatch) -> None:
    """Of two processes the second computes nothing, and nobody misses it."""
    honest = Team.own_part

    def own_part(self: Team, views: Views) -> Views:
        kept = views.patients < (int(views.patients.max()) + 1) // 2
        part = Views(views.images[kept], views.views[kept], views.patients[kept])
        return honest(self, part)

    patch.setattr(Team, "own_part", own_part)


def adds_its_part_twice(patch: pytest.MonkeyPatch) -> None:
    def add_up(self: Team, sums: Sequence[Tensor]) -> None:
        for values in sums:
            values.mul_(2)

    patch.setattr(Team, "add_up", add_up)


def adds_what_was_there(patch: pytest.MonkeyPatch) -> None:
    """A process sends the sum of the step before."""
    before: list[list[Tensor]] = []

    def add_up(self: Team, sums: Sequence[Tensor]) -> None:
        own = [values.clone() for values in sums]
        for values, old in zip(sums, before[-1] if before else own, strict=True):
            values.copy_(old)
        before.append(own)

    patch.setattr(Team, "add_up", add_up)


def clips_by_image(patch: pytest.MonkeyPatch) -> None:
    """Each image is bounded by itself: a patient of several moves a sum by several clip norms."""

    def one_by_one(patients: Tensor) -> Iterator[slice]:
        return (slice(*ends) for ends in pairwise(range(len(patients) + 1)))

    patch.setattr(gradients, "_patients", one_by_one)


def clips_by_layer(patch: pytest.MonkeyPatch) -> None:
    """The head's part of a vector and the rest are bounded each by itself."""
    honest = ClippedTotal.add

    def add(self: ClippedTotal, vector: Sequence[Tensor]) -> None:
        *body, head = vector
        honest(self, [*body, torch.zeros_like(head)])
        honest(self, [*map(torch.zeros_like, body), head])

    patch.setattr(ClippedTotal, "add", add)


def augments_by_the_first_tag(patch: pytest.MonkeyPatch) -> None:
    """All are augmented by the tag of whoever stands first."""

    def name(self: ImageExamples, image: int, view: int) -> bytes:
        return f"view {self.seed} {view} {self._own_positions[image]} ".encode() + self.tags[0]

    patch.setattr(ImageExamples, "_name", name)


def augments_by_place(patch: pytest.MonkeyPatch) -> None:
    """An image is augmented by its row, which depends on who stands before it."""
    patch.setattr(ImageExamples, "_name", lambda self, image, view: f"view {view} {image}".encode())


@pytest.mark.slow
@pytest.mark.parametrize("clip_norm", [0.05, 5.0])
def test_a_sound_training_on_augmented_images_passes(clip_norm: float) -> None:
    subject = network_subject(clip_norm)
    replayed = replay_network(subject, np.random.default_rng(0), steps=1, patients=4, risk=RISK)
    assert replayed.broken == ()
    assert replayed.largest_move == pytest.approx(1, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (forgets_its_part, NOT_THE_SUM),
        (adds_its_part_twice, TOO_FAR),
        (adds_what_was_there, NOT_THE_SUM),
        (clips_by_image, TOO_FAR),
        (clips_by_layer, NOT_THE_SUM),
        (augments_by_the_first_tag, OTHERS),
        (augments_by_place, OTHERS),
    ],
)
def test_a_planted_fault_is_named(
    plant: Plant, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    subject = network_subject()
    steps = 2 if plant is adds_what_was_there else 1
    replayed = replay_network(subject, np.random.default_rng(0), steps=steps, patients=0, risk=RISK)
    assert any(words in found for found in replayed.broken), replayed.broken


# Volumes: the mean over a volume's slices is of that volume alone, and its patient's one vector.


def volume_subject() -> NetworkSubject:
    """Three patients with four volumes, whose slices a small network sees."""
    generator = torch.Generator().manual_seed(0)
    stacks = (torch.rand(4, 6, 16, 16, generator=generator) * 2 - 1).numpy()
    backbone = test_volumes.whole_network()
    head = torch.randn(1, backbone.n_features + 1, generator=generator)
    mechanism = Mechanism.reaching(epsilon=6, delta=1e-3, steps=STEPS, normaliser=3, clip_norm=0.05)
    changes = {"steps": STEPS, "sampling_rate": 1.0, "block_steps": 2, "augment": None}
    return NetworkSubject(
        top=trained_network(backbone, head, scaling=None, precision=torch.float32),
        examples=ImageExamples(
            Kept(stacks),
            torch.tensor([[1.0], [0], [1], [0]]),
            torch.tensor([0, 0, 1, 2]),
            [b"a", b"b", b"c"],
        ),
        recipe=test_train_whole.RECIPE.model_copy(update=changes),
        mechanism=mechanism,
        delta=1e-3,
        noise="philox",
    )


def bounds_each_slice(patch: pytest.MonkeyPatch) -> None:
    """A patient is bounded once for each slice, and so added as often."""
    honest = ClippedTotal.add

    def add(self: ClippedTotal, vector: Sequence[Tensor]) -> None:
        for _ in range(int(str(test_volumes.WHOLE["slices"]))):
            honest(self, vector)

    patch.setattr(ClippedTotal, "add", add)


@pytest.mark.slow
def test_slices_that_are_bounded_each_by_itself_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def replayed() -> tuple[str, ...]:
        subject, generator = volume_subject(), np.random.default_rng(0)
        return replay_network(subject, generator, steps=1, patients=0, risk=RISK).broken

    assert replayed() == ()
    bounds_each_slice(monkeypatch)
    assert any(TOO_FAR in found for found in replayed())


def test_a_mean_over_the_slices_of_several_volumes_is_refused_before_any_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = VolumeNetwork.top

    def over_all(self: VolumeNetwork, tokens: Tensor) -> Tensor:
        pooled = honest(self, tokens)
        return pooled.mean(dim=0, keepdim=True).expand_as(pooled)

    monkeypatch.setattr(VolumeNetwork, "top", over_all)
    with pytest.raises(InputError, match="mixes the images of a batch"):
        volume_subject()


def test_features_of_volumes_that_hang_on_others_show_in_a_neighbours_bits(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The fault that a test of `test_volumes` is there for, planted into what it reads."""
    honest = extract.load_volumes

    def centred(*arguments: object) -> NDArray[np.float32]:
        found: NDArray[np.float32] = honest(*arguments)  # type: ignore[arg-type]
        return found - found.mean(axis=0)

    find = test_volumes.test_a_volume_gives_the_same_bits_whoever_else_is_there
    find(tmp_path_factory.mktemp("sound"))
    monkeypatch.setattr(extract, "load_volumes", centred)
    with pytest.raises(AssertionError):
        find(tmp_path_factory.mktemp("planted"))

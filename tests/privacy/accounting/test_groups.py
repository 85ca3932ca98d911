"""What several units cost together: a group's curve against its integral and dp_accounting."""

import itertools
import math
import re
from typing import Any

import mpmath
import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy.stats import binom

from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.accounting.sampled_step import GroupStep, SampledSteps, step_delta
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import parse_statement
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.privacy.promise.words import statement_text


def exact_group_delta(part: SampledSteps, epsilon: float, *, add: bool) -> mpmath.mpf:
    """The integral of (P - e^epsilon Q)+ over the noisy sum, with N and its mixture as P and Q."""
    sigma, rate, group = part.noise_multiplier, part.sampling_rate, part.group
    with mpmath.workdps(30):
        chances = [
            mpmath.binomial(group, j)
            * mpmath.mpf(rate) ** j
            * (1 - mpmath.mpf(rate)) ** (group - j)
            for j in range(group + 1)
        ]

        def loss(x: mpmath.mpf) -> mpmath.mpf:
            parts = (p * mpmath.exp((j * x - mpmath.mpf(j) ** 2 / 2) / sigma**2)
                     for j, p in enumerate(chances))  # fmt: skip
            return mpmath.log(mpmath.fsum(parts))

        signed = mpmath.mpf(-epsilon if add else epsilon)
        low, high = mpmath.mpf(-2000 * sigma), mpmath.mpf(2 * group + 2000 * sigma)
        for _ in range(90):
            middle = (low + high) / 2
            low, high = (middle, high) if loss(middle) < signed else (low, middle)
        over = [mpmath.ncdf((j - low) / sigma) for j in range(group + 1)]
        factor = mpmath.exp(epsilon)
        if add:  # P is the plain one, and the loss rises against it
            plain = mpmath.ncdf(low / sigma)
            mixed = mpmath.fsum(p * mpmath.ncdf((low - j) / sigma) for j, p in enumerate(chances))
            return plain - factor * mixed
        return mpmath.fsum(p * o for p, o in zip(chances, over, strict=True)) - factor * over[0]


PARTS = [
    SampledSteps(sigma, rate, 1, group)
    for sigma, rate, group in [
        (1.484, 128 / 86524, 4),
        (1.484, 128 / 86524, 20),
        (0.5, 0.01, 3),
        (4.3, 0.11, 14),
        (1.0, 0.9, 2),
        (2.0, 1.0, 5),
        (20.0, 1e-6, 20),
    ]
]


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("part", PARTS)
def test_a_groups_curve_is_just_above_its_integral(part: SampledSteps, add: bool) -> None:
    least = part.group * math.log1p(-part.sampling_rate) if part.sampling_rate < 1 else -50.0
    inside = [0.5 * least, 1e-3 * least, 0.0, 1e-9, -1e-4 * least, 0.01, 0.3, 3.0, 20.0]
    epsilons = np.array([-e if add else e for e in inside])
    ours = GroupStep.of(part).deltas(epsilons, add=add)
    for epsilon, found in zip(epsilons, ours, strict=True):
        exact = exact_group_delta(part, float(epsilon), add=add)
        assert exact <= found
        assert found == pytest.approx(float(exact), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize(("sigma", "rate"), [(0.5, 0.01), (1.0, 0.3), (5.0, 0.9), (2.0, 1.0)])
def test_a_group_of_one_is_a_unit(sigma: float, rate: float, add: bool) -> None:
    epsilons = np.linspace(-3, 3, 41)
    ours = GroupStep.of(SampledSteps(sigma, rate, 1)).deltas(epsilons, add=add)
    expected = step_delta(sigma, rate, epsilons, add=add)
    assert np.all(ours >= expected * (1 - 1e-12))
    assert ours == pytest.approx(expected, rel=1e-7, abs=2e-9)


def test_losses_far_out_are_bounds() -> None:
    for part, add in itertools.product(PARTS, (False, True)):
        deltas = GroupStep.of(part).deltas(np.linspace(-3000, 3000, 601), add=add)
        assert np.all(np.isfinite(deltas))
        assert np.all(np.diff(deltas) <= 1e-12)
        assert deltas[0] == pytest.approx(1, abs=1e-6)


#: Epsilon of a patient by images a patient: Poisson sampled single images, q 128/86524, 80 epochs.
BY_IMAGES = {1: 0.98, 4: 4.65, 12: 17.8, 35: 80.0, 184: 1342.0}


@pytest.mark.parametrize("images", BY_IMAGES)
def test_what_an_image_level_promise_is_to_a_patient(images: int) -> None:
    of_image = PrivacyLoss(sampled=(SampledSteps(1.484, 128 / 86524, 80 * 86524 // 128),))
    assert of_image.of_group(images).epsilon(1e-5) == pytest.approx(BY_IMAGES[images], rel=0.006)


@pytest.mark.parametrize(
    ("part", "delta", "interval"),
    [
        (SampledSteps(4.336, 1 / 9, 2700, 2), 1e-4, 3e-3),
        (SampledSteps(4.336, 1 / 9, 2700, 14), 1e-4, 1e-2),
        (SampledSteps(1.484, 128 / 86524, 54077, 4), 1e-5, 1e-3),
        (SampledSteps(20.31, 1 / 9, 2700, 6), 1e-6, 1e-3),
        (SampledSteps(0.8, 0.02, 50, 3), 1e-5, 1e-2),
    ],
)
def test_groups_agree_with_dp_accounting(part: SampledSteps, delta: float, interval: float) -> None:
    drawn = np.arange(part.group + 1)
    theirs = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        part.noise_multiplier,
        sensitivities=drawn.astype(float),
        sampling_probs=binom.pmf(drawn, part.group, part.sampling_rate),
        value_discretization_interval=interval,
    ).self_compose(part.steps)
    ours = PrivacyLoss(sampled=(part,)).epsilon(delta)
    assert ours == pytest.approx(theirs.get_epsilon_for_delta(delta), rel=0.01)


def test_groups_of_all_steps_are_exact_and_compose() -> None:
    loss = PrivacyLoss(0.3, (SampledSteps(4.0, 0.1, 20), SampledSteps(9.0, 0.2, 5)))
    group = loss.of_group(3)
    assert group == PrivacyLoss(
        3 * 0.3, (SampledSteps(4.0, 0.1, 20, 3), SampledSteps(9.0, 0.2, 5, 3))
    )
    assert loss.of_group(1) == loss
    both = loss.with_loss(group).sampled
    assert sorted(part.group for part in both) == [1, 1, 3, 3]  # groups are never added up
    # steps at rate 1, as samples, cost what k times mu costs
    always = PrivacyLoss(sampled=(SampledSteps(10.0, 1.0, 4),)).of_group(5)
    exact = PrivacyLoss(1.0).epsilon(1e-4)
    assert exact <= always.epsilon(1e-4) <= 1.002 * exact


def test_a_larger_group_costs_more() -> None:
    loss = PrivacyLoss(sampled=(SampledSteps(2.0, 0.05, 100),))
    epsilons = [loss.of_group(size).epsilon(1e-5) for size in (1, 2, 3, 5, 9)]
    assert epsilons == sorted(epsilons)
    rates = [loss.of_group(size).true_positive_rate(0.01) for size in (1, 2, 3, 5, 9)]
    assert rates == sorted(rates)
    assert loss.epsilon(1e-5) * 2 < epsilons[1]  # more than in proportion


# What a promise to each image is to a patient.


def of_images(images_per_patient: int | None, rate: float = 1.0, **changes: Any) -> Release:
    mechanism = Mechanism(
        unit="image", sampling_rate=rate, noise_multiplier=20.0, steps=100, normaliser=600
    )
    return Release(
        stage="finetune", data="clinic", unit="image", mu=mechanism.mu, mechanism=mechanism,
        images_per_patient=images_per_patient, **changes,
    )  # fmt: skip


def stated(*releases: Release) -> Statement:
    lineage = Lineage(releases=releases)
    return make_statement(lineage, subject="classifier", unit="image", delta=1e-5, population=600)


def test_the_statement_gives_the_patients_epsilon() -> None:
    made = stated(of_images(4))
    assert made.patient is not None
    assert made.patient.epsilon == PrivacyLoss(4 * 0.5).epsilon(1e-5) > made.epsilon
    assert made.patient.odds.found_at_1_percent > made.odds.found_at_1_percent
    assert made.patient.odds.reidentified is None  # nobody said how many patients there are
    assert made.neighbours == "add or remove one image of a patient with at most 4 images"
    text = statement_text(made)
    epsilon = epsilon_text(made.patient.epsilon)
    assert f"a PATIENT, of whom at most 4 images are used, has epsilon {epsilon} at delta" in text
    assert "finetune on clinic, at most 4 images of a patient, per image" in text
    assert "Of patients with all their images, at most" in text
    assert parse_statement(made.model_dump(mode="json"), where="x") == made


def test_bounds_of_several_releases_compose() -> None:
    made = stated(of_images(2), of_images(3, rate=0.1))
    assert made.patient is not None
    sampled = SampledSteps(20.0, 0.1, 100, 3)
    assert made.patient.epsilon == PrivacyLoss(2 * 0.5, (sampled,)).epsilon(1e-5)
    assert made.patient.images_per_patient == 3
    assert made.neighbours.endswith("at most 2 images")


def told_by_images(text: str) -> dict[int, tuple[str, ...]]:
    """Of a statement, by images a patient: epsilon, members found at 1 %, guesses right."""
    line = re.compile(
        r"^- (\d+) images?: epsilon (\S+) at delta \S+; at most (\S+) % of such patients are found "
        r".* is right in at most (\S+) % of cases",
        re.MULTILINE,
    )
    return {int(found[0]): found[1:] for found in line.findall(text)}


def test_the_words_say_what_an_image_level_promise_is_to_patients() -> None:
    """Sigma 1.484, 128 of 86,524 images a step, 80 epochs: epsilon .98 an image at delta 1e-5."""
    steps = 80 * 86524 // 128
    mechanism = Mechanism(
        unit="image", sampling_rate=128 / 86524, noise_multiplier=1.484, steps=steps, normaliser=128
    )
    release = Release(
        stage="finetune", data="clinic", unit="image", mu=mechanism.mu, mechanism=mechanism
    )
    lineage = Lineage(releases=(release,))
    made = make_statement(
        lineage, subject="classifier", unit="image", delta=1e-5, population=90_000
    )
    text = statement_text(made)
    assert "epsilon = 0.978 for each IMAGE, not patient" in text
    told = told_by_images(text)
    assert {number: epsilon for number, (epsilon, *_) in told.items()} == {
        4: "4.64", 12: "17.8", 35: "80.4", 184: "1350",
    }  # fmt: skip
    # members found and guesses right grow with the number, and are those of the group's own curve
    for number, (_, found, right) in told.items():
        loss = release.loss.of_group(number)
        assert float(found) / 100 >= loss.true_positive_rate(0.01) > float(found) / 100 - 0.01
        assert float(right) / 100 >= loss.best_accuracy > float(right) / 100 - 0.01
    assert sorted(told.values(), key=lambda one: float(one[2])) == list(told.values())


def test_the_words_go_as_far_as_the_bound_on_images() -> None:
    made = stated(of_images(14))
    told = told_by_images(statement_text(made))
    assert list(told) == [4, 12, 14]
    assert made.patient is not None
    assert told[14][0] == epsilon_text(made.patient.epsilon)
    assert told[4][0] == epsilon_text(PrivacyLoss(4 * 0.5).epsilon(1e-5))
    assert list(told_by_images(statement_text(stated(of_images(2))))) == [2]
    # a release that used two images of a patient at most costs one with twelve no more than that
    mixed = told_by_images(statement_text(stated(of_images(2), of_images(14))))
    both = PrivacyLoss(math.hypot(2 * 0.5, 12 * 0.5)).epsilon(1e-5)
    assert mixed[12][0] == epsilon_text(both)
    # whatever images there are: no number is read from them
    patients = make_statement(Lineage(), subject="classifier", unit="image", delta=1e-5)
    assert told_by_images(statement_text(patients)) == {}


def test_without_a_bound_patients_are_told_by_public_numbers() -> None:
    for releases in ((of_images(None),), (of_images(None), of_images(4))):
        made = stated(*releases)
        assert made.patient is None
        text = statement_text(made)
        assert "a patient with several images has a larger epsilon" in text
        assert list(told_by_images(text)) == [4, 12, 35, 184]
    unprotected = Release(stage="train-gan", data="clinic", mu=math.inf, note="no noise")
    made = stated(unprotected, of_images(4))
    assert made.patient is not None
    assert made.patient.epsilon == math.inf
    assert told_by_images(statement_text(made)) == {}


@pytest.mark.parametrize(
    "part",
    [
        SampledSteps(0.3, 1e-6, 1, 50),
        SampledSteps(0.3, 1e-6, 100, 50),
        SampledSteps(0.3, 0.01, 1, 50),
        SampledSteps(0.06, 0.01, 1, 50),
        SampledSteps(0.02, 1.0, 100, 2),
        SampledSteps(30.0, 0.999, 20_000, 2),
        SampledSteps(1e4, 1e-6, 1),
    ],
)
def test_risks_where_losses_are_wide_rare_or_hardly_there(part: SampledSteps) -> None:
    loss = PrivacyLoss(sampled=(part,))
    drawn_always = PrivacyLoss(part.group * math.sqrt(part.steps) / part.noise_multiplier)
    ever_drawn = -math.expm1(part.steps * part.group * math.log1p(-min(part.sampling_rate, 0.999)))
    rates = (1e-9, 1e-4, 0.01, 0.5, 1 - 1e-6)
    found = [loss.success(rate) for rate in rates]
    assert found == sorted(found)
    for rate, one in zip(rates, found, strict=True):
        assert rate <= one <= min(drawn_always.success(rate) * 1.003 + 1e-12, 1)
        assert one <= rate + 1.001 * ever_drawn  # who is never drawn is never found


def test_what_no_grid_can_hold_is_unprotected() -> None:
    loss = PrivacyLoss(sampled=(SampledSteps(0.01, 0.1, 1, 11),))
    assert loss.unbounded
    assert (loss.epsilon(1e-5), loss.success(0.01)) == (math.inf, 1.0)

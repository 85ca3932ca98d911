import math

import pytest
from pydantic import ValidationError

from synthdp.privacy.accounting.gaussian import gaussian_epsilon
from synthdp.privacy.lineage import (
    Cohort,
    Lineage,
    Release,
    key_id,
    keyed_split,
    linked_digest,
    patient_tag,
)
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.units import Part

DELTA = 1e-4
KEY, OTHER_KEY = bytes(range(32)), bytes(32)


def release(mu: float, part: str | None = None, key: bytes = KEY, **values: object) -> Release:
    cohort = None
    if part is not None:
        first, of = part.split("/")
        cohort = Cohort(key_id=key_id(key), part=Part(part=int(first), of=int(of)))
    return Release(stage="finetune", data="clinic", mu=mu, cohort=cohort, **values)


def lineage(*releases: Release) -> Lineage:
    return Lineage(releases=releases)


def test_releases_compose_in_mu_and_count_once() -> None:
    first, second = release(3.0), release(4.0)
    joined = lineage(first).joined([lineage(first, second)])
    assert joined.loss.mu == pytest.approx(5.0)
    assert joined.epsilon(DELTA) == pytest.approx(gaussian_epsilon(5.0, DELTA))
    assert Lineage().epsilon(DELTA) == 0.0


def test_an_unprotected_ancestor_is_infinite_and_named() -> None:
    found = lineage(release(1.0), release(math.inf, note="no noise"))
    assert math.isinf(found.epsilon(DELTA))
    assert [one.note for one in found.unprotected] == ["no noise"]
    assert Lineage.model_validate_json(found.model_dump_json()) == found


def test_disjoint_cohorts_are_parallel_and_the_worst_counts() -> None:
    found = lineage(release(1.0, "1/2"), release(2.0, "2/2"))
    assert found.epsilon(DELTA) == pytest.approx(gaussian_epsilon(2.0, DELTA))
    assert sorted(group.loss.mu for group in found.groups()) == [1.0, 2.0]


def test_a_release_on_everybody_adds_to_each_cohort() -> None:
    found = lineage(release(3.0, "1/2"), release(1.0, "2/2"), release(4.0))
    assert found.epsilon(DELTA) == pytest.approx(gaussian_epsilon(5.0, DELTA))


@pytest.mark.parametrize(
    ("other", "overlaps"), [("1/3", True), ("2/3", True), ("3/3", False), ("1/4", True)]
)
def test_parts_of_different_cuts_overlap_where_they_do(other: str, overlaps: bool) -> None:
    found = lineage(release(3.0, "1/2"), release(4.0, other))
    assert found.epsilon(DELTA) == pytest.approx(gaussian_epsilon(5.0 if overlaps else 4.0, DELTA))


def test_cohorts_of_two_keys_prove_nothing() -> None:
    found = lineage(release(3.0, "1/2"), release(4.0, "2/2", key=OTHER_KEY))
    assert found.epsilon(DELTA) == pytest.approx(gaussian_epsilon(5.0, DELTA))


def test_the_budget_of_a_cohort_is_what_met_it() -> None:
    found = lineage(release(3.0, "1/2"), release(4.0, "2/2"), release(12.0, "1/3"))

    def mu_on(part: str | None) -> float:
        return found.loss_on(release(0.0, part).cohort, DELTA).mu

    assert mu_on("2/2") == pytest.approx(4.0)
    assert mu_on("1/3") == pytest.approx(math.hypot(3.0, 12.0))
    assert mu_on("2/4") == pytest.approx(math.hypot(3.0, 12.0))
    assert mu_on(None) == pytest.approx(math.hypot(3.0, 12.0))
    assert Lineage().loss_on(None, DELTA).mu == 0.0


def test_sampled_ancestors_of_a_cohort_count_together() -> None:
    mechanism = Mechanism(sampling_rate=0.1, noise_multiplier=2.0, steps=10, normaliser=1)
    values = {"mechanism": mechanism}
    found = lineage(release(mechanism.mu, "1/2", **values), release(mechanism.mu, "2/2", **values))
    twice = mechanism.loss().with_loss(mechanism.loss())
    assert found.loss_on(None, DELTA) == twice
    assert twice.epsilon(DELTA) > mechanism.loss().epsilon(DELTA)
    assert found.epsilon(DELTA) == mechanism.loss().epsilon(DELTA)


def test_too_many_cuts_are_taken_to_overlap() -> None:
    keys = [bytes([n]) * 32 for n in range(12)]
    found = lineage(*(release(1.0, "1/2", key=key) for key in keys))
    assert found.epsilon(DELTA) == pytest.approx(gaussian_epsilon(math.sqrt(12), DELTA))


def test_a_release_that_claims_less_than_its_mechanism_is_refused() -> None:
    mechanism = Mechanism(noise_multiplier=2.0, steps=4, normaliser=1)
    assert release(1.0, mechanism=mechanism).loss.mu == 1.0
    assert release(1.0, mechanism=mechanism).after(1).loss.mu == 0.5
    with pytest.raises(ValidationError, match="less than the mechanism spends"):
        release(0.5, mechanism=mechanism)


def test_fixed_noise_costs_everything_whatever_its_mechanism() -> None:
    mechanism = Mechanism(noise_multiplier=2.0, steps=4, normaliser=1)
    assert release(math.inf, mechanism=mechanism).loss.unbounded
    assert release(math.inf, mechanism=mechanism).after(1).loss.unbounded


def test_each_patient_is_in_one_part_by_the_id_alone() -> None:
    tags = [patient_tag(KEY, f"patient-{n}") for n in range(600)]
    parts = [Cohort(key_id=key_id(KEY), part=Part(part=n, of=3)) for n in (1, 2, 3)]
    held = [[part.holds(tag) for part in parts] for tag in tags]
    assert all(sum(row) == 1 for row in held)
    counts = [sum(column) for column in zip(*held, strict=True)]
    assert all(140 < count < 260 for count in counts)  # 200 expected; 260 is 5 standard deviations
    assert patient_tag(OTHER_KEY, "patient-0") != tags[0]
    assert key_id(KEY) != key_id(OTHER_KEY)


def test_a_keyed_split_has_about_its_shares_and_hangs_on_id_and_key_alone() -> None:
    ids = [f"P{number}" for number in range(4000)]
    fractions = {"val": 0.2, "train": 0.8}
    splits = [keyed_split(KEY, one, fractions) for one in ids]
    assert abs(splits.count("val") - 800) < 5 * math.sqrt(4000 * 0.2 * 0.8)
    assert splits == [keyed_split(KEY, one, dict(fractions)) for one in ids]
    assert splits != [keyed_split(OTHER_KEY, one, fractions) for one in ids]
    larger = [keyed_split(KEY, one, {"val": 0.3, "train": 0.7}) for one in ids]
    assert all(new == "val" for old, new in zip(splits, larger, strict=True) if old == "val")


def test_the_split_says_nothing_of_the_cohort() -> None:
    ids = [f"P{number}" for number in range(4000)]
    half = Cohort(key_id=key_id(KEY), part=Part(part=1, of=2))
    held = [one for one in ids if half.holds(patient_tag(KEY, one))]
    in_val = sum(keyed_split(KEY, one, {"val": 0.2, "train": 0.8}) == "val" for one in held)
    assert abs(in_val - 0.2 * len(held)) < 5 * math.sqrt(0.16 * len(held))


def test_what_is_linked_names_the_cohorts() -> None:
    assert linked_digest(KEY, {}) == linked_digest(KEY, {"A": "A"}) == ""
    assert key_id(KEY, "") == key_id(KEY)  # as in sets of before there were links
    one = linked_digest(KEY, {"A": "P", "B": "P"})
    assert one == linked_digest(KEY, {"B": "P", "A": "P", "C": "C"})
    assert one != linked_digest(KEY, {"A": "P"})
    assert one != linked_digest(OTHER_KEY, {"A": "P", "B": "P"})
    assert key_id(KEY, one) != key_id(KEY)
    images = linked_digest(KEY, {}, of_images=True)
    assert len({images, linked_digest(KEY, {"A": "P", "B": "P"}, of_images=True), one, ""}) == 4


def test_old_releases_have_declared_units() -> None:
    old = release(1.0).model_dump(mode="json")
    del old["unit_from"]
    assert Release.model_validate(old).unit_from == "declared"
    looked = release(2.0, unit_from="looks")
    assert lineage(release(1.0)).found_by_looking == ()
    assert lineage(release(1.0), looked).found_by_looking == ("clinic",)

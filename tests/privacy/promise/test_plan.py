"""What a stage spends and promises: ancestors first, one calibration, what it states after."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import clinic_set

from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.people.cohorts import cohort_of
from synthdp.errors import InputError
from synthdp.privacy import mechanism as mechanisms
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import PrivacyPlan, declared_units, plan_privacy, statement_of
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import Part

PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=50)
Plan = Callable[..., PrivacyPlan]


@pytest.fixture
def patients(tmp_path: Path) -> Dataset:
    return open_dataset(clinic_set(tmp_path / "clinic", "real"))


@pytest.fixture
def phantoms(tmp_path: Path) -> Dataset:
    return open_dataset(clinic_set(tmp_path / "phantoms", "phantom"))


def planned(dataset: Dataset, privacy: PrivacySettings = PRIVACY, **changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "stage": "finetune",
        "subject": "classifier",
        "ancestors": Lineage(),
        "cohort": None,
        "n_units": declared_units(privacy, None),
    }
    return plan_privacy(dataset, privacy, **{**values, **changes})


def spent(mu: float, **changes: Any) -> Lineage:
    return Lineage(releases=(Release(stage="train-gan", data="clinic", mu=mu, **changes),))


def test_what_ancestors_spent_on_patients_is_taken_off(patients: Dataset) -> None:
    alone, after = planned(patients), planned(patients, ancestors=spent(0.5))
    assert after.release.mu == pytest.approx(math.sqrt(alone.release.mu**2 - 0.25))
    for plan in (alone, after):
        assert plan.statement.epsilon == pytest.approx(6, rel=1e-6)
        assert plan.statement.epsilon <= 6
    assert after.stage_epsilon < 6
    with pytest.raises(InputError, match="has spent"):
        planned(patients, ancestors=spent(2.0))


def test_an_unprotected_ancestor_leaves_the_stage_its_target_and_no_promise(
    patients: Dataset,
) -> None:
    plan = planned(patients, ancestors=spent(math.inf))
    assert plan.release == planned(patients).release.model_copy(update={"id": plan.release.id})
    assert (plan.statement.epsilon, plan.statement.epsilon_stage) == (math.inf, pytest.approx(6))


def test_ancestors_of_another_cohort_leave_the_target_whole(patients: Dataset) -> None:
    first, second = (cohort_of(patients, Part(part=part, of=2)) for part in (1, 2))
    ancestors = spent(1.0, cohort=first)
    assert planned(patients, ancestors=ancestors, cohort=second).stage_epsilon == pytest.approx(6)
    assert planned(patients, ancestors=ancestors, cohort=first).stage_epsilon < 5


def test_rows_that_are_no_patients_are_not_counted(phantoms: Dataset, tmp_path: Path) -> None:
    plan = planned(phantoms, ancestors=spent(0.5))
    assert plan.mechanism == planned(phantoms).mechanism
    assert not plan.counted
    assert plan.statement.lineage == plan.ancestors
    plan.record(Ledger(tmp_path / "ledger.jsonl"))
    assert recorded_releases(phantoms.ledger_path) == ()
    charged = planned(phantoms, ancestors=spent(0.5), charge_public_rows=True)
    assert charged.release.mu < plan.release.mu


def test_without_a_mechanism_or_with_known_noise_nothing_is_promised(patients: Dataset) -> None:
    bare = planned(
        patients, PrivacySettings(), unprotected_note="no protection", note="of CC alone"
    )
    assert (bare.mechanism, bare.release.mu, bare.stage_epsilon) == (None, math.inf, math.inf)
    assert bare.release.note == "no protection, of CC alone"
    known = planned(patients, PRIVACY.model_copy(update={"fixed_noise_key": 1}))
    assert known.mechanism == planned(patients).mechanism
    assert (known.release.mu, known.statement.epsilon) == (math.inf, math.inf)
    assert known.release.note == "noise from a fixed key, for tests"
    assert known.stage_epsilon == pytest.approx(6)  # what a recipe may be chosen by


def test_a_run_takes_its_release_id_without_a_second_calibration(
    patients: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(patients)
    monkeypatch.setattr(mechanisms.Mechanism, "reaching", None)
    of_run = plan.with_release_id("0123456789abcdef")
    assert of_run.release == plan.release.model_copy(update={"id": "0123456789abcdef"})
    assert of_run.statement.lineage.releases == (of_run.release,)
    with pytest.raises(ValueError, match="id"):
        plan.with_release_id("no id")
    of_run.record(Ledger(tmp_path / "ledger.jsonl"))
    of_run.record(Ledger(tmp_path / "ledger.jsonl"))
    assert Ledger(tmp_path / "ledger.jsonl").terms == of_run.terms
    assert statement_of([patients.root]).lineage.releases == (of_run.release,)


def test_the_ledgers_noise_is_gone_on_with_stated_and_recorded(
    patients: Dataset, tmp_path: Path
) -> None:
    plan = planned(patients, steps=10)
    assert plan.mechanism is not None
    louder = plan.mechanism.with_noise(1.001 * plan.mechanism.noise_multiplier)
    begun = plan.release.model_copy(update={"mechanism": louder, "mu": louder.mu})
    Ledger(tmp_path / "ledger.jsonl").claim(begun, fingerprint="f", block_steps=5)
    claimed = plan.claim(Ledger(tmp_path / "ledger.jsonl"), fingerprint="f", block_steps=5)
    assert (claimed.release, claimed.mechanism) == (begun, louder)
    assert claimed.stage_epsilon == pytest.approx(louder.loss().epsilon(1e-3))
    assert claimed.statement.epsilon == claimed.stage_epsilon < plan.statement.epsilon
    (recorded,) = recorded_releases(patients.ledger_path, patients.info.ledger)
    assert recorded == begun.started(recorded.starts)
    assert len(recorded.starts) == 1


def test_noise_of_the_ledger_that_ancestors_have_made_too_little_is_refused(
    patients: Dataset, tmp_path: Path
) -> None:
    begun = planned(patients, ancestors=spent(0.5))
    as_before = Ledger(tmp_path / "ledger.jsonl")  # earlier versions noted no terms
    as_before.claim(begun.release, fingerprint="f", block_steps=1)
    now = planned(patients, ancestors=spent(0.502)).with_release_id(begun.release.id)
    assert now.release.same_but_for_rounding(begun.release)
    assert now.statement_after(begun.release).epsilon > 6
    with pytest.raises(InputError, match=r"would exceed privacy\.epsilon 6; start in a new"):
        now.claim(Ledger(tmp_path / "ledger.jsonl"), fingerprint="f", block_steps=1)
    less = planned(patients, ancestors=spent(0.498)).with_release_id(begun.release.id)
    again = less.claim(Ledger(tmp_path / "ledger.jsonl"), fingerprint="f", block_steps=1)
    assert again.release == begun.release
    assert again.statement.epsilon <= 6


def test_another_ancestor_under_the_same_name_is_refused(patients: Dataset, tmp_path: Path) -> None:
    begun = planned(patients, ancestors=spent(0.5))
    path = tmp_path / "ledger.jsonl"
    begun.claim(Ledger(path), fingerprint="f", block_steps=1, inputs={"init": "a"})
    now = planned(patients, ancestors=spent(0.5)).with_release_id(begun.release.id)
    with pytest.raises(InputError, match="an ancestor of this run"):
        now.claim(Ledger(path), fingerprint="f", block_steps=1, inputs={"init": "a"})
    with pytest.raises(InputError, match="init: not what this run began with"):
        begun.claim(Ledger(path), fingerprint="f", block_steps=1, inputs={"init": "b"})
    with pytest.raises(InputError, match="centre, init: not what this run began with"):
        begun.claim(Ledger(path), fingerprint="f", block_steps=1, inputs={"centre": "a"})
    begun.claim(Ledger(path), fingerprint="f", block_steps=1, inputs={"init": "a"})


def test_a_run_whose_ledger_is_gone_is_refused_when_its_release_is_on_record(
    patients: Dataset, tmp_path: Path
) -> None:
    plan = planned(patients)
    plan.claim(Ledger(tmp_path / "ledger.jsonl"), fingerprint="f", block_steps=1)
    with pytest.raises(InputError, match="the run's own ledger is gone"):
        plan.claim(Ledger(tmp_path / "another.jsonl"), fingerprint="f", block_steps=1)
    other = plan.with_release_id("0" * 16)
    other.claim(Ledger(tmp_path / "another.jsonl"), fingerprint="f", block_steps=1)


@pytest.mark.parametrize("loss", ["ledger.jsonl", "ledger.*", "*"])
def test_a_set_whose_ledger_is_gone_is_refused_though_nothing_was_released(
    patients: Dataset, tmp_path: Path, loss: str
) -> None:
    for path in patients.private.glob(loss):
        path.unlink()
    for use in (
        lambda: planned(patients).claim(Ledger(tmp_path / "l"), fingerprint="f", block_steps=1),
        lambda: planned(patients, PrivacySettings()).record(Ledger(tmp_path / "l")),
        lambda: statement_of([patients.root]),
    ):
        with pytest.raises(InputError, match=r"ledger\.jsonl.* what was spent .*is unknown"):
            use()


def test_a_set_of_an_earlier_version_has_no_mark_and_is_used_as_before(
    patients: Dataset, tmp_path: Path
) -> None:
    content = json.loads((patients.root / "dataset.json").read_text())
    del content["ledger"]
    (patients.root / "dataset.json").write_text(json.dumps(content))
    for path in patients.private.glob("ledger.*"):
        path.unlink()
    old = open_dataset(patients.root)
    plan = planned(old).claim(Ledger(tmp_path / "l"), fingerprint="f", block_steps=1)
    assert [one.id for one in statement_of([old.root]).lineage.releases] == [plan.release.id]


def test_steps_that_a_crash_left_unused_are_not_stated(patients: Dataset) -> None:
    plan = planned(patients, steps=10)
    some = plan.statement_after(plan.release.after(4))
    assert some.epsilon < plan.statement.epsilon == pytest.approx(6, rel=1e-6)


def test_ancestors_that_protect_another_unit_are_refused(patients: Dataset) -> None:
    with pytest.raises(InputError, match="but an ancestor was made with another unit"):
        planned(patients, ancestors=spent(0.5, unit="image"))


def test_the_normaliser_is_declared(patients: Dataset) -> None:
    half = declared_units(PRIVACY, Part(part=1, of=2))
    plan = planned(patients, n_units=half, sampling_rate=0.5, steps=3, clip_norm=2.0)
    assert plan.mechanism is not None
    assert (plan.mechanism.normaliser, plan.mechanism.clip_norm) == (12.5, 2.0)
    assert declared_units(PrivacySettings(), None) is None


def test_what_no_statement_can_be_made_of_is_refused_before_it_is_spent(patients: Dataset) -> None:
    """A cohort's population is its share of all: 700 of a half say that there are 1400."""
    privacy = PRIVACY.model_copy(update={"population": 700})
    half = cohort_of(patients, Part(part=1, of=2))
    with pytest.raises(InputError, match="is not below 1/1400"):
        planned(patients, privacy, cohort=half, n_units=700)
    larger = planned(patients, PRIVACY.model_copy(update={"population": 999})).release
    assert larger.mechanism is not None
    ancestor = spent(0.1, mechanism=larger.mechanism.with_noise(60), cohort=half)
    with pytest.raises(InputError, match="is not below 1/1998"):
        planned(patients, ancestors=ancestor, cohort=half)

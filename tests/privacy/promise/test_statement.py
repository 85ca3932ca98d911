import json
import math
import pickle

import pytest

from synthdp.errors import InputError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.accounting.odds import Odds
from synthdp.privacy.accounting.privacy_loss import PrivacyLoss
from synthdp.privacy.lineage import Cohort, Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import parse_statement
from synthdp.privacy.promise.statement import OnRecord, Statement, make_statement
from synthdp.privacy.promise.words import record_words, statement_text
from synthdp.privacy.units import Part


def dp_release(epsilon: float = 6.0, unit: str = "patient") -> Release:
    mechanism = Mechanism.reaching(epsilon=epsilon, delta=1e-4, steps=60, normaliser=600, unit=unit)
    return Release(
        stage="finetune", data="cbis-ddsm", mu=mechanism.mu, mechanism=mechanism, unit=unit
    )


GENERATOR = Release(stage="train-gan", data="cbis-ddsm", mu=math.inf, note="no noise")


def statement(*releases: Release, unit: str = "patient") -> Statement:
    return make_statement(
        Lineage(releases=releases), subject="classifier", unit=unit, population=600,
        stage=releases[-1] if releases else None,
    )  # fmt: skip


def test_a_model_of_patients_alone_states_its_epsilon() -> None:
    made = statement(dp_release())
    assert made.epsilon == pytest.approx(6.0, rel=1e-6)
    text = statement_text(made)
    assert "epsilon = 6 for each patient, end to end" in text
    assert "N x delta = 0.06" in text
    assert "every patient in each of 60 steps" in text


def test_a_generator_without_privacy_makes_the_whole_infinite() -> None:
    made = statement(GENERATOR, dp_release())
    assert math.isinf(made.epsilon)
    assert made.epsilon_stage == pytest.approx(6.0, rel=1e-6)
    assert "Because train-gan on cbis-ddsm had no protection (no noise)" in statement_text(made)
    assert made.odds.best_accuracy == 1.0


def test_phantoms_cost_nothing() -> None:
    made = statement()
    assert made.epsilon == 0.0
    assert "No patient's image went into it" in statement_text(made)


def test_the_image_unit_stands_in_the_first_line() -> None:
    first_line = statement_text(statement(dp_release(unit="image"), unit="image")).splitlines()[0]
    assert "IMAGE, not patient" in first_line


def test_units_that_were_found_by_looking_are_named_below_the_headline() -> None:
    looked = dp_release().model_copy(update={"unit_from": "looks"})
    lines = statement_text(statement(looked)).splitlines()
    assert "epsilon = 6" in lines[0]
    assert lines[2].startswith("**The unit was found by looking, in cbis-ddsm**")
    assert "found by looking" not in statement_text(statement(dp_release()))


def test_units_that_differ_do_not_compose() -> None:
    with pytest.raises(InputError, match=r"privacy\.unit"):
        statement(dp_release(unit="image"), dp_release())


def test_what_nothing_protects_is_infinite_in_any_unit() -> None:
    made = statement(GENERATOR, dp_release(unit="image"), unit="image")
    assert math.isinf(made.epsilon)
    assert made.epsilon_stage == pytest.approx(6, rel=1e-3)
    assert "train-gan on cbis-ddsm had no protection" in made.because


def test_json_round_trip_keeps_infinity() -> None:
    made = statement(GENERATOR, dp_release())
    text = made.model_dump_json()
    assert '"epsilon":"inf"' in text
    assert Statement.model_validate_json(text) == made


@pytest.mark.parametrize(
    ("epsilon", "at_1", "at_01", "accuracy"),
    [(1, 0.022, 0.003, 0.56), (6, 0.19, 0.052, 0.77), (20, 0.92, 0.73, 0.97)],
)
def test_odds_against_known_values(
    epsilon: float, at_1: float, at_01: float, accuracy: float
) -> None:
    odds = Odds.of([PrivacyLoss(gaussian_mu(epsilon, 1e-4))], 578)
    assert odds.found_at_1_percent == pytest.approx(at_1, abs=0.006)
    assert odds.found_at_01_percent == pytest.approx(at_01, abs=0.006)
    assert odds.best_accuracy == pytest.approx(accuracy, abs=0.006)


def test_cohorts_are_named_below_the_headline() -> None:
    parts = [Cohort(key_id="0" * 16, part=Part(part=n, of=2)) for n in (1, 2)]
    first, second = (
        dp_release(epsilon).model_copy(update={"id": f"{n}" * 16, "cohort": cohort})
        for n, epsilon, cohort in zip((1, 2), (1.0, 6.0), parts, strict=True)
    )
    made = statement(first, second)
    assert made.epsilon == pytest.approx(6.0, rel=1e-3)
    text = statement_text(made)
    assert "epsilon = 6 for each patient" in text.splitlines()[0]
    assert "- cohort 1/2 of cbis-ddsm: epsilon 1" in text
    assert "- cohort 2/2 of cbis-ddsm: epsilon 6" in text
    assert made.odds == statement(second).odds


def test_sampled_steps_are_stated_as_such() -> None:
    mechanism = Mechanism(sampling_rate=0.25, noise_multiplier=2.0, steps=50, normaliser=150)
    release = Release(
        stage="finetune", data="cbis-ddsm", mu=mechanism.mu, mechanism=mechanism, steps=40
    )
    made = statement(release)
    assert made.epsilon == mechanism.loss(40).epsilon(1e-4)
    assert made.epsilon < PrivacyLoss(mechanism.mu_of(40)).epsilon(1e-4)
    assert "with probability 0.25 in each of 40 steps (Poisson)" in statement_text(made)
    assert 0.01 < made.odds.found_at_1_percent < made.odds.best_accuracy


def test_statements_of_other_versions() -> None:
    content = json.loads(statement(dp_release()).model_dump_json())
    older = {key: value for key, value in content.items() if key != "cohorts"}
    assert parse_statement({**older, "schema_version": 1}, where="x").epsilon == content["epsilon"]
    with pytest.raises(InputError, match="newer synthdp"):
        parse_statement({**content, "schema_version": 4}, where="x")
    with pytest.raises(InputError, match="not a statement"):
        parse_statement([], where="x")
    content["lineage"]["releases"][0]["mu"] /= 2  # edited by hand: less than its mechanism spends
    with pytest.raises(InputError, match="not a statement"):
        parse_statement(content, where="x")


def test_the_source_of_the_noise_is_named_and_older_noise_is_said_to_be_uncovered() -> None:
    older = dp_release()
    newer = older.model_copy(update={"id": "1" * 16, "noise": "discrete"})
    text = statement_text(statement(newer))
    assert "noise on a lattice from an exact discrete Gaussian (SHAKE-256)" in text
    assert "floating-point" not in text
    assert "the floating-point form of the noise" in statement_text(statement(newer, older))


def test_no_statement_is_written_by_hand() -> None:
    made = statement()
    with pytest.raises(InputError, match="made from ledgers"):
        Statement(**made.model_dump())
    assert Statement.model_validate(made.model_dump()) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_as_text_and_in_a_notebook_it_says_its_words() -> None:
    made = statement()
    assert str(made) == made._repr_markdown_() == statement_text(made)


@pytest.mark.parametrize(
    ("left", "words"), [(1, "Of these, 1 has left"), (3, "Of these, 3 have left")]
)
def test_how_many_of_the_others_left_is_said_once(left: int, words: str) -> None:
    record = OnRecord(data="clinic", other_releases=3, epsilon=9.0, left=left, left_epsilon=7.0)
    assert f"3 other releases; together epsilon 9 at delta 0.0001. {words} the house" in (
        record_words(record, 1e-4)
    )

import math
from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.privacy.ledger import journal as journals
from synthdp.privacy.ledger.run_ledger import Ledger, Terms
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism

MECHANISM = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)


def release(mechanism: Mechanism = MECHANISM) -> Release:
    return Release(
        id="0" * 16, stage="finetune", data="phantoms", mu=mechanism.mu, mechanism=mechanism
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).claim(release(), fingerprint="f", block_steps=20)
    return path


def test_reserved_steps_stay_spent_when_the_process_dies(path: Path) -> None:
    assert Ledger(path).reserve(20) == range(20)
    after_crash = Ledger(path)
    assert after_crash.resumed(0) == range(20, 20)
    assert after_crash.reserve(20) == range(20, 40)
    assert after_crash.spent().mu == pytest.approx(math.sqrt(40) / 5)
    assert after_crash.spent().steps == 40


def test_a_clean_stop_leaves_the_untouched_steps_of_its_block(path: Path) -> None:
    ledger = Ledger(path)
    ledger.reserve(20)
    ledger.note_stop(7)
    assert Ledger(path).spent_steps == 20
    assert Ledger(path).resumed(5) == range(20, 20)  # an older checkpoint gets nothing back
    resumed = Ledger(path)
    assert resumed.resumed(7) == range(7, 20)
    assert Ledger(path).resumed(7) == range(20, 20)  # they can't be handed out twice


def test_the_budget_is_never_exceeded(path: Path) -> None:
    ledger = Ledger(path)
    for _ in range(3):
        ledger.reserve(20)
    with pytest.raises(InputError, match="exceed the budget"):
        ledger.reserve(1)
    assert ledger.steps_left == 0


def test_a_torn_last_line_counts_as_a_whole_block(path: Path) -> None:
    Ledger(path).reserve(20)
    whole = path.read_bytes()
    Ledger(path).reserve(1)
    torn = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + torn[: len(torn) // 2])
    assert Ledger(path).spent_steps == 40
    assert Ledger(path).reserve(20) == range(40, 60)
    assert Ledger(path).spent_steps == 60


def test_a_torn_block_never_exceeds_the_budget(path: Path) -> None:
    ledger = Ledger(path)
    for steps in (20, 20, 19):
        ledger.reserve(steps)
    path.write_bytes(path.read_bytes() + b'{"event"')
    assert Ledger(path).spent_steps == 60


def test_a_ledger_of_another_mechanism_or_other_data_is_refused(path: Path) -> None:
    Ledger(path).claim(release(), fingerprint="f", block_steps=20)
    louder = MECHANISM.with_noise(6.0)
    with pytest.raises(InputError, match="belongs to another release"):
        Ledger(path).claim(release(louder), fingerprint="f", block_steps=20)
    with pytest.raises(InputError, match="data set has changed"):
        Ledger(path).claim(release(), fingerprint="g", block_steps=20)


def test_a_run_keeps_the_noise_that_it_began_with_when_calibration_has_changed(path: Path) -> None:
    planned = release(MECHANISM.with_noise(5.0 * (1 + 5e-4)))
    kept = Ledger(path).claim(planned, fingerprint="f", block_steps=20)
    assert kept == release()
    assert Ledger(path).spent() == release().after(0)
    for other in (
        release(MECHANISM.with_noise(5.02)),
        planned.model_copy(
            update={"mechanism": planned.mechanism.model_copy(update={"steps": 59})}
        ),
        planned.model_copy(update={"data": "another"}),
    ):
        with pytest.raises(InputError, match="belongs to another release"):
            Ledger(path).claim(other, fingerprint="f", block_steps=20)


def test_a_state_ahead_of_its_ledger_is_refused(path: Path) -> None:
    Ledger(path).reserve(20)
    with pytest.raises(InputError, match="fewer steps than the checkpoint"):
        Ledger(path).resumed(21)


def test_nothing_is_reserved_without_a_release(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no release"):
        Ledger(tmp_path / "ledger.jsonl").reserve(1)


def test_what_a_statement_is_made_of_comes_back(path: Path) -> None:
    terms = Terms(
        subject="classifier", delta=1e-4, population=600, target=6.0, release=release(),
        ancestors=Lineage(releases=(release().model_copy(update={"id": "1" * 16}),)),
    )  # fmt: skip
    ledger = Ledger(path)
    assert (ledger.terms, ledger.counted) == (None, None)
    ledger.note_terms(terms)
    ledger.note_terms(terms)
    ledger.reserve(20)
    again = Ledger(path)
    assert (again.terms, again.counted) == (terms, release().after(20))
    assert path.read_bytes().count(b'"event": "terms"') == 1
    newer = terms.model_copy(update={"release": None})
    again.note_terms(newer)
    assert (Ledger(path).terms, Ledger(path).counted) == (newer, None)


def test_a_ledger_of_the_first_format_is_read_and_gone_on_with(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = path.with_name("old.jsonl")
    with monkeypatch.context() as patched:
        patched.setattr(journals, "FORMAT", 1)
        Ledger(old).claim(release(), fingerprint="f", block_steps=20)
        Ledger(old).reserve(20)
    assert b'"format": 1' in old.read_bytes()
    assert (Ledger(old).spent_steps, Ledger(old).terms) == (20, None)
    Ledger(old).reserve(20)
    Ledger(old).reserve(20)
    assert old.read_bytes().count(b'"format": 2') == 1  # from here on no earlier version reads it
    assert Ledger(old).spent_steps == 60

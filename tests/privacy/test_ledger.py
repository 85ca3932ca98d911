import math
from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.privacy.ledger import Ledger, Lineage, Release, record_release
from synthdp.privacy.mechanism import Mechanism

MECHANISM = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)


def release(mu: float = MECHANISM.mu, **values: object) -> Release:
    return Release(stage="finetune", data="phantoms", mu=mu, mechanism=MECHANISM, **values)


def test_releases_compose_in_mu_and_count_once() -> None:
    first, second = release(3.0), release(4.0)
    lineage = Lineage(releases=(first,)).joined([Lineage(releases=(first, second))])
    assert lineage.mu == pytest.approx(5.0)
    assert Lineage().mu == 0.0


def test_an_unprotected_ancestor_is_infinite_and_named() -> None:
    lineage = Lineage(releases=(release(), release(math.inf, note="no noise")))
    assert math.isinf(lineage.mu)
    assert [found.note for found in lineage.unprotected] == ["no noise"]
    assert Lineage.model_validate_json(lineage.model_dump_json()) == lineage


def test_reserved_steps_stay_spent_when_the_process_dies(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open(release())
    assert ledger.reserve(20) == 0
    after_crash = Ledger(tmp_path / "ledger.jsonl")
    assert after_crash.spent_steps == 20
    assert after_crash.reserve(20) == 20
    assert after_crash.spent().mu == pytest.approx(math.sqrt(40) / 5)


def test_the_budget_is_never_exceeded(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.open(release())
    ledger.reserve(50)
    with pytest.raises(InputError, match="exceed the budget"):
        ledger.reserve(20)
    assert ledger.spent_steps == 50


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).open(release())
    path.write_bytes(path.read_bytes() + b'{"event": "reserve", "fir')
    with pytest.raises(InputError, match="line 2"):
        Ledger(path)


def test_a_data_sets_ledger_notes_a_release_once(tmp_path: Path) -> None:
    path = tmp_path / "private" / "ledger.jsonl"
    one, two = release(), release()
    for found in (one, two, one):
        record_release(path, found)
    assert len(path.read_text().splitlines()) == 2

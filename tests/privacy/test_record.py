"""A data set's ledger: releases once each, nothing lost without a refusal, starts and budget."""

from pathlib import Path

import pytest

from synthdp.errors import InputError
from synthdp.privacy.lineage import Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.record import Record, recorded_releases

MECHANISM = Mechanism(noise_multiplier=5.0, steps=60, normaliser=600)


def release(name: str = "0", mechanism: Mechanism = MECHANISM) -> Release:
    return Release(
        id=name * 16, stage="finetune", data="clinic", mu=mechanism.mu, mechanism=mechanism
    )


def test_a_data_sets_ledger_notes_a_release_once(tmp_path: Path) -> None:
    path = tmp_path / "private" / "ledger.jsonl"
    one = release()
    two = one.model_copy(update={"id": "1" * 16})
    for found in (one, two, one):
        Record(path).add(found)
    assert recorded_releases(path) == (one, two)
    path.write_bytes(path.read_bytes() + b'{"event": "rel')  # never returned, so never begun
    assert recorded_releases(path) == (one, two)
    three = one.model_copy(update={"id": "2" * 16})
    Record(path).add(three)
    assert recorded_releases(path) == (one, two, three)


def test_a_data_sets_ledger_that_lost_a_release_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Record(path).add(release())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    for use in (recorded_releases, lambda torn: Record(torn).add(release())):
        with pytest.raises(InputError, match="last line is damaged"):
            use(path)
    path.unlink()
    with pytest.raises(InputError, match="lines are missing"):
        recorded_releases(path)

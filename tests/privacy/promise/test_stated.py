"""Statements read from files: none is believed that promises more than its record or lineage."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import clinic_set, received_run, without_mark

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.plan import plan_privacy, statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import (
    FOR_RADIOGRAPHS,
    OnRecord,
    joined_statement,
    make_statement,
)
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.release import release as copy_out
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, write_json

Edit = Callable[[dict[str, Any]], dict[str, Any]]


def finished(out: Path, data: Path, *, epsilon: float = 6, stage: str = "mix-generators") -> Path:
    """A finished run that has one private release on a data set, and no model."""
    privacy = PrivacySettings(epsilon=epsilon, delta=1e-3, population=50)
    with open_run(out, stage, PrivacySettings()) as run:
        plan = plan_privacy(
            open_dataset(data),
            privacy,
            stage="finetune",
            subject="classifier",
            ancestors=Lineage(),
            cohort=None,
            n_units=50,
        ).with_release_id(run.release_id)
        plan.record(Ledger(run.ledger_path))
        run.finish(plan.statement, "card")
    return out


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clinic_set(tmp_path_factory.mktemp("clinic") / "clinic")


@pytest.fixture(scope="module")
def run(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished(tmp_path_factory.mktemp("runs") / "run", clinic)


def halved_odds(content: dict[str, Any]) -> dict[str, Any]:
    odds = {name: value and value / 2 for name, value in content["odds"].items()}
    return {**content, "odds": odds}


EDITS: dict[str, Edit] = {
    "epsilon": lambda stated: {**stated, "epsilon": 1.0},
    "epsilon_stage": lambda stated: {**stated, "epsilon_stage": 1.0},
    "lineage": lambda stated: {**stated, "lineage": {"releases": []}, "epsilon": 0.0},
    "unit": lambda stated: {**stated, "unit": "image"},
    "neighbours": lambda stated: {**stated, "neighbours": "add or remove one hospital"},
    "delta": lambda stated: {**stated, "delta": 1e-9},
    "population": lambda stated: {**stated, "population": 5_000},
    "smallest_population": lambda stated: {**stated, "smallest_population": 49},
    "odds": halved_odds,
    "not_covered": lambda stated: {**stated, "not_covered": []},
    "cohorts": lambda stated: {**stated, "cohorts": [{"patients": "all", "epsilon": 0.1}]},
    "patient": lambda stated: {
        **stated,
        "patient": {"images_per_patient": 1, "epsilon": 0.1, "odds": stated["odds"]},
    },
    "risk": lambda stated: {**stated, "risk": {"found": 0.011, "false_alarms": 0.01}},
}


@pytest.mark.parametrize("field", EDITS)
def test_no_edited_field_is_believed(field: str, run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    edited = EDITS[field](read_json(run / "privacy.json"))
    write_json(copy / "privacy.json", edited)
    with pytest.raises(InputError, match=rf"promises more than what was spent .*{field}"):
        read_statement(copy)
    assert main(["privacy", str(copy)]) == EXIT_BAD_INPUT


@pytest.mark.parametrize("field", sorted(EDITS.keys() - {"lineage", "risk", "delta"}))
def test_what_a_received_file_names_bounds_what_it_promises(
    field: str, run: Path, tmp_path: Path
) -> None:
    copy = received_run(run, tmp_path / "copy")
    write_json(copy / "privacy.json", EDITS[field](read_json(run / "privacy.json")))
    with pytest.raises(
        InputError, match=r"privacy\.json: (promises more|privacy\.unit is image|delta)"
    ):
        read_statement(copy)


def test_a_statement_from_before_radiographs_is_read_and_made_in_todays_words(
    run: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    stated = read_json(run / "privacy.json")
    before = [words for words in stated["not_covered"] if words != FOR_RADIOGRAPHS]
    assert len(before) == len(stated["not_covered"]) - 1
    write_json(copy / "privacy.json", {**stated, "not_covered": before})
    assert FOR_RADIOGRAPHS in read_statement(copy).not_covered


def test_a_received_file_without_its_releases_is_refused(run: Path, tmp_path: Path) -> None:
    copy = received_run(run, tmp_path / "copy")
    stated = read_json(run / "privacy.json")
    write_json(copy / "privacy.json", {**stated, "lineage": {"releases": []}})
    with pytest.raises(InputError, match="more than its releases spent"):
        read_statement(copy)


def test_a_received_statement_says_on_whom_it_rests(run: Path, tmp_path: Path) -> None:
    copy = received_run(run, tmp_path / "copy")
    text = statement_text(read_statement(copy))
    words = "the statement of the classifier (finetune on clinic) rests on whoever sent it"
    assert words in text
    assert "rests on" not in statement_text(read_statement(run))


def test_the_text_of_a_file_can_not_make_other_text_of_the_statement(
    run: Path, tmp_path: Path
) -> None:
    copy = received_run(run, tmp_path / "copy")
    stated = read_json(run / "privacy.json")
    stated["lineage"]["releases"][0]["note"] = "x\n\n**Privacy: epsilon = 0.1**\n\n<b>[a](b)"
    write_json(copy / "privacy.json", stated)
    text = statement_text(read_statement(copy))
    assert "**Privacy: epsilon" not in text
    assert "<b>" not in text
    stated["subject"] = "classifier: epsilon = 0"
    write_json(copy / "privacy.json", stated)
    with pytest.raises(InputError, match="not a statement"):
        read_statement(copy)


def test_a_run_whose_record_is_lost_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    for name in ("ledger.jsonl", "ledger.head"):
        (copy / "private" / name).unlink()
    with pytest.raises(InputError, match="the run's ledger is lost"):
        read_statement(copy)
    shutil.rmtree(copy / "private")  # and is no received run, whose promise rests on a sender
    with pytest.raises(InputError, match="the run's ledger is lost"):
        read_statement(copy)
    without_mark(Path(shutil.copytree(run, tmp_path / "unmarked")))
    (tmp_path / "unmarked" / "private" / "ledger.jsonl").write_text("")
    (tmp_path / "unmarked" / "private" / "ledger.head").unlink()
    with pytest.raises(InputError, match="no record of what the run promises"):
        read_statement(tmp_path / "unmarked")


def test_the_record_of_another_run_is_refused(run: Path, clinic: Path, tmp_path: Path) -> None:
    cheap = finished(tmp_path / "cheap", clinic, epsilon=1)
    for marked in (True, False):
        copy = Path(shutil.copytree(run, tmp_path / f"copy-{marked}"))
        for name in ("privacy.json", "private/ledger.jsonl", "private/ledger.head"):
            shutil.copyfile(cheap / name, copy / name)
        if not marked:
            without_mark(copy)
        with pytest.raises(InputError, match="ledger is of another run"):
            read_statement(copy)


def older(run: Path, out: Path, data: Path | None) -> Path:
    """The run as an earlier version left it: no record of its own, and its settings name `data`."""
    without_mark(Path(shutil.copytree(run, out)))
    for name in ("ledger.jsonl", "ledger.head"):
        (out / "private" / name).unlink()
    stated = read_json(out / "privacy.json")
    new = {"smallest_population", "on_record", "patient", "risk"}
    kept = {key: value for key, value in stated.items() if key not in new}
    write_json(out / "privacy.json", {**kept, "schema_version": 2})
    (out / "config.yaml").write_text("seed: 0\n" if data is None else f"data: {data}\n")
    return out


def test_a_run_of_an_earlier_version_is_read_by_the_ledger_of_its_data_set(
    run: Path, clinic: Path, tmp_path: Path
) -> None:
    old = older(run, tmp_path / "old", clinic)
    assert read_statement(old).epsilon == read_statement(run).epsilon
    stated = read_json(old / "privacy.json")
    emptied = {**stated, "lineage": {"releases": []}, "epsilon": 0.0, "epsilon_stage": 0.0}
    write_json(old / "privacy.json", emptied)
    with pytest.raises(InputError, match="leaves out the release of the run itself"):
        read_statement(old)
    (old / "config.yaml").write_text(f"data: {tmp_path / 'moved'}\n")
    with pytest.raises(InputError, match="put the data set back"):
        read_statement(old)


# Sets that hold no patients, whose lineage their own ledger has.


def test_an_edited_lineage_of_a_synthetic_set_is_not_believed(tmp_path: Path) -> None:
    exposed = Lineage(releases=(Release(stage="train-gan", data="clinic", mu=math.inf),))
    made = clinic_set(tmp_path / "made", "synthetic", lineage=exposed)
    about = read_json(made / "dataset.json")
    assert math.isinf(statement_of([made]).epsilon)
    emptied = {**about, "lineage": {"releases": []}}
    for edited in (emptied, {**emptied, "ledger": None}):
        write_json(made / "dataset.json", edited)
        with pytest.raises(InputError, match="says of what its images were made"):
            statement_of([made])
        with pytest.raises(InputError, match="says of what its images were made"):
            copy_out(made, tmp_path / "out")


def test_patients_do_not_become_made_up_by_an_edit(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "clinic")
    write_json(data / "dataset.json", {**read_json(data / "dataset.json"), "kind": "synthetic"})
    with pytest.raises(InputError, match="or of whether they are patients'"):
        open_dataset(data)


@pytest.mark.parametrize("mark", ["kept", "emptied"])
def test_made_images_do_not_become_patients_by_an_edit(tmp_path: Path, mark: str) -> None:
    """As patients they would have no ancestors: those stand in the first line of their ledger."""
    exposed = Lineage(releases=(Release(stage="train-gan", data="clinic", mu=math.inf),))
    made = clinic_set(tmp_path / "made", "synthetic", lineage=exposed)
    about = {**read_json(made / "dataset.json"), "kind": "real", "lineage": {"releases": []}}
    if mark == "emptied":
        about["ledger"] = None
    write_json(made / "dataset.json", about)
    for use in (open_dataset, lambda data: statement_of([data])):
        with pytest.raises(InputError, match="or of whether they are patients'"):
            use(made)


def test_the_lineage_of_a_received_set_is_said_to_rest_on_its_file(tmp_path: Path) -> None:
    made = clinic_set(tmp_path / "made", "synthetic")
    assert "No patient's image went into it" in statement_text(statement_of([made]))
    copy_out(made, tmp_path / "received")
    text = statement_text(statement_of([tmp_path / "received"]))
    assert "epsilon = 0 for each patient, as declared by the importer or the sender" in text
    assert "made were made from rests on its dataset.json" in text


# Joined statements.


def by_population(population: int, *, delta: float, stage: str = "finetune") -> Release:
    mechanism = Mechanism.reaching(epsilon=1, delta=delta, steps=1, normaliser=population)
    return Release(stage=stage, data=f"set-{population}", mu=mechanism.mu, mechanism=mechanism)


def test_joined_statements_hold_delta_against_the_largest_and_guess_from_the_smallest() -> None:
    few, many = (
        make_statement(
            Lineage(releases=(by_population(n, delta=delta),)),
            subject="model",
            delta=delta,
            population=n,
        )
        for n, delta in ((50, 1e-3), (50_000, 1e-6))
    )
    joined = joined_statement([few, many], subject="collection")
    assert (joined.population, joined.smallest_population) == (50_000, 50)
    assert joined.delta == 1e-6  # at 1e-3, N x delta would be 50
    assert joined.odds.reidentified is not None
    assert few.odds.reidentified is not None
    assert joined.odds.reidentified >= few.odds.reidentified
    text = statement_text(joined)
    assert "at most 50000 (declared), N x delta = 0.05" in text
    assert "A 1-in-50 guess" in text


def test_the_unit_of_several_is_that_of_their_releases_in_any_order() -> None:
    free = Release(stage="train-gan", data="clinic", mu=math.inf)
    by_image = Release(stage="finetune", data="clinic", unit="image", mu=1.0)
    both = make_statement(Lineage(releases=(free, by_image)), subject="model", unit="image")
    phantoms = make_statement(Lineage(), subject="data set")
    for statements in ([phantoms, both], [both, phantoms]):
        assert joined_statement(statements, subject="collection").unit == "image"


def test_a_calibration_on_another_population_is_held_against_both() -> None:
    trained = by_population(50_000, delta=1e-6)
    lineage = Lineage(releases=(trained, by_population(50, delta=1e-3, stage="calibrate")))
    with pytest.raises(InputError, match="not below 1/50000"):
        make_statement(lineage, subject="classifier", delta=1e-3, population=50)
    made = make_statement(lineage, subject="classifier", delta=1e-6, population=50)
    assert (made.population, made.smallest_population) == (50_000, 50)
    assert "exact figures of the patients of set-50 whose scores the calibration" in (
        statement_text(made)
    )


# What else is on record.


def test_statements_tell_what_else_is_on_record_of_the_patients(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "clinic")
    nothing = statement_text(statement_of([data])).splitlines()[0]
    assert "Nothing is on record as released of its patients" in nothing
    assert "No patient's image went into it" not in nothing
    first = finished(tmp_path / "first", data)
    assert "On record" not in statement_text(read_statement(first))
    (first / "config.yaml").write_text(f"data: {data}\n")
    for number in range(5):
        finished(tmp_path / f"{number}", data, epsilon=3)
    whole = statement_of([data])
    assert whole.delta == 1e-3  # of the runs, as their population is
    assert whole.population == 50
    text = statement_text(statement_of([first]))
    shown = f"{math.ceil(whole.epsilon * 10) / 10:g}"
    assert f"**On record of clinic:** 5 other releases; together epsilon {shown}" in text
    both = statement_of([first, tmp_path / "0"])
    assert both.on_record[0].other_releases == 4


def test_what_is_on_record_of_a_set_that_is_gone_is_said_to_be_of_then(tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "clinic")
    finished(tmp_path / "other", data)
    first = finished(tmp_path / "first", data)
    (first / "config.yaml").write_text(f"data: {data}\n")
    assert "**On record of clinic:** 1 other release;" in statement_text(statement_of([first]))
    data.rename(tmp_path / "moved")
    text = statement_text(statement_of([first]))
    assert "**On record of clinic when the run was finished:** 1 other release;" in text


def test_two_sets_of_one_name_have_a_line_each(tmp_path: Path) -> None:
    runs = []
    for place, n_others in (("here", 2), ("there", 1)):
        data = clinic_set(tmp_path / place / "clinic")
        for number in range(n_others):
            finished(tmp_path / f"{place}-{number}", data)
        runs.append(finished(tmp_path / f"run-{place}", data))
        (runs[-1] / "config.yaml").write_text(f"data: {data}\n")
    assert [one.other_releases for one in statement_of(runs).on_record] == [2, 1]
    told = [read_statement(run) for run in runs]  # as where the sets are not at hand
    joined = joined_statement(told, subject="collection")
    assert [one.other_releases for one in joined.on_record] == [2, 1]


def test_what_was_on_record_at_a_larger_delta_is_not_passed_over() -> None:
    """At a smaller delta more was spent, and nobody can tell how much from the old figure."""
    told = OnRecord(data="set-50", other_releases=5, epsilon=16.9)
    few, many = (
        make_statement(
            Lineage(releases=(by_population(n, delta=delta),)),
            subject="model",
            delta=delta,
            population=n,
            on_record=records,
        )
        for n, delta, records in ((50, 1e-3, [told]), (50_000, 1e-6, []))
    )
    joined = joined_statement([few, many], subject="collection")
    assert joined.on_record == (told.model_copy(update={"epsilon": math.inf}),)


def test_what_leaves_is_made_again_from_the_record(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    stated = read_json(copy / "privacy.json")
    write_json(copy / "privacy.json", {**stated, "because": "**epsilon = 0**"})
    assert main(["privacy", str(copy)]) == EXIT_DONE
    assert "epsilon = 0" not in capsys.readouterr().out
    write_json(copy / "privacy.json", {**stated, "lineage": {"releases": []}})
    with pytest.raises(InputError, match="lineage"):
        copy_out(copy, tmp_path / "out")
    assert json.loads((run / "privacy.json").read_text()) == stated

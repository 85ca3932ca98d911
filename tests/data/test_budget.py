"""The budget of a set of patients: set at import, shown, raised by a command with a reason."""

import json
from pathlib import Path

import pytest
from made_up import clinic_set

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.data.budget import budget_words, change_budget
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.privacy.accounting.bounds import at_most
from synthdp.privacy.accounting.gaussian import gaussian_epsilon
from synthdp.privacy.ledger.budget import Budget
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import Record
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise import plan as plans
from synthdp.privacy.promise.plan import PrivacyPlan, plan_privacy
from synthdp.privacy.settings import PrivacySettings
from synthdp.privacy.units import Unit
from synthdp.status import RunStatus, read_status, write_status


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "clinic")


def planned(data: Path, epsilon: float | None) -> PrivacyPlan:
    privacy = PrivacySettings(epsilon=epsilon, delta=1e-3, population=50)
    return plan_privacy(
        open_dataset(data),
        privacy,
        stage="finetune",
        subject="classifier",
        ancestors=Lineage(),
        cohort=None,
        n_units=50,
    )


def start(plan: PrivacyPlan, ledger: Path) -> None:
    if plan.mechanism is None:
        plan.record(Ledger(ledger))
    else:
        plan.claim(Ledger(ledger), fingerprint="f", block_steps=1)


def record_of(data: Path) -> Record:
    dataset = open_dataset(data)
    return Record(dataset.ledger_path, dataset.info.ledger)


def test_releases_together_stay_within_the_budget_until_it_is_raised(
    clinic: Path, tmp_path: Path
) -> None:
    change_budget(clinic, epsilon="6", delta=1e-3, because="ethics board")
    plan = planned(clinic, 4)
    start(plan, tmp_path / "a")
    start(plan, tmp_path / "a")  # a resume is on record already
    with pytest.raises(InputError, match=r"its privacy\.budget is epsilon 6.*spent 4.*would"):
        start(planned(clinic, 4), tmp_path / "b")
    assert len(record_of(clinic).releases) == 1  # what is refused is not charged
    with pytest.raises(InputError, match="it would be inf"):
        start(planned(clinic, None), tmp_path / "c")
    change_budget(clinic, epsilon="8", delta=None, because="a second board")
    assert record_of(clinic).budget == Budget(epsilon=8, delta=1e-3)
    start(planned(clinic, 4), tmp_path / "d")
    change_budget(clinic, epsilon="none", delta=None, because="no longer")
    start(planned(clinic, None), tmp_path / "e")
    lines = open_dataset(clinic).ledger_path.read_text().splitlines()
    logged = [json.loads(line) for line in lines if '"budget"' in line]
    assert [line["because"] for line in logged] == ["ethics board", "a second board", "no longer"]


def begun(plan: PrivacyPlan, run: Path, *, recorded: bool) -> None:
    """A run's folder, whose release is on record or was refused."""
    run.mkdir()
    write_status(run, RunStatus(stage="finetune", state="failed", release=plan.release.id))
    if recorded:
        start(plan, run / "private" / "ledger.jsonl")


def test_a_run_that_is_on_record_is_asked_for_nothing_more(clinic: Path, tmp_path: Path) -> None:
    change_budget(clinic, epsilon="6", delta=1e-3, because="ethics board")
    begun(planned(clinic, 6), tmp_path / "run", recorded=True)
    begun(planned(clinic, 6), tmp_path / "refused", recorded=False)
    plan = planned(clinic, 6)  # its release has another id, as in every dry run
    plan.statement_to_come(tmp_path / "run")
    for run in ("refused", "another"):
        with pytest.raises(InputError, match="spent 6, with this one it would be"):
            plan.statement_to_come(tmp_path / run)


@pytest.mark.parametrize("looked", ["before", "after"])
def test_a_run_that_another_process_begins_meanwhile_counts_once(
    clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: str
) -> None:
    """As when two shards of a study start, and one is at work while the other plans."""
    change_budget(clinic, epsilon="6", delta=1e-3, because="ethics board")

    def read(run: Path) -> RunStatus | None:
        seen = read_status(run) if looked == "before" else None
        begun(planned(clinic, 6), run, recorded=True)
        return seen if looked == "before" else read_status(run)

    monkeypatch.setattr(plans, "read_status", read)
    planned(clinic, 6).statement_to_come(tmp_path / "run")
    assert len(record_of(clinic).releases) == 1


def test_a_whole_budget_can_be_spent_at_once(clinic: Path, tmp_path: Path) -> None:
    change_budget(clinic, epsilon="6", delta=1e-3, because="ethics board")
    start(planned(clinic, 6), tmp_path / "a")
    with pytest.raises(InputError, match="budget"):
        start(planned(clinic, 0.1), tmp_path / "b")


def test_a_promise_to_another_unit_is_outside_the_budget(clinic: Path, tmp_path: Path) -> None:
    change_budget(clinic, epsilon="6", delta=1e-3, because="ethics board")
    release = planned(clinic, 1).release.model_copy(update={"unit": "image"})
    with pytest.raises(InputError, match="for each patient, and this stage promises"):
        record_of(clinic).add(release)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"epsilon": "6", "delta": None, "because": "x"}, "delta: missing"),
        ({"epsilon": "6", "delta": 2.0, "because": "x"}, "less than 1"),
        ({"epsilon": "-1", "delta": 0.1, "because": "x"}, "greater than 0"),
        ({"epsilon": "six", "delta": 0.1, "because": "x"}, "epsilon"),
        ({"epsilon": "6", "delta": 0.1, "because": " "}, "--because is missing"),
    ],
)
def test_a_budget_that_is_none_is_refused(
    clinic: Path, values: dict[str, object], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        change_budget(clinic, **values)  # type: ignore[arg-type]
    assert record_of(clinic).budget == Budget()


def test_the_command_shows_and_raises_it(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "budget", str(clinic)]) == EXIT_DONE
    assert "none is set; on record: 0 release(s)" in capsys.readouterr().out
    raised = ["--epsilon", "9", "--delta", "1e-4", "--because", "board"]
    assert main(["data", "budget", str(clinic), *raised]) == EXIT_DONE
    assert "budget for each patient: epsilon 9; on record: 0" in capsys.readouterr().out
    assert main(["data", "budget", str(clinic), "--because", "board"]) == EXIT_BAD_INPUT


def test_a_set_without_patients_needs_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no patients"):
        budget_words(clinic_set(tmp_path / "made", "phantom"))


def by_unit(unit: Unit, *, bound: int | None = None) -> Release:
    mechanism = Mechanism(unit=unit, noise_multiplier=2, steps=1, normaliser=50)
    return Release(
        stage="finetune",
        data="clinic",
        unit=unit,
        mu=mechanism.mu,
        mechanism=mechanism,
        images_per_patient=bound,
    )


def test_releases_that_protect_images_count_for_what_they_cost_a_patient(clinic: Path) -> None:
    record = record_of(clinic)
    record.add(by_unit("image", bound=4))
    change_budget(clinic, epsilon="8", delta=1e-3, because="ethics board")
    spent = at_most(gaussian_epsilon(4 * 0.5, 1e-3), digits=3)
    assert f"1 release(s), together epsilon {spent} at delta 0.001" in budget_words(clinic)
    record.add(by_unit("patient"))
    with pytest.raises(InputError, match=r"spent 7\.891, with this one it would be 8\.194"):
        record.add(by_unit("patient"))


def test_nothing_is_left_after_a_release_that_bounds_no_images_of_a_patient(clinic: Path) -> None:
    record = record_of(clinic)
    record.add(by_unit("image"))
    change_budget(clinic, epsilon="1000", delta=1e-3, because="too late")
    with pytest.raises(InputError, match="spent inf"):
        record.add(by_unit("patient"))


def test_a_release_that_protects_patients_costs_an_image_what_two_of_them_do() -> None:
    budget = Budget(epsilon=3, delta=1e-3, unit="image")
    budget.refuse_overspent([by_unit("image")], [by_unit("image")])
    with pytest.raises(InputError, match="would be"):  # mu is 0.5 and 1, no 0.5 twice
        budget.refuse_overspent([by_unit("patient")], [by_unit("image")])

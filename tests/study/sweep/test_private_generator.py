"""A study that trains a private generator for each cell, so that its epsilons are end to end."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from made_up import GENERATOR_ARMS as ARMS
from made_up import clinic_set, of_own_generator

from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError, RunError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.folder import StageCall
from synthdp.storage.files import read_json
from synthdp.study import estimate
from synthdp.study.compare.results import read_results
from synthdp.study.estimate import study_estimate
from synthdp.study.plan import plan_study
from synthdp.study.private_generator import generator_epsilon
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid, parent_of


@pytest.mark.parametrize("epsilon", [0.5, 1, 6])
def test_the_generator_spends_its_share_of_mu_squared_and_no_more(epsilon: float) -> None:
    for share in (0.1, 0.3, 0.9):
        own = gaussian_mu(generator_epsilon(epsilon, 1e-4, share), 1e-4)
        most = share * gaussian_mu(epsilon, 1e-4) ** 2
        assert own**2 <= most * (1 + 1e-6)
        assert own**2 == pytest.approx(most, rel=1e-3)


def test_each_fold_has_a_generator_of_its_own_that_never_met_the_patients_held_out(
    values: dict[str, object],
) -> None:
    rows = expand_grid(of_own_generator(values))
    stages = {(row.strategy, str(row.fold)): [call.stage for call in row.calls] for row in rows}
    assert stages == {
        (arm, fold): steps
        for arm, steps in zip(
            ARMS,
            (["finetune"], ["train-gan", "generate", "finetune"],
             ["train-gan", "generate", "pretrain", "finetune"]),
            strict=True,
        )
        for fold in ("1/2", "2/2")
    }  # fmt: skip
    generators = {}
    for row in rows:
        for call in row.calls:
            assert call.setting("leave_out") in (None, row.fold)
        if len(row.calls) > 1:
            first, second, third, *_ = row.calls
            assert (parent_of(second), parent_of(third)) == (first.folder, second.folder)
            assert first.setting("leave_out") == row.fold
            generators[row.strategy, row.fold] = first.folder
    assert len(set(generators.values())) == 2  # shared by both recipes


def test_without_privacy_the_generator_has_none(values: dict[str, object]) -> None:
    rows = expand_grid(of_own_generator(values, epsilons=[None], strategies=ARMS[1:2]))
    assert {row.calls[0].setting("privacy").epsilon for row in rows} == {None}


def test_the_study_keeps_its_epsilon_end_to_end_and_says_so_before(
    values: dict[str, object],
) -> None:
    settings = of_own_generator(values)
    assert "minute" in study_estimate(settings)
    planned = plan_study(settings).epsilon
    run_study(settings)
    rows = {row.strategy: row for row in read_results(settings.out / "results.csv")}
    assert set(rows) == set(ARMS)
    for arm, row in rows.items():
        assert row.state == "finished"
        assert row.epsilon_end_to_end == pytest.approx(6, rel=1e-4)
        assert row.epsilon_stage is not None
        assert (row.epsilon_stage < 5) == (arm != "real_only")
        stated = read_statement(settings.out / "runs" / row.run)
        releases = stated.lineage.releases
        assert len(releases) == (1 if arm == "real_only" else 2)
        assert {release.note for release in releases} == {"without fold 1/2"}
    assert math.isfinite(planned)
    assert read_statement(settings.out).epsilon == pytest.approx(planned, rel=1e-6)
    run_study(settings)  # finished: nothing is made again


def test_patients_and_pool_are_looked_at_once_for_all_generators_that_select(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate counts the features of all images once, however many generators there are."""
    settings = of_own_generator(values, epsilons=[1, 6])
    own = settings.private_generator
    assert own is not None
    pool = Path(str(own.train["embedding"]["public"]))
    selecting = {
        "method": "selection",
        "size_px": 32,
        "channels": [8, 8, 8],
        "selection": {
            "features": {"name": "test_efficientnet"},
            "tokens": {"name": "test_vit"},
            "pool": [pool],
            "images": 2,
            "components": 4,
        },
    }
    settings = settings.model_copy(
        update={"private_generator": own.model_copy(update={"train": selecting})}
    )
    monkeypatch.setattr(estimate, "SECONDS_A_SELECTED", 0)
    rows = expand_grid(settings)
    without = estimate.study_seconds(settings, rows)
    monkeypatch.setattr(estimate, "SECONDS_A_SELECTED", 1)
    n_images = sum(len(open_dataset(path).rows) for path in (settings.data, pool))
    assert len({call.out for row in rows for call in row.calls if call.stage == "train-gan"}) > 2
    assert estimate.study_seconds(settings, rows) - without == pytest.approx(n_images)


def test_a_generator_whose_classifier_failed_is_counted(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = of_own_generator(values, strategies=["real_and_private_synthetic"])
    real = sweep.run_alike

    def failing(calls: Sequence[StageCall]) -> list[Exception | None]:
        if calls[0].stage == "finetune":
            return [ValueError()] * len(calls)
        return real(calls)

    monkeypatch.setattr(sweep, "run_alike", failing)
    with pytest.raises(RunError, match="2 run"):
        run_study(settings)
    generators = [row.calls[0].out for row in expand_grid(settings)]
    spent = {one.id for run in generators for one in read_statement(run).lineage.releases}
    assert len(spent) == 2
    stated = read_json(settings.out / "privacy-dp.json")["lineage"]["releases"]
    assert {one["id"] for one in stated} == spent


def test_values_are_tuned_beside_generators_that_are_still_to_come(
    values: dict[str, object], tmp_path: Path
) -> None:
    data = clinic_set(tmp_path / "patients", "phantom", as_real=True)
    changes = {"data": data, "cross_validation": None, "strategies": ARMS[:2],
               "evaluate_on": [{"data": data, "split": "train"}],
               "tune": {"finetune.head.steps": [10, 20]}}  # fmt: skip
    assert math.isfinite(plan_study(of_own_generator(values, **changes)).epsilon)


def test_a_share_that_is_worth_no_epsilon_is_refused() -> None:
    with pytest.raises(InputError, match="leaves the generator nothing to say"):
        generator_epsilon(0.01, 1e-4, 0.001)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"private_synthetic": "somewhere"}, "private_synthetic: the study trains its own"),
        ({"private_generator": {"train": {"method": "embedding", "seed": 1}}}, "itself gives"),
        ({"private_generator": {"train": {}, "mu_share": 0.95}}, "mu_share"),
    ],
)
def test_what_does_not_fit_is_refused(
    values: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        of_own_generator(values, **changes)

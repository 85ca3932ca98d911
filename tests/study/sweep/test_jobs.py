"""Which runs of a study are made together."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from made_up import clinic_set, study_settings

from classify.settings.finetune import FinetuneSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.errors import InputError
from synthdp.runs.folder import RunBusyError, StageCall
from synthdp.study.settings import EngineSettings
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.engine import opened_engine
from synthdp.study.sweep.grid import expand_evaluations, expand_grid, parent_of
from synthdp.study.sweep.progress import StudyProgress
from synthdp.study.sweep.run import attempt_together, calls_in_order, jobs_for, run_calls


@pytest.fixture
def study(values: dict[str, object], tmp_path: Path) -> dict[str, object]:
    """Heads on a network from a file, whose features no seed decides."""
    backbone = {"name": "test_vit", "size_px": 32, "weights": "w.safetensors", "sha256": "0" * 64}
    return {
        **values,
        "phantoms": clinic_set(tmp_path / "phantoms", "phantom"),
        "strategies": ["real_only", "paper", "blocks_only"],
        "epsilons": [1, 6, 12, "none"],
        "seeds": [0, 1, 2],
        "backbone": backbone,
    }


def sizes(calls: list[StageCall], n_workers: int) -> Counter[int]:
    jobs = jobs_for(calls, n_workers)
    folders = [call.folder for job in jobs for call in job]
    assert sorted(folders) == sorted(call.folder for call in calls), "each call is in one job"
    return Counter(map(len, jobs))


def test_heads_of_one_recipe_at_all_epsilons_and_seeds_are_one_job(
    study: dict[str, object],
) -> None:
    calls = [row.calls[-1] for row in expand_grid(study_settings(study))]
    assert len(calls) == 36
    # 9 with a promise and 3 without of `real_only`; all others have products of their own
    assert sizes(calls, 1) == {9: 1, 3: 1, 1: 24}


def test_jobs_are_as_many_as_keep_all_workers_at_work(study: dict[str, object]) -> None:
    only = {**study, "strategies": ["real_only"], "epsilons": [1, 6, 12]}
    calls = [row.calls[-1] for row in expand_grid(study_settings(only))]
    assert sizes(calls, 1) == {9: 1}
    assert sizes(calls, 2) == {2: 4, 1: 1}
    assert sizes(calls, 100) == {1: 9}


def test_tuned_rates_are_one_job(study: dict[str, object]) -> None:
    tuned = {
        **study,
        "data": study["phantoms"],
        "evaluate_on": [{"data": study["phantoms"], "split": "train"}],
        "phantoms": None,
        "strategies": ["real_only"],
        "epsilons": [6],
        "tune": {"finetune.head.lr_times_steps": [10, 20, 40]},
    }
    settings = study_settings({key: value for key, value in tuned.items() if value is not None})
    calls = [row.calls[-1] for row in expand_grid(settings)]
    assert sizes(calls, 1) == {9: 1}


def test_evaluations_on_one_split_are_one_job(study: dict[str, object]) -> None:
    settings = study_settings(study)
    rows = expand_grid(settings)
    calls = [one.call for one in expand_evaluations(settings, rows)]
    assert sizes(calls, 1) == {36: 1}
    assert sizes(calls, 2) == {9: 4}


def test_a_model_and_what_scores_it_are_one_job(study: dict[str, object]) -> None:
    settings = study_settings(study)
    rows = expand_grid(settings)
    models = [row.calls[-1] for row in rows]
    scores = [one.call for one in expand_evaluations(settings, rows)]
    for job in jobs_for([*models, *scores], 2):
        trained, scored = (
            [c for c in job if (c.stage == "evaluate") == is_one] for is_one in (0, 1)
        )
        assert job == (*trained, *scored)
        assert [parent_of(call) for call in scored] == [call.folder for call in trained]


def test_seeds_go_one_after_the_other_and_of_a_seed_what_takes_little_first(
    study: dict[str, object], tmp_path: Path
) -> None:
    more = {
        "synthetic": clinic_set(tmp_path / "synthetic", "synthetic"),
        "strategies": ["phantoms_then_finetune", "blocks_only", "real_and_synthetic", "real_only"],
        "pretrain": {"trainable_blocks": 1, "epochs": 1},
        "epsilons": [1],
    }
    rows = expand_grid(study_settings({**study, **more}))
    order = [*calls_in_order(rows)]
    names = {call.folder: (row.seed, row.strategy) for row in rows for call in row.calls}
    dear = ["real_only", "real_and_synthetic", "blocks_only", *2 * ["phantoms_then_finetune"]]
    assert [names[folder] for folder in order] == [
        (seed, name) for seed in range(3) for name in dear
    ]
    for row in rows:
        places = [order.index(call.folder) for call in row.calls]
        assert places == sorted(places)


def test_a_model_that_fails_is_not_scored_and_another_of_its_job_is(
    study: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = study_settings({**study, "strategies": ["real_only"], "seeds": [0]})
    rows = expand_grid(settings)
    calls = [*calls_in_order(rows).values(), *(e.call for e in expand_evaluations(settings, rows))]
    (job, _) = jobs_for(calls, 1)
    scored = []

    def run_alike(calls: list[StageCall]) -> list[Exception | None]:
        if calls[0].stage == "evaluate":
            scored.extend(map(parent_of, calls))
            return [None] * len(calls)
        return [InputError("diverged"), RunBusyError("elsewhere"), None]

    monkeypatch.setattr(sweep, "run_alike", run_alike)
    ended = attempt_together(job, 1)
    assert [type(error) for error in ended] == [
        *(InputError, RunBusyError, type(None)),
        *(RunBusyError, RunBusyError, type(None)),
    ]
    assert scored == [job[2].folder]


def test_what_a_run_makes_room_for_goes_before_what_still_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at = {"data": Path("data"), "out": Path("unused")}
    parents = [StageCall("pretrain", PretrainSettings(seed=n, **at)) for n in range(3)]
    children = [
        StageCall("finetune", FinetuneSettings(init=Path(call.folder), **at)) for call in parents
    ]
    begun = []

    def attempt(call: StageCall, threads: int) -> tuple[str, str | None]:
        several = parents if call in parents else children
        begun.append((call.stage, several.index(call)))
        return call.folder, "no luck" if call == parents[1] else None

    monkeypatch.setattr(sweep, "attempt", attempt)
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    asked = {call.folder: call for call in (*parents, *children)}
    with opened_engine(EngineSettings()) as engine, closing(StudyProgress(asked)) as progress:
        errors = run_calls(engine, asked, {}, progress)
    first, second, third = (("pretrain", n) for n in range(3))
    assert begun == [first, ("finetune", 0), second, third, ("finetune", 2)]
    assert [*errors] == [parents[1].folder, children[1].folder]

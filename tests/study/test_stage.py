import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from made_up import study_settings

from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.stated import parse_statement
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json, write_json
from synthdp.study.compare.aurocs import read_comparisons
from synthdp.study.compare.results import NOT_RUN, read_results
from synthdp.study.compared import registered_differences
from synthdp.study.plan import plan_study, study_statement
from synthdp.study.record import write_facts
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid
from synthdp.study.sweep.state import as_registered

UNPROTECTED = Lineage(
    releases=(Release(stage="train-gan", data="clinic", mu=math.inf, note="no noise"),)
)


def make_set(out: Path, info: DatasetInfo, seed: int) -> Path:
    """Twenty patients with two images each, the malignant ones brighter, in train and val."""
    rng = np.random.default_rng(seed)
    with create_dataset(out, info) as writer:
        for patient in range(20):
            malignant = patient % 2
            for _ in range(2):
                pixels = rng.normal(100 + 60 * malignant, 30, (32, 32)).clip(0, 255)
                writer.add(
                    pixels.astype(np.uint8),
                    patient_id=f"p-{patient}",
                    split="val" if patient >= 14 else "train",
                    targets=[malignant],
                )
    return out


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    sets = {
        "data": DatasetInfo(name="clinic", kind="real", size_px=32),
        "synthetic": DatasetInfo(
            name="synthetic", kind="synthetic", size_px=32, lineage=UNPROTECTED
        ),
        "phantoms": DatasetInfo(name="phantoms", kind="phantom", size_px=32),
    }
    paths = {key: make_set(tmp_path / key, sets[key], seed) for seed, key in enumerate(sets)}
    return {
        **paths,
        "out": tmp_path / "study",
        "strategies": ["real_only", "synthetic_only", "phantoms_then_finetune"],
        "epsilons": [6, "none"],
        "seeds": [0, 1],
        "evaluate_on": [{"data": paths["data"], "split": "val"}],
        "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "pretrain": {"trainable_blocks": "all", "epochs": 1},
        "pretrain_seed": 0,
    }


def test_the_grid_repeats_only_what_depends_on_it(values: dict[str, object]) -> None:
    rows = expand_grid(study_settings(values))
    by_strategy = {name: [r for r in rows if r.strategy == name] for name in values["strategies"]}
    assert [len(found) for found in by_strategy.values()] == [4, 1, 4]
    shared = {row.calls[0].folder for row in by_strategy["phantoms_then_finetune"]}
    assert len(shared) == 1


def test_the_plan_states_the_worst_before_any_image_is_read(values: dict[str, object]) -> None:
    for image in (values["data"] / "images").iterdir():
        image.write_bytes(b"")
    private = {"strategies": ["real_only"], "epsilons": [6]}
    assert 6 < plan_study(study_settings(values, **private, synthetic=None)).epsilon < 12
    shown = plan_study(study_settings(values, **private))  # the report shows the synthetic patches
    assert math.isinf(shown.epsilon)
    assert math.isinf(plan_study(study_settings(values)).epsilon)
    assert not (values["out"]).exists()


def test_a_study_runs_to_its_report_and_returns_at_once_when_done(
    values: dict[str, object],
) -> None:
    study = study_settings(values)
    report = run_study(study)
    assert report.is_file()
    rows = read_results(study.out / "results.csv")
    assert len(rows) == 9
    assert {row.state for row in rows} == {"finished"}
    for row in rows:
        if row.strategy == "synthetic_only" or row.epsilon is None:
            assert row.epsilon_end_to_end == math.inf
        else:
            assert row.epsilon_end_to_end == pytest.approx(6.0, rel=1e-3)
            assert row.epsilon_end_to_end <= 6.0
    compared = read_comparisons(study.out).aurocs
    assert {(row.kind, row.strategy, row.note) for row in compared if row.epsilon == 6} == {
        (kind, strategy, "")
        for kind, strategy in (
            *(("mean", name) for name in ("real_only", "phantoms_then_finetune")),
            *(("without_privacy", name) for name in ("real_only", "phantoms_then_finetune")),
            ("reference", "phantoms_then_finetune"),
        )
    }
    private = parse_statement(read_json(study.out / "privacy-dp.json"), where="privacy-dp.json")
    assert 6 < private.epsilon < 20
    before = (study.out / "results.csv").stat().st_mtime_ns
    assert run_study(study) == report
    assert (study.out / "results.csv").stat().st_mtime_ns == before
    assert "p-1" not in report.read_text()
    assert math.isinf(statement_of([study.out]).epsilon)
    ledger = statement_of([values["data"]])
    assert len(ledger.lineage.releases) == 8  # each fine-tuned model is recorded beside the set


def test_what_a_study_is_started_with_is_registered_and_stays(
    values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    pair = {"strategy": "phantoms_then_finetune", "against": "real_only"}
    small = {"strategies": list(pair.values()), "seeds": [0], "compare": {"redraws": 50}}
    plain = study_settings(values, **small)
    study = study_settings(values, **{**small, "compare": {"primary": [pair], "redraws": 50}})
    page = run_study(study).read_text()
    assert "Registered comparisons: clinic, val" in page
    assert "2 differences were registered before the study began: " in page
    assert registered_differences(study.out) == study.compare.primary
    asked = Asked(include=("scores",), rows=("all",), without_protection=True)
    release(study.out, study.out.parent / "left", asked)
    assert "Registered comparisons" in (study.out.parent / "left" / "report.html").read_text()
    other = {**pair, "epsilons": ["none"]}
    config = study.out / "config.yaml"
    started = config.read_text()
    later = read_yaml(config)
    later["compare"]["primary"] = [other]  # once its results are known, of those that were won
    config.write_text(dump_yaml(later))
    assert registered_differences(study.out) == ()
    assert "registered before" not in run_report(ReportSettings(study=study.out)).read_text()
    config.write_text(started)
    run_report(ReportSettings(study=study.out))
    fewer = study_settings(values, **{**small, "compare": {"primary": [other], "redraws": 50}})
    for changed in (fewer, plain):
        with pytest.raises(InputError, match=r"with other settings.*\n  compare\.primary"):
            run_study(changed)
    settings = read_yaml(config)
    del settings["compare"]["primary"]  # as a study that was started by an earlier version has it
    config.write_text(dump_yaml(settings))
    with caplog.at_level("INFO"):
        assert run_study(study).read_text() == page, "it is finished, and returned at once"
    assert "started without these compare.primary" in caplog.text
    assert run_study(plain).is_file()
    config.write_text(dump_yaml({**settings, "compare": None}))
    alone = study_settings(values, **{**small, "compare": {"primary": [pair]}})
    assert as_registered(alone).compare is None
    config.write_text(dump_yaml(settings))
    status = read_json(study.out / "status.json")
    write_json(study.out / "status.json", {**status, "state": "interrupted"})
    (study.out / "privacy.json").unlink()
    page = run_study(study).read_text()  # it goes on
    assert "Comparisons named after the study ran: clinic, val" in page
    assert "egistered comparisons" not in page
    assert read_yaml(config) == settings


def test_an_interrupted_study_goes_on_where_it_stood(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values, strategies=["real_only"])
    run_alike, begun = sweep.run_alike, list[str]()

    def killed(calls: Sequence[sweep.StageCall]) -> list[Exception | None]:
        begun.append(calls[0].stage)
        if len(begun) == 4:
            raise KeyboardInterrupt
        return run_alike(calls)

    monkeypatch.setattr(sweep, "run_alike", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    assert begun == ["finetune", "evaluate"] * 2, "each model is scored as soon as it stands"
    stamps = {path: path.stat().st_mtime_ns for path in study.out.glob("runs/*/status.json")}
    assert len(stamps) == 2
    rows = read_results(study.out / "results.csv")
    assert [(row.state, row.error) for row in rows] == [
        ("finished", ""),
        *[("failed", NOT_RUN)] * 3,
    ]
    assert not (study.out / "privacy.json").exists()
    monkeypatch.setattr(sweep, "run_alike", run_alike)
    run_study(study)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def test_a_failed_run_is_recorded_and_the_rest_go_on(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values, strategies=["real_only"], seeds=[0])
    run_alike = sweep.run_alike

    def failing(calls: Sequence[sweep.StageCall]) -> list[Exception | None]:
        privacy = calls[0].setting("privacy")
        if privacy is not None and privacy.epsilon is None:
            return [RunError("the head diverged")]
        return run_alike(calls)

    monkeypatch.setattr(sweep, "run_alike", failing)
    with pytest.raises(RunError, match=r"1 run\(s\) failed"):
        run_study(study)
    rows = read_results(study.out / "results.csv")
    assert [(row.state, row.error) for row in rows] == [
        ("finished", ""),
        ("failed", "the head diverged"),
    ]
    monkeypatch.setattr(sweep, "run_alike", run_alike)
    run_study(study)
    assert {row.state for row in read_results(study.out / "results.csv")} == {"finished"}


def test_what_starts_from_a_failed_run_says_so_and_is_not_run(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def failing(call: sweep.StageCall, threads: int) -> tuple[str, str | None]:
        tried.append(call.stage)
        return call.folder, "no luck"

    monkeypatch.setattr(sweep, "attempt", failing)
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    study = study_settings(values, strategies=["real_only", "phantoms_then_finetune"], seeds=[0])
    with pytest.raises(RunError, match="0 of 4 models stand"):
        run_study(study)
    assert tried == ["finetune", "finetune", "pretrain"]
    errors = [row.error for row in read_results(study.out / "results.csv")]
    assert errors == [*2 * ["no luck"], *2 * ["the run that it starts from failed: no luck"]]
    assert (study.out / "report.html").is_file()


@pytest.mark.parametrize(
    ("before", "seconds"),
    [('{"title": "t", "wall_time_s": 12.5}', 14.0), ("{", 1.5), ('{"title": "t"}', 1.5), ("", 1.5)],
)
def test_times_add_up_over_resumes_and_a_damaged_file_costs_them_alone(
    values: dict[str, object], before: str, seconds: float
) -> None:
    study = study_settings(values)
    study.out.mkdir()
    if before:
        (study.out / "study.json").write_text(before)
    write_facts(study, 1.5)
    assert read_json(study.out / "study.json")["wall_time_s"] == seconds


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"strategies": ["magic"]}, "magic: no such strategy"),
        ({"epsilons": [0]}, "epsilons.0"),
        ({"pretrain": {"epochz": 3}}, "epochz: unknown key, did you mean epochs?"),
        ({"synthetic": None}, "strategy synthetic_only needs `synthetic`"),
    ],
)
def test_a_grid_that_does_not_fit_is_refused_before_anything_runs(
    values: dict[str, object], changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        run_study(study_settings(values, **changes))
    assert not values["out"].exists()


def test_a_private_synthetic_set_is_shown_where_there_is_no_other(
    values: dict[str, object], tmp_path: Path
) -> None:
    lineage = Lineage(releases=(Release(stage="train-gan", data="clinic", mu=0.5),))
    info = DatasetInfo(name="private", kind="synthetic", size_px=32, lineage=lineage)
    private = make_set(tmp_path / "private", info, 3)
    alone = study_settings(
        values, synthetic=None, private_synthetic=private, strategies="real_only"
    )
    assert alone.shown_synthetic == private
    assert study_statement(alone, []).lineage.releases == lineage.releases  # what is shown counts
    alone.out.mkdir()
    write_facts(alone, 1.0)
    facts = read_json(alone.out / "study.json")
    assert facts["synthetic"] == str(private)
    assert facts["title"] == "clinic: privacy and utility"
    both = study_settings(values, private_synthetic=private, strategies="real_only")
    assert both.shown_synthetic == both.synthetic

import json
import math
from pathlib import Path

import pytest
import yaml
from made_up import clinic_set, study_settings

from synthdp.cli import main
from synthdp.config.yaml_core import read_yaml
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError, RunError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.folder import StageCall
from synthdp.study import stage
from synthdp.study.compare.defaults import choose, write_defaults
from synthdp.study.compare.results import (
    COLUMNS_BEFORE_TRANSFER,
    COLUMNS_BEFORE_TUNING,
    ResultRow,
    read_results,
    table_csv,
    write_results,
)
from synthdp.study.plan import plan_study
from synthdp.study.stage import run_study
from synthdp.study.sweep import run as sweep
from synthdp.study.sweep.grid import expand_grid
from synthdp.study.sweep.tuning import tuning_lineage

LR, BIAS = "finetune.head.lr_times_steps", "finetune.head.bias_input"
FREE = make_statement(Lineage(), subject="tuned settings")


def lineage(mu: float) -> Lineage:
    return Lineage(releases=(Release(stage="train-gan", data="clinic", mu=mu),))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny phantoms that stand in for patients, and free ones."""
    root = tmp_path_factory.mktemp("phantoms")
    made = {}
    for seed, name in enumerate(("patients", "free")):
        asked = PhantomSettings(
            out=root / name, name=name, patients=24, size_px=32, seed=seed, test_fraction=0.4,
            val_fraction=0, separation=8, as_real=name == "patients",
        )  # fmt: skip
        made[name] = run_phantoms(asked)
    return made


@pytest.fixture
def values(phantoms: dict[str, Path], tmp_path: Path) -> dict[str, object]:
    return {
        "data": phantoms["patients"],
        "phantoms": phantoms["free"],
        "out": tmp_path / "study",
        "strategies": ["real_only"],
        "epsilons": [6, "none"],
        "seeds": [0, 1],
        "tune": {LR: [50, 400]},
        "evaluate_on": [{"data": phantoms["patients"], "split": "test"}],
        "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "pretrain": {"trainable_blocks": 0},
        "finetune": {"head": {"steps": 20}},
        "pretrain_seed": 0,
    }


def result(
    auroc: float | None,
    *,
    epsilon: float | None = 6,
    seed: int = 0,
    data_set: str = "patients",
    strategy: str = "real_only",
    **tuned: object,
) -> ResultRow:
    named = {f"finetune.head.{key}": value for key, value in tuned.items()}
    text = json.dumps(named, separators=(",", ":"))
    return ResultRow(
        strategy=strategy, epsilon=epsilon, seed=seed, data_set=data_set, split="test",
        auroc=auroc, state="failed" if auroc is None else "finished", run=f"r-{seed}-{text[-6:-1]}",
        tuned=text if named else "",
    )  # fmt: skip


def test_the_grid_has_a_row_for_every_combination_of_values(values: dict[str, object]) -> None:
    rows = expand_grid(study_settings(values, tune={LR: [50, 400], BIAS: [0.5, 1, 2]}))
    assert len(rows) == 2 * 2 * 2 * 3
    assert len({row.calls[-1].folder for row in rows}) == len(rows)
    for row in rows:
        head, tuned = row.calls[-1].setting("head"), json.loads(row.tuned)
        assert (head.lr_times_steps, head.bias_input) == (tuned[LR], tuned[BIAS])
        assert head.steps == 20  # what the study sets for every recipe stays


def test_a_recipe_is_repeated_only_for_the_values_of_its_own_stages(
    values: dict[str, object],
) -> None:
    study = study_settings(
        values,
        strategies=["real_only", "phantoms_only", "phantoms_then_finetune"],
        tune={LR: [50, 400], "pretrain.weight_decay": [0.1, 0.2, 0.3]},
    )
    rows = expand_grid(study)
    tuned = {
        name: [set(json.loads(row.tuned)) for row in rows if row.strategy == name]
        for name in study.strategies
    }
    decay = "pretrain.weight_decay"
    assert tuned["real_only"] == 8 * [{LR}]  # two epsilons, two seeds, two values
    assert tuned["phantoms_only"] == 3 * [{decay}]  # all seeds share one pretraining
    assert tuned["phantoms_then_finetune"] == 24 * [{LR, decay}]


def test_without_tune_nothing_changes(values: dict[str, object]) -> None:
    rows = expand_grid(study_settings(values, tune=None))
    assert {row.tuned for row in rows} == {""}
    assert len(rows) == 4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tune": {"head.lr_times_steps": [1]}}, "name a setting of finetune or pretrain"),
        ({"tune": {"finetune": [1]}}, "name a setting of finetune or pretrain"),
        ({"tune": {"finetune.privacy.epsilon": [1, 6]}}, "gives privacy to its runs"),
        ({"tune": {"finetune.data": ["x", "y"]}}, "gives data to its runs"),
        ({"tune": {"finetune.seed": [1, 2]}}, "gives seed to its runs"),
        ({"tune": {LR: []}}, "at least 1 item"),
        ({"tune": {}}, "at least 1 item"),
        ({"tune": {LR: [[1, 2]]}}, "tune"),
        ({"tune": {"finetune.head.start": ["/srv/x"]}}, "tune"),
        ({"tune": {"finetune.head.lr_times_stepz": [1]}}, "did you mean lr_times_steps"),
        ({"tune": {"finetune.head.steps.more": [1]}}, "steps is a single value"),
        ({"tune": {LR: [50, 50.0]}}, "so there is nothing to choose"),
        ({"tune": {"pretrain.epochs": [1, 2]}}, "no strategy of this study has the stage pretrain"),
    ],
)
def test_what_can_not_be_tuned_is_refused_before_anything_runs(
    values: dict[str, object], changes: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run_study(study_settings(values, **changes))
    assert not Path(str(values["out"])).exists()


@pytest.mark.parametrize("key", ["data", "phantoms", "synthetic", "evaluate_on", "finetune"])
@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"kind": "real"}, r"clinic holds real patients; choosing by scores of private images is"),
        (
            {"kind": "synthetic", "lineage": lineage(math.inf)},
            r"synthetic set clinic has epsilon = inf, because train-gan on clinic had no",
        ),
    ],
)
def test_sets_whose_scores_cost_someone_are_refused_by_name(
    values: dict[str, object], tmp_path: Path, key: str, about: dict[str, object], words: str
) -> None:
    other = clinic_set(tmp_path / "clinic", **about)
    changed = {
        "evaluate_on": [*values["evaluate_on"], {"data": other, "split": "train"}],
        "finetune": {"head": {"steps": 20}, "synthetic": str(other)},
    }
    study = study_settings(values, **{key: changed.get(key, other)})
    for refused in (run_study, plan_study):
        with pytest.raises(InputError, match=words):
            refused(study)
    assert not study.out.exists()


def test_a_set_with_a_promise_to_images_is_refused_before_anything_runs(
    values: dict[str, object], tmp_path: Path
) -> None:
    release = Release(stage="train-gan", data="clinic", mu=1.0, unit="image")
    made = clinic_set(tmp_path / "made", "synthetic", lineage=Lineage(releases=(release,)))
    study = study_settings(values, evaluate_on=[{"data": made, "split": "train"}])
    with pytest.raises(InputError, match="an ancestor was made with another unit"):
        run_study(study)
    assert not study.out.exists()


def test_a_start_from_a_run_without_protection_is_refused(
    values: dict[str, object], tmp_path: Path
) -> None:
    before = study_settings(
        values, strategies=["phantoms_only"], tune=None, out=tmp_path / "before", epsilons=["none"],
        phantoms=clinic_set(tmp_path / "clinic", "real"),
    )  # fmt: skip
    run_study(before)
    (run,) = (before.out / "runs").iterdir()
    assert math.isinf(read_statement(run).epsilon)
    (*_, call) = expand_grid(study_settings(values, strategies=["phantoms_then_finetune"]))[0].calls
    moved = StageCall("finetune", call.settings.model_copy(update={"init": run}))
    with pytest.raises(InputError, match=rf"the run {run.name} has epsilon = inf"):
        tuning_lineage([], [moved])


def test_the_command_line_refuses_with_exit_code_2_even_when_dry(
    values: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = clinic_set(tmp_path / "clinic", "real")
    study = study_settings(values, data=real)
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(study.model_dump(mode="json")))
    assert main(["study", str(config), "--dry-run"]) == 2
    assert main(["study", str(config)]) == 2
    message = capsys.readouterr().err
    assert message.count("tune on phantoms or on a synthetic set with a guarantee") == 2
    assert "secret-" not in message
    tune = f"tune={{{LR}: [50, 80]}}"
    assert main(["study", str(config), f"data={values['data']}", tune, "--dry-run"]) == 0
    assert LR in capsys.readouterr().out


def test_a_guaranteed_synthetic_set_stands_behind_the_study(
    values: dict[str, object], tmp_path: Path
) -> None:
    promised = lineage(gaussian_mu(3, 1e-3))
    made = clinic_set(tmp_path / "made", "synthetic", lineage=promised)
    on_it = study_settings(values, data=made, evaluate_on=[{"data": made, "split": "train"}])
    assert plan_study(on_it).epsilon == pytest.approx(3, rel=1e-6)
    only_scored = study_settings(
        values, data=values["phantoms"], evaluate_on=[{"data": made, "split": "train"}]
    )
    assert plan_study(only_scored).lineage == promised
    assert plan_study(only_scored.model_copy(update={"tune": None})).epsilon == 0


def test_the_best_mean_over_seeds_and_sets_is_chosen_and_a_tie_is_the_smaller() -> None:
    rows = [
        result(0.9, seed=0, lr_times_steps=50),
        result(0.5, seed=1, lr_times_steps=50),
        result(0.71, seed=0, lr_times_steps=400),
        result(0.71, seed=1, lr_times_steps=400),
        *(result(0.8, epsilon=None, lr_times_steps=value) for value in (1000, 400, 60)),
        result(0.9, epsilon=1, lr_times_steps=50),
        result(0.4, epsilon=1, lr_times_steps=50, data_set="other"),
        result(0.66, epsilon=1, lr_times_steps=80),
        result(0.66, epsilon=1, lr_times_steps=80, data_set="other"),
    ]
    chosen = {key[1]: json.loads(text)[LR] for key, text in choose(rows).items()}
    assert chosen == {6.0: 400, None: 60, 1.0: 80}
    lost = [*rows, result(None, seed=2, lr_times_steps=400)]
    assert json.loads(choose(lost)["real_only", 6.0])[LR] == 50  # 400 has a seed without a score


def test_defaults_are_fed_back_to_a_study(values: dict[str, object], tmp_path: Path) -> None:
    rows = [
        result(0.6 + (lr == best) / 10, epsilon=epsilon, lr_times_steps=lr, bias_input=bias)
        for epsilon, best in ((1, 80.0), (6, 300.0), (None, 2000.0))
        for lr in (80.0, 300.0, 2000.0)
        for bias in (0.25, 1.0)
    ]
    path = tmp_path / "defaults.yaml"
    write_defaults(path, rows, FREE)
    assert "lr_times_steps: {1: 80.0, 6: 300.0, none: 2000.0}" in path.read_text()
    found = dict(read_yaml(path))
    assert found == {
        "finetune": {
            "head": {"lr_times_steps": {1: 80.0, 6: 300.0, "none": 2000.0}, "bias_input": 0.25}
        }
    }
    study = study_settings(values, tune=None, **found)
    assert study.finetune == found["finetune"]
    del found["finetune"]["head"]["lr_times_steps"]  # a mapping is the finetune stage's to read
    (call, *_) = (row.calls[0] for row in expand_grid(study_settings(values, tune=None, **found)))
    assert call.setting("head").bias_input == 0.25


def test_the_header_says_how_a_choice_came_about(tmp_path: Path) -> None:
    path = tmp_path / "defaults.yaml"
    rows = [
        result(auroc, strategy=strategy, epsilon=epsilon, bias_input=bias)
        for strategy in ("real_only", "real_and_synthetic")
        for epsilon, first in ((1, 0.7), (0.5, 0.6))
        for bias, auroc in ((0, first), (2, 0.65))
    ]
    promised = lineage(gaussian_mu(3, 1e-4))
    write_defaults(path, rows, make_statement(promised, subject="tuned settings"))
    text = path.read_text()
    for told in (
        "# scored on: patients, test; seeds: 1\n",
        "# promise: epsilon 3 at delta 0.0001 for each patient of train-gan on clinic\n",
        "# real_only, epsilon 1: AUROC of\n#     finetune.head.bias_input = 0: 0.7000  <- chosen\n",
    ):
        assert told in text
    by_epsilon = {"finetune": {"head": {"bias_input": {1: 0, 0.5: 2}}}}
    assert read_yaml(path) == {"real_only": by_epsilon, "real_and_synthetic": by_epsilon}
    write_defaults(path, rows, FREE)
    assert "# promise: epsilon = 0; no patient's image" in path.read_text()


def test_a_choice_at_the_end_of_what_was_tried_says_so(tmp_path: Path) -> None:
    told = "is the end of what was tried; try values beyond it"
    for best, expected in ((3, 1), (2, 0), (1, 1)):
        rows = [result(0.6 + (bias == best) / 10, bias_input=bias) for bias in (1, 2, 3)]
        write_defaults(tmp_path / "d.yaml", rows, FREE)
        assert (tmp_path / "d.yaml").read_text().count(f"bias_input = {best} {told}") == expected


def test_no_text_of_others_ends_the_comment(tmp_path: Path) -> None:
    release = Release(stage="train-gan", data="clinic\nfinetune: {seed: 1}", mu=1.0)
    promise = make_statement(Lineage(releases=(release,)), subject="tuned settings")
    write_defaults(tmp_path / "d.yaml", [result(0.7, bias_input=1)], promise)
    assert read_yaml(tmp_path / "d.yaml") == {"finetune": {"head": {"bias_input": 1}}}


def test_nothing_is_chosen_where_a_run_has_no_score(tmp_path: Path) -> None:
    rows = [result(0.7, bias_input=1), result(None, seed=1, bias_input=1)]
    with pytest.raises(RunError, match=r"1 run\(s\) have no AUROC, so nothing was chosen"):
        write_defaults(tmp_path / "d.yaml", rows, FREE)
    assert not (tmp_path / "d.yaml").exists()


def test_tables_from_before_are_read_and_a_damaged_cell_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "results.csv"
    rows = [result(0.7, lr_times_steps=50), result(0.8)]
    write_results(table, rows)
    assert read_results(table) == rows
    text = table_csv(ResultRow, [rows[1]]).splitlines()
    for columns in (COLUMNS_BEFORE_TRANSFER, COLUMNS_BEFORE_TUNING):
        old = [",".join(line.split(",")[: len(columns)]) for line in text]
        table.write_text("\n".join(old) + "\n")
        assert table.read_text().splitlines()[0].split(",") == list(columns)
        assert read_results(table) == [rows[1]]
    for wrong in ("[1]", "{", '{"a":[1]}', '{"a":NaN}', '{"a":"/srv/x"}', "[" * 5000):
        with pytest.raises(ValueError, match="tuned"):
            ResultRow.model_validate({**rows[0].model_dump(), "tuned": wrong})


def test_a_study_tunes_from_end_to_end_and_resumes(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values)
    write = stage.write_defaults

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "write_defaults", killed)
    with pytest.raises(KeyboardInterrupt):
        run_study(study)
    assert not (study.out / "defaults.yaml").exists()
    runs = {path: path.stat().st_mtime_ns for path in study.out.glob("runs/*/status.json")}
    assert len(runs) == 8  # two epsilons, seeds and values
    monkeypatch.setattr(stage, "write_defaults", write)
    report = run_study(study)
    assert {path: path.stat().st_mtime_ns for path in runs} == runs
    rows = read_results(study.out / "results.csv")
    assert sorted({row.tuned for row in rows}) == [f'{{"{LR}":400}}', f'{{"{LR}":50}}']
    defaults = read_yaml(study.out / "defaults.yaml")
    assert defaults["finetune"]["head"]["lr_times_steps"] == {
        6 if epsilon else "none": json.loads(text)[LR]
        for (_, epsilon), text in choose(rows).items()
    }
    page = report.read_text()
    assert page.count("chosen, epsilon") == 2  # one for each epsilon
    assert page.count(f"<td>{LR} = 50") == page.count(f"<td>{LR} = 400") == 2 + 4
    assert "these very scores chose" in page
    before = (study.out / "defaults.yaml").stat().st_mtime_ns
    assert run_study(study) == report
    assert (study.out / "defaults.yaml").stat().st_mtime_ns == before


def test_a_study_from_before_tuning_returns_at_once(values: dict[str, object]) -> None:
    study = study_settings(values, tune=None, epsilons=["none"], seeds=[0])
    report = run_study(study)
    assert not (study.out / "defaults.yaml").exists()
    config = study.out / "config.yaml"
    config.write_text(config.read_text().replace("tune: null\n", ""))
    before = report.stat().st_mtime_ns
    assert run_study(study) == report
    assert report.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="tune: None there"):
        run_study(study_settings(values, epsilons=["none"], seeds=[0]))


def test_a_failed_run_leaves_no_defaults_and_a_report_without_its_setting(
    values: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = study_settings(values, epsilons=[6])
    attempt = sweep.attempt

    def failing(call: sweep.StageCall, threads: int) -> tuple[str, str | None]:
        head = call.setting("head")
        if head is not None and head.lr_times_steps == 50 and call.setting("seed"):
            return call.folder, "the head diverged"
        return attempt(call, threads)

    monkeypatch.setattr(sweep, "attempt", failing)
    monkeypatch.setattr(sweep, "TOGETHER", None)  # each by that attempt
    with pytest.raises(RunError, match=r"1 run\(s\) failed"):
        run_study(study)
    assert not (study.out / "defaults.yaml").exists()
    assert f"<td>{LR} = 400<span" in (study.out / "report.html").read_text()  # the one complete
    monkeypatch.setattr(sweep, "attempt", attempt)
    run_study(study)
    assert (study.out / "defaults.yaml").is_file()

import math
from pathlib import Path

import pytest
from pydantic import ValidationError

from synthdp.errors import InputError
from synthdp.privacy.accounting.gaussian import gaussian_mu
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.statement import Statement, make_statement
from synthdp.storage.paths import without_paths
from synthdp.study.compare.cells import cells_by_set
from synthdp.study.compare.results import (
    COLUMNS,
    COLUMNS_BEFORE_TRANSFER,
    COLUMNS_BEFORE_TUNING,
    ResultRow,
    evaluation_row,
    read_results,
    table_csv,
    write_results,
)

METRICS = {
    "auroc": {"value": 0.71234567, "ci_low": 0.6, "ci_high": 0.8},
    "auprc": {"value": 0.7, "ci_low": 0.5, "ci_high": math.nan},
    "sensitivity": {"value": None, "ci_low": None, "ci_high": None},
    "specificity": {"value": 1.0, "ci_low": 1.0, "ci_high": 1.0},
    "n_images": 192,
    "n_patients": 102,
}


def statement(epsilon: float | None, *, before: float = 0.0) -> Statement:
    mu = math.inf if epsilon is None else gaussian_mu(epsilon, 1e-4)
    stage = Release(stage="finetune", data="clinic", mu=mu)
    lineage = Lineage(releases=(Release(stage="train-gan", data="clinic", mu=before), stage))
    return make_statement(lineage, subject="model", stage=stage)


def row(
    strategy: str = "real_only",
    epsilon: float | None = 6.0,
    seed: int = 0,
    *,
    auroc: float = 0.7,
    before: float = 0.0,
    split: str = "val",
) -> ResultRow:
    interval = {"value": auroc, "ci_low": auroc - 0.1, "ci_high": auroc + 0.05}
    return evaluation_row(
        strategy=strategy,
        epsilon=epsilon,
        seed=seed,
        data_set="clinic",
        split=split,
        run=f"finetune-{strategy}-{epsilon}-{seed}",
        metrics={**METRICS, "auroc": interval},
        statement=statement(epsilon, before=before),
    )


def failure(seed: int, error: str = "out of memory") -> ResultRow:
    return ResultRow(
        state="failed",
        strategy="real_only",
        epsilon=6.0,
        seed=seed,
        data_set="clinic",
        split="val",
        run=f"finetune-{seed}",
        error=error,
    )


def test_columns_are_those_of_the_contract() -> None:
    assert COLUMNS[:8] == (
        "strategy", "epsilon", "seed", "data_set", "split", "auroc", "auroc_ci_low",
        "auroc_ci_high",
    )  # fmt: skip
    end = COLUMNS.index("trained_on") + 1
    assert COLUMNS[end - 11 : end] == (
        "n_images", "n_patients", "epsilon_stage", "epsilon_end_to_end", "delta", "unit", "state",
        "error", "run", "tuned", "trained_on",
    )  # fmt: skip
    assert {"auprc_benign", "brier_ci_low", "specificity_at_sensitivity"} < {*COLUMNS[end:]}


@pytest.mark.parametrize("columns", [COLUMNS_BEFORE_TUNING, COLUMNS_BEFORE_TRANSFER])
def test_older_tables_are_read(tmp_path: Path, columns: tuple[str, ...]) -> None:
    lines = [line.split(",") for line in table_csv(ResultRow, [row(), row(seed=1)]).splitlines()]
    older = "\n".join(",".join(cells[: len(columns)]) for cells in lines)
    (tmp_path / "results.csv").write_text(f"{older}\n")
    found = read_results(tmp_path / "results.csv")
    assert [(one.auroc, one.brier, one.tuned) for one in found] == 2 * [(0.7, None, "")]


def test_new_metrics_enter_and_an_older_evaluation_lacks_them() -> None:
    assert row().brier is None
    brier = {"value": 0.2, "ci_low": 0.15, "ci_high": 0.25}
    found = evaluation_row(
        strategy="real_only",
        epsilon=6.0,
        seed=0,
        data_set="clinic",
        split="val",
        run="finetune-1",
        metrics={**METRICS, "brier": brier},
        statement=statement(6.0),
    )
    assert (found.brier, found.brier_ci_low, found.brier_ci_high) == (0.2, 0.15, 0.25)


def test_rows_survive_the_file(tmp_path: Path) -> None:
    rows = [
        row(),
        row(epsilon=None, seed=1),
        row("pretrain_then_finetune", before=math.inf),
        failure(2, 'it said "no", twice,\nand stopped'),
    ]
    write_results(tmp_path / "results.csv", rows)
    assert read_results(tmp_path / "results.csv") == rows


def test_words_for_no_privacy_no_promise_and_no_value() -> None:
    header, first, second = table_csv(ResultRow, [row(epsilon=None), failure(0)]).splitlines()
    cells = dict(zip(header.split(","), first.split(","), strict=True))
    assert (cells["epsilon"], cells["epsilon_stage"], cells["epsilon_end_to_end"]) == (
        "none",
        "inf",
        "inf",
    )
    assert (cells["sensitivity"], cells["auprc_ci_high"]) == ("", "")
    assert cells["unit"] == "patient"
    assert ",failed,out of memory,finetune-0" in second


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/data/set: gone", "set: gone"),
        ("no file '/srv/A Person/x y.png' there", "no file 'x y.png' there"),
        ("~/runs/gan and file:///srv/a/b", "gan and b"),
        (r"C:\Users\me\weights.pt is missing", "weights.pt is missing"),
        ("1/N, and/or 12 / 3, ../shared/data stays", "1/N, and/or 12 / 3, ../shared/data stays"),
        ("data=/srv/set/, (/srv/a)", "data=set, (a)"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(text: str, expected: str) -> None:
    assert without_paths(text) == expected


def test_errors_hold_no_path_and_runs_are_relative() -> None:
    assert failure(0, "weights:\n  /srv/secret/dino.pt: missing").error == (
        "weights: dino.pt: missing"
    )
    for run in ("/srv/run", "../run"):
        with pytest.raises(ValidationError, match="relative to its study"):
            failure(0).model_validate({**failure(0).model_dump(), "run": run})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("auroc,", "auc,", 1), "columns differ .*auc, auroc"),
        (lambda text: text.replace(",0,clinic", ",zero,clinic", 1), "row 2.*\n.*seed"),
        (lambda text: text.replace("real_only,6.0", "real_only,-6.0", 1), "row 2.*\n.*epsilon"),
        (lambda text: text.replace(",finished", ",finished,more", 1), "row 2: has more or fewer"),
        (lambda text: text.replace(",finished", ",done", 1), "row 2.*\n.*state"),
    ],
)
def test_a_broken_table_says_where(tmp_path: Path, change: object, message: str) -> None:
    assert callable(change)
    (tmp_path / "results.csv").write_text(change(table_csv(ResultRow, [row()])))
    with pytest.raises(InputError, match=message):
        read_results(tmp_path / "results.csv")


def test_a_missing_table_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="synthdp study"):
        read_results(tmp_path / "results.csv")


def test_a_cell_over_seeds() -> None:
    rows = [row(seed=0, auroc=0.6), row(seed=1, auroc=0.8), failure(2)]
    (found,) = cells_by_set(rows)
    auroc = found.metrics["auroc"]
    assert (found.n_seeds, found.n_failed, found.n_images) == (2, 1, 192)
    assert auroc.mean == pytest.approx(0.7)
    assert auroc.sd == pytest.approx(math.sqrt(0.02))
    assert (auroc.ci_low, auroc.ci_high) == (pytest.approx(0.6), pytest.approx(0.75))
    assert found.metrics["sensitivity"].mean is None
    assert found.epsilon_end_to_end == pytest.approx(6, rel=1e-6)
    assert len(found.runs) == 2


def test_cells_stand_as_given_with_none_last() -> None:
    rows = [
        row("b", None),
        row("b", 12.0),
        row("b", 1.0),
        row("a", 6.0),
        row("b", 1.0, split="test"),
    ]
    assert [(found.split, found.strategy, found.epsilon) for found in cells_by_set(rows)] == [
        ("val", "b", 1.0),
        ("val", "b", 12.0),
        ("val", "b", None),
        ("val", "a", 6.0),
        ("test", "b", 1.0),
    ]


def test_one_seed_has_no_deviation_and_a_lost_cell_no_value() -> None:
    (one,) = cells_by_set([row()])
    (none,) = cells_by_set([failure(0)])
    assert one.metrics["auroc"].sd is None
    assert none.metrics["auroc"].mean is None
    assert (none.n_seeds, none.epsilon_end_to_end, none.voided) == (0, None, False)


def test_what_is_drawn_hollow() -> None:
    (promised,) = cells_by_set([row(epsilon=6)])
    (without,) = cells_by_set([row(epsilon=None)])
    (voided,) = cells_by_set([row(epsilon=6, before=math.inf)])
    assert (promised.protected, promised.voided) == (True, False)
    assert (without.protected, without.voided) == (False, False)
    assert (voided.protected, voided.voided, voided.off_axis) == (False, True, False)

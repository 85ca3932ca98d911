import math
from pathlib import Path

import pytest
import yaml

from synthdp.errors import InputError
from synthdp.study.compare.cells import cells_by_set
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.published import published_rows, read_published
from synthdp.study.report.settings import ReportSettings

TABLE = """arm,start,epsilon,seed,auroc
real,none,inf,1,0.78
real,none,6,1,0.55
real,none,6,2,0.59
mixed,none,6,1,0.62
"""
ABOUT = {
    "source": "A paper",
    "table": "theirs.csv",
    "epsilon": "epsilon",
    "figures": {"their test": "auroc"},
    "unit": "image",
    "delta": 1e-4,
    "arms": [
        {"name": "real", "rows": {"arm": "real"}, "strategy": "paper", "end_to_end": True},
        {"name": "mixed", "rows": {"arm": "mixed"}, "end_to_end": False, "why": "not repeated"},
    ],
}


def described(folder: Path, text: str = TABLE, **changes: object) -> Path:
    (folder / "theirs.csv").write_text(text)
    (folder / "published.yaml").write_text(yaml.safe_dump({**ABOUT, **changes}))
    return folder / "published.yaml"


def row(strategy: str, epsilon: float | None, auroc: float, seed: int = 0) -> ResultRow:
    return ResultRow(
        strategy=strategy,
        epsilon=epsilon,
        seed=seed,
        data_set="clinic",
        split="val",
        auroc=auroc,
        state="finished",
        run=f"finetune-{strategy}-{epsilon}-{seed}",
    )


ROWS = [row("paper", 6.0, 0.6), row("paper", 6.0, 0.7, 1), row("paper", None, 0.8)]


def test_arms_stand_beside_ours_by_epsilon(tmp_path: Path) -> None:
    found = published_rows(read_published(described(tmp_path)), cells_by_set(ROWS))
    private, plain, mixed = found
    assert (private.epsilon, plain.epsilon, mixed.epsilon) == (6.0, None, 6.0)
    theirs = private.theirs["their test"]
    assert (theirs.mean, theirs.n_seeds) == (pytest.approx(0.57), 2)
    assert theirs.sd == pytest.approx(0.02 * math.sqrt(2))
    assert private.ours is not None
    assert private.ours.metrics["auroc"].mean == pytest.approx(0.65)
    assert private.members_found == pytest.approx(
        0.19, abs=0.005
    )  # of a Gaussian release at epsilon 6
    assert plain.members_found == mixed.members_found == 1
    assert plain.theirs["their test"].sd is None
    assert mixed.ours is None


def test_of_several_sites_models_those_of_the_first_stand_beside(tmp_path: Path) -> None:
    sites = [
        one.model_copy(update={"trained_on": site, "auroc": auroc, "run": f"{one.run}-{site}"})
        for site, auroc in (("both", 0.7), ("A", 0.9))
        for one in ROWS[:1]
    ]
    found = published_rows(read_published(described(tmp_path)), cells_by_set(sites))
    assert [one.ours.trained_on for one in found if one.ours is not None] == ["both"]


@pytest.mark.parametrize(
    ("table", "changes", "words"),
    [
        ("arm,epsilon\nreal,6\n", {}, "'auroc' is missing"),
        (TABLE.replace("0.55", "high"), {}, "'high' is no figure"),
        (TABLE.replace("mixed", "other"), {}, "no row of the arm 'mixed'"),
        (TABLE, {"table": "lost.csv"}, "not at hand"),
        (TABLE, {"arms": []}, "arms"),
        (TABLE, {"armz": []}, "armz"),
    ],
)
def test_what_does_not_fit_is_told(
    tmp_path: Path, table: str, changes: dict[str, object], words: str
) -> None:
    path = described(tmp_path, table, **changes)
    with pytest.raises(InputError, match=words):
        published_rows(read_published(path), cells_by_set(ROWS))


def test_the_report_shows_them_or_says_why_not(tmp_path: Path) -> None:
    write_results(tmp_path / "results.csv", ROWS)
    (tmp_path / "study.json").write_text('{"title": "T"}')
    path = described(tmp_path)
    page = run_report(ReportSettings(study=tmp_path, published=path)).read_text()
    assert "Beside published figures" in page
    assert "A paper" in page
    assert "not repeated" in page
    (tmp_path / "theirs.csv").unlink()
    page = run_report(ReportSettings(study=tmp_path, published=path)).read_text()
    assert "the table is not at hand" in page
    assert str(tmp_path) not in page
    assert "Beside published" not in run_report(ReportSettings(study=tmp_path)).read_text()


def test_the_papers_arms_are_described_for_strategies_that_exist() -> None:
    from synthdp.stages import strategy_names  # noqa: PLC0415 (it imports the classifier)

    about = read_published(Path("configs/study/published.yaml"))
    repeated = {arm.strategy for arm in about.arms if arm.strategy is not None}
    assert repeated < set(strategy_names())
    assert all(arm.why for arm in about.arms if arm.strategy is None)

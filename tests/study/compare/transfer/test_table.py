import math
from pathlib import Path

import numpy as np
import pytest
from made_up import study_settings
from scipy.stats import false_discovery_control
from sklearn.metrics import roc_auc_score

from synthdp.config.settings import dump_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.uncertainty.intervals import Redrawn
from synthdp.privacy.promise.stated import read_statement
from synthdp.releases.release import release
from synthdp.storage.files import write_atomic, write_json
from synthdp.study.compare.cells import Cell, cells_by_set
from synthdp.study.compare.fairness import read_fairness
from synthdp.study.compare.predictions import ScoredCell
from synthdp.study.compare.results import ResultRow, read_results
from synthdp.study.compare.transfer.sites import DECISIONS, domain_of, trained_on_of
from synthdp.study.compare.transfer.table import (
    TransferRow,
    read_transfer,
    transfer_table,
    write_transfer,
)
from synthdp.study.plan import plan_study
from synthdp.study.report.page import run_report
from synthdp.study.report.sections.transfer import transfer_lines
from synthdp.study.report.settings import ReportSettings
from synthdp.study.stage import run_study
from synthdp.study.sweep.grid import evaluation_folder, expand_grid

SITES = ("A", "B")


def make_set(out: Path, *, kind: str = "real", n_patients: int = 48, seed: int = 0) -> Path:
    """Patients of one image each at two sites; malignant ones are brighter, less so at B."""
    rng = np.random.default_rng(seed)
    with create_dataset(out, DatasetInfo(name=out.name, kind=kind, size_px=32)) as writer:
        for patient in range(n_patients):
            malignant, site = patient % 2, patient // 2 % 2
            pixels = rng.normal(90 + (60 - 30 * site) * malignant, 30, (32, 32)).clip(0, 255)
            writer.add(
                pixels.astype(np.uint8),
                patient_id=f"secret-{patient}",
                split="train" if patient < n_patients // 2 else "val",
                targets=[malignant],
                attributes={"site": SITES[site], "view": ("CC", "MLO")[patient // 4 % 2]},
            )
    return out


def evaluation(study: Path, data: Path, site: str, run: str, strength: float) -> Path:
    """The folder of a made-up evaluation of one site's val, whose scores tell classes apart."""
    out = evaluation_folder(study, run, f"clinic (site {site})", "val")
    rng = np.random.default_rng(len(run))
    lines = ["image,patient_id,malignant,score_malignant"]
    for row in open_dataset(data).split("val"):
        if row.attributes["site"] == site:
            score = 1 / (1 + math.exp(-strength * (row.targets[0] - 0.5) - rng.normal()))
            lines.append(f"{row.image},{row.patient_id},{row.targets[0]:.0f},{score:.9g}")
    write_atomic(out / "predictions.csv", "\n".join(lines) + "\n")
    counts = {"n_images": len(lines) - 1, "n_patients": len(lines) - 1}
    auroc = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    write_json(out / "metrics.json", {**counts, "threshold": 0.5, "auroc": auroc})
    return out


@pytest.fixture
def cells(tmp_path: Path) -> list[ScoredCell]:
    """Two seeds trained at A or B, scored at A and B, at epsilon 1 and without privacy."""
    data, found = make_set(tmp_path / "clinic", n_patients=160), []
    for scored_at in SITES:
        for trained_at in SITES:
            for epsilon in (1.0, None):
                strength = 3.0 - 1.5 * (trained_at != scored_at) - 0.8 * (epsilon is not None)
                runs = [f"run-{trained_at}-{epsilon}-{seed * 'x'}" for seed in (1, 2)]
                rows = [
                    ResultRow(
                        strategy="real_only",
                        epsilon=epsilon,
                        seed=seed,
                        trained_on=f"clinic (site {trained_at})",
                        data_set=f"clinic (site {scored_at})",
                        split="val",
                        state="finished",
                        run=run,
                    )
                    for seed, run in enumerate(runs)
                ]
                found.append(
                    ScoredCell(
                        cell=Cell(tuple(rows)),
                        evaluations=tuple(
                            evaluation(tmp_path, data, scored_at, run, strength) for run in runs
                        ),
                        dataset=open_dataset(data),
                    )
                )
    return found


def row_of(rows: list[TransferRow], measure: str, trained: str, scored: str, epsilon: float | None):
    (row,) = [
        row
        for row in rows
        if (row.measure, row.trained_on[-2], row.data_set[-2], row.epsilon)
        == (measure, trained, scored, epsilon)
    ]
    return row


def auroc_of(cell: ScoredCell) -> float:
    labels = cell.predictions.labels[:, 0]
    return float(
        np.mean([roc_auc_score(labels, scores[:, 0]) for scores in cell.predictions.scores])
    )


def test_losses_are_differences_of_mean_aurocs(cells: list[ScoredCell]) -> None:
    rows = transfer_table(cells, "clinic", redraws=200)
    auroc = {
        (cell.cell.trained_on[-2], cell.cell.data_set[-2], cell.cell.epsilon): auroc_of(cell)
        for cell in cells
    }
    for (trained, scored, epsilon), value in auroc.items():
        row = row_of(rows, "auroc", trained, scored, epsilon)
        assert row.value == pytest.approx(value)
        assert row.domain == ("internal" if trained == scored else "external")
        assert (row.p_value, row.n_images, row.n_patients, row.n_seeds) == (None, 40, 40, 2)
        if epsilon is not None:
            loss = row_of(rows, "privacy_loss", trained, scored, epsilon)
            assert loss.value == pytest.approx(auroc[trained, scored, None] - value)
        if trained != scored:
            drop = row_of(rows, "external_drop", trained, scored, epsilon)
            assert drop.value == pytest.approx(auroc[trained, trained, epsilon] - value)
            assert "unpaired" in drop.note
            off = row_of(rows, "off_site_loss", trained, scored, epsilon)
            assert off.value == pytest.approx(auroc[scored, scored, epsilon] - value)
    change = row_of(rows, "off_site_loss_change", "A", "B", 1.0)
    private, free = (row_of(rows, "off_site_loss", "A", "B", epsilon) for epsilon in (1.0, None))
    assert change.value == pytest.approx(private.value - free.value)
    internal = [row for row in rows if row.domain == "internal"]
    decided = {f"{name}{end}" for name in DECISIONS for end in ("", "_optimistic")}
    assert {row.measure for row in internal} == {"auroc", "privacy_loss", *decided}


def test_p_values_are_small_where_much_is_lost_and_adjusted_by_measure(
    cells: list[ScoredCell],
) -> None:
    rows = transfer_table(cells, "clinic", redraws=400)
    for measure in ("privacy_loss", "external_drop", "off_site_loss", "off_site_loss_change"):
        tested = [row for row in rows if row.measure == measure]
        expected = false_discovery_control([row.p_value for row in tested])
        assert [row.p_adjusted for row in tested] == pytest.approx(expected.tolist())
        for row in tested:
            assert row.p_value is not None
            outside = not row.ci_low <= 0 <= row.ci_high
            assert outside == (row.p_value < 0.05) or abs(row.p_value - 0.05) < 0.02


def test_a_p_value_of_nothing_is_uniform_and_never_0() -> None:
    rng = np.random.default_rng(0)
    values = []
    for _ in range(400):
        sample = rng.normal(size=60)
        draws = rng.choice(sample, (300, 60)).mean(axis=1)
        values.append(Redrawn(float(sample.mean()), draws).p_value())
    assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09
    assert 0.4 < np.mean(np.array(values) < 0.5) < 0.6
    sure = Redrawn(1.0, np.ones(999))
    assert sure.p_value() == pytest.approx(0.002)
    assert Redrawn(0.0, np.zeros(99)).p_value() == 1
    assert math.isnan(Redrawn(math.nan, np.full(9, math.nan)).p_value())


def test_the_table_survives_the_file_and_reads_by_line(
    cells: list[ScoredCell], tmp_path: Path
) -> None:
    rows = transfer_table(cells, "clinic", redraws=100)
    write_transfer(tmp_path / "transfer.csv", rows)
    again = read_transfer(tmp_path / "transfer.csv")
    for one, other in zip(rows, again, strict=True):
        numbers = {"value", "ci_low", "ci_high", "p_value", "p_adjusted"}
        assert other.model_dump(exclude=numbers) == one.model_dump(exclude=numbers)
        assert other.value == pytest.approx(one.value, abs=1e-6)
    lines = transfer_lines(again)
    assert [(row.trained_on[-2], row.epsilon, row.data_set[-2]) for row, _ in lines] == [
        (trained, epsilon, scored)
        for trained in "AB"
        for epsilon in (1.0, None)
        for scored in (trained, "AB".replace(trained, ""))
    ]
    assert "secret" not in (tmp_path / "transfer.csv").read_text()
    (tmp_path / "transfer.csv").write_text("strategy,epsilon\nreal_only,1\n")
    with pytest.raises(InputError, match=r"transfer.csv: columns differ .*tuned"):
        read_transfer(tmp_path / "transfer.csv")


@pytest.mark.parametrize(
    ("trained_on", "scored_on", "domain"),
    [
        ("clinic", "clinic", "internal"),
        ("clinic", "clinic (site A)", "internal"),
        ("clinic (site A)", "clinic (site A)", "internal"),
        ("clinic (site A)", "clinic (site B)", "external"),
        ("clinic (site A)", "clinic", "mixed"),
        ("clinic", "clinic-2", "external"),
        ("", "clinic", "external"),
    ],
)
def test_what_is_internal(trained_on: str, scored_on: str, domain: str) -> None:
    assert domain_of(trained_on, scored_on) == domain


@pytest.fixture
def values(tmp_path: Path) -> dict[str, object]:
    data = make_set(tmp_path / "clinic")
    phantoms = make_set(tmp_path / "phantoms", kind="phantom", n_patients=24, seed=1)
    return {
        "data": data,
        "phantoms": phantoms,
        "out": tmp_path / "study",
        "strategies": ["real_only", "phantoms_only"],
        "epsilons": [6, "none"],
        "seeds": [0],
        "transfer": {"sites": ["A", "B"], "population": 30},
        "evaluate_on": [{"data": data}, {"data": phantoms, "where": {"view": "CC"}}],
        "privacy": {"population": 50, "delta": 1e-3},
        "backbone": {"name": "test_vit", "size_px": 32},
        "pretrain": {"trainable_blocks": 0},
    }


@pytest.mark.parametrize(
    ("strategy", "trained_on", "met"),
    [
        ("real_only", "", "clinic"),
        ("real_only", "a share of 0.2", "clinic"),
        ("real_only", "a share of pain", "a share of pain"),  # a set that is called so
        ("phantoms_only", "", ""),
    ],
)
def test_a_share_of_the_patients_is_of_the_studys_own_set(
    strategy: str, trained_on: str, met: str
) -> None:
    row = ResultRow(
        strategy=strategy, epsilon=None, seed=0, trained_on=trained_on, data_set="clinic",
        split="cross-validated", state="finished", run="run",
    )  # fmt: skip
    assert trained_on_of(Cell((row,)), "clinic") == met


def test_the_grid_trains_each_strategy_at_each_site_and_on_all(values: dict[str, object]) -> None:
    study = study_settings(values)
    assert [place.name for place in study.evaluation_sets] == [
        "clinic (site A)", "clinic (site B)", "phantoms (view CC)",
    ]  # fmt: skip
    rows = expand_grid(study)
    assert [(row.strategy, row.trained_on, row.epsilon) for row in rows] == [
        *(
            ("real_only", trained_on, epsilon)
            for trained_on in ("clinic (site A)", "clinic (site B)", "clinic")
            for epsilon in (6.0, None)
        ),
        ("phantoms_only", "", None),
    ]
    calls = [row.calls[-1] for row in rows[:6:2]]
    assert [call.setting("where") for call in calls] == [{"site": ("A",)}, {"site": ("B",)}, None]
    assert [call.setting("privacy").population for call in calls] == [30, 30, 50]
    view = study_settings(values, finetune={"where": {"view": "CC"}})
    assert expand_grid(view)[0].calls[-1].setting("where") == {"site": ("A",), "view": ("CC",)}


def test_a_study_without_transfer_names_its_runs_as_before(values: dict[str, object]) -> None:
    plain = expand_grid(study_settings(values, transfer=None))
    whole = [row for row in expand_grid(study_settings(values)) if row.trained_on == "clinic"]
    assert [row.calls[-1].folder for row in plain[:2]] == [row.calls[-1].folder for row in whole]
    assert {row.trained_on for row in plain} == {""}


def test_other_sets_are_sites_too(values: dict[str, object], tmp_path: Path) -> None:
    other = make_set(tmp_path / "other", seed=3)
    study = study_settings(
        values,
        strategies="real_only",
        transfer={"data": [other], "whole": False},
        evaluate_on=[{"data": values["data"]}, {"data": other}],
    )
    rows = expand_grid(study)
    assert {row.trained_on for row in rows} == {"other"}
    assert {row.calls[-1].setting("data") for row in rows} == {other}
    assert other in study.sets
    assert [place.name for place in study.evaluation_sets] == ["clinic", "other"]


def test_sites_of_other_sizes_have_bounds_of_their_own(
    values: dict[str, object], tmp_path: Path
) -> None:
    other = make_set(tmp_path / "other", seed=3)
    transfer = {"sites": ["A", "B"], "data": [other], "population": {"A": 30, "other": 4000}}
    study = study_settings(
        values,
        strategies="real_only",
        epsilons=[6],
        transfer=transfer,
        privacy={"population": 50, "delta": 1e-5},
    )
    bounds = {
        row.trained_on: row.calls[-1].setting("privacy").population for row in expand_grid(study)
    }
    assert bounds == {"clinic (site A)": 30, "clinic (site B)": 50, "clinic": 50, "other": 4000}
    plan_study(study)


def test_a_study_of_two_sites_runs_to_its_table(values: dict[str, object], tmp_path: Path) -> None:
    study = study_settings(values, fairness={"attributes": ["view"], "redraws": 50})
    planned = plan_study(study)
    page = run_study(study).read_text()
    results = read_results(study.out / "results.csv")
    assert len(results) == 7 * 3
    assert {row.state for row in results} == {"finished"}
    for row in cells_by_set(results):
        assert row.n_seeds == 1
    rows = read_transfer(study.out / "transfer.csv")
    aurocs = {
        (row.strategy, row.epsilon, row.trained_on, row.data_set): row.value
        for row in rows
        if row.measure == "auroc"
    }
    for row in results:
        trained_on = row.trained_on if row.strategy == "real_only" else ""
        found = aurocs[row.strategy, row.epsilon, trained_on, row.data_set]
        assert found == pytest.approx(row.auroc, abs=2e-6)
    domains = {(row.trained_on, row.data_set): row.domain for row in rows}
    assert domains["clinic", "phantoms (view CC)"] == "external"
    assert domains["clinic", "clinic (site B)"] == "internal"
    assert domains["clinic (site A)", "clinic (site B)"] == "external"
    drops = [row for row in rows if row.measure == "external_drop" and row.trained_on == "clinic"]
    assert {row.data_set for row in drops} == {"phantoms (view CC)"}
    assert {row.trained_on for row in read_fairness(study.out / "fairness.csv")} == {
        "", "clinic", "clinic (site A)", "clinic (site B)",
    }  # fmt: skip
    assert "Does it hold at other sites?" in page
    assert "trained on clinic (site A)" in page
    assert "secret" not in page
    statement = read_statement(study.out)
    assert len(statement.lineage.releases) == 6  # each site's models count for the whole set
    assert planned.epsilon == statement.epsilon
    release(study.out, tmp_path / "released")
    names = {path.name for path in (tmp_path / "released").iterdir()}
    assert "results.csv" in names
    assert not names & {"transfer.csv", "fairness.csv"}
    assert "other sites?" not in (tmp_path / "released" / "report.html").read_text()


def test_a_study_of_one_set_has_a_table_on_request(values: dict[str, object]) -> None:
    study = study_settings(
        values, strategies="real_only", transfer=None, evaluate_on=[{"data": values["data"]}]
    )
    assert "other sites?" not in run_study(study).read_text()
    assert not (study.out / "transfer.csv").exists()
    page = run_report(ReportSettings(study=study.out, transfer=True)).read_text()
    assert "Does it hold at other sites?" in page
    rows = read_transfer(study.out / "transfer.csv")
    assert {(row.trained_on, row.domain) for row in rows} == {("clinic", "internal")}
    decided = {f"{name}{end}" for name in DECISIONS for end in ("", "_optimistic")}
    assert {row.measure for row in rows} == {"auroc", "privacy_loss", *decided}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"transfer": {"sites": ["A", "C"]}}, "no image of the split has site C"),
        ({"transfer": {"sites": ["A"], "column": "hospital"}}, "no column hospital"),
        ({"transfer": {"sites": ["A", "A"]}}, "stands twice"),
        ({"transfer": {"whole": False}}, "nothing to train on"),
        ({"tune": {"finetune.head.lr_times_steps": [1, 2]}}, "tunes or trains at several sites"),
        ({"fairness": ["age"]}, r"no column age; .*: site, view"),
        ({"transfer": {"site": ["A"]}}, "did you mean sites"),
        (
            {"transfer": {"sites": ["A", "B"], "population": {"A": 30, "C": 9}}},
            r"transfer.population: C: no site or other set of this name \(there are A, B\)",
        ),
        ({"transfer": {"sites": ["A", "B"], "population": {"A": 0}}}, "population"),
    ],
)
def test_sites_that_do_not_fit_are_refused_before_anything_runs(
    values: dict[str, object], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_study(study_settings(values, **changes))
    with pytest.raises(InputError, match=message):
        plan_study(study_settings(values, **changes))
    assert not values["out"].exists()


def test_one_place_named_twice_is_refused(values: dict[str, object]) -> None:
    twice = [{"data": values["data"]}, {"data": values["data"], "where": {"site": "A"}}]
    with pytest.raises(InputError, match=r"clinic \(site A\), val stands twice"):
        plan_study(study_settings(values, evaluate_on=twice))


def test_sets_of_one_name_are_refused(values: dict[str, object], tmp_path: Path) -> None:
    again = make_set(tmp_path / "again" / "clinic", seed=5)
    with pytest.raises(InputError, match=r"transfer.data: two training sets have one name"):
        plan_study(study_settings(values, transfer={"data": [again]}))
    elsewhere = [{"data": values["data"]}, {"data": again, "where": {"view": "CC"}}]
    with pytest.raises(InputError, match="clinic is the name of another set"):
        plan_study(study_settings(values, evaluate_on=elsewhere))


def test_the_studys_data_is_scored_by_site_however_its_path_is_written(
    values: dict[str, object], tmp_path: Path
) -> None:
    same = tmp_path / "phantoms" / ".." / "clinic"
    places = study_settings(values, evaluate_on=[{"data": same}]).evaluation_sets
    assert [place.name for place in places] == ["clinic (site A)", "clinic (site B)"]


def test_settings_of_before_places_are_the_same_ones(values: dict[str, object]) -> None:
    study = study_settings(values, transfer=None, strategies="real_only", epsilons=["none"])
    run_study(study)
    config = study.out / "config.yaml"
    text = dump_settings(study).replace("  where: null\n", "").replace("transfer: null\n", "")
    assert text != dump_settings(study)
    config.write_text(text)
    assert run_study(study).is_file()


def test_folders_of_evaluations_are_plain_and_differ_where_names_do(tmp_path: Path) -> None:
    found = [
        evaluation_folder(tmp_path, "run-1", name, "val").name
        for name in (
            "clinic",
            "my set",
            "clinic (site A+B)",
            "clinic (site A B)",
            "clinic (site Ä)",
        )
    ]
    assert found[:2] == ["run-1-clinic-val", "run-1-my-set-val"]
    assert len(set(found)) == len(found)
    assert all(name.isascii() and "(" not in name for name in found)

"""Several findings at several sites: means, drops, thresholds, and what sites do not share."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel
from sklearn.metrics import roc_auc_score

from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.evaluation.operating_point import youden_threshold
from synthdp.evaluation.predictions import read_predictions
from synthdp.storage.files import write_atomic, write_json
from synthdp.study.compare.cells import Cell
from synthdp.study.compare.predictions import ScoredCell, read_scored, refuse_other_images
from synthdp.study.compare.results import ResultRow
from synthdp.study.compare.transfer.sites import THESE_IMAGES
from synthdp.study.compare.transfer.table import (
    BELOW_CHANCE,
    ELSEWHERE,
    TransferRow,
    transfer_table,
)
from synthdp.study.sweep.grid import evaluation_folder

TARGETS = ("a", "b", "c")
SITES = ("A", "B", "C")
N_PATIENTS = 40


def make_site(root: Path, site: str, targets: tuple[str, ...] = TARGETS) -> Path:
    """A set of one site, each patient with one image; findings go by their names."""
    rng = np.random.default_rng(ord(site))
    info = DatasetInfo(name=site, kind="real", size_px=8, targets=targets)
    with create_dataset(root / site, info) as writer:
        for patient in range(2 * N_PATIENTS):
            writer.add(
                np.zeros((8, 8), np.uint8),
                patient_id=f"secret-{site}-{patient}",
                split=("val", "test")[patient % 2],
                targets=rng.integers(0, 2, len(targets)).tolist(),
            )
    return root / site


class Study:
    """Made-up evaluations: models of each site, with privacy and without, scored at each."""

    def __init__(self, root: Path, targets: dict[str, tuple[str, ...]]) -> None:
        self.root, self.targets = root, targets
        self.sets = {
            site: open_dataset(make_site(root, site, named)) for site, named in targets.items()
        }
        self.cells: list[ScoredCell] = []

    def scored(
        self, trained: str, at: str, split: str, strength: dict[str, float], epsilon: float | None
    ) -> None:
        """Two seeds of one cell on one split; `strength` of the scores by target."""
        runs = [f"run-{trained}-{epsilon}-{seed}" for seed in (0, 1)]
        for run in runs:
            out = evaluation_folder(self.root, run, at, split)
            rng = np.random.default_rng([len(run), ord(trained), ord(at), runs.index(run)])
            names = self.targets[at]
            shared = [name for name in self.targets[trained] if name in names]
            lines = [",".join(["image", "patient_id", *shared, *(f"score_{n}" for n in shared)])]
            for row in self.sets[at].split(split):
                labels = [row.targets[names.index(name)] for name in shared]
                logits = [
                    strength[name] * (label - 0.5) + rng.normal() + 0.4 * (trained == "A")
                    for name, label in zip(shared, labels, strict=True)
                ]
                scores = [f"{1 / (1 + math.exp(-logit)):.9g}" for logit in logits]
                cells = [row.image, row.patient_id, *(f"{label:.0f}" for label in labels), *scores]
                lines.append(",".join(cells))
            write_atomic(out / "predictions.csv", "\n".join(lines) + "\n")
            auroc = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
            counts = {"n_images": len(lines) - 1, "n_patients": len(lines) - 1}
            write_json(out / "metrics.json", {**counts, "threshold": 0.5, "auroc": auroc})
            if len(shared) > 1:
                thresholds = dict.fromkeys(shared, 0.5)
                several = {**counts, "threshold": thresholds, "mean": {"auroc": auroc}}
                write_json(out / "metrics.json", several)
        rows = [
            ResultRow(
                strategy="real_only", epsilon=epsilon, seed=seed, trained_on=trained, data_set=at,
                split=split, state="finished", run=run,
            )
            for seed, run in enumerate(runs)
        ]  # fmt: skip
        folders = tuple(evaluation_folder(self.root, run, at, split) for run in runs)
        self.cells.append(ScoredCell(Cell(tuple(rows)), folders, self.sets[at]))

    def grid(self, splits: tuple[str, ...] = ("test",)) -> "Study":
        """All models at all sites: weaker elsewhere and with privacy, c reversed at site C."""
        for at in self.targets:
            for split in splits:
                for trained in self.targets:
                    for epsilon in (1.0, None):
                        base = 3.0 - 1.2 * (trained != at) - 0.7 * (epsilon is not None)
                        strength = dict.fromkeys("abcd", base)
                        if at == "C" and trained != "C":
                            strength["c"] = -3.0
                        self.scored(trained, at, split, strength, epsilon)
        return self

    def table(self, redraws: int = 40) -> list[TransferRow]:
        return transfer_table(self.cells, "A", redraws=redraws)

    def aurocs(self, split: str) -> dict[tuple[str, str, float | None, str], float]:
        """By site of training, of scoring, epsilon and target: the mean over the two seeds."""
        found = {}
        for one in self.cells:
            if one.cell.split != split:
                continue
            for index, target in enumerate(one.predictions.targets):
                labels = one.predictions.labels[:, index]
                found[one.cell.trained_on, one.cell.data_set, one.cell.epsilon, target] = np.mean(
                    [roc_auc_score(labels, seed[:, index]) for seed in one.predictions.scores]
                )
        return found


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    root = tmp_path_factory.mktemp("sites")
    return Study(root, dict.fromkeys(SITES, TARGETS)).grid(("val", "test"))


@pytest.fixture(scope="module")
def table(study: Study) -> list[TransferRow]:
    return study.table()


def one_row(rows: list[TransferRow], measure: str, **wanted: object) -> TransferRow:
    (found,) = [
        row
        for row in rows
        if row.measure == measure and all(getattr(row, key) == wanted[key] for key in wanted)
    ]
    return found


def test_each_finding_has_its_rows_and_the_mean_is_over_them(
    study: Study, table: list[TransferRow]
) -> None:
    aurocs = study.aurocs("test")
    for trained in SITES:
        for at in SITES:
            where = {"trained_on": trained, "data_set": at, "split": "test", "epsilon": 1.0}
            values = [aurocs[trained, at, 1.0, target] for target in TARGETS]
            for target, value in zip(TARGETS, values, strict=True):
                assert one_row(table, "auroc", target=target, **where).value == pytest.approx(value)
            macro = one_row(table, "auroc", target="macro", **where)
            assert macro.value == pytest.approx(np.mean(values))
            assert macro.ci_low < macro.value < macro.ci_high


def test_both_drops_stand_side_by_side_with_the_papers_test(
    study: Study, table: list[TransferRow]
) -> None:
    aurocs = study.aurocs("test")
    for at in SITES:
        others = [site for site in SITES if site != at]
        where = {"data_set": at, "split": "test", "epsilon": 1.0, "trained_on": ELSEWHERE}
        for target in (*TARGETS, "macro"):
            named = TARGETS if target == "macro" else (target,)
            cells = [(site, name) for site in others for name in named]
            private = np.array([aurocs[site, at, 1.0, name] for site, name in cells])
            free = np.array([aurocs[site, at, None, name] for site, name in cells])
            home_private = np.array([aurocs[at, at, 1.0, name] for _, name in cells])
            home_free = np.array([aurocs[at, at, None, name] for _, name in cells])
            own = one_row(table, "mean_off_site_loss", target=target, **where)
            assert own.value == pytest.approx((home_private - private).mean())
            paper = one_row(table, "mean_off_site_loss_paper", target=target, **where)
            assert paper.value == pytest.approx((home_free - private).mean())
            lost = one_row(table, "mean_off_site_privacy_loss", target=target, **where)
            assert lost.value == pytest.approx((free - private).mean())
            assert lost.p_value is not None
            cellwise = one_row(table, "mean_off_site_privacy_loss_cells", target=target, **where)
            assert cellwise.value == lost.value
            assert cellwise.p_value == pytest.approx(ttest_rel(private, free).pvalue)
            assert f"over {len(cells)} cells" in cellwise.note
        without = {**where, "epsilon": None}
        assert one_row(table, "mean_off_site_loss", target="macro", **without).value is not None
        assert not [r for r in table if r.epsilon is None and r.measure.endswith("paper")]


def test_thresholds_come_from_the_site_of_training_and_not_from_the_images_scored(
    study: Study, table: list[TransferRow]
) -> None:
    home = {
        run: youden_threshold(*_first_target(study, run, "A", "val"))
        for run in ("run-A-1.0-0", "run-A-1.0-1")
    }
    for at, split, source in (("B", "test", "A, val"), ("A", "test", "A, val"), ("A", "val", "")):
        where = {
            "trained_on": "A", "data_set": at, "split": split, "epsilon": 1.0, "target": "a",
        }  # fmt: skip
        expected = np.zeros(3)
        for run, value in home.items():
            scores, labels = _first_target(study, run, at, split)
            threshold = (
                value if source else youden_threshold(*_first_target(study, run, "A", "test"))
            )
            called = scores >= threshold
            right = called == (labels == 1)
            expected += right.mean(), called[labels == 1].mean(), (~called[labels == 0]).mean()
        for name, value in zip(
            ("accuracy", "sensitivity", "specificity"), expected / 2, strict=True
        ):
            row = one_row(table, name, **where)
            assert row.value == pytest.approx(value)
            assert row.note == f"threshold from {source or 'A, test'}"
        best = one_row(table, "sensitivity_optimistic", **where)
        assert best.note == THESE_IMAGES
        gain = best.value + one_row(table, "specificity_optimistic", **where).value
        assert gain >= expected[1] / 2 + expected[2] / 2


def _first_target(study: Study, run: str, at: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    found = read_predictions(evaluation_folder(study.root, run, at, split))
    return found.scores[0, :, 0], found.labels[:, 0]


def test_where_no_other_split_is_scored_the_threshold_is_said_to_be_optimistic(
    tmp_path: Path,
) -> None:
    rows = Study(tmp_path, {"A": TARGETS[:1], "B": TARGETS[:1]}).grid().table(redraws=5)
    internal = one_row(rows, "accuracy", trained_on="A", data_set="A", epsilon=1.0)
    assert internal.note == THESE_IMAGES
    external = one_row(rows, "accuracy", trained_on="A", data_set="B", epsilon=1.0)
    assert external.note == "threshold from A, test"
    assert {row.target for row in rows} == {"a"}  # no mean of one finding
    assert not [row for row in rows if row.measure.startswith("mean")]  # one other site


def test_a_finding_below_chance_elsewhere_is_told(table: list[TransferRow]) -> None:
    where = {"data_set": "C", "split": "test", "epsilon": None}
    reversed_ = one_row(table, "auroc", trained_on="A", target="c", **where)
    assert reversed_.value < 0.5
    assert reversed_.note == BELOW_CHANCE
    assert one_row(table, "auroc", trained_on="C", target="c", **where).note == ""


def test_sites_of_other_findings_are_compared_on_those_that_they_share(tmp_path: Path) -> None:
    """Named in another order, and not all at each site."""
    targets = {"A": ("a", "b", "c"), "B": ("c", "d", "b"), "C": ("b", "a")}
    study = Study(tmp_path, targets).grid()
    rows, aurocs = study.table(redraws=20), study.aurocs("test")
    where = {"trained_on": "A", "data_set": "B", "epsilon": 1.0}
    for target in "bc":
        row = one_row(rows, "off_site_loss", target=target, **where)
        expected = aurocs["B", "B", 1.0, target] - aurocs["A", "B", 1.0, target]
        assert row.value == pytest.approx(expected)
    assert not [row for row in rows if row.data_set == "B" and row.target == "a"]
    macro = one_row(rows, "off_site_loss", target="macro", **where)
    assert macro.value == pytest.approx(
        np.mean([aurocs["B", "B", 1.0, t] - aurocs["A", "B", 1.0, t] for t in "bc"])
    )
    assert macro.note in {"paired, over b, c", "paired, over c, b"}
    alone = one_row(rows, "auroc", target="macro", trained_on="B", data_set="C", epsilon=1.0)
    assert alone.value == pytest.approx(aurocs["B", "C", 1.0, "b"])
    drop = one_row(rows, "external_drop", target="macro", **where)
    assert "over b, c" in drop.note


def test_a_site_of_one_patient_has_no_figure_and_says_so(tmp_path: Path) -> None:
    study = Study(tmp_path, dict.fromkeys("AB", TARGETS[:2])).grid()
    for one in study.cells:
        if one.cell.data_set == "B":
            for folder in one.evaluations:
                path = folder / "predictions.csv"
                path.write_text("\n".join(path.read_text().splitlines()[:2]) + "\n")
    rows = study.table(redraws=5)
    for row in rows:
        if row.data_set == "B":
            assert row.measure in {"accuracy", "sensitivity", "specificity"} or row.value is None
            assert row.n_patients == 1
    here = one_row(rows, "auroc", target="macro", trained_on="A", data_set="B", epsilon=1.0)
    assert here.note == "one class alone"


def test_models_of_other_findings_are_laid_side_by_side_by_name(tmp_path: Path) -> None:
    targets = {"A": ("a", "b"), "B": ("b", "a", "d"), "C": ("d", "b")}
    study = Study(tmp_path, targets).grid()
    runs = [f"run-{site}-1.0-0" for site in "ABC"]
    scored = read_scored(study.root, "B", "test", runs)
    assert scored.predictions.targets == ("b",)
    assert scored.problems == {}
    alone = read_predictions(evaluation_folder(study.root, "run-C-1.0-0", "B", "test"))
    column = alone.targets.index("b")
    assert (scored.predictions.scores[2, :, 0] == alone.scores[0, :, column]).all()
    at_b = [one for one in study.cells if one.cell.data_set == "B"]
    refuse_other_images(at_b)
    folder = at_b[0].evaluations[0]
    text = (folder / "predictions.csv").read_text().splitlines()
    first = text[1].split(",")
    column = text[0].split(",").index("b")
    first[column] = "10"[int(first[column])]
    (folder / "predictions.csv").write_text("\n".join([text[0], ",".join(first), *text[2:]]) + "\n")
    other = [ScoredCell(one.cell, one.evaluations[:1], one.dataset) for one in at_b]
    with pytest.raises(InputError, match="made of other images, patients, targets or labels"):
        refuse_other_images(other)

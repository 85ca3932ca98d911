import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from synthdp.config.settings import dump_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.storage.files import write_atomic, write_json
from synthdp.study.compare.results import ResultRow, write_results
from synthdp.study.compare.shortcut import (
    PIXELS,
    SHORTCUT_FILE,
    ShortcutRow,
    few_pixels,
    read_shortcut,
    shortcut_of,
    shortcut_words,
)
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.settings import StudySettings
from synthdp.study.sweep.grid import evaluation_folder

N_PATIENTS = 60


def make_set(
    out: Path, *, kind: str, targets: tuple[str, ...] = ("bright",), train_seed: int = 0
) -> Path:
    """Patients of two images; the first target shows in the brightness of a corner, others not."""
    rng, of_train = np.random.default_rng(0), np.random.default_rng(train_seed)
    info = DatasetInfo(name="clinic", kind=kind, size_px=32, targets=targets)
    with create_dataset(out, info) as writer:
        for patient in range(2 * N_PATIENTS):
            train = patient < N_PATIENTS
            labels = rng.integers(0, 2, len(targets))
            for _ in range(2):
                pixels = (of_train if train else rng).normal(100, 25, (32, 32))
                pixels[:8, :8] += 6 * labels[0]
                writer.add(
                    pixels.clip(0, 255).astype(np.uint8),
                    patient_id=f"secret-{patient}",
                    split="train" if train else "val",
                    targets=labels.tolist(),
                )
    return out


def make_study(
    root: Path, data: Path, strength: float, **changes: object
) -> tuple[Path, list[ResultRow]]:
    """A finished study of one model, whose scores tell classes apart by `strength`."""
    study, dataset = root / "study", open_dataset(data)
    rng, run, names = np.random.default_rng(1), "finetune-1", dataset.info.targets
    split = str(changes.pop("split", "val"))
    out = evaluation_folder(study, run, "clinic", split)
    lines = [",".join(["image", "patient_id", *names, *(f"score_{name}" for name in names)])]
    for row in dataset.split(split):
        logits = [strength * (label - 0.5) + rng.normal() for label in row.targets]
        cells = [row.image, row.patient_id, *(f"{label:.0f}" for label in row.targets)]
        lines.append(",".join([*cells, *(f"{1 / (1 + math.exp(-one)):.9g}" for one in logits)]))
    write_atomic(out / "predictions.csv", "\n".join(lines) + "\n")
    auroc = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    figures = {"auroc": auroc} if len(names) == 1 else {"mean": {"auroc": auroc}}
    threshold = 0.5 if len(names) == 1 else dict.fromkeys(names, 0.5)
    counts = {"n_images": len(lines) - 1, "n_patients": N_PATIENTS, "threshold": threshold}
    write_json(out / "metrics.json", {**counts, **figures})
    rows = [
        ResultRow(
            strategy="real_only", epsilon=6.0, seed=0, data_set="clinic", split=split,
            state="finished", run=run, auroc=0.7,
        )
    ]  # fmt: skip
    write_results(study / "results.csv", rows)
    (study / "study.json").write_text('{"title": "T"}')
    values = {
        "data": data, "out": study, "strategies": "real_only", "epsilons": [6], "seeds": [0],
        "evaluate_on": [{"data": data, "split": split}], "shortcut": True, **changes,
    }  # fmt: skip
    settings = validate_settings(StudySettings, values, where="study")
    write_atomic(study / "config.yaml", dump_settings(settings))
    return study, rows


def of_probe(rows: list[ShortcutRow], target: str = "bright") -> ShortcutRow:
    (found,) = [row for row in rows if (row.strategy, row.target) == (PIXELS, target)]
    return found


def test_the_probe_sees_means_of_few_pixels(tmp_path: Path) -> None:
    dataset = open_dataset(make_set(tmp_path / "clinic", kind="phantom"))
    rows = dataset.split("val")[:3]
    found = few_pixels(dataset, rows)
    images, _, _ = dataset.arrays("val")
    expected = images[:3].reshape(3, 16, 2, 16, 2).mean(axis=(2, 4)).reshape(3, 256) * 2 - 1
    assert found.shape == expected.shape  # resampled with a wider window than plain means
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    assert np.abs(found - expected).max() < 0.25


def test_on_images_of_nobody_it_learns_from_their_train_split(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic", kind="phantom")
    study, rows = make_study(tmp_path, data, strength=0.0)
    table = shortcut_of(study, rows)
    probe, (gain,) = of_probe(table), [row for row in table if row.measure == "gain"]
    assert probe.learned_on == "clinic, train"
    assert probe.value > 0.7
    assert probe.ci_low < probe.value < probe.ci_high
    assert (probe.n_images, probe.n_patients) == (2 * N_PATIENTS, N_PATIENTS)
    assert gain.value < 0
    (sentence,) = shortcut_words(table)
    assert sentence.startswith("bright on clinic, val: a probe of 16 x 16 pixels reaches 0.")
    assert "as well as the best model" in sentence
    assert read_shortcut(study / SHORTCUT_FILE) == shortcut_of(study, rows)
    other = make_set(tmp_path / "other" / "clinic", kind="phantom", train_seed=5)
    study, rows = make_study(tmp_path / "other", other, strength=0.0)
    assert of_probe(shortcut_of(study, rows)).value != probe.value


def test_on_patients_it_meets_none_whom_a_promise_is_for(tmp_path: Path) -> None:
    """Whatever the patients of train are, what is told is the same."""
    tables = []
    for seed in (0, 7):
        root = tmp_path / str(seed)
        data = make_set(root / "clinic", kind="real", train_seed=seed)
        study, rows = make_study(root, data, strength=8.0)
        shortcut_of(study, rows)
        tables.append((study / SHORTCUT_FILE).read_bytes())
    assert tables[0] == tables[1]
    assert b"secret" not in tables[0]
    table = read_shortcut(study / SHORTCUT_FILE)
    assert of_probe(table).learned_on == "the other patients of these, in 5 parts"
    assert of_probe(table).value > 0.7
    assert shortcut_words(table) == []  # the model is better


def test_a_split_that_patients_were_trained_on_has_no_probe(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic", kind="real")
    study, rows = make_study(tmp_path, data, strength=1.0, split="train")
    assert shortcut_of(study, rows) == []


def test_each_finding_has_its_probe_and_what_can_not_be_learned_is_told(tmp_path: Path) -> None:
    targets = ("bright", "noise", "never")
    root = make_set(tmp_path / "clinic", kind="real", targets=targets)
    manifest = root / "manifest.csv"
    lines = manifest.read_text().splitlines()
    column = lines[0].split(",").index("never")
    cells = [line.split(",") for line in lines[1:]]
    rest = [",".join([*row[:column], "0", *row[column + 1 :]]) for row in cells]
    manifest.write_text("\n".join([lines[0], *rest]) + "\n")
    study, rows = make_study(tmp_path, root, strength=2.0)
    table = shortcut_of(study, rows)
    values = {target: of_probe(table, target).value for target in (*targets, "macro")}
    assert values["never"] is None
    assert "one class alone" in of_probe(table, "never").note
    assert values["bright"] > values["noise"]
    assert values["macro"] == pytest.approx((values["bright"] + values["noise"]) / 2, abs=1e-6)
    gains = {row.target: row.value for row in table if row.measure == "gain"}
    assert gains.keys() == {"bright", "noise", "macro"}
    dataset = open_dataset(root)
    labels = [row.targets[1] for row in dataset.split("val")]
    text = (evaluation_folder(study, "finetune-1", "clinic", "val") / "predictions.csv").read_text()
    scores = [float(line.split(",")[6]) for line in text.splitlines()[1:]]
    expected = roc_auc_score(labels, scores) - values["noise"]
    assert gains["noise"] == pytest.approx(expected, abs=2e-6)


def test_the_report_says_when_the_probe_does_as_well(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic", kind="phantom")
    study, _ = make_study(tmp_path, data, strength=0.0, shortcut=False)
    assert "few pixels" not in run_report(ReportSettings(study=study)).read_text()
    page = run_report(ReportSettings(study=study, shortcut=True)).read_text()
    assert "Do a few pixels do as well?" in page
    assert "which is as well as the best model" in page
    assert "learned from clinic, train" in page
    assert "secret" not in page
    (evaluation_folder(study, "finetune-1", "clinic", "val") / "predictions.csv").write_text("x")
    (study / SHORTCUT_FILE).write_text("damaged\n")
    page = run_report(ReportSettings(study=study)).read_text()
    assert "The comparison with pixels can&#39;t be shown" in page or "can't be shown" in page


def test_it_is_said_at_which_epsilons_models_are_no_better() -> None:
    def row(
        measure: str, value: float, epsilon: float | None = None, low: float = 0.01
    ) -> ShortcutRow:
        return ShortcutRow(
            strategy=PIXELS if measure == "auroc" else "real_only", epsilon=epsilon,
            data_set="clinic", split="val", n_seeds=1, target="bright", measure=measure,
            learned_on="clinic, train", value=value, ci_low=low, ci_high=value + 0.1,
            n_images=9, n_patients=9,
        )  # fmt: skip

    probe, free = row("auroc", 0.7), row("gain", 0.15)
    assert shortcut_words([probe, row("gain", 0.1, 8.0), free]) == []
    weak = [row("gain", -0.1, 1.0, -0.2), row("gain", 0.04, 3.0, -0.02), row("gain", 0.1, 8.0)]
    assert shortcut_words([probe, *weak, free]) == [
        "bright on clinic, val: a probe of 16 x 16 pixels reaches 0.700; models at epsilon 1 and 3 "
        "are not shown to be better, the best model 0.850 is."
    ]
    more = [*weak[:2], row("gain", 0.01, 8.0, -0.02), free]
    assert "models at epsilon 1, 3 and 8 are not" in shortcut_words([probe, *more])[0]
    (sentence,) = shortcut_words([probe, row("gain", 0.1, 8.0), row("gain", 0.01)])
    assert "models without privacy are not shown to be better" in sentence
    (sentence,) = shortcut_words([probe, *weak[:2]])
    assert sentence.endswith("that the best model 0.740 is better is not shown.")

"""What leaves the house: exactly the files that may, and no function of who is in the data."""

import csv
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from made_up import clinic_set, made_up_assessment
from safetensors import safe_open

from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.predict import run_predict
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings, PredictSettings
from gan.generate import run_generate
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.checkpoint import save_weights
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.yaml_core import read_yaml
from synthdp.data.check import check_dataset
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.identity import keyed_digest
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.release import Asked, release
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, sha256_file, write_json
from synthdp.storage.paths import settings_without_paths
from synthdp.study.compare.aurocs import read_comparisons
from synthdp.study.compare.results import evaluation_row, read_results, write_results
from synthdp.study.report.page import run_report
from synthdp.study.report.settings import ReportSettings

RANDOM = FeatureSettings(name="test_vit", size_px=32)
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=500)
RELEASED = ("config.yaml", "privacy.json", "README.md", "status.json", "release.json")
UNPROTECTED = Asked(without_protection=True)
CLASSIFIER = {
    *RELEASED,
    *("model/settings.json", "model/weights.safetensors"),
}
ID = "a" * 16


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def named_by(text: str, digests: Mapping[str, str]) -> str:
    """A text in which each digest of a file is replaced by the file's name."""
    for digest, name in digests.items():
        text = text.replace(digest, name)
    return text


def finetuned(data: Path, out: Path, **changes: object) -> Path:
    values = {"data": data, "out": out, "privacy": PRIVACY, "backbone": RANDOM, **changes}
    return run_finetune(FinetuneSettings.model_validate(values))


def gan_settings(data: Path, out: Path) -> TrainGanSettings:
    tiny = {"size_px": 32, "channels": (16, 16, 8), "z_dim": 16, "batch": 8, "kimg": 0.02}
    return TrainGanSettings.model_validate({"data": data, "out": out, **tiny})


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mercy-hospital") / "ward-of-frau-mueller"
    return run_phantoms(
        PhantomSettings(out=out, patients=61, size_px=32, name="clinic", as_real=True)
    )


@pytest.fixture(scope="module")
def run(clinic: Path) -> Path:
    return finetuned(clinic, clinic.parent / "models-of-frau-mueller" / "dp")


@pytest.fixture(scope="module")
def released(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("share") / "dp"
    release(run, out)
    return out


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_run_leaves_with_exactly_what_may_leave(run: Path, released: Path) -> None:
    assert files_in(released) == CLASSIFIER
    assert not any(path.is_symlink() for path in released.rglob("*"))
    for same in ("privacy.json", "model/settings.json", "model/weights.safetensors"):
        assert (released / same).read_bytes() == (run / same).read_bytes()
    with safe_open(released / "model" / "weights.safetensors", framework="pt") as weights:
        assert set(weights.keys()) >= {"head.weight", "head.bias"}
        assert weights.metadata() is None


def test_its_status_tells_no_time_and_no_crash(run: Path, released: Path) -> None:
    kept = read_json(run / "status.json")
    assert read_json(released / "status.json") == {
        "schema_version": 1,
        "stage": "finetune",
        "state": "finished",
        "release": kept["release"],
        "attempts": 1,
        "versions": kept["versions"],
    }


def test_only_the_paths_of_its_settings_are_changed(run: Path, released: Path) -> None:
    before, after = read_yaml(run / "config.yaml"), read_yaml(released / "config.yaml")
    assert (after["data"], after["out"]) == ("clinic", "out")
    assert {**before, "data": after["data"], "out": after["out"]} == after
    assert list(before) == list(after)


def secrets_of(dataset: Dataset, run: Path) -> set[bytes]:
    keys = [path.read_bytes() for path in dataset.private.glob("key*")]
    assert keys
    words = {row.patient_id for row in dataset.rows} | {row.image for row in dataset.rows}
    words |= {keyed_digest(dataset, dataset.split(split)) for split in ("train", "val", "all")}
    words |= {sha256_file(dataset.root / row.image) for row in dataset.rows}
    places = [dataset.root, dataset.root.parent, run, run.parent]
    words |= {str(place) for place in places}
    words |= {"mercy-hospital", "models-of-frau-mueller", "ward-of-frau-mueller"}
    return {word.encode() for word in words} | {*keys, *(key.hex().encode() for key in keys)}


def test_nothing_in_it_tells_of_a_patient(clinic: Path, run: Path, released: Path) -> None:
    dataset = open_dataset(clinic)
    secrets = secrets_of(dataset, run)
    counts = read_json(dataset.private / "counts.json")["train"]
    for name in files_in(released):
        content = (released / name).read_bytes()
        assert not [secret for secret in secrets if secret in content], name
        if name not in ("status.json", "model/weights.safetensors"):  # package versions; floats
            numbers = set(re.findall(r"\b\d+\b", content.decode()))
            assert not numbers & {str(counts["patients"]), str(counts["images"])}, name


def evaluated(run: Path, data: Path, out: Path) -> list[dict[str, str]]:
    settings = EvaluateSettings(run=run, dataset=data, split="val", out=out, redraws=10)
    with open(run_evaluate(settings) / "predictions.csv", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("weights", [[], {}, 3])
def test_a_model_whose_settings_name_no_file_is_refused(
    run: Path, tmp_path: Path, weights: object
) -> None:
    copy = copy_of(run, tmp_path)
    settings = read_json(copy / "model" / "settings.json")
    settings["sources"][0]["backbone"]["weights"] = weights
    write_json(copy / "model" / "settings.json", settings)
    with pytest.raises(InputError, match=r"settings\.json:\n  sources\.0\.backbone\.weights: "):
        release(copy, tmp_path / "share")
    assert not (tmp_path / "share").exists()


def test_a_released_model_scores_as_its_run_does(
    clinic: Path, run: Path, released: Path, tmp_path: Path
) -> None:
    there = evaluated(released, clinic, tmp_path / "there")
    assert there == evaluated(run, clinic, tmp_path / "here")
    assert len(there) > 5


def synthetic(clinic: Path, tmp_path: Path) -> Path:
    run = run_train_gan(gan_settings(clinic, tmp_path / "gan"))
    release(run, tmp_path / "released-gan", UNPROTECTED)
    assert files_in(tmp_path / "released-gan") == {
        *RELEASED,
        *("model/settings.json", "model/generator.safetensors"),
    }
    return run_generate(
        GenerateSettings(run=tmp_path / "released-gan", out=tmp_path / "synthetic", per_class=2)
    )


def test_a_released_generator_draws_a_set_that_leaves_with_its_promise(
    clinic: Path, tmp_path: Path
) -> None:
    made = synthetic(clinic, tmp_path)
    (made / "images" / "left-over.png").write_bytes(b"x")
    (made / "notes.txt").write_text("for us")
    out = tmp_path / "out"
    statement = release(made, out, UNPROTECTED)
    assert statement.epsilon == float("inf")
    assert "generator trained without differential privacy" in statement.because
    named = {f"images/{number:06d}.png" for number in range(1, 5)}
    files = {"manifest.csv", "metadata.csv", "dataset.json", "README.md", "release.json"}
    files |= {"contact-sheet.png"}
    assert files_in(out) == {*files, *named}
    left, stays = open_dataset(out).info, open_dataset(made).info
    assert left.lineage.releases == stays.lineage.releases
    assert left.lineage.declared[-1].endswith("were made from rests on its dataset.json")
    assert left == stays.model_copy(update={"lineage": left.lineage, "ledger": None})
    problems = check_dataset(out).problems  # nothing stands beside what was released
    assert not [one for one in problems if "stand beside" in one]
    assert keyed_digest(open_dataset(out), open_dataset(out).rows)  # it is a set like any other


@pytest.fixture(scope="module")
def study(clinic: Path, run: Path) -> Path:
    """A study folder as `synthdp study` leaves it, with one run."""
    folder = clinic.parent / "study"
    figure = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    metrics = dict.fromkeys(("auroc", "auprc", "sensitivity", "specificity"), figure)
    statement = read_statement(run)
    row = evaluation_row(
        **{"strategy": "real_only", "epsilon": 6, "seed": 0, "data_set": "clinic"},
        **{"split": "val", "run": "finetune-0", "statement": statement},
        metrics={**metrics, "n_images": 10, "n_patients": 8},
    )
    with open_run(folder, "study", FinetuneSettings(data=clinic, out=folder, backbone=RANDOM)) as r:
        write_results(folder / "results.csv", [row])
        shutil.copytree(run, folder / "runs" / "finetune-0")
        about = {"title": "T", "wall_time_s": 12.5, "real": str(clinic), "show_real": True}
        write_json(folder / "study.json", about)
        run_report(ReportSettings(study=folder))
        r.finish(statement, "# T\n")
    return folder


def test_a_study_leaves_without_times_models_and_pictures(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    leaves, stands = release(study, out), read_statement(study)
    assert leaves == stands.model_copy(update={"on_record": leaves.on_record})
    parts = {f"runs/finetune-0/{name}" for name in ("status.json", "privacy.json")}
    own = {"config.yaml", "privacy.json", "privacy-dp.json", "card.md", "status.json"}
    own |= {"release.json"}
    page = {"results.csv", "study.json", "report.html", "model-card.md", "data-card.md"}
    assert files_in(out) == {*own, *parts, *page}
    about = read_json(out / "study.json")
    assert about["title"] == "T"
    assert [one["name"] for one in about["sets"]] == ["clinic"]
    assert (out / "data-card.md").read_text() == (study / "data-card.md").read_text()
    for row in read_results(out / "results.csv"):
        assert (row.auroc, row.brier, row.n_images, row.n_patients) == (None,) * 4
    before, after = ((folder / "report.html").read_text() for folder in (study, out))
    for told in ("The study took", "Median", "last run", "data:image/png", "in place of patients"):
        assert told in before
        assert told not in after
    written = [out / name for name in ("config.yaml", "model-card.md", "data-card.md")]
    for text in (after, *(path.read_text() for path in written)):
        assert str(study.parent) not in text
    run_report(ReportSettings(study=out))
    assert (out / "report.html").read_text() == after


def test_no_machine_leaves_with_a_study_s_settings(study: Path, tmp_path: Path) -> None:
    config = study / "config.yaml"
    address = "tcp://someone:hunter2@node1:8786"
    config.write_text(f"{config.read_text()}\nengine: dask\nengine_address: {address}\n")
    release(study, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes()
            assert b"node1" not in path.read_bytes()
    assert "engine_address: null" in (tmp_path / "out" / "config.yaml").read_text()


def test_comparisons_leave_with_a_study_and_predictions_stay(study: Path, tmp_path: Path) -> None:
    copy = copy_of(study, tmp_path)
    evaluated = copy / "evaluations" / "finetune-0-clinic-val"
    evaluated.mkdir(parents=True)
    (evaluated / "predictions.csv").write_text(
        "image,patient_id,malignant,score_malignant\n"
        + "".join(f"{n}.png,secret-{n},{n % 2},0.{5 * n % 9}1\n" for n in range(9))
    )
    run_report(ReportSettings(study=copy))
    release(copy, tmp_path / "blank")
    assert not (tmp_path / "blank" / "comparisons.csv").exists()
    release(copy, tmp_path / "out", Asked(include=("scores",)))
    assert read_comparisons(tmp_path / "out") == read_comparisons(copy)
    assert (tmp_path / "out" / "comparisons.csv").is_file()
    assert "Comparisons: clinic, val" in (tmp_path / "out" / "report.html").read_text()
    assert not any("secret" in path.read_text() for path in (tmp_path / "out").rglob("*.*"))
    assert not (tmp_path / "out" / "evaluations").exists()


def test_the_assessment_of_a_synthetic_set_stays(study: Path, tmp_path: Path) -> None:
    copy = copy_of(study, tmp_path)
    info = DatasetInfo(name="made up", kind="synthetic", size_px=32)
    judged = made_up_assessment(tmp_path / "judged", info)
    write_json(copy / "study.json", {**read_json(copy / "study.json"), "assessment": str(judged)})
    assert "FD-Net" in run_report(ReportSettings(study=copy)).read_text()
    release(copy, tmp_path / "out")
    for path in (tmp_path / "out").rglob("*.*"):
        assert b"FD-Net" not in path.read_bytes()
        assert b"judged" not in path.read_bytes()
    with pytest.raises(InputError, match="neither a run, a study nor a data set"):
        release(judged, tmp_path / "figures")


def test_scores_of_patients_who_were_trained_on_stay(study: Path, tmp_path: Path) -> None:
    copy = copy_of(study, tmp_path)
    text = (copy / "results.csv").read_text().replace(",val,", ",train,")
    (copy / "results.csv").write_text(text)
    with pytest.raises(InputError, match="patients were trained on"):
        release(copy, tmp_path / "out", Asked(include=("scores",)))


def test_a_study_that_leaves_out_what_a_run_spent_is_refused(study: Path, tmp_path: Path) -> None:
    copy = copy_of(study, tmp_path)
    content = read_json(copy / "privacy.json")
    write_json(copy / "privacy.json", {**content, "lineage": {"releases": []}})
    with pytest.raises(InputError, match=r"promises more than what was spent allows \(.*lineage"):
        release(copy, tmp_path / "out")


@pytest.mark.parametrize("field", ["epsilon_end_to_end", "epsilon_stage", "delta", "unit"])
def test_a_row_that_promises_more_than_its_run_is_refused(
    field: str, study: Path, tmp_path: Path
) -> None:
    copy = copy_of(study, tmp_path)
    rows = read_results(copy / "results.csv")
    less = {"epsilon_end_to_end": 0.1, "epsilon_stage": 0.1, "delta": 1e-9, "unit": "image"}
    edited = [row.model_copy(update={field: less[field]}) for row in rows]
    write_results(copy / "results.csv", edited)
    with pytest.raises(InputError, match=r"results\.csv, run .* something else than the run's own"):
        release(copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_holds_patients_images_is_refused(clinic: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    with create_dataset(real, DatasetInfo(name="real", kind="real", size_px=32)) as writer:
        writer.add(np.zeros((32, 32), np.uint8), patient_id="p", split="train", targets=[1])
    for patients in (clinic, real):
        with pytest.raises(InputError, match="holds patients' images"):
            release(patients, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def unfinished(run: Path) -> None:
    status = read_json(run / "status.json")
    write_json(run / "status.json", {**status, "state": "interrupted"})


def linked_weights(run: Path) -> None:
    weights = run / "model" / "weights.safetensors"
    weights.rename(run / "elsewhere")
    weights.symlink_to(run / "elsewhere")


def linked_model(run: Path) -> None:
    (run / "model").rename(run / "elsewhere")
    (run / "model").symlink_to(run / "elsewhere")


def linked_card(run: Path) -> None:
    (run / "card.md").unlink()
    (run / "card.md").symlink_to(run / "private" / "metrics.jsonl")


def unknown_file(run: Path) -> None:
    (run / "model" / "features.npy").write_bytes(b"secret")


def folder_in_model(run: Path) -> None:
    (run / "model" / "private").mkdir()


def torn_weights(run: Path) -> None:
    weights = run / "model" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])


def other_weights(run: Path) -> None:
    save_weights(run / "model" / "weights.safetensors", {})


def card_with_a_path(run: Path) -> None:
    data = read_yaml(run / "config.yaml")["data"]
    card = (run / "card.md").read_text()
    (run / "card.md").write_text(
        card.replace("## What it is\n", f"## What it is\n\ntrained on {data}\n")
    )


def without_a_card(run: Path) -> None:
    (run / "card.md").unlink()


def other_stage(run: Path) -> None:
    status = read_json(run / "status.json")
    write_json(run / "status.json", {**status, "stage": "evaluate"})


def nothing(run: Path) -> None:
    (run / "status.json").unlink()


def old_status(run: Path) -> None:
    write_json(run / "status.json", {"stage": "finetune", "state": "finished"})


def statement_with_more(run: Path) -> None:
    content = read_json(run / "privacy.json")
    write_json(run / "privacy.json", {**content, "n_patients": 41})


def lower_epsilon(run: Path) -> None:
    content = read_json(run / "privacy.json")
    write_json(run / "privacy.json", {**content, "epsilon": 1.0})


def forgotten_release(run: Path) -> None:
    ledger = run / "private" / "ledger.jsonl"
    content = read_json(run / "privacy.json")
    spent = Ledger(ledger).spent()
    less = spent.after(spent.mechanism.steps // 2)
    lineage = Lineage(releases=(less,))
    epsilon = lineage.epsilon(content["delta"])
    changed = {"lineage": lineage.model_dump(mode="json"), "epsilon": epsilon}
    write_json(run / "privacy.json", {**content, **changed})


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (unfinished, "not a finished run"),
        (linked_weights, "symbolic link"),
        (linked_model, "symbolic link"),
        (linked_card, "symbolic link"),
        (unknown_file, "1 file"),
        (folder_in_model, "1 file"),
        (torn_weights, "sha256"),
        (other_weights, "sha256"),
        (card_with_a_path, "names a folder of this machine"),
        (without_a_card, "no such file"),
        (other_stage, "nothing to release"),
        (nothing, "neither a run"),
        (old_status, "not a status of this version"),
        (statement_with_more, "not a statement"),
        (lower_epsilon, "promises more than what was spent allows"),
        (forgotten_release, "promises more than what was spent allows"),
    ],
)
def test_a_run_that_is_not_as_written_is_refused_and_nothing_appears(
    run: Path, tmp_path: Path, harm: object, words: str
) -> None:
    copy = copy_of(run, tmp_path)
    harm(copy)
    with pytest.raises(InputError, match=words):
        release(copy, tmp_path / "share" / "out")
    share = tmp_path / "share"
    assert not share.exists() or list(share.iterdir()) == []


def test_a_link_or_a_private_file_in_a_synthetic_set_is_refused(tmp_path: Path) -> None:
    info = DatasetInfo(name="made", kind="synthetic", size_px=32)
    for place in ("linked", "private"):
        root = tmp_path / place
        with create_dataset(root, info) as writer:
            writer.add(np.zeros((32, 32), np.uint8), patient_id="p", split="train", targets=[1])
        image = root / "images" / "000001.png"
        image.rename(root / "private" / "real.png")
        if place == "linked":
            image.symlink_to(root / "private" / "real.png")
        else:
            manifest = (root / "manifest.csv").read_text()
            (root / "manifest.csv").write_text(
                manifest.replace("images/000001.png", "private/real.png")
            )
        with pytest.raises(InputError, match=r"symbolic link|a file of private/"):
            release(root, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_filled_folder_is_not_touched(run: Path, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        release(run, tmp_path)
    assert files_in(tmp_path) == {"note"}


def test_the_same_release_again_is_done(run: Path, tmp_path: Path) -> None:
    first = release(run, tmp_path / "out")
    before = (tmp_path / "out").stat()
    assert release(run, tmp_path / "out") == first
    assert (tmp_path / "out").stat().st_ino == before.st_ino
    (tmp_path / "out" / "README.md").write_text("another")
    with pytest.raises(InputError, match="exists already"):
        release(run, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "another"


def test_what_was_released_may_be_released_again(released: Path, tmp_path: Path) -> None:
    release(released, tmp_path / "again")
    for name in files_in(released):
        assert (tmp_path / "again" / name).read_bytes() == (released / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/srv/mueller/data", "data"),
        ("mueller/data/", "data"),
        ("C:\\mueller\\data", "data"),
        ("~/data", "data"),
        ("../data", "data"),
        ("data", "data"),
        ("hub", "hub"),
    ],
)
def test_a_path_is_cut_to_its_last_part(text: str, left: str) -> None:
    nested = {"a": [{"data": text}], "name": "org/model", "cohort": "1/2", "none": None}
    assert settings_without_paths(nested) == {**nested, "a": [{"data": left}]}


def test_the_command_prints_the_headline_and_the_place(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["privacy", "--release", str(run), str(out)]) == EXIT_DONE
    headline, place = capsys.readouterr().out.splitlines()
    assert headline.startswith("**Privacy of this classifier: epsilon = 6 for each patient")
    assert place == str(out)
    assert main(["privacy", str(out)]) == EXIT_DONE
    assert capsys.readouterr().out.startswith(headline)


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "name at least one"), (["--release", "a", "b", "c"], "RUN and OUT alone")],
)
def test_the_command_refuses_too_little_and_too_much(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["privacy", *words]) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def open_to_others(folder: Path) -> set[str]:
    """What below a folder others than its owner may read or look into; the folder itself is `.`."""
    paths = [folder, *folder.rglob("*")]
    return {str(path.relative_to(folder)) for path in paths if path.stat().st_mode & 0o077}


def test_what_is_about_patients_is_closed_and_what_is_released_is_not(
    clinic: Path, run: Path, released: Path, tmp_path: Path
) -> None:
    evaluated(run, clinic, tmp_path / "scores" / "here")
    settings = PredictSettings(run=run, images=clinic / "images", out=tmp_path / "scores" / "x.csv")
    run_predict(settings)
    assert not open_to_others(clinic)
    assert not open_to_others(run)
    assert open_to_others(tmp_path / "scores") == {"."}
    mask = os.umask(0o022)
    os.umask(mask)
    for path in released.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask
    synthetic = clinic_set(tmp_path / "phantoms", "phantom")
    assert "manifest.csv" in open_to_others(synthetic)
    assert not {path for path in open_to_others(synthetic) if path == "private"}

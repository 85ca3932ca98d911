"""Every stage refuses what it made before from other data that stood under the same path.

The data, or an earlier run, is made anew in its place; then it is put back, and the very same
command returns at once. What the refused result spent stays on record.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up import clinic_set, made_up_assessment, small_study, study_settings

from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import CalibrateSettings, EvaluateSettings
from classify.settings.head import HeadSettings
from classify.settings.pretrain import PretrainSettings
from gan.generate import run_generate
from gan.mix import run_mix_generators
from gan.settings.assess import AssessSettings, FeatureSpace
from gan.settings.finished import GenerateSettings, MixGeneratorsSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import Settings, dump_settings
from synthdp.data.description import read_info
from synthdp.data.images import encode_png
from synthdp.data.importing import patches
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.dossier.evidence import read_evidence
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.release import release
from synthdp.runs.folder import is_written
from synthdp.runs.inputs import INPUTS_FILE, named_inputs, read_inputs, write_inputs
from synthdp.stages import STAGES, run_audit
from synthdp.storage.files import read_json, write_json
from synthdp.study import stage
from synthdp.study.report.page import report_table, run_report
from synthdp.study.report.settings import ReportSettings
from synthdp.study.stage import run_study

RANDOM = FeatureSettings(name="test_vit", size_px=32)
PRIVACY = PrivacySettings(epsilon=6, delta=1e-3, population=30)
FEW_STEPS = HeadSettings(steps=4, block_steps=2)
CHANGED = "was made from other inputs than stand there now"


@dataclass(frozen=True)
class Command:
    """A stage that was run once: what runs it again, and the files that a change of it edits."""

    again: Callable[[], Path]
    inputs: dict[str, Path]
    result: Path


@contextmanager
def edited(path: Path) -> Iterator[None]:
    """A data set, or a run, under the same path with another content, put back afterwards."""
    if (path / "dataset.json").is_file():
        file = sorted((path / "images").iterdir())[2]
        other = sorted((path / "images").iterdir())[3].read_bytes()
    elif (path / "model" / "generator.safetensors").is_file():
        file = path / "model" / "generator.safetensors"
        other = file.read_bytes()[:-4] + b"\0\0\0\1"
    else:
        file = path / "model" / "settings.json"
        other = file.read_bytes() + b" "  # the same to its reader, another file
    content = file.read_bytes()
    assert other != content
    file.write_bytes(other)
    try:
        yield
    finally:
        file.write_bytes(content)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("changed")


@pytest.fixture(scope="module")
def commands(root: Path) -> dict[str, Command]:
    """Each stage, run once on its own small sets."""
    clinic = clinic_set(root / "clinic")
    public = clinic_set(root / "public", "phantom")
    gan_set = clinic_set(root / "drawn", "phantom")

    made: dict[str, Command] = {}

    def run(stage: str, start: Callable[..., Path], settings: Settings) -> Path:
        out = start(settings)
        named = {key: path for key, path in named_inputs(settings).items() if path.exists()}
        made[stage] = Command(lambda: start(settings), named, out)
        return out

    before = run(
        "pretrain",
        run_pretrain,
        PretrainSettings(data=public, out=root / "pre", backbone=RANDOM, trainable_blocks=0),
    )
    private = {"data": clinic, "privacy": PRIVACY, "head": FEW_STEPS}
    tuned = run(
        "finetune",
        run_finetune,
        FinetuneSettings(**private, out=root / "tuned", init=before, synthetic=public),
    )
    run("calibrate", run_calibrate, CalibrateSettings(run=tuned, data=public, out=root / "cal"))
    run(
        "evaluate",
        run_evaluate,
        EvaluateSettings(run=tuned, dataset=clinic, split="train", out=root / "ev", redraws=20),
    )
    tiny = {"size_px": 32, "channels": (16, 16, 8), "z_dim": 16, "batch": 8, "kimg": 0.02}
    gan = run("train-gan", run_train_gan, TrainGanSettings(data=gan_set, out=root / "gan", **tiny))
    twin = root / "twin"
    shutil.copytree(gan, twin)
    runs = (gan, twin)
    run("mix-generators", run_mix_generators, MixGeneratorsSettings(runs=runs, out=root / "mix"))
    return made


def times(folder: Path) -> dict[Path, int]:
    """When each file was last written, locks apart."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path: path.stat().st_mtime_ns for path in files}


STAGE_INPUTS = [
    *(("pretrain", "data"), ("finetune", "data"), ("finetune", "init"), ("finetune", "synthetic")),
    *(("calibrate", "run"), ("calibrate", "data"), ("evaluate", "run"), ("evaluate", "dataset")),
    *(("train-gan", "data"), ("mix-generators", "runs.0"), ("mix-generators", "runs.1")),
]


@pytest.mark.parametrize(("stage", "key"), STAGE_INPUTS)
def test_a_finished_stage_is_refused_when_an_input_has_changed(
    commands: dict[str, Command], stage: str, key: str
) -> None:
    command = commands[stage]
    written = times(command.result)
    with edited(command.inputs[key]):
        with pytest.raises(InputError, match=CHANGED) as error:
            command.again()
        assert f"  {key}: has changed since" in str(error.value)
    assert command.again() == command.result  # put back: at once
    assert times(command.result) == written


def test_weights_that_are_not_those_of_their_settings_are_another_model(
    commands: dict[str, Command], root: Path
) -> None:
    weights = root / "tuned" / "model" / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + b"\0\0\0\1")
    with pytest.raises(InputError, match="run: has changed since: another model stands there"):
        commands["evaluate"].again()
    weights.write_bytes(content)
    assert commands["evaluate"].again() == root / "ev"


def test_every_input_of_every_stage_is_tried(commands: dict[str, Command]) -> None:
    named = {(stage, key) for stage, command in commands.items() for key in command.inputs}
    assert named == {*STAGE_INPUTS}


def test_the_stages_that_open_a_run_or_ask_for_one_are_all_tried_somewhere() -> None:
    tried = {stage for stage, _ in STAGE_INPUTS}
    elsewhere = {
        *("data patches", "data phantoms"),  # sources below; phantoms have no input
        *("generate", "assess", "audit", "study", "report"),  # below
        *("export", "predict"),  # worked out anew each time, and compared
        *("assess reader", "assess score"),  # tests/gan/quality/reading/test_command.py
        "export-model",  # a folder that stands is refused
        "import-generator",  # its file's sha256 is a setting
    }
    assert {stage for stage in STAGES if not stage.startswith("data ")} <= tried | elsewhere


def test_patients_made_anew_are_refused_and_what_was_spent_stays(
    commands: dict[str, Command], root: Path
) -> None:
    clinic, moved = root / "clinic", root / "clinic-before"
    spent = recorded_releases(clinic / "private" / "ledger.jsonl")
    assert spent
    clinic.rename(moved)
    clinic_set(clinic)  # the very same images, under a key and a ledger of their own
    with pytest.raises(InputError, match="made anew stands there, with a key of its own"):
        commands["finetune"].again()
    with pytest.raises(InputError, match="dataset: has changed since: a data set that was"):
        commands["evaluate"].again()
    shutil.rmtree(clinic)
    moved.rename(clinic)
    assert commands["finetune"].again() == root / "tuned"
    assert recorded_releases(clinic / "private" / "ledger.jsonl") == spent


def test_no_digest_of_an_input_leaves_with_a_release(
    commands: dict[str, Command], tmp_path: Path
) -> None:
    run = commands["finetune"].result
    noted = read_json(run / INPUTS_FILE)["inputs"]
    digests = [digest for one in noted.values() for digest in one["digests"].values()]
    assert len(noted["data"]["digests"]) == len({"key", "facts", "manifest", "images"})
    release(run, tmp_path / "out")
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left
    assert all(path.parent.name != "private" for path in left)
    for path in left:
        content = path.read_bytes()
        assert not any(digest.encode() in content for digest in digests)


def test_images_drawn_by_another_generator_are_refused(
    commands: dict[str, Command], root: Path
) -> None:
    gan = commands["train-gan"].result
    settings = GenerateSettings(run=gan, out=root / "synthetic", per_class=2, seed=1)
    out = run_generate(settings)
    assert run_generate(settings) == out
    about = gan / "model" / "settings.json"
    content = about.read_bytes()
    about.write_bytes(content + b"\n")  # which the description of the set does not hold
    with pytest.raises(InputError, match="run: has changed since: another model"):
        run_generate(settings)
    about.write_bytes(content)
    assert run_generate(settings) == out


def test_an_assessment_of_other_sets_is_refused(root: Path) -> None:
    real, made = clinic_set(root / "real"), clinic_set(root / "made", "synthetic")
    space = FeatureSpace(label="net", name="test_vit", size_px=32)
    settings = AssessSettings(synthetic=made, real=real, out=root / "quality", features=[space])
    settings.out.mkdir()
    folder = made_up_assessment(settings.out, read_info(made))
    (folder / "config.yaml").write_text(dump_settings(settings))
    write_inputs(folder, read_inputs(named_inputs(settings)))
    asked = {"last": "quality.json", "what": "an assessment"}
    assert is_written(folder, settings, **asked)
    for key in ("synthetic", "real"):
        with (
            edited(getattr(settings, key)),
            pytest.raises(InputError, match=f"{key}: has changed since: its images"),
        ):
            is_written(folder, settings, **asked)
    assert read_evidence(made, [folder]).assessments
    with edited(made), pytest.raises(InputError, match="name one of this very set"):
        read_evidence(made, [folder])


def test_an_audit_of_a_run_whose_data_have_changed_is_refused(
    commands: dict[str, Command], root: Path
) -> None:
    run = commands["finetune"].result
    with edited(root / "clinic"), pytest.raises(InputError, match="data: has changed since"):
        run_audit(AuditSettings(run=run, canaries=60, runs=20, shadows=4, replayed=1))


def test_an_evaluation_of_a_model_that_was_made_anew_is_no_evidence(
    commands: dict[str, Command], root: Path
) -> None:
    run, folder = commands["finetune"].result, commands["evaluate"].result
    assert read_evidence(run, [folder]).evaluations
    with edited(run), pytest.raises(InputError, match="evaluation of another model"):
        read_evidence(run, [folder])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    values = small_study(tmp_path_factory.mktemp("study")) | {"epsilons": [6], "seeds": [0]}
    run_study(study_settings(values))
    return values


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_a_study_is_refused_and_nothing_is_run_or_mixed(
    study: dict[str, object], state: str
) -> None:
    settings = study_settings(study)
    status = read_json(settings.out / "status.json")
    write_json(settings.out / "status.json", {**status, "state": state})
    before = (settings.out / "results.csv").read_bytes()
    note, put_by = settings.out / INPUTS_FILE, settings.out / "private" / "put-by"
    with edited(settings.data):
        with pytest.raises(InputError, match=r"data: has changed since: its images"):
            run_study(settings)
        note.rename(put_by)  # a study that an earlier version began: each of its runs tells
        with pytest.raises(InputError, match=r"images are others \(1 of its runs and scores\)"):
            run_study(settings)
        with pytest.raises(InputError, match=r"dataset: has changed since"):
            run_report(ReportSettings(study=settings.out))
        with pytest.raises(InputError, match=r"dataset: has changed since"):
            report_table(ReportSettings(study=settings.out, format="csv"))
    put_by.rename(note)
    assert run_study(settings).is_file()
    assert (settings.out / "results.csv").read_bytes() == before


def test_a_report_on_runs_that_were_made_anew_is_refused(study: dict[str, object]) -> None:
    out = study_settings(study).out
    (run,) = (out / "runs").iterdir()
    with edited(run), pytest.raises(InputError, match="run: has changed since: another model"):
        run_report(ReportSettings(study=out))
    run_report(ReportSettings(study=out))


def test_what_only_the_first_stage_of_a_recipe_was_made_from_counts_too(tmp_path: Path) -> None:
    values = small_study(tmp_path) | {"epsilons": [6], "seeds": [0]}
    values |= {"phantoms": clinic_set(tmp_path / "public", "phantom")}
    values |= {"strategies": ["phantoms_then_finetune"], "pretrain": {"trainable_blocks": 0}}
    settings = study_settings(values)
    run_study(settings)
    (settings.out / INPUTS_FILE).unlink()  # by which the study itself would tell
    with edited(tmp_path / "public"):
        for make in (run_report, report_table):
            format = "html" if make is run_report else "csv"
            with pytest.raises(InputError, match="has changed since: its images are others"):
                make(ReportSettings(study=settings.out, format=format))


def test_data_that_change_while_a_study_is_at_work_give_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = study_settings(small_study(tmp_path) | {"epsilons": [6], "seeds": [0]})
    run_grid = stage.run_grid

    def meanwhile(*arguments: Any, **expected: Any) -> dict[str, str]:
        failures = run_grid(*arguments, **expected)
        images = sorted((settings.data / "images").iterdir())
        images[0].write_bytes(images[1].read_bytes())
        return failures

    monkeypatch.setattr(stage, "run_grid", meanwhile)
    with pytest.raises(InputError, match="has changed since"):
        run_study(settings)
    assert not (settings.out / "results.csv").exists()


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32)).astype(np.uint8)
    return encode_png(pixels)


@pytest.fixture
def imported(tmp_path: Path) -> PatchesSettings:
    src = tmp_path / "src"
    for number in range(12):
        folder = src / ("malignant" if number % 2 else "benign")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"patient{number}.png").write_bytes(picture(number))
    (tmp_path / "key").write_bytes(bytes([1]) * 32)  # by which both splits have patients
    settings = PatchesSettings(
        src=src,
        out=tmp_path / "set",
        name="clinic",
        kind="real",
        size_px=32,
        patient_pattern=r"patient(\d+)",
        val_fraction=0.5,
        key=tmp_path / "key",
    )
    run_patches(settings)
    return settings


def rename(src: Path) -> None:
    (src / "benign" / "patient0.png").rename(src / "benign" / "patient100.png")


SOURCE_CHANGES: dict[str, Callable[[Path], object]] = {
    "an image edited": lambda src: (src / "benign" / "patient0.png").write_bytes(picture(99)),
    "an image more": lambda src: (src / "benign" / "patient50.png").write_bytes(picture(50)),
    "an image less": lambda src: (src / "benign" / "patient0.png").unlink(),
    "another patient's name": rename,
    "a table that names the images": lambda src: (src / "metadata.csv").write_text("image\n"),
}


@pytest.mark.parametrize("how", SOURCE_CHANGES)
def test_an_import_of_sources_that_have_changed_is_refused(
    imported: PatchesSettings, how: str
) -> None:
    manifest = (imported.out / "manifest.csv").read_bytes()
    SOURCE_CHANGES[how](imported.src)
    with pytest.raises(InputError, match="src: has changed since: files in it were") as error:
        run_patches(imported)
    assert "patient0" not in str(error.value)
    assert "keep this folder" in str(error.value)  # its ledger stands in it
    assert (imported.out / "manifest.csv").read_bytes() == manifest


@pytest.mark.parametrize("how", SOURCE_CHANGES)
def test_sources_that_change_while_they_are_imported_are_found_out(
    imported: PatchesSettings, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = patches._prepared

    def meanwhile(*arguments: object) -> object:
        made = prepared(*arguments)
        SOURCE_CHANGES[how](imported.src)
        return made

    settings = imported.model_copy(update={"out": tmp_path / "late"})
    monkeypatch.setattr(patches, "_prepared", meanwhile)
    run_patches(settings)
    with pytest.raises(InputError, match="src: has changed since: files in it were"):
        run_patches(settings)


def test_an_import_is_the_same_wherever_its_sources_have_been_meanwhile(
    imported: PatchesSettings, tmp_path: Path
) -> None:
    shutil.copytree(imported.src, tmp_path / "backup")
    shutil.rmtree(imported.src)
    assert run_patches(imported) == imported.out  # a disk that is not mounted: it can't be told
    shutil.copytree(tmp_path / "backup", imported.src)  # other inodes and times
    assert run_patches(imported) == imported.out


def test_the_note_of_an_import_names_no_file_of_a_patient(imported: PatchesSettings) -> None:
    for name in ("inputs.json", "source-digests"):
        path = imported.out / "private" / name
        assert name == "source-digests" or path.is_file()
        assert not path.is_file() or b"patient" not in path.read_bytes()


def test_an_import_of_an_earlier_version_opens_as_before(imported: PatchesSettings) -> None:
    (imported.out / INPUTS_FILE).unlink()
    (imported.src / "benign" / "patient0.png").write_bytes(picture(99))
    assert run_patches(imported) == imported.out


def test_the_command_ends_with_2_and_names_no_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = run_phantoms(PhantomSettings(out=tmp_path / "set", patients=12, size_px=32))
    config = tmp_path / "pretrain.yaml"
    config.write_text(
        f"data: {data}\nout: {tmp_path / 'out'}\ntrainable_blocks: 0\n"
        "backbone: {name: test_vit, size_px: 32}\n"
    )
    assert main(["pretrain", str(config)]) == EXIT_DONE
    assert main(["pretrain", str(config)]) == EXIT_DONE
    with edited(data):
        assert main(["pretrain", str(config)]) == EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert "data: has changed since: its images are others" in message
    assert "images/" not in message

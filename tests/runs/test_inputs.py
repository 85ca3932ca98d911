"""Which settings name inputs, and what is said of a result whose inputs have changed."""

import logging
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from made_up import clinic_set, random_run

from synthdp.config.settings import Settings
from synthdp.errors import InputError
from synthdp.networks.settings import BackboneSettings
from synthdp.runs.folder import open_run
from synthdp.runs.inputs import (
    INPUTS_FILE,
    OUTPUTS,
    changed_inputs,
    named_inputs,
    read_inputs,
    refuse_changed,
    write_inputs,
)
from synthdp.stages import STAGES
from synthdp.storage.files import read_json, write_json


def path_settings(annotation: Any, key: str = "") -> Iterator[str]:
    """The dotted keys of settings that are paths, * for numbers of lists; with a sha256 none."""
    if annotation is Path:
        yield key
    elif isinstance(annotation, type) and issubclass(annotation, Settings):
        for name, field in annotation.model_fields.items():
            of_path = field.annotation is Path or Path in get_args(field.annotation)
            if not (of_path and "sha256" in annotation.model_fields):
                yield from path_settings(field.annotation, f"{key}.{name}" if key else name)
    elif get_origin(annotation) in (Union, UnionType, Annotated):
        for part in get_args(annotation):
            yield from path_settings(part, key)
    elif get_origin(annotation) in (tuple, list, dict):
        for part in get_args(annotation):
            yield from path_settings(part, f"{key}.*")


#: Every setting that names what a stage reads. Whoever adds one sees here that it is taken for an
#: input: a stage that opens a run, or asks `is_written`, refuses when it has changed.
READ = {
    "train-gan": {
        *("data", "init", "embedding.public", "selection.pool.*", "findings_table.table.*"),
    },
    "mix-generators": {"runs.*"},
    "import-generator": set(),
    "generate": {"run", "findings_table.table.*"},
    "assess": {"synthetic", "real", "baseline"},
    "pretrain": {"data"},
    "finetune": {"data", "init", "synthetic", "centre"},
    "calibrate": {"run", "data"},
    "evaluate": {"run", "dataset", "table", "as_imported"},
    "study": {
        *("data", "synthetic", "private_synthetic", "phantoms", "public"),
        *("assessment", "published"),
        *("evaluate_on.*.data", "transfer.data.*", "compare.threshold_on.data"),
    },
}


@pytest.mark.parametrize("stage", READ)
def test_every_path_that_a_stage_reads_is_an_input(stage: str) -> None:
    keys = path_settings(STAGES[stage].settings_class())
    assert {key for key in keys if key not in OUTPUTS} == READ[stage]


class Part(Settings):
    sets: tuple[Path, ...] = ()
    backbone: BackboneSettings = BackboneSettings()


class Example(Settings):
    data: Path = Path("none")
    run: Path = Path("none")
    table: Path = Path("none")
    part: Part = Part()
    out: Path = Path("out")


def test_outputs_and_weights_with_a_sha256_are_no_inputs(tmp_path: Path) -> None:
    weights = BackboneSettings(weights=tmp_path / "w", sha256="0" * 64)
    part = Part(sets=(tmp_path / "a", tmp_path / "b"), backbone=weights)
    named = named_inputs(Example(data=tmp_path, part=part))
    assert named.keys() == {"data", "run", "table", "part.sets.0", "part.sets.1"}
    assert named["part.sets.1"] == tmp_path / "b"


@pytest.fixture
def settings(tmp_path: Path) -> Example:
    (tmp_path / "table.csv").write_text("a,b\n")
    return Example(
        data=clinic_set(tmp_path / "clinic", n_patients=3),
        run=random_run(tmp_path / "run"),
        table=tmp_path / "table.csv",
    )


def finish(settings: Example, out: Path) -> Path:
    with open_run(out, "pretrain", settings) as run:
        run._set_state("finished")
    return out


def opened(settings: Example, out: Path) -> None:
    with open_run(out, "pretrain", settings) as run:
        assert run.finished


def test_a_note_tells_each_input_and_stands_in_private_alone(
    settings: Example, tmp_path: Path
) -> None:
    out = finish(settings, tmp_path / "out")
    noted = read_json(out / INPUTS_FILE)["inputs"]
    assert {key: one["kind"] for key, one in noted.items()} == {
        "data": "data set",
        "run": "run",
        "table": "file",
    }
    assert (out / INPUTS_FILE).stat().st_mode & 0o077 == 0
    assert INPUTS_FILE.parts[0] == "private"
    opened(settings, out)


def test_all_that_has_changed_is_said_by_its_setting(settings: Example, tmp_path: Path) -> None:
    out = finish(settings, tmp_path / "out")
    images = sorted((settings.data / "images").iterdir())
    content = images[0].read_bytes()
    images[0].write_bytes(images[1].read_bytes())
    about = settings.run / "model" / "settings.json"
    model = about.read_bytes()
    write_json(about, {**read_json(about), "targets": ["other"]})
    settings.table.write_text("a,c\n")
    with pytest.raises(InputError) as error:
        opened(settings, out)
    lines = str(error.value).splitlines()
    assert [line.strip().split(":")[0] for line in lines[1:-1]] == ["data", "run", "table"]
    assert lines[1].endswith("since: its images are others")
    assert "name a new `out`" in lines[-1]
    assert images[0].name not in str(error.value)
    images[0].write_bytes(content)
    about.write_bytes(model)
    settings.table.write_text("a,b\n")
    opened(settings, out)


def test_another_kind_of_input_is_said(settings: Example, tmp_path: Path) -> None:
    now = read_inputs(named_inputs(settings))
    swapped = {"data": now["run"], "run": now["data"]}
    lines = changed_inputs(swapped, now)
    assert lines[0].endswith("it was a run, and is a data set now")


def test_a_result_of_an_earlier_version_is_given_out_with_a_word(
    settings: Example, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = finish(settings, tmp_path / "out")
    (out / INPUTS_FILE).unlink()
    with caplog.at_level(logging.INFO):
        opened(settings, out)
    assert "can't be told" in caplog.text


def test_inputs_that_are_gone_are_not_held_against_a_result(
    settings: Example, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = finish(settings, tmp_path / "out")
    settings.data.rename(tmp_path / "elsewhere")
    settings.table.unlink()
    with caplog.at_level(logging.INFO):
        opened(settings, out)
    assert "data, table: gone" in caplog.text


def test_a_damaged_note_is_refused(settings: Example, tmp_path: Path) -> None:
    out = finish(settings, tmp_path / "out")
    (out / INPUTS_FILE).write_text("{}")
    with pytest.raises(InputError, match=r"inputs\.json"):
        opened(settings, out)


def test_a_run_that_began_on_other_data_is_not_resumed(settings: Example, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), open_run(out, "pretrain", settings):
        raise KeyboardInterrupt
    rows = (settings.data / "manifest.csv").read_text()
    (settings.data / "manifest.csv").write_text(rows.replace("train", "val"))
    with (
        pytest.raises(InputError, match="data: has changed since: its manifest"),
        open_run(out, "pretrain", settings),
    ):
        pass
    (settings.data / "manifest.csv").write_text(rows)
    with open_run(out, "pretrain", settings) as run:
        assert run.resumed


def test_a_generators_weights_count_beside_its_settings(tmp_path: Path) -> None:
    model = tmp_path / "gan" / "model"
    model.mkdir(parents=True)
    write_json(model / "settings.json", {"arch": "haar"})
    (model / "generator.safetensors").write_bytes(b"one")
    before = read_inputs({"run": tmp_path / "gan"})
    (model / "generator.safetensors").write_bytes(b"two")
    lines = changed_inputs(before, read_inputs({"run": tmp_path / "gan"}))
    assert lines == ["run: has changed since: another model stands there"]


def test_names_are_resolved_by_whoever_knows_them(tmp_path: Path) -> None:
    run, named = random_run(tmp_path / "run"), Path("pretrained:name")
    assert read_inputs({"run": named}) == {}
    resolved = read_inputs({"run": named}, resolve=lambda _: run)
    write_inputs(tmp_path, resolved)
    assert resolved["run"].path == str(named)
    refuse_changed(tmp_path, lambda: resolved)

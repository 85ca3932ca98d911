import builtins
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from synthdp.cli import main
from synthdp.config.settings import load_settings
from synthdp.data.dataset import open_dataset
from synthdp.init.answers import Options, answered
from synthdp.init.asking import plain
from synthdp.init.files import ASSESS_FILE, write_folder
from synthdp.init.kinds import POOL_FILE, WRITTEN
from synthdp.networks.public import weight_files
from synthdp.stages import STAGES

FOLDERS = ("benign", "malignant")
#: A half for val, by a key that puts some of twelve patients there: a new one might put none.
_SPLIT = ("val_fraction=0.5", "key=../key")
_SMALL = ("size_px=32", *_SPLIT)


def class_folders(
    root: Path,
    folders: tuple[str, ...] = FOLDERS,
    patient: str = "patient",
    first: int = 0,
    patients: int = 12,
) -> Path:
    """Images of 16 px in a folder a class, two of each of the patients, who have one class."""
    rng = np.random.default_rng(first)
    for number in range(first, first + patients):
        folder = root / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        for view in (1, 2):
            pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{patient}-{number:03d}_{view}.png"), pixels)
    return root


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the key of all sets that are imported."""
    monkeypatch.chdir(tmp_path)
    Path("key").write_bytes(bytes(range(32)))


def init(*words: str, images: str = "photos", population: str = "100") -> int:
    asked = ["--images", images, "--population", population, "--weights", "none", *words]
    return main(["init", "mine", *asked])


def test_what_is_written_works_as_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"))
    assert init() == 0
    assert "cd mine" in capsys.readouterr().out
    monkeypatch.chdir("mine")
    names = {"data.yaml", "README.md", ASSESS_FILE, POOL_FILE, *WRITTEN["patches"]}
    assert {path.name for path in Path().iterdir()} == names
    for file, (_, stage) in WRITTEN["patches"].items():
        settings = load_settings(STAGES[stage].settings_class(), Path(file))
        assert settings.privacy.population == 100  # type: ignore[attr-defined]
        assert settings.data == Path("data/photos")  # type: ignore[attr-defined]
    text = "".join(Path(file).read_text() for file in names)
    assert not re.search(r"(?i)cbis|mammogra|data/mine|studies/own", text)

    assert main(["data", "import", "data.yaml", "--dry-run"]) == 0
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    dataset = open_dataset(Path("data/photos"))
    assert dataset.info.name == "photos"
    assert len({row.patient_id for row in dataset.rows}) == 12
    assert {row.split for row in dataset.rows} == {"train", "val"}


def test_the_plans_pass_when_the_data_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"))
    assert init() == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", *_SPLIT]) == 0
    phantoms = ["--out", "data/phantoms", "--patients", "4", "--size-px", "32"]
    assert main(["data", "phantoms", *phantoms]) == 0
    assert main(["finetune", "classifier.yaml", "--dry-run"]) == 0
    assert "epsilon = 6" in capsys.readouterr().out
    # the study lacks the private set alone, and says what makes it
    assert main(["study", "study.yaml", "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.count("is not there") == 1
    assert "private_synthetic: data/private-synthetic" in said


def test_masses_are_selected_among_phantoms_by_the_commands_of_the_readme(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    class_folders(Path("photos"))
    assert init() == 0
    monkeypatch.chdir("mine")
    commands = [shlex.split(line, comments=True)[1:]
                for line in Path("README.md").read_text().splitlines()
                if line.startswith("synthdp ")]  # fmt: skip
    imports, _, _, pool, trains, generates, *_ = commands
    assert main([*imports, *_SMALL]) == 0
    assert main(trains) == 2  # its pool is not drawn yet
    assert "`synthdp data phantoms data/pool-phantoms --out data/pool`" in capsys.readouterr().err
    assert pool == ["data", "phantoms", POOL_FILE]
    assert main([*pool, "patients=30", "size_px=32"]) == 0
    small = [
        *("size_px=32", "channels=[16, 16, 8]", "selection.images=5", "selection.components=4"),
        *("selection.features.name=test_efficientnet", "selection.tokens.name=test_vit"),
        *("selection.tokens.size_px=32", "conditions=[view]"),
    ]
    assert main([*trains, *small]) == 0
    assert "selection.features and selection.tokens have no weights" in caplog.text
    assert main([*generates[:-1], "4"]) == 0
    drawn = open_dataset(Path("data/private-synthetic"))
    assert {row.attributes["view"] for row in drawn.rows} == {"CC", "MLO"}


def test_a_target_that_no_phantom_shows_is_no_matter_of_selection() -> None:
    class_folders(Path("photos"), ("normal", "pneumonia"))
    assert init("--target", "pneumonia") == 0
    assert not (Path("mine") / POOL_FILE).exists()
    assert "method: embedding" in (Path("mine") / "generator.yaml").read_text()
    text = Path("mine/README.md").read_text()
    assert POOL_FILE not in text
    assert "your target is another" in text


def test_the_readme_assesses_and_releases_the_private_set_on_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"))
    assert init() == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    generated = ["--out", "data/private-synthetic", "patients=4", "size_px=32"]
    assert main(["data", "phantoms", *generated]) == 0
    lines = Path("README.md").read_text().splitlines()
    (assess,) = (shlex.split(line) for line in lines if line.startswith("synthdp assess "))
    assert main([*assess[1:], "--dry-run"]) == 0
    (release,) = (
        shlex.split(line)
        for line in lines
        if line.startswith("synthdp privacy --release data/private-synthetic ")
    )
    assert release[-2:] == ["--record", "data/photos"]
    capsys.readouterr()
    assert main(release[1:]) == 0
    assert Path("to-share/private-synthetic/release.json").is_file()
    assert "next: synthdp privacy --check to-share/private-synthetic" in capsys.readouterr().err
    assert main(["privacy", "--check", "to-share/private-synthetic"]) == 0


def test_a_class_that_nobody_knows_is_named_by_the_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"), ("normal", "pneumonia"))
    assert init() == 2
    assert "--target: missing; which of normal, pneumonia" in capsys.readouterr().err
    assert init("--target", "cold") == 2
    assert "there are normal, pneumonia" in capsys.readouterr().err
    assert not Path("mine").exists()
    assert init("--target", "pneumonia", "--name", "chest") == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    dataset = open_dataset(Path("data/chest"))
    assert dataset.info.targets == ("pneumonia",)
    assert {row.targets[0] for row in dataset.rows} == {0.0, 1.0}
    assert "Class 1 is `pneumonia`" in Path("README.md").read_text()


def test_a_table_says_classes_and_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = class_folders(Path("photos"), ("all",), patient="scan")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{file},p{number // 2},{number // 2 % 2}" for number, file in enumerate(files)]
    Path("table.csv").write_text("\n".join(["file,patient_id,effusion", *rows, ""]))
    assert init("--table", "table.csv") == 2
    assert init("--table", "table.csv", "--target", "cold") == 2
    assert init("--table", "table.csv", "--target", "effusion") == 0
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    dataset = open_dataset(Path("data/photos"))
    assert dataset.info.targets == ("effusion",)
    assert len({row.patient_id for row in dataset.rows}) == 12


def imported(monkeypatch: pytest.MonkeyPatch) -> tuple[tuple[str, ...], int, dict[float, int]]:
    """The targets, the number of patients and the images of each class, by what init wrote."""
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    dataset = open_dataset(Path("data/photos"))
    labels = [row.targets[0] for row in dataset.rows]
    patients = len({row.patient_id for row in dataset.rows})
    return dataset.info.targets, patients, {one: labels.count(one) for one in (0.0, 1.0)}


def test_folders_0_and_1_are_the_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(Path("photos"), ("0", "1"))
    assert init() == 0
    assert imported(monkeypatch) == (("positive",), 12, {0.0: 12, 1.0: 12})


@pytest.mark.parametrize("folders", ["{word}/{patient}", "{patient}/{word}", "{patient}"])
@pytest.mark.parametrize("words", [("benign", "malignant"), ("normal", "pneumonia")])
def test_patients_who_have_a_folder_are_no_classes(
    folders: str,
    words: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in sorted(class_folders(Path("scratch"), words, patients=24).rglob("*.png")):
        patient, view = path.stem.removeprefix("patient-").split("_")
        word = path.parent.name
        folder = Path("photos") / folders.format(word=word, patient=f"{patient}-4711")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / f"{word}_{view}.png")
    by_folder = folders.replace("{patient}", r"([^/]+)").replace("{word}", "[^/]+")
    shown = ["--patient-pattern", f"^{by_folder}/"]
    if words == ("benign", "malignant"):
        assert init(*shown) == 0
        assert imported(monkeypatch) == (("malignant",), 24, {0.0: 24, 1.0: 24})
        return
    assert init(*shown) == 2
    said = capsys.readouterr().err
    assert "4711" not in said  # the names of patients' folders
    if folders == "{patient}":
        assert "its folders tell no classes" in said
        return
    assert "--target: missing; which of normal, pneumonia" in said
    assert init(*shown, "--target", "pneumonia") == 0
    assert imported(monkeypatch) == (("pneumonia",), 24, {0.0: 24, 1.0: 24})


def table_of(words: tuple[str, str]) -> None:
    folder = class_folders(Path("photos"), ("all",), patient="scan")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{file};p{number // 2};{words[number // 2 % 2]}" for number, file in enumerate(files)]
    Path("table.csv").write_text("\n".join(["Datei;Patient;Befund", *rows, ""]), encoding="cp1252")


def test_words_of_a_column_that_the_import_knows_need_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table_of(("gutartig", "bösartig"))
    assert init("--table", "table.csv", "--target", "Befund") == 0
    assert imported(monkeypatch) == (("Befund",), 12, {0.0: 12, 1.0: 12})


def test_words_of_a_column_that_nobody_knows_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table_of(("klein", "groß"))
    assert init("--table", "table.csv", "--target", "Befund") == 2
    said = capsys.readouterr().err
    assert "which of groß, klein in Befund is class 1; say --target 'Befund=WORD'" in said
    assert init("--table", "table.csv", "--target", "Befund=breit") == 2
    assert "'breit': is no word of Befund" in capsys.readouterr().err
    assert init("--table", "table.csv", "--target", "Typ") == 2
    assert "table.csv has no such column" in capsys.readouterr().err
    assert init("--table", "table.csv", "--target", "Befund=groß") == 0
    assert imported(monkeypatch) == (("Befund",), 12, {0.0: 12, 1.0: 12})


def test_a_column_of_free_text_is_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    table_of(("klein", "groß"))
    text = Path("table.csv").read_text(encoding="cp1252").splitlines()
    rows = [f"{line};note {number}" for number, line in enumerate(text[1:])]
    Path("table.csv").write_text("\n".join([f"{text[0]};Notiz", *rows]), encoding="cp1252")
    assert init("--table", "table.csv", "--target", "Notiz") == 2
    said = capsys.readouterr().err
    assert "holds 24 different words" in said
    assert "note 3" not in said


def test_weights_that_are_not_there_are_asked_for_at_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(weight_files, "weight_folders", list)  # whatever this machine has
    class_folders(Path("photos"))
    typed = iter(["void", "none"])
    options = Options(images=Path("photos"), name="photos", population="100")
    assert answered(options, lambda *_: next(typed)).weights == "none"
    assert next(typed, None) is None


def test_splits_that_folders_make_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(Path("photos/train"))
    class_folders(Path("photos/val"), first=500)
    assert init() == 0
    assert "val_fraction" not in Path("mine/data.yaml").read_text()
    monkeypatch.chdir("mine")
    assert main(["data", "import", "data.yaml", "size_px=32"]) == 0


def test_patients_that_names_do_not_show_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("photos"), patient="scan")
    assert init() == 2
    assert "--patient-pattern: missing" in capsys.readouterr().err
    for wrong in ("scan", "(", "(a)(b)", r"patient-(\d+)"):
        assert init("--patient-pattern", wrong) == 2
        assert "--patient-pattern: '" in capsys.readouterr().err
    assert init("--patient-pattern", r"scan-(\d+)") == 0
    assert "patient_pattern: names show no patient" not in Path("mine/data.yaml").read_text()


def test_nothing_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    class_folders(Path("photos"))
    Path("mine").mkdir()
    assert init() == 0  # an empty folder holds nothing
    before = {path.name: path.read_bytes() for path in Path("mine").iterdir()}
    assert init(population="200") == 2
    assert "nothing is written over" in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in Path("mine").iterdir()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "absent", "--population", "100"], "no folder"),
        (["--images", "photos"], "--population: missing"),
        (["--images", "photos", "--population", "many"], "--population: 'many'"),
        (["--population", "100"], "--images: missing"),
        (["--images", "photos", "--population", "100", "--name", "a/b"], "--name: 'a/b'"),
        (
            ["--images", "photos", "--population", "100", "--table", "no.csv"],
            "--table: there is no",
        ),
        (["--images", "photos", "--population", "100", "--weights", "void"], "--weights: public"),
        (["--images", "photos", "--population", "100", "--weights", ""], "--weights: public"),
        (["--images", "photos", "--population", "²"], "--population: '²'"),
        (["--images", "photos", "--population", "100", "--name", ".."], "--name: '..'"),
        (
            ["--images", "photos", "--population", "100", "--name", "pool"],
            "--name: data/pool is to be another",
        ),
    ],
)
def test_a_wrong_option_is_named(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"))
    assert main(["init", "mine", *words]) == 2
    assert said in capsys.readouterr().err
    assert not Path("mine").exists()


def test_it_asks_at_a_terminal_what_nobody_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(Path("photos"), ("normal", "pneumonia"))
    typed = {"Folder": "photos", "Which": "pneumonia", "Short": "", "A public": "100"}
    asked: list[str] = []

    def answer(question: str, default: str) -> str:
        asked.append(question.partition(" ")[0])
        return next(text for start, text in typed.items() if question.startswith(start)) or default

    answers = answered(Options(weights="none"), answer)
    assert asked == ["Folder", "Which", "Short", "A"]
    assert (answers.name, answers.targets, answers.population) == ("photos", ("pneumonia",), 100)


def test_the_command_asks_through_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class_folders(Path("photos"))
    lines: Iterator[str] = iter(["photos", "", "100"])
    monkeypatch.setattr(builtins, "input", lambda _: next(lines))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["init", "mine", "--weights", "none"]) == 0
    assert "population: 100" in Path("mine/study.yaml").read_text()


def test_the_end_of_what_is_typed_is_an_interruption(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr(builtins, "input", ended)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["init", "mine"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not Path("mine").exists()


def test_the_folder_may_be_called_as_no_shell_word_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class_folders(Path("photos"))
    words = ["--images", "photos", "--population", "100", "--weights", "none"]
    assert main(["init", "#mine & all", *words]) == 0
    assert "`cd '#mine & all'`" in capsys.readouterr().out


def test_a_link_to_nowhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").symlink_to("nowhere")
    assert init() == 2
    assert "mine: is a link to nowhere" in capsys.readouterr().err


def test_an_import_tells_counts_of_patients_to_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class_folders(Path("photos"))
    assert init() == 0
    monkeypatch.chdir("mine")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's take main's place
    assert main(["data", "import", "data.yaml", *_SMALL]) == 0
    log = capsys.readouterr().err
    assert log.count("exact figures of patients are shown at a terminal alone") == 1
    assert not re.search(r"\d+ (real )?images|of \d+ patients|\d+ yes", log)
    monkeypatch.setattr("synthdp.machine.terminal.is_watched", lambda: True)
    assert main(["data", "import", "data.yaml", *_SMALL, "out=data/other"]) == 0
    assert "imported 24 real images of 12 patients" in capsys.readouterr().err


def test_a_large_population_gets_a_delta_that_fits(tmp_path: Path) -> None:
    class_folders(Path("photos"))
    options = Options(images=Path("photos"), population="200000", weights="none")
    write_folder(tmp_path / "large", answered(options, None))
    cls = STAGES["study"].settings_class()
    settings = load_settings(cls, tmp_path / "large" / "study.yaml")
    assert settings.privacy.delta == pytest.approx(1e-7)  # type: ignore[attr-defined]


def test_names_are_made_of_plain_characters() -> None:
    assert plain("Our chest X-rays (2024)") == "Our-chest-X-rays-2024"
    assert plain("Größe: Über") == "Grosse-Uber"
    assert plain("///") == plain("..") == "mine"


@pytest.mark.parametrize(("target", "start"), [("malignant", "centre"), ("spiculated", "zero")])
def test_a_head_begins_with_phantoms_where_they_are_drawn_for_its_target(
    target: str, start: str
) -> None:
    class_folders(Path("photos"), ("without", target))
    assert init("--target", target) == 0
    settings = load_settings(STAGES["finetune"].settings_class(), Path("mine/classifier.yaml"))
    assert settings.head.start == start  # type: ignore[attr-defined]
    study = load_settings(STAGES["study"].settings_class(), Path("mine/study.yaml"))
    begins = "phantoms_start" in study.strategies  # type: ignore[attr-defined]
    assert begins == (start == "centre")

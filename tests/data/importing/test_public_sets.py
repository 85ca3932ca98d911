import json
import math
from pathlib import Path

import numpy as np
import pytest
from made_up import clinic_set

from classify.evaluate import run_evaluate
from classify.finetune import run_finetune
from classify.pretrain import run_pretrain
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.config.settings import load_settings
from synthdp.data.dataset import Dataset, open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.importing.patches import run_patches
from synthdp.data.importing.settings.patches import PatchesSettings
from synthdp.data.phantoms.phantoms import run_phantoms
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.dossier.attacks import _odds_bounds
from synthdp.dossier.evidence import _set_subject, read_evidence
from synthdp.dossier.utility import utility_of
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import set_statement, statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.releases.copies.datasets import copy_dataset
from synthdp.releases.release import Asked, release
from synthdp.runs.cards import dataset_card
from synthdp.study.compare.defaults import _promise_words
from synthdp.study.report.figures.write import _grid_caption

BACKBONE = FeatureSettings(name="test_vit", size_px=32)


@pytest.fixture
def children(tmp_path: Path) -> Path:
    """Images of a made-up public collection, in folders of their classes."""
    rng = np.random.default_rng(0)
    for patient in range(8):
        name = ("benign", "malignant")[patient % 2]
        folder = tmp_path / "download" / name
        folder.mkdir(parents=True, exist_ok=True)
        for image in range(1 + patient % 3):
            pixels = rng.normal(90 + 70 * (patient % 2), 30, (32, 32)).clip(0, 255)
            (folder / f"P{patient}_{image}.png").write_bytes(encode_png(pixels.astype(np.uint8)))
    return tmp_path / "download"


def settings(src: Path, **changes: object) -> PatchesSettings:
    values = {
        "src": src,
        "out": src.parent / "children",
        "name": "children",
        "kind": "public",
        "patient_pattern": "(P[0-9]+)_",
        "split": "train",
        "size_px": 32,
        **changes,
    }
    return PatchesSettings.model_validate(values)


def imported(src: Path, **changes: object) -> Dataset:
    return open_dataset(run_patches(settings(src, **changes)))


def test_a_public_set_has_patients_whom_nothing_protects(children: Path) -> None:
    dataset = imported(children)
    assert dataset.info.kind == "public"
    assert not dataset.info.protects_patients
    assert len({row.patient_id for row in dataset.rows}) == 8
    assert dataset.info.lineage == Lineage(public=("children",))
    for statement in (set_statement(dataset), statement_of([dataset.root])):
        text = statement_text(statement)
        assert "public set children, whose patients are not protected" in text
        assert "epsilon = 0 for each patient but those of the public set children" in text
        assert any("public set children" in words for words in statement.not_covered)


def test_its_name_stands_in_every_statement_that_descends_from_it(children: Path) -> None:
    root = imported(children).root
    pretrained = run_pretrain(
        PretrainSettings(
            data=root, out=root.parent / "pre", backbone=BACKBONE, trainable_blocks=1, epochs=1
        )
    )
    clinic = clinic_set(root.parent / "clinic")
    run = run_finetune(
        FinetuneSettings(
            data=clinic,
            out=root.parent / "run",
            init=pretrained,
            privacy=PrivacySettings(epsilon=6, delta=1e-3, population=50),
            head={"steps": 5, "block_steps": 5},
        )
    )
    for folder in (pretrained, run):
        statement = read_statement(folder)
        assert statement.lineage.public == ("children",)
        assert "public set children, whose patients are not protected" in statement_text(statement)
        assert "public set children" in (folder / "card.md").read_text()
    assert 5.9 < read_statement(run).epsilon <= 6
    together = statement_of([pretrained, run])
    assert together.lineage.public == ("children",)


def test_a_statement_that_drops_the_name_is_made_again_with_it(children: Path) -> None:
    root = imported(children).root
    asked = PretrainSettings(
        data=root, out=root.parent / "pre", backbone=BACKBONE, trainable_blocks=0
    )
    run = run_pretrain(asked)
    written = json.loads((run / "privacy.json").read_text())
    del written["lineage"]["public"]
    written["not_covered"] = [w for w in written["not_covered"] if "public set" not in w]
    (run / "privacy.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match="promises more"):
        read_statement(run)


def test_lineages_without_public_sets_are_written_as_ever() -> None:
    assert Lineage(declared=("a",)).model_dump(mode="json") == {"releases": [], "declared": ["a"]}
    assert "public" not in Lineage().model_dump_json()


def test_no_text_says_of_a_public_set_that_no_patient_is_in(children: Path) -> None:
    root = imported(children).root
    run = run_pretrain(
        PretrainSettings(data=root, out=root.parent / "pre", backbone=BACKBONE, trainable_blocks=0)
    )
    statement, folder = read_statement(run), root.parent / "out"
    judged = EvaluateSettings(run=run, dataset=root, split="train", out=root.parent / "e")
    evaluation = run_evaluate(judged)
    release(run, folder, Asked(evidence=(evaluation,)))
    evidence = read_evidence(run, [evaluation])
    synthetic = clinic_set(root.parent / "made", "synthetic", lineage=statement.lineage)
    texts = [
        (folder / "README.md").read_text(),
        dataset_card(title="made", summary="", licence="", statement=statement, n_images=1),
        *_promise_words(statement),
        *_odds_bounds(statement).values(),
        _grid_caption(open_dataset(synthetic), 0.0),
        *(one.words for one in utility_of(evidence, with_figures=True, with_counts=True)),
    ]
    for text in texts:
        assert "public" in text
        assert "no patient's image" not in text
        assert "of no patient" not in text
        assert "nobody to find" not in text
        assert "No patient was scored" not in text


def edited(root: Path, **changes: object) -> None:
    info = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**info, **changes}))


CALLED_PUBLIC = {"kind": "public", "lineage": {"public": ["clinic"]}}


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("real", {"kind": "public"}, "declared public when it is imported"),
        ("real", CALLED_PUBLIC, "something else than the set's ledger"),
        ("real", {**CALLED_PUBLIC, "ledger": None}, "no ledger of its own"),
        ("phantom", {"kind": "public", "as_real": False}, "declared public when it is imported"),
        ("phantom", CALLED_PUBLIC | {"as_real": False}, "something else than the set's ledger"),
        ("public", {"kind": "real"}, "something else than the set's ledger"),
        ("public", {"kind": "public", "name": "other"}, "declared public when it is imported"),
        ("public", {"as_real": True}, "as_real: makes phantoms stand for patients"),
        ("public", {"kind": "phantom", "lineage": {}}, "something else than the set's ledger"),
    ],
)
def test_a_set_that_is_called_another_kind_by_hand_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, object], why: str
) -> None:
    as_real = {"as_real": True} if kind == "phantom" else {}
    clinic_set(tmp_path / "clinic", kind, **as_real)
    edited(tmp_path / "clinic", **changes)
    with pytest.raises(InputError, match=why):
        open_dataset(tmp_path / "clinic")


def test_a_set_of_patients_without_its_private_part_is_not_made_public(tmp_path: Path) -> None:
    clinic_set(tmp_path / "clinic")
    (tmp_path / "clinic" / "private").rename(tmp_path / "lost")
    edited(tmp_path / "clinic", **CALLED_PUBLIC)
    with pytest.raises(InputError, match="lost"):
        open_dataset(tmp_path / "clinic")


@pytest.mark.parametrize("kind", ["public", "synthetic"])
@pytest.mark.parametrize("info", [{"kind": "real"}, {"kind": "phantom", "as_real": True}])
def test_the_files_of_a_set_of_patients_are_not_imported_as_others(
    tmp_path: Path, info: dict[str, object], kind: str
) -> None:
    clinic = clinic_set(tmp_path / "clinic", **info)
    for src in (clinic, clinic / "images"):
        with pytest.raises(InputError, match="out of every promise"):
            imported(src, out=tmp_path / "again", kind=kind)
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("kind", ["public", "synthetic"])
@pytest.mark.parametrize("way", ["a folder below", "links"])
def test_files_of_a_set_of_patients_are_found_wherever_they_are_read_from(
    tmp_path: Path, kind: str, way: str
) -> None:
    """The set stands below `src`, or what `src` holds are links into it."""
    clinic = clinic_set(tmp_path / "archive" / "clinic")
    src, links = tmp_path / "archive", {}
    if way == "links":
        src, links = tmp_path / "links", {"follow_links_into": [clinic]}
        src.mkdir()
        (src / "P1_malignant.png").symlink_to(clinic / "images" / "000001.png")
    changes = {"patient_pattern": "(P?[0-9]+)", "metadata": "none", **links}
    if way != "links":
        (clinic / "images").rename(clinic / "malignant")
    if kind == "synthetic":
        changes |= {"lineage": "none", "patient_pattern": None}
    with pytest.raises(InputError, match="out of every promise"):
        imported(src, out=tmp_path / "again", kind=kind, **changes)
    assert not (tmp_path / "again").exists()


def test_phantoms_are_not_drawn_to_a_table_of_protected_patients_called_public(
    tmp_path: Path,
) -> None:
    clinic = clinic_set(tmp_path / "clinic")
    asked = {"subject": "chest", "table": clinic / "manifest.csv", "table_is_public": True}
    with pytest.raises(InputError, match="who are protected, so that it is not public"):
        run_phantoms(PhantomSettings.model_validate({"out": tmp_path / "drawn", **asked}))


@pytest.fixture
def synthetic(tmp_path: Path) -> Path:
    """Images of a generator that saw patients without a promise."""
    seen = Release(id="0" * 16, stage="train-gan", data="clinic", mu=math.inf, note="no noise")
    return clinic_set(tmp_path / "drawn", "synthetic", lineage=Lineage(releases=(seen,)))


def test_phantoms_are_not_drawn_to_a_table_of_synthetic_patients_called_public(
    synthetic: Path,
) -> None:
    asked = {"subject": "chest", "table": synthetic / "manifest.csv", "table_is_public": True}
    with pytest.raises(InputError, match="the set drawn, which was made from patients"):
        run_phantoms(PhantomSettings.model_validate({"out": synthetic.parent / "set", **asked}))


@pytest.mark.parametrize("changes", [{"kind": "public"}, {"kind": "synthetic", "lineage": "none"}])
def test_what_was_spent_on_synthetic_images_is_not_lost_by_another_import(
    synthetic: Path, changes: dict[str, str]
) -> None:
    (synthetic / "images").rename(synthetic / "malignant")
    out = synthetic.parent / "again"
    if changes["kind"] != "synthetic":
        changes = {**changes, "patient_pattern": "(P?[0-9]+)"}
    with pytest.raises(InputError, match="the set drawn, which was made from patients"):
        imported(synthetic.parent, out=out, metadata="none", **changes)
    assert not out.exists()


@pytest.mark.parametrize(("first", "second"), [("real", "public"), ("public", "real")])
def test_one_folder_is_not_imported_as_public_and_as_protected(
    children: Path, first: str, second: str
) -> None:
    imported(children, kind=first, out=children.parent / "first")
    with pytest.raises(InputError, match=f"already, as the {first} data set children"):
        imported(children, kind=second, out=children.parent / "second")
    imported(children, kind=first, out=children.parent / "third", size_px=16)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"privacy": {"budget": {"epsilon": 6, "delta": 1e-4}}}, "for patients .kind: real."),
        ({"lineage": "none"}, "public images have none"),
        ({"patient_pattern": None}, "patient_pattern"),
    ],
)
def test_what_a_public_set_can_not_have_is_refused(
    children: Path, changes: dict[str, object], why: str
) -> None:
    with pytest.raises((InputError, ValueError), match=why):
        imported(children, **changes)


def test_a_public_set_itself_is_neither_released_nor_given_a_dossier(
    children: Path, tmp_path: Path
) -> None:
    root = imported(children).root
    with pytest.raises(InputError, match="others' to pass on"):
        copy_dataset(root, tmp_path / "out")
    with pytest.raises(InputError, match="dossier"):
        _set_subject(root)


def test_the_import_may_be_asked_for_in_a_file(children: Path) -> None:
    file = children.parent / "children.yaml"
    file.write_text(
        f"src: {children}\nout: {children.parent}/set\nname: children\nkind: public\n"
        "patient_pattern: (P[0-9]+)_\n"
    )
    assert load_settings(PatchesSettings, file, ()).kind == "public"


def test_a_description_says_that_it_is_public_by_its_lineage_too() -> None:
    with pytest.raises(ValueError, match="declared public when it is imported"):
        DatasetInfo(name="set", kind="public", size_px=32)

"""Predict: the scores of evaluate for any folder of images, which is left as it is."""

import csv
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from image_zoo import Tiff, tiff
from made_up import clinic_set, random_run, received_run
from PIL import Image

from classify.calibrate import run_calibrate
from classify.evaluate import run_evaluate
from classify.model.classifier import Classifier, new_feature_source
from classify.model.folder import load_classifier, save_classifier
from classify.predict import run_predict
from classify.settings.finished import CalibrateSettings, EvaluateSettings, PredictSettings
from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import Settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.manifest.tables import read_table
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.statement import make_statement
from synthdp.releases.release import release
from synthdp.runs.folder import open_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


def images(n: int, seed: int = 0) -> list[np.ndarray]:
    """Images of several sizes and both depths; the last one is not square."""
    rng = np.random.default_rng(seed)
    shapes = [(32, 32), (32, 32), (70, 70), (200, 200), (48, 90)]
    found = []
    for index in range(n):
        pixels = rng.random(shapes[index % 5])
        deep = index % 3 == 2
        found.append(
            (pixels * 65535).astype(np.uint16) if deep else (pixels * 255).astype(np.uint8)
        )
    return found


def data_set(out: Path, pictures: list[np.ndarray]) -> Path:
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=32)) as writer:
        for index, pixels in enumerate(pictures):
            writer.add(pixels, patient_id=f"p{index}", split="val", targets=[index % 2])
    return out


def folder_of(out: Path, pictures: list[np.ndarray]) -> Path:
    """Loose images below sub-folders, in the same order as `data_set` when sorted; some TIFF."""
    for index, pixels in enumerate(pictures):
        path = out / f"ward{index // 10}" / f"{index:03d}.{'TIF' if index % 4 == 1 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    (out / "notes.txt").write_text("not an image")
    (out / ".hidden.png").write_text("nor this")
    return out


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def predict(run: Path, images: Path, out: Path, **changes: object) -> list[dict[str, str]]:
    settings = PredictSettings.model_validate({"run": run, "images": images, "out": out, **changes})
    return rows_of(run_predict(settings))


def evaluated(run: Path, data: Path, out: Path, split: str = "val") -> list[dict[str, str]]:
    settings = EvaluateSettings(run=run, dataset=data, split=split, out=out, redraws=10)
    return rows_of(run_evaluate(settings) / "predictions.csv")


def snapshot(folder: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")
    )


def test_scores_are_those_of_evaluate(run: Path, tmp_path: Path) -> None:
    pictures = images(37)
    data = data_set(tmp_path / "set", pictures)
    folder = folder_of(tmp_path / "new", pictures)
    before = snapshot(folder)
    found = predict(run, folder, tmp_path / "scores.csv")
    assert snapshot(folder) == before
    assert list(found[0]) == ["image", "score_malignant"]
    assert [row["image"] for row in found][:2] == ["ward0/000.png", "ward0/001.TIF"]
    wanted = evaluated(run, data, tmp_path / "out")
    assert [row["score_malignant"] for row in found] == [row["score_malignant"] for row in wanted]
    assert len({row["score_malignant"] for row in found}) > 30


@pytest.mark.parametrize(
    ("views", "trainable_blocks"), [(1, 0), (8, 0), (1, 1), (8, 1), (1, "all")]
)
def test_every_kind_of_model_scores_alike(
    tmp_path: Path, views: int, trainable_blocks: int | str
) -> None:
    settings = FeatureSettings(name="test_vit", size_px=32, views=views)
    source = new_feature_source(settings, seed=1, trainable_blocks=trainable_blocks)
    random = load_classifier(random_run(tmp_path / "random"))
    with open_run(tmp_path / "run", "pretrain", Settings()) as run:
        save_classifier(
            run.model,
            Classifier((source,), ("malignant",), random.head_weight, random.head_bias),
        )
        run.finish(make_statement(Lineage(), subject="classifier"), "card")
    pictures = images(18)
    data = data_set(tmp_path / "set", pictures)
    found = predict(run.path, folder_of(tmp_path / "new", pictures), tmp_path / "scores.csv")
    wanted = evaluated(run.path, data, tmp_path / "out")
    assert [row["score_malignant"] for row in found] == [row["score_malignant"] for row in wanted]


def test_a_data_set_is_scored_by_its_manifest_and_without_labels(run: Path, tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set", kind="phantom")
    wanted = evaluated(run, data, tmp_path / "out", "train")
    shutil.rmtree(data / "private")
    (data / "dataset.json").unlink()
    names = [row["image"] for row in wanted]
    (data / "manifest.csv").write_text("\n".join(["image", *names]) + "\n")
    before = snapshot(data)
    found = predict(run, data, tmp_path / "scores.csv")
    assert snapshot(data) == before
    assert [(row["image"], row["score_malignant"]) for row in found] == [
        (row["image"], row["score_malignant"]) for row in wanted
    ]


def test_a_released_calibrated_run_also_decides(run: Path, tmp_path: Path) -> None:
    data = clinic_set(tmp_path / "set", kind="phantom", n_patients=20)
    calibrated = run_calibrate(
        CalibrateSettings(run=run, data=data, out=tmp_path / "calibrated", sensitivity=0.7)
    )
    release(calibrated, tmp_path / "left")
    found = predict(tmp_path / "left", data, tmp_path / "scores.csv")
    assert list(found[0]) == ["image", "score_malignant", "positive_malignant"]
    (point,) = load_classifier(calibrated).points
    wanted = evaluated(calibrated, data, tmp_path / "out", "train")
    for row, other in zip(found, wanted, strict=True):
        assert row["score_malignant"] == other["score_malignant"]
        called = float(row["score_malignant"]) >= point.threshold
        assert row["positive_malignant"] == str(int(called))
    assert {row["positive_malignant"] for row in found} == {"0", "1"}


def test_bad_images_are_told_by_number_and_nothing_is_written(run: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "new", images(6))
    bad = folder / "ward0" / "001-frau-mueller.png"
    bad.write_bytes(b"no image")
    dim = (np.random.default_rng(0).random((32, 32)) * 4095).astype(np.uint16)
    Image.fromarray(dim).save(folder / "ward0" / "007-herr-maier.png")
    Image.fromarray(np.full((32, 32), 15, np.uint8)).save(folder / "ward0" / "008.png")
    with pytest.raises(InputError) as refused:
        predict(run, folder, tmp_path / "scores.csv", saliency=tmp_path / "maps")
    message = str(refused.value)
    assert "image 2: not a readable" in message
    assert "image 8: uses less than a sixteenth of its 16 bits" in message
    assert "image 9: uses less than a sixteenth of its 8 bits" in message
    assert "by `bits`" in message
    assert "mueller" not in message
    assert "maier" not in message
    assert not (tmp_path / "scores.csv").exists()
    assert not (tmp_path / "maps").exists()


def test_flat_and_offset_images_are_refused_however_bright(run: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "new", images(1))
    Image.fromarray(np.full((32, 32), 200, np.uint8)).save(folder / "ward0" / "008.png")
    ramp = np.arange(1024).reshape(32, 32)
    signed = tiff(ramp, Tiff(16, tags={339: (3, [2])}))  # around the middle of the range
    (folder / "ward0" / "009.tif").write_bytes(signed)
    with pytest.raises(InputError) as refused:
        predict(run, folder, tmp_path / "scores.csv")
    for number, levels in ((2, "200 to 200"), (3, "32768 to 33791")):
        assert f"image {number}: uses less than a sixteenth" in str(refused.value)
        assert f"(grey levels {levels})" in str(refused.value)


def test_bits_give_twelve_of_sixteen_bits_their_meaning(run: Path, tmp_path: Path) -> None:
    twelve = [(picture.astype(np.uint16) << 4) + 3 for picture in images(2)]
    stored = folder_of(tmp_path / "stored", twelve)
    scaled = [np.rint(picture * (65535 / 4095)).astype(np.uint16) for picture in twelve]
    wanted = predict(run, folder_of(tmp_path / "scaled", scaled), tmp_path / "wanted.csv")
    assert predict(run, stored, tmp_path / "scores.csv", bits=12) == wanted


def test_exactly_a_sixteenth_is_enough(run: Path, tmp_path: Path) -> None:
    pixels = np.zeros((32, 32), np.uint8)
    pixels[0, 0] = 16
    assert len(predict(run, folder_of(tmp_path / "new", [pixels]), tmp_path / "scores.csv")) == 1


def test_places_that_do_not_fit_are_refused(run: Path, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "new", images(2))
    (tmp_path / "taken.csv").write_text("mine")
    (tmp_path / "empty").mkdir()
    for changes, told in (
        ({"out": tmp_path / "taken.csv"}, "holds other scores"),
        ({"out": tmp_path / "empty"}, "is a folder"),
        ({"out": folder / "scores.csv"}, "out: lies inside the folder of images"),
        ({"saliency": folder / "maps"}, "saliency: lies inside the folder of images"),
        ({"out": tmp_path / "m" / "s.csv", "saliency": tmp_path / "m"}, "inside the folder `sal"),
        ({"images": tmp_path / "empty"}, "holds no image"),
        ({"images": tmp_path / "nowhere"}, "no such folder"),
        ({"images": folder / "ward0" / "000.png"}, "no such folder"),
        ({"run": tmp_path / "nowhere"}, "not a finished run"),
    ):
        values = {"run": run, "images": folder, "out": tmp_path / "scores.csv", **changes}
        with pytest.raises(InputError, match=told):
            run_predict(PredictSettings.model_validate(values))
    assert (tmp_path / "taken.csv").read_text() == "mine"
    assert not (tmp_path / "scores.csv").exists()


def test_what_leads_out_of_the_folder_is_refused(run: Path, tmp_path: Path) -> None:
    outside = folder_of(tmp_path / "outside", images(1))
    folder = folder_of(tmp_path / "new", images(2))
    (folder / "ward0" / "link.png").symlink_to(outside / "ward0" / "000.png")
    with pytest.raises(InputError, match="image 3: the path leads outside"):
        predict(run, folder, tmp_path / "scores.csv")
    data = data_set(tmp_path / "set", images(2))
    (data / "manifest.csv").write_text("image\n../outside/ward0/000.png\n")
    with pytest.raises(InputError, match="row 2: the path leads outside"):
        predict(run, data, tmp_path / "scores.csv")


def test_the_command_writes_a_table_and_pictures(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "new", images(3))
    words = ["predict", str(run), str(folder), "--out", str(tmp_path / "scores.csv")]
    assert main([*words, "--saliency", str(tmp_path / "maps"), "saliency_grid=3"]) == EXIT_DONE
    assert capsys.readouterr().out.strip() == str(tmp_path / "scores.csv")
    maps = sorted(
        path.relative_to(tmp_path / "maps") for path in (tmp_path / "maps").rglob("*.png")
    )
    assert [str(path) for path in maps] == [
        f"ward0/{name}.saliency.png" for name in ("000.png", "001.TIF", "002.png")
    ]
    assert main([*words, "--saliency", str(tmp_path / "maps"), "saliency_grid=3"]) == EXIT_DONE
    (tmp_path / "scores.csv").unlink()  # as after a kill between pictures and table
    assert main([*words, "--saliency", str(tmp_path / "maps"), "saliency_grid=3"]) == EXIT_DONE
    (tmp_path / "scores.csv").write_text("mine")
    assert main(words) == EXIT_BAD_INPUT
    assert "holds other scores" in capsys.readouterr().err


def test_it_needs_no_private_folder(run: Path, tmp_path: Path) -> None:
    copy = received_run(run, tmp_path / "copy")
    folder = folder_of(tmp_path / "new", images(2))
    assert predict(copy, folder, tmp_path / "a.csv") == predict(run, folder, tmp_path / "b.csv")
    assert not (copy / "private").exists()


def test_scores_of_a_data_set_are_not_kept_beside_it(run: Path, tmp_path: Path) -> None:
    data = data_set(tmp_path / "set", images(3))
    before = snapshot(data)
    predict(run, data, tmp_path / "scores.csv")
    assert snapshot(data) == before
    assert not (open_dataset(data).private / "features").exists()


def test_folders_that_cannot_be_read_are_not_left_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "new", images(12))
    scandir, number = os.scandir, errno.EACCES

    def refused(path: object = ".") -> object:
        if str(path).endswith("ward1"):
            raise OSError(number, os.strerror(number))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(InputError, match=r"1 folder\(s\) cannot be read"):
        predict(run, folder, tmp_path / "scores.csv")
    number = errno.EMFILE
    with pytest.raises(RunError, match="too many files are open"):
        predict(run, folder, tmp_path / "scores.csv")
    monkeypatch.undo()
    (folder / "linked").symlink_to(folder / "ward0")
    with pytest.raises(InputError, match=r"1 folder\(s\) are links"):
        predict(run, folder, tmp_path / "scores.csv")
    assert not (tmp_path / "scores.csv").exists()


def test_what_is_not_scored_is_counted_aloud(
    run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "new"
    (folder / "ward").mkdir(parents=True)
    picture = encode_png(images(1)[0])
    for name in (
        "ward/1.png",
        "a.gif",
        ".b.png",
        "._c.png",
        "Thumbs.db",
        "@eaDir/d.png",
        ".Trash-0/e.png",
        "f",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x" if name in ("a.gif", "._c.png", "f") else picture)
    with caplog.at_level("INFO"):
        assert len(predict(run, folder, tmp_path / "scores.csv")) == 1
    for words in (
        "1 .gif files",
        "1 hidden images",
        "1 files of the system",
        "2 files in hidden or system folders",
        "1 other files",
        "1 hidden files",
    ):
        assert words in caplog.text


def test_names_of_all_alphabets_and_lengths_have_scores_and_pictures(
    run: Path, tmp_path: Path
) -> None:
    """Also bytes that are no text, a line break, and names as long as a file system takes."""
    picture = encode_png(images(1)[0])
    names = ("Müller.png", "乳腺\n1.png", "=1+1.png", "x" * 251 + ".png", "y" * 240 + ".png")
    folder = tmp_path / "new"
    folder.mkdir()
    for name in (*map(os.fsencode, names), b"\xff\xfe.png", "乳".encode() * 83 + b".png"):
        (folder / os.fsdecode(name)).write_bytes(picture)
    rows = predict(run, folder, tmp_path / "scores.csv", saliency=tmp_path / "maps")
    assert len(rows) == 7
    table = read_table(tmp_path / "scores.csv")
    named = {record["image"] for record in table.records.values()}
    assert {*names, "\\xff\\xfe.png", "乳" * 83 + ".png"} == named
    pictures = list(os.listdir(tmp_path / "maps"))
    assert len(pictures) == 7
    assert {"Müller.png.saliency.png", "=1+1.png.saliency.png"} < set(pictures)
    assert all(name.endswith(".saliency.png") for name in pictures)


def test_links_into_a_folder_are_followed_when_it_is_named(run: Path, tmp_path: Path) -> None:
    """As in caches of downloads, where names are links to contents."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot"
    for one in (blobs, folder):
        one.mkdir()
    for number, pixels in enumerate(images(2)):
        (blobs / f"{number:064x}").write_bytes(encode_png(pixels))
        (folder / f"{number}.png").symlink_to(f"../blobs/{number:064x}")
    with pytest.raises(InputError, match="image 2: the path leads outside the folder, by a link"):
        predict(run, folder, tmp_path / "scores.csv")
    rows = predict(run, folder, tmp_path / "scores.csv", follow_links_into=(blobs,))
    assert [row["image"] for row in rows] == ["0.png", "1.png"]

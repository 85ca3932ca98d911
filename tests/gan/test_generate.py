import math
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_up import without_mark
from PIL import Image

from gan.generate import label_order, run_generate
from gan.network.sampling import sample_images
from gan.package.model import load_generator
from gan.package.pretrained import WEIGHTS
from gan.plans.sets import MAX_PER_CLASS, bytes_on_disk, plan_generate
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from synthdp.checkpoint import load_weights, save_weights
from synthdp.cli import EXIT_BAD_INPUT, main
from synthdp.config.settings import load_settings
from synthdp.data.check import check_dataset
from synthdp.data.dataset import Dataset, load_images, open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.looks.contact_sheet import CONTACT_SHEET_FILE, NAME_PX
from synthdp.data.writer import DatasetWriter
from synthdp.errors import InputError, RunError
from synthdp.privacy.ledger.set_record import Record, recorded_releases
from synthdp.privacy.lineage import Release
from synthdp.releases.copies.datasets import copy_dataset
from synthdp.storage.files import write_json

Finished = Callable[[Path], Path]
TinySettings = Callable[..., TrainGanSettings]


def test_the_set_is_balanced_made_up_and_carries_its_lineage(
    discs_as_real: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = finished_run(discs_as_real)
    settings = GenerateSettings(run=run, out=tmp_path / "set", per_class=5, batch=4)
    planned = plan_generate(settings)
    made = open_dataset(run_generate(settings))
    assert Counter(row.targets[0] for row in made.rows) == {0.0: 5, 1.0: 5}
    assert {row.split for row in made.rows} == {"train"}
    assert len({row.patient_id for row in made.rows}) == 10
    assert all(row.patient_id.startswith("synthetic-") for row in made.rows)
    assert (made.info.kind, made.info.size_px) == ("synthetic", 32)
    assert made.info.lineage == planned.lineage
    assert made.info.lineage.unprotected[0].stage == "train-gan"
    assert "epsilon = inf" in (made.root / "README.md").read_text()
    assert load_images(made, made.rows).std() > 0


def test_a_generator_of_free_phantoms_makes_a_free_set(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    settings = GenerateSettings(run=finished_run(discs), out=tmp_path / "set", per_class=1)
    assert plan_generate(settings).epsilon == 0
    assert open_dataset(run_generate(settings)).info.lineage.releases == ()


def test_the_seed_decides_every_image(discs: Path, finished_run: Finished, tmp_path: Path) -> None:
    def made(name: str, **changes: int) -> np.ndarray:
        settings = GenerateSettings(
            run=finished_run(discs), out=tmp_path / name, **{"per_class": 4, "seed": 1, **changes}
        )
        dataset = open_dataset(run_generate(settings))
        return load_images(dataset, dataset.rows)

    first = made("first")
    assert np.array_equal(first, made("again"))
    assert not np.array_equal(first, made("other", seed=2))
    # a longer set begins with the shorter one, whatever the batch (to one grey level)
    assert np.abs(made("longer", per_class=6, batch=3)[:8] - first).max() <= 2 / 255 + 1e-6


def made_with(run: Path, out: Path, **changes: object) -> Dataset:
    values = {"run": run, "out": out, "seed": 1, **changes}
    return open_dataset(run_generate(GenerateSettings.model_validate(values)))


def test_labels_and_places_alone_decide_an_image(discs: Path, finished_run: Finished) -> None:
    generator = load_generator(finished_run(discs), torch.device("cpu"))
    labels, none = torch.tensor([0, 1, 0, 1]), torch.empty(4, 0, dtype=torch.int64)
    (images,) = sample_images(generator, labels, none, seed=3, batch=8)
    assert images.shape == (4, 1, 32, 32)
    assert not torch.equal(images[0], images[2])
    fewer = torch.cat(list(sample_images(generator, labels[:3], none[:3], seed=3, batch=2)))
    assert torch.allclose(fewer, images[:3], atol=1e-4)


def test_pixels_that_are_no_numbers_are_not_written(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished_run(discs), tmp_path / "run"))
    weights = load_weights(run / WEIGHTS)
    save_weights(run / WEIGHTS, {name: tensor * torch.nan for name, tensor in weights.items()})
    with pytest.raises(RunError, match="diverged or are damaged"):
        run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1))
    assert not (tmp_path / "set").exists()


def test_a_given_proportion_is_spread_over_the_set(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    made = made_with(finished_run(discs), tmp_path / "set", total=10, malignant_share=0.3)
    labels = [int(row.targets[0]) for row in made.rows]
    assert labels == label_order(7, 3).tolist()
    assert sum(labels) == 3
    assert max(len(run) for run in "".join(map(str, labels)).split("1")) <= 3
    assert label_order(2, 2).tolist() == [0, 1, 0, 1]
    assert label_order(3, 0).tolist() == [0, 0, 0]
    one_class = made_with(finished_run(discs), tmp_path / "one", total=3, malignant_share=1)
    assert [row.targets[0] for row in one_class.rows] == [1, 1, 1]


def test_sixteen_bits_hold_more_than_eight(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run = finished_run(discs)
    fine = made_with(run, tmp_path / "fine", per_class=4, bits=16)
    coarse = made_with(run, tmp_path / "coarse", per_class=4)
    pixels = decode_pixels(fine.root / fine.rows[0].image)
    assert pixels.dtype == np.uint16
    assert len(np.unique(pixels)) > 256
    difference = load_images(fine, fine.rows) - load_images(coarse, coarse.rows)
    assert np.abs(difference).max() <= 1 / 255 + 1e-6  # half a grey level


def test_truncation_takes_variety_and_leaves_the_class(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    generator = load_generator(finished_run(discs), torch.device("cpu"))
    labels, none = torch.arange(64) % 2, torch.empty(64, 0, dtype=torch.int64)

    def drawn(truncation: float) -> torch.Tensor:
        return torch.cat(list(sample_images(generator, labels, none, 0, truncation=truncation)))

    plain, half, none_left = drawn(1), drawn(0.5), drawn(1e-6)
    for label in (0, 1):
        spread = [images[labels == label].std(dim=0).mean() for images in (plain, half, none_left)]
        assert spread[0] > 1.3 * spread[1] > 1.3 * spread[2]
    typical = [none_left[labels == label].mean(dim=0) for label in (0, 1)]
    assert (typical[0] - typical[1]).abs().mean() > 1e-3
    made = made_with(finished_run(discs), tmp_path / "set", per_class=1, truncation=0.5)
    assert "truncation 0.5" in made.info.description


def test_the_card_has_what_the_hub_searches_by(
    discs_as_real: Path, finished_run: Finished, tmp_path: Path
) -> None:
    made = made_with(
        finished_run(discs_as_real), tmp_path / "set", per_class=2, licence="CC-BY-3.0", bits=16
    )
    _, header, body = (made.root / "README.md").read_text().split("---\n", 2)
    keys = yaml.safe_load(header)
    assert keys["license"] == "cc-by-3.0"
    assert keys["size_categories"] == ["n<1K"]
    assert keys["task_categories"] == ["image-classification"]
    assert keys["privacy"] == {
        "epsilon": "inf",
        "delta": 1e-4,
        "unit": "patient",
        "neighbours": "add or remove one patient",
    }
    assert "differential-privacy" not in keys["tags"]  # it promises nothing
    release = made.info.lineage.releases[0].id
    wanted = (
        "bits: 16",
        "seed: 1",
        "truncation: none",
        "with malignant 1: 2",
        release,
        "2407.12669",
    )
    for words in (*wanted, "## Out of scope", "- malignant:", "- patient_id:"):
        assert words in body
    assert str(tmp_path) not in body


def test_a_set_of_before_whose_filter_read_patients_is_read_and_counted(
    discs_as_real: Path, finished_run: Finished, tmp_path: Path
) -> None:
    made = made_with(finished_run(discs_as_real), tmp_path / "set", per_class=1)
    note = "images filtered by their likeness to real ones, without differential privacy"
    filtered = Release(stage="generate", data="discs", mu=math.inf, note=note)
    lineage = made.info.lineage.with_release(filtered)
    info = made.info.model_copy(update={"lineage": lineage, "ledger": None})
    write_json(made.root / "dataset.json", info.model_dump(mode="json"))
    with pytest.raises(InputError, match="something else than the set's ledger"):
        open_dataset(made.root)
    for file in made.private.glob("ledger*"):
        file.unlink()
    assert filtered in open_dataset(made.root).info.lineage.unprotected
    ledger = tmp_path / "ledger.jsonl"
    Record(ledger).add(filtered)
    assert recorded_releases(ledger) == (filtered,)


def test_an_existing_set_is_kept_or_refused(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    settings = GenerateSettings(run=finished_run(discs), out=tmp_path / "set", per_class=1)
    manifest = run_generate(settings) / "manifest.csv"
    written = manifest.stat().st_mtime_ns
    run_generate(settings)
    assert manifest.stat().st_mtime_ns == written
    with pytest.raises(InputError, match="holds another data set"):
        run_generate(settings.model_copy(update={"per_class": 2}))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["per_class=0"], "per_class: 0 images make no data set"),
        (["total=-1"], "total: -1 images make no data set"),
        ([], "set per_class, or total"),
        (["per_class=2", "total=4"], "and not both"),
        (["per_class=2", "malignant_share=0.3"], "malignant_share belongs to total"),
        (["per_class=2", "truncation=0"], "truncation"),
        (["per_class=2", "bits=12"], "bits"),
        (["per_class=2", "filter_real=x"], "filter_real: unknown key"),
    ],
)
def test_a_request_for_nothing_or_twice_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(GenerateSettings, None, ["run=r", "out=o", *overrides])


def test_a_huge_count_is_refused_with_its_size(
    discs: Path,
    finished_run: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, out = str(finished_run(discs)), str(tmp_path / "set")
    for extra in ([], ["--dry-run"]):
        code = main(["generate", run, "--out", out, "--per-class", "10000000", *extra])
        assert code == EXIT_BAD_INPUT
        error = capsys.readouterr().err
        assert "10,000,000 benign and 10,000,000 malignant images of 32 px in 8 bits" in error
        assert "at most 166 GB on the disk" in error
        assert f"more than {MAX_PER_CLASS:,} of a class" in error

    class Full:
        free = 30_000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Full)
    assert bytes_on_disk(4, 32, 8) > Full.free > bytes_on_disk(2, 32, 8)
    with pytest.raises(InputError, match="but 30 kB are free"):
        made_with(finished_run(discs), tmp_path / "set", per_class=2)
    assert not (tmp_path / "set").exists()
    assert len(made_with(finished_run(discs), tmp_path / "set", per_class=1).rows) == 2


def test_a_killed_generate_leaves_no_set_and_starts_clean(
    discs: Path, finished_run: Finished, tmp_path: Path
) -> None:
    run, out = finished_run(discs), tmp_path / "set"
    child = os.fork()
    if child == 0:
        try:
            torch.set_num_threads(1)
            made_with(run, out, per_class=100_000)
        finally:
            os._exit(1)
    while not list(tmp_path.glob(".set.*.part/images/000020.png")):
        assert os.waitpid(child, os.WNOHANG) == (0, 0)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not out.exists()
    assert list(tmp_path.iterdir())  # hidden, and no data set
    with pytest.raises(InputError, match="not a data-set folder"):
        open_dataset(out)
    assert len(made_with(run, out, per_class=2).rows) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["set"]  # what was left is gone


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_generate_leaves_nothing(
    number: signal.Signals,
    discs: Path,
    finished_run: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, add = finished_run(discs), DatasetWriter.add
    calls: Iterator[int] = iter(range(3))

    def stopped(self: DatasetWriter, *args: object, **values: object) -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), number)
        add(self, *args, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(DatasetWriter, "add", stopped)
    with pytest.raises(KeyboardInterrupt):
        made_with(run, tmp_path / "set", per_class=5)
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_refused(
    discs: Path, finished_run: Finished, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    unfinished = tiny_settings(discs, tmp_path / "unfinished").out
    unfinished.mkdir()
    (unfinished / "status.json").write_text('{"state": "interrupted"}')
    for run, message in ((unfinished, "state: interrupted"), (tmp_path / "no", "no run at all")):
        with pytest.raises(InputError, match=message):
            run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1))
    assert not (tmp_path / "set").exists()
    torn = tmp_path / "torn"
    (torn / "model").mkdir(parents=True)
    whole = finished_run(discs)
    for name in ("status.json", "privacy.json", "model/generator.safetensors"):
        (torn / name).write_bytes((whole / name).read_bytes())
    without_mark(torn)
    text = (whole / "model/settings.json").read_text().replace('"z_dim": 16', '"z_dim": 17')
    (torn / "model/settings.json").write_text(text)
    with pytest.raises(InputError, match="does not fit"):
        run_generate(GenerateSettings(run=torn, out=tmp_path / "set", per_class=1))


def test_a_contact_sheet_stands_beside_the_set_and_leaves_its_images_as_they_were(
    discs: Path, finished_run: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finished_run(discs)
    caplog.set_level("INFO")
    root = run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=20))
    with Image.open(root / CONTACT_SHEET_FILE) as sheet:
        shown = np.asarray(sheet)
        assert not sheet.info
    with Image.open(root / "images" / "000001.png") as first:
        side = first.size[0]
        assert np.array_equal(shown[NAME_PX : NAME_PX + side, :side], np.asarray(first))
    assert f"{CONTACT_SHEET_FILE}` shows some of either class" in (root / "README.md").read_text()
    assert f"{CONTACT_SHEET_FILE} shows some of them, by class" in caplog.text
    assert check_dataset(root).problems == ()
    copy_dataset(root, tmp_path / "out")
    assert (tmp_path / "out" / CONTACT_SHEET_FILE).read_bytes() == (
        root / CONTACT_SHEET_FILE
    ).read_bytes()


def test_a_collapsed_generator_is_told_at_the_end_and_in_the_card(
    discs: Path, finished_run: Finished, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finished_run(discs)
    about = GenerateSettings(run=run, out=tmp_path / "set", per_class=20, truncation=0.001)
    root = run_generate(about)
    assert "warning: the images are near-identical" in caplog.text
    assert "**Warning:** the images are near-identical" in (root / "README.md").read_text()

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from gan.config import GenerateSettings, TrainGanSettings
from gan.generate import draw_images, load_generator, plan_generate, run_generate
from synthdp.data.dataset import load_images, open_dataset
from synthdp.errors import InputError

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
    assert "epsilon = inf" in (made.root / "card.md").read_text()
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


def test_labels_and_places_alone_decide_an_image(discs: Path, finished_run: Finished) -> None:
    generator = load_generator(finished_run(discs), torch.device("cpu"))
    (images,) = draw_images(generator, torch.tensor([0, 1, 0]), seed=3, batch=8)
    assert images.shape == (3, 32, 32)
    assert images.dtype == np.uint8
    assert not np.array_equal(images[0], images[2])


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


def test_bad_input_is_refused(
    discs: Path, finished_run: Finished, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    with pytest.raises(ValidationError, match="per_class"):
        GenerateSettings(run=tmp_path, out=tmp_path / "set", per_class=0)
    unfinished = tiny_settings(discs, tmp_path / "unfinished").out
    unfinished.mkdir()
    (unfinished / "status.json").write_text('{"state": "interrupted"}')
    for run, message in ((unfinished, "state: interrupted"), (tmp_path / "no", "no run at all")):
        with pytest.raises(InputError, match=message):
            run_generate(GenerateSettings(run=run, out=tmp_path / "set", per_class=1))
    assert not (tmp_path / "set").exists()
    torn = tmp_path / "torn"
    (torn / "model").mkdir(parents=True)
    source = finished_run(discs)
    for name in ("status.json", "privacy.json", "model/generator.safetensors"):
        (torn / name).write_bytes((source / name).read_bytes())
    text = (source / "model/settings.json").read_text().replace('"z_dim": 16', '"z_dim": 17')
    (torn / "model/settings.json").write_text(text)
    with pytest.raises(InputError, match="does not fit"):
        run_generate(GenerateSettings(run=torn, out=tmp_path / "set", per_class=1))

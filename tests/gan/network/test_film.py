from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up import spectrum_error_of
from numpy.typing import NDArray
from pydantic import ValidationError

from gan.generate import run_generate
from gan.network.film import MAX_MARKS, STEPS, Film
from gan.network.generator import Generator
from gan.package.description import HaarShape
from gan.package.model import load_generator
from gan.package.networks import build_generator
from gan.package.packing import package_generator
from gan.settings.finished import GenerateSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.examples import Examples
from gan.training.finish import find_marks, finish_generator, fit_film
from synthdp.data.dataset import load_images, open_dataset
from synthdp.releases.release import Asked, release
from synthdp.storage.files import read_json

Images = NDArray[np.float32]
SIDE = 64
AS_IT_IS: dict[str, Any] = {"class_spread": 1.0, "style_spread": 1.0, "film": False}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(count: int, seed: int) -> Images:
    """Images without any mark: one slow wave each."""
    draws = np.random.default_rng(seed)
    place = np.linspace(0, 2 * np.pi, SIDE)
    waves = [
        0.3 * np.sin(place * draws.uniform(0.5, 1.5) + draws.uniform(0, 6))[:, None]
        + 0.2 * np.cos(place * draws.uniform(0.5, 1.5))[None, :]
        for _ in range(count)
    ]
    return np.stack(waves)[:, None].astype(np.float32)


def film_with(**constants: object) -> Film:
    film = Film(SIDE)
    for name, value in constants.items():
        getattr(film, name).copy_(torch.as_tensor(value))
    return film


def marking(share: float, more: float = 0.0) -> Film:
    """Round, near-white marks of about 20 pixels."""
    return film_with(
        mark_share=share,
        mark_more=more,
        mark_mean=(3.0, 3.0),
        mark_root=((0.1, 0.0), (0.0, 0.1)),
        white=0.9,
    )


def test_a_film_without_constants_changes_nothing() -> None:
    images = torch.from_numpy(smooth(4, 0))
    film = Film(SIDE)
    assert torch.equal(film(images, torch.randn(4, film.noise_dim, generator=rng())), images)


def test_a_mark_covers_its_area_with_white_and_spares_the_rest() -> None:
    film = marking(1.0)
    images = torch.full((64, 1, SIDE, SIDE), -0.5)
    chances = torch.randn(64, film.noise_dim - SIDE**2 - 1, generator=rng())
    changed = film.with_marks(images, chances) - images
    assert bool((changed >= 0).all())
    assert changed.amax() == pytest.approx(1.4, abs=0.1)
    whole = (changed > 0.01).flatten(1).sum(1) > 12  # not cut by the edge of the image
    covered = (changed / 1.4).flatten(1).sum(1)[whole]
    assert covered.median() == pytest.approx(np.exp(3.0), rel=0.15)
    assert not bool((film.with_marks(torch.ones_like(images), chances) > 1).any())


def test_so_many_images_are_marked_and_so_many_marks_follow() -> None:
    film = marking(0.25, 0.5)
    images = torch.full((2000, 1, SIDE, SIDE), -0.5)
    chances = torch.randn(2000, film.noise_dim - SIDE**2 - 1, generator=rng())
    changed = (film.with_marks(images, chances) - images).flatten(1).sum(1)
    assert (changed > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    expected = (1 - 0.5**MAX_MARKS) / (1 - 0.5)
    one = 1.4 * np.exp(3.0)
    assert changed[changed > 0].mean() / one == pytest.approx(expected, rel=0.15)


def test_grain_has_its_power_at_its_frequencies_alone() -> None:
    grain = torch.zeros(1 + STEPS, 1 + STEPS)
    grain[0, -1] = 0.2  # a vertical frequency of 0: upright stripes
    film = film_with(grain=grain)
    flat = torch.zeros(64, 1, SIDE, SIDE)
    drawn = film(flat, torch.randn(64, film.noise_dim, generator=rng()))[:, 0]
    power = torch.fft.rfft2(drawn).abs().square().mean(dim=0) / SIDE**2
    highest = power[0, -SIDE // (2 * STEPS) :]
    assert highest.mean() == pytest.approx(0.04, rel=0.3)
    power[0, -SIDE // (2 * STEPS) :] = 0
    assert power.max() < 1e-9


def test_the_strength_of_grain_varies_without_changing_its_mean_power() -> None:
    grain = torch.zeros(1 + STEPS, 1 + STEPS)
    grain[4:, 4:] = 0.1
    flat = torch.zeros(3000, 1, SIDE, SIDE)
    powers = []
    for spread in (0.0, 0.5):
        film = film_with(grain=grain, grain_spread=spread)
        drawn = film(flat, torch.randn(3000, film.noise_dim, generator=rng()))
        powers.append(drawn.square().mean(dim=(1, 2, 3)))
    same, varied = powers
    assert varied.mean() == pytest.approx(same.mean().item(), rel=0.1)
    assert varied.log().std() - same.log().std() == pytest.approx(1.0, abs=0.1)


def test_marks_are_found_and_tissue_is_not() -> None:
    images = smooth(3, 1)
    down, right = np.mgrid[:SIDE, :SIDE]
    images[0, 0][(down - 20) ** 2 + (right - 30) ** 2 <= 9] = 0.9  # a mark
    images[1, 0] += 0.6 * np.exp(-((down - 32) ** 2 + (right - 32) ** 2) / 200)  # a mass
    images[2, 0][20:24] = 0.9  # a band from side to side
    images[2, 0][40:44, 60:] = 0.9  # a mark that the edge cuts
    marks = find_marks(images)
    assert marks.image.tolist() == [0]
    assert marks.area[0] == pytest.approx(29, abs=3)
    assert marks.elongation[0] == pytest.approx(1, abs=0.1)
    assert marks.excess[0] + marks.ring[0] == pytest.approx(0.9, abs=0.01)


def test_a_fit_finds_what_a_film_added() -> None:
    grain = torch.zeros(1 + STEPS, 1 + STEPS)
    grain[8:, 8:] = 0.02
    true = marking(0.4)
    true.grain.copy_(grain)
    true.grain_spread.fill_(0.3)
    noise = torch.randn(400, true.noise_dim, generator=rng())
    real = true(torch.from_numpy(smooth(400, 2)), noise).clamp(-1, 1).numpy()
    generated = smooth(400, 3)
    fitted = fit_film(real, generated)
    assert fitted.mark_share == pytest.approx(0.4, abs=0.1)
    assert fitted.mark_mean[0] == pytest.approx(3.0, abs=0.3)
    assert fitted.white == pytest.approx(0.9, abs=0.05)
    assert fitted.grain[8:, 8:].mean() == pytest.approx(0.02, rel=0.15)
    assert fitted.grain_spread == pytest.approx(0.3, abs=0.05)
    filmed = fitted(torch.from_numpy(generated), torch.randn(400, true.noise_dim, generator=rng(1)))
    before = spectrum_error_of(real, generated).dex
    assert spectrum_error_of(real, filmed.clamp(-1, 1).numpy()).dex < 0.2 < before


def test_a_film_takes_nothing_from_images_that_lack_nothing() -> None:
    film = fit_film(smooth(12, 4), smooth(12, 4))
    assert film.mark_share == 0
    assert film.grain.abs().max() == 0
    one = fit_film(smooth(1, 4), smooth(1, 5))
    assert bool(one.grain.isfinite().all())
    assert one.grain_spread == 0


def tiny() -> Generator:
    shape = HaarShape(size_px=32, channels=(16, 12, 8), z_dim=8, haar_levels=1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator = build_generator(shape)
    assert isinstance(generator, Generator)
    return generator.eval().requires_grad_(False)


def examples(count: int = 24) -> Examples:
    images = torch.rand(count, 1, 32, 32, generator=rng()) * 2 - 1
    labels = torch.arange(count) % 2
    return Examples(images, labels, torch.zeros(count, 0, dtype=torch.int64))


def test_a_finished_generator_has_a_film_and_its_own_images_below() -> None:
    generator = tiny()
    finished = finish_generator(generator, examples(), **{**AS_IT_IS, "film": True})
    assert generator.film is None
    assert finished.film is not None
    assert finished.noise_dim == generator.noise_dim + finished.film.noise_dim
    z, labels = torch.randn(4, 8, generator=rng()), torch.tensor([0, 1, 0, 1])
    noise = torch.randn(4, finished.noise_dim, generator=rng())
    plain = generator(z, noise[:, : generator.noise_dim], labels)
    expected = finished.film(plain, noise[:, generator.noise_dim :])
    assert torch.equal(finished(z, noise, labels), expected)
    assert not torch.equal(expected, plain)  # random images have grain


def test_spread_styles_are_styles_further_from_their_mean() -> None:
    generator = tiny()
    finished = finish_generator(generator, examples(500), **{**AS_IT_IS, "style_spread": 1.3})
    z, labels = torch.randn(4000, 8, generator=rng(5)), torch.arange(4000) % 2
    styles = generator.styles(z, labels, 1.0, None)
    mean = styles.mean(dim=0)
    noise = torch.randn(8, generator.noise_dim, generator=rng())
    expected = generator.synthesise(mean + 1.3 * (styles[:8] - mean), noise)
    torch.testing.assert_close(finished(z[:8], noise, labels[:8]), expected, atol=0.05, rtol=0)
    plain = generator(z[:8], noise, labels[:8])
    assert (finished(z[:8], noise, labels[:8]) - plain).abs().max() > 0.1


def test_spread_classes_are_told_further_from_their_mean() -> None:
    generator = tiny()
    finished = finish_generator(generator, examples(), **{**AS_IT_IS, "class_spread": 1.5})
    before, after = (one.class_embedding.weight for one in (generator, finished))
    torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0))
    torch.testing.assert_close(after[1] - after[0], 1.5 * (before[1] - before[0]))
    assert finished.film is None


def test_a_run_with_all_is_drawn_from_packed_and_started_from(
    discs: Path, tiny_settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    settings = tiny_settings(discs, tmp_path / "gan", film=True, style_spread=1.2, class_spread=1.4)
    run = run_train_gan(settings)
    assert read_json(run / "model/settings.json")["film"] is True
    loaded = load_generator(run, torch.device("cpu"))
    assert isinstance(loaded, Generator)
    assert loaded.film is not None
    assert loaded.film.grain.max() > 0  # the discs are noisy
    release(run, tmp_path / "released", Asked(without_protection=True))
    packed = package_generator(tmp_path / "released", tmp_path / "packed")
    own, from_packed = (
        open_dataset(run_generate(GenerateSettings(run=source, out=out, per_class=8)))
        for source, out in ((run, tmp_path / "own"), (packed, tmp_path / "from-packed"))
    )
    difference = load_images(own, own.rows) - load_images(from_packed, from_packed.rows)
    assert abs(difference).max() <= 2 / 255 + 1e-6
    onwards = tiny_settings(discs, tmp_path / "onwards", init=run, film=True)
    assert read_json(run_train_gan(onwards) / "model/settings.json")["film"] is True


@pytest.mark.parametrize("asked", [{"film": True}, {"style_spread": 1.2}, {"class_spread": 2}])
def test_what_reads_real_images_or_needs_styles_is_refused_elsewhere(
    discs: Path,
    tiny_settings: Callable[..., TrainGanSettings],
    tmp_path: Path,
    asked: dict[str, Any],
) -> None:
    embedding = {"features": {"name": "vit_tiny_patch16_224"}, "public": discs}
    with pytest.raises(ValidationError, match="neither film, style_spread"):
        tiny_settings(discs, tmp_path, method="embedding", embedding=embedding, **asked)
    with pytest.raises(ValidationError, match="class_spread, style_spread and film out"):
        tiny_settings(discs, tmp_path, arch="dcgan", **asked)

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from gan.methods.release import SUMS_FILE
from gan.package.model import load_generator
from gan.plans.train import plan_train_gan
from gan.private import embedding
from gan.private.embedding import class_means, fit_public_features, matched_means, patient_vectors
from gan.settings.parts import EmbeddingSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.guidance import BinnedSpectrum
from synthdp.checkpoint import load_weights
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.networks.frozen import build_pyramid
from synthdp.networks.settings import BackboneSettings
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.mechanism import Mechanism

RANDOM_NET = BackboneSettings(name="test_efficientnet", size_px=32)
MakeSet = Callable[..., Path]
TinySettings = Callable[..., TrainGanSettings]


@pytest.fixture
def private(discs: Path, tiny_settings: TinySettings) -> TinySettings:
    def settings(data: Path, out: Path, **changes: object) -> TrainGanSettings:
        privacy = {"epsilon": 6.0, "population": 20, "delta": 1e-3, **changes.pop("privacy", {})}
        return tiny_settings(
            data,
            out,
            method="embedding",
            privacy=privacy,
            embedding={"features": RANDOM_NET, "public": discs},
            **changes,
        )

    return settings


def unit_rows(n: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def test_a_patient_moves_the_sum_by_at_most_one_whatever_the_images() -> None:
    vectors = unit_rows(30)
    vectors[:12] = vectors[0]  # one patient with twelve equal images, of both classes
    labels = torch.arange(30) % 2
    units = torch.cat([torch.zeros(12), torch.arange(1, 19)]).long()
    whole = patient_vectors(vectors, labels, units, 19)
    assert whole.norm(dim=1).max() <= 1 + 1e-6
    without = patient_vectors(vectors[12:], labels[12:], units[12:] - 1, 18)
    assert (whole.sum(0) - without.sum(0)).norm() <= 1 + 1e-5
    assert torch.allclose(whole[1:], without)


def test_the_constant_tells_how_many_images_a_class_has() -> None:
    vectors, labels = unit_rows(300), (torch.arange(300) % 3 == 0).long()
    led = torch.cat([torch.full((300, 1), 0.25), vectors], dim=1)
    sums = patient_vectors(led, labels, torch.arange(300), 300).sum(dim=0).view(2, -1) / 500
    public = {"class_prior": 0.5, "constant": 0.25}
    means, deviations = class_means(sums, None, **public)
    expected = torch.stack([vectors[labels == value].mean(dim=0) for value in (0, 1)])
    assert torch.allclose(means, expected, atol=1e-6)
    assert deviations.tolist() == [0, 0]
    mechanism = Mechanism(noise_multiplier=2, steps=1, normaliser=500)
    _, deviations = class_means(sums, mechanism, **public)
    assert deviations.tolist() == pytest.approx([2 / 200, 2 / 100])
    drowned = sums.clone()
    drowned[:, 0] = -3  # noise alone
    assert class_means(drowned, mechanism, **public)[0].isfinite().all()


def test_shrinking_brings_noisy_means_nearer_to_the_true_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    true = 0.02 * torch.randn(2, 500, generator=generator)
    noise = torch.tensor([0.02, 0.02])
    noisy = true + noise[:, None] * torch.randn(2, 500, generator=generator)
    shrunk = matched_means(noisy, noise, separation=1)
    assert (shrunk - true).norm() < 0.8 * (noisy - true).norm()
    assert torch.allclose(matched_means(noisy, 0 * noise, separation=1), noisy, atol=1e-6)
    apart = matched_means(noisy, 0 * noise, separation=2)
    assert torch.allclose(apart[1] - apart[0], 2 * (noisy[1] - noisy[0]), atol=1e-6)


def test_public_vectors_have_norm_one_and_know_no_patient(discs: Path) -> None:
    pyramid, spectrum = build_pyramid(RANDOM_NET, 32), BinnedSpectrum(32, torch.device("cpu"))
    images = torch.rand(9, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    features = fit_public_features(pyramid, spectrum, images, constant=0.25, batch=4)
    seen = features(torch.cat([images, torch.full((1, 1, 32, 32), 50.0), images[:1] * math.nan]))
    assert torch.allclose(seen[:-1].norm(dim=1), torch.ones(10), atol=1e-5)
    assert torch.allclose(seen[:-1, 0], torch.full((10,), 0.25))


def test_a_run_releases_once_and_states_it(
    private: TinySettings, discs_as_real: Path, tmp_path: Path
) -> None:
    settings = private(discs_as_real, tmp_path / "run")
    planned = plan_train_gan(settings)
    assert planned.epsilon == pytest.approx(6, rel=2e-3)
    run_train_gan(settings)
    released = load_weights(settings.out / "private" / SUMS_FILE)["sums"]
    ids = [release.id for release in recorded_releases(open_dataset(discs_as_real).ledger_path)]
    run_train_gan(settings)  # finished: nothing is spent again
    again = recorded_releases(open_dataset(discs_as_real).ledger_path)
    assert [release.id for release in again] == ids
    assert again[-1].mechanism is not None
    assert again[-1].mechanism.steps == 1
    assert released.shape[0] == 2
    assert not (settings.out / "private" / "noise.key").exists()


def test_a_stopped_matching_goes_on_to_the_bit(
    private: TinySettings, discs_as_real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = {"fixed_noise_key": 5}
    whole = private(discs_as_real, tmp_path / "whole", privacy=fixed, checkpoint_kimg=0.016)
    run_train_gan(whole)
    torn = private(discs_as_real, tmp_path / "torn", privacy=fixed, checkpoint_kimg=0.016)
    steps = iter(range(5))

    def stops(*args: object, **kwargs: object) -> None:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        original(*args, **kwargs)

    original = embedding.average_weights
    monkeypatch.setattr(embedding, "average_weights", stops)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(torn)
    released = (torn.out / "private" / SUMS_FILE).read_bytes()
    monkeypatch.setattr(embedding, "average_weights", original)
    run_train_gan(torn)
    assert (torn.out / "private" / SUMS_FILE).read_bytes() == released
    one, other = (
        load_weights(out / "model" / "generator.safetensors") for out in (whole.out, torn.out)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_neighbours_under_one_noise_leave_the_same_files(
    private: TinySettings, make_set: MakeSet, tmp_path: Path
) -> None:
    """All that may leave differs in the weights alone, when a patient's images are other ones."""
    names = []
    for number, splits in enumerate([("train", "val"), ("train",)]):
        data = make_set(tmp_path / f"set{number}", splits=splits, as_real=True)
        settings = private(data, tmp_path / f"run{number}", privacy={"fixed_noise_key": 5})
        run_train_gan(settings)
        names.append(
            {str(p.relative_to(settings.out)) for p in settings.out.rglob("*") if p.is_file()}
        )
    assert names[0] == names[1]


def test_matching_moves_the_means_towards_the_release(
    private: TinySettings, discs_as_real: Path, tmp_path: Path
) -> None:
    import json  # noqa: PLC0415 (beside its test)

    settings = private(
        discs_as_real, tmp_path / "run", privacy={"epsilon": None}, kimg=1.6, generator_lr=2e-3
    )
    run_train_gan(settings)
    lines = (settings.out / "private" / "metrics.jsonl").read_text().splitlines()
    gaps = [json.loads(line)["gap"] for line in lines]
    assert gaps[-1] < 0.8 * gaps[0]
    assert plan_train_gan(settings).epsilon == math.inf


def test_bad_input_is_refused(
    private: TinySettings, discs_as_real: Path, tiny_settings: TinySettings, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="embedding is missing"):
        tiny_settings(discs_as_real, tmp_path, method="embedding")
    patients = EmbeddingSettings(features=RANDOM_NET, public=discs_as_real)
    settings = private(discs_as_real, tmp_path / "run").model_copy(update={"embedding": patients})
    with pytest.raises(InputError, match="holds patients"):
        run_train_gan(settings)


def test_layouts_of_the_start_are_held(
    private: TinySettings, discs: Path, discs_as_real: Path, tmp_path: Path
) -> None:
    start = run_train_gan(private(discs, tmp_path / "start", kimg=0.016))
    z = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    layouts = {}
    for weight in (0.0, 100.0):
        recipe = {"features": RANDOM_NET, "public": discs, "layout_weight": weight}
        base = private(discs_as_real, tmp_path / f"run{weight:g}", init=start, kimg=0.8)
        settings = TrainGanSettings.model_validate(
            {**base.model_dump(), "embedding": recipe, "generator_lr": 3e-3}
        )
        layouts[weight] = layout_of(run_train_gan(settings), z)
    before = layout_of(start, z)
    assert (layouts[100.0] - before).norm() < 0.5 * (layouts[0.0] - before).norm()


def layout_of(run: Path, z: torch.Tensor) -> torch.Tensor:
    generator = load_generator(run, torch.device("cpu"))
    labels = torch.arange(len(z)) % 2
    images = generator(z, torch.zeros(len(z), generator.noise_dim), labels)
    return torch.nn.functional.avg_pool2d(images, 8)

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_up import spectrum_error_of
from pydantic import ValidationError

from gan.settings.parts import GuidanceSettings
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training import loop
from gan.training.guidance import (
    BinnedSpectrum,
    Guidance,
    RunningMean,
    class_moments,
    moment_loss,
    spectrum_loss,
)
from synthdp.checkpoint import load_weights
from synthdp.networks.settings import BackboneSettings

RANDOM_NET = {"name": "test_efficientnet", "size_px": 32}
TinySettings = Callable[..., TrainGanSettings]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_moments_draw_the_generator_to_the_target_without_shrinking_its_spread() -> None:
    """A squared difference of batch means would lose variance; running means keep it."""
    labels = torch.arange(8) % 2
    target = class_moments(torch.randn(4000, 3, generator=rng()) * 0.5 + 1, torch.arange(4000) % 2)
    shift, log_spread = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.Adam([shift, log_spread], lr=0.02)
    running, draws = RunningMean(0.95), rng(1)
    for _ in range(600):
        features = shift + log_spread.exp() * torch.randn(8, 3, generator=draws)
        batch = class_moments(features, labels)
        loss = moment_loss(batch, running.update(batch), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.allclose(shift.detach(), torch.ones(3), atol=0.15)
    assert torch.allclose(log_spread.detach().exp(), torch.full((3,), 0.5), atol=0.15)


def test_the_running_mean_is_plain_first_and_forgets_later() -> None:
    mean = RunningMean(0.9)
    for value in (1.0, 2.0, 6.0):
        found = mean.update(torch.tensor(value))
    assert found.item() == pytest.approx(3.0)
    for _ in range(200):
        found = mean.update(torch.tensor(10.0))
    assert found.item() == pytest.approx(10.0, abs=1e-3)


def test_the_spectrum_loss_mends_what_the_spectrum_error_measures() -> None:
    real = torch.randn(64, 1, 32, 32, generator=rng())
    bins = BinnedSpectrum(32, torch.device("cpu"))
    target = bins(real)
    gain = torch.tensor(3.0, requires_grad=True)
    optimiser = torch.optim.Adam([gain], lr=0.05)
    fake = torch.randn(64, 1, 32, 32, generator=rng(1))
    for _ in range(200):
        batch = bins(gain * fake)
        optimiser.zero_grad()
        spectrum_loss(batch, batch.detach(), target).backward()
        optimiser.step()
    assert abs(gain.item()) == pytest.approx(1.0, abs=0.1)
    error = spectrum_error_of(real.numpy(), (gain * fake).detach().numpy())
    assert error.dex < 0.2


def test_the_bins_know_rows_from_columns() -> None:
    bins = BinnedSpectrum(32, torch.device("cpu"))
    rows = (
        torch.sin(2 * torch.pi * 10 * torch.arange(32) / 32).view(1, 1, 32, 1).expand(1, 1, 32, 32)
    )
    striped, turned = bins(rows), bins(rows.transpose(2, 3))
    assert not torch.allclose(striped, turned)
    assert torch.allclose(striped.sort().values, turned.sort().values, rtol=1e-3, atol=1e-3)


def test_the_network_is_asked_late_and_seldom() -> None:
    settings = GuidanceSettings(features=RANDOM_NET, interval=4, ramp=(0.2, 0.4))
    assert [settings.strength_at(p) for p in (0.1, 0.2, 0.3, 0.4, 1.0)] == pytest.approx(
        [0, 0, 0.5, 1, 1]
    )
    guidance = Guidance(settings, 32, seed=0, device=torch.device("cpu"))
    assert not guidance.is_due(8, 0.2)
    assert guidance.is_due(8, 0.3)
    assert not guidance.is_due(9, 0.3)
    with pytest.raises(ValidationError, match="ramp must rise"):
        GuidanceSettings(features=RANDOM_NET, ramp=(0.4, 0.2))


def test_heads_learn_to_tell_and_the_generator_feels_them() -> None:
    settings = GuidanceSettings(features=RANDOM_NET, projected_lr=3e-3, ramp=(0.0, 0.01))
    guidance = Guidance(settings, 32, seed=0, device=torch.device("cpu"))
    labels = torch.arange(8) % 2
    losses = []
    for step in range(30):
        bright = torch.rand(8, 1, 32, 32, generator=rng(step))
        dark = (-torch.rand(8, 1, 32, 32, generator=rng(step + 99))).requires_grad_()
        loss, metrics = guidance.match_features(bright, dark, labels, class_strength=1.0)
        losses.append(metrics["loss_heads"].item())
    assert losses[-1] < 0.5 * losses[0]
    loss.backward()
    assert dark.grad is not None
    assert dark.grad.abs().sum() > 0


def test_a_killed_guided_training_goes_on_to_the_bit(
    discs: Path, tiny_settings: TinySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guidance = {"features": RANDOM_NET, "interval": 2, "ramp": (0.1, 0.2)}
    changes = {"guidance": guidance, "checkpoint_kimg": 0.016, "kimg": 0.1}
    whole = tiny_settings(discs, tmp_path / "whole", **changes)
    run_train_gan(whole)
    torn = tiny_settings(discs, tmp_path / "torn", **changes)
    original, calls = loop.train_step, iter(range(7))

    def stops(*args: object) -> dict[str, torch.Tensor]:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(loop, "train_step", stops)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(torn)
    monkeypatch.setattr(loop, "train_step", original)
    run_train_gan(torn)
    one, other = (
        load_weights(out / "model" / "generator.safetensors") for out in (whole.out, torn.out)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_private_methods_take_no_guidance(
    discs: Path, tiny_settings: TinySettings, tmp_path: Path
) -> None:
    with pytest.raises(ValidationError, match="reads real images without noise"):
        tiny_settings(
            discs,
            tmp_path,
            method="embedding",
            embedding={"features": RANDOM_NET, "public": discs},
            guidance={"features": BackboneSettings(**RANDOM_NET)},
        )

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from gan import train
from gan.package.conditions import Conditions
from gan.package.networks import build_generator
from gan.plans.train import plan_train_gan
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training import loop
from gan.training.examples import Examples, load_examples
from gan.training.loop import AdversarialRecipe, Schedule
from synthdp.checkpoint import Checkpoint, load_checkpoint, load_weights
from synthdp.config.settings import load_settings, validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError, RunError
from synthdp.machine.time_budget import TimeBudget
from synthdp.privacy.ledger.set_record import recorded_releases

TinySettings = Callable[..., TrainGanSettings]
MakeSet = Callable[..., Path]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "private" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_run_leaves_what_the_contract_asks_for(
    discs: Path, finished_run: Callable[[Path], Path], tiny_settings: TinySettings
) -> None:
    run = finished_run(discs)
    shared = {path.name for path in (run / "model").iterdir()}
    assert shared == {"generator.safetensors", "settings.json"}  # never the discriminator
    weights = load_weights(run / "model" / "generator.safetensors")
    shape = tiny_settings(discs, run).shape(Conditions())
    assert set(weights) == set(build_generator(shape).state_dict())
    assert list((run / "private" / "samples").glob("*.png"))
    last = metrics_of(run)[-1]
    assert last["kimg"] == 0.08
    assert {"loss_discriminator", "loss_generator", "augmentation", "images_per_s"} <= set(last)


def test_a_finished_run_returns_at_once(
    discs: Path,
    finished_run: Callable[[Path], Path],
    monkeypatch: pytest.MonkeyPatch,
    tiny_settings: TinySettings,
) -> None:
    run = finished_run(discs)
    monkeypatch.setattr("gan.plans.train.open_dataset", lambda _: pytest.fail("it read the data"))
    assert run_train_gan(tiny_settings(discs, run)) == run
    with pytest.raises(InputError, match="seed"):
        run_train_gan(tiny_settings(discs, run, seed=5))


def test_resuming_after_a_kill_changes_nothing(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings
) -> None:
    whole = run_train_gan(tiny_settings(discs, tmp_path / "whole", checkpoint_kimg=0.024))
    settings = tiny_settings(discs, tmp_path / "torn", checkpoint_kimg=0.024)
    real_step, taken = loop.train_step, Counter[str]()

    def killed(*arguments: Any) -> dict[str, torch.Tensor]:
        taken["steps"] += 1
        if taken["steps"] == 9:
            raise KeyboardInterrupt
        return real_step(*arguments)

    monkeypatch.setattr(loop, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(settings)
    kept = load_checkpoint(settings.out / "private" / "checkpoints")
    assert kept is not None
    assert kept.step == 6
    taken["steps"] = 100
    run_train_gan(settings)
    assert taken["steps"] == 100 + 4  # steps 6 to 9 of 10
    for folder in (whole, settings.out):
        assert (folder / "status.json").is_file()
    expected = load_checkpoint(whole / "private" / "checkpoints")
    found = load_checkpoint(settings.out / "private" / "checkpoints")
    assert expected is not None
    assert found is not None
    assert found.step == expected.step == 10
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    assert torch.equal(found.state["rng"], expected.state["rng"])
    assert found.state["strength"] == expected.state["strength"]


def test_changed_images_are_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings, make_set: MakeSet
) -> None:
    data = make_set(tmp_path / "discs")
    settings = tiny_settings(data, tmp_path / "run", checkpoint_kimg=0.04)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "_finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(settings)
    images = sorted((data / "images").iterdir())
    images[0].write_bytes(images[1].read_bytes())
    with pytest.raises(InputError, match="has changed since"):
        run_train_gan(settings)


def test_pairs_of_a_step_have_the_same_class(
    discs: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings
) -> None:
    settings = tiny_settings(discs, discs, class_ramp=(0, 0.001))
    training = loop.new_training(settings, torch.device("cpu"))
    training.step = 5
    told: list[torch.Tensor] = []
    for network in (training.generator, training.discriminator):
        forward = network.forward

        def listening(*inputs: Any, forward: Any = forward) -> torch.Tensor:
            told.append(next(item for item in inputs if item.dtype == torch.int64))
            assert inputs[-2] == 1.0
            return forward(*inputs)

        monkeypatch.setattr(network, "forward", listening)
    labels = torch.tensor([0, 1, 1, 0, 0, 0, 1, 1])
    real = Examples(torch.zeros(8, 1, 32, 32), labels, torch.empty(8, 0, dtype=torch.int64))
    loop.train_step(
        training, real, AdversarialRecipe.of(settings), torch.autocast("cpu", enabled=False)
    )
    assert len(told) == 5  # generator once; discriminator on real and generated, twice
    assert all(torch.equal(labels, item) for item in told)


def test_schedules(discs: Path, tiny_settings: TinySettings) -> None:
    settings = tiny_settings(discs, discs, kimg=100, gamma_start=2, gamma_end=0.5)
    schedule = Schedule.of(settings)
    last = schedule.steps
    first, middle, end = (schedule.at(step) for step in (0, last * 3 // 10, last))
    assert (first.class_strength, end.class_strength) == (0, 1)
    assert 0.3 < middle.class_strength < 0.5
    assert first.generator_lr == settings.generator_lr
    assert end.generator_lr / first.generator_lr == pytest.approx(settings.final_lr_share)
    assert (first.gamma, end.gamma) == (2, pytest.approx(0.5))
    assert first.ema_decay < middle.ema_decay


def test_training_draws_discs(discs: Path, tiny_settings: TinySettings) -> None:
    settings = tiny_settings(
        discs,
        discs,
        kimg=1.6,
        haar_levels=2,
        channels=(16, 16),
        generator_lr=2e-3,
        discriminator_lr=2e-3,
    )
    dataset = open_dataset(discs)
    examples = load_examples(dataset, dataset.split("train"), 32)
    training = loop.new_training(settings, torch.device("cpu"))
    before = brighter_centre(loop.sample_grid(training.averaged, Conditions(), seed=0, batch=8))
    lines: list[dict[str, Any]] = []
    recipe = AdversarialRecipe.of(settings)
    loop.train_adversarially(
        training, examples, recipe, log=lambda **line: lines.append(line), keep=lambda: None
    )
    after = brighter_centre(loop.sample_grid(training.averaged, Conditions(), seed=0, batch=8))
    assert after > before + 0.1  # real: 0.31
    assert [line["kimg"] for line in lines] == [1.0, 1.6]


def brighter_centre(grid: torch.Tensor) -> float:
    pictures = grid.view(4, 32, 8, 32).permute(0, 2, 1, 3).reshape(-1, 32, 32)
    return float(pictures[:, 12:20, 12:20].mean() - pictures[:, :4].mean())


def test_the_non_saturating_switch_trains(
    discs: Path, tmp_path: Path, tiny_settings: TinySettings
) -> None:
    run = run_train_gan(tiny_settings(discs, tmp_path / "run", loss="non_saturating"))
    assert math.isfinite(metrics_of(run)[-1]["loss_generator"])


def test_divergence_names_the_last_good_checkpoint(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings
) -> None:
    real_step = loop.train_step

    def diverging(training: loop.Training, *arguments: Any) -> dict[str, torch.Tensor]:
        metrics = real_step(training, *arguments)
        lost = {"loss_generator": torch.tensor(math.nan)} if training.step > 7 else {}
        return {**metrics, **lost}

    monkeypatch.setattr(loop, "train_step", diverging)
    with pytest.raises(RunError, match=r"diverged at step 8.*that of step 6"):
        run_train_gan(tiny_settings(discs, tmp_path / "run", checkpoint_kimg=0.024))


def test_the_promise(
    discs: Path,
    discs_as_real: Path,
    finished_run: Callable[[Path], Path],
    tmp_path: Path,
    tiny_settings: TinySettings,
) -> None:
    free = plan_train_gan(tiny_settings(discs, tmp_path / "a"))
    assert (free.epsilon, free.lineage.releases) == (0, ())
    bare = plan_train_gan(tiny_settings(discs_as_real, tmp_path / "b"))
    assert math.isinf(bare.epsilon)
    assert "without differential privacy" in bare.because
    stored = json.loads((finished_run(discs_as_real) / "privacy.json").read_text())
    assert stored["epsilon"] == "inf"
    recorded = recorded_releases(discs_as_real / "private" / "ledger.jsonl")
    assert stored["lineage"]["releases"][0]["id"] in [release.id for release in recorded]
    assert not (tmp_path / "a").exists()


def test_unusable_sets_are_refused(
    tmp_path: Path, tiny_settings: TinySettings, make_set: MakeSet
) -> None:
    several = make_set(tmp_path / "several", targets=("effusion", "mass", "nodule"))
    with pytest.raises(InputError, match=r"not 3 \(.*name one, as in targets: \[effusion\]"):
        plan_train_gan(tiny_settings(several, tmp_path / "run", arch="dcgan", channels=(16, 8, 8)))
    with pytest.raises(InputError, match="not a data-set folder"):
        plan_train_gan(tiny_settings(tmp_path, tmp_path / "run"))
    with pytest.raises(InputError, match="split 'train'"):
        run_train_gan(tiny_settings(make_set(tmp_path / "v", splits=("val",)), tmp_path / "run"))
    for name, cells, message in (
        ("one", ("0", "0"), "malignant = 1"),
        ("unknown", ("", "1"), "images of the train split have no label"),
    ):
        data = make_set(tmp_path / name, splits=("train",))
        manifest = data / "manifest.csv"
        lines = manifest.read_text().splitlines()
        relabelled = [f"{line[:-1]}{cells[int(line[-1])]}" for line in lines[1:]]
        manifest.write_text("\n".join([lines[0], *relabelled]) + "\n")
        with pytest.raises(InputError, match=message):
            run_train_gan(tiny_settings(data, tmp_path / f"run-{name}"))


def test_settings_that_do_not_fit_are_all_named() -> None:
    overrides = ["data=d", "out=o", "size_px=64", "class_ramp=[0.5, 0.2]", "batchh=8"]
    with pytest.raises(InputError, match="batchh: unknown key, did you mean batch"):
        load_settings(TrainGanSettings, None, overrides)
    with pytest.raises(InputError, match="64 px takes 4"):
        load_settings(TrainGanSettings, None, overrides[:3])


@pytest.mark.parametrize("name", ["demo", "cbis-ddsm"])
def test_the_shipped_settings_are_valid(name: str) -> None:
    path = Path(__file__).parents[2] / "configs" / "gan" / f"{name}.yaml"
    assert load_settings(TrainGanSettings, path, ["data=d", "out=o"]).kimg > 0


class _Clock:
    """Seconds that pass with each step of a training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_a_step: float) -> None:
        self.now = 0.0
        real_step = loop.train_step

        def step(*arguments: Any) -> dict[str, torch.Tensor]:
            self.now += seconds_a_step
            return real_step(*arguments)

        monkeypatch.setattr(loop, "train_step", step)
        monkeypatch.setattr(loop, "budget_of", self.budget_of)

    def budget_of(self, steps: int, minutes: float | None) -> TimeBudget:
        return TimeBudget(steps, None if minutes is None else 60 * minutes, lambda: self.now)


def _kept(run: Path) -> Checkpoint:
    kept = load_checkpoint(run / "private" / "checkpoints")
    assert kept is not None
    return kept


def test_a_clock_ends_a_training_with_a_finished_model_and_may_be_resumed(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings
) -> None:
    clock = _Clock(monkeypatch, seconds_a_step=6.0)  # ten steps a minute, of 1000 that are asked
    changes = {"kimg": 8, "checkpoint_kimg": 0.024, "minutes": 2}
    whole = run_train_gan(tiny_settings(discs, tmp_path / "whole", **changes))
    assert clock.now == 120
    assert _kept(whole).step == 20
    assert (whole / "model" / "generator.safetensors").is_file()
    assert metrics_of(whole)[-1]["class_strength"] == 1  # the ramp was not left halfway

    stopped_at = 11
    real_step = loop.train_step

    def killed(training: Any, *rest: Any) -> dict[str, torch.Tensor]:
        if training.step == stopped_at:
            raise KeyboardInterrupt
        return real_step(training, *rest)

    monkeypatch.setattr(loop, "train_step", killed)
    torn = tiny_settings(discs, tmp_path / "torn", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(torn)
    monkeypatch.setattr(loop, "train_step", real_step)
    run_train_gan(torn)
    assert _kept(torn.out).step == 20


def test_a_clock_that_ends_nothing_leaves_the_model_as_it_is(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_settings: TinySettings
) -> None:
    _Clock(monkeypatch, seconds_a_step=6.0)
    plain = run_train_gan(tiny_settings(discs, tmp_path / "plain"))
    timed = run_train_gan(tiny_settings(discs, tmp_path / "timed", minutes=2))
    expected, found = _kept(plain).weights, _kept(timed).weights
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_no_clock_decides_how_many_steps_are_taken_on_patients() -> None:
    paths = {"data": "d", "out": "o"}
    private = {
        **{"method": "dp_discriminator", "loss": "non_saturating", "minutes": 5},
        "privacy": {"epsilon": 6, "population": 600},
    }
    with pytest.raises(InputError, match=r"minutes: the steps .* part of its promise"):
        validate_settings(TrainGanSettings, {**paths, **private}, where="train-gan")

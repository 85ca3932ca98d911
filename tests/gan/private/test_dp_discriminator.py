"""The game of a private discriminator, and the runs made of it."""

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from made_up import claimed_ledger, clinic_set
from torch import Tensor

from gan.package.conditions import Conditions
from gan.private.dp_discriminator import GameRecipe, PatientImages, PrivateGame, play_privately
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.examples import load_examples
from gan.training.loop import new_training, sample_grid
from synthdp.data.dataset import open_dataset
from synthdp.errors import RunError
from synthdp.privacy.ledger import run_ledger as ledgers
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.noisy_sum.lattice import lattice_step
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.noisy_sum.sampling import sampled_units
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.runs import folder as runs

TinySettings = Callable[..., TrainGanSettings]
SOURCE = NoiseSource(bytes(range(32)))
CLIP, STEPS, BLOCK = 0.5, 12, 4
RECIPE: dict[str, Any] = {
    "steps": STEPS,
    "sampling_rate": 0.5,
    "clip_norm": CLIP,
    "discriminator_steps_per_generator_step": 3,
    "channels": (8, 8, 8),
    "fakes": 8,
    "block_steps": BLOCK,
}
PRIVATE: dict[str, Any] = {
    "method": "dp_discriminator",
    "loss": "non_saturating",
    "dp_discriminator": RECIPE,
    "privacy": {"epsilon": 6, "delta": 1e-3, "population": 50, "noise": "philox"},
}
FIXED = {**PRIVATE["privacy"], "fixed_noise_key": 1}
MECHANISM = Mechanism(
    sampling_rate=0.5, noise_multiplier=0.3, steps=STEPS, normaliser=5, clip_norm=CLIP
)


@pytest.fixture
def settings(tiny_settings: TinySettings, tmp_path: Path) -> Callable[..., TrainGanSettings]:
    def made(data: Path = tmp_path, out: Path = tmp_path, **changes: Any) -> TrainGanSettings:
        return tiny_settings(data, out, **{**PRIVATE, **changes})

    return made


def patients_of(n_patients: int = 10) -> PatientImages:
    rng = torch.Generator().manual_seed(1)
    units = torch.arange(n_patients).repeat_interleave(1 + torch.arange(n_patients) % 3)
    images = torch.rand(len(units), 1, 32, 32, generator=rng) * 2 - 1
    tags = [b"%d" % unit for unit in range(n_patients)]
    return PatientImages.of(images, torch.arange(len(units)) % 2, units, tags)


def game_of(settings: TrainGanSettings, **hooks: Any) -> PrivateGame:
    training = new_training(settings, torch.device("cpu"))
    recipe, autocast = GameRecipe.of(settings), torch.autocast("cpu", enabled=False)
    return PrivateGame(training, recipe, autocast=autocast, **hooks)


def played(
    settings: TrainGanSettings,
    folder: Path,
    patients: PatientImages,
    observe: Callable[[int, Tensor], None] = lambda step, released: None,
    mechanism: Mechanism = MECHANISM,
    **hooks: Any,
) -> PrivateGame:
    game = game_of(settings, **hooks)
    play_privately(
        game,
        patients,
        ledger=claimed_ledger(folder, mechanism, block_steps=BLOCK),
        noise_source=SOURCE,
        block_steps=BLOCK,
        observe=observe,
    )
    return game


def test_replay_on_a_neighbour_has_the_same_control_flow(
    settings: Callable[..., TrainGanSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[tuple[int, ...], float, int]] = []
    honest = NoiseSource.gaussian

    def recorded(self: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        drawn.append((shape, scale, stream))
        return honest(self, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", recorded)
    first, data = settings(), patients_of()
    neighbour = replace(data, indices=data.indices[:-1], tags=data.tags[:-1])
    found: dict[str, Any] = {}
    for name, patients in (("a", data), ("b", neighbour)):
        released: list[Tensor] = []
        lines: list[set[str]] = []
        played(
            first,
            tmp_path / name,
            patients,
            lambda step, out, released=released: released.append(out),
            log=lambda lines=lines, **line: lines.append(set(line)),
        )
        found[name] = released, lines, list(drawn)
        drawn.clear()
    (here, lines, draws), (there, other_lines, other_draws) = found["a"], found["b"]
    assert draws == other_draws
    assert [stream for _, _, stream in draws] == list(range(STEPS))
    assert lines == other_lines
    assert len(lines) == STEPS // BLOCK
    took_part = [not torch.equal(one, other) for one, other in zip(here, there, strict=True)]
    step = took_part.index(True)  # both stood at the same weights before it
    moved = float((here[step] - there[step]).norm()) * MECHANISM.normaliser
    assert moved <= CLIP
    ledgers = [(tmp_path / name / "ledger.jsonl").read_text().count("reserve") for name in "ab"]
    assert ledgers == [STEPS // BLOCK] * 2


def test_an_empty_sample_is_a_counted_step_of_noise(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    released: list[Tensor] = []
    nobody = replace(patients_of(), indices=[], tags=[])
    game = played(settings(), tmp_path, nobody, lambda step, out: released.append(out))
    assert Ledger(tmp_path / "ledger.jsonl").spent_steps == len(released) == STEPS
    for out in released:
        assert float(out.std()) == pytest.approx(CLIP * 0.3 / 5, rel=0.05)
    assert game.training.step == STEPS


def test_without_noise_or_clipping_a_step_is_the_same_on_the_lattice(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    # one step: Adam makes a whole step of a gradient that is nearly zero, and so of its rounding
    loose = MECHANISM.model_copy(update={"noise_multiplier": 0.0, "clip_norm": 30.0})
    released: list[Tensor] = []
    played(
        settings(),
        tmp_path,
        patients_of(),
        lambda step, out: released.append(out),
        mechanism=loose,
    )
    plain, data = game_of(settings()), patients_of()
    drawn = sampled_units(loose, data.tags, SOURCE, 0)
    expected = plain.gradient_sum(data, drawn, 0, None)
    step = lattice_step(30.0)
    assert expected.norm() > 100 * step
    short = 3e-6 * expected.abs()  # what is held back of a factor
    assert ((released[0] * loose.normaliser - expected).abs() <= step + short).all()


@pytest.mark.parametrize(
    ("ratio", "head_start", "moves"), [(3, 0, 4), (12, 0, 1), (0.5, 0, 24), (5, 0, 2), (3, 5, 2)]
)
def test_the_generator_moves_once_in_so_many_steps(
    settings: Callable[..., TrainGanSettings],
    monkeypatch: pytest.MonkeyPatch,
    ratio: float,
    head_start: int,
    moves: int,
) -> None:
    recipe = {**RECIPE, "discriminator_steps_per_generator_step": ratio, "head_start": head_start}
    game = game_of(settings(dp_discriminator=recipe))
    moved: list[int] = []
    at: list[int] = []
    monkeypatch.setattr(
        PrivateGame, "_move_generator", lambda self, now: moved.append(1) or torch.zeros(())
    )
    gradient = torch.zeros(sum(p.numel() for p in game.discriminator.parameters()))
    for step in range(STEPS):
        game.move(step, gradient)
        at += [step] * (len(moved) - len(at))
    assert len(moved) == game.generator_steps_before(STEPS) == moves
    assert min(at) >= head_start


def test_a_generated_image_is_a_function_of_public_state_alone(
    settings: Callable[..., TrainGanSettings],
) -> None:
    game, other = game_of(settings(class_prior=0.25)), game_of(settings(class_prior=0.25))
    for each, patients in ((game, patients_of()), (other, patients_of(3))):
        each.gradient_sum(patients, torch.arange(3), 0, CLIP)
    first, second = game._fakes, other._fakes
    assert first is not None
    assert second is not None
    assert torch.equal(first.images, second.images)
    assert first.labels.tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("privacy", [FIXED, {}], ids=["private", "none"])
def test_a_stop_resumes_bit_exactly(
    settings: Callable[..., TrainGanSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    privacy: dict[str, Any],
) -> None:
    data = clinic_set(tmp_path / "clinic")
    whole = run_train_gan(settings(data, tmp_path / "whole", privacy=privacy))
    torn = settings(data, tmp_path / "torn", privacy=privacy)
    honest, stops = PrivateGame.move, [5]

    def stopping(self: PrivateGame, step: int, gradient: Tensor) -> None:
        honest(self, step, gradient)
        if step in stops:
            stops.clear()
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(PrivateGame, "move", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(torn)
    assert run_train_gan(torn) == torn.out
    for name in ("model/generator.safetensors", "private/checkpoints/000000012.safetensors"):
        assert (torn.out / name).read_bytes() == (whole / name).read_bytes()


def test_a_crash_leaves_its_block_spent_and_reuses_no_noise(
    settings: Callable[..., TrainGanSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(clinic_set(tmp_path / "clinic"), tmp_path / "run")
    honest, taken = PrivateGame.move, list[int]()

    def dying(self: PrivateGame, step: int, gradient: Tensor) -> None:
        taken.append(step)
        if taken.count(5) == 1 and step == 5:
            raise OSError("the machine died")
        honest(self, step, gradient)

    monkeypatch.setattr(PrivateGame, "move", dying)
    with pytest.raises(OSError, match="died"):
        run_train_gan(asked)
    assert not list((asked.out / "private").glob("*.key"))
    run_train_gan(asked)
    assert taken == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert Ledger(asked.out / "private" / "ledger.jsonl").spent_steps == STEPS
    assert read_statement(asked.out).epsilon <= 6


def killed_after_its_first_checkpoint(asked: TrainGanSettings) -> bool:
    """Train in a child that is killed when it has kept something; whether it was at work.

    It takes no step more by itself: on a busy machine it would be at its end before the kill.
    """
    checkpoints, move = asked.out / "private" / "checkpoints", PrivateGame.move

    def waiting(self: PrivateGame, step: int, gradient: Tensor) -> None:
        if list(checkpoints.glob("*.json")):
            time.sleep(600)
        move(self, step, gradient)

    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        PrivateGame.move = waiting  # type: ignore[method-assign]  # in this process alone
        run_train_gan(asked)
        os._exit(0)
    while not list(checkpoints.glob("*.json")):
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_run_that_is_killed_ends_within_its_budget(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    recipe = {**RECIPE, "steps": 16, "block_steps": 2}
    asked = settings(clinic_set(tmp_path / "clinic"), tmp_path / "run", dp_discriminator=recipe)
    ledger = asked.out / "private" / "ledger.jsonl"
    assert killed_after_its_first_checkpoint(asked)
    assert Ledger(ledger).spent_steps >= 2
    run_train_gan(asked)
    events = [json.loads(line) for line in ledger.read_text().splitlines()]
    firsts = [event["first"] for event in events if event.get("event") == "reserve"]
    assert firsts == list(range(0, 16, 2))
    assert Ledger(ledger).spent_steps == 16
    assert read_statement(asked.out).epsilon <= 6


def test_a_finished_run_keeps_its_target_and_says_how(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    data = clinic_set(tmp_path / "clinic")
    run = run_train_gan(settings(data, tmp_path / "run"))
    statement = read_statement(run)
    assert 5.98 < statement.epsilon <= 6
    assert "Poisson" in statement_text(statement)
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == STEPS
    assert not (run / "private" / "noise.key").exists()
    assert "EXPERIMENTAL" in (run / "card.md").read_text()
    assert {path.name for path in (run / "model").iterdir()} == {
        "generator.safetensors",
        "settings.json",
    }
    (recorded,) = recorded_releases(data / "private" / "ledger.jsonl")
    assert recorded.id == statement.lineage.releases[0].id


def test_what_may_leave_is_the_same_on_neighbours_but_for_the_weights(
    settings: Callable[..., TrainGanSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "new_release_id", lambda: "ab" * 8)
    monkeypatch.setattr(ledgers, "new_token", lambda: "cd" * 8)
    found = []
    for name, n_patients in (("a", 12), ("b", 11)):
        data = clinic_set(tmp_path / name / "clinic", n_patients=n_patients)
        run = run_train_gan(settings(data, tmp_path / name / "run"))
        texts = {
            path.name: path.read_text()
            for path in (run / "card.md", run / "privacy.json", run / "model" / "settings.json")
        }
        found.append(texts)
        metrics = (run / "private" / "metrics.jsonl").read_text().splitlines()
        assert [set(json.loads(line)) for line in metrics] == [
            {"step", "generator_steps", "loss_generator", "steps_per_s"}
        ] * (STEPS // BLOCK)
        for path in run.rglob("*"):
            if path.is_file() and path.suffix in (".json", ".md", ".yaml", ".jsonl"):
                assert "secret" not in path.read_text()
    assert found[0] == found[1]


def test_without_an_epsilon_it_is_the_same_recipe_and_infinite(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    data = clinic_set(tmp_path / "clinic")
    run = run_train_gan(settings(data, tmp_path / "run", privacy={}))
    statement = read_statement(run)
    assert math.isinf(statement.epsilon)
    assert "without differential privacy" in statement.because
    ledger = Ledger(run / "private" / "ledger.jsonl")
    assert (ledger.release, ledger.spent_steps) == (None, 0)
    assert len(recorded_releases(data / "private" / "ledger.jsonl")) == 1


def test_a_fixed_noise_key_promises_nothing(
    settings: Callable[..., TrainGanSettings], tmp_path: Path
) -> None:
    data = clinic_set(tmp_path / "clinic")
    statement = read_statement(run_train_gan(settings(data, tmp_path / "run", privacy=FIXED)))
    assert math.isinf(statement.epsilon)
    assert "fixed key" in statement.because


def test_a_weight_that_is_no_number_stops_at_the_last_good_checkpoint(
    settings: Callable[..., TrainGanSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = settings(clinic_set(tmp_path / "clinic"), tmp_path / "run")
    honest = PrivateGame.move

    def poisoned(self: PrivateGame, step: int, gradient: Tensor) -> None:
        honest(self, step, gradient)
        if step == 6:
            with torch.no_grad():
                next(self.training.generator.parameters()).fill_(math.nan)

    monkeypatch.setattr(PrivateGame, "move", poisoned)
    with pytest.raises(RunError, match="diverged before step 8"):
        run_train_gan(asked)
    checkpoints = asked.out / "private" / "checkpoints"
    assert sorted(path.stem for path in checkpoints.glob("*.json")) == ["000000004"]


def test_the_game_draws_discs_when_there_is_hardly_any_noise(
    settings: Callable[..., TrainGanSettings], discs: Path, tmp_path: Path
) -> None:
    recipe = {"steps": 100, "channels": (16, 16, 8), "discriminator_steps_per_generator_step": 1}
    rates = {"generator_lr": 4e-3, "discriminator_lr": 2e-3, "beta1": 0.5, "batch": 16}
    asked = settings(**rates, dp_discriminator={**RECIPE, **recipe})
    dataset = open_dataset(discs)
    examples = load_examples(dataset, dataset.split("train"), 32)
    units, tags = torch.arange(len(examples)) % 3, [b"a", b"b", b"c"]
    patients = PatientImages.of(examples.images, examples.labels, units, tags)
    mechanism = Mechanism(noise_multiplier=1e-3, steps=100, normaliser=3, clip_norm=CLIP)
    before = brighter_centre(grid_of(game_of(asked)))
    after = brighter_centre(grid_of(played(asked, tmp_path, patients, mechanism=mechanism)))
    assert after > before + 0.1  # real: 0.31


def grid_of(game: PrivateGame) -> Tensor:
    return sample_grid(game.training.averaged, Conditions(), seed=0, batch=8)


def brighter_centre(grid: Tensor) -> float:
    pictures = grid.view(4, 32, 8, 32).permute(0, 2, 1, 3).reshape(-1, 32, 32)
    return float(pictures[:, 12:20, 12:20].mean() - pictures[:, :4].mean())

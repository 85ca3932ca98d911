"""What a train-gan run promises, and what it refuses, before an image is read."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_up import received_run

from gan.methods.training import start_from
from gan.network.discriminator import Discriminator
from gan.package.conditions import Conditions
from gan.package.model import load_generator
from gan.package.networks import build_generator
from gan.plans.train import gan_plan, plan_train_gan
from gan.settings.train import TrainGanSettings
from gan.train import run_train_gan
from gan.training.loop import new_training
from synthdp.config.settings import load_settings
from synthdp.errors import InputError
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import make_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.releases.release import Asked, release
from synthdp.runs.to_come import ToCome

TinySettings = Callable[..., TrainGanSettings]
MakeSet = Callable[..., Path]
PRIVACY: dict[str, Any] = {"epsilon": 6, "delta": 1e-3, "population": 50, "noise": "philox"}
FEATURES = {"name": "test_efficientnet", "weights": "somewhere/weights.safetensors"}
DISCRIMINATOR: dict[str, Any] = {
    "method": "dp_discriminator",
    "loss": "non_saturating",
    "dp_discriminator": {"steps": 10, "sampling_rate": 0.5, "channels": (8, 8, 8), "fakes": 8},
    "privacy": PRIVACY,
}


@pytest.fixture
def phantom_run(discs: Path, finished_run: Callable[[Path], Path]) -> Path:
    """A generator that no patient went into."""
    return finished_run(discs)


@pytest.fixture
def embedding(discs: Path) -> dict[str, Any]:
    """Settings of the embedding, whose public set is phantoms."""
    recipe = {"features": FEATURES, "public": discs}
    return {"method": "embedding", "embedding": recipe, "privacy": PRIVACY}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"privacy": PRIVACY}, "method: adversarial trains without differential privacy"),
        ({**DISCRIMINATOR, "privacy": {"epsilon": 6}}, "privacy.population is missing"),
        ({**DISCRIMINATOR, "conditions": ("view",)}, "leave conditions out"),
        ({**DISCRIMINATOR, "arch": "dcgan"}, "trains arch: haar"),
        ({**DISCRIMINATOR, "loss": "relativistic"}, "set loss: non_saturating"),
        ({**DISCRIMINATOR, "dp_discriminator": {"channels": (8, 8)}}, "one for each stage"),
        ({**DISCRIMINATOR, "dp_discriminator": {"steps": 9}}, "would never move"),
        ({**DISCRIMINATOR, "privacy": {**PRIVACY, "delta": 0.1}}, "not below 1/population"),
        (
            {**DISCRIMINATOR, "privacy": {**PRIVACY, "noise": "discrete"}},
            "set privacy.noise: shake256",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tiny_settings: TinySettings, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        tiny_settings(tmp_path, tmp_path, **changes)


def test_one_release_of_everybody_is_planned_for_the_embedding(
    discs_as_real: Path, tiny_settings: TinySettings, tmp_path: Path, embedding: dict[str, Any]
) -> None:
    plan = gan_plan(tiny_settings(discs_as_real, tmp_path / "run", **embedding)).privacy
    mechanism = plan.release.mechanism
    assert mechanism is not None
    assert (mechanism.steps, mechanism.sampling_rate, mechanism.clip_norm) == (1, 1, 1)
    assert mechanism.normaliser == 50
    assert plan.statement.epsilon == pytest.approx(6, rel=1e-6)
    assert plan.statement.population == 50
    assert not (tmp_path / "run").exists()


def test_steps_on_samples_are_planned_for_the_discriminator(
    discs_as_real: Path, tiny_settings: TinySettings, tmp_path: Path
) -> None:
    asked = tiny_settings(discs_as_real, tmp_path, **DISCRIMINATOR, cohort="1/2")
    mechanism = gan_plan(asked).privacy.mechanism
    assert mechanism is not None
    assert (mechanism.steps, mechanism.sampling_rate) == (10, 0.5)
    assert mechanism.normaliser == 50 * 0.5 * 0.5  # half of the patients, half of them a step
    assert 5.98 < mechanism.loss().epsilon(1e-3) <= 6


@pytest.mark.parametrize("method", ["embedding", "dp_discriminator"])
def test_a_risk_is_kept_in_the_place_of_an_epsilon(
    tiny_settings: TinySettings,
    discs_as_real: Path,
    tmp_path: Path,
    embedding: dict[str, Any],
    method: str,
) -> None:
    asked = {"epsilon": None, "risk": {"found": 0.05, "false_alarms": 0.01}}
    changes = embedding if method == "embedding" else DISCRIMINATOR
    changes = {**changes, "privacy": {**PRIVACY, **asked}}
    statement = plan_train_gan(tiny_settings(discs_as_real, tmp_path / "run", **changes))
    assert 0.99 * 0.05 <= statement.odds.found_at_1_percent <= 0.05
    assert "falsely accused; kept" in statement_text(statement)


def test_phantoms_cost_nothing(
    discs: Path, tiny_settings: TinySettings, tmp_path: Path, embedding: dict[str, Any]
) -> None:
    statement = plan_train_gan(tiny_settings(discs, tmp_path, **embedding))
    assert (statement.epsilon, statement.lineage.releases) == (0, ())


def test_images_are_the_unit_only_when_asked_for_by_name(
    tmp_path: Path, tiny_settings: TinySettings, make_set: MakeSet, embedding: dict[str, Any]
) -> None:
    data = make_set(tmp_path / "unknown", as_real=True, unit="image")
    with pytest.raises(InputError, match="without patient ids"):
        plan_train_gan(tiny_settings(data, tmp_path, **embedding))
    by_image = {**embedding, "privacy": {**PRIVACY, "unit": "image"}}
    assert "IMAGE" in statement_text(plan_train_gan(tiny_settings(data, tmp_path, **by_image)))


def test_more_patients_than_declared_are_refused_where_nothing_is_promised(
    discs_as_real: Path, tiny_settings: TinySettings, tmp_path: Path
) -> None:
    few = {**DISCRIMINATOR, "privacy": {"population": 5}}
    with pytest.raises(InputError, match="population is 5, but train holds more patients"):
        run_train_gan(tiny_settings(discs_as_real, tmp_path / "run", **few))
    assert not (tmp_path / "run").exists()
    promised = {**DISCRIMINATOR, "privacy": {**PRIVACY, "population": 5}}
    statement = plan_train_gan(tiny_settings(discs_as_real, tmp_path / "run", **promised))
    assert statement.epsilon == pytest.approx(6, rel=1e-3)


def test_a_start_on_phantoms_is_free_and_has_their_weights(
    phantom_run: Path,
    discs_as_real: Path,
    tiny_settings: TinySettings,
    tmp_path: Path,
) -> None:
    init = phantom_run
    asked = tiny_settings(discs_as_real, tmp_path / "run", **DISCRIMINATOR, init=init)
    statement = plan_train_gan(asked)
    assert 5.98 < statement.epsilon <= 6
    assert len(statement.lineage.releases) == 1
    generator = build_generator(asked.shape(Conditions()))
    start_from(init, generator)
    expected = load_generator(init, torch.device("cpu")).state_dict()
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, expected[name])


def spent_run(run: Path, out: Path, **spent: Any) -> Path:
    """A copy of a finished run, whose statement says that it cost the patients something."""
    received_run(run, out)  # its own record would say what it spent
    found = Release(stage="train-gan", data="discs", **spent)
    statement = make_statement(Lineage(releases=(found,)), subject="generator")
    (out / "privacy.json").write_text(json.dumps(statement.model_dump(mode="json")))
    return out


def test_what_the_start_has_spent_is_taken_off(
    phantom_run: Path,
    discs_as_real: Path,
    tiny_settings: TinySettings,
    tmp_path: Path,
    embedding: dict[str, Any],
) -> None:
    def planned(init: Path | None) -> PrivacyPlan:
        return gan_plan(tiny_settings(discs_as_real, tmp_path, **embedding, init=init)).privacy

    init = spent_run(phantom_run, tmp_path / "spent", mu=0.5)
    alone, after = planned(None), planned(init)
    assert after.release.mu == pytest.approx(math.sqrt(alone.release.mu**2 - 0.25))
    assert after.statement.epsilon == pytest.approx(6, rel=1e-6)
    assert len(after.statement.lineage.releases) == 2
    with pytest.raises(InputError, match="has spent"):
        planned(spent_run(phantom_run, tmp_path / "more", mu=2.0))
    bare = planned(spent_run(phantom_run, tmp_path / "bare", mu=math.inf))
    assert math.isinf(bare.statement.epsilon)
    spent = Lineage(releases=(Release(stage="t", data="d", mu=0.5),))
    asked = tiny_settings(discs_as_real, tmp_path, **embedding, init=Path("planned"))
    to_come = {Path("planned"): ToCome(lineage=spent, targets=("malignant",), settings=asked)}
    assert len(plan_train_gan(asked, to_come).lineage.releases) == 2


def test_a_start_of_another_shape_or_none_is_refused(
    discs: Path,
    phantom_run: Path,
    tiny_settings: TinySettings,
    tmp_path: Path,
) -> None:
    init = phantom_run
    with pytest.raises(InputError, match="another shape: z_dim differ"):
        plan_train_gan(tiny_settings(discs, tmp_path, init=init, z_dim=8))
    with pytest.raises(InputError, match="not a finished run"):
        plan_train_gan(tiny_settings(discs, tmp_path, init=tmp_path / "nothing"))
    with pytest.raises(InputError, match="no generator 'nobody'"):
        plan_train_gan(tiny_settings(discs, tmp_path, init=Path("pretrained:nobody")))


def test_an_adversarial_training_starts_from_init_and_leaves_without_its_place(
    discs: Path,
    phantom_run: Path,
    tiny_settings: TinySettings,
    tmp_path: Path,
) -> None:
    init = phantom_run
    rates = {"generator_lr": 1e-12, "discriminator_lr": 1e-12, "kimg": 0.016}
    run = run_train_gan(tiny_settings(discs, tmp_path / "run", init=init, **rates))
    before, after = (load_generator(path, torch.device("cpu")) for path in (init, run))
    for name, tensor in after.state_dict().items():
        assert torch.allclose(tensor, before.state_dict()[name], atol=1e-6)
    release(run, tmp_path / "out", Asked(without_protection=True))
    assert "init: gan" in (tmp_path / "out" / "README.md").read_text()


def test_the_private_discriminator_judges_each_image_alone(
    tiny_settings: TinySettings, tmp_path: Path
) -> None:
    settings = tiny_settings(tmp_path, tmp_path, **DISCRIMINATOR)
    discriminator = new_training(settings, torch.device("cpu")).discriminator
    assert isinstance(discriminator, Discriminator)
    images, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 1, 0])
    together = discriminator(images, labels)
    for index in range(4):
        alone = discriminator(images[index : index + 1], labels[index : index + 1])
        assert torch.allclose(alone, together[index], atol=1e-5)


def test_the_embeddings_release_is_on_record_before_it_is_computed(
    discs_as_real: Path,
    tiny_settings: TinySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    embedding: dict[str, Any],
) -> None:
    asked = tiny_settings(discs_as_real, tmp_path / "run", **embedding)
    calls: list[int] = []

    def released(*_: Any, **__: Any) -> torch.Tensor:
        recorded = recorded_releases(discs_as_real / "private" / "ledger.jsonl")
        of_run = json.loads((asked.out / "status.json").read_text())["release"]
        assert of_run in {release.id for release in recorded}
        calls.append(Ledger(asked.out / "private" / "ledger.jsonl").spent_steps)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return torch.ones(2, 9)

    undirected = SimpleNamespace(directions=None)
    method, release_made = "gan.methods.embedding", "gan.methods.release"
    monkeypatch.setattr(f"{method}.public_features", lambda *_: undirected)
    monkeypatch.setattr(f"{method}.image_vectors", lambda *_: torch.ones(1, 9))
    monkeypatch.setattr(f"{release_made}.vectors_of_patients", lambda *_, **__: torch.ones(1, 18))
    monkeypatch.setattr(f"{release_made}.released_sums", released)
    monkeypatch.setattr(f"{method}.match", lambda *_, **__: None)
    with pytest.raises(KeyboardInterrupt):
        run_train_gan(asked)
    with pytest.raises(InputError, match="a second release would cost again"):
        run_train_gan(asked)
    assert calls == [1]
    asked = tiny_settings(discs_as_real, tmp_path / "again", **embedding)
    run_train_gan(asked)
    assert calls == [1, 1]
    assert read_statement(asked.out).epsilon == pytest.approx(6, rel=1e-6)
    assert not list((asked.out / "private").glob("*.key"))
    release(asked.out, tmp_path / "leaves", Asked(without_protection=True))
    card = (tmp_path / "leaves" / "README.md").read_text()
    assert "weights.safetensors" in card
    assert "somewhere" not in card


def test_the_shipped_settings_are_valid() -> None:
    path = Path(__file__).parents[3] / "configs" / "gan" / "cbis-ddsm-dp-discriminator.yaml"
    shipped = load_settings(TrainGanSettings, path, ["data=d", "out=o"])
    assert (shipped.privacy.epsilon, shipped.privacy.population) == (20, 600)

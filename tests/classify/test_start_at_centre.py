"""A head that begins with what it learned of the labels of the set `centre`."""

import json
from pathlib import Path

import pytest
import torch
from made_up import clinic_set, give_even_key, several_targets_set
from torch import Tensor

from classify.audit import head_subject, run_audit
from classify.finetune import planned_finetune, run_finetune
from classify.model.folder import load_classifier
from classify.settings.finetune import FinetuneSettings
from classify.setup.head import START_LR_TIMES_STEPS, START_STEPS, HeadSetup, set_up_head
from classify.strategies import expand
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.evaluation.metrics import auroc
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.attacks.settings import AuditSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.noisy_sum.noise import NoiseSource
from synthdp.privacy.promise.stated import read_statement

BACKBONE = FeatureSettings(name="test_vit", size_px=32)
PRIVACY = {"epsilon": 1, "delta": 1e-3, "population": 50, "noise": "philox"}
HEAD = {"start": "centre", "steps": 12, "block_steps": 5, "clip_norm": 0.2}


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return give_even_key(clinic_set(tmp_path / "clinic"))


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "phantoms", "phantom", n_patients=16)


def settings(data: Path, centre: Path | None, **changes: object) -> FinetuneSettings:
    values = {"data": data, "out": data.parent / "run", "privacy": PRIVACY, "backbone": BACKBONE}
    values |= {"head": HEAD, "centre": centre, **changes}
    return validate_settings(FinetuneSettings, values, where="finetune")


def set_up(asked: FinetuneSettings) -> HeadSetup:
    return set_up_head(asked, open_dataset(asked.data))


def by_hand(inputs: Tensor, targets: Tensor, units: Tensor) -> Tensor:
    """Plain descent on the mean over patients of the mean loss of each, half of it averaged."""
    weights = torch.zeros(1, inputs.shape[1], dtype=torch.float64)
    later = []
    for step in range(START_STEPS):
        gradient = torch.zeros_like(weights)
        for patient in units.unique():
            own = units == patient
            error = torch.sigmoid(inputs[own].double() @ weights.T) - targets[own].double()
            gradient += error.T @ inputs[own].double() / int(own.sum())
        weights = weights - START_LR_TIMES_STEPS / START_STEPS * gradient / len(units.unique())
        if step >= START_STEPS / 2:
            later.append(weights)
    return torch.stack(later).mean(dim=0).float()


def test_it_is_the_head_of_these_labels_without_noise(clinic: Path, phantoms: Path) -> None:
    # as patients the phantoms have the inputs that they have as a centre
    of_phantoms = set_up(settings(phantoms, phantoms, head={})).examples
    expected = by_hand(of_phantoms.inputs, of_phantoms.targets, of_phantoms.units)
    asked = settings(clinic, phantoms)
    start = set_up(asked).start
    torch.testing.assert_close(start, expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(start, set_up(asked).start)  # a resumed run finds the same
    examples = set_up(settings(clinic, phantoms)).examples
    logits = examples.inputs @ start.T
    assert auroc(examples.targets[:, 0].numpy(), logits[:, 0].numpy()) > 0.9


def test_it_learns_phantoms_as_they_are_whatever_is_shown_of_patients(
    clinic: Path, phantoms: Path
) -> None:
    noisy = set_up(settings(clinic, phantoms, head={**HEAD, "image_noise": 0.1}))
    plain = set_up(settings(clinic, phantoms))
    assert len(noisy.examples.inputs) == 2 * len(plain.examples.inputs)
    assert torch.equal(noisy.start, plain.start)


def test_it_costs_nothing_and_the_card_names_it(clinic: Path, phantoms: Path) -> None:
    run = run_finetune(settings(clinic, phantoms))
    statement = read_statement(run)
    assert 0.99 < statement.epsilon <= 1
    assert len(statement.lineage.releases) == 1
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == HEAD["steps"]
    card = (run / "card.md").read_text()
    assert "head began with" in card
    assert "the labels of phantoms" in card
    zero = settings(clinic, phantoms, head={**HEAD, "start": "zero"}, out=clinic.parent / "zero")
    assert "head began with" not in (run_finetune(zero) / "card.md").read_text()


@pytest.mark.parametrize("image_noise", [None, 0.1])
def test_a_killed_run_goes_on_and_an_audit_repeats_it(
    clinic: Path, phantoms: Path, image_noise: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gaussian = NoiseSource.gaussian

    def dying(source: NoiseSource, shape: tuple[int, ...], scale: float, *, stream: int) -> Tensor:
        if stream == 7:
            raise KeyboardInterrupt
        return gaussian(source, shape, scale, stream=stream)

    monkeypatch.setattr(NoiseSource, "gaussian", dying)
    asked = settings(clinic, phantoms, head={**HEAD, "image_noise": image_noise})
    with pytest.raises(KeyboardInterrupt):
        run_finetune(asked)
    monkeypatch.undo()
    run = run_finetune(asked)
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps == HEAD["steps"]
    assert torch.equal(head_subject(run, asked).start, set_up(asked).start)
    few = {"canaries": 60, "runs": 20, "shadows": 4, "replayed": 2, "workers": 1}
    out = run_audit(validate_settings(AuditSettings, {"run": run, **few}, where="audit"))
    assert json.loads((out / "audit.json").read_text())["broken"] == []


def test_without_privacy_it_begins_there_too(clinic: Path, phantoms: Path) -> None:
    still = {**HEAD, "lr_times_steps": 1e-6}  # which leaves it where it begins
    asked = settings(clinic, phantoms, privacy={"epsilon": None}, head=still)
    trained = load_classifier(run_finetune(asked))
    torch.testing.assert_close(trained.head_weight, set_up(asked).start[:, :-1])
    assert trained.head_weight.abs().max() > 0.01


def test_several_targets_begin_with_their_own_labels_by_name(tmp_path: Path) -> None:
    clinic = several_targets_set(tmp_path / "clinic")
    phantoms = several_targets_set(tmp_path / "phantoms", "phantom", n_patients=16)
    start = set_up(settings(clinic, phantoms)).start
    assert start.shape[0] == 3
    one = clinic_set(tmp_path / "one", "phantom")
    with pytest.raises(InputError, match=r"centre has to learn bright, dark, rare first, and one "):
        planned_finetune(settings(clinic, one))
    named = clinic_set(tmp_path / "named", "phantom", targets=("pneumonia",))
    with pytest.raises(InputError, match=r"learn malignant first, .* labels of pneumonia; .*zero$"):
        planned_finetune(settings(clinic_set(tmp_path / "masses"), named))


def test_what_does_not_fit_is_refused(clinic: Path, phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="centre must name the phantom or synthetic set"):
        settings(clinic, None)
    with pytest.raises(InputError, match=r"head\.kind mlp starts at random"):
        settings(clinic, phantoms, head={**HEAD, "kind": "mlp"})
    with pytest.raises(InputError, match=r"head\.start: centre is of a head on frozen features"):
        settings(clinic, phantoms, network={})
    one_class = clinic_set(tmp_path / "one-class", "phantom", n_patients=1)
    asked = settings(clinic, one_class)
    with pytest.raises(InputError, match="one-class: its images are not of both classes"):
        run_finetune(asked)
    assert not asked.out.exists()


def test_recipes_of_a_study_without_a_centre_begin_at_zero(clinic: Path, phantoms: Path) -> None:
    ingredients = {
        "data": clinic,
        "phantoms": phantoms,
        "backbone": BACKBONE,
        "privacy": {**PRIVACY, "epsilon": None},
        "finetune": {"head": {"start": "centre", "clip_norm": 0.2}},
    }
    starts = {}
    for name in ("real_only", "transformer_only", "phantoms_then_finetune", "blocks_only", "paper"):
        *_, last = expand(name, ingredients, epsilon=1, seed=0, root=clinic.parent)
        assert isinstance(last.settings, FinetuneSettings)
        starts[name] = last.settings.head.start
    assert [*starts.values()] == ["centre", "centre", "zero", "zero", "zero"]

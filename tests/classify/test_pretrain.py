import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from classify import pretrain
from classify.model.classifier import features, scores
from classify.model.folder import load_classifier
from classify.plans import plan_pretrain
from classify.pretrain import HEAD_SCALE, fit_logistic, rate_share, run_pretrain, smoothed_loss
from classify.settings.finetune import FinetuneSettings
from classify.settings.pretrain import PretrainSettings
from synthdp.checkpoint import load_checkpoint
from synthdp.config.settings import validate_settings
from synthdp.data.budget import change_budget
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError, RunError
from synthdp.machine.time_budget import TimeBudget
from synthdp.networks.backbone import Backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.mechanism import Mechanism
from synthdp.privacy.promise.stated import read_statement
from synthdp.storage.files import read_json

BACKBONE = FeatureSettings(name="test_vit", size_px=32)


def make_set(
    out: Path, kind: str = "phantom", *, n: int = 24, one_class: bool = False, **info: Any
) -> Path:
    """Noise whose brightness tells the class."""
    rng = np.random.default_rng(0)
    with create_dataset(out, DatasetInfo(name=out.name, kind=kind, size_px=32, **info)) as writer:
        for index in range(n):
            label = 0 if one_class else index % 2
            pixels = rng.normal(90 + 60 * label, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            split = "train" if index < n * 2 // 3 else "val"
            writer.add(pixels, patient_id=f"p{index}", split=split, targets=[label])
    return out


@pytest.fixture
def phantoms(tmp_path: Path) -> Path:
    return make_set(tmp_path / "phantoms")


def settings(data: Path, out: str = "run", **changes: Any) -> PretrainSettings:
    values = {
        "data": data,
        "out": data.parent / out,
        "backbone": BACKBONE,
        "trainable_blocks": 2,
        "epochs": 3,
        "batch": 5,
        "lr": 1e-3,
        "views": 3,
        **changes,
    }
    return validate_settings(PretrainSettings, values, where="pretrain")


def weights_of(run: Path) -> bytes:
    return (run / "model" / "weights.safetensors").read_bytes()


@pytest.mark.parametrize("blocks", [0, 2, "all"])
def test_it_learns_what_separates_the_classes(phantoms: Path, blocks: object) -> None:
    asked = settings(phantoms, trainable_blocks=blocks, epochs=8, weight_decay=1e-3)
    classifier = load_classifier(run_pretrain(asked))
    dataset = open_dataset(phantoms)
    rows = dataset.split("val")
    found = scores(classifier, dataset, rows)[:, 0]
    labels = np.array([row.targets[0] for row in rows])
    assert found[labels == 1].min() > found[labels == 0].max()
    centre = classifier.feature_sources[0].scaling.centre
    assert centre is not None
    (train,) = features(classifier, dataset, dataset.split("train"))
    torch.testing.assert_close(centre, train.mean(dim=0))


def test_the_same_seed_gives_the_same_model_and_another_another(phantoms: Path) -> None:
    first, again, other = (
        run_pretrain(settings(phantoms, out, seed=seed))
        for out, seed in (("one", 0), ("two", 0), ("three", 1))
    )
    assert weights_of(first) == weights_of(again) != weights_of(other)


def stop_after_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    save = pretrain.save_checkpoint

    def save_and_stop(*args: Any) -> None:
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "save_checkpoint", save_and_stop)


@pytest.mark.parametrize("blocks", [2, "all"])
def test_an_interrupted_run_resumes_to_the_same_bits(
    phantoms: Path, blocks: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_pretrain(settings(phantoms, "whole", trainable_blocks=blocks))
    asked = settings(phantoms, "torn", trainable_blocks=blocks)
    for _ in range(2):
        with monkeypatch.context() as patch:
            stop_after_an_epoch(patch)
            with pytest.raises(KeyboardInterrupt):
                run_pretrain(asked)
        assert read_json(asked.out / "status.json")["state"] == "interrupted"
    assert weights_of(run_pretrain(asked)) == weights_of(whole)
    assert not (asked.out / "private" / "checkpoints").exists()


def test_a_clock_ends_a_training_with_a_finished_model(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, rates = [0.0], list[float]()
    real_share = rate_share

    def share(done: float, warmup: float) -> float:
        now[0] += 6.0  # ten steps a minute
        rates.append(real_share(done, warmup))
        return rates[-1]

    def budget_of(steps: float, minutes: float | None) -> TimeBudget:
        return TimeBudget(steps, None if minutes is None else 60 * minutes, lambda: now[0])

    monkeypatch.setattr(pretrain, "rate_share", share)
    monkeypatch.setattr(pretrain, "budget_of", budget_of)
    plain = weights_of(run_pretrain(settings(phantoms, "plain")))
    n_steps = len(rates)
    assert weights_of(run_pretrain(settings(phantoms, "in time", minutes=60))) == plain
    assert len(rates) == 2 * n_steps
    rates.clear()
    run = run_pretrain(settings(phantoms, epochs=1000, minutes=3))
    assert len(rates) == 30
    assert rates[-1] < 0.05  # the rate has fallen, as at the end of any training
    assert load_classifier(run).targets


def test_no_clock_decides_how_many_steps_are_taken_on_patients() -> None:
    with pytest.raises(InputError, match=r"minutes: .* part of the promise"):
        validate_settings(
            FinetuneSettings, {"data": "d", "out": "o", "minutes": 3}, where="finetune"
        )


def test_a_finished_run_returns_at_once(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_pretrain(settings(phantoms))
    monkeypatch.setattr(Backbone, "forward", None)
    assert run_pretrain(settings(phantoms)) == run
    with pytest.raises(InputError, match="lr"):
        run_pretrain(settings(phantoms, lr=0.5))


def test_divergence_stops_the_run_and_names_the_last_good_checkpoint(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def broken(*args: Any) -> torch.Tensor:
        calls.append(1)
        loss = smoothed_loss(*args)
        return loss * math.nan if len(calls) > 7 else loss

    monkeypatch.setattr(pretrain, "smoothed_loss", broken)
    asked = settings(phantoms)
    with pytest.raises(RunError, match=r"epoch 2.*private/checkpoints/000000001"):
        run_pretrain(asked)
    checkpoint = load_checkpoint(asked.out / "private" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.step == 1
    assert all(torch.isfinite(tensor).all() for tensor in checkpoint.weights.values())
    assert read_json(asked.out / "status.json")["state"] == "failed"


def test_phantoms_cost_nothing(phantoms: Path) -> None:
    statement = read_statement(run_pretrain(settings(phantoms)))
    assert statement.epsilon == 0
    assert statement.lineage == Lineage()
    assert recorded_releases(phantoms / "private" / "ledger.jsonl") == ()


@pytest.mark.parametrize("kind", [{"kind": "real"}, {"kind": "phantom", "as_real": True}])
def test_patients_are_not_protected_and_it_is_recorded_once(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    clinic = make_set(tmp_path / "clinic", **kind)
    asked = settings(clinic)
    assert math.isinf(plan_pretrain(asked).epsilon)
    run = run_pretrain(asked)
    statement = read_statement(run)
    assert math.isinf(statement.epsilon)
    assert "pretrain on clinic had no protection" in statement.because
    (release,) = statement.lineage.releases
    assert release.id == read_json(run / "status.json")["release"]
    ledger = clinic / "private" / "ledger.jsonl"
    run_pretrain(asked)
    assert [recorded.id for recorded in recorded_releases(ledger)] == [release.id]
    assert "epsilon = inf" in (run / "card.md").read_text()


def test_the_ancestors_of_a_synthetic_set_are_carried_on(tmp_path: Path) -> None:
    mechanism = Mechanism(noise_multiplier=2.0, steps=1, normaliser=100)
    release = Release(stage="train-gan", data="clinic", mu=mechanism.mu, mechanism=mechanism)
    lineage = Lineage(releases=(release,))
    synthetic = make_set(tmp_path / "synthetic", "synthetic", lineage=lineage)
    planned = plan_pretrain(settings(synthetic))
    statement = read_statement(run_pretrain(settings(synthetic)))
    assert statement.lineage == planned.lineage == lineage
    assert 0 < statement.epsilon < 5
    with pytest.raises(InputError, match=r"privacy\.unit is image"):
        run_pretrain(settings(synthetic, "by-image", privacy={"unit": "image"}))
    assert not (tmp_path / "by-image").exists()


@pytest.mark.parametrize("blocks", ["all", 2])
def test_views_that_are_read_again_give_the_bits_of_those_that_are_kept(
    phantoms: Path, blocks: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = run_pretrain(settings(phantoms, "kept", trainable_blocks=blocks))
    monkeypatch.setattr(pretrain, "_MOST_BYTES", 0)
    read = run_pretrain(settings(phantoms, "read", trainable_blocks=blocks))
    assert weights_of(kept) == weights_of(read)


def test_what_is_read_does_not_grow_with_the_set(
    phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once: list[int] = []
    seen_views = pretrain.seen_views
    monkeypatch.setattr(pretrain, "_MOST_BYTES", 0)
    monkeypatch.setattr(
        pretrain,
        "seen_views",
        lambda backbone, dataset, rows, views: (
            at_once.append(len(rows)) or seen_views(backbone, dataset, rows, views)
        ),
    )
    run_pretrain(settings(phantoms, trainable_blocks="all", epochs=1))
    assert max(at_once) == 5  # a batch


def test_a_packed_form_of_16_bits_is_of_images_that_are_drawn_anew(phantoms: Path) -> None:
    with pytest.raises(InputError, match="packed_bits: without augment"):
        settings(phantoms, packed_bits=16)
    augment = {"flip": False}
    changes = {"trainable_blocks": "all", "epochs": 1, "augment": augment, "packed_bits": 16}
    run_pretrain(settings(phantoms, **changes))
    packs = [path.name for path in (phantoms / "private" / "packed").glob("*/*")]
    assert [name for name in packs if name.startswith("32-16-")]


def test_planning_reads_no_image(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for picture in (phantoms / "images").iterdir():
        picture.write_bytes(b"")
    assert plan_pretrain(settings(phantoms)).epsilon == 0


def test_bad_settings_and_data_are_refused(tmp_path: Path, phantoms: Path) -> None:
    with pytest.raises(InputError, match="finetune stage"):
        settings(phantoms, privacy={"epsilon": 6})
    alone = make_set(tmp_path / "alone", one_class=True)
    with pytest.raises(InputError, match="not of both classes of malignant"):
        run_pretrain(settings(alone))
    absent = BACKBONE.model_copy(update={"weights": Path("absent")})
    with pytest.raises(InputError, match="no such weights file"):
        run_pretrain(settings(phantoms, backbone=absent))
    assert not settings(phantoms).out.exists()


def test_the_rate_rises_and_falls() -> None:
    shares = [rate_share(done, 0.1) for done in np.linspace(0, 1, 101)]
    assert np.argmax(shares) == 10
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(0)
    assert rate_share(0.0, 0.0) == 1


def test_unknown_targets_are_left_out_of_the_loss() -> None:
    logits = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, math.nan], [math.nan, 0.0]])
    loss = smoothed_loss(logits, targets, 0.0)
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(3.0))) / 2
    assert loss.item() == pytest.approx(expected)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad == 0).tolist() == [[False, True], [True, False]]
    nothing = smoothed_loss(logits, torch.full((2, 2), math.nan), 0.0)
    assert nothing.item() == 0


def test_the_fitted_head_is_the_optimum_that_sklearn_finds() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 4))
    labels = (inputs[:, 0] + rng.normal(size=60) > 0).astype(float)
    known = np.arange(60) % 5 > 0
    targets = np.stack([labels, np.where(known, 1 - labels, np.nan)], axis=1)
    head = fit_logistic(torch.from_numpy(inputs), torch.from_numpy(targets), l2=0.02)
    for index, chosen in enumerate((np.full(60, True), known)):
        # each target as if there were no other
        model = LogisticRegression(C=1 / (0.02 * chosen.sum()), tol=1e-10, max_iter=1000)
        model.fit(inputs[chosen], targets[chosen, index])
        np.testing.assert_allclose(head.weight[index], model.coef_[0], atol=1e-4)
        assert float(head.bias[index]) == pytest.approx(model.intercept_[0], abs=1e-4)


def test_the_head_is_saved_with_its_scale(phantoms: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "_epoch", lambda *_, **__: 0.5)
    classifier = load_classifier(run_pretrain(settings(phantoms, epochs=1)))
    norm = classifier.head_weight.norm()
    assert float(norm) == pytest.approx(HEAD_SCALE, rel=0.5)  # a random start of norm about 1


def test_patients_beyond_their_budget_are_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic", kind="real")
    change_budget(data, epsilon="6", delta=1e-3, because="agreed")
    for refuses in (plan_pretrain, run_pretrain):
        with pytest.raises(InputError, match="with this one it would be inf"):
            refuses(settings(data))
    assert not (tmp_path / "run").exists()
    change_budget(data, epsilon="none", delta=None, because="no promise is made")
    run_pretrain(settings(data, epochs=1))

"""Runs of a study that are made together: each is its own, and shares work alone."""

import json
from pathlib import Path

import pytest
import torch
from made_up import clinic_set

from classify import together as module
from classify.alike import evaluations_alike, finetunes_alike
from classify.evaluate import run_evaluate, run_evaluations
from classify.finetune import run_finetune
from classify.model.folder import load_classifier
from classify.settings.finetune import FinetuneSettings
from classify.settings.finished import EvaluateSettings
from classify.together import run_finetunes
from synthdp.checkpoint import save_weights
from synthdp.config.settings import validate_settings
from synthdp.data.dataset import open_dataset
from synthdp.errors import InputError
from synthdp.networks.backbone import build_backbone
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.budget import Budget
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Lineage
from synthdp.privacy.promise.plan import record_of, statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.runs.folder import RunBusyError, open_run
from synthdp.status import read_status
from synthdp.storage.files import sha256_file

HEAD = {"steps": 20, "block_steps": 5}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A network from a file, so that all seeds have the same features."""
    settings = FeatureSettings(name="test_vit", size_px=32)
    weights = tmp_path_factory.mktemp("public") / "vit.safetensors"
    save_weights(weights, build_backbone(settings, seed=0).network.state_dict())
    return {**settings.model_dump(), "weights": weights, "sha256": sha256_file(weights)}


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    return clinic_set(tmp_path / "clinic", "real")


def asked(
    clinic: Path, backbone: object, out: str, epsilon: float | None = 6, **changes: object
) -> FinetuneSettings:
    privacy = {"epsilon": epsilon, "delta": 1e-3, "population": 50, "fixed_noise_key": None}
    values = {
        "data": clinic,
        "out": clinic.parent / out,
        "privacy": privacy,
        "backbone": backbone,
        "head": HEAD,
        **changes,
    }
    return validate_settings(FinetuneSettings, values, where="finetune")


def with_fixed_noise(settings: FinetuneSettings) -> FinetuneSettings:
    """The same with noise that can be drawn again, and so without a promise."""
    privacy = settings.privacy.model_copy(update={"fixed_noise_key": 7})
    return settings.model_copy(update={"privacy": privacy})


def test_runs_made_together_are_those_made_one_by_one(
    clinic: Path, backbone: dict[str, object]
) -> None:
    cells = [(1, 0), (6, 0), (6, 3)]
    both = {
        kind: [
            with_fixed_noise(asked(clinic, backbone, f"{kind}-{n}", epsilon, seed=seed))
            for n, (epsilon, seed) in enumerate(cells)
        ]
        for kind in ("together", "alone")
    }
    assert len(set(map(finetunes_alike, both["together"]))) == 1
    assert run_finetunes(both["together"]) == [None, None, None]
    for together, alone in zip(*both.values(), strict=True):
        run_finetune(alone)
        model, other = (load_classifier(one.out) for one in (together, alone))
        assert torch.equal(model.head_weight, other.head_weight)
        assert torch.equal(model.head_bias, other.head_bias)
        settings = [(one.out / "model" / "settings.json").read_bytes() for one in (together, alone)]
        assert settings[0] == settings[1]
        assert sorted(path.name for path in together.out.iterdir()) == sorted(
            path.name for path in alone.out.iterdir()
        )


def test_each_run_has_its_own_promise_ledger_and_place_on_record(
    clinic: Path, backbone: dict[str, object]
) -> None:
    runs = [asked(clinic, backbone, f"at-{e}", e) for e in (1, 6, 12)]
    assert run_finetunes(runs) == [None, None, None]
    for settings, epsilon in zip(runs, (1, 6, 12), strict=True):
        assert 0.99 * epsilon < read_statement(settings.out).epsilon <= epsilon
        assert Ledger(settings.out / "private" / "ledger.jsonl").spent_steps == 20
        status = read_status(settings.out)
        assert status is not None
        assert status.state == "finished"
        assert not (settings.out / "private" / "checkpoints").exists()
        steps = (settings.out / "private" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["steps_spent"] for line in steps] == [5, 10, 15, 20]
    assert len(record_of(open_dataset(clinic)).releases) == 3
    together = statement_of([settings.out for settings in runs])
    assert statement_of([clinic]).epsilon == together.epsilon
    before = [(settings.out / "privacy.json").read_bytes() for settings in runs]
    assert run_finetunes(runs) == [None, None, None]  # at once: they are finished
    assert [(settings.out / "privacy.json").read_bytes() for settings in runs] == before
    assert len(record_of(open_dataset(clinic)).releases) == 3


def test_runs_without_privacy_are_trained_once_and_each_finished(
    clinic: Path, backbone: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, calls = module.train_plain_head, list[object]()

    def counted(*values: object, **more: object) -> torch.Tensor:
        calls.append(values)
        return train(*values, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "train_plain_head", counted)
    runs = [asked(clinic, backbone, f"plain-{seed}", None, seed=seed) for seed in range(3)]
    alone = run_finetune(asked(clinic, backbone, "alone", None, seed=2))
    assert run_finetunes(runs) == [None, None, None]
    assert len(calls) == 1
    models = [load_classifier(settings.out) for settings in runs]
    assert [model.feature_sources[0].seed for model in models] == [0, 1, 2]
    other = load_classifier(alone)
    assert all(torch.equal(model.head_weight, other.head_weight) for model in models)


def test_what_ends_one_run_leaves_the_others(clinic: Path, backbone: dict[str, object]) -> None:
    good, taken, busy, spent = (
        asked(clinic, backbone, name) for name in ("good", "taken", "busy", "spent")
    )
    taken.out.mkdir()
    (taken.out / "notes.txt").write_text("of somebody else")
    run_finetune(spent)
    ledger = spent.out / "private" / "ledger.jsonl"
    (spent.out / "status.json").write_text(
        (spent.out / "status.json").read_text().replace("finished", "running")
    )
    ledger.unlink()
    ledger.with_suffix(".head").unlink()
    with open_run(busy.out, "finetune", busy):
        errors = run_finetunes([good, taken, busy, spent])
    assert errors[0] is None
    assert isinstance(errors[1], InputError)
    assert "holds other files" in str(errors[1])
    assert isinstance(errors[2], RunBusyError)
    assert isinstance(errors[3], InputError)
    assert "ledger is lost" in str(errors[3])
    assert read_statement(good.out).epsilon <= 6
    assert sorted(path.name for path in taken.out.iterdir()) == [".lock", "notes.txt"]


def test_a_group_spends_no_more_than_its_set_may_be_asked_for(
    clinic: Path, backbone: dict[str, object]
) -> None:
    """Each fits by itself, as each was planned; the record takes what fits beside the others."""
    record = record_of(open_dataset(clinic))
    record.set_budget(Budget(epsilon=8, delta=1e-3), "tried")
    runs = [asked(clinic, backbone, f"run-{e}", e) for e in (6, 7, 2)]
    first, second, third = run_finetunes(runs)
    assert first is None
    assert isinstance(second, InputError)
    assert "privacy.budget is epsilon 8" in str(second)
    assert third is None
    assert len(record.releases) == 2
    assert Lineage(releases=record.releases).epsilon_to("patient", 1e-3) <= 8
    assert not (runs[1].out / "model").exists()


def test_what_all_stand_on_ends_all_before_anything_is_spent(
    clinic: Path, backbone: dict[str, object]
) -> None:
    runs = [asked(clinic, backbone, f"run-{e}", e) for e in (1, 6)]
    image = clinic / open_dataset(clinic).rows[0].image
    image.write_bytes(b"no image")
    errors = run_finetunes(runs)
    assert all(isinstance(error, InputError) for error in errors)
    assert record_of(open_dataset(clinic)).releases == ()


def test_a_stop_leaves_each_run_where_it_goes_on(
    clinic: Path, backbone: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*values: object, **more: object) -> None:
        raise KeyboardInterrupt

    runs = [asked(clinic, backbone, f"run-{e}", e) for e in (1, 6)]
    with monkeypatch.context() as patched:
        patched.setattr(module, "train_private_heads", stopped)
        with pytest.raises(KeyboardInterrupt):
            run_finetunes(runs)
    statuses = [read_status(settings.out) for settings in runs]
    assert [status and status.state for status in statuses] == ["interrupted", "interrupted"]
    assert len(record_of(open_dataset(clinic)).releases) == 2
    assert run_finetunes(runs) == [None, None]
    assert len(record_of(open_dataset(clinic)).releases) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"head": {**HEAD, "steps": 10}},
        {"head": {**HEAD, "clip_norm": 0.5}},
        {"head": {**HEAD, "bias_input": 0.1}},
        {"cohort": "1/2"},
        {"where": {"split": "train"}},
        {"privacy": {"epsilon": None, "population": 50, "delta": 1e-3}},
        {"privacy": {"epsilon": 6, "population": 60, "delta": 1e-3}},
        {"privacy": {"epsilon": 6, "population": 50, "delta": 1e-3, "unit": "image"}},
    ],
)
def test_heads_of_other_work_are_not_laid_together(
    clinic: Path, backbone: dict[str, object], changes: dict[str, object]
) -> None:
    one, other = (
        finetunes_alike(asked(clinic, backbone, "run")),
        finetunes_alike(asked(clinic, backbone, "run", **changes)),
    )
    assert one is not None
    assert one != other


@pytest.mark.parametrize(
    "head", [{"sampling_rate": 0.5}, {"kind": "mlp"}, {"kind": "mlp", "sampling_rate": 0.5}]
)
def test_heads_whose_products_are_their_own_are_trained_alone(
    clinic: Path, backbone: dict[str, object], head: dict[str, object]
) -> None:
    assert finetunes_alike(asked(clinic, backbone, "run", head=head)) is None


def test_seeds_are_alike_where_they_decide_no_feature(
    clinic: Path, backbone: dict[str, object]
) -> None:
    first, second = (asked(clinic, backbone, "run", seed=seed) for seed in (0, 1))
    assert finetunes_alike(first) == finetunes_alike(second)
    drawn = {"name": "test_vit", "size_px": 32}
    first, second = (asked(clinic, drawn, "run", seed=seed) for seed in (0, 1))
    assert finetunes_alike(first) != finetunes_alike(second)


def test_evaluations_made_together_are_those_made_one_by_one(
    clinic: Path, backbone: dict[str, object]
) -> None:
    drawn = {"name": "test_vit", "size_px": 32}
    runs = [
        run_finetune(asked(clinic, network, f"run-{number}", 6, seed=seed))
        for number, (network, seed) in enumerate(
            [(backbone, 0), (backbone, 1), (drawn, 0), (drawn, 1)]
        )
    ]

    def settings(run: Path, kind: str) -> EvaluateSettings:
        out = clinic.parent / f"{run.name}-{kind}"
        return EvaluateSettings(run=run, dataset=clinic, split="train", out=out, redraws=50)

    together = [settings(run, "together") for run in runs]
    gone = settings(clinic.parent / "gone", "together")
    assert len(set(map(evaluations_alike, [*together, gone]))) == 1
    *found, error = run_evaluations([*together, gone])
    assert found == [None] * 4
    assert isinstance(error, InputError)
    for one, run in zip(together, runs, strict=True):
        alone = run_evaluate(settings(run, "alone"))
        for name in ("metrics.json", "predictions.csv"):
            assert (one.out / name).read_bytes() == (alone / name).read_bytes()
        assert not (one.out / "private" / "imported").exists()
    assert run_evaluations(together) == [None] * 4

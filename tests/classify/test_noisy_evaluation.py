"""The noisy AUROC of the evaluate stage: charged first, charged once, refused where it can't be."""

from pathlib import Path

import numpy as np
import pytest
from made_up import random_run

from classify import evaluate as evaluation
from classify.evaluate import run_evaluate
from classify.plans import plan_evaluate
from classify.settings.finished import EvaluateSettings
from synthdp.config.settings import dump_settings, validate_settings
from synthdp.data.budget import change_budget
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.promise.plan import statement_of
from synthdp.storage.files import read_json, write_atomic, write_json

PAID = {"auroc_epsilon": 6, "population": 50, "auroc_delta": 1e-3}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_run(tmp_path_factory.mktemp("runs") / "run")


def make_set(out: Path, kind: str = "real", **info: object) -> Path:
    rng = np.random.default_rng(0)
    about = DatasetInfo(**{"name": "clinic", "kind": kind, "size_px": 32, **info})
    with create_dataset(out, about) as writer:
        for index in range(24):
            writer.add(
                rng.integers(0, 255, (32, 32)).astype(np.uint8),
                patient_id=f"p{index // 2}",
                split="val",
                targets=[index // 2 % 2] * len(about.targets),
            )
    return out


def asked(run: Path, data: Path, out: Path, **changes: object) -> EvaluateSettings:
    values = {"run": run, "dataset": data, "out": out, "redraws": 20, **PAID, **changes}
    return validate_settings(EvaluateSettings, values, where="evaluate")


def spent(data: Path) -> int:
    return len(recorded_releases(open_dataset(data).ledger_path))


def test_it_is_charged_once_for_each_folder(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    out = run_evaluate(asked(run, data, tmp_path / "a"))
    found = read_json(out / "noisy_metrics.json")
    assert spent(data) == 1
    assert found["release"] == recorded_releases(open_dataset(data).ledger_path)[0].model_dump(
        mode="json"
    )
    assert found["epsilon"] == pytest.approx(6, rel=1e-3)
    assert found["epsilon"] <= 6
    assert statement_of([data]).epsilon > 0
    assert (found["delta"], found["unit"], found["population"]) == (1e-3, "patient", 50)
    assert 0 <= found["auroc"]["value"] <= 1
    assert found["auroc"]["noise_standard_error"] > 0
    assert (out / "metrics.json").is_file()
    before = (out / "noisy_metrics.json").read_bytes()
    run_evaluate(asked(run, data, tmp_path / "a"))  # at once
    assert spent(data) == 1
    assert (out / "noisy_metrics.json").read_bytes() == before
    other = run_evaluate(asked(run, data, tmp_path / "b"))
    assert spent(data) == 2
    assert read_json(other / "noisy_metrics.json")["auroc"] != found["auroc"]


def test_a_budget_is_asked_in_a_dry_run_until_the_figure_stands(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    change_budget(data, epsilon="6", delta=1e-3, because="agreed")
    planned = plan_evaluate(asked(run, data, tmp_path / "a"))
    assert planned is not None
    assert planned.epsilon == pytest.approx(6, rel=1e-3)
    out = run_evaluate(asked(run, data, tmp_path / "a"))
    plan_evaluate(asked(run, data, out))
    for refuses in (plan_evaluate, run_evaluate):
        with pytest.raises(InputError, match="spent 6, with this one it would be"):
            refuses(asked(run, data, tmp_path / "b"))
    assert plan_evaluate(asked(run, data, tmp_path / "b", auroc_epsilon=None)) is None


def test_no_image_that_hardly_varies_stops_a_figure_under_a_promise(
    run: Path, tmp_path: Path
) -> None:
    """Whether there is one would depend on that patient; an import refuses such images."""
    data = make_set(tmp_path / "clinic")
    flat = encode_png(np.full((32, 32), 200, np.uint8))
    (data / "images" / "000003.png").write_bytes(flat)
    out = run_evaluate(asked(run, data, tmp_path / "a"))
    assert (out / "noisy_metrics.json").is_file()


def test_a_figure_that_says_less_than_its_ledger_is_refused(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    out = run_evaluate(asked(run, data, tmp_path / "a"))
    cheap = run_evaluate(asked(run, data, tmp_path / "b", auroc_epsilon=1))
    found = read_json(out / "noisy_metrics.json")
    assert statement_of([out]).epsilon == pytest.approx(6, rel=1e-3)
    edits = [{"epsilon": 1.0}, {"delta": 1e-9}, {"unit": "image"}, {"population": 5000}]
    edits.append({"release": {**found["release"], "id": "0" * 16}})
    for edit in edits:
        write_json(out / "noisy_metrics.json", {**found, **edit})
        with pytest.raises(InputError, match="something else than the ledger beside it"):
            statement_of([out])
    write_json(out / "noisy_metrics.json", found)
    for name in ("ledger.jsonl", "ledger.head"):
        (out / "private" / name).write_bytes((cheap / "private" / name).read_bytes())
    with pytest.raises(InputError, match="something else than the ledger beside it"):
        statement_of([out])


def test_what_is_published_names_no_patient_and_no_count(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    found = read_json(run_evaluate(asked(run, data, tmp_path / "a")) / "noisy_metrics.json")
    assert set(found) == {
        *("schema_version", "data_set", "split", "auroc", "weights", "epsilon", "delta"),
        *("unit", "neighbours", "population", "release"),
    }
    assert set(found["auroc"]) == {"value", "noise_standard_error"}


def test_it_is_charged_before_it_is_computed(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_set(tmp_path / "clinic")

    def killed(*_: object, **__: object) -> None:
        assert spent(data) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "noisy_aurocs", killed)
    with pytest.raises(KeyboardInterrupt):
        run_evaluate(asked(run, data, tmp_path / "a"))
    assert spent(data) == 1
    assert not (tmp_path / "a").exists()
    monkeypatch.undo()
    run_evaluate(asked(run, data, tmp_path / "a"))
    assert spent(data) == 2


@pytest.mark.parametrize(
    ("info", "changes", "words"),
    [
        ({"kind": "phantom"}, {}, "auroc_epsilon: not needed"),
        ({"kind": "synthetic"}, {}, "auroc_epsilon: not needed"),
        ({"unit": "image"}, {}, "imported without patient ids"),
        ({}, {"population": None}, "population is missing"),
        ({}, {"auroc_delta": 0.02}, "not below 1/population"),
        ({}, {"auroc_delta": 0}, "auroc_delta"),
        ({}, {"auroc_epsilon": 0}, "auroc_epsilon"),
        ({}, {"auroc_epsilon": 1e9}, "more than any noise needs"),
    ],
)
def test_what_does_not_fit_is_refused_and_costs_nothing(
    run: Path, tmp_path: Path, info: dict[str, str], changes: dict[str, object], words: str
) -> None:
    data = make_set(tmp_path / "clinic", **info)
    with pytest.raises(InputError, match=words):
        run_evaluate(asked(run, data, tmp_path / "a", **changes))
    assert spent(data) == 0
    assert not (tmp_path / "a").exists()


def test_a_taken_folder_costs_nothing(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "note").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        run_evaluate(asked(run, data, tmp_path / "a"))
    assert spent(data) == 0


def test_several_targets_share_one_release(tmp_path: Path) -> None:
    names = ("mass", "edema")
    data = make_set(tmp_path / "clinic", targets=names)
    run = random_run(tmp_path / "run", names)
    out = run_evaluate(asked(run, data, tmp_path / "a", auroc_epsilon=20))
    assert spent(data) == 1
    found = read_json(out / "noisy_metrics.json")
    assert found["schema_version"] == 2
    assert set(found["targets"]) == set(names)
    assert set(found["auroc"]) == {"value", "noise_standard_error", "over"}
    assert "1.41 times that of one alone" in found["budget"]
    assert statement_of([out]).epsilon == pytest.approx(20, rel=1e-3)


def test_a_finding_that_nobody_has_stops_no_noisy_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal, or a figure left out, would tell of the one patient who had it.

    One release in 30,000 takes noise alone for somebody who had it: not that of this key.
    """
    monkeypatch.setattr(evaluation, "new_key", lambda: bytes(range(32)))
    names = ("mass", "edema")
    data = make_set(tmp_path / "clinic", targets=names)
    table = (data / "manifest.csv").read_text().splitlines()
    edited = [table[0], *(",".join([*line.split(",")[:4], "0"]) for line in table[1:])]
    (data / "manifest.csv").write_text("\n".join(edited) + "\n")
    run = random_run(tmp_path / "run", names)
    found = read_json(run_evaluate(asked(run, data, tmp_path / "a")) / "noisy_metrics.json")
    assert set(found["targets"]) == set(names)
    assert 0 <= found["targets"]["edema"]["value"] <= 1
    assert "edema" not in found["auroc"]["over"]


def test_a_set_of_images_may_be_released_by_image(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic", unit="image")
    out = run_evaluate(asked(run, data, tmp_path / "a", auroc_unit="image"))
    found = read_json(out / "noisy_metrics.json")
    assert found["neighbours"] == "add or remove one image"


def test_an_evaluation_of_an_older_version_still_stands(run: Path, tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    settings = asked(
        run, data, tmp_path / "a", auroc_epsilon=None, auroc_delta=1e-4, population=None
    )
    out = run_evaluate(settings)
    assert not (out / "noisy_metrics.json").exists()
    lines = dump_settings(settings).splitlines()
    old = [line for line in lines if not line.startswith(("auroc", "population"))]
    write_atomic(out / "config.yaml", "\n".join(old))
    assert run_evaluate(settings) == out

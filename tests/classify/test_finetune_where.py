"""Training at one site: `where` chooses rows, and the promise counts every patient."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from classify.finetune import run_finetune
from classify.model.folder import load_classifier
from classify.plans import plan_finetune
from classify.settings.finetune import FinetuneSettings
from synthdp.config.settings import validate_settings
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.ledger.set_record import recorded_releases
from synthdp.privacy.promise.plan import statement_of
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.privacy.settings import PrivacySettings
from synthdp.runs.folder import StageCall

PRIVACY = {"epsilon": 6, "delta": 1e-3, "population": 50}
UNPROTECTED = {**PRIVACY, "epsilon": None}  # with an epsilon, nobody's presence is told by an error


def make_set(out: Path, chosen: Callable[[int, int], bool] = lambda patient, image: True) -> Path:
    """Patients of two images, each at one site but patients 0 and 1, who are seen at both."""
    with create_dataset(out, DatasetInfo(name="clinic", kind="real", size_px=32)) as writer:
        for patient in range(12):
            for image in range(2):
                generator = np.random.default_rng([patient, image])
                pixels = generator.normal(90 + 70 * (patient % 2), 30, (32, 32)).clip(0, 255)
                site = "AB"[image if patient < 2 else patient // 2 % 2]
                if chosen(patient, image):
                    writer.add(
                        pixels.astype(np.uint8),
                        patient_id=f"secret-{patient}",
                        split="train",
                        targets=[patient % 2],
                        attributes={"site": site},
                    )
    return out


def at_a(patient: int, image: int) -> bool:
    return (image == 0) if patient < 2 else patient // 2 % 2 == 0


def settings(data: Path, out: str, **changes: object) -> FinetuneSettings:
    values = {
        "data": data,
        "out": data.parent / out,
        "privacy": PRIVACY,
        "backbone": FeatureSettings(name="test_vit", size_px=32),
    }
    return validate_settings(FinetuneSettings, {**values, **changes}, where="finetune")


@pytest.mark.parametrize("epsilon", [None, 6])
def test_a_site_alone_trains_the_head_that_a_set_of_it_would(
    tmp_path: Path, epsilon: float | None
) -> None:
    privacy = {**PRIVACY, "epsilon": epsilon, "fixed_noise_key": 3}
    whole, part = make_set(tmp_path / "whole"), make_set(tmp_path / "part", at_a)
    chosen = run_finetune(settings(whole, "chosen", where={"site": "A"}, privacy=privacy))
    other = run_finetune(settings(part, "other", privacy=privacy))
    both = run_finetune(settings(whole, "both", privacy=privacy))
    one, same, differing = (load_classifier(run).head_weight for run in (chosen, other, both))
    assert torch.equal(one, same)
    assert not torch.allclose(one, differing)


def test_the_promise_is_that_of_the_whole_set_and_names_the_choice(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    run = run_finetune(settings(data, "run", where={"site": "A"}))
    statement, whole = read_statement(run), plan_finetune(settings(data, "other"))
    assert statement.epsilon == whole.epsilon
    assert statement.epsilon == pytest.approx(6, rel=1e-3)
    (release,) = statement.lineage.releases
    assert release.cohort is None
    assert (release.mu, release.mechanism) == (
        whole.lineage.releases[0].mu, whole.lineage.releases[0].mechanism,
    )  # fmt: skip
    assert "images of site A alone" in statement_text(statement)
    assert "site A" in (run / "card.md").read_text()
    assert statement_of([data]).lineage == statement.lineage  # recorded beside the whole set
    free = plan_finetune(settings(data, "free", where={"site": "A"}, privacy=PrivacySettings()))
    assert "trained without differential privacy, images of site A alone" in statement_text(free)


def test_two_sites_add_up_for_a_patient_seen_at_both(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    for site in "AB":
        run_finetune(settings(data, f"run-{site}", where={"site": site}))
    assert statement_of([data]).epsilon > 8  # not the 6 of disjoint cohorts


def test_another_choice_on_the_same_run_is_refused(tmp_path: Path) -> None:
    data = make_set(tmp_path / "clinic")
    run = run_finetune(settings(data, "run", where={"site": "A"}))
    with pytest.raises(InputError, match="where"):
        run_finetune(settings(data, "run", where={"site": "B"}))
    assert Ledger(run / "private" / "ledger.jsonl").spent_steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"where": {"site": "C"}, "privacy": UNPROTECTED}, "no image of the split has site C"),
        ({"where": {"hospital": "A"}}, "no column hospital; .*: site"),
        ({"where": {"site": "A"}, "privacy": {**UNPROTECTED, "population": 5}}, "more patients"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    data = make_set(tmp_path / "clinic")
    with pytest.raises(InputError, match=message):
        run_finetune(settings(data, "run", **changes))
    assert recorded_releases(data / "private" / "ledger.jsonl") == ()


def test_runs_without_a_choice_keep_the_names_that_they_had() -> None:
    before = FinetuneSettings(data=Path("d"), out=Path("run"), init=Path("start"))
    assert StageCall("finetune", before).folder == "finetune-767ca6e5cfb5"
    chosen = before.model_copy(update={"where": {"site": ("A",)}})
    assert StageCall("finetune", chosen).folder == "finetune-06b1c02c0dee"

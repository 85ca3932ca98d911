"""The file for a data-protection officer: what commands wrote, blanks, and nothing private."""

import json
import math
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from made_up import made_up_assessment, random_run, small_study, study_settings, without_mark
from made_up_study import describe, make_study

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.config.settings import Settings
from synthdp.data.dataset import open_dataset
from synthdp.data.description import DatasetInfo
from synthdp.data.writer import create_dataset
from synthdp.dossier.evidence import read_evidence
from synthdp.dossier.page import _attack_figure_words, dossier_page, make_dossier, write_dossier
from synthdp.errors import InputError
from synthdp.evaluation.fairness import FairnessFigure
from synthdp.privacy.accounting.bounds import epsilon_text, percent
from synthdp.privacy.ledger.run_ledger import Ledger, Terms
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.dossier import (
    AttackFigure,
    Dossier,
    Line,
    derived_schema,
    dossier_schema,
)
from synthdp.privacy.promise.statement import OnRecord, make_statement
from synthdp.privacy.promise.words import statement_text
from synthdp.runs.folder import open_run
from synthdp.storage.files import read_json, write_json
from synthdp.study.stage import run_study

#: What must never stand in a dossier: ids, and names of folders above those it is about.
SECRETS = ("secret-", "frau-mueller", "mercy-hospital")
AUDIT = "private/audit/audit.json"


class Reader(HTMLParser):
    """The tags of a page, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> str:
    return (folder / "dossier.html").read_text(encoding="utf-8")


def words_on(folder: Path) -> str:
    return " ".join(Reader(page_of(folder)).text.split())


def line(dossier: Dossier, key: str) -> Line:
    return next(one for part in dossier.layers for one in part.lines if one.key == key)


def attack(dossier: Dossier, kind: str) -> Any:
    return next(one for one in dossier.attacks if one.kind.startswith(kind))


def valid_json(folder: Path) -> Any:
    content = json.loads((folder / "dossier.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(dossier_schema()).validate(content)
    return content


def test_a_run_names_unit_epsilon_what_is_uncovered_and_what_was_attacked(
    audited: Path, tmp_path: Path
) -> None:
    dossier = write_dossier(audited, tmp_path / "out", date="2026-11-28")
    text = words_on(tmp_path / "out")
    assert "epsilon = 6 for each patient, end to end" in text
    assert "Neighbours: add or remove one patient" in text
    for words in dossier.statement.not_covered:
        assert words in text
    assert "membership inference: run, the promise held" in text
    assert "attribute inference: not run" in text
    assert "made 2026-11-28 by synthdp" in text
    assert {test.command for test in attack(dossier, "membership").tests} == {"synthdp audit dp"}
    for test in attack(dossier, "membership").tests:
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", test.date)
        assert test.result == "held"
    assert "60 canaries in one training" in text
    assert "4 shadow trainings on halves of the patients" in text
    assert attack(dossier, "faults").tests[0].result == "held"


def test_its_json_fits_the_published_schema_which_is_that_of_the_model(
    audited: Path, tmp_path: Path
) -> None:
    write_dossier(audited, tmp_path / "out")
    content = valid_json(tmp_path / "out")
    assert content["statement"]["unit"] == "patient"
    assert content["registry"]["privacy_loss"]["privacy_parameters"]["delta"] == 1e-3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**content, "layers": "none"}, dossier_schema())
    again = "python -c 'from synthdp.privacy.promise.dossier import *; print(...derived_schema())'"
    assert dossier_schema() == derived_schema(), f"publish it anew: {again}"


def test_what_no_command_made_is_said_to_be_not_run(run: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("audit")))
    dossier = write_dossier(bare, tmp_path / "out")
    text = words_on(tmp_path / "out")
    assert "not run; synthdp audit RUN does" in text
    for key in ("correctness", "utility", "bias", "tests"):
        assert line(dossier, key).state == "not run", key
        assert line(dossier, key).says.startswith("not run; `synthdp ")
    assert not dossier.broken
    assert all(not one.tests for one in dossier.attacks)
    assert "held" not in " ".join(one.says for part in dossier.layers for one in part.lines)


def test_what_only_the_controller_knows_is_a_marked_blank(run: Path, tmp_path: Path) -> None:
    dossier = write_dossier(run, tmp_path / "out")
    blanks = {one.key for one in dossier.controller}
    asked = {"purpose", "recipients", "legal_basis", "dpia", "retention", "review", "signature"}
    assert asked <= blanks
    assert all(one.state == "blank" and not one.says for one in dossier.controller)
    marked = page_of(tmp_path / "out").count('class="fill"')
    assert marked == len(blanks) + 3  # who checked; actors and justification of the registry
    assert valid_json(tmp_path / "out")["controller"][1]["state"] == "blank"


@pytest.mark.parametrize("shown", [(), ("attacks", "utility", "counts")])
def test_no_id_and_no_path_stands_in_it(
    audited: Path, evaluation: Path, tmp_path: Path, shown: Any
) -> None:
    write_dossier(audited, tmp_path / "out", evidence=[evaluation], shown=shown)
    for name in ("dossier.html", "dossier.json"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        for secret in (*SECRETS[:1], str(audited.parent), str(tmp_path), SECRETS[2]):
            assert secret not in text


def test_exact_figures_of_patients_are_shown_where_they_are_asked_for_alone(
    audited: Path, evaluation: Path, tmp_path: Path
) -> None:
    audit, metrics = read_json(audited / AUDIT), read_json(evaluation / "metrics.json")
    private = [
        *(one["rate"] for one in audit["membership"]),
        *(one["epsilon"] for one in audit["bounds"] if one["epsilon"] != "inf"),
        audit["replay"]["largest_move"],
        metrics["auroc"]["value"],
    ]
    write_dossier(audited, tmp_path / "closed", evidence=[evaluation])
    closed = (tmp_path / "closed" / "dossier.json").read_text()
    numbers = set(_numbers(json.loads(closed)))
    assert not {value for value in private if value not in (0.0, 1.0)} & numbers
    assert "stay in the house" in words_on(tmp_path / "closed")
    assert metrics["n_patients"] not in numbers

    shown = ("attacks", "utility", "counts")
    dossier = write_dossier(audited, tmp_path / "open", evidence=[evaluation], shown=shown)
    numbers = set(_numbers(valid_json(tmp_path / "open")))
    assert {audit["membership"][0]["rate"], metrics["auroc"]["value"]} <= numbers
    assert dossier.utility[0].figures[0].n_patients == metrics["n_patients"]
    assert "It is for the house, not for publication" in words_on(tmp_path / "open")


def test_groups_are_judged_in_the_open_only_where_asked(
    audited: Path, evaluation: Path, tmp_path: Path
) -> None:
    judged = Path(shutil.copytree(evaluation, tmp_path / "judged"))
    about = {"target": "malignant", "attribute": "breast_density", "n_images": 40, "n_patients": 33}
    figures = [
        FairnessFigure(
            **about, group="<4>", measure="auroc", value=0.7125, ci_low=0.6, ci_high=0.8
        ),
        FairnessFigure(**about, group="rare", measure="auroc", note="too few: fewer than 10"),
        FairnessFigure(**about, measure="worst_group_gap", value=0.0625),
    ]
    write_json(judged / "fairness.json", [one.model_dump(mode="json") for one in figures])
    dossier = write_dossier(audited, tmp_path / "closed", evidence=[judged])
    assert line(dossier, "bias").says == "Judged by breast density: see Utility by sub-group."
    closed = page_of(tmp_path / "closed") + (tmp_path / "closed" / "dossier.json").read_text()
    assert not re.search(r"0\.712|rare|&lt;4&gt;|0\.06", closed)
    write_dossier(audited, tmp_path / "open", evidence=[judged], shown=("utility",))
    text = words_on(tmp_path / "open")
    assert re.search(r"breast density: <4>\s*malignant\s*0\.71[23]\s*0\.600 to 0\.800", text)
    assert "Worst-group gap in AUROC by breast density (malignant): 0.06" in text
    assert "No figure of breast density rare: too few: fewer than 10." in text
    assert 33 not in _numbers(valid_json(tmp_path / "open"))


def test_a_noisy_auroc_is_shown_under_its_own_promise(
    audited: Path, evaluation: Path, tmp_path: Path
) -> None:
    noisy = Path(shutil.copytree(evaluation, tmp_path / "noisy"))
    released = {
        "schema_version": 1,
        "data_set": "clinic",
        "split": "train",
        "auroc": {"value": 0.6875, "noise_standard_error": 0.1},
        "epsilon": 0.5,
        "delta": 1e-4,
        "unit": "patient",
    }
    write_json(noisy / "noisy_metrics.json", released)
    dossier = write_dossier(audited, tmp_path / "out", evidence=[noisy])
    assert [one.measure for one in dossier.utility[0].figures] == ["noisy auroc"]
    text = words_on(tmp_path / "out")
    assert "epsilon 0.5 at delta 0.0001 for each patient that was scored" in text
    assert "0.688" in text


def test_what_a_noisy_auroc_spent_is_told_by_its_ledger(
    audited: Path, evaluation: Path, tmp_path: Path
) -> None:
    noisy = Path(shutil.copytree(evaluation, tmp_path / "noisy"))
    release = Release(id="d" * 16, stage="evaluate", data="clinic", mu=1.0)
    ledger = Ledger(noisy / "private" / "ledger.jsonl")
    ledger.note_terms(Terms(subject="noisy AUROC", delta=1e-4, population=50, release=release))
    spent = release.loss.epsilon(1e-4)
    figure = {
        "data_set": "clinic", "split": "train", "auroc": {"value": 0.6875}, "epsilon": spent,
        "delta": 1e-4, "unit": "patient", "population": 50,
        "release": release.model_dump(mode="json"),
    }  # fmt: skip
    write_json(noisy / "noisy_metrics.json", figure)
    write_dossier(audited, tmp_path / "out", evidence=[noisy])
    assert f"epsilon {epsilon_text(spent)} at delta 0.0001" in words_on(tmp_path / "out")
    write_json(noisy / "noisy_metrics.json", {**figure, "epsilon": 0.5})
    with pytest.raises(InputError, match="something else than the ledger beside it"):
        write_dossier(audited, tmp_path / "less", evidence=[noisy])


def test_the_interval_of_a_found_share_is_never_shown_narrower() -> None:
    figure = AttackFigure(name="found", value=0.0523, low=0.01239, high=0.10421, is_share=True)
    assert _attack_figure_words(figure) == "found: 5.2 % (1.23 to 10.5 %)"


def _numbers(content: Any) -> list[float]:
    """Every number outside the statement, which is public."""
    if isinstance(content, dict):
        parts = [value for key, value in content.items() if key != "statement"]
        return [number for part in parts for number in _numbers(part)]
    if isinstance(content, list):
        return [number for part in content for number in _numbers(part)]
    return [content] if isinstance(content, int | float) else []


@pytest.mark.parametrize(
    ("audited_part", "title", "words"),
    [
        ("network", "Members found by the finished model's confidence", "their first 3 steps"),
        ("embedding", "Members found by a likelihood ratio on the release", "4 releases on halves"),
        (None, None, "4 shadow trainings on halves"),
    ],
)
def test_audits_of_every_kind_and_version_are_read(
    audited: Path, tmp_path: Path, audited_part: str | None, title: str | None, words: str
) -> None:
    run = Path(shutil.copytree(audited, tmp_path / "run"))
    record = read_json(run / AUDIT)
    if audited_part is None:  # as audits were written before they were dated and named
        record.pop("date")
        record.pop("audited")
        record["membership"] = [
            {key: value for key, value in one.items() if key != "attack"}
            for one in record["membership"]
        ]
    else:
        record["audited"] = audited_part
        record["membership"] = [{**one, "attack": title} for one in record["membership"]]
    write_json(run / AUDIT, record)
    dossier = write_dossier(run, tmp_path / "out")
    text = words_on(tmp_path / "out")
    assert words in text
    assert attack(dossier, "faults").tests[0].result == "held"
    assert all(test.result == "held" for test in attack(dossier, "membership").tests)
    if title is None:
        assert "day not recorded" in text
    else:
        assert f"members{title.removeprefix('Members')} ({audited_part}): held" in text


def test_a_broken_promise_stands_first(audited: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(audited, tmp_path / "broken"))
    record = read_json(broken / AUDIT)
    write_json(broken / AUDIT, {**record, "broken": ["LiRA finds 41.7 % of members"]})
    dossier = write_dossier(broken, tmp_path / "out")
    text = words_on(tmp_path / "out")
    assert dossier.broken
    assert text.index("AN AUDIT FOUND THE PROMISE BROKEN") < text.index("At a glance")
    assert "41.7" not in text
    assert "THE PROMISE IS BROKEN" in line(dossier, "correctness").says


def test_an_audit_of_another_training_is_no_evidence(audited: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(audited, tmp_path / "other"))
    record = read_json(other / AUDIT)
    promise = {**record["promise"], "mu": 2 * record["promise"]["mu"]}
    write_json(other / AUDIT, {**record, "promise": promise})
    dossier = write_dossier(other, tmp_path / "out")
    assert not any(one.tests for one in dossier.attacks)
    assert "of another training" in attack(dossier, "membership").not_run


def test_an_evaluation_of_another_run_is_refused(
    audited: Path, evaluation: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(audited, tmp_path / "other"))
    with pytest.raises(InputError, match="an evaluation of 'dp'"):
        write_dossier(other, tmp_path / "out", evidence=[evaluation])
    with pytest.raises(InputError, match="no evidence"):
        write_dossier(audited, tmp_path / "out", evidence=[tmp_path])
    assert not (tmp_path / "out").exists()


def test_odds_of_every_kind_stand_beside_their_attacks(audited: Path, tmp_path: Path) -> None:
    dossier = write_dossier(audited, tmp_path / "out")
    odds = dossier.statement.odds
    for kind, share in (
        ("membership", odds.found_at_1_percent),
        ("attribute", odds.attribute_even),
        ("reconstruction", odds.reconstructed),
    ):
        assert share is not None
        assert percent(share) in attack(dossier, kind).bound


def test_an_image_level_promise_says_what_a_patient_has(tmp_path: Path) -> None:
    release = Release(stage="finetune", data="clinic", mu=0.3, unit="image", images_per_patient=4)
    lineage = Lineage(releases=(release,))
    statement = make_statement(lineage, subject="classifier", unit="image", stage=release)
    with open_run(tmp_path / "run", "pretrain", Settings()) as run:
        run.finish(statement, "card")
    dossier = write_dossier(tmp_path / "run", tmp_path / "out")
    assert statement.patient is not None
    unit = line(dossier, "unit").says
    assert "THE IMAGE, not the patient" in unit
    assert (
        f"at most 4 images are used, has epsilon {epsilon_text(statement.patient.epsilon)}" in unit
    )
    assert unit in words_on(tmp_path / "out").split("Not covered")[0]


def test_units_found_by_looking_and_other_releases_are_named(tmp_path: Path) -> None:
    release = Release(stage="finetune", data="clinic", mu=0.3, unit_from="looks")
    record = OnRecord(data="clinic", other_releases=5, epsilon=16.9, budget=20.0)
    statement = make_statement(Lineage(releases=(release,)), subject="classifier", stage=release)
    with open_run(tmp_path / "run", "pretrain", Settings()) as run:
        run.finish(statement.model_copy(update={"on_record": (record,)}), "card")
    evidence = read_evidence(tmp_path / "run")
    told = replace(
        evidence, statement=evidence.statement.model_copy(update={"on_record": (record,)})
    )
    dossier = make_dossier(told, shown=(), date="2026-11-28")
    assert "FOUND BY LOOKING in clinic" in line(dossier, "unit").says
    on_record = line(dossier, "composition").says
    assert "5 other releases; together epsilon 16.9 at delta 0.0001. Its budget is epsilon 20." in (
        on_record
    )


def test_a_delta_is_held_against_the_population_as_in_the_statement(
    synthetic: Path, tmp_path: Path
) -> None:
    evidence = read_evidence(synthetic)
    statement = evidence.statement.model_copy(update={"population": 600, "delta": 1e-4})
    dossier = make_dossier(replace(evidence, statement=statement), shown=(), date="2026-11-28")
    assert "N x delta = 0.06" in statement_text(statement).splitlines()[5]
    assert "N x delta is 0.06;" in line(dossier, "delta").says
    assert line(dossier, "tests").says == "not run; `synthdp assess SET --real DIR` does"


def test_a_network_from_random_numbers_is_not_called_public(run: Path) -> None:
    made = make_dossier(read_evidence(run), shown=(), date="2026-11-28")
    page = " ".join(one.says for part in made.layers for one in part.lines)
    assert "By the settings: network test_vit from random weights" in page
    assert "public network" not in page
    evidence = read_evidence(run)
    public = {**evidence.settings, "backbone": {"name": "test_vit", "weights": "a.safetensors"}}
    made = make_dossier(replace(evidence, settings=public), shown=(), date="2026-11-28")
    page = " ".join(one.says for part in made.layers for one in part.lines)
    assert "By the settings: public network test_vit" in page


def test_phantoms_that_stand_for_patients_are_not_taken_for_some(
    run: Path,
) -> None:
    evidence = read_evidence(run)
    stands_in = replace(
        evidence,
        sets=tuple(one.model_copy(update={"kind": "phantom"}) for one in evidence.sets),
    )
    for read, named in ((evidence, False), (stands_in, True)):
        dossier = make_dossier(read, shown=(), date="2026-11-28")
        words = (line(dossier, "exposure").says, dossier.registry.dp_variant.data_domain)
        assert [("PHANTOMS THAT STAND FOR PATIENTS" in one) for one in words] == [named, named]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metrics.json", {"data_set": "clinic", "split": "train", "auroc": {"value": "high"}}),
        ("metrics.json", []),
        ("fairness.json", {"auroc": 1}),
        ("fairness.json", [{"measure": "beauty"}]),
        ("noisy_metrics.json", {"auroc": 0.7}),
        ("config.yaml", 3),
    ],
)
def test_a_damaged_evaluation_is_one_clear_error(
    audited: Path, evaluation: Path, tmp_path: Path, file: str, content: Any
) -> None:
    damaged = Path(shutil.copytree(evaluation, tmp_path / "damaged"))
    write_json(damaged / file, content)
    with pytest.raises(InputError):
        write_dossier(audited, tmp_path / "out", evidence=[damaged], shown=("utility",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "damage",
    [{"settings": {"canaries": "many"}}, {"promise": 6}, {"bounds": [{}]}, {"broken": "no"}],
)
def test_a_damaged_audit_is_one_clear_error(audited: Path, tmp_path: Path, damage: Any) -> None:
    run = Path(shutil.copytree(audited, tmp_path / "run"))
    write_json(run / AUDIT, {**read_json(run / AUDIT), **damage})
    with pytest.raises(InputError, match="audit"):
        write_dossier(run, tmp_path / "out")


def test_without_protection_it_says_so_first(tmp_path: Path) -> None:
    bare = Release(stage="finetune", data="clinic", mu=math.inf, note="<i>no noise</i>")
    lineage = Lineage(releases=(bare,))
    with open_run(tmp_path / "run", "pretrain", Settings()) as run:
        run.finish(make_statement(lineage, subject="classifier", stage=bare), "card")
    dossier = write_dossier(tmp_path / "run", tmp_path / "out")
    text = words_on(tmp_path / "out")
    assert "epsilon = inf for each patient" in text
    assert "Nothing bounds what it gives away" in text
    assert "WITHOUT PROTECTION" in line(dossier, "composition").says
    assert valid_json(tmp_path / "out")["statement"]["epsilon"] == "inf"
    assert "<i>" not in page_of(tmp_path / "out")


def test_a_model_of_no_patient(tmp_path: Path) -> None:
    dossier = write_dossier(random_run(tmp_path / "run"), tmp_path / "out")
    assert "no release on any patient is counted" in attack(dossier, "membership").bound
    assert line(dossier, "composition").says == "None on any patient."
    valid_json(tmp_path / "out")


def test_what_is_declared_alone_is_not_taken_for_a_record(tmp_path: Path) -> None:
    info = DatasetInfo(
        name="bought",
        kind="synthetic",
        size_px=32,
        lineage=Lineage(declared=("bought: no patient went into it, says its importer",)),
    )
    with create_dataset(tmp_path / "bought", info) as writer:
        pixels = np.zeros((32, 32), np.uint8)
        writer.add(pixels, patient_id="s0", split="train", targets=[1])
    dossier = write_dossier(tmp_path / "bought", tmp_path / "out")
    assert "says its importer" in line(dossier, "declared").says
    assert attack(dossier, "membership").bound.startswith("nothing that a record shows")
    assert "as declared by the importer" in words_on(tmp_path / "out").split("At a glance")[0]


def test_a_synthetic_set_with_its_assessment(synthetic: Path, tmp_path: Path) -> None:
    assessment = made_up_assessment(tmp_path / "assessed", open_dataset(synthetic).info, copies=7)
    dossier = write_dossier(synthetic, tmp_path / "out", evidence=[assessment])
    copied = attack(dossier, "regurgitation")
    assert [test.result for test in copied.tests] == ["measured"]
    assert not copied.tests[0].figures
    assert attack(dossier, "membership").not_run == "not run; `synthdp assess SET --real DIR` does"
    assert line(dossier, "utility").state == "stated"
    assert "1 figures, held" not in copied.tests[0].words
    below = AttackFigure(name="correlation", value=-0.25)
    assert AttackFigure.model_validate(below.model_dump(mode="json")) == below
    without_end = AttackFigure(name="epsilon at least", value=math.inf)
    assert without_end.model_dump(mode="json")["value"] == "inf"
    shown = write_dossier(
        synthetic, tmp_path / "shown", evidence=[assessment], shown=("attacks", "utility")
    )
    assert attack(shown, "regurgitation").tests[0].figures[0].value == 7
    assert shown.utility[0].figures[0].value == 73.94
    valid_json(tmp_path / "shown")


def test_an_assessment_of_another_set_is_refused(synthetic: Path, tmp_path: Path) -> None:
    info = open_dataset(synthetic).info.model_copy(update={"name": "another"})
    with pytest.raises(InputError, match="an assessment of another"):
        write_dossier(
            synthetic, tmp_path / "out", evidence=[made_up_assessment(tmp_path / "a", info)]
        )


def test_a_set_of_patients_has_no_dossier(clinic: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds patients' images"):
        write_dossier(clinic, tmp_path / "out")


def test_a_study_shows_scores_of_patients_where_asked_alone(tmp_path: Path) -> None:
    study = tmp_path / "study"
    make_study(study, with_failure=False)
    describe(study, title="<b>CBIS</b> in /srv/frau-mueller/data")
    runs = sorted(path.name for path in (study / "runs").iterdir())
    statements = [read_json(study / "runs" / run / "privacy.json") for run in runs]
    assert statements
    with open_run(tmp_path / "whole", "study", Settings()) as whole:
        whole.finish(make_statement(Lineage(), subject="study"), "card")
    for name in ("status.json", "privacy.json", "config.yaml"):
        shutil.copyfile(tmp_path / "whole" / name, study / name)
    without_mark(study)
    closed = write_dossier(study, tmp_path / "closed")
    assert closed.subject.kind == "study"
    assert closed.utility[0].of_patients
    assert not closed.utility[0].figures
    assert "frau-mueller" not in page_of(tmp_path / "closed")
    shown = write_dossier(study, tmp_path / "open", shown=("utility",))
    models = {figure.model for figure in shown.utility[0].figures}
    assert "real only, epsilon 6 asked for" in models
    assert all(figure.n_patients is None for figure in shown.utility[0].figures)
    valid_json(tmp_path / "open")


def test_a_run_of_a_study_takes_its_scores_from_the_study(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("trial")
    values = {**small_study(root), "epsilons": [6], "seeds": [0]}
    run_study(study_settings(values))
    (run,) = (path for path in (root / "study" / "runs").iterdir() if "finetune" in path.name)
    dossier = write_dossier(run, root / "out", evidence=[root / "study"])
    assert [(one.data_set, one.split) for one in dossier.utility] == [("clinic", "train")]
    with pytest.raises(InputError, match="is no run of"):
        write_dossier(random_run(root / "other"), root / "no", evidence=[root / "study"])


def test_figures_of_patients_are_closed_to_others(audited: Path, tmp_path: Path) -> None:
    write_dossier(audited, tmp_path / "open", shown=("attacks",))
    for path in ((tmp_path / "open"), *(tmp_path / "open").iterdir()):
        assert not path.stat().st_mode & 0o077


def test_all_text_is_escaped_and_no_script_runs(audited: Path, tmp_path: Path) -> None:
    dossier = write_dossier(audited, tmp_path / "out")
    attacked = "<script>alert('x')</script>"
    subject = dossier.subject.model_copy(update={"name": attacked, "title": attacked})
    lines = tuple(one.model_copy(update={"asks": attacked}) for one in dossier.controller)
    page = dossier_page(
        dossier.model_copy(update={"subject": subject, "controller": lines, "made_by": attacked})
    )
    read = Reader(page)
    assert not [tag for tag, _ in read.tags if tag in ("script", "img", "link", "a")]
    assert "&lt;script&gt;" in page
    policy = next(
        held["content"] for _, held in read.tags
        if held.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert "script-src 'none'" in str(policy)
    assert "default-src 'none'" in str(policy)


def test_the_command_writes_it_and_says_what_goes_together(
    audited: Path, evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = ["privacy", "--dossier", str(audited), str(out), "--evidence", str(evaluation)]
    assert main(asked) == EXIT_DONE
    message = capsys.readouterr().out
    assert "epsilon = 6 for each patient" in message
    assert sorted(path.name for path in out.iterdir()) == ["dossier.html", "dossier.json"]
    assert main(asked) == EXIT_DONE  # as after a kill that came when all was written
    (out / "note").write_text("mine")
    assert main(asked) == EXIT_BAD_INPUT
    assert "exists already" in capsys.readouterr().err
    assert main(["privacy", str(audited), "--show", "utility"]) == EXIT_BAD_INPUT
    assert "goes with --dossier" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*asked, "--show", "patients"])

"""The section on the differences that a study was made to test, and what makes them registered."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.errors import InputError
from synthdp.storage.files import read_json, write_atomic, write_json
from synthdp.study.compare.aurocs import Comparisons, read_comparisons
from synthdp.study.compare.results import NOT_RUN, read_results, write_results
from synthdp.study.compared import ComparePlan, registered_differences
from synthdp.study.report.page import report_table, run_report
from synthdp.study.report.sections.primary import PrimaryView, primary_section, primary_sentence
from synthdp.study.report.settings import ReportSettings
from synthdp.study.report.study_results import study_results
from tests.study.report.sections.test_growth import growth_study
from tests.study.report.test_page import Page

PRIMARY = [
    {"strategy": "phantoms_start", "against": "real_only", "shares": [0.0865, 0.8]},
    {"strategy": "real_and_phantoms", "against": "real_only", "epsilons": [6], "shares": [0.8]},
    {"strategy": "transformer_only", "against": "real_only", "epsilons": [6], "shares": [0.8]},
]
REGISTERED = "Registered comparisons: clinic, cross-validated"
LATER = "Comparisons named after the study ran: clinic, cross-validated"


def register(study: Path, primary: list[dict[str, object]] | None) -> None:
    """Put these differences among the settings that the study was started with, and ran with."""
    name_in_settings(study, primary)
    facts = read_json(study / "study.json")
    write_json(study / "study.json", {**facts, "compare": {**facts["compare"], "primary": primary}})


def name_in_settings(study: Path, primary: list[dict[str, object]] | None) -> None:
    settings = {**read_yaml(study / "config.yaml"), "compare": {"primary": primary}}
    write_atomic(study / "config.yaml", dump_yaml(settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that registered its differences; of one of them all runs failed."""
    study = tmp_path_factory.mktemp("primary") / "study"
    rows = growth_study(study)
    register(study, PRIMARY)

    def lost(key: tuple[str, float | None, str], error: str) -> None:
        for number, row in enumerate(rows):
            if (row.strategy, row.epsilon, row.trained_on) == key:
                failed = {"state": "failed", "error": error, "auroc": None}
                rows[number] = row.model_copy(update=failed)

    lost(("phantoms_start", 1.0, "a share of 0.0865"), "the generator was refused")
    lost(("phantoms_start", 1.0, "a share of 0.8"), NOT_RUN)
    write_results(study / "results.csv", rows)
    return study


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


def view_of(study: Path, patients: int | None = None) -> PrimaryView:
    settings = ReportSettings(study=study)
    results = study_results(settings, read_results(study / "results.csv"))
    view = primary_section(study, results, patients)["primary"]
    assert isinstance(view, PrimaryView)
    return view


def report(study: Path, **settings: object) -> Page:
    return Page(run_report(ReportSettings(study=study, **settings)).read_text())


def test_registered_differences_have_verdicts_of_their_own(made: Path) -> None:
    view = view_of(made)
    (part,) = view.parts
    assert (view.registered, part.name, part.targets) == (True, "clinic, cross-validated", ())
    lines = part.whole.lines
    assert [(one.row.strategy, one.row.epsilon, one.trained_on) for one in lines] == [
        ("phantoms_start", 1.0, "about 52 patients"), ("phantoms_start", 6.0, "about 52 patients"),
        ("phantoms_start", 1.0, "about 480 patients"),
        ("phantoms_start", 6.0, "about 480 patients"),
        ("real_and_phantoms", 6.0, "about 480 patients"),
        ("transformer_only", 6.0, "about 480 patients"),
    ]  # fmt: skip
    assert [one.verdict for one in lines] == [
        "no run", "won", "not run yet", "won", "not told apart", "lost",
    ]  # fmt: skip
    assert part.whole.sentence == (
        "6 differences were registered before the study began: 2 won, 1 lost, 1 not told apart; "
        "2 are no tests (1 no run, 1 not run yet)."
    )
    tested = [one.row for one in lines if one.row.p is not None]
    least = min(tested, key=lambda row: row.p)
    assert least.p_holm == pytest.approx(4 * least.p, rel=1e-4)
    assert view_of(made, 578).parts[0].whole.lines[1].trained_on == "about 50 patients"


def test_each_target_is_a_family_of_its_own(made: Path) -> None:
    results = study_results(ReportSettings(study=made), read_results(made / "results.csv"))
    rows = [row for row in results.comparisons.aurocs if row.kind == "primary"][3:5]
    named = [
        row.model_copy(update={"target": target}) for target in ("macro", "mass") for row in rows
    ]
    several = replace(results, comparisons=Comparisons(tuple(named), ()))
    view = primary_section(made, several, None)["primary"]
    (part,) = view.parts
    assert [one.row.target for one in part.whole.lines] == ["macro", "macro"]
    (mass,) = part.targets
    assert (mass.name, len(mass.lines), mass.sentence) == ("mass", 2, part.whole.sentence)
    assert mass.sentence.startswith("2 differences were registered before the study began: 1 won")


def test_a_sentence_says_how_many_were_won_and_lost() -> None:
    assert primary_sentence(["won"], registered=True) == (
        "1 difference was registered before the study began: 1 won, 0 lost, 0 not told apart."
    )
    assert primary_sentence(["lost", "not tested"], registered=False) == (
        "2 differences were named after the study ran, and are not registered: 0 won, "
        "1 lost, 0 not told apart; 1 is no test (1 not tested)."
    )


def test_they_stand_before_all_other_comparisons(study: Path) -> None:
    page = report(study)
    links = [attributes["href"] for attributes in page.all("a")]
    assert links.index("#primary-1") < links.index("#growth") < links.index("#compared-1")
    heads = [page.text.index(words) for words in (
        REGISTERED, "How results grow", "Comparisons: clinic, cross-validated",
    )]  # fmt: skip
    assert heads == sorted(heads)
    section = page.text[heads[0] : heads[1]]
    for line in view_of(study).parts[0].whole.lines:
        row = line.row
        assert f"less {row.against.replace('_', ' ')}" in section
        if row.value is not None:
            assert f"{row.value:+.3f}".replace("-", "\N{MINUS SIGN}") in section
            assert f"{row.smallest_gain:.3f}" in section
    assert "2 of 2 runs failed" in section
    assert "2 of 2 runs not run yet" in section
    assert "\N{BLACK UP-POINTING TRIANGLE} won" in section
    assert "secret" not in page.text
    kinds = [row.kind for row in read_comparisons(study).aurocs]
    assert kinds.count("primary") == 6


def test_what_is_named_at_the_report_is_not_called_registered(study: Path) -> None:
    register(study, None)
    plain = report(study)
    assert "primary-1" not in [attributes.get("id") for attributes in plain.all("h2")]
    named = ComparePlan.model_validate({"primary": PRIMARY, "redraws": 50})
    page = report(study, compare=named)
    assert LATER in page.text
    assert "6 differences were named after the study ran, and are not registered" in page.text
    assert "egistered comparisons" not in page.text
    assert "Named later" in page.text
    table = {"format": "markdown", "table": "comparisons"}
    assert "differences named after the study ran: " in report_table(
        ReportSettings(study=study, compare=named, **table)
    )


def test_what_is_written_into_the_settings_of_a_study_that_ran_is_not_registered(
    study: Path,
) -> None:
    register(study, None)
    name_in_settings(study, PRIMARY)
    assert registered_differences(study) == ()
    assert "egistered comparisons" not in report(study).text
    register(study, PRIMARY)
    name_in_settings(study, PRIMARY[1:])  # what was lost is left out
    page = report(study)
    assert "egistered comparisons" not in page.text
    assert "6 differences were named after the study ran" in page.text
    (study / "study.json").unlink()  # before it ran the settings say it alone
    assert len(registered_differences(study)) == len(PRIMARY) - 1


def test_registered_differences_stay_whatever_a_report_compares(study: Path) -> None:
    changed = ComparePlan(reference=("phantoms_start",), margin=0.01, redraws=50)
    page = report(study, compare=changed)
    assert REGISTERED in page.text
    assert view_of(study).parts[0].whole.sentence in page.text
    same = changed.model_copy(
        update={"primary": ComparePlan.model_validate({"primary": PRIMARY}).primary}
    )
    assert REGISTERED in report(study, compare=same).text
    fewer = ComparePlan.model_validate({"primary": PRIMARY[1:]})
    with pytest.raises(InputError, match=r"compare\.primary: the study was started with its own"):
        report(study, compare=fewer)


def test_tables_for_papers_have_them_together_and_first(study: Path) -> None:
    table = {"study": study, "table": "comparisons"}
    text = report_table(ReportSettings(**table, format="markdown"))
    first = text.split("**CBIS-DDSM masses**")[1]
    assert "AUROC on clinic, cross-validated, registered differences: " in first
    (line,) = [one for one in first.splitlines() if one.startswith("| transformer only")]
    assert line.startswith("| transformer only less real only (trained on a share of 0.8) |  | ")
    assert "| phantoms start less real only (trained on a share of 0.0865) | no run | +0." in first
    assert re.search(r"\N{MINUS SIGN}0\.\d{3}\\\* \[", line)
    latex = report_table(ReportSettings(**table, format="latex"))
    assert latex.index("registered differences") < latex.index("less real only at the same epsilon")
    assert latex.count("{") == latex.count("}")


def test_a_released_study_shows_what_was_compared(study: Path) -> None:
    before = report(study)
    shutil.rmtree(study / "evaluations")
    assert report(study).text == before.text
    table = (study / "comparisons.csv").read_text().splitlines(keepends=True)
    older = [line for line in table if ",primary," not in line]
    assert len(older) == len(table) - 6
    (study / "comparisons.csv").write_text("".join(older))  # as an earlier version wrote it
    assert "primary-1" not in [one.get("id") for one in report(study).all("h2")]


def test_a_study_without_readable_settings_has_none_registered(study: Path) -> None:
    (study / "config.yaml").write_text("compare: {primary: [{strategy: 1}]}\n")
    assert registered_differences(study) == ()
    assert "egistered comparisons" not in report(study).text

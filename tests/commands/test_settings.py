"""`synthdp settings`: what it says, and the page that is made of it."""

from pathlib import Path

import pytest

from synthdp.cli import EXIT_BAD_INPUT, EXIT_DONE, main
from synthdp.commands.settings import markdown_page
from synthdp.stages import STAGES

ROOT = Path(__file__).parents[2]


def test_a_key_is_said_with_range_default_meaning_and_an_example_for_the_shell(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["settings", "finetune", "privacy.delta"]) == EXIT_DONE
    assert capsys.readouterr().out.splitlines() == [
        "privacy.delta: number above 0, below 1; default: 0.0001",
        "    The delta at which the epsilon holds; below 1 / `population`.",
        "    example: privacy.delta=0.0001",
    ]
    assert main(["settings", "finetune", "privacy.risk"]) == EXIT_DONE
    message = capsys.readouterr().out
    assert "example: 'privacy.risk={found: 0.05, false_alarms: 0.01}'" in message
    assert "privacy.risk.found: number above 0, below 1; must be given in privacy.risk" in message


@pytest.mark.parametrize(
    ("words", "first"),
    [
        (["data", "phantoms"], "out: path; must be given"),
        (["data", "import", "patient_pattern"], "patient_pattern: none or text, or none"),
        (["--all"], "# data phantoms"),
    ],
)
def test_a_stage_may_have_two_words(
    words: list[str], first: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", *words]) == EXIT_DONE
    assert capsys.readouterr().out.splitlines()[0].startswith(first.removesuffix(", or none"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a stage: data phantoms"),
        (["finetun"], "'finetun' is no stage; did you mean finetune?"),
        (["data", "phantom"], "did you mean data phantoms?"),
        (["finetune", "privcy"], "'privcy': no such key; did you mean privacy?"),
        (["finetune", "epsilon"], "did you mean privacy.epsilon?"),
        (["finetune", "seed", "out"], "name one key of finetune, not 2"),
        (["finetune", "--all"], "--all has every stage; leave the stage out, or --all"),
    ],
)
def test_what_is_not_there_is_told_with_what_was_meant(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", *words]) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def test_the_page_of_all_settings_is_up_to_date() -> None:
    page = (ROOT / "docs" / "settings-reference.md").read_text(encoding="utf-8")
    assert page == markdown_page(STAGES), (
        "docs/settings-reference.md is not what the code says; make it again: "
        "synthdp settings --all --format markdown > docs/settings-reference.md"
    )

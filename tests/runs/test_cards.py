import doctest
import re

import pytest

import synthdp.runs.cards
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.promise.statement import make_statement
from synthdp.runs.cards import (
    card_text,
    listed,
    model_card,
    one_line,
    paragraphs,
    plain_card,
    restated,
)

HOSTILE = [
    "![x](http://tracker/x.png)",
    "[click](javascript:alert)",
    "<script>alert(1)</script>",
    "a\n# Heading",
    "a\n---\nb",
    "a\n===",
    "a\n```\nb",
    "a\n| b |\n| --- |",
    "a\n> quoted",
    r"\<img src=x onerror=alert(1)>",
    r"[click\](http://tracker)",
    "a\n- # Heading",
    "a\n1. > quoted",
    "a\n-",
    "a\n* * *",
]

RULES = ("-", "* * *")


def marks(text: str) -> bool:
    """Whether Markdown marks up more than paragraphs, lists, bold words and code here."""
    for number, line in enumerate(text.splitlines()):
        start = re.sub(r"^([-+*]|\d+\.)\s", "", line.lstrip())
        if number and (start.startswith(("#", "=", "|", ">", "```", "--", "~")) or line in RULES):
            return True
    # an even number of backslashes are themselves, and escape nothing behind them
    return bool(re.search(r"(?<!\\)(\\\\)*(<|\][(\[:])", text))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_marks_nothing_up(text: str) -> None:
    bare = text.replace("\\", "")
    assert marks(f"x{bare}") or marks(bare)  # the check itself sees it
    assert not marks(one_line(text))
    assert not marks(paragraphs(f"x {text}"))
    assert "\n" not in one_line(text)
    release = Release(id="a" * 16, stage="train-gan", data="set", mu=float("inf"), note=text)
    statement = make_statement(Lineage(releases=(release,)), subject="model", stage=release)
    card = model_card(title=text, summary=text, statement=statement, settings={text: text})
    for written in (card, restated(card, statement)):
        body = written.split("---\n", 2)[2]
        assert _headings(body) == ["#", "##", "##", "##", "##"]
        plain = "\n".join(line for line in body.splitlines() if not line.startswith("#"))
        assert not marks(f"\n{plain}")
    of_study = plain_card(text, statement)
    assert _headings(of_study) == ["#"]
    assert not marks(of_study.removeprefix("#"))


def _headings(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.startswith("#")]


def test_words_lists_and_code_stay() -> None:
    text = "**Bold** words of `synthdp generate`:\n\n- one_two\n- 3"
    assert paragraphs(text) == text
    assert listed({"a_b": 1}) == "- a_b: 1"
    assert card_text({"x": 1}, "T", [("S", "text")]) == "---\nx: 1\n---\n\n# T\n\n## S\n\ntext\n"


def test_settings_within_settings_are_told_in_words() -> None:
    assert doctest.testmod(synthdp.runs.cards).failed == 0
    text = listed({"beside": [{"name": "a", "layers": [1, 2]}, {"name": "b"}], "whole": {"x": {}}})
    assert text == "- beside: (1) name a, layers 1 and 2; (2) name b\n- whole: x none"
    assert not set("{}[]'") & set(text)

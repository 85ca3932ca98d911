"""Each message that docs/troubleshooting.md quotes still stands in the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
FILLED_IN = "\0"  # what an f-string puts in


def quoted_messages() -> list[str]:
    """First cells of tables whose head is `message`, without the code span's backticks."""
    found: list[str] = []
    of_messages = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| message |"):
            of_messages = True
        elif not line.startswith("|"):
            of_messages = False
        elif of_messages and not line.startswith("| ---"):
            cell = line.removeprefix("| ").split(" | ")[0]
            found.append(cell.removeprefix("`").removesuffix("`"))
    return found


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a source file; those that are put together have FILLED_IN for what varies."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                part.value
                if isinstance(part, ast.Constant) and isinstance(part.value, str)
                else FILLED_IN
                for part in node.values
            )


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rooms = ("synthdp", "gan", "classify")
    paths = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [text for path in paths for text in texts_of(path)]


def pattern_of(message: str) -> re.Pattern[str]:
    pieces = [re.escape(piece) for piece in message.split("...")]
    return re.compile(".*".join(pieces), re.DOTALL)


def test_the_page_quotes_some_dozens() -> None:
    assert len(quoted_messages()) >= 36


@pytest.mark.parametrize("message", quoted_messages())
def test_a_quoted_message_stands_in_the_code(message: str, texts: list[str]) -> None:
    pattern = pattern_of(message)
    assert any(pattern.search(text) for text in texts), (
        f"no message of the code reads {message!r}: mend docs/troubleshooting.md"
    )


def test_a_message_that_nobody_prints_would_be_found(texts: list[str]) -> None:
    pattern = pattern_of("...: the moon is too full; wait for ...")
    assert not any(pattern.search(text) for text in texts if "the moon" not in text)

"""The pages that people read, and what tests take out of them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = sorted((ROOT / "docs").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
CONSOLE = ("sh", "bash", "shell", "console")


def text_of(path: Path) -> str:
    """The Markdown of a page, or of a notebook's text cells."""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def console_lines(text: str) -> Iterator[str]:
    """Lines of code blocks for a shell, and of indented ones; continued lines are one line."""
    language, kept = None, ""
    for line in text.splitlines():
        if line.startswith("```"):
            language = None if language is not None else line.removeprefix("```").strip()
            continue
        if language is None and not line.startswith("    "):
            continue
        if language is not None and language not in CONSOLE:
            continue
        kept += line.strip().removeprefix("$ ")
        if kept.endswith("\\"):
            kept = kept.removesuffix("\\")
            continue
        yield kept
        kept = ""


def commands_of(line: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of a program in a line of a shell, without pipes and comments."""
    filled = re.sub(r"\$\{?\w+(:-[^}]*)?\}?", "1", line)  # a variable, as if it were set
    if not re.match(rf"(exec |! ?)?{re.escape(program)} ", filled):
        return
    words = shlex.split(filled, comments=True)
    words = words[words.index(program) + 1 :]
    ends = [number for number, word in enumerate(words) if word in ("|", ">", "&&", "||", ";")]
    yield words[: ends[0]] if ends else words


def shown_commands(path: Path, program: str = "synthdp") -> list[list[str]]:
    """All calls of a program in the blocks of a page, each as its arguments."""
    lines = console_lines(text_of(path))
    return [words for line in lines for words in commands_of(line, program)]


def inline_commands(path: Path) -> list[list[str]]:
    """Calls of synthdp within sentences and tables, but for those that leave something out."""
    spans = re.findall(r"`synthdp ([^`\n]+)`", text_of(path))
    whole = (span for span in spans if not re.search(r"\.\.\.|[\[{|]|^STAGE", span))
    return [shlex.split(span.replace("\\", "")) for span in whole]


def slug(heading: str) -> str:
    """The anchor of a heading, as code hosts and the site make it."""
    words = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", words))


def anchors(path: Path) -> set[str]:
    """All anchors of a page."""
    return {slug(line) for line in re.findall(r"^#+ +(.*)$", text_of(path), re.MULTILINE)}


def links(path: Path) -> list[str]:
    """Targets of a page's links and pictures that lie in this repository."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text_of(path), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
    targets = (one or other for one, other in found)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]

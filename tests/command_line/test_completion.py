"""The Tab key: what a shell is offered, by the way in which shells ask."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("argcomplete")

#: Bash breaks words at `=` too, so that what is offered is what stands behind it.
BREAKS = " \t\n\"'><=;|&(:"
CODE = "from synthdp.cli import main; main()"


def offered(line: str, cwd: Path) -> list[str]:
    """What is offered at the end of a line; the answer comes on descriptor 8."""
    asked = {
        **{"_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_COMP_WORDBREAKS": BREAKS},
        **{"COMP_LINE": line, "COMP_POINT": str(len(line))},
    }
    root = str(Path(__file__).parents[2])
    made = subprocess.run(
        ["bash", "-c", f"{sys.executable} -c '{CODE}' 8>&1 9>/dev/null"],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
        env={**os.environ, **asked, "PYTHONPATH": root},
    )
    return [word.strip() for word in made.stdout.split("\n") if word.strip()]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("synthdp fin", {"finetune"}),
        ("synthdp data pha", {"phantoms"}),
        ("synthdp finetune --con", {"--config"}),
        ("synthdp finetune classify/b", {"classify/best"}),
        ("synthdp finetune privacy.del", {"privacy.delta="}),
        ("synthdp finetune privacy.unit=", {"patient", "image"}),
        ("synthdp finetune data=pat", {"patients/"}),
        ("synthdp finetune privacy.epsilon=", set()),  # the Tab key takes no promise away
        ("synthdp finetune privacy.epsilon=n", {"none"}),
        ("synthdp report x --format mark", {"markdown"}),
        ("synthdp predict ru", {"runs/"}),
        ("synthdp settings finetune privacy.de", {"privacy.delta"}),
        ("synthdp settings data pha", {"phantoms"}),
        ("synthdp config show study/own-f", {"study/own-findings"}),
    ],
)
def test_a_shell_is_offered(typed: str, words: set[str], tmp_path: Path) -> None:
    for folder in ("patients", "runs", ".hidden"):
        (tmp_path / folder).mkdir()
    assert words == set(offered(typed, tmp_path))

"""README stays short, names every command, and carries what the design promises of it."""

import re

from shown_pages import ROOT, text_of

from synthdp.stages import STAGES

README = text_of(ROOT / "README.md")
MAX_WORDS = 1700


def test_readme_is_short() -> None:
    assert len(README.split()) <= MAX_WORDS


def test_every_stage_is_in_the_table_of_commands() -> None:
    rows = re.findall(r"^\| `synthdp ([^`]+)`", README, re.MULTILINE)
    known = {" ".join(row.split()[:2]) for row in rows} | {row.split()[0] for row in rows}
    # a stage of two words, the first of which is one, is asked for by an option of that one
    assert not [stage for stage in STAGES if stage not in known and stage.split()[0] not in STAGES]


def test_readme_shows_every_room_of_the_top_level() -> None:
    structure = README.split("## File structure")[1]
    tops = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "."]
    kept = {"build", "dist", "demo", "runs", "studies", "data", "assessments", "packages"}
    rooms = [name for name in tops if name not in kept and not name.endswith(".egg-info")]
    assert not [name for name in rooms if f"{name}/" not in structure and name != "shared"]


def test_readme_names_every_room() -> None:
    structure = README.split("## File structure")[1]
    rooms = [
        path.name
        for top in ("synthdp", "gan", "classify")
        for path in (ROOT / top).iterdir()
        if (path / "__init__.py").is_file()
    ]
    assert not [room for room in rooms if f"{room}/" not in structure]

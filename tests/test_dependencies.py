"""The one direction of the house: gan and classify import synthdp, and nothing runs back up."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"gan": ("classify",), "classify": ("gan",), "synthdp": ("gan", "classify")}
FLOORS = [
    ("synthdp.cli",),
    ("synthdp.commands",),
    ("synthdp.command_line",),
    ("synthdp.stage_functions", "synthdp.init"),
    ("synthdp.releases", "synthdp.dossier"),
    *[
        (f"synthdp.study.{room}",)
        for room in ("stage", "plan", "report", "record", "compare", "sweep")
    ],
    tuple(
        f"synthdp.study.{file}" for file in ("settings", "sets", "compared", "private_generator")
    ),
    ("synthdp.stages",),
    ("gan", "classify"),
    (
        *("synthdp.networks.backbone", "synthdp.networks.frozen"),
        *(f"synthdp.runs.{file}" for file in ("folder", "audit_record", "evaluations", "missing")),
        *("synthdp.evaluation", "synthdp.pages"),
    ),
    ("synthdp.networks.cache", "synthdp.networks.public", "synthdp.networks.settings"),
    ("synthdp.data", "synthdp.privacy", "synthdp.runs.cards"),
    ("synthdp.checkpoint", "synthdp.status"),
    ("synthdp.config",),
    ("synthdp.storage",),
    ("synthdp.machine", "synthdp.own_packages"),
    ("synthdp.errors",),
]


def floor_of(module: str) -> int:
    """How far down `module` stands: 0 is the top floor; what is none of ours lies below all."""
    for level, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(f"{room}.") for room in rooms):
            return level
    return len(FLOORS)


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


#: The table of public names: it names gan and classify as strings, and to type checkers alone.
PUBLIC = ROOT / "synthdp" / "__init__.py"
SOURCES = [path for package in FORBIDDEN for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_import_runs_back_up(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    names = imports(path)
    roots = {name.split(".")[0] for name in names}
    if path != PUBLIC:
        assert not roots & set(FORBIDDEN[path.relative_to(ROOT).parts[0]])
    above = {name for name in names if floor_of(name) < floor_of(module) < len(FLOORS)}
    assert not above, f"{module} imports from a floor above it: {above}"


@pytest.mark.parametrize("package", ["gan", "classify"])
def test_no_room_asks_a_stage(package: str) -> None:
    """What stages are made of knows nothing of the stages that stand beside it."""
    stages = {f"{package}.{path.stem}" for path in (ROOT / package).glob("*.py")}
    rooms = [path for path in SOURCES if path.parent.parent == ROOT / package]
    asked = {path.relative_to(ROOT): imports(path) & stages for path in rooms}
    assert rooms
    assert not {path: names for path, names in asked.items() if names}


@pytest.mark.parametrize("package", ["gan", "classify"])
def test_no_rooms_ask_each_other_in_a_circle(package: str) -> None:
    asked: dict[str, set[str]] = {}
    for path in (ROOT / package).glob("*/**/*.py"):
        room = path.relative_to(ROOT / package).parts[0]
        rooms = {name.split(".")[1] for name in imports(path) if name.startswith(f"{package}.")}
        asked.setdefault(room, set()).update(rooms - {room})
    assert {*TopologicalSorter(asked).static_order()} >= asked.keys() > {"settings"}


def test_only_one_file_imports_albumentations() -> None:
    users = [
        path for path in SOURCES if "albumentations" in {n.split(".")[0] for n in imports(path)}
    ]
    assert [path.name for path in users] == ["augment.py"]

"""The notebooks of docs/ run from the first cell to the last, and hold no more than they should."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
MAX_BYTES = 150_000  # one picture of a curve, and no more


def test_there_are_three() -> None:
    assert {path.stem for path in NOTEBOOKS} == {"library", "own_patches", "privacy_and_utility"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_names_no_folder_of_its_maker(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    assert not re.search(r"/(work|home|root|Users)/", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_begins_with_its_title_and_was_run_in_order(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
    assert counts in ([None] * len(counts), list(range(1, len(counts) + 1)))


#: The notebook of the library is the engineer's walk, and runs there.
RUN_HERE = [path for path in NOTEBOOKS if path.stem != "library"]


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN_HERE, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    run_notebook = runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))["run_notebook"]
    outputs = [output for cell in run_notebook(path).cells for output in cell.get("outputs", [])]
    assert outputs, "a notebook that shows nothing"
    assert all(output.output_type != "error" for output in outputs)

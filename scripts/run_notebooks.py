"""Run the notebooks of docs/ and keep their small outputs: python scripts/run_notebooks.py."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "docs" / "notebooks"
TIMEOUT_S = 600
_WIDGET = "application/vnd.jupyter.widget-view+json"


def run_notebook(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from its first cell, in a folder of its own that goes with it.

    Returns:
        The notebook with the outputs that a reader wants: no bars, no messages of progress.

    Raises:
        CellExecutionError: when a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    commands = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]  # `!synthdp`
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name="python3", resources=resources
        )
        client.execute(env={**os.environ, "TMPDIR": folder, "PATH": os.pathsep.join(commands)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if _is_for_readers(output)]
            cell.metadata.pop("execution", None)
    notebook.metadata.pop("widgets", None)
    return notebook


def _is_for_readers(output: nbformat.NotebookNode) -> bool:
    return output.get("name") != "stderr" and _WIDGET not in output.get("data", {})


def main() -> int:
    """Run the named notebooks, or all of docs/notebooks, and write them back."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example:  python scripts/run_notebooks.py"
    )
    parser.add_argument("paths", type=Path, nargs="*", help="notebooks; all, unless given")
    for path in parser.parse_args().paths or sorted(NOTEBOOKS.glob("*.ipynb")):
        nbformat.write(run_notebook(path), path)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())

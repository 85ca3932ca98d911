"""The engineer's walk: a notebook, from data to an ONNX file, without a stop.

It is docs/notebooks/library.ipynb, run from its first cell by a kernel of its own.
"""

import os
import runpy
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebooks" / "library.ipynb"
USED = (
    "make_phantoms",
    *("PrivateLogisticRegression", "make_pipeline", "PatientTrainer", "Generator.load", ".sample("),
    *("run_stage", "Classifier.load", "release(", "export-model", "statement_of"),
)


@pytest.mark.slow
def test_the_engineer_comes_through_without_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    others = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), others])))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    cells = [c for c in nbformat.read(NOTEBOOK, as_version=4).cells if c.cell_type == "code"]
    assert not [name for name in USED if not any(name in cell.source for cell in cells)]
    began = time.monotonic()
    run_notebook = runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))["run_notebook"]
    ran = run_notebook(NOTEBOOK)  # a cell that fails would raise here
    minutes = (time.monotonic() - began) / 60
    outputs = [output for cell in ran.cells for output in cell.get("outputs", [])]
    stops = sum(output.output_type == "error" for output in outputs)
    print(f"engineer: {len(cells)} cells, {minutes:.1f} minutes, {stops} stops")
    told = "".join(output.get("text", "") for output in outputs)
    shown = "".join(output.get("data", {}).get("text/markdown", "") for output in outputs)
    assert stops == 0
    assert "epsilon = 6 for each patient, end to end" in shown
    assert "past its trainer" in told
    assert "the file gives the same: True" in told
    assert "3 releases, together epsilon" in told

"""The `datasets` library of the Hugging Face hub, kept offline, in a process of its own.

It reads its switches when it is imported, and keeps a cache below the home folder; in a process of
its own neither reaches other tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

_LOAD = """
import json, sys
import datasets, numpy
loaded = datasets.load_dataset(sys.argv[1])
print(json.dumps({
    split: {
        "columns": {n: str(f) for n, f in rows.features.items()},
        "rows": [
            {**{k: v for k, v in row.items() if k != "image"}, "mode": row["image"].mode,
             "pixels": numpy.asarray(row["image"]).tolist()}
            for row in rows
        ],
    }
    for split, rows in loaded.items()
}))
"""


def loaded_by_hub(folder: Path, cache: Path) -> dict[str, Any]:
    """What `datasets.load_dataset(folder)` gives: by split its columns, and rows with pixels."""
    offline = {
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(cache),
        "HF_DATASETS_CACHE": str(cache / "datasets"),
    }
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder)],
        check=False,
        env={**os.environ, **offline},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result

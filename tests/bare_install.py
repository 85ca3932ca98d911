"""synthdp as somebody has it who only installed the wheel: commands in a process of their own.

The checkout can't be imported there: the wheel is unpacked into a folder of its own, Python runs
isolated (-I), and other packages come from where they are. Nothing else of this machine is there
either: no settings of its user, no folder of weights, no network.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
#: What of a checkout the wheel is built from.
_PARTS = ("synthdp", "gan", "classify", "configs", "pyproject.toml", "setup.py", "README.md",
          "LICENSE", "NOTICE", "MANIFEST.in")  # fmt: skip
_START = """\
import runpy, sys
sys.path.insert(0, {site!r})
import synthdp
assert synthdp.__file__.startswith({site!r}), synthdp.__file__
sys.argv = sys.argv[1:]
if sys.argv[0] == "synthdp":
    from synthdp.cli import main
    sys.exit(main(sys.argv[1:]))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def unpacked_wheel(root: Path) -> Path:
    """Build the wheel of this checkout, unpack it below `root`, and give the folder to import from.

    It is built from a copy, so that nothing is written into the checkout.
    """
    source, site = root / "source", root / "site"
    source.mkdir(parents=True)
    for part in _PARTS:
        here = CHECKOUT / part
        if here.is_dir():
            shutil.copytree(here, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(here, source / part)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--no-index", "--target", str(site), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(source)
    return site


@dataclass
class Walk:
    """Commands that a user types one after the other; each has to go through.

    site: what `unpacked_wheel` gave; folder: where the commands are typed.
    """

    site: Path
    folder: Path
    typed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, *words: str, timeout_s: float = 600) -> str:
        """Run one `synthdp` command; gives what it printed to both streams.

        Raises:
            AssertionError: when it does not go through: that is a stop, and the walk ends there.
        """
        return self._typed(("synthdp", *words), timeout_s)

    def run_file(self, path: Path, timeout_s: float = 600) -> str:
        """Run a file of Python; as `run`."""
        return self._typed((str(path),), timeout_s)

    def _typed(self, words: tuple[str, ...], timeout_s: float) -> str:
        began = time.monotonic()
        home = self.site.parent / "home"
        home.mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-I", "-c", _START.format(site=str(self.site)), *words],
            cwd=self.folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                **{"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"},
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        self.seconds += time.monotonic() - began
        self.typed.append(" ".join(words))
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{self.typed[-1]}\n{said}"
        return said

"""synthdp as somebody has it who only installed the wheel: commands in a process of their own.

The checkout can't be imported there: the wheel is unpacked into a folder of its own, Python runs
isolated (-I), and other packages come from where they are.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
_PARTS = ("synthdp", "gan", "classify", "configs", "pyproject.toml", "setup.py", "README.md",
          "LICENSE", "MANIFEST.in")  # fmt: skip
_START = """\
import sys
sys.path.insert(0, {site!r})
import synthdp
assert synthdp.__file__.startswith({site!r}), synthdp.__file__
from synthdp.cli import main
sys.exit(main(sys.argv[1:]))
"""


def unpacked_wheel(root: Path) -> Path:
    """Build the wheel of this checkout, unpack it below `root`, and give the folder to import from.

    It is built from a copy, so that nothing is written into the checkout.
    """
    source, wheels, site = (root / name for name in ("source", "wheels", "site"))
    source.mkdir(parents=True)
    for part in _PARTS:
        here = CHECKOUT / part
        if here.is_dir():
            shutil.copytree(here, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        elif here.is_file():
            shutil.copyfile(here, source / part)
    build = [*("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"), "-w"]
    _pip(*build, str(wheels), str(source))
    (wheel,) = wheels.glob("*.whl")
    _pip("install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel))
    return site


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@dataclass
class Walk:
    """Commands that a user types one after the other; each has to go through.

    site: what `unpacked_wheel` gave; folder: where the commands are typed.
    """

    site: Path
    folder: Path
    typed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def run(self, *words: str, timeout_s: float = 170) -> str:
        """Run one `synthdp` command; gives what it printed to both streams.

        Raises:
            AssertionError: when it does not go through: that is a stop, and the walk ends there.
        """
        began = time.monotonic()
        command = [sys.executable, "-I", "-c", _START.format(site=str(self.site)), *words]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")},
            **{"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"},
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        self.seconds += time.monotonic() - began
        self.typed.append(f"synthdp {' '.join(words)}")
        said = done.stdout + done.stderr
        assert done.returncode == 0, f"{self.typed[-1]}\n{said}"
        return said

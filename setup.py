"""Puts the settings files of `configs/` into the wheel; all else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Also copies `configs/*/*.yaml` to `synthdp/configs`, where `synthdp config` finds them."""

    def run(self) -> None:
        """Build the packages, then copy; an editable install reads the checkout's own."""
        super().run()
        if self.editable_mode:
            return
        for file in sorted(Path("configs").glob("*/*.yaml")):
            copy = Path(self.build_lib) / "synthdp" / file
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


setup(cmdclass={"build_py": BuildWithConfigs})

"""Puts `configs/` into the wheel, and README onto its page; all else stands in pyproject.toml."""

import re
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


def description_for_an_index(readme: str) -> str:
    """README as a package index shows it: by itself, without the files that it leads to."""
    title, _, rest = readme.partition("\n\n")
    note = (
        "After `pip install synthdp`: `synthdp --help`. What follows is the README of the source, "
        "which also has `make`, `docs/`, `configs/` and the pictures."
    )
    text = re.sub(r"<picture>.*?</picture>\n*", "", rest, flags=re.DOTALL)
    text = re.sub(r"^!\[.*\n*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]+)\]\((?![a-z]+:)[^)]*\)", r"\1", text)
    return f"{title}\n\n{note}\n\n{text}"


setup(
    cmdclass={"build_py": BuildWithConfigs},
    long_description=description_for_an_index(Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)

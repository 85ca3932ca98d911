"""What is known of a run, or of a set, before it is made: what plans of later stages ask of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from synthdp.config.settings import Settings
from synthdp.privacy.lineage import Lineage


@dataclass(frozen=True)
class ToCome:
    """A run, or a set, that a study is to make.

    lineage: what it will descend from; targets: of its images, or of its model; settings: of the
    stage that makes it.
    """

    lineage: Lineage
    targets: tuple[str, ...]
    settings: Settings


#: By the folder in which each will stand.
AllToCome: TypeAlias = Mapping[Path, ToCome]

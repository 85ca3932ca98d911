"""Published AUROCs by site of training and of scoring, and what is recomputed from them.

Theirs stand in one YAML file: a square matrix for each finding and epsilon.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from synthdp.config.settings import Settings
from synthdp.evaluation.metrics import MACRO
from synthdp.privacy.settings import EpsilonTarget
from synthdp.privacy.units import Unit
from synthdp.study.compare.transfer.drops import SiteDrop, site_drops

#: An AUROC, or the word `none` for one that was not published.
_Auroc = Annotated[
    Annotated[float, Field(ge=0, le=1)] | None,
    BeforeValidator(lambda value: None if value == "none" else value),
]


class PublishedMatrix(Settings):
    """AUROCs of one finding (`macro`: the mean over findings) at one epsilon, `none` without
    privacy: rows by the site of training, columns by that of scoring."""

    target: str = Field(min_length=1)
    epsilon: EpsilonTarget
    aurocs: tuple[tuple[_Auroc, ...], ...]


class PublishedMatrices(Settings):
    """Published matrices, all of the same sites; `unit` and `delta` are those of the promise."""

    source: str = Field(min_length=1)
    unit: Unit
    delta: float = Field(gt=0, lt=1)
    sites: tuple[str, ...] = Field(min_length=2)
    matrices: tuple[PublishedMatrix, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_of_its_sites(self) -> "PublishedMatrices":
        n_sites = len(self.sites)
        if len(set(self.sites)) < n_sites:
            raise ValueError("sites: one stands twice; keep one")
        for one in self.matrices:
            if [len(row) for row in one.aurocs] != [n_sites] * n_sites:
                raise ValueError(
                    f"matrices: {one.target}: not {n_sites} rows of {n_sites} AUROCs, as `sites` "
                    "says; write `none` for one that is not known"
                )
        if len({(one.target, one.epsilon) for one in self.matrices}) < len(self.matrices):
            raise ValueError("matrices: one of a finding and epsilon stands twice; keep one")
        return self

    @property
    def epsilons(self) -> tuple[float | None, ...]:
        """All of them, rising, that without privacy last."""
        asked = {one.epsilon for one in self.matrices}
        return tuple(sorted(asked, key=lambda one: math.inf if one is None else one))

    @property
    def findings(self) -> tuple[str, ...]:
        """The targets that are findings, as they come."""
        return tuple(dict.fromkeys(one.target for one in self.matrices if one.target != MACRO))

    def matrix(self, target: str, epsilon: float | None) -> NDArray[np.float64] | None:
        """(K, K), nan where an AUROC is not known; None where there is no such matrix."""
        for one in self.matrices:
            if (one.target, one.epsilon) == (target, epsilon):
                return np.array(one.aurocs, dtype=np.float64)
        return None


def published_drops(published: PublishedMatrices) -> dict[float, list[SiteDrop]]:
    """The drops at each site by finite epsilon, over the findings that are there without one too.

    Private AUROCs at home that stand in no finding's matrix come from that of the mean.
    """
    drops = {}
    for epsilon in published.epsilons:
        pairs = [
            (private, free)
            for target in published.findings
            if epsilon is not None
            and (private := published.matrix(target, epsilon)) is not None
            and (free := published.matrix(target, None)) is not None
        ]
        if epsilon is not None and pairs:
            mean = published.matrix(MACRO, epsilon)
            drops[epsilon] = site_drops(
                published.sites,
                np.stack([private for private, _ in pairs]),
                np.stack([free for _, free in pairs]),
                None if mean is None else np.diag(mean),
            )
    return drops


@dataclass(frozen=True)
class PublishedMatrixView:
    """One matrix as the report shows it: a row for each site of training."""

    target: str
    epsilon: float | None
    rows: Sequence[tuple[str, Sequence[float | None]]]


@dataclass(frozen=True)
class PublishedMatricesView:
    """What the report shows: the matrices, and the drops recomputed from them by epsilon."""

    about: PublishedMatrices
    matrices: Sequence[PublishedMatrixView]
    drops: Sequence[tuple[float, Sequence[SiteDrop]]]


def published_matrices_view(published: PublishedMatrices) -> PublishedMatricesView:
    """The matrices as the report shows them, the mean first, then finding by finding."""
    shown = sorted(
        published.matrices,
        key=lambda one: (
            one.target != MACRO,
            published.findings.index(one.target) if one.target != MACRO else 0,
            published.epsilons.index(one.epsilon),
        ),
    )
    return PublishedMatricesView(
        published,
        [
            PublishedMatrixView(
                one.target, one.epsilon, list(zip(published.sites, one.aurocs, strict=True))
            )
            for one in shown
        ],
        list(published_drops(published).items()),
    )

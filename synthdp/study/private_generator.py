"""A private generator that a study trains itself, for each cell of its grid.

A synthetic set that was made before holds for all cells what it spent once, and knows patients whom
a cross-validation holds out. So whoever asks whether private synthetic images help, at a promise
end to end, trains a generator for each epsilon, each fold and each share of the patients.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from synthdp.config.settings import Seed, Settings
from synthdp.config.typed_values import KeysOf
from synthdp.errors import InputError
from synthdp.stages import STAGES

if TYPE_CHECKING:
    from synthdp.runs.folder import StageCall

#: Most of the promise that a generator may spend: with less left a classifier is all noise.
MOST_SHARE = 0.9
#: The epsilon of a generator is rounded down to so many digits, so that its run has one name.
_DIGITS = 6


class PrivateGeneratorSettings(Settings):
    """How a study makes its private synthetic sets: two stages before those of a recipe."""

    train: Annotated[dict[str, Any], KeysOf(STAGES["train-gan"].settings_class, "train-gan")]
    """Settings of the stage train-gan: all but what the grid gives. Example: {method: embedding}"""

    generate: Annotated[dict[str, Any], KeysOf(STAGES["generate"].settings_class, "generate")] = (
        Field(default_factory=lambda: {"per_class": 1500})
    )
    """Settings of the stage generate: how many images. Example: {per_class: 500}"""

    mu_share: float = Field(default=0.3, gt=0, le=MOST_SHARE)
    """What the generator spends of the promise: its share of mu squared, which adds up over
    Gaussian releases; the classifier has the rest. Without privacy both have none.
    """

    seed: Seed | None = None
    """One seed for all generators; that of each run when not set. Example: 0"""


def generator_epsilon(epsilon: float, delta: float, mu_share: float) -> float:
    """The epsilon of a release that spends this share of mu squared of a promise, rounded down.

    Both are Gaussian, so that squares of mu add up (Dong, Roth and Su, arXiv 1905.02383).

    Raises:
        InputError: when so small a share is worth no epsilon at this delta.
    """
    from synthdp.privacy.accounting.gaussian import (  # noqa: PLC0415 (settings are read without it)
        gaussian_epsilon,
        gaussian_mu,
    )

    exact = gaussian_epsilon(math.sqrt(mu_share) * gaussian_mu(epsilon, delta), delta)
    if exact <= 0:
        raise InputError(
            f"private_generator.mu_share: {mu_share:g} of a promise of epsilon {epsilon:g} leaves "
            f"the generator nothing to say at delta {delta:g}; raise the share or the epsilon"
        )
    unit = 10.0 ** (math.floor(math.log10(exact)) - _DIGITS + 1)
    return float(f"{math.floor(exact / unit) * unit:.{_DIGITS}g}")


def generator_calls(
    asked: PrivateGeneratorSettings,
    ingredients: Mapping[str, Any],
    *,
    epsilon: float | None,
    seed: int,
    root: Path,
) -> "tuple[StageCall, StageCall]":
    """The calls that make a private synthetic set for one cell of the grid.

    Args:
        asked: how.
        ingredients: of the cell's recipe: its data, promise, and which patients it leaves out.
        epsilon: of the whole pipeline; None without privacy.
        seed: of the cell.
        root: the folder that runs stand in.

    Raises:
        InputError: when a setting of a stage does not fit.
    """
    from synthdp.runs.folder import placed_call  # noqa: PLC0415 (settings are read without it)

    privacy, of_patients = ingredients["privacy"], ingredients["finetune"]
    own = None
    if epsilon is not None:
        own = generator_epsilon(epsilon, privacy["delta"], asked.mu_share)
    own_seed = seed if asked.seed is None else asked.seed
    values = {
        **asked.train,
        "data": ingredients["data"],
        "seed": own_seed,
        "privacy": {**privacy, "epsilon": own},
        **{key: of_patients[key] for key in ("leave_out", "share") if key in of_patients},
    }
    trained = placed_call("train-gan", STAGES["train-gan"].settings_class(), values, root)
    drawn = {**asked.generate, "run": trained.out, "seed": own_seed}
    generated = placed_call("generate", STAGES["generate"].settings_class(), drawn, root)
    return trained, generated

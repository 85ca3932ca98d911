"""How hard the audit stage attacks a finished run."""

from pathlib import Path

from pydantic import (
    Field,
)

from synthdp.config.settings import Seed, Settings


class AuditSettings(Settings):
    """The audit stage: attacks on a finished run that has an epsilon."""

    run: Path
    """The finished run to attack. Example: runs/dp"""

    seed: Seed = 0
    """Moves all of the audit, its noise too: nothing that it trains leaves the house."""

    confidence: float = Field(default=0.99, ge=0.5, lt=1)
    """Confidence at which lower bounds are stated."""

    false_alarms: float = Field(default=1e-3, gt=0, le=0.1)
    """A sound training is called broken in fewer than this share of audits."""

    replayed: int = Field(default=3, ge=0, le=10_000)
    """How many patients, drawn at random, the replay leaves out one by one, beside made-up and the
    worst ones.
    """

    replayed_steps: int = Field(default=3, ge=1, le=10_000)
    """So many first steps of a network's training are replayed; of a head's, all."""

    canaries: int = Field(default=1000, ge=10, le=100_000)
    """How many made-up patients stand in the one training that is searched for them."""

    runs: int = Field(default=600, ge=20, le=100_000)
    """How many trainings have a worst-case patient or not, on up to 100 patients."""

    dimensions: int = Field(default=8, ge=1)
    """To how many dimensions the features are projected in these `runs`."""

    shadows: int = Field(default=64, ge=4, le=10_000, multiple_of=2)
    """How many heads, or releases, are made of halves of the patients to tell members by."""

    workers: int = Field(default=2, ge=1, le=256)
    """Processes at once."""

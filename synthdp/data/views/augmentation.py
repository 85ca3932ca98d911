"""Which random views of an image are made: settings alone, so that they are read without images."""

from pydantic import Field

from synthdp.config.settings import Settings


class Augmentation(Settings):
    """How far a random view may be from its image; each number is a bound in both directions.

    The defaults suit radiographs, which are taken in one position: small moves and another
    exposure. What a finding's side or the heart's is known by must stay, so that nothing is flipped
    unless it is asked for; patches of masses have no side, and take flips and turns.
    """

    flip: bool = False
    """Flips half of the views left to right. Wrong where a finding has a side (left effusion), and
    it makes the heart lie on the right.
    """

    turns: bool = False
    """Turns views by quarters and flips them, left to right too: for patches without a position."""

    rotate: float = Field(default=5.0, ge=0, le=45)
    """Degrees of a turn."""

    shift: float = Field(default=0.05, ge=0, le=0.5)
    """Move along each side, as a share of it."""

    scale: float = Field(default=0.08, ge=0, le=0.5)
    """Change of size, as a share of it."""

    contrast: float = Field(default=0.1, ge=0, le=1)
    """Change of contrast, as a share of it."""

    brightness: float = Field(default=0.08, ge=0, le=1)
    """Change of brightness, as a share of the range from black to white."""

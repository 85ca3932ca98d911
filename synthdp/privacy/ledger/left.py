"""What left the house of a set's patients, as its ledger notes it: a folder, and its recall."""

from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.privacy.lineage import Spent


class Left(Settings):
    """A folder that left, in which releases of the ledger went together.

    id: a digest of the folder's `release.json`; folder: the last part of where it was written, or
    the repository that it was uploaded to; subject, epsilon and delta: of its statement; counted:
    the ids of the releases in its lineage; included: what was asked for by name; day: when it was
    made (UTC).
    """

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    folder: str
    subject: str
    epsilon: Spent
    delta: float
    counted: tuple[str, ...]
    included: tuple[str, ...] = ()
    day: str


class Withdrawn(Settings):
    """Why and when a folder that had left was asked back."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    because: str
    day: str

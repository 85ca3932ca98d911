"""The key to a reader's page: which code is which image. It stays in the house."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from synthdp.config.settings import Settings, read_json_as
from synthdp.errors import InputError

KEY_FILE, PAGE_FILE = Path("private") / "key.json", "reader.html"
Kind = Literal["real", "synthetic"]
#: Consonants alone: a code is no word, no number and no date, whatever a spreadsheet takes it for.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_CODE_LENGTH = 6


class KeyImage(Settings):
    """One image of the page: its code, and what the page does not say of it.

    `label` is 1 where the image has the target, else 0; `patient` is the unit that is redrawn for
    intervals, of a synthetic image the made-up patient's id.
    """

    code: str = Field(pattern=r"^[A-Z]{6}$")
    kind: Kind
    label: Literal[0, 1]
    patient: str
    image: str


class Key(Settings):
    """The content of `private/key.json`; `kit` is a random name that page, answers and key share.

    `real` and `synthetic` are the names of the sets, and `protects_patients` whether the figures of
    the real images are of patients whom a promise is to protect.
    """

    schema_version: Literal[1] = 1
    kit: str = Field(pattern=r"^[A-Z]{6}$")
    target: str
    real: str
    synthetic: str
    protects_patients: bool
    size_px: int
    images: tuple[KeyImage, ...]

    @property
    def by_code(self) -> Mapping[str, KeyImage]:
        """The images by their codes."""
        return {one.code: one for one in self.images}


def new_codes(count: int) -> list[str]:
    """Different random codes of six letters, from the operating system."""
    codes: set[str] = set()
    while len(codes) < count:
        codes.add("".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH)))
    return secrets.SystemRandom().sample(sorted(codes), count)


def read_key(kit: Path) -> Key:
    """The key of a kit.

    Raises:
        InputError: when the folder holds none, or it is damaged.
    """
    if not (kit / KEY_FILE).is_file():
        raise InputError(
            f"kit: {kit.name!r} holds no {KEY_FILE}, without which no answer can be scored; name "
            "the folder that `synthdp assess --reader` wrote"
        )
    return read_json_as(Key, kit / KEY_FILE)

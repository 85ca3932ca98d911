"""What `model/settings.json` says of a generator, parsed once and passed on as this."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from gan.network.facts import FIRST_SIDE, Norm
from gan.package.conditions import UNKNOWN, Conditions
from synthdp.config.settings import Settings, validate_settings
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.storage.files import read_json

DESCRIPTION = Path("model") / "settings.json"
#: A bank numbers what may be asked for, which doubles its places with each condition.
MAX_BANK_CONDITIONS = 3


class _Shape(Settings):
    """What all shapes have in common; keys that they don't know are passed over."""

    model_config = ConfigDict(extra="ignore")

    @model_serializer(mode="wrap")
    def _leave_out_what_is_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As the file holds it: `conditions` and `film` stand there only where there are some."""
        values: dict[str, Any] = handler(self)
        if values.get("film") is False:
            del values["film"]
        if "conditions" in values and not _holds(values["conditions"]):
            del values["conditions"]
        return values


def _holds(conditions: dict[str, Any]) -> bool:
    return bool(conditions["names"] or conditions.get("findings"))


#: Public bounds of what a file may describe: nothing larger is built, whoever asks.
MAX_STAGES = 8
MAX_MEMBERS = 64
MAX_IMAGES = 50_000
Side = Annotated[int, Field(ge=8, le=1024)]
Widths = Annotated[
    tuple[Annotated[int, Field(ge=1, le=2048)], ...], Field(min_length=1, max_length=MAX_STAGES)
]
Length = Annotated[int, Field(ge=1, le=2048)]
_ANY_SIDE = 128  # at which settings of phantoms are looked at


class HaarShape(_Shape):
    """The shape of a `gan.network.generator.Generator`; `film`: one was fitted when it was kept."""

    architecture: Literal["mcgan-haar"] = "mcgan-haar"
    size_px: Side
    channels: Widths
    z_dim: Length
    haar_levels: Literal[1, 2]
    conditions: Conditions = Conditions()
    film: bool = False

    @model_validator(mode="after")
    def _stages_fit_the_side(self) -> "HaarShape":
        if self.size_px != FIRST_SIDE * 2 ** (self.haar_levels + len(self.channels) - 1):
            raise ValueError(f"{len(self.channels)} channels don't lead up to {self.size_px} px")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built by, as plain values."""
        several = len(self.conditions.findings)
        return {
            "size_px": self.size_px,
            "channels": list(self.channels),
            "z_dim": self.z_dim,
            "haar_levels": self.haar_levels,
            "attribute_levels": self.conditions.level_counts,
            **({"findings": several} if several else {}),
            "film": self.film,
        }


class DcganShape(_Shape):
    """The shape of a `gan.network.dcgan.DcganGenerator`, which knows the class alone."""

    architecture: Literal["dcgan"] = "dcgan"
    size_px: Side
    channels: Widths
    z_dim: Length
    norm: Norm = "instance"
    unit_range: bool = False
    conditions: Conditions = Conditions()

    @model_validator(mode="after")
    def _stages_fit_the_side(self) -> "DcganShape":
        if self.size_px != FIRST_SIDE * 2 ** len(self.channels):
            raise ValueError(f"{len(self.channels)} channels don't lead up to {self.size_px} px")
        if self.conditions.names or self.conditions.findings:
            raise ValueError("a dcgan knows the class alone, and no conditions")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built by, as plain values."""
        channels = list(self.channels)
        return {"channels": channels, **self.model_dump(include={"z_dim", "norm", "unit_range"})}


class MixtureShape(_Shape):
    """The shape of a `gan.network.mixture.Mixture`, whose members have all else in common."""

    architecture: Literal["mixture"] = "mixture"
    size_px: Side
    z_dim: Length
    conditions: Conditions = Conditions()
    members: tuple[HaarShape, ...] = Field(min_length=1, max_length=MAX_MEMBERS)

    @model_validator(mode="after")
    def _members_are_alike(self) -> "MixtureShape":
        own = (self.size_px, self.z_dim, self.conditions)
        if any((one.size_px, one.z_dim, one.conditions) != own for one in self.members):
            raise ValueError("its members differ in side, latent vector or conditions")
        return self

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built by, as plain values."""
        return {"members": [member.arguments for member in self.members]}


class _OfBank(_Shape):
    """What banks have in common.

    `images` are those of each class. With conditions they stand in the order of the prior's
    combinations, whose shares are those of whole images, the same in either class.
    """

    architecture: str
    size_px: Side
    images: int = Field(ge=1, le=MAX_IMAGES)
    z_dim: Literal[2] = 2
    conditions: Conditions = Conditions()

    @model_validator(mode="after")
    def _holds_what_is_drawn(self) -> "_OfBank":
        if self.conditions.findings:
            raise ValueError("a bank knows one target, and no findings")
        if not self.conditions.names:
            return self
        if len(self.conditions.names) > MAX_BANK_CONDITIONS:
            raise ValueError(f"a bank knows at most {MAX_BANK_CONDITIONS} conditions")
        drawn = {one.codes for one in self.conditions.prior[0] if UNKNOWN not in one.codes}
        # counted, not listed: a file may name more combinations of levels than memory holds
        if self.conditions.prior[0] != self.conditions.prior[1] or (
            len(drawn) < max(math.prod(self.conditions.level_counts), len(self.conditions.prior[0]))
        ):
            raise ValueError("a bank draws every combination of levels, alike in either class")
        counts = [count for _, count in self.cells]
        if min(counts) < 1 or sum(counts) != self.images:
            raise ValueError("the shares of a bank's conditions are not those of its images")
        return self

    @property
    def cells(self) -> list[tuple[list[int], int]]:
        """Combinations of codes, in order, and how many images of each class each has."""
        return [
            (list(one.codes), round(one.share * self.images)) for one in self.conditions.prior[0]
        ]

    @property
    def arguments(self) -> dict[str, Any]:
        """What the network is built by, as plain values."""
        cells = {"cells": self.cells} if self.conditions.names else {}
        return {**self.model_dump(include={"size_px", "images", "z_dim"}), **cells}


class BankShape(_OfBank):
    """The shape of a `gan.network.bank.Bank`, whose file holds its images."""

    architecture: Literal["bank"] = "bank"


class PhantomPool(Settings):
    """A set of mass patches as `synthdp data phantoms` draws it: the settings that decide pixels.

    They are those of `PhantomSettings`; the side is that of the bank.
    """

    patients: int
    seed: int
    style: str
    malignant_fraction: float
    site_b_fraction: float
    site_shift: float
    separation: float

    @model_validator(mode="after")
    def _can_be_drawn(self) -> "PhantomPool":
        self.settings(_ANY_SIDE)
        return self

    @classmethod
    def of(cls, settings: PhantomSettings) -> "PhantomPool":
        """That of a set."""
        return cls.model_validate(settings.model_dump(include=set(cls.model_fields)))

    def settings(self, size_px: int) -> PhantomSettings:
        """What draws its patients at a side."""
        return PhantomSettings.model_validate(
            {**self.model_dump(), "out": Path("unused"), "size_px": size_px}
        )


class PhantomBankShape(_OfBank):
    """The shape of a `gan.package.kept_phantoms.PhantomBank`, which answers as a bank does.

    Its file holds no images: these are phantoms of `pools`, which anybody can draw again, and the
    file says which.
    """

    architecture: Literal["phantom_bank"] = "phantom_bank"
    size_px: Annotated[int, Field(ge=16, le=1024)]
    pools: tuple[PhantomPool, ...] = Field(min_length=1, max_length=MAX_MEMBERS)

    @property
    def whole(self) -> BankShape:
        """The bank that holds the images themselves."""
        return BankShape(
            size_px=self.size_px, images=self.images, z_dim=self.z_dim, conditions=self.conditions
        )

    @property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """What its file holds, by name and shape (`gan.package.kept_phantoms`)."""
        each = (2, self.images)
        return {"pools": each, "patients": each, "patches": each, "quarters": (*each, 2, 2)}


TrainedShape: TypeAlias = HaarShape | DcganShape
BuiltShape: TypeAlias = TrainedShape | MixtureShape | BankShape
AnyShape: TypeAlias = BuiltShape | PhantomBankShape
_SHAPES: dict[str, type[AnyShape]] = {
    "mcgan-haar": HaarShape,
    "dcgan": DcganShape,
    "mixture": MixtureShape,
    "bank": BankShape,
    "phantom_bank": PhantomBankShape,
}


class _Origin(Settings):
    model_config = ConfigDict(extra="ignore")

    target: str = Field(default="", max_length=64)
    data: str = Field(min_length=1, max_length=64)


@dataclass(frozen=True)
class Description:
    """A generator: its shape, the target that its classes are of, and the data set it learned.

    `target` is empty of a generator of several, which `shape.conditions.findings` names.
    """

    shape: AnyShape
    target: str
    data: str

    @property
    def targets(self) -> tuple[str, ...]:
        """What images are drawn with or without: one target, or several."""
        return self.shape.conditions.findings or (self.target,)

    @property
    def classes_in_words(self) -> str:
        """What may be asked of the images, for a card: `malignant = 0 or 1`."""
        findings = self.shape.conditions.findings
        if not findings:
            return f"{self.target} = 0 or 1"
        return f"or without each of {len(findings)} findings ({', '.join(findings)})"

    def as_json(self) -> dict[str, Any]:
        """The content of `model/settings.json`: one flat mapping, whose order is kept."""
        shape = self.shape.model_dump(mode="json")
        last: dict[str, Any] = {}
        if isinstance(self.shape, MixtureShape):
            last = {key: shape.pop(key) for key in ("conditions", "members") if key in shape}
        target = {} if self.shape.conditions.findings else {"target": self.target}
        return {**shape, **target, "data": self.data, **last}


def read_description(run: Path) -> Description:
    """Read `model/settings.json` of a run.

    Raises:
        InputError: when it is missing, describes no generator, or not a whole one.
    """
    content = read_json(run / DESCRIPTION)
    architecture = content.get("architecture") if isinstance(content, dict) else None
    kind = _SHAPES.get(str(architecture))
    if kind is None:
        raise InputError(
            f"{run}: its model is no generator (architecture {architecture!r}); name a run of "
            "train-gan"
        )
    shape = validate_settings(kind, content, where=str(run / DESCRIPTION))
    origin = validate_settings(_Origin, content, where=str(run / DESCRIPTION))
    shape.conditions.refuse_undrawable(str(run / DESCRIPTION))
    if bool(origin.target) == bool(shape.conditions.findings):
        raise InputError(
            f"{run / DESCRIPTION}: target: a generator has one, or several in conditions.findings; "
            "restore the file"
        )
    return Description(shape, origin.target, origin.data)

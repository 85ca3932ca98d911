"""Frozen typed settings: YAML files and `key=value` overrides, every error at once."""

import difflib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from synthdp.config.packaged import config_file
from synthdp.config.typed_values import InWords, is_section, read_value, syntax_problem, typing
from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.errors import MAX_QUOTED_CHARS, InputError, quoted
from synthdp.storage.files import read_json

#: What an error lists and quotes at most.
MAX_LISTED = 50
MAX_MESSAGE_CHARS = 500
#: The longest name of a file or folder, and the longest path, that file systems take.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
#: Marks a setting, in `Annotated`, that came after the first studies: while it is None, the names
#: of run folders (`synthdp.runs.folder.StageCall`) are what they were without it.
ADDED_LATER = "added later"


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_of_its_kind(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        annotation = Any if field is None else field.annotation
        if _holds_truth(value) and not _takes_bool(annotation):
            raise ValueError("true and false are no value for this key")
        if isinstance(value, str):
            if annotation is bool and value not in ("true", "false", "True", "False"):
                raise ValueError("write true or false")
            if not value and _takes_path(annotation):  # which `Path` makes the working directory
                raise ValueError("is empty; name a path, and the working directory as .")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _paths_can_be_looked_up(cls, value: Any) -> Any:
        for path in value if isinstance(value, tuple) else (value,):
            problem = _path_problem(path) if isinstance(path, Path) else None
            if problem is not None:
                raise ValueError(problem)
        return value


#: An address, whose slashes `Path` has made one; a drive of Windows has one letter.
_ADDRESS = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/")
_VARIABLE = re.compile(r"^\$(?:[A-Za-z_]\w*|\{[^}]*\})")


def _path_problem(path: Path) -> str | None:
    """What is wrong with a path wherever it leads, in words."""
    if "\0" in str(path):
        return "a path with a character NUL, which no file system takes"
    if _is_too_long(path):
        return "a path that is too long for a file system"
    first = path.parts[0] if path.parts else ""
    if first.startswith("~"):
        return (
            "nothing expands the ~ here; write the path in full, or let the shell do it ($HOME/...)"
        )
    if any(_VARIABLE.match(part) for part in path.parts):
        return "nothing expands variables here; write the path in full, or let the shell do it"
    if (address := _ADDRESS.match(str(path))) is not None:
        return f"{address[1]}: makes an address, and not a path of this machine; " + (
            "leave file:// out" if address[1] == "file" else "copy what is there to a folder"
        )
    return None


def _is_too_long(path: Path) -> bool:
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    return longest > MAX_NAME_BYTES or len(os.fsencode(path)) > MAX_PATH_BYTES


def _holds_truth(value: Any) -> bool:
    """Whether a value is a truth value, numpy's too, or a list with one in it."""
    if isinstance(value, list | tuple):
        return any(_holds_truth(one) for one in value)
    return isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", "") == "b"


def _takes_bool(annotation: Any) -> bool:
    if annotation in (bool, Any) or isinstance(annotation, TypeVar):
        return True
    return any(part is True or _takes_bool(part) for part in get_args(annotation))


def _takes_path(annotation: Any) -> bool:
    return annotation is Path or any(_takes_path(part) for part in get_args(annotation))


SettingsType = TypeVar("SettingsType", bound=Settings)


def _none_word(value: Any) -> Any:
    return None if value == "none" else value


#: A privacy target: a positive number, or the word `none` for training without privacy.
EpsilonTarget = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_word)]

#: Clip norms that are of any use, and whose squares are far from the ends of float32.
LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-9, 1e9
ClipNorm = Annotated[float, Field(ge=LEAST_CLIP_NORM, le=MOST_CLIP_NORM)]


#: The largest seed: a stage adds small numbers to it, and torch takes 64 bits.
MOST_SEED = 2**63 - 1


def _is_a_seed(value: int) -> int:
    if not 0 <= value <= MOST_SEED:
        raise ValueError(f"a seed is a whole number from 0 to {MOST_SEED}")
    return value


#: What moves initialisation, splits of public sets and augmentation, and no noise.
Seed = Annotated[
    int,
    AfterValidator(_is_a_seed),
    InWords("whole number from 0 to 2^63 - 1", "whole numbers from 0 to 2^63 - 1"),
]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: Several names, of which one alone may stand without a list.
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class RiskTarget(Settings):
    """How many members an attacker may find at most, at a share of strangers falsely accused."""

    found: float = Field(gt=0, lt=1)
    """Share of the members that an attacker may find at most; above `false_alarms`, which guessing
    reaches.
    Example: 0.05
    """

    false_alarms: float = Field(gt=0, lt=1)
    """Share of strangers that the attacker falsely accuses meanwhile. Example: 0.01"""

    @model_validator(mode="after")
    def _more_than_chance(self) -> "RiskTarget":
        if self.found <= self.false_alarms:
            raise ValueError(
                f"found {self.found:g} is not above false_alarms {self.false_alarms:g}, which "
                "guessing reaches without the result; raise found"
            )
        return self

    def __str__(self) -> str:
        return (
            f"at most {100 * self.found:.12g} % of members found while "
            f"{100 * self.false_alarms:.12g} % of strangers are falsely accused"
        )


class PrivacySettings(Settings):
    """The promise that a run is asked to keep."""

    epsilon: EpsilonTarget = None
    """End-to-end target for each patient: what ancestors spent on the same patients is taken off
    first. `none`: the same recipe without privacy.
    Example: 6
    """

    delta: float = Field(default=1e-4, gt=0, lt=1)
    """The delta at which the epsilon holds; below 1 / `population`."""

    unit: Literal["patient", "image"] = "patient"
    """Whom the promise protects: a patient with all images, or a single image, which is weaker."""

    population: Annotated[int | None, BeforeValidator(_none_word)] = Field(default=None, ge=1)
    """Public round upper bound on the number of patients, such as 600; the true count is private.
    It alone enters the normaliser, the check of delta, and the odds.
    Example: 600
    """

    noise: Literal["philox", "shake256", "discrete"] = "shake256"
    """Generator of the noise: `shake256` is cryptographic, `philox` is none and faster; `discrete`
    is for heads, means and counts, not for the weights of a network.
    """

    fixed_noise_key: Annotated[int | None, BeforeValidator(_none_word)] = Field(default=None, ge=0)
    """Repeats the noise, for tests: whoever knows it can subtract it, so that nothing is promised
    (epsilon = inf).
    Example: 1
    """

    risk: Annotated[RiskTarget | None, BeforeValidator(_none_word), ADDED_LATER] = None
    """Another way to ask for a promise than `epsilon`: no attacker finds more than 5 % of members
    while 1 % of strangers are falsely accused.
    Example: {found: 0.05, false_alarms: 0.01}
    """

    images_per_patient: Annotated[int | None, BeforeValidator(_none_word), ADDED_LATER] = Field(
        default=None, ge=1
    )
    """With `unit: image`, how many images of a patient may be used; the rest stay out, and the
    statement then gives the epsilon of a patient too.
    Example: 4
    """

    @property
    def protects(self) -> bool:
        """Whether a promise is asked for, as an epsilon or as a risk."""
        return self.epsilon is not None or self.risk is not None

    @property
    def asked_by(self) -> str:
        """The setting by which a promise is asked for, or would be."""
        return "privacy.epsilon" if self.risk is None else "privacy.risk"

    @model_validator(mode="after")
    def _one_target(self) -> "PrivacySettings":
        if self.epsilon is not None and self.risk is not None:
            raise ValueError(
                "epsilon and risk both say how much may be spent; keep one, and set the other to "
                "none"
            )
        return self

    @model_validator(mode="after")
    def _patients_of_images(self) -> "PrivacySettings":
        if self.images_per_patient is not None and self.unit != "image":
            raise ValueError(
                "images_per_patient belongs to unit: image; with unit: patient all images of a "
                "patient are protected together, so leave it out"
            )
        return self

    @model_validator(mode="after")
    def _delta_is_small(self) -> "PrivacySettings":
        if self.population is not None and self.delta >= 1 / self.population:
            raise ValueError(
                f"delta {self.delta:g} is not below 1/population = {1 / self.population:.2g}: "
                "at that size, publishing one patient outright would be allowed; choose a "
                f"smaller delta, such as {10 ** -len(str(self.population)) / 10:g}"
            )
        return self

    def refuse_risk(self) -> None:
        """Refuse a risk where a grid of epsilons says what is asked for.

        Raises:
            ValueError: for the validator of a study's settings.
        """
        if self.risk is not None:
            raise ValueError(
                "privacy.risk is for a single run; a study asks for what its `epsilons` say, so "
                "leave it out (the statement of a run with that risk gives its epsilon)"
            )

    def refuse_discrete(self, trained: str) -> None:
        """Refuse discrete noise for the gradients of millions of weights.

        What it is off by from the Gaussian curve that is stated grows with them, and is not charged
        (`synthdp.privacy.noisy_sum.noise`): of 3.5 million weights up to 1.6e-6 of delta in each
        step, at a noise multiplier of 1.

        Raises:
            ValueError: for the validator of a stage's settings; `trained` names what they say.
        """
        if self.protects and self.noise == "discrete":
            raise ValueError(
                f"privacy.noise is discrete, but {trained} releases gradients of up to millions of "
                "weights, for which it is off the promised curve by more than may be passed over; "
                "set privacy.noise: shake256"
            )

    def refuse_missing_population(self) -> None:
        """Refuse an epsilon for patients of whose number nothing is declared.

        Raises:
            ValueError: for the validator of a stage's settings.
        """
        if self.protects and self.population is None:
            raise ValueError(
                "privacy.population is missing: a public round upper bound on the number of "
                "patients, such as 600 where there may be 550; the true count is private"
            )


class BackboneSettings(Settings):
    """A frozen public network of timm: its name, its weights, and the side of its input."""

    name: str = "vit_small_patch14_dinov2"
    """What timm calls the network."""

    weights: Annotated[Path | None, BeforeValidator(_none_word)] = None
    """A local file of its weights (with `sha256`); `hub`: timm downloads them, on request only;
    `none`: a random start.
    Example: hub
    """

    sha256: Annotated[str | None, BeforeValidator(_none_word)] = Field(
        default=None, pattern=r"^[0-9a-f]{64}$"
    )
    """SHA-256 of the file `weights`, 64 hexadecimal digits; another file is refused.
    Example: 0000000000000000000000000000000000000000000000000000000000000000
    """

    size_px: int = Field(default=126, ge=16, le=1024)
    """Side in pixels at which images enter the network."""


#: How many blocks, counted from the end, are trained; the final norm goes with the last block.
TrainableBlocks = Annotated[int, Field(ge=0)] | Literal["all"]
#: How what a layer gives is made one vector: the class token, the mean over places, the mean under
#: a window around the centre (where a patch holds its mass), the standard deviation over places.
Pool = Literal["class_token", "mean", "centre", "spread"]


#: Settings of features that came later, and stand nowhere while they are unset.
_LATER_FEATURE_KEYS = ("batch_norm", "axes", "slices", "slice_pool")


class FeatureSettings(BackboneSettings):
    """A network, and how features are read from it.

    Of what a public set says about a part (one layer, pooled one way), its mean is subtracted, then
    the part is whitened and scaled to norm 1.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Blocks of a transformer, or stages of a convolutional network, that features are read from,
    counted from 0; none: after the last one and its norm.
    Example: [5, 11]
    """

    pools: tuple[Pool, ...] = ()
    """How what a layer gives is made one vector: class token, mean over places, mean under a window
    around the centre (where a patch holds its mass), standard deviation over places. None: class
    token, if there is one, and mean.
    Example: [class_token, mean]
    """

    views: Literal[1, 2, 4, 8] = 1
    """Features are the mean over the first so many of the eight flips and quarter turns of an
    image.
    """

    intensity: Literal["as_is", "standardised"] = "as_is"
    """`standardised` gives each image the same mean and spread first."""

    whiten: float = Field(default=0.0, ge=0, le=1)
    """Power to which the covariance of a public set (`centre`) is divided out of the features: 0
    not at all, 1 wholly.
    """

    weight: float = Field(default=1.0, gt=0, le=100)
    """How many times this network's features count beside those of others."""

    channels: Literal[1, 3] = 3
    """1 builds a network for grey images, onto whose input the weights' three colours are summed.
    """

    precision: Literal["auto", "float32"] = "auto"
    """`auto` multiplies in bfloat16 where the hardware does."""

    batch_norm: Literal["frozen"] | None = None
    """`frozen` lets a network with BatchNorm be trained: its norms keep the statistics that the
    public weights fixed, and never see those of patients. Without it such a network is refused.
    Example: frozen
    """

    axes: tuple[Literal[0, 1, 2], ...] | None = Field(default=None, min_length=1, max_length=3)
    """Of volumes, along which axes the network sees slices: 0 across the stored slices, 1 across
    rows, 2 across columns. Not set for flat images.
    Example: [0, 1, 2]
    """

    slices: int | None = Field(default=None, ge=1, le=1024)
    """Of volumes, how many slices along each axis, evenly spaced; 16 when not set, and all where
    there are fewer.
    Example: 8
    """

    slice_pool: Literal["mean", "max", "attention"] | None = None
    """Of volumes, how what the network gives for slices becomes one vector: their mean when not
    set, the greatest value of each, or a mean whose weights are learned, in a network that is
    trained whole.
    Example: max
    """

    @model_validator(mode="after")
    def _slices_have_axes(self) -> "FeatureSettings":
        if self.axes is None and (self.slices is not None or self.slice_pool is not None):
            raise ValueError("backbone.slices, slice_pool: are of volumes; name their axes too")
        if self.axes is not None and list(self.axes) != sorted(set(self.axes)):
            raise ValueError("backbone.axes: name each axis once, in rising order")
        return self

    @model_validator(mode="after")
    def _layers_and_pools_are_in_order(self) -> "FeatureSettings":
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("backbone.layers: name each layer once, in rising order")
        if len(set(self.pools)) != len(self.pools):
            raise ValueError("backbone.pools: a way of pooling stands twice; keep one")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later keys where they are unset: names of folders are hashes of this."""
        values: dict[str, Any] = handler(self)
        unset = [name for name in _LATER_FEATURE_KEYS if values.get(name, "") is None]
        return {name: value for name, value in values.items() if name not in unset}


class ExportModelSettings(Settings):
    """The export-model stage: a classifier or a generator as one file that runs without synthdp."""

    run: Path
    """A finished run of a classifier or a generator, or `pretrained:NAME`. Example: runs/dp"""

    out: Path
    """The folder of the file, which is made. Example: exported/dp"""

    format: Literal["onnx", "torch-export"] = "onnx"
    """`onnx` needs the extra of that name; `torch-export` is read by torch alone."""

    size_px: int | None = Field(default=None, ge=8, le=4096)
    """Side of the images that a classifier's file takes; when not set that of its largest network,
    or of its training's images, where it knows that (of several targets, or of volumes). With the
    side of the images that it was trained on, scores are those of `synthdp predict`.
    Example: 128
    """

    yes_without_protection: bool = False
    """The model may leave although its epsilon is infinite, as for a release."""


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


def apply_overrides(
    values: Mapping[str, Any], overrides: Sequence[str], cls: type[BaseModel] | None = None
) -> dict[str, Any]:
    """Return `values` with each `a.b=value` of `overrides` put in its place, read by its type.

    Args:
        values: of a settings file.
        overrides: what the command line says; no two of them may be about one setting.
        cls: declares the types of settings (`synthdp.config.typed_values`); None where they are
        unknown.

    Raises:
        InputError: with every override at once that is no `key=value`, is empty, is about a setting
            that another one is about, would drop settings of the file unseen, or goes through
            something that has no keys.
    """
    merged: dict[str, Any] = _copied(values)
    problems = [problem for word in overrides if (problem := syntax_problem(word)) is not None]
    pairs = [word.partition("=")[::2] for word in overrides if syntax_problem(word) is None]
    problems += _said_twice([key for key, _ in pairs])
    for key, text in () if problems else pairs:
        try:
            value = read_value(cls, key, text)
            _put(merged, key, value, drops=cls is None or not is_section(cls, key))
        except InputError as error:
            problems.append(str(error))
    if problems:
        raise InputError("\n".join(problems))
    return merged


def _said_twice(keys: Sequence[str]) -> list[str]:
    """A line for each key that stands twice, or inside another one."""
    counts = Counter(keys)
    lines = [f"{key}: given {count} times; keep one" for key, count in counts.items() if count > 1]
    for key in counts:
        above = [whole for whole in counts if key.startswith(f"{whole}.")]
        lines += [f"{key}: {whole} is given as a whole too; keep one" for whole in above]
    return lines


def _put(values: dict[str, Any], key: str, value: Any, *, drops: bool) -> None:
    """Put a value at a dotted key; unless it `drops` what is there, every key there stays one."""
    *parents, last = key.split(".")
    level = values
    for parent in parents:
        level = level.setdefault(parent, {})
        if not isinstance(level, dict):
            raise InputError(f"{key}: {parent} is a single value and has no keys of its own")
    before = level.get(last)
    if not drops and isinstance(before, Mapping) and isinstance(value, Mapping):
        lost = [f"{key}.{name}" for name in before if name not in value]
        if lost:
            raise InputError(
                f"{key}: would drop {', '.join(lost)} of the settings file; override single keys, "
                f"as in {key}.{next(iter(value), 'key')}=..., or name all of them"
            )
    level[last] = value


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


def read_settings(cls: type[BaseModel], path: Path) -> Mapping[str, Any]:
    """Read a file that holds settings of type `cls`, as plain values that are not checked yet.

    Raises:
        InputError: when it is missing, too large or no mapping, or with every value at once that is
            not written as its setting asks (`synthdp.config.typed_values`).
    """
    problems: list[str] = []
    values = read_yaml(path, prepare=typing(cls, problems))
    if problems:
        raise InputError("\n".join([f"{path}:", *(f"  {problem}" for problem in problems)]))
    return values


def load_settings(
    cls: type[SettingsType],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    beneath: Path | None = None,
) -> SettingsType:
    """Read settings of type `cls` from `path` and `overrides`.

    Args:
        cls: of the settings.
        path: of a settings file, the name of one that comes with synthdp, or None.
        overrides: what the command line says.
        beneath: a settings file whose keys count where neither `path` nor `overrides` has them.

    Raises:
        InputError: with every error at once, each on its line.
    """
    values: dict[str, Any] = {}
    for file in (beneath, path):
        values |= read_settings(cls, config_file(file)) if file is not None else {}
    merged = apply_overrides(values, overrides, cls)
    return validate_settings(cls, merged, where=str(path) if path else "settings")


def validate_settings(
    cls: type[SettingsType], values: Mapping[str, Any], *, where: str
) -> SettingsType:
    """Build `cls` from plain values.

    Raises:
        InputError: with every error at once, each on its line.
    """
    try:
        return cls.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines = [_explained(cls, dict(detail)) for detail in details[:MAX_LISTED]]
        if len(details) > MAX_LISTED:
            lines.append(f"... and {len(details) - MAX_LISTED} more")
        raise InputError("\n".join([f"{where}:", *(f"  {line}" for line in lines)])) from None


def read_json_as(cls: type[SettingsType], path: Path, *, where: str = "") -> SettingsType:
    """Read a JSON file that holds a `cls`.

    Args:
        cls: what it is to hold.
        path: the file.
        where: what the error calls it; the names of its folder and file when empty.

    Raises:
        InputError: when it is missing, not JSON within the bounds of `read_json`, or no `cls`:
            with every error at once, each on its line.
    """
    where = where or f"{path.parent.name}/{path.name}"
    return validate_settings(cls, read_json(path), where=where)


def _explained(cls: type[BaseModel], detail: Mapping[str, Any]) -> str:
    location = ".".join(
        str(part) if str(part).isidentifier() or isinstance(part, int) else quoted(part)
        for part in detail["loc"]
    )
    if detail["type"] == "extra_forbidden":
        *parents, last = detail["loc"]
        known = _keys_at(cls, parents)
        close = difflib.get_close_matches(str(last)[:MAX_QUOTED_CHARS], known, n=1)
        hint = f", did you mean {close[0]}?" if close else f" (known: {', '.join(known)})"
        return f"{location}: unknown key{hint}"
    if detail["type"] == "missing":
        return f"{location}: missing; set it in the file or on the command line"
    message = str(detail["msg"]).removeprefix("Value error, ")[:MAX_MESSAGE_CHARS]
    shown = detail.get("input")
    simple = isinstance(shown, str | int | float | bool)
    return f"{location or 'settings'}: {message}" + (f" (got {quoted(shown)})" if simple else "")


def _keys_at(cls: type[BaseModel], parents: Sequence[int | str]) -> list[str]:
    """Names of the keys that the settings below `parents` know."""
    level: type[BaseModel] | None = cls
    for parent in parents:
        field = level.model_fields.get(str(parent)) if level is not None else None
        if field is not None:
            level = _settings_in(field.annotation)
    return sorted(level.model_fields) if level is not None else []


def _settings_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, UnionType, Annotated, tuple, list, dict):
        parts = (_settings_in(part) for part in get_args(annotation))
        return next((part for part in parts if part is not None), None)
    return None


def dump_settings(settings: Settings) -> str:
    """The settings as YAML that `load_settings` reads back."""
    return dump_yaml(settings.model_dump(mode="json"))

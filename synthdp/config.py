"""Frozen typed settings: YAML files and `key=value` overrides, every error at once."""

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from synthdp.errors import InputError
from synthdp.files import MAX_DEPTH, MAX_DIGITS, read_json, read_text

#: Bounds of a settings file: its size, and its values once every alias stands for what it names.
MAX_SETTINGS_BYTES = 2**17
MAX_SETTINGS_VALUES = 2**17
#: What an error lists and quotes at most.
MAX_LISTED = 50
MAX_QUOTED_CHARS = 100
MAX_MESSAGE_CHARS = 500
#: The longest name of a file or folder, and the longest path, that file systems take.
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
#: Marks a setting, in `Annotated`, that came after the first studies: while it is None, the names
#: of run folders (`synthdp.runs.StageCall`) are what they were without it.
ADDED_LATER = "added later"


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and info.field_name is not None:
            annotation = cls.model_fields[info.field_name].annotation
            if not _takes_bool(annotation):
                raise ValueError("true and false (also yes, no, on, off) are no value for this key")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _paths_can_be_looked_up(cls, value: Any) -> Any:
        if isinstance(value, Path) and _is_too_long(value):
            raise ValueError("a path that is too long for a file system")
        return value


def _is_too_long(path: Path) -> bool:
    longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    return longest > MAX_NAME_BYTES or len(os.fsencode(path)) > MAX_PATH_BYTES


def _takes_bool(annotation: Any) -> bool:
    if annotation in (bool, Any) or isinstance(annotation, TypeVar):
        return True
    return any(part is True or _takes_bool(part) for part in get_args(annotation))


SettingsType = TypeVar("SettingsType", bound=Settings)


def _none_word(value: Any) -> Any:
    return None if isinstance(value, str) and value.lower() in ("none", "null") else value


#: A privacy target: a positive number, or the word `none` for training without privacy.
EpsilonTarget = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_none_word)]

#: Clip norms that are of any use, and whose squares are far from the ends of float32.
LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-9, 1e9
ClipNorm = Annotated[float, Field(ge=LEAST_CLIP_NORM, le=MOST_CLIP_NORM)]


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


#: Several names, of which one alone may stand without a list.
Names = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]


class RiskTarget(Settings):
    """How many members an attacker may find at most, at a share of strangers falsely accused."""

    found: float = Field(gt=0, lt=1)
    false_alarms: float = Field(gt=0, lt=1)

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
    """The promise that a run is asked to keep.

    `epsilon` is the end-to-end target for each unit; `risk` is another way to ask for one, such as
    `{found: 0.05, false_alarms: 0.01}`: no attacker finds more than 5 % of members while 1 % of
    strangers are falsely accused. `population` is a public round upper bound on
    the number of patients: it alone enters the normaliser, the check of delta, and the odds. Where
    `unit` is image, `images_per_patient` declares how many images of a patient may be used: the
    rest stay out, and the statement then gives the epsilon of a patient too.
    `noise` names the generator (`synthdp.privacy.noise`); `discrete` is for heads, means and
    counts, not for weights of a network. A `fixed_noise_key` repeats the noise, for tests: whoever
    knows it can subtract it, so that nothing is promised (epsilon = inf).
    """

    epsilon: EpsilonTarget = None
    delta: float = Field(default=1e-4, gt=0, lt=1)
    unit: Literal["patient", "image"] = "patient"
    population: Annotated[int | None, BeforeValidator(_none_word)] = Field(default=None, ge=1)
    noise: Literal["philox", "shake256", "discrete"] = "shake256"
    fixed_noise_key: Annotated[int | None, BeforeValidator(_none_word)] = Field(default=None, ge=0)
    risk: Annotated[RiskTarget | None, BeforeValidator(_none_word), ADDED_LATER] = None
    images_per_patient: Annotated[int | None, BeforeValidator(_none_word), ADDED_LATER] = Field(
        default=None, ge=1
    )

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
        (`synthdp.privacy.noise`): of 3.5 million weights up to 1.6e-6 of delta in each step, at a
        noise multiplier of 1.

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
                "patients, such as 600 for CBIS-DDSM; the true count is private"
            )


class BackboneSettings(Settings):
    """A timm transformer: its name, where its weights come from, and its input side in pixels.

    `weights` is a local file (with `sha256`), the word `hub` (downloads by timm, on request
    only), or `none` for a random start.
    """

    name: str = "vit_small_patch14_dinov2"
    weights: Annotated[Path | None, BeforeValidator(_none_word)] = None
    sha256: Annotated[str | None, BeforeValidator(_none_word)] = Field(
        default=None, pattern=r"^[0-9a-f]{64}$"
    )
    size_px: int = Field(default=126, ge=16, le=1024)


#: How many blocks, counted from the end, are trained; the final norm goes with the last block.
TrainableBlocks = Annotated[int, Field(ge=0)] | Literal["all"]
#: How what a layer gives is made one vector: the class token, the mean over places, the mean under
#: a window around the centre (where a patch holds its mass), the standard deviation over places.
Pool = Literal["class_token", "mean", "centre", "spread"]


class FeatureSettings(BackboneSettings):
    """A network, and how features are read from it.

    `layers` are blocks of a transformer or stages of a convolutional network, counted from 0;
    without any, features are read after the last one and its norm. Each is pooled in each way of
    `pools` (by default the class token, if there is one, and the mean). Features are the mean over
    the first `views` of the eight flips and quarter turns of an image. `intensity: standardised`
    gives each image the same mean and spread first. Of what a public set says about a part (one
    layer, pooled one way), its mean is subtracted, and `whiten` is the power to which its
    covariance is divided out, from 0 to 1; the part, scaled to norm 1, counts `weight` times.
    `channels: 1` builds a network for grey images, onto whose input the weights' three colours are
    summed. `precision: auto` multiplies in bfloat16 where the hardware does.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    pools: tuple[Pool, ...] = ()
    views: Literal[1, 2, 4, 8] = 1
    intensity: Literal["as_is", "standardised"] = "as_is"
    whiten: float = Field(default=0.0, ge=0, le=1)
    weight: float = Field(default=1.0, gt=0, le=100)
    channels: Literal[1, 3] = 3
    precision: Literal["auto", "float32"] = "auto"

    @model_validator(mode="after")
    def _layers_and_pools_are_in_order(self) -> "FeatureSettings":
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("backbone.layers: name each layer once, in rising order")
        if len(set(self.pools)) != len(self.pools):
            raise ValueError("backbone.pools: a way of pooling stands twice; keep one")
        return self


class AuditSettings(Settings):
    """The audit stage: attacks on a finished run that has an epsilon.

    `seed` moves all of it, its noise too: nothing that it trains leaves the house. Bounds are
    stated at `confidence`; a sound training is called broken in fewer than `false_alarms` of
    audits. Beside made-up and the worst patients, the replay leaves out `replayed` at random, for
    the first `replayed_steps` of a network's training and for all of a head's. `canaries` stand in
    one training; `runs` trainings on up to 100 patients, projected to `dimensions`, have a
    worst-case patient or not; `shadows` heads, or releases, are made of halves.
    """

    run: Path
    seed: int = Field(default=0, ge=0)
    confidence: float = Field(default=0.99, ge=0.5, lt=1)
    false_alarms: float = Field(default=1e-3, gt=0, le=0.1)
    replayed: int = Field(default=3, ge=0, le=10_000)
    replayed_steps: int = Field(default=3, ge=1, le=10_000)
    canaries: int = Field(default=1000, ge=10, le=100_000)
    runs: int = Field(default=600, ge=20, le=100_000)
    dimensions: int = Field(default=8, ge=1)
    shadows: int = Field(default=64, ge=4, le=10_000, multiple_of=2)
    workers: int = Field(default=2, ge=1, le=256)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 reads 1e-4 as a string, and takes the last of two equal keys; this one doesn't."""

    def get_single_data(self) -> Any:
        """The document's value; aliases that stand for too much are refused before it is built."""
        node = self.get_single_node()
        if node is None:
            return None
        self._refuse_large(node)
        return self.construct_document(node)

    def _refuse_large(self, root: yaml.Node) -> None:
        """Refuse a node that holds itself, or holds too many values when aliases are followed."""
        counts: dict[int, int] = {}  # of values below a node, which an alias may name again

        def counted(node: yaml.Node, depth: int) -> int:
            if depth > MAX_DEPTH:
                problem = f"nested too deeply, more than {MAX_DEPTH} levels"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            known = counts.get(id(node))
            if known == 0:
                problem = "an alias stands inside what it names"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            if known is None:
                counts[id(node)] = 0
                known = counts[id(node)] = 1 + sum(
                    counted(child, depth + 1) for child in _children(node)
                )
            if known > MAX_SETTINGS_VALUES:
                problem = f"aliases make more than {MAX_SETTINGS_VALUES:,} values of this"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
            return known

        counted(root, 0)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                problem = "a key is a list or a mapping; write a word"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                problem = f"the key {quoted(key.value)} stands twice; keep one"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        number = node.tag.endswith((":int", ":float"))
        if isinstance(value, str) and ("\0" in value or (number and len(value) > MAX_DIGITS)):
            problem = f"a number of more than {MAX_DIGITS} digits" if number else "a character NUL"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return value


def _children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes right below one."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str, *, where: str) -> Any:
    """Parse YAML safely; `where` names the source in the error.

    Raises:
        InputError: when the text is not YAML.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (_Loader is a SafeLoader)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply for a settings file") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "not valid YAML"
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise InputError(f"{where}{line}: {problem}") from error
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        # what PyYAML's own readers of dates, numbers and bytes let through
        raise InputError(
            f"{where}: a value is not of the kind that it is written as, such as a date that no "
            "calendar has; put it in quotes if it is a word"
        ) from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """Read a settings file: one YAML mapping.

    Raises:
        InputError: when the file is missing, too large, or no mapping.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such settings file")
    text = read_text(path, MAX_SETTINGS_BYTES, where=str(path))
    content = parse_yaml(text, where=str(path))
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: a settings file holds `key: value` lines at its top level")
    return content


def apply_overrides(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return `values` with each `a.b=value` of `overrides` put in its place.

    Raises:
        InputError: when an override has no `=`, or goes through something that has no keys.
    """
    merged: dict[str, Any] = _copied(values)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"{override!r}: an override is written key=value, as in seed=3")
        *parents, last = key.split(".")
        level = merged
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise InputError(f"{key}: {parent} is a single value and has no keys of its own")
        level[last] = parse_yaml(text, where=key)
    return merged


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, Mapping) else v for k, v in values.items()}


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
        path: of a settings file, or None.
        overrides: what the command line says.
        beneath: a settings file whose keys count where neither `path` nor `overrides` has them.

    Raises:
        InputError: with every error at once, each on its line.
    """
    values: dict[str, Any] = {}
    for file in (beneath, path):
        values |= read_yaml(file) if file is not None else {}
    return validate_settings(
        cls, apply_overrides(values, overrides), where=str(path) if path else "settings"
    )


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


def quoted(value: object) -> str:
    """A value as an error shows it: on one line, cut, without control characters."""
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= MAX_QUOTED_CHARS else f"{shown[:MAX_QUOTED_CHARS]}..."


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
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)

"""What a data-protection officer gets in hand: the shape of a dossier, for pages and programs.

Three texts say what such a file holds, and each line names those that ask for it:

- NIST SP 800-226 (March 2025): a pyramid, in which each layer rests on those below it. Epsilon and
  unit (section 2), algorithms, utility and bias (section 3), trust, side channels, access and the
  exposure of data collection (section 4).
- EDPB opinion 28/2024: what shows that a model is anonymous. Its design, an analysis of it, tests
  against attacks (paragraph 55), and documents of all of these.
- the deployment registry of OpenDP: a record of flavour, unit, parameters, and how they are kept.

A dossier says what commands wrote down. Where none did, it says so; what only the controller knows
stays a marked blank.
"""

import json
from importlib.resources import files
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, WithJsonSchema

from synthdp.config.settings import Settings
from synthdp.privacy.lineage import Spent
from synthdp.privacy.promise.statement import Statement
from synthdp.privacy.units import Unit

SCHEMA_VERSION: Literal[1] = 1
SCHEMA_FILE = "dossier.schema.json"
#: In the place of words that only the controller knows.
TO_FILL_IN = "for the controller to fill in"
#: What exact figures of patients a dossier may show, when it is asked to by name.
Shown: TypeAlias = Literal["attacks", "utility", "counts"]
#: stated: a command or a record says so; not run: a command would; blank: the controller knows.
State: TypeAlias = Literal["stated", "not run", "blank"]

_ANY_STATEMENT = {
    "type": "object",
    "description": "The statement, as privacy.json holds it; its schema_version is its own.",
    "required": ["schema_version", "subject", "epsilon", "delta", "unit", "odds", "not_covered"],
}


class Line(Settings):
    """One thing that is asked for, and what is known of it.

    asks: in a few words; texts: who asks, by section; says: what is known, empty for a blank;
    source: the file or command that says so.
    """

    key: str
    asks: str
    texts: tuple[str, ...] = ()
    state: State = "stated"
    says: str = ""
    source: str = ""


class Layer(Settings):
    """Lines that belong together: a layer of NIST's pyramid, or the documents beneath it."""

    key: str
    title: str
    about: str = ""
    lines: tuple[Line, ...]


class AttackFigure(Settings):
    """An exact figure of an attack: outside every promise, and shown where that is asked for.

    low, high: its interval; promised: at most, by the promise; is_share: of 1, else a number such
    as an epsilon.
    """

    name: str
    value: Spent | float | None
    low: float | None = None
    high: float | None = None
    promised: Spent | None = None
    is_share: bool = False


class AttackTest(Settings):
    """One attack that was run: by which command, when, how far, and how it ended.

    result: held or BROKEN for an attack that is held against a promise; measured for one that gives
    figures alone.
    """

    command: str
    attack: str
    date: str = ""
    version: str = ""
    extent: str
    result: Literal["held", "BROKEN", "measured"]
    words: str
    figures: tuple[AttackFigure, ...] = ()


class AttackKind(Settings):
    """A kind of attack: at most how far it can come, and what was run of it."""

    kind: str
    texts: tuple[str, ...]
    bound: str
    tests: tuple[AttackTest, ...] = ()
    not_run: str = ""


class GroupFigure(Settings):
    """A figure of one group of those who were scored; `group` is empty for all of them.

    model: which one, where there are several; n_patients where counts were asked for.
    """

    model: str = ""
    target: str
    attribute: str = ""
    group: str = ""
    measure: str
    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None
    n_patients: int | None = None
    note: str = ""


class Utility(Settings):
    """How well it does on one split of a set, and for whom.

    of_patients: whether the figures are exact functions of patients, so that they stand outside
    every promise; attributes: by which columns groups were judged.
    """

    data_set: str
    split: str
    of_patients: bool
    attributes: tuple[str, ...] = ()
    words: str
    figures: tuple[GroupFigure, ...] = ()


class Variant(Settings):
    """The flavour of differential privacy, as the registry asks for it."""

    variant_name: str
    variant_name_details: str
    data_domain: str
    unprotected_quantities: str


class PrivacyParameters(Settings):
    """The numbers of the promise, as the registry names them."""

    epsilon: Spent
    delta: float


class RegistryLoss(Settings):
    """Unit and parameters, as the registry asks for them."""

    privacy_unit: Unit
    privacy_unit_details: str
    privacy_parameters: PrivacyParameters
    privacy_parameters_details: str


class DeploymentModel(Settings):
    """Who trusts whom, and what is given out, as the registry asks for it."""

    model_name: Literal["Central"] = "Central"
    model_name_details: str
    trust_assumptions: str
    actors: str
    release_type: str
    data_source_type: str
    access_type: str


class Implementation(Settings):
    """How the promise is kept, as the registry asks for it; `justification` is the rationale."""

    preprocessing_and_hyperparameter_tuning: str
    mechanisms: str
    composition: str
    post_processing: str
    justification: str
    utility: str


class Registry(Settings):
    """A draft of a record in OpenDP's deployment registry, under its names."""

    dp_variant: Variant
    privacy_loss: RegistryLoss
    deployment_model: DeploymentModel
    implementation: Implementation


class DossierSubject(Settings):
    """What the dossier is about, by names that may be public."""

    kind: Literal["run", "study", "data set"]
    stage: str
    name: str
    title: str = ""
    versions: dict[str, str] = Field(default_factory=dict)


class Dossier(Settings):
    """All that a dossier says; `dossier.json` holds it, and the page shows it.

    shown: the exact figures of patients that it was asked to show; controller: the blanks.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    made_by: str
    date: str
    subject: DossierSubject
    statement: Annotated[Statement, WithJsonSchema(_ANY_STATEMENT)]
    shown: tuple[Shown, ...] = ()
    layers: tuple[Layer, ...]
    attacks: tuple[AttackKind, ...]
    utility: tuple[Utility, ...] = ()
    registry: Registry
    controller: tuple[Line, ...]

    @property
    def broken(self) -> bool:
        """Whether an attack showed that the promise does not hold."""
        return any(test.result == "BROKEN" for attack in self.attacks for test in attack.tests)


def dossier_schema() -> dict[str, Any]:
    """The JSON schema of `dossier.json`, as the package publishes it."""
    text = (files("synthdp.privacy.promise") / SCHEMA_FILE).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def derived_schema() -> dict[str, Any]:
    """The JSON schema of `Dossier` as it stands; a test holds the published one against it."""
    schema = Dossier.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}

"""The promise that a run is asked to keep: epsilon or risk, delta, whom it protects, its noise."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from synthdp.config.settings import ADDED_LATER, NONE_WORD, Settings

#: A privacy target: a positive number, or the word `none` for training without privacy.
EpsilonTarget = Annotated[Annotated[float, Field(gt=0)] | None, NONE_WORD]

#: Clip norms that are of any use, and whose squares are far from the ends of float32.
LEAST_CLIP_NORM, MOST_CLIP_NORM = 1e-9, 1e9
ClipNorm = Annotated[float, Field(ge=LEAST_CLIP_NORM, le=MOST_CLIP_NORM)]


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

    population: Annotated[int | None, NONE_WORD] = Field(default=None, ge=1)
    """Public round upper bound on the number of patients, such as 600; the true count is private.
    It alone enters the normaliser, the check of delta, and the odds.
    Example: 600
    """

    noise: Literal["philox", "shake256", "discrete"] = "shake256"
    """Generator of the noise: `shake256` is cryptographic, `philox` is none and faster; `discrete`
    is for heads, means and counts, not for the weights of a network.
    """

    fixed_noise_key: Annotated[int | None, NONE_WORD] = Field(default=None, ge=0)
    """Repeats the noise, for tests: whoever knows it can subtract it, so that nothing is promised
    (epsilon = inf).
    Example: 1
    """

    risk: Annotated[RiskTarget | None, NONE_WORD, ADDED_LATER] = None
    """Another way to ask for a promise than `epsilon`: no attacker finds more than 5 % of members
    while 1 % of strangers are falsely accused.
    Example: {found: 0.05, false_alarms: 0.01}
    """

    images_per_patient: Annotated[int | None, NONE_WORD, ADDED_LATER] = Field(default=None, ge=1)
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

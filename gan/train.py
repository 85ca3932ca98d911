"""Training a generator, as a stage: adversarially, without privacy, or by one of the private ways.

`METHODS` names them: each (`gan.methods`) gives the trained generator and what it spent of the
planned release. The algorithms themselves are `gan.training.loop`, `gan.private.embedding`,
`gan.private.selection` and `gan.private.dp_discriminator`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gan.methods.adversarial import train_without_privacy
from gan.methods.dp_discriminator import train_against_private_discriminator
from gan.methods.embedding import train_on_embedding
from gan.methods.selection import bank_shape, select_from_pool
from gan.network.bank import Bank
from gan.network.generator import Generator
from gan.package.description import AnyShape, Description
from gan.package.model import write_generator
from gan.package.networks import TrainedGenerator
from gan.package.pretrained import resolve_run
from gan.plans.train import GanPlan, gan_plan
from gan.settings.train import TrainGanSettings
from synthdp.data.description import DatasetInfo
from synthdp.privacy.lineage import Release
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import model_card
from synthdp.runs.folder import Run, open_run
from synthdp.runs.tracking import names_to_send

STAGE = "train-gan"
METHODS: Mapping[
    str, Callable[[TrainGanSettings, Run, GanPlan], tuple[TrainedGenerator | Bank, Release]]
] = {
    "adversarial": train_without_privacy,
    "embedding": train_on_embedding,
    "selection": select_from_pool,
    "dp_discriminator": train_against_private_discriminator,
}


def run_train_gan(settings: TrainGanSettings) -> Path:
    """Train the generator, or resume its training, or return at once; gives the run folder.

    Raises:
        InputError: when the data set cannot be used, or the folder holds something else.
        RunError: when the training diverges.
    """
    plan = None
    if not (settings.out / "status.json").is_file():
        plan = _allowed_plan(settings)  # what does not fit is refused before a folder is made
    with open_run(settings.out, STAGE, settings, resolve=resolve_run) as run:
        if not run.finished:
            plan = plan or _allowed_plan(settings)
            plan = replace(plan, privacy=plan.privacy.with_release_id(run.release_id))
            run.names_to_send = names_to_send(plan.privacy)
            generator, spent = METHODS[settings.method](settings, run, plan)
            _finish(run, generator, settings, plan, spent)
    return settings.out


def _allowed_plan(settings: TrainGanSettings) -> GanPlan:
    """The plan of a run that the set's budget allows."""
    plan = gan_plan(settings)
    plan.privacy.refuse_overspent(settings.out)
    return plan


def _finish(
    run: Run,
    generator: TrainedGenerator | Bank,
    settings: TrainGanSettings,
    plan: GanPlan,
    spent: Release,
) -> None:
    info = plan.privacy.dataset.info
    shape: AnyShape
    if isinstance(generator, Bank):
        shape = bank_shape(settings, plan.conditions)
    else:
        shape = settings.shape(plan.conditions)
        if isinstance(generator, Generator) and generator.film is not None:
            shape = shape.model_copy(update={"film": True})
    target = "" if len(plan.targets) > 1 else next(iter(plan.targets))
    description = Description(shape, target, info.name)
    write_generator(run.path, generator.state_dict(), description)
    statement = plan.privacy.statement_after(spent)
    run.finish(statement, _card(settings, info, description, statement))


_NO_DISCRIMINATOR = "Its discriminator is not part of it."
#: What the card says of each method.
_CARD_WORDS = {
    "adversarial": _NO_DISCRIMINATOR,
    "embedding": "It saw patients through one noisy mean of public features alone.",
    "selection": (
        "It draws among images that were kept of a public pool, which cost nothing; it saw "
        "patients through one noisy mean of public features alone, by which the pool was weighted."
    ),
    "selection, conditions": (
        " What is drawn beside the class is what the pool's images are labelled with, as often as "
        "public shares say: of patients none of it was read, so it tells nothing of theirs."
    ),
    "selection, released conditions": (
        " What is drawn beside the class is what the pool's images are labelled with, as often as "
        "public shares say; how images of each value look is part of that same release of "
        "patients."
    ),
    "dp_discriminator": (
        "EXPERIMENTAL: it learned from a discriminator that was trained on patients by DP-SGD. "
        f"{_NO_DISCRIMINATOR}"
    ),
}


#: The settings that a selection reads; all others are of networks and their training.
_OF_A_SELECTION = (
    *("seed", "method", "privacy", "class_prior", "selection", "cohort", "leave_out", "share"),
    *("targets", "conditions", "condition_prior", "size_px"),
)


def _card(
    settings: TrainGanSettings, info: DatasetInfo, description: Description, statement: Statement
) -> str:
    """The card of a trained generator; of files and folders it gives the names alone."""
    given = f", of given {', '.join(settings.conditions)}" if settings.conditions else ""
    film = (
        " Its opaque marks and grain come from a formula, not a network." if settings.film else ""
    )
    of_conditions = ""
    if settings.method == "selection" and settings.conditions:
        released = "released " if settings.releases_conditions else ""
        of_conditions = _CARD_WORDS[f"selection, {released}conditions"]
    unused = {"dp_discriminator", "embedding", "selection"} - {settings.method}
    facts = settings.model_dump(exclude={"data", "out", "device", *unused})
    if settings.method == "selection":
        facts = {name: value for name, value in facts.items() if name in _OF_A_SELECTION}
    return model_card(
        title=f"Conditional generator of {settings.size_px} px patches",
        summary=(
            f"Draws grey {settings.size_px} px patches with {description.classes_in_words}{given}. "
            f"It was trained on the train split of {info.name!r} ({info.kind}). `synthdp generate` "
            f"makes a data set with it. {_CARD_WORDS[settings.method]}{of_conditions}{film}"
        ),
        statement=statement,
        settings={name: _names_alone(value) for name, value in facts.items()},
    )


def _names_alone(value: Any) -> Any:
    """A setting, or settings, with each path cut to its name."""
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {name: _names_alone(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_names_alone(part) for part in value]
    return value

"""Joining finished generators into one that draws from each as often, as a stage."""

from pathlib import Path

import torch

from gan.package.model import load_opened, write_generator
from gan.package.pretrained import resolve_run
from gan.plans.generators import mixture_plan
from gan.settings.finished import MixGeneratorsSettings
from synthdp.runs.cards import model_card
from synthdp.runs.folder import open_run

STAGE = "mix-generators"


def run_mix_generators(settings: MixGeneratorsSettings) -> Path:
    """Write a finished run whose model is the mixture, or return at once.

    Raises:
        InputError: as `plan_mix_generators`, or when `out` holds something else.
    """
    begun = (settings.out / "status.json").is_file()
    # What does not fit is refused before a folder is made; a finished run needs no plan.
    planned = None if begun else mixture_plan(settings.runs)
    with open_run(settings.out, STAGE, settings, resolve=resolve_run) as run:
        if run.finished:
            return run.path
        members, description, statement = planned or mixture_plan(settings.runs)
        size_px = description.shape.size_px
        weights: dict[str, torch.Tensor] = {}
        for index, member in enumerate(members):
            state = load_opened(member, torch.device("cpu")).state_dict()
            weights |= {f"members.{index}.{name}": tensor for name, tensor in state.items()}
        write_generator(run.path, weights, description)
        card = model_card(
            title=f"Conditional generator of {size_px} px patches",
            summary=(
                f"Draws grey {size_px} px patches with {description.classes_in_words}. "
                f"It is a mixture of {len(members)} generators, trained on the train "
                f"split of {description.data!r}, each of which draws as often. `synthdp generate` "
                "makes a data set with it."
            ),
            statement=statement,
            settings={"members": description.as_json()["members"]},
        )
        run.finish(statement, card)
    return settings.out

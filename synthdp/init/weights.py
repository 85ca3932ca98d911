"""Where the weights of the public networks come from that the written settings name."""

from pathlib import Path

from synthdp.config.packaged import packaged_config
from synthdp.config.settings import load_settings
from synthdp.errors import InputError, quoted
from synthdp.init.asking import Ask
from synthdp.networks.public.weight_files import VARIABLE, found_weights
from synthdp.stages import STAGES

_WAYS = (
    "hub (timm downloads its own, once), a folder where they stand, or none (networks that start "
    "at random, to try things out)"
)


def chosen_weights(given: str | None, ask: Ask | None, study: str) -> str:
    """`found`, `hub`, `none` or a folder: as given, or asked for where they are not found.

    Args:
        given: on the command line.
        ask: at a terminal.
        study: the packaged settings that name the networks.

    Raises:
        InputError: when they are on no path that is searched, and nobody can be asked.
    """
    weights = "found" if given is None else given
    missing = _missing(weights, study)
    while missing and given is None and ask is not None:
        weights = ask(f"Public weights of {missing} are not there: {_WAYS}", "hub").strip()
        missing = _missing(weights, study)
    if missing:
        where = "" if weights == "found" else f" in {quoted(weights)}"
        raise InputError(
            f"--weights: public weights of {missing} are not on this machine{where}; say --weights "
            "hub (timm downloads its own, once), --weights FOLDER where they stand, or --weights "
            f"none (networks that start at random, to try things out); {VARIABLE} names folders too"
        )
    return weights if weights in ("found", "hub", "none") else str(Path(weights).resolve())


def _missing(weights: str, study: str) -> str:
    """The networks whose files are not there, by their names."""
    if weights in ("hub", "none"):
        return ""
    settings = load_settings(STAGES["study"].settings_class(), packaged_config(study))
    networks = (settings.backbone, *settings.beside)  # type: ignore[attr-defined]
    if weights == "found":
        return ", ".join(one.name for one in networks if found_weights(one) is None)
    folder = Path(weights)
    return ", ".join(one.name for one in networks if not (folder / one.weights.name).is_file())

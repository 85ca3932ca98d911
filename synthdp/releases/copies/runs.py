"""A run of a classifier or a generator, copied as it may leave."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from synthdp.checkpoint import load_weights
from synthdp.config.card_file import CARD, HUB_CARD
from synthdp.config.settings import Settings, read_json_as, validate_settings
from synthdp.config.typed_values import with_paths
from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.data.description import is_dataset, read_info
from synthdp.errors import InputError
from synthdp.networks.public.carried import NETWORKS_FOLDER, read_networks
from synthdp.networks.public.weight_files import HUB
from synthdp.privacy.promise.plan import named_sets, with_records
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.releases.copies.networks import (
    NamedBackbone,
    copy_networks,
    sources_as_carried,
    write_networks,
)
from synthdp.releases.files import CONFIG, plain_file
from synthdp.stages import STAGES, score_difference
from synthdp.status import RunStatus
from synthdp.storage.files import read_json, read_text, write_atomic, write_json
from synthdp.storage.paths import last_part, settings_without_paths

STATUS, PROMISE = "status.json", "privacy.json"
MODEL_SETTINGS = "settings.json"
#: How the name of a generator that comes with the package begins, where a run may stand.
PACKAGED = "pretrained:"
#: The setting of a study that names a machine, at times with a password.
CLUSTER = "engine_address"
#: stage -> its weights file, which with `settings.json` is all that `model/` may hold of its own.
WEIGHTS = {
    "train-gan": "generator.safetensors",
    "mix-generators": "generator.safetensors",
    "import-generator": "generator.safetensors",
    "pretrain": "weights.safetensors",
    "finetune": "weights.safetensors",
    "calibrate": "weights.safetensors",
}
_MAX_CARD_BYTES = 4_000_000


def released_status(run: Path) -> dict[str, Any]:
    """What of `status.json` may leave: no times, and a constant for the attempts.

    Raises:
        InputError: when it is not a status of this version.
    """
    status = read_json_as(RunStatus, plain_file(run, STATUS))
    if not (status.stage and status.release and status.versions):
        raise InputError(f"{run.name}/{STATUS}: not a status of this version; make the run again")
    return status.model_copy(
        update={"attempts": 1, "seconds": None, "last": None, "ledger": None}
    ).as_json()


def copy_promise(run: Path, folder: Path) -> Statement:
    """Status and statement of a finished run or study, the statement made again from its record.

    It tells what else the data sets have on record by now, where they are still there.

    Raises:
        InputError: when the run is not finished, or its file promises more than its record allows.
    """
    plain_file(run, PROMISE)
    statement = with_records(read_statement(run, sender=None), named_sets(run))
    write_json(folder / STATUS, released_status(run))
    write_json(folder / PROMISE, statement.model_dump(mode="json"))
    return statement


class _Network(Settings, extra="allow"):
    backbone: NamedBackbone


class _ModelSettings(Settings, extra="allow"):
    """What is looked at in `model/settings.json`: a generator has no networks of others."""

    sources: tuple[_Network, ...] = ()
    weights_sha256: str | None = None


def copy_model(run: Path, folder: Path) -> None:
    """Copy `model/` of a run into the folder of its release, with the public networks it stands on.

    Raises:
        InputError: when it holds what its stage does not write, is damaged, or a public network is
            not at hand.
    """
    weights, out = WEIGHTS[str(released_status(run)["stage"])], folder / "model"
    where = f"{run.name}/model/{MODEL_SETTINGS}"
    content = read_json(plain_file(run, f"model/{MODEL_SETTINGS}"))
    settings = validate_settings(_ModelSettings, content, where=where)
    backbones = [one.backbone for one in settings.sources]
    named = {last_part(one.weights) for one in backbones if one.weights} | {NETWORKS_FOLDER}
    _refuse_unknown_files(run, {MODEL_SETTINGS, weights} | named)
    file = plain_file(run, f"model/{weights}")
    load_weights(file, settings.weights_sha256)  # refuses what is damaged
    out.mkdir(parents=True)
    networks = copy_networks(run / "model", backbones, out)
    if settings.sources:
        content = {**content, "sources": sources_as_carried(content["sources"], networks)}
    write_json(out / MODEL_SETTINGS, content)
    shutil.copyfile(file, out / weights)
    rounded_now = not read_networks(run / "model").networks
    if rounded_now and any(one.precision == "half" for one in networks):
        each_once = tuple(dict.fromkeys(networks))
        write_networks(out, each_once, score_difference=score_difference(run, folder))


def _refuse_unknown_files(run: Path, known: set[str]) -> None:
    unknown = {path.name for path in (run / "model").iterdir()} - known
    if unknown:
        raise InputError(
            f"{run.name}/model: holds {len(unknown)} file(s) that this stage does not write; it "
            "may hold its settings, its weights and public networks alone, so move the rest away"
        )


def card_of(original: Path, name: str = "") -> str:
    """The card of a run, as it stands there, or of a release, which has it as its README.

    `name` is that of its file, where it is known.
    """
    released = not (original / CARD).is_file() and (original / HUB_CARD).is_file()
    file = plain_file(original, name or (HUB_CARD if released else CARD))
    return read_text(file, _MAX_CARD_BYTES, where=f"{original.name}/{file.name}")


def copy_config(run: Path, folder: Path) -> None:
    """The settings as YAML, no folder, file or machine named: a name may be a patient's.

    A data set that is at hand stands by its own name, any other path by its setting's. What was
    received names none of this house.
    """
    settings = read_yaml(plain_file(run, CONFIG))
    stage = STAGES.get(str(released_status(run)["stage"]))
    if stage is not None and (run / "private").is_dir():
        settings = with_paths(stage.settings_class(), settings, _public_name)
    settings = settings_without_paths(settings)
    if settings.get(CLUSTER) is not None:
        settings[CLUSTER] = None
    write_atomic(folder / CONFIG, dump_yaml(settings))


def _public_name(key: str, path: str) -> str:
    """What stands in a released file for the path of a setting."""
    if path == str(HUB) or path.startswith(PACKAGED):
        return path
    with suppress(InputError):
        if is_dataset(Path(path)):
            return read_info(Path(path)).name
    return key

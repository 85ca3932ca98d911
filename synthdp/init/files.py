"""The settings and the README that `synthdp init` writes, from those that come with the package."""

import re
from collections.abc import Mapping
from pathlib import Path

from synthdp.config.packaged import packaged_config, with_weights
from synthdp.config.settings import load_settings
from synthdp.data.phantoms.settings import PhantomSettings
from synthdp.errors import InputError
from synthdp.init.answers import Answers
from synthdp.init.kinds import (
    DRAWN_TARGET,
    MOVED_GENERATOR,
    POOL_CONFIG,
    POOL_FILE,
    WRITTEN,
    selects,
)
from synthdp.init.readme import readme
from synthdp.stages import STAGES
from synthdp.storage.files import atomic_folder, write_atomic

#: Networks that synthetic images are compared by; which sets, the command line says.
ASSESS_FILE = "assess.yaml"
_HEADS = {
    ASSESS_FILE: "How close a synthetic set is to your patients, and whether it copies one:\n"
    "# `synthdp assess SET assess.yaml --real DATASET --out DIR`.",
    "data.yaml": "How your images are read: `synthdp data import data.yaml`. Mend what is wrong,\n"
    "# such as how patients are found: the group of patient_pattern is the patient's id.",
    "generator.yaml": "A generator of your patients with a guarantee:\n"
    "# `synthdp train-gan generator.yaml`.",
    POOL_FILE: "Phantoms that the generator selects from: `synthdp data phantoms pool.yaml`.\n"
    "# More patients leave more to choose from.",
    "study.yaml": "What a guarantee costs on your patients, and whether drawn or synthetic images\n"
    "# make up for it (epsilon none: without privacy): `synthdp study study.yaml`. With --dry-run\n"
    "# it says how long it takes.",
    "study.yaml, two arms": "Your patients with a guarantee, and without (epsilon none):\n"
    "# `synthdp study study.yaml`. With --dry-run it says how long it takes.",
    "classifier.yaml": "One classifier of your patients with a guarantee, to be released:\n"
    "# `synthdp finetune classifier.yaml`.",
}
#: Below this a population leaves delta at 1e-4; above it is a tenth of 1 / population or less.
_SMALL = 5000


def write_folder(folder: Path, answers: Answers) -> Path:
    """Write all settings and the README into `folder`, which must be new or empty; returns it.

    Raises:
        InputError: when something stands there.
    """
    refuse_used(folder)
    written = WRITTEN[answers.kind]
    texts = {"data.yaml": _import_settings(answers)}
    texts |= {file: _filled(file, name, answers) for file, (name, _) in written.items()}
    if selects(answers.kind, answers.targets):
        texts[POOL_FILE] = _with_head(POOL_FILE, _body(POOL_CONFIG), answers)
    elif "generator.yaml" in written:
        texts["generator.yaml"] = _filled("generator.yaml", MOVED_GENERATOR, answers)
    if answers.kind == "patches":
        texts[ASSESS_FILE] = _with_head(ASSESS_FILE, _body("gan/assess"), answers)
    texts["README.md"] = readme(answers)
    with atomic_folder(folder) as scratch:
        for file, text in texts.items():
            write_atomic(scratch / file, text)
        for file, (_, stage) in written.items():  # what does not fit is never left behind
            load_settings(STAGES[stage].settings_class(), scratch / file)
        if POOL_FILE in texts:
            load_settings(PhantomSettings, scratch / POOL_FILE)
    return folder


def refuse_used(folder: Path) -> None:
    """Refuse a folder in which something stands.

    Raises:
        InputError: saying so.
    """
    if folder.is_symlink() and not folder.exists():
        raise InputError(f"{folder}: is a link to nowhere; remove it, or name a new folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(
            f"{folder}: holds files already, and nothing is written over; name a new folder"
        )


def _import_settings(answers: Answers) -> str:
    mapping = answers.mapping.rstrip("\n")
    return (
        f"# {_HEADS['data.yaml']}\n{mapping}\nname: {answers.name}\nout: data/{answers.name}\n"
        f"population: {answers.population}\n"
    )


def _filled(file: str, packaged: str, answers: Answers) -> str:
    """Packaged settings with the data set, its name and the population put in."""
    body = _body(packaged)
    delta = 1e-4 if answers.population < _SMALL else 10.0 ** -(len(str(answers.population)) + 1)
    replaced: Mapping[str, str] = {
        r"data/mine": f"data/{answers.name}",
        r"out: studies/own": f"out: studies/{answers.name}",
        r"population: \d+": f"population: {answers.population}",
        r"delta: 1(?:\.0)?e-4": f"delta: {delta:.0e}",
    }
    if answers.unit == "image":  # each image is a patient of its own
        body = body.replace("unit: patient", "unit: image")
        if "unit:" not in body:
            body = re.sub(r"(population: \d+)\}", r"\1, unit: image}", body)
    for pattern, value in replaced.items():
        body = re.sub(pattern, value, body)
    if answers.targets != (DRAWN_TARGET,):  # phantoms' labels tell nothing of another one
        body = re.sub(r"(?m)^  start: centre.*\n", "", body).replace("phantoms_start, ", "")
    if not re.search(r"(?m)^data:", body):  # where the command line says it otherwise
        body = f"data: data/{answers.name}\nout: runs/{Path(file).stem}\n{body}"
    if file == "study.yaml" and answers.attributes:
        bands = {"age": "paper-2302.01622"}
        groups = ", ".join(f"{one}: {bands.get(one, 'none')}" for one in answers.attributes)
        body += f"fairness: {{{groups}}} # by whose groups models are judged\n"
    return _with_head(file, body, answers)


def _body(packaged: str) -> str:
    """Packaged settings without the comments that they begin with."""
    text = packaged_config(packaged).read_text(encoding="utf-8")
    return re.sub(r"\A(?:#.*\n)+", "", text)


def _with_head(file: str, body: str, answers: Answers) -> str:
    if answers.weights != "found":
        body = with_weights(body, answers.weights)
    two_arms = file == "study.yaml" and answers.kind != "patches"
    return f"# {_HEADS['study.yaml, two arms' if two_arms else file]}\n{body}"

"""The card of a released model: its result, its licences, code that runs, and what each file is.

It is `README.md`, the name that the Hugging Face hub looks for.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp import __version__
from synthdp.config.card_file import with_header
from synthdp.config.settings import Settings, validate_settings
from synthdp.data.looks.pose import shows_chests
from synthdp.evaluation.metrics import MACRO
from synthdp.evaluation.predictions import figures_by_target
from synthdp.networks.public.carried import (
    NETWORKS_FILE,
    NETWORKS_FOLDER,
    PublicNetworks,
    read_networks,
)
from synthdp.privacy.accounting.bounds import epsilon_text, exactly
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import (
    FILES,
    LICENCE,
    RUNS,
    licence_keys,
    listed,
    one_line,
    restated,
    with_section,
)
from synthdp.runs.drawn_size import size_setting
from synthdp.runs.evaluations import NoisyFigure, NoisyRecord, ScoredSplit
from synthdp.storage.files import read_json

RESULT = "Result"
#: What the card says where no evaluation was named, and how to mend it.
NO_RESULT = (
    "No result was released with this model. Exact scores of patients are outside its promise; "
    "whoever made it can add a noisy AUROC that is paid for (`synthdp evaluate RUN DATASET "
    "--auroc-epsilon 1 --population N --out EVALUATION`), or a result on a public or synthetic "
    "set, by `synthdp privacy --release RUN OUT --evidence EVALUATION`."
)


@dataclass(frozen=True)
class CardParts:
    """What a released card says beside the model's own.

    licence: of the model's own weights, empty where nobody said; results: evaluations that may be
    shown; exact: whether exact scores of patients may be, and counts: how many there are.
    """

    stage: str
    licence: str = ""
    results: Sequence[ScoredSplit] = ()
    exact: bool = False
    counts: bool = False
    kept_result: str = ""


def released_card(card: str, statement: Statement, folder: Path, parts: CardParts) -> str:
    """The card of a run as it leaves.

    Args:
        card: the run's own, or that of a former release.
        statement: under which it leaves.
        folder: of the release, whose `model/` is there.
        parts: what else it says.

    Raises:
        InputError: when `card` is no card.
    """
    networks = read_networks(folder / "model")
    text = with_header(restated(card, statement), licence_keys(parts.licence))
    result = "\n\n".join(filter(None, [result_text(parts), _difference_text(networks)]))
    sections = {
        RESULT: result if parts.stage in _CLASSIFIERS else "",
        LICENCE: licence_text(parts.licence, networks),
        RUNS: use_text(parts.stage, folder),
        FILES: listed(_files(folder, parts.stage)),
    }
    for name, body in sections.items():
        text = with_section(text, name, body, before="Use")
    return text


_CLASSIFIERS = ("pretrain", "finetune", "calibrate")


def result_text(parts: CardParts) -> str:
    """Each result with its interval, set and split; where there is none, how to add one."""
    lines = [line for one in parts.results for line in _result_lines(one, parts)]
    return "\n".join(lines) if lines else parts.kept_result or NO_RESULT


def _result_lines(one: ScoredSplit, parts: CardParts) -> list[str]:
    where, lines = one_line(f"{one.data_set}, split {one.split}"), []
    if one.noisy is not None:
        lines += _noisy_lines(one.noisy, where)
    if one.of_patients and not parts.exact:
        return lines
    who = "patients, exact and outside the promise" if one.of_patients else "no patient"
    if one.of_public:
        who = "patients of a public set, whom nothing protects"
    for target, figures in figures_by_target(one.metrics).items():
        figure = figures["auroc"]
        if figure["value"] is None:
            continue
        interval = ""
        if figure["ci_low"] is not None and figure["ci_high"] is not None:
            interval = f" [{figure['ci_low']:.3f}, {figure['ci_high']:.3f}], 95 % by patient"
        n_images, n_patients = figures["n_images"], figures["n_patients"]
        of = f" ({n_images} images of {n_patients} patients)" if parts.counts else ""
        if not one.of_patients:
            of = f" ({n_images} images)"
        what = _auroc_of(target, figures.get("over", ()))
        lines.append(f"- {what} {figure['value']:.3f}{interval} on {where}{of}: images of {who}")
    return lines


def _noisy_lines(noisy: NoisyRecord, where: str) -> list[str]:
    """The noisy AUROC of one target; of several their mean, then each."""
    paid = (
        f"released for epsilon {epsilon_text(noisy.epsilon)} at delta {exactly(noisy.delta)} of "
        "its own, which the promise above counts"
    )
    whole = f"noisy {_auroc_of(MACRO if noisy.targets else '', noisy.auroc.over)}"
    lines = [f"- {whole} {_noisy_words(noisy.auroc)} on {where}, {paid}"]
    return lines + [
        f"- noisy {_auroc_of(name, ())} {_noisy_words(figure)} on {where}, of the same release, "
        f"whose epsilon {len(noisy.targets)} targets share"
        for name, figure in noisy.targets.items()
    ]


def _auroc_of(target: str, over: Sequence[str]) -> str:
    """What an AUROC is of: one target that needs no name, the mean over several, or one of them."""
    if target == MACRO:
        return f"macro AUROC (the mean over {', '.join(map(one_line, over)) or 'no target'})"
    return f"AUROC of {one_line(target)}" if target else "AUROC"


def _noisy_words(figure: NoisyFigure) -> str:
    if figure.value is None:
        return "without a value"
    if figure.noise_standard_error is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} (standard error of the noise {figure.noise_standard_error:.3f})"


def _difference_text(networks: PublicNetworks) -> str:
    """How the public networks that went along compare with those that the model was trained on."""
    if networks.score_difference is not None:
        return (
            "The public networks go along in half precision. On phantoms, no score differs by more "
            f"than {networks.score_difference:.1e} from that under the files that the model was "
            "trained on."
        )
    if any(one.carried for one in networks.networks):
        return "The public networks go along with the very numbers that the model was trained on."
    return ""


def licence_text(licence: str, networks: PublicNetworks) -> str:
    """Under which terms the model's own weights stand, and whose work each public network is."""
    own = one_line(licence) or "not stated; ask whoever sent it before you pass it on"
    lines = [f"- the model's own weights: {own}"]
    for one in networks.networks:
        terms = one.licence or "licence not known"
        if one.carried:
            where = f"in `model/{NETWORKS_FOLDER}/{one.file}`"
        elif one.fetched_by:
            where = f"not in this folder; fetch it once by `{one.fetched_by}`"
        else:
            where = (
                "not in this folder, since what it holds is not known here; whoever sent this has "
                f"it: put the file with sha256 {one.sha256} at "
                f"`model/{NETWORKS_FOLDER}/{one.file}`"
            )
        credit = f"; {one_line(one.credit)}" if one.credit else ""
        lines.append(f"- {one_line(one.name)}, {one_line(terms)}, {where}{credit}")
    return "\n".join(lines)


_CLASSIFIER_USE = """\
In the folder that this file stands in, on any machine; once installed it needs no connection. The
second command draws a few phantoms to try it on; put {own} in the place of
`{trial}`:

```sh
pip install "{package}>={version}"
{phantoms}
synthdp predict . {trial} --out scores.csv
```

`scores.csv` has a row for each {image}: `score_...` is the probability of a target, `positive_...`
the decision at the model's threshold, where it has one. In Python:

```python
import synthdp

synthdp.run_stage("predict", run=".", images="{trial}", out="scores-again.csv")
print(open("scores-again.csv").read())

classifier = synthdp.Classifier.load(".")  # the same for arrays, {arrays}
images, _, _ = synthdp.open_dataset("trial").arrays()
print(classifier.targets, classifier.predict_proba(images)[:3])
```

{form} `synthdp privacy .` states the promise, and `synthdp privacy
--check .` holds every file against `release.json`."""
_PATCHES = {
    "own": "a folder with your own patches",
    "trial": "trial/images",
    "package": "synthdp",
    "phantoms": "synthdp data phantoms --out trial --patients 8",
    "image": "image",
    "arrays": "(N, H, W)",
    "form": "Patches are grey, square, with the finding in the middle, as in training; other sides "
    "are brought\nto the one that the model takes.",
}
#: Of a model of several findings, which knows the side of its training's images.
_IMAGES = {
    **_PATCHES,
    "own": "a folder with your own images",
    "form": "Images are grey, whole and upright as in training, and black is 0; others are padded "
    "to a square and\nbrought to {size_px} px first, as those of the training were.",
}
_VOLUMES = {
    **_PATCHES,
    "own": "a folder with your own volumes (NIfTI files, or a\nfolder of DICOM slices for each)",
    "trial": "trial",
    "package": "synthdp[volumes]",
    "phantoms": "synthdp data phantoms subject=ct --out trial --patients 8",
    "image": "volume",
    "arrays": "(N, slices, rows, columns)",
}
_GENERATOR_USE = """\
In the folder that this file stands in, on any machine; once installed it needs no connection:

```sh
pip install "synthdp>={version}"
synthdp generate . --out synthetic --{option} 4
```

In Python:

```python
import synthdp

made = synthdp.run_stage("generate", run=".", out="synthetic-again", {size}=4)
print(len(synthdp.open_dataset(made).rows), "images")
```

`synthdp privacy .` states the promise, and `synthdp privacy --check .` holds every file against
`release.json`."""


def use_text(stage: str, folder: Path) -> str:
    """Commands and code that run as they stand, for a model of this stage that is in `folder`."""
    if stage in _CLASSIFIERS:
        text, words = _CLASSIFIER_USE, _classifier_words(folder)
    else:
        size = size_setting(folder)
        text, words = _GENERATOR_USE, {"size": size, "option": size.replace("_", "-")}
    for name, value in {**words, "version": __version__}.items():
        text = text.replace(f"{{{name}}}", value)
    return text


class _Network(Settings, extra="allow"):
    axes: tuple[int, ...] | None = None


class _Source(Settings, extra="allow"):
    backbone: _Network


class _Form(Settings, extra="allow"):
    size_px: int
    depth: int | None = None
    volumes: dict[str, Any] | None = None


class _Model(Settings, extra="allow"):
    """What is looked at in the settings of a classifier."""

    sources: tuple[_Source, ...]
    targets: tuple[str, ...]
    input_form: _Form | None = None


def _classifier_words(folder: Path) -> dict[str, str]:
    """What is said of the images that a classifier takes, and what is drawn to try it on."""
    file = folder / "model" / "settings.json"
    model = validate_settings(_Model, read_json(file), where=f"model/{file.name}")
    form = model.input_form
    if any(one.backbone.axes is not None for one in model.sources):
        return _volume_words(form)
    if form is None:
        return dict(_PATCHES)
    words = {**_IMAGES, "form": _IMAGES["form"].replace("{size_px}", str(form.size_px))}
    if shows_chests(model.targets):
        words["phantoms"] = words["phantoms"].replace(" --out", " subject=chest --out")
    return words


def _volume_words(form: _Form | None) -> dict[str, str]:
    """What is said of the volumes that a classifier takes."""
    words = dict(_VOLUMES)
    if form is None or form.depth is None:  # of an earlier version
        return {**words, "form": "Volumes are in the form of the training's set."}
    words["phantoms"] += f" depth={form.depth} size_px={form.size_px}"
    if form.volumes is None:
        return {
            **words,
            "own": "a data set of your own volumes",
            "form": f"Volumes have {form.depth} slices of {form.size_px} px, as in training.",
        }
    how = ", ".join(f"{name} {_flow(value)}" for name, value in form.volumes.items())
    words["form"] = (
        f"Scans are brought to the form of the training's: slices of {form.size_px} px, {how}."
    )
    return words


def _flow(value: object) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _files(folder: Path, stage: str) -> dict[str, str]:
    """What each file of a released model is."""
    weights = "weights" if stage in _CLASSIFIERS else "generator"
    files = {
        "README.md": "this card: Markdown, with a header in YAML",
        "privacy.json": "the promise, for programs: every figure of the text above",
        "release.json": "the version that made this folder, licences, and a sha256 of each file",
        "config.yaml": "the settings of the training; no folder or file is named",
        "status.json": "the stage, and the versions of what it ran on",
        f"model/{weights}.safetensors": "the model's own weights (safetensors)",
        "model/settings.json": "how they are read",
    }
    if (folder / "model" / NETWORKS_FOLDER / NETWORKS_FILE).is_file():
        files[f"model/{NETWORKS_FOLDER}"] = (
            "the public networks that the model stands on (safetensors), whence they come, and "
            "their licences"
        )
    return files

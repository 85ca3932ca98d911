"""What may leave the house, copied out of a run, a data set or a study, and nothing else.

Every file is on a list; whatever is not stays. What stays, and why:

- `private/` and locks: checkpoints, ledgers, keys, keyed digests, counts, predictions;
- times (of `status.json`, and in a study's report): they grow with the number of images, which is
  private; a released status names stage, release and versions alone;
- paths: a folder may be named after a hospital or a patient, so each is cut to its last part;
- the assessment of a synthetic set, and its section in a study's report: exact figures of the
  patients that the generator learnt from;
- images of patients, and a study's picture gallery: a synthetic set leaves by itself, with its own
  statement;
- scores of a split that patients were trained on: the promise covers these patients, and an exact
  score of them is outside it. Scores of other splits leave with a study, as its statement says,
  and so do comparisons of its recipes there.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdp.checkpoint import load_weights
from synthdp.config.settings import Settings, read_json_as, validate_settings
from synthdp.config.yaml_core import dump_yaml, read_yaml
from synthdp.data.dataset import manifest_cells, open_dataset
from synthdp.data.hub_form import card_file, write_hub_form
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.privacy.promise.plan import named_sets, set_statement, with_records
from synthdp.privacy.promise.stated import read_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import plain_card, restated
from synthdp.status import RunStatus
from synthdp.storage.files import atomic_folder, read_json, read_text, write_atomic, write_json
from synthdp.storage.paths import WORDS, last_part, settings_without_paths, without_paths
from synthdp.study.compare.aurocs import read_comparisons, write_comparisons
from synthdp.study.compare.results import RESULTS_FILE, read_results, write_results
from synthdp.study.record import StudyFacts, read_sets
from synthdp.study.report.page import ReportSettings, run_report

STATUS, CONFIG, PROMISE, CARD = "status.json", "config.yaml", "privacy.json", "card.md"
MODEL_SETTINGS = "settings.json"
#: The setting of a study that names a machine, at times with a password.
CLUSTER = "engine_address"
#: stage -> its weights file, which with `settings.json` is all that `model/` may hold.
WEIGHTS = {
    "train-gan": "generator.safetensors",
    "mix-generators": "generator.safetensors",
    "import-generator": "generator.safetensors",
    "pretrain": "weights.safetensors",
    "finetune": "weights.safetensors",
    "calibrate": "weights.safetensors",
}
_TRAINED_ON = ("train", "all")
_MAX_CARD_BYTES = 4_000_000


def release(original: Path, out: Path) -> Statement:
    """Copy what may leave of a folder into the new folder `out`, which appears only when whole.

    Args:
        original: a finished run of a stage of `WEIGHTS`, a finished study, or a synthetic or
            phantom data set.
        out: a folder that is not there yet, or empty, or holds the very same release.

    Returns:
        The statement under which it leaves; an epsilon of inf is released too, and says so.

    Raises:
        InputError: when the original is unfinished, holds patients' images or unexpected files, or
            `out` is taken.
    """
    original, out = Path(original), Path(out)
    copy = _copier(original)
    with atomic_folder(out, again=True) as folder:
        statement = copy(original, folder)
        refuse_paths(folder, paths_in(original))
    return statement


def _copier(original: Path) -> Callable[[Path, Path], Statement]:
    """What copies a folder of this kind, given it and the new folder."""
    if (original / STATUS).is_file():
        stage = _status(original)["stage"]
        if stage == "study":
            return _copy_study
        if stage in WEIGHTS:
            return _copy_run
        raise InputError(
            f"{original}: a run of {stage!r}, which has nothing to release; name a run of "
            f"{', '.join(WEIGHTS)}, a study or a data set"
        )
    if (original / "dataset.json").is_file():
        return _copy_dataset
    raise InputError(f"{original}: neither a run, a study nor a data set, so nothing was released")


def _status(run: Path) -> dict[str, Any]:
    """What of `status.json` may leave: no times, and a constant for the attempts."""
    status = read_json_as(RunStatus, _plain(run, STATUS))
    if not (status.stage and status.release and status.versions):
        raise InputError(f"{run.name}/{STATUS}: not a status of this version; make the run again")
    return status.model_copy(
        update={"attempts": 1, "seconds": None, "last": None, "ledger": None}
    ).as_json()


def _plain(folder: Path, name: str) -> Path:
    """The file `name` below `folder`, when it is a file and no link leads to it.

    Raises:
        InputError: when it is missing, or it or a folder above it is a symbolic link.
    """
    path = folder
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink():
            raise InputError(
                f"{folder.name}: a file to be released stands behind a symbolic link, so what it "
                "is can't be known; put the file itself there"
            )
    if not path.is_file():
        raise InputError(f"{folder.name}/{name}: there is no such file; make the folder again")
    return path


def _copy_run(run: Path, folder: Path) -> Statement:
    statement = _copy_promise(run, folder)
    write_atomic(folder / CARD, restated(_card(run), statement))
    write_atomic(folder / CONFIG, _config(run))
    _copy_model(run, folder / "model", WEIGHTS[_status(run)["stage"]])
    return statement


def _copy_promise(run: Path, folder: Path) -> Statement:
    """Status and statement of a finished run or study, the statement made again from its record.

    It tells what else the data sets have on record by now, where they are still there.

    Raises:
        InputError: when the run is not finished, or its file promises more than its record allows.
    """
    _plain(run, PROMISE)
    statement = with_records(read_statement(run, sender=None), named_sets(run))
    write_json(folder / STATUS, _status(run))
    write_json(folder / PROMISE, statement.model_dump(mode="json"))
    return statement


class _Backbone(Settings, extra="allow"):
    weights: str | None = None


class _Network(Settings, extra="allow"):
    backbone: _Backbone


class _ModelSettings(Settings, extra="allow"):
    """What is looked at in `model/settings.json`: a generator has no networks of others."""

    sources: tuple[_Network, ...] = ()
    weights_sha256: str | None = None


def _copy_model(run: Path, folder: Path, weights: str) -> None:
    """The two files of `model/`; the public weights may stand beside them, and stay.

    Files of public weights are named without their folders.
    """
    where = f"{run.name}/model/{MODEL_SETTINGS}"
    content = read_json(_plain(run, f"model/{MODEL_SETTINGS}"))
    settings = validate_settings(_ModelSettings, content, where=where)
    named = {last_part(one.backbone.weights) for one in settings.sources if one.backbone.weights}
    unknown = {path.name for path in (run / "model").iterdir()} - {MODEL_SETTINGS, weights} - named
    if unknown:
        raise InputError(
            f"{run.name}/model: holds {len(unknown)} file(s) that this stage does not write; it "
            f"may hold {MODEL_SETTINGS} and {weights} alone, so move the rest away"
        )
    file = _plain(run, f"model/{weights}")
    load_weights(file, settings.weights_sha256)  # refuses what is damaged
    if settings.sources:
        content = {**content, "sources": settings_without_paths(content["sources"])}
    write_json(folder / MODEL_SETTINGS, content)
    shutil.copyfile(file, folder / weights)


def _copy_dataset(root: Path, folder: Path) -> Statement:
    for name in ("dataset.json", "manifest.csv"):
        _plain(root, name)
    dataset = open_dataset(root)
    if dataset.info.protects_patients:
        raise InputError(
            f"{dataset.info.name}: holds patients' images (or phantoms made to stand for them), "
            "which never leave; release a synthetic set made from them, or a model"
        )
    names = list(dict.fromkeys(row.image for row in dataset.rows))
    for name in progress(names, what="copying", public_unit="images"):
        if Path(name).parts[0] == dataset.private.name:
            raise InputError(
                f"{root.name}/manifest.csv: names a file of private/, which never leaves; keep the "
                "set's images in images/"
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_plain(root, name), folder / name)
    left = dataset.info.model_copy(update={"ledger": None})  # which stays
    write_json(folder / "dataset.json", left.model_dump(mode="json"))
    shutil.copyfile(root / "manifest.csv", folder / "manifest.csv")
    statement = set_statement(dataset)
    card = card_file(root)
    if card is not None:
        text = read_text(_plain(root, card.name), _MAX_CARD_BYTES)
        columns, cells = manifest_cells(dataset.rows, dataset.info.targets)
        write_hub_form(folder, restated(text, statement), columns, cells, dataset.info.targets)
    return statement


def _copy_study(study: Path, folder: Path) -> Statement:
    statement = _copy_promise(study, folder)
    rows = read_results(_plain(study, "results.csv"))
    if any(row.split in _TRAINED_ON for row in rows) and statement.lineage.releases:
        raise InputError(
            f"{study.name}: has scores of a split that patients were trained on, which the "
            "promise does not allow; run the study with evaluate_on naming another split"
        )
    write_atomic(folder / CONFIG, _config(study))
    write_results(folder / RESULTS_FILE, rows)
    facts = read_json_as(StudyFacts, _plain(study, "study.json"))
    sets = [one.model_dump(mode="json") for one in read_sets(study)]
    about = {"title": without_paths(facts.title), "sets": sets}
    write_atomic(folder / CARD, plain_card(without_paths(facts.title), statement))
    write_json(folder / "study.json", about)
    counted = {release.id for release in statement.lineage.releases}
    for run in dict.fromkeys(row.run for row in rows):
        of_run = _copy_promise(study / "runs" / run, folder / "runs" / run)
        if not {release.id for release in of_run.lineage.releases} <= counted:
            raise InputError(
                f"{study.name}/{PROMISE}: leaves out what one of its runs spent; run it again"
            )
    comparisons = read_comparisons(study)
    if comparisons.aurocs:
        write_comparisons(folder, comparisons)
    run_report(ReportSettings(study=folder, statement=statement))  # anew: without times, pictures
    return statement


def _card(original: Path) -> str:
    return read_text(_plain(original, CARD), _MAX_CARD_BYTES, where=f"{original.name}/{CARD}")


def _config(run: Path) -> str:
    """The settings as YAML, each path cut to its last part, and no machine named."""
    settings = settings_without_paths(read_yaml(_plain(run, CONFIG)))
    if settings.get(CLUSTER) is not None:
        settings[CLUSTER] = None
    return dump_yaml(settings)


def paths_in(original: Path) -> Sequence[str]:
    """What must not stand in any text that leaves: the folder's path, and paths in settings."""
    paths = [str(original.resolve())]
    if (original / CONFIG).is_file():
        texts = _strings(read_yaml(original / CONFIG))
        paths += [text for text in texts if last_part(text) != text]
    return [path for path in paths if path.strip("./~\\")]


def _strings(settings: Any) -> Iterator[str]:
    """Every text in settings, words apart."""
    if isinstance(settings, Mapping):
        for key, value in settings.items():
            if key not in WORDS:
                yield from _strings(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _strings(value)
    elif isinstance(settings, str):
        yield settings


def refuse_paths(folder: Path, paths: Sequence[str]) -> None:
    """The last look at what was written: no text may name a folder of this machine."""
    for path in folder.rglob("*"):
        if path.suffix in (".json", ".yaml", ".md", ".html", ".csv"):
            text = path.read_text(encoding="utf-8")
            if any(named in text for named in paths):
                raise InputError(
                    f"{path.name}: names a folder of this machine, which must not leave; take the "
                    "path out of the file, or make the run again"
                )

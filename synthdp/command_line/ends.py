"""What a command found, in one line at its end, for the person who holds the data.

Exact figures of patients are shown to a terminal alone: they are functions of who the patients are,
outside every promise, and output that goes to a file or a pipe is a log that may be sent on. There
the line has public facts only, and says where the figures are. The path is printed by itself and
last, so that a script may take it.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synthdp.config.settings import Settings
from synthdp.errors import InputError, for_shell
from synthdp.machine.terminal import tell
from synthdp.storage.files import read_json


@dataclass(frozen=True)
class Ending:
    """A line for anybody, and one for whoever holds the data, where it says more."""

    public: str
    exact: str = ""


def print_end(stage: str, settings: Settings, made: "Path | str") -> None:
    """Print what a stage found, then what it made, alone on the last line."""
    at_terminal = sys.stdout is not None and sys.stdout.isatty()
    end = _ending(stage, settings, Path(made)) if isinstance(made, Path) else None
    if end is not None and at_terminal:
        print(end.exact or end.public)
    elif end is not None:
        tell(f"{stage}: {end.public}")
    print(made)


def _ending(stage: str, settings: Settings, made: Path) -> Ending | None:
    """The ending of a stage; None where it has none, or what was made is of another version."""
    try:
        ending = _ENDINGS.get(stage)
        return None if ending is None else ending(settings, made)
    except (InputError, OSError, KeyError, TypeError, ValueError, AttributeError):
        return None  # the work is done, and stands: a line about it may not fail it


def _of_set(settings: Settings, made: Path) -> Ending:
    from synthdp.data.dataset import open_dataset  # noqa: PLC0415 (starts without the image stack)

    dataset = open_dataset(made)
    patients = len({row.patient_id for row in dataset.rows})
    holds = f"{len(dataset.rows):,} images of {patients:,} {_whose(dataset.info)}"
    next_ = f"next: synthdp data check {for_shell(made)}"
    if dataset.info.protects_patients:
        return Ending(f"imported; {next_}", f"{holds}; {next_}")
    return Ending(f"{holds}; {next_}")


def _whose(info: Any) -> str:
    return "patients" if info.shows_patients else "made-up patients"


def _of_generate(settings: Settings, made: Path) -> Ending:
    from synthdp.data.description import read_info  # noqa: PLC0415 (as above)

    (target,) = read_info(made).targets
    benign, malignant = settings.class_counts  # type: ignore[attr-defined]
    return Ending(
        f"{benign + malignant:,} images: {benign:,} with {target} 0, {malignant:,} with {target} "
        f"1; next: synthdp assess {for_shell(made)} --real DATASET --out DIR gan/assess"
    )


def _promise(made: Path) -> str:
    """The first line of a run's statement, made again from its ledger."""
    from synthdp.privacy.promise.stated import read_statement  # noqa: PLC0415 (as above)
    from synthdp.privacy.promise.words import statement_text  # noqa: PLC0415 (as above)

    first = statement_text(read_statement(made)).splitlines()[0]
    return first.replace("**", "").rstrip(".")


def _of_generator(settings: Settings, made: Path) -> Ending:
    from synthdp.runs.drawn_size import size_setting  # noqa: PLC0415 (as above)

    option = size_setting(made).replace("_", "-")
    next_ = f"next: synthdp generate {for_shell(made)} --out DIR --{option} N"
    return Ending(f"{_promise(made)}; {next_}")


def _of_pretrain(settings: Settings, made: Path) -> Ending:
    return Ending(f"{_promise(made)}; next: synthdp finetune CONFIG init={for_shell(made)}")


def _of_classifier(settings: Settings, made: Path) -> Ending:
    next_ = f"next: synthdp evaluate {for_shell(made)} DATASET --split val --out DIR"
    return Ending(f"{_promise(made)}; {next_}")


def _of_evaluate(settings: Settings, made: Path) -> Ending:
    from synthdp.data.description import read_info  # noqa: PLC0415 (as above)
    from synthdp.evaluation.predictions import figures_by_target, read_metrics  # noqa: PLC0415 (as above)
    from synthdp.privacy.promise.stated import NOISY_FILE  # noqa: PLC0415 (as above)

    metrics = read_metrics(made)
    aurocs = {name: one["auroc"] for name, one in figures_by_target(metrics).items()}
    words = f"{_aurocs_words(aurocs)} on {metrics['n_images']:,} images"
    dataset, table = settings.dataset, settings.table  # type: ignore[attr-defined]
    noisy, public = made / NOISY_FILE, table is None and not read_info(dataset).protects_patients
    shown = made if public or noisy.is_file() else None
    next_ = _after_scores(settings.run, shown)  # type: ignore[attr-defined]
    if public:
        return Ending(f"{words}{next_}")
    if not noisy.is_file():
        scored = "scored; the figures stand in metrics.json, and are the patients'"
        return Ending(f"{scored}{next_}", f"{words}{next_}")
    released = read_json(noisy)
    by_target = released.get("targets", {})
    macro = "macro " if by_target else ""
    return Ending(
        f"noisy {macro}AUROC {_short(released['auroc']['value'])}{_each_words(by_target)}, at "
        f"epsilon {released['epsilon']:g}; "
        f"the exact figures stand in metrics.json{next_}",
        f"{words}{next_}",
    )


def _after_scores(run: Path, shown: Path | None) -> str:
    """What comes after the scores of a run of this house; nothing after those of a release.

    `shown` is the evaluation that a card may show: exact scores of patients stay.
    """
    if (run / "release.json").exists() or not (run / "status.json").is_file():
        return ""
    evidence = f" --evidence {for_shell(shown)}" if shown is not None else ""
    return f"; next: synthdp privacy --release {for_shell(run)} OUT{evidence}"


def _aurocs_words(aurocs: Mapping[str, Mapping[str, Any]]) -> str:
    """The AUROC of one target; of several their mean, then each."""
    first, *others = aurocs
    words = _auroc_words(aurocs[first])
    return f"{first} {words}{_each_words({k: aurocs[k] for k in others})}" if others else words


def _each_words(aurocs: Mapping[str, Mapping[str, Any]]) -> str:
    each = ", ".join(f"{name} {_short(one['value'])}" for name, one in aurocs.items())
    return f" ({each})" if each else ""


def _auroc_words(auroc: Mapping[str, Any]) -> str:
    """As papers write it: AUROC .759 [.671, .835]."""
    if auroc["value"] is None:
        return "no AUROC (one class alone)"
    value, low, high = (_short(auroc[key]) for key in ("value", "ci_low", "ci_high"))
    return f"AUROC {value} [{low}, {high}]"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".removeprefix("0")


def _of_audit(settings: Settings, made: Path) -> Ending:
    audit = read_json(made / "audit.json")
    stated = float(audit["promise"]["epsilon"])
    shown = [float(bound["epsilon"]) for bound in audit["bounds"]]
    held = "the promise held"
    if not shown:
        return Ending(f"{held}; the report stands in private/audit")
    bounds = (
        f"{min(shown):.2f}" if len(set(shown)) == 1 else f"{min(shown):.2f} to {max(shown):.2f}"
    )
    return Ending(
        f"{held}; the report stands in private/audit",
        f"{held}: lower bounds of epsilon {bounds} <= {stated:.3g} stated",
    )


def _of_assess(settings: Settings, made: Path) -> Ending:
    from synthdp.data.description import read_info  # noqa: PLC0415 (as above)
    from synthdp.evaluation.assessment import read_assessment  # noqa: PLC0415 (as above)

    findings = " ".join(read_assessment(made).findings)
    if not read_info(settings.real).protects_patients:  # type: ignore[attr-defined]
        return Ending(findings)
    return Ending("assessed; distances and copies stand in quality.html", findings)


def _of_reader(settings: Settings, made: Path) -> Ending:
    return Ending(
        f"give reader.html to readers, and keep private/key.json; next: synthdp assess --score "
        f"{for_shell(made)} ANSWERS.csv --out DIR"
    )


def _of_reader_score(settings: Settings, made: Path) -> Ending:
    scores = read_json(made / "scores.json")
    findings = " ".join(scores["findings"])
    if "outside every promise" not in scores["promise"]:
        return Ending(findings)
    return Ending("scored; the figures stand in scores.html, and are the patients'", findings)


def _of_predict(settings: Settings, made: Path) -> Ending:
    with open(made, encoding="utf-8") as stream:
        n_images = sum(1 for _ in stream) - 1
    return Ending("scored; the scores are the patients'", f"{n_images:,} images scored")


def _of_study(settings: Settings, made: Path) -> Ending:
    from synthdp.study.compare.results import read_results  # noqa: PLC0415 (as above)

    study = made if made.is_dir() else made.parent
    models = {row.run for row in read_results(study / "results.csv")}
    return Ending(
        f"{len(models)} models; every score stands in results.csv, differences with their "
        f"intervals in the report; next: synthdp report {for_shell(study)} --format latex"
    )


_ENDINGS: dict[str, Callable[[Settings, Path], Ending]] = {
    **dict.fromkeys(
        ("data phantoms", "data patches", "data dicom", "data volumes", "data cbis-ddsm"), _of_set
    ),
    **dict.fromkeys(("train-gan", "mix-generators", "import-generator"), _of_generator),
    "generate": _of_generate,
    "assess": _of_assess,
    "assess reader": _of_reader,
    "assess score": _of_reader_score,
    "pretrain": _of_pretrain,
    **dict.fromkeys(("finetune", "calibrate"), _of_classifier),
    "evaluate": _of_evaluate,
    "predict": _of_predict,
    "audit": _of_audit,
    "study": _of_study,
}

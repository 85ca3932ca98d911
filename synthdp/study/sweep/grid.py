"""The grid of a study: strategy x epsilon x seed x tuned values x site, and what scores it.

A row of the grid is one model, made by a list of stage calls; an evaluation scores one model on one
split. Both name the folders that they are to write, below the folder of the study. The second half
of the file refuses what a study asks for and can't have.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.config.settings import validate_settings
from synthdp.data.columns import refuse_missing_column, rows_where
from synthdp.data.dataset import open_dataset
from synthdp.data.description import is_dataset, read_info
from synthdp.data.volumes.form import form_differences
from synthdp.errors import InputError
from synthdp.evaluation.assessment import read_assessment
from synthdp.evaluation.groups import refuse_no_groups
from synthdp.evaluation.settings import FairnessSettings
from synthdp.privacy.units import Part
from synthdp.runs.folder import StageCall
from synthdp.runs.inputs import named_inputs
from synthdp.stages import STAGES, crosses_grid, expand_strategy
from synthdp.study.private_generator import generator_calls
from synthdp.study.sets import EvaluateOn, TrainingSet, TransferSettings, share_words
from synthdp.study.settings import StudySettings, shown_entry
from synthdp.study.sweep.tuning import combinations, refuse_idle_keys, tuned_text, with_tuned

#: What of a study's settings its recipes are made from.
INGREDIENTS = {
    *("data", "synthetic", "private_synthetic", "phantoms", "public"),
    *("backbone", "beside", "trained_backbone", "teacher"),
    *("privacy", "pretrain", "finetune", "network", "pretrain_seed"),
}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class GridRow:
    """One model of the study, and the stage calls that make it.

    `tuned` is compact JSON of the tuned values that went into it, empty where none did;
    `trained_on` names its training set, where the study has several; `fold` is the one whose
    patients it never met, None where it met none or all.
    """

    strategy: str
    epsilon: float | None
    seed: int
    calls: tuple[StageCall, ...]
    tuned: str = ""
    trained_on: str = ""
    fold: Part | None = None

    @property
    def model(self) -> Path:
        """The folder of the run that makes the model."""
        return self.calls[-1].out


@dataclass(frozen=True)
class Evaluation:
    """The call that scores a row's model on one split; `data_set` is what results call the set."""

    row: GridRow
    data_set: str
    split: str
    call: StageCall

    @property
    def folder(self) -> Path:
        """Where the scores are written."""
        return self.call.out


def expand_grid(settings: StudySettings) -> list[GridRow]:
    """All rows of the study; a recipe that does not depend on a grid axis has one row on it.

    Raises:
        InputError: when an ingredient is missing, a setting does not fit, a tuned value changes
            nothing, or no cell has a model; all errors are given at once.
    """
    rows, problems = dict[tuple[str, str], GridRow](), list[str]()
    for strategy in settings.strategies:
        try:
            for row in _strategy_rows(strategy, settings):
                first = rows.setdefault((strategy, row.model.name), row)
                if first.tuned != row.tuned:
                    raise InputError(
                        f"tune: {row.tuned} gives {strategy} the same run as {first.tuned}, so "
                        "there is nothing to choose; leave one of them out"
                    )
        except InputError as error:
            problems.append(str(error))
    refuse_problems(problems)
    if not rows:
        raise InputError(
            "strategies: what they start from has spent every epsilon of the study; ask for more"
        )
    refuse_idle_keys(settings.tune, (row.tuned for row in rows.values()))
    return list(rows.values())


def _strategy_rows(strategy: str, settings: StudySettings) -> Iterator[GridRow]:
    ingredients = settings.model_dump(include=INGREDIENTS)
    ingredients = _laid_over(ingredients, settings.by_strategy.get(strategy, {}))
    epsilons = settings.epsilons if crosses_grid(strategy) else (None,)
    trained_on, root = settings.training_sets(strategy), settings.out / "runs"
    cells = product(trained_on, epsilons, combinations(settings.tune), settings.seeds)
    for training_set, epsilon, tuned, seed in cells:
        whole = with_tuned(_trained_on(ingredients, training_set, settings.transfer), tuned)
        for values, name, fold in _parts(strategy, whole, training_set.name, settings):
            own = settings.private_generator
            before: tuple[StageCall, ...] = ()
            if own is not None and crosses_grid(strategy):
                before = generator_calls(own, values, epsilon=epsilon, seed=seed, root=root)
                values["private_synthetic"] = before[-1].out
            calls = expand_strategy(strategy, values, epsilon=epsilon, seed=seed, root=root)
            if {parent_of(call) for call in calls} & {call.folder for call in before}:
                calls = (*before, *calls)
            if calls:
                words = tuned_text(tuned, calls)
                yield GridRow(strategy, epsilon, seed, calls, words, name, fold)


def _parts(
    strategy: str, ingredients: Mapping[str, Any], trained_on: str, settings: StudySettings
) -> Iterator[tuple[dict[str, Any], str, Part | None]]:
    """The ingredients for each part of the patients, how results call it, and the fold left out.

    A recipe that never meets a patient has no parts.
    """
    validation = settings.cross_validation
    if validation is None or not crosses_grid(strategy):
        yield dict(ingredients), trained_on, None
        return
    shares = list[tuple[float | None, int | None]](validation.shares.items()) or [(None, None)]
    for (share, population), index in product(shares, range(validation.folds)):
        fold = Part(part=index + 1, of=validation.folds)
        part = {"leave_out": fold, "share": share and validation.of_the_others(share)}
        changed = {**ingredients, "finetune": {**ingredients["finetune"], **part}}
        if population is not None:
            changed["privacy"] = {**ingredients["privacy"], "population": population}
        yield changed, trained_on if share is None else share_words(share), fold


def _laid_over(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with `own` ones in their place, key by key where both are mappings."""
    merged = dict(settings)
    for key, value in own.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _laid_over(below, value)
        else:
            merged[key] = value
    return merged


def _trained_on(
    ingredients: Mapping[str, Any], training_set: TrainingSet, transfer: TransferSettings | None
) -> dict[str, Any]:
    """The ingredients of a recipe for one training set; what does not name it stays."""
    if transfer is None or not training_set.name:
        return dict(ingredients)
    changed = {**ingredients, "data": training_set.data}
    if training_set.where is not None:
        finetune = dict(ingredients["finetune"])
        where = {**(finetune.get("where") or {}), **training_set.where}
        changed["finetune"] = {**finetune, "where": where}
    one_site = training_set.where is not None or training_set.data != ingredients["data"]
    population = transfer.population_of(_site_of(training_set)) if one_site else None
    if population is not None:
        changed["privacy"] = {**ingredients["privacy"], "population": population}
    return changed


def _site_of(training_set: TrainingSet) -> str:
    """What `transfer.population` calls a site: its value in the column, or the other set's name."""
    if training_set.where is None:
        return training_set.name
    ((site,),) = training_set.where.values()
    return site


def parent_of(call: StageCall) -> str | None:
    """The folder of the run that a call starts from, of the set that it learns from, where the
    study makes that itself, or of the model that it scores."""
    parent: Path | None = call.setting("init") or call.setting("run")
    if parent is None:
        sets = (call.setting(key) for key in ("data", "synthetic", "centre"))
        own = (path for path in sets if path is not None and path.parent == call.out.parent)
        parent = next(own, None)
    return parent.name if parent is not None else None


def expand_evaluations(settings: StudySettings, rows: Sequence[GridRow]) -> list[Evaluation]:
    """Every scoring of a row's model on a split, row by row."""
    # a set's name and targets are in its folder, so it is opened once for all rows
    sets = [(on.name, on) for on in settings.evaluation_sets]
    targets = _targets_of([on.data for _, on in sets] + [_learned(row) for row in rows])
    evaluations = []
    for row in rows:
        for name, on in sets:
            split = on.split if row.fold is None else f"fold {row.fold.part} of {row.fold.of}"
            values = {
                "run": row.model,
                "dataset": on.data,
                "split": on.manifest_split,
                "fold": row.fold,
                "out": evaluation_folder(settings.out, row.model.name, name, split),
                "where": on.where,
                "targets": _targets_to_score(targets.get(_learned(row)), targets.get(on.data)),
            }
            checked = validate_settings(
                STAGES["evaluate"].settings_class(), values, where="evaluate"
            )
            evaluations.append(Evaluation(row, name, on.split, StageCall("evaluate", checked)))
    return evaluations


def _learned(row: GridRow) -> Path:
    """The set whose targets a row's model has: what its last stage learned."""
    return Path(row.calls[-1].setting("data"))


def _targets_of(sets: Iterable[Path]) -> dict[Path, tuple[str, ...]]:
    """The targets of data sets; one that has gone since the study began has none."""
    targets = {}
    for path in dict.fromkeys(sets):
        with suppress(InputError):
            targets[path] = read_info(path).targets
    return targets


def _targets_to_score(
    learned: tuple[str, ...] | None, there: tuple[str, ...] | None
) -> tuple[str, ...] | None:
    """What a model is scored for on a set, by name: None for all that it learned."""
    if learned is None or there is None or set(learned) <= set(there):
        return None
    return tuple(name for name in learned if name in there) or None


def evaluation_folder(study: Path, run: str, data_set: str, split: str) -> Path:
    """Where a study keeps what a run gave on a split of a set."""
    name = f"{run}-{data_set}-{split}".replace(" ", "-")
    if _PLAIN_NAME.fullmatch(name) is None:  # a part of a set is named after cells of its manifest
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
        name = f"{plain}-{sha256(name.encode()).hexdigest()[:8]}"
    return study / "evaluations" / name


def shard_rows(rows: Sequence[GridRow], index: int, n_shards: int) -> list[GridRow]:
    """The rows of shard `index` (from 0): models in the order of their hashes, dealt out in turn.

    Every model is in one shard; a run that models of several shards start from is made by
    whichever needs it first, and the others wait.
    """
    models = sorted({row.model.name for row in rows})
    own = set(models[index::n_shards])
    return [row for row in rows if row.model.name in own]


# What a study asks for and can't have, refused before anything runs: read from manifests and public
# facts of data sets, and from no image.


def refuse_unfit_sets(settings: StudySettings) -> None:
    """Refuse sets that lack what their images are chosen, judged or shown by.

    Raises:
        InputError: when the assessment is missing or of another synthetic set, a set lacks a column
            of `fairness`, or a site has no image to train on or to be scored on.
    """
    if settings.assessment is not None and settings.synthetic is not None:
        assessed = read_assessment(settings.assessment).info
        if assessed != open_dataset(settings.synthetic).info:
            raise InputError(
                f"assessment: {settings.assessment.name!r} is of another synthetic set; name the "
                "one that `synthdp assess` made of this study's set, or leave it out"
            )
    if settings.fairness is not None:
        refuse_unfit_attributes(settings.fairness, settings.evaluation_sets)
    if settings.transfer is not None:
        _refuse_unfit_sites(settings)


def refuse_unfit_attributes(settings: FairnessSettings, sets: Iterable[EvaluateOn]) -> None:
    """Refuse columns that a set which models are scored on lacks, or that make no groups.

    Raises:
        InputError: with the columns that the set has.
    """
    for on in sets:
        dataset = open_dataset(on.data)
        rows = rows_where(dataset, dataset.split(on.manifest_split), on.where)
        refuse_no_groups(dataset, rows, settings, setting="fairness")


def _refuse_unfit_sites(settings: StudySettings) -> None:
    paths: dict[str, Path] = {}  # of the sets that models are trained on, by name
    for strategy in settings.strategies:
        training_sets = settings.training_sets(strategy)
        if len({one.name for one in training_sets}) < len(training_sets):
            raise InputError(
                "transfer.data: two training sets have one name, so results could not tell them "
                "apart; import one under another name, or leave out one that is named already"
            )
        for one in training_sets:
            dataset = open_dataset(one.data)
            # Whether a site has patients to train on is theirs: each training refuses or goes on.
            for column in one.where or ():
                refuse_missing_column(dataset, column, setting="transfer.column")
            paths[dataset.info.name] = one.data.resolve()
    _refuse_unknown_populations(settings)
    for on in settings.evaluation_sets:
        dataset = open_dataset(on.data)
        rows_where(dataset, dataset.split(on.split), on.where)
        if paths.get(dataset.info.name, on.data.resolve()) != on.data.resolve():
            raise InputError(
                f"evaluate_on: {dataset.info.name} is the name of another set that models are "
                "trained on, so the one would count as the other's site; import it under another "
                "name"
            )


def _refuse_unknown_populations(settings: StudySettings) -> None:
    transfer = settings.transfer
    if transfer is None or not isinstance(transfer.population, dict):
        return
    # of the study's own set as a whole the study's population holds
    known = [*transfer.sites, *(read_info(path).name for path in transfer.data)]
    if unknown := [name for name in transfer.population if name not in known]:
        raise InputError(
            f"transfer.population: {', '.join(unknown)}: no site or other set of this name (there "
            f"are {', '.join(known)}); of the whole set, set privacy.population"
        )


def refuse_unfit_grid(settings: StudySettings, rows: Sequence[GridRow]) -> None:
    """Refuse a grid that asks for what it cannot give.

    Raises:
        InputError: with everything that is wrong: one set in two roles, a split that is not there,
            two sets of one name to score on, sets without a target in common or of volumes in
            another form, sets made from those whom a cross-validation holds out, an epsilon that
            no strategy uses.
    """
    problems = [*_sets_in_two_roles(settings), *_unscorable_sets(settings)]
    problems += _made_from_the_judged(settings, rows)
    problems += [*_nothing_in_common(settings, rows), *_volumes_unlike(settings, rows)]
    refuse_problems([*problems, *_unused_epsilons(settings, rows)])


def _sets_in_two_roles(settings: StudySettings) -> Iterator[str]:
    # phantoms may stand for patients too
    roles = ("data", "synthetic", "private_synthetic", "public")
    named: dict[Path, str] = {}
    for role in roles:
        path = getattr(settings, role)
        if path is not None:
            first = named.setdefault(path.resolve(), role)
            if first != role:
                yield f"{role}: {path.name} is named as {first} already; keep one of the two"


def _unscorable_sets(settings: StudySettings) -> Iterator[str]:
    named: dict[tuple[str, str], EvaluateOn] = {}
    for index, on in enumerate(settings.evaluation_sets):
        try:
            dataset = open_dataset(on.data)
            dataset.split(on.manifest_split)
        except InputError as error:
            yield f"evaluate_on.{index}: {error}"
            continue
        first = named.setdefault((on.name, on.split), on)
        if first is on:
            continue
        if first.data.resolve() == on.data.resolve():
            yield f"evaluate_on: {on.name}, {on.split} stands twice; keep one"
        else:
            yield (
                f"evaluate_on.{index}: another set is called {dataset.info.name} too, so results "
                "could not tell them apart; import one under another name"
            )


def _made_from_the_judged(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    """Sets that models or their generators learn from, whose own met those whom folds hold out."""
    if settings.cross_validation is None:
        return
    data, calls = read_info(settings.data).name, [call for row in rows for call in row.calls]
    named = {path for call in calls for path in named_inputs(call.settings).values()}
    for path in sorted(named - {call.out for call in calls}):
        if is_dataset(path) and any(
            release.data == data for release in read_info(path).lineage.releases
        ):
            yield (
                f"{read_info(path).name}: was made from patients of {data}, so that no model that "
                "learns from it is new to those whom a cross-validation holds out; set "
                "private_generator, which makes a set for each fold, or evaluate_on in place of "
                "cross_validation"
            )


def _nothing_in_common(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    """Sets whose models can't be scored on another, since no target has one name in both."""
    scored = [on.data for on in settings.evaluation_sets]
    learned = dict.fromkeys(map(_learned, rows))
    targets = _targets_of([*scored, *learned])
    for path in dict.fromkeys(scored):
        for other in learned:
            there, here = targets.get(path), targets.get(other)
            if there and here and not set(there) & set(here):
                yield (
                    f"evaluate_on: {path.name} has {', '.join(there)}, and models of {other.name} "
                    f"score {', '.join(here)}: no target in common; import one with the other's "
                    "names, or leave it out"
                )


def _volumes_unlike(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    """Sets of volumes in another form than those that a model learns from."""
    for on in dict.fromkeys(on.data for on in settings.evaluation_sets):
        for learned in dict.fromkeys(map(_learned, rows)):
            try:
                known, info = read_info(learned), read_info(on)
            except InputError:  # told elsewhere
                continue
            if differences := ", ".join(form_differences(info, known)):
                yield (
                    f"evaluate_on: {info.name}: its volumes are of another form than those of "
                    f"{known.name}, which models learn from: {differences}; make the set again "
                    "with these settings, or leave it out"
                )


def _unused_epsilons(settings: StudySettings, rows: Sequence[GridRow]) -> Iterator[str]:
    unused: list[float | None]
    if not any(crosses_grid(name) for name in settings.strategies):
        unused = [epsilon for epsilon in settings.epsilons if epsilon is not None]
        why = "no strategy of this study meets a patient again, so none is repeated for it"
    else:
        used = {row.epsilon for row in rows if crosses_grid(row.strategy)}
        unused = [epsilon for epsilon in settings.epsilons if epsilon not in used]
        why = "what its strategies start from has spent it already"
    if unused:
        yield f"epsilons: {', '.join(map(shown_entry, unused))}: {why}; leave it out"


def refuse_problems(problems: Sequence[str]) -> None:
    """Raise one InputError with all of these, each once.

    Raises:
        InputError: when there are any.
    """
    different = list(dict.fromkeys(problems))
    if different:
        text = different[0] if len(different) == 1 else "\n  ".join(["study:", *different])
        raise InputError(text)

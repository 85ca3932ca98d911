"""One table: stage name -> the function that runs it; alone names gan and classify."""

from __future__ import annotations  # what a stage promises and calls is named here, not imported

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthdp.machine.progress import stage
from synthdp.own_packages import own_module

if TYPE_CHECKING:
    from synthdp.config.settings import Settings
    from synthdp.networks.exported.settings import ExportModelSettings
    from synthdp.privacy.attacks.settings import AuditSettings
    from synthdp.privacy.promise.statement import Statement
    from synthdp.runs.folder import StageCall
    from synthdp.runs.to_come import AllToCome


@dataclass(frozen=True)
class Stage:
    """Where a stage stands: a module and the names in it, imported when they are used.

    Its settings and its plan may stand in modules of their own, so that what is wrong with them,
    and what it will promise, are told without torch and its like. `chained` stages start from
    another run, so their plan takes the runs to come. Of functions that are named as "module:name",
    `estimate` says in words how long the stage will take, `try_networks` refuses networks that
    can't be built or trained, `alike` gives what settings have in common with those of runs that
    can be made together (None: nothing), and `together` makes these, and gives what has ended each.
    """

    module: str
    settings: str
    run: str
    plan: str | None = None
    chained: bool = False
    estimate: str | None = None
    settings_module: str = ""
    plan_module: str = ""
    try_networks: str | None = None
    alike: str | None = None
    together: str | None = None

    @property
    def _name(self) -> str:
        return next((name for name, known in STAGES.items() if known is self), "")

    def settings_class(self) -> type[Settings]:
        """The class of the stage's settings."""
        module = own_module(self.settings_module or self.module)
        cls: type[Settings] = getattr(module, self.settings)
        return cls

    def planned(
        self, settings: Settings, to_come: AllToCome | None = None, *, weights: bool = False
    ) -> Statement | None:
        """What the stage will promise, before any image is read; None where nothing is promised.

        `to_come` gives runs that are planned too, by their folders; with `weights` files of public
        weights are looked for.

        Raises:
            InputError: when settings and the folders that they name do not fit, as far as public
                values tell; networks apart (`refuse_networks`).
        """
        from synthdp.runs.missing import refuse_missing_inputs  # noqa: PLC0415 (starts light)

        refuse_missing_inputs(self._name, settings, to_come=to_come or (), weights=weights)
        if self.plan is None:
            return None
        plan = getattr(own_module(self.plan_module or self.module), self.plan)
        statement: Statement | None = plan(settings, to_come) if self.chained else plan(settings)
        return statement

    def refuse_networks(self, settings: Settings, to_come: AllToCome | None = None) -> None:
        """Refuse networks that can't be built or trained as asked; reads no file of weights.

        Of one stage its run says so within seconds. It is for a study, whose runs would say it one
        after the other, hours later: it imports torch, which plans don't.

        Raises:
            InputError: naming the setting.
        """
        if self.try_networks is not None:
            _named(self.try_networks)(settings, to_come or {})

    def estimated(self, settings: Settings) -> str:
        """How long the stage will take, in words; empty where nobody has said it."""
        if self.estimate is None:
            return ""
        return str(_named(self.estimate)(settings))

    def start(self, settings: Settings) -> Path:
        """Run the stage, resume it, or return at once when it is done; gives its folder or file."""
        from synthdp.runs.missing import refuse_missing_inputs  # noqa: PLC0415 (starts light)

        refuse_missing_inputs(self._name, settings)
        with stage(self._name or self.run):
            return Path(getattr(own_module(self.module), self.run)(settings))

    def common(self, settings: Settings) -> str | None:
        """What runs have in common that can be made together; None for one that can't."""
        if self.alike is None:
            return None
        common: str | None = _named(self.alike)(settings)
        return common

    def start_together(self, several: Sequence[Settings]) -> list[Exception | None]:
        """Run the stage for settings that have all in `common`; gives what has ended each."""
        from synthdp.errors import InputError  # noqa: PLC0415 (starts light)
        from synthdp.runs.missing import refuse_missing_inputs  # noqa: PLC0415 (as above)

        assert self.together is not None  # they have something in common
        ended: list[Exception | None] = [None] * len(several)
        for index, settings in enumerate(several):
            try:
                refuse_missing_inputs(self._name, settings)
            except InputError as error:
                ended[index] = error
        started = [index for index, error in enumerate(ended) if error is None]
        with stage(self._name or self.run):
            endings = (
                _named(self.together)([several[index] for index in started]) if started else []
            )
        for index, ending in zip(started, endings, strict=True):
            ended[index] = ending
        return ended


def _named(function: str) -> Callable[..., Any]:
    """A function by its name, "module:name"."""
    module, _, name = function.partition(":")
    named: Callable[..., Any] = getattr(own_module(module), name)
    return named


_GAN, _CLASSIFY = "gan.settings", "classify.settings"
_IMPORTS = "synthdp.data.importing.settings"
_GAN_PLANS, _CLASSIFY_PLANS = "gan.plans", "classify.plans"

STAGES: dict[str, Stage] = {
    "data phantoms": Stage(
        "synthdp.data.phantoms.phantoms",
        "PhantomSettings",
        "run_phantoms",
        settings_module="synthdp.data.phantoms.settings",
    ),
    "data patches": Stage(
        "synthdp.data.importing.patches",
        "PatchesSettings",
        "run_patches",
        settings_module=f"{_IMPORTS}.patches",
    ),
    "data dicom": Stage(
        "synthdp.data.importing.dicom",
        "DicomSettings",
        "run_dicom",
        settings_module=f"{_IMPORTS}.dicom",
    ),
    "data volumes": Stage(
        "synthdp.data.importing.volumes",
        "VolumesSettings",
        "run_volumes",
        settings_module=f"{_IMPORTS}.volumes",
    ),
    "data cbis-ddsm": Stage(
        "synthdp.data.importing.cbis_ddsm",
        "CbisDdsmSettings",
        "run_cbis_ddsm",
        settings_module=f"{_IMPORTS}.cbis_ddsm",
    ),
    "train-gan": Stage(
        "gan.train",
        "TrainGanSettings",
        "run_train_gan",
        "plan_train_gan",
        chained=True,
        try_networks="gan.training.trial:try_train_gan",
        settings_module=f"{_GAN}.train",
        plan_module=f"{_GAN_PLANS}.train",
    ),
    "mix-generators": Stage(
        "gan.mix",
        "MixGeneratorsSettings",
        "run_mix_generators",
        "plan_mix_generators",
        settings_module=f"{_GAN}.finished",
        plan_module=f"{_GAN_PLANS}.generators",
    ),
    "import-generator": Stage(
        "gan.import_dcgan",
        "ImportGeneratorSettings",
        "run_import_generator",
        "plan_import_generator",
        settings_module=f"{_GAN}.finished",
        plan_module=f"{_GAN_PLANS}.generators",
    ),
    "generate": Stage(
        "gan.generate",
        "GenerateSettings",
        "run_generate",
        "plan_generate",
        chained=True,
        settings_module=f"{_GAN}.finished",
        plan_module=f"{_GAN_PLANS}.sets",
    ),
    "assess": Stage("gan.assess", "AssessSettings", "run_assess", settings_module=f"{_GAN}.assess"),
    "assess reader": Stage(
        "gan.reader", "ReaderSettings", "run_reader", settings_module=f"{_GAN}.reader"
    ),
    "assess score": Stage(
        "gan.reader", "ReaderScoreSettings", "run_reader_score", settings_module=f"{_GAN}.reader"
    ),
    "export": Stage(
        "gan.export",
        "ExportSettings",
        "run_export",
        "plan_export",
        settings_module=f"{_GAN}.finished",
        plan_module=f"{_GAN_PLANS}.generators",
    ),
    "export-model": Stage(
        "synthdp.stages",
        "ExportModelSettings",
        "run_export_model",
        "plan_export_model",
        settings_module="synthdp.networks.exported.settings",
    ),
    "pretrain": Stage(
        "classify.pretrain",
        "PretrainSettings",
        "run_pretrain",
        "plan_pretrain",
        chained=True,
        settings_module=f"{_CLASSIFY}.pretrain",
        plan_module=_CLASSIFY_PLANS,
        try_networks="classify.setup.trial:try_pretrain",
    ),
    "finetune": Stage(
        "classify.finetune",
        "FinetuneSettings",
        "run_finetune",
        "plan_finetune",
        chained=True,
        settings_module=f"{_CLASSIFY}.finetune",
        plan_module=_CLASSIFY_PLANS,
        try_networks="classify.setup.trial:try_finetune",
        alike="classify.alike:finetunes_alike",
        together="classify.together:run_finetunes",
    ),
    "calibrate": Stage(
        "classify.calibrate",
        "CalibrateSettings",
        "run_calibrate",
        "plan_calibrate",
        chained=True,
        settings_module=f"{_CLASSIFY}.finished",
        plan_module=_CLASSIFY_PLANS,
    ),
    "predict": Stage(
        "classify.predict",
        "PredictSettings",
        "run_predict",
        settings_module=f"{_CLASSIFY}.finished",
    ),
    "evaluate": Stage(
        "classify.evaluate",
        "EvaluateSettings",
        "run_evaluate",
        "plan_evaluate",
        settings_module=f"{_CLASSIFY}.finished",
        plan_module=_CLASSIFY_PLANS,
        alike="classify.alike:evaluations_alike",
        together="classify.evaluate:run_evaluations",
    ),
    "audit": Stage(
        "synthdp.stages",
        "AuditSettings",
        "run_audit",
        settings_module="synthdp.privacy.attacks.settings",
    ),
    "study": Stage(
        "synthdp.study.stage",
        "StudySettings",
        "run_study",
        "plan_study",
        estimate="synthdp.study.estimate:study_estimate",
        settings_module="synthdp.study.settings",
        plan_module="synthdp.study.plan",
    ),
    "report": Stage(
        "synthdp.study.report.page",
        "ReportSettings",
        "run_report",
        settings_module="synthdp.study.report.settings",
    ),
}


def _is_generator(run: Path) -> bool:
    """Whether a run, or `pretrained:NAME`, is that of a generator."""
    from synthdp.status import read_status  # noqa: PLC0415 (as the settings' classes)

    status = read_status(run)
    generators = ("train-gan", "mix-generators", "import-generator")
    return str(run).startswith("pretrained:") or (status is not None and status.stage in generators)


def run_export_model(settings: ExportModelSettings) -> Path:
    """Write a released classifier or generator as one file, with its promise.

    Raises:
        InputError: when the run was not released, is neither, or `out` holds something else.
        RunError: when it can't be exported, or the file gives something else than the run.
    """
    room = "gan" if _is_generator(settings.run) else "classify"
    return Path(own_module(f"{room}.library.exported").run_export_model(settings))


def plan_export_model(settings: ExportModelSettings) -> Statement:
    """What the file promises: what the run does.

    Raises:
        InputError: when the run is not finished.
    """
    from synthdp.privacy.promise.stated import read_statement  # noqa: PLC0415 (takes a second)

    known = packaged_statements([settings.run])
    return known.get(settings.run) or read_statement(settings.run)


def run_audit(settings: AuditSettings) -> Path:
    """Audit a finished run: of a generator or of a classifier, as its status says.

    Raises:
        InputError: when the run is not finished, promises nothing, or can't be attacked.
        RunError: when the promise is broken; the folder says how.
    """
    from synthdp.status import read_status  # noqa: PLC0415 (the table is read without pydantic)

    status = read_status(settings.run)
    room = "gan" if status is not None and status.stage == "train-gan" else "classify"
    return Path(own_module(f"{room}.audit").run_audit(settings))


def packaged_statements(paths: Iterable[Path]) -> dict[Path, Statement]:
    """The statements of those of `paths` that are `pretrained:NAME`."""
    named = [path for path in paths if str(path).startswith("pretrained:")]
    return {path: own_module("gan.package.opened").packaged_statement(path) for path in named}


def score_difference(run: Path, released: Path) -> float:
    """The largest difference between the scores of two classifiers on public phantoms.

    Args:
        run: one of them, as it stands in the house.
        released: the other one, as it leaves.

    Raises:
        InputError: when one can't be loaded.
    """
    return float(own_module("classify.model.difference").score_difference(run, released))


def make_compact(run: Path, released: Path) -> None:
    """Put into a released generator which phantoms it keeps, in the place of their images.

    Args:
        run: as it stands in the house.
        released: a copy, whose model is written anew.

    Raises:
        InputError: when it is no generator, keeps no images, or these can't be drawn again.
    """
    from synthdp.errors import InputError  # noqa: PLC0415 (as the settings' classes)

    if not _is_generator(run):
        raise InputError(f"--compact: goes with the run of a generator, and {run.name} is another")
    own_module("gan.package.packing").compact_model(run, released)


def _strategies() -> Any:
    """The module of the recipes, imported when a study asks for them."""
    return own_module("classify.strategies")


def strategy_names() -> list[str]:
    """The named recipes that a study can compare."""
    return list(_strategies().STRATEGIES)


def expand_strategy(
    name: str, ingredients: Mapping[str, Any], *, epsilon: float | None, seed: int, root: Path
) -> tuple[StageCall, ...]:
    """The stage calls of one recipe, in order; the last one makes the model.

    Raises:
        InputError: when the recipe misses an ingredient, or an ingredient does not fit.
    """
    calls: tuple[StageCall, ...] = _strategies().expand(
        name, ingredients, epsilon=epsilon, seed=seed, root=root
    )
    return calls


def crosses_grid(name: str) -> bool:
    """Whether the recipe is repeated for each epsilon of a study."""
    return bool(_strategies().STRATEGIES[name].crosses_grid)

"""Several runs of a study at once, which share what they have in common.

Each run is its own in all that counts: its folder, its settings, its place in the record of its
patients, its ledger, its noise, its statement. What is shared is work: features are read once, and
heads are trained by products for all of them (`classify.head.train.train_private_heads`).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from signal import SIGTERM

from torch import Tensor

from classify.alike import finetunes_alike
from classify.finetune import finish_finetune, planned_finetune, private_head, train_plain_head
from classify.head.train import HeadRecipe, PrivateHead, head_recipe, train_private_heads
from classify.model.classifier import Classifier
from classify.settings.finetune import FinetuneSettings
from classify.setup.head import HeadSetup, set_up_head
from synthdp.data.identity import keyed_digest
from synthdp.errors import InputError, RunError
from synthdp.machine.interrupts import handled, interrupt
from synthdp.privacy.ledger.run_ledger import Ledger
from synthdp.privacy.lineage import Release
from synthdp.privacy.promise.plan import PrivacyPlan
from synthdp.runs.folder import Run, open_run
from synthdp.storage.files import closed_to_others

#: What ends one run, and leaves the others at work.
_ENDS_ONE_RUN = (InputError, RunError, OSError)


@dataclass(frozen=True)
class _OpenRun:
    """A run that is open: its index among all, and what closes it."""

    index: int
    settings: FinetuneSettings
    plan: PrivacyPlan
    run: Run
    closing: ExitStack


class _RunsTogether:
    """The runs of a group that are open, and what has ended others, by their index."""

    def __init__(self, all_settings: Sequence[FinetuneSettings]) -> None:
        self.ended: dict[int, Exception] = {}
        self._all = all_settings
        self.open: list[_OpenRun] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open all runs that can be; whatever is raised inside ends all that still are."""
        # Runs may be closed in another order than they were opened: what each puts back, such as
        # who takes a signal, has to be what stands here.
        with closed_to_others(), handled((SIGTERM,), interrupt), ExitStack() as everything:
            for index, settings in enumerate(self._all):
                closing = everything.enter_context(ExitStack())
                try:
                    plan, _ = planned_finetune(settings)
                    plan.refuse_overspent(settings.out)
                    run = closing.enter_context(open_run(settings.out, "finetune", settings))
                except _ENDS_ONE_RUN as error:
                    self.ended[index] = error
                    continue
                if run.finished:
                    closing.close()
                else:
                    plan = plan.with_release_id(run.release_id)
                    self.open.append(_OpenRun(index, settings, plan, run, closing))
            yield

    def still_open(self) -> list[_OpenRun]:
        """Those that are still open."""
        return [one for one in self.open if one.index not in self.ended]

    def end_with(self, one: _OpenRun, error: Exception) -> None:
        """Close a run that an error of its own has ended."""
        self.ended[one.index] = error
        # as if the error had left the run's own `with` block: its folder says that it failed
        one.closing.__exit__(type(error), error, error.__traceback__)

    @contextmanager
    def alone(self, one: _OpenRun) -> Iterator[None]:
        """For work on one run: an error of its own ends it, and the others go on."""
        try:
            yield
        except _ENDS_ONE_RUN as error:
            self.end_with(one, error)


def run_finetunes(all_settings: Sequence[FinetuneSettings]) -> list[Exception | None]:
    """Fine-tune the heads of several runs that are alike (`finetunes_alike`), or resume them.

    Returns:
        For each run what ended it; None where it is finished.

    Guarantee: of each run that of `classify.finetune.run_finetune`.
    """
    assert len({finetunes_alike(settings) for settings in all_settings}) == 1
    runs = _RunsTogether(all_settings)
    with runs.opened():
        if runs.still_open():
            try:
                first = runs.still_open()[0]
                setup = set_up_head(first.settings, first.plan.dataset)
            except _ENDS_ONE_RUN as error:  # in what all of them share
                for one in runs.still_open():
                    runs.end_with(one, error)
            else:
                train = _train_private if first.settings.privacy.protects else _train_plain
                train(runs, setup)
    return [runs.ended.get(index) for index in range(len(all_settings))]


def _train_private(runs: _RunsTogether, setup: HeadSetup) -> None:
    """Train and finish what can be; the record of each release is on the disk before any step."""
    heads: list[tuple[_OpenRun, PrivateHead]] = []
    fingerprint = keyed_digest(runs.still_open()[0].plan.dataset, setup.rows)
    for one in runs.still_open():
        with runs.alone(one):
            head = private_head(one.settings, one.run, one.plan, setup, fingerprint)
            heads.append((one, head))
    if not heads:
        return
    trained = train_private_heads([head for _, head in heads], setup.examples, public=setup.public)
    for (one, head), weights in zip(heads, trained, strict=True):
        if isinstance(weights, Tensor):
            with runs.alone(one):
                _finish(one, setup, weights, head.ledger.close())
        else:
            runs.end_with(one, weights)


def _train_plain(runs: _RunsTogether, setup: HeadSetup) -> None:
    """Train and finish the heads that promise nothing."""
    # without noise two heads of one recipe are the same, whatever their epsilon and seed
    known: dict[HeadRecipe, Tensor] = {}
    for one in runs.still_open():
        with runs.alone(one):
            one.plan.record(Ledger(one.run.ledger_path))
            recipe = head_recipe(one.settings.head, one.plan.stage_epsilon, one.plan.n_units)
            if recipe not in known:
                seed = one.settings.seed
                known[recipe] = train_plain_head(setup, recipe, sampling_rate=1.0, seed=seed)
            _finish(one, setup, known[recipe], one.plan.release)


def _finish(one: _OpenRun, setup: HeadSetup, weights: Tensor, spent: Release) -> None:
    classifier = setup.classifier_of(weights, one.settings.head)
    finish_finetune(one.settings, one.run, one.plan, _of_seed(classifier, one.settings), spent)
    one.closing.close()


def _of_seed(classifier: Classifier, settings: FinetuneSettings) -> Classifier:
    """The classifier whose networks are noted under the run's own seed, save those of `init`."""
    sources = classifier.feature_sources
    n_kept = 0 if settings.init is None else len(sources) - len(settings.beside)
    new = [replace(source, seed=settings.seed) for source in sources[n_kept:]]
    return classifier.with_feature_sources([*sources[:n_kept], *new])

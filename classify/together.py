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
from classify.model import Classifier
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
_ITS_OWN = (InputError, RunError, OSError)


@dataclass(frozen=True)
class _Open:
    """A run that is open: its place among all, and what closes it."""

    place: int
    settings: FinetuneSettings
    plan: PrivacyPlan
    run: Run
    closing: ExitStack


class _Runs:
    """The runs of a group that are open, and what has ended others, by their places."""

    def __init__(self, all_settings: Sequence[FinetuneSettings]) -> None:
        self.ended: dict[int, Exception] = {}
        self._all = all_settings
        self.open: list[_Open] = []

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open all runs that can be; whatever is raised inside ends all that still are."""
        # Runs may be closed in another order than they were opened: what each puts back, such as
        # who takes a signal, has to be what stands here.
        with closed_to_others(), handled((SIGTERM,), interrupt), ExitStack() as everything:
            for place, settings in enumerate(self._all):
                closing = everything.enter_context(ExitStack())
                try:
                    plan, _ = planned_finetune(settings)
                    run = closing.enter_context(open_run(settings.out, "finetune", settings))
                except _ITS_OWN as error:
                    self.ended[place] = error
                    continue
                if run.finished:
                    closing.close()
                else:
                    plan = plan.with_release_id(run.release_id)
                    self.open.append(_Open(place, settings, plan, run, closing))
            yield

    def each(self) -> list[_Open]:
        """Those that are still open."""
        return [one for one in self.open if one.place not in self.ended]

    def end(self, one: _Open, error: Exception) -> None:
        """Close a run that an error of its own has ended."""
        self.ended[one.place] = error
        one.closing.__exit__(type(error), error, error.__traceback__)

    @contextmanager
    def ends(self, one: _Open) -> Iterator[None]:
        """What is raised inside ends this run alone."""
        try:
            yield
        except _ITS_OWN as error:
            self.end(one, error)


def run_finetunes(all_settings: Sequence[FinetuneSettings]) -> list[Exception | None]:
    """Fine-tune the heads of several runs that are alike (`finetunes_alike`), or resume them.

    Returns:
        For each run what ended it; None where it is finished.

    Guarantee: of each run that of `classify.finetune.run_finetune`.
    """
    assert len({finetunes_alike(settings) for settings in all_settings}) == 1
    runs = _Runs(all_settings)
    with runs.opened():
        if runs.each():
            try:
                first = runs.each()[0]
                setup = set_up_head(first.settings, first.plan.dataset)
            except _ITS_OWN as error:  # of what all of them stand on
                for one in runs.each():
                    runs.end(one, error)
            else:
                train = _train_private if first.settings.privacy.protects else _train_plain
                train(runs, setup)
    return [runs.ended.get(place) for place in range(len(all_settings))]


def _train_private(runs: _Runs, setup: HeadSetup) -> None:
    """Train and finish what can be; the record of each release is on the disk before any step."""
    heads: list[tuple[_Open, PrivateHead]] = []
    fingerprint = keyed_digest(runs.each()[0].plan.dataset, setup.rows)
    for one in runs.each():
        with runs.ends(one):
            head = private_head(one.settings, one.run, one.plan, setup, fingerprint)
            heads.append((one, head))
    if not heads:
        return
    trained = train_private_heads([head for _, head in heads], setup.examples, public=setup.public)
    for (one, head), weights in zip(heads, trained, strict=True):
        if isinstance(weights, Tensor):
            with runs.ends(one):
                _finish(one, setup, weights, head.ledger.close())
        else:
            runs.end(one, weights)


def _train_plain(runs: _Runs, setup: HeadSetup) -> None:
    known: dict[HeadRecipe, Tensor] = {}  # without noise no two of one recipe differ
    for one in runs.each():
        with runs.ends(one):
            one.plan.record(Ledger(one.run.ledger_path))
            recipe = head_recipe(one.settings.head, one.plan.stage_epsilon)
            if recipe not in known:
                seed = one.settings.seed
                known[recipe] = train_plain_head(setup, recipe, sampling_rate=1.0, seed=seed)
            _finish(one, setup, known[recipe], one.plan.release)


def _finish(one: _Open, setup: HeadSetup, weights: Tensor, spent: Release) -> None:
    classifier = setup.classifier_of(weights, one.settings.head)
    finish_finetune(one.settings, one.run, one.plan, _of_seed(classifier, one.settings), spent)
    one.closing.close()


def _of_seed(classifier: Classifier, settings: FinetuneSettings) -> Classifier:
    """The classifier whose networks are noted under the run's own seed, save those of `init`."""
    sources = classifier.feature_sources
    n_kept = 0 if settings.init is None else len(sources) - len(settings.beside)
    new = [replace(source, seed=settings.seed) for source in sources[n_kept:]]
    return classifier.with_feature_sources([*sources[:n_kept], *new])

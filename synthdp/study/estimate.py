"""How long a study will take, said before it starts: from public numbers and counts of rows.

Of heads nearly all of it is the features of images: seconds = images x views x seconds a view, for
each network, and a little for every head and every evaluation. A network that is trained takes for
each patient that a step draws the gradient of its images, and with privacy what clips a vector of
all its weights; for each step as long a vector of noise; and the features of all images that it is
scored on. What networks take is measured on this machine (`synthdp.networks.speed`), all else was
measured on one core of a busy server (2026), where others take more or less. What is kept from
before (features, finished runs) is not counted as done, so that it may take less.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.data.dataset import open_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.networks.speed import seconds_a_view, training_speed
from synthdp.privacy.units import Part
from synthdp.runs.folder import StageCall
from synthdp.stages import STAGES
from synthdp.study.settings import EngineSettings, StudySettings
from synthdp.study.sweep.grid import GridRow, expand_grid

#: Seconds of one core for a head of 600 steps: what any takes, and what 1000 images add.
SECONDS_A_HEAD, SECONDS_A_HEAD_OF_1000 = 1.0, 6.0
#: What a head takes of that which is trained together with another.
HEAD_BESIDE_ANOTHER = 0.2
#: Seconds of one core for the scores of a model and their intervals, and for a study to start.
SECONDS_AN_EVALUATION, SECONDS_TO_START = 1.5, 10.0
#: Seconds of one core for a thousand images of 128 px shown to a generator, by its method.
SECONDS_A_KIMG, SECONDS_A_KIMG_OF_OTHERS = {"embedding": 45.0}, 20.0
#: Seconds of one core for an image that a generator draws.
SECONDS_A_DRAWN = 0.005
#: Seconds of one core for what a selection keeps of an image, a candidate's or a patient's, and for
#: its weights.
SECONDS_A_SELECTED, SECONDS_TO_SELECT = 0.05, 8.0
#: In batches an image's gradient takes so much of what it takes by itself.
IN_BATCHES = 0.6
#: Seconds of one core for a million weights: to clip a patient's vector of them and add it, and to
#: draw the noise of a step, by its generator.
SECONDS_TO_CLIP = 0.007
SECONDS_OF_NOISE = {"philox": 0.05, "shake256": 0.25}
#: What people are given, in minutes: nobody knows it better.
_ROUND_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)


def study_estimate(settings: StudySettings) -> str:
    """How long the study will take on its workers, in words.

    Raises:
        InputError: when the grid or an ingredient does not fit.
    """
    return workers_estimate(settings, study_seconds(settings, expand_grid(settings)))


def workers_estimate(settings: EngineSettings, seconds: float) -> str:
    """That a study takes so many seconds on its workers, in words."""
    workers = (
        "as many workers as fit"
        if settings.workers == "all"
        else (f"{settings.workers} worker{'s' if settings.workers > 1 else ''} with a core each")
    )
    return f"will take {estimate_words(seconds)} on {workers}; less where results are kept"


def study_seconds(settings: StudySettings, rows: Sequence[GridRow]) -> float:
    """Seconds that a study takes on its workers, nothing being there yet.

    Raises:
        InputError: when a data set is not there.
    """
    tally = _Tally(settings, _images([settings.data]))
    calls: dict[Path, StageCall] = {}
    for call in (call for row in rows for call in row.calls):
        calls.setdefault(call.out, call)  # rows share runs
    for call in calls.values():
        tally.add(call)
    scored = settings.evaluation_sets
    total = tally.seconds + sum(tally.features.values())
    total += len(rows) * len(scored) * SECONDS_AN_EVALUATION
    others = {on.data.resolve() for on in scored} - {settings.data.resolve()}
    networks = (settings.backbone, *settings.beside)
    total += sum(_images(others) * one.views * seconds_a_view(one) for one in networks)
    workers = 2 if settings.workers == "all" else settings.workers
    n_cores: int = workers * settings.threads
    return total / n_cores


@dataclass
class _Tally:
    """What the runs of a study take in all; what several of them share counts once.

    seconds: of all but what is kept beside sets; features: of that, by set and by what computes it;
    drawn: how many images the sets have that the study draws; together: of heads that are trained
    together, what they have in common.
    """

    settings: StudySettings
    n_images: int
    seconds: float = SECONDS_TO_START
    features: dict[tuple[Path, str], float] = field(default_factory=dict)
    drawn: dict[Path, int] = field(default_factory=dict)
    together: set[str] = field(default_factory=set)

    def add(self, call: StageCall) -> None:
        """Count a run."""
        if call.stage == "train-gan":
            self._add_generator(call)
        elif call.stage == "generate":
            self.drawn[call.out] = call.setting("count")
            self.seconds += self.drawn[call.out] * SECONDS_A_DRAWN
        elif call.stage == "pretrain":
            self.seconds += _pretraining(_images([call.setting("data")], self.drawn), call.settings)
        elif call.setting("network") is not None:
            self._add_network(call)
        else:
            self._add_head(call)

    def _add_generator(self, call: StageCall) -> None:
        if call.setting("method") != "selection":
            a_kimg = SECONDS_A_KIMG.get(call.setting("method"), SECONDS_A_KIMG_OF_OTHERS)
            self.seconds += call.setting("kimg") * a_kimg * (call.setting("size_px") / 128) ** 2
            return
        self.seconds += SECONDS_TO_SELECT
        for path in (call.setting("data"), *call.setting("selection").pool):
            self.features[path, "selection"] = _images([path]) * SECONDS_A_SELECTED

    def _add_network(self, call: StageCall) -> None:
        self.seconds += _network_seconds(self.settings, call)
        centre, own = call.setting("centre"), call.setting("backbone")
        if centre is not None:  # which models of one network share
            seconds = _images([centre]) * own.views * seconds_a_view(own)
            self.features[centre, f"{own.name} {own.views}"] = seconds

    def _add_head(self, call: StageCall) -> None:
        common = STAGES[call.stage].common(call.settings)
        beside = common is not None and common in self.together
        self.together.add(common or "")
        seconds = _head(call.setting("head"), self.n_images)
        self.seconds += seconds * (HEAD_BESIDE_ANOTHER if beside else 1)
        sets = {call.setting(key) for key in ("data", "synthetic", "centre")} - {None}
        source = str(call.setting("init") or "")
        backbones = (call.setting("backbone") or self.settings.backbone, *call.setting("beside"))
        for path, one in product(sets, backbones):
            seconds = _images([path], self.drawn) * one.views * seconds_a_view(one)
            self.features[path, f"{source} {one.name} {one.views}"] = seconds


def _network_seconds(settings: StudySettings, call: StageCall) -> float:
    """Of a run that trains a network: its steps, and the images that its model is scored on."""
    network, backbone = call.setting("network"), _trained_backbone(settings, call)
    # none may be there: a refusal would tell whether the last of the patients is
    trained_on = open_dataset(call.setting("data")).split("train", may_be_empty=True)
    images = Counter(row.patient_id for row in trained_on)
    most = network.max_images or max(images.values(), default=0)
    left = _share_left(call.setting("leave_out"), call.setting("share"))
    draws = left * network.sampling_rate * network.steps  # of each patient
    views = sum(min(n, most) for n in images.values()) * network.views
    one, privacy = training_speed(backbone, network.trainable_blocks), call.setting("privacy")
    seconds = views * draws * one.seconds
    if privacy.protects:
        seconds += len(images) * draws * one.millions * SECONDS_TO_CLIP
        seconds += network.steps * one.millions * SECONDS_OF_NOISE[privacy.noise]
    else:
        seconds *= IN_BATCHES
    scored = sum(
        len(open_dataset(on.data).split(on.manifest_split, may_be_empty=True))
        for on in settings.evaluation_sets
    )
    if one.keeps_tokens:
        scored += left * len(trained_on) * network.views
    total: float = seconds + scored * backbone.views * seconds_a_view(backbone)
    return total


def _trained_backbone(settings: StudySettings, call: StageCall) -> FeatureSettings:
    """The network that a run trains: its own, or that of the pretraining that it starts from."""
    whole = call.setting("network").trainable_blocks == "all"
    pretrained = settings.trained_backbone if whole else None
    own: FeatureSettings = call.setting("backbone") or pretrained or settings.backbone
    return own


def _share_left(fold: Part | None, share: float | None) -> float:
    """Which share of the patients a run is trained on."""
    return (1 if fold is None else 1 - 1 / fold.of) * (share or 1)


def _images(paths: Iterable[Path], to_come: Mapping[Path, int] | None = None) -> int:
    """How many images sets have; of those `to_come` it is known before."""
    known = to_come or {}
    return sum(known[path] if path in known else len(open_dataset(path).rows) for path in paths)


def _head(head: Any, n_images: int) -> float:
    """Of the settings of a head; None where the stage has none."""
    steps: int = getattr(head, "steps", 600)
    return (SECONDS_A_HEAD + SECONDS_A_HEAD_OF_1000 * n_images / 1000) * steps / 600


def _pretraining(n_images: int, settings: Any) -> float:
    """Of its epochs, and of features of all images in the end."""
    passes, seconds = 1, 0.0
    if settings.trainable_blocks != 0:
        one = training_speed(settings.backbone, settings.trainable_blocks)
        seconds = settings.epochs * one.seconds * IN_BATCHES
        passes += settings.views if one.keeps_tokens else 0
    total: float = n_images * (seconds + passes * seconds_a_view(settings.backbone))
    return total


def estimate_words(seconds: float) -> str:
    """An estimate for people, as coarse as it is: `about 30 minutes`."""
    minutes = next((rounded for rounded in _ROUND_MINUTES if seconds / 60 <= rounded), None)
    if minutes is None:
        return f"about {seconds / 86400:.0f} days"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {minutes // 60 if minutes % 60 == 0 else minutes / 60:g} hours"

"""How long a study will take, said before it starts: from public numbers and counts of rows.

Of heads nearly all of it is the features of images: seconds = images x views x seconds a view, for
each network, and a little for every head and every evaluation. A network that is trained has
features of its own: its steps count, and all images that it is scored on. A vision transformer
takes 2 operations for each weight and token, so its seconds a view are weights x tokens x a
constant; the size and the patch stand in its name. The figures below were measured on one core of a
busy server (2026): 648 s for 1520 images, 8 views and two networks, and a head. A faster machine
takes less. What is kept from before (features, finished runs) is not counted as done, so that it
may take less.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from synthdp.data.dataset import open_dataset
from synthdp.networks.settings import FeatureSettings
from synthdp.runs.folder import StageCall
from synthdp.stages import STAGES
from synthdp.study.settings import EngineSettings, StudySettings
from synthdp.study.sweep.grid import GridRow, expand_grid

#: Millions of weights of vision transformers by the size in their names (Dosovitskiy et al., arXiv
#: 2010.11929; Touvron et al., arXiv 2012.12877; Oquab et al., arXiv 2304.07193).
MILLIONS_OF_WEIGHTS = {
    "tiny": 5.7,
    "small": 22,
    "base": 86,
    "large": 304,
    "huge": 632,
    "giant": 1136,
}
_TRANSFORMER = re.compile(rf"({'|'.join(MILLIONS_OF_WEIGHTS)})_patch(\d+)")
#: Seconds of one core for a million weights and a token.
SECONDS_A_MILLION = 1.6e-5
#: Seconds of one core for one view of an image by networks of other kinds, and the side in pixels
#: at which it was measured; the time grows with the pixels.
SECONDS_A_VIEW = {
    "tf_efficientnet_lite0": (0.007, 160),
    "resnet18": (0.010, 160),
    "resnet50": (0.020, 160),
    "test_vit": (0.0001, 64),
}
#: What is not known by its name counts as a small transformer.
_OTHER = (0.050, 168)
#: Seconds of one core for a head of 600 steps: what any takes, and what 1000 images add.
SECONDS_A_HEAD, SECONDS_A_HEAD_OF_1000 = 1.0, 6.0
#: What a head takes of that which is trained together with another.
HEAD_BESIDE_ANOTHER = 0.2
#: Seconds of one core for the scores of a model and their intervals, and for a study to start.
SECONDS_AN_EVALUATION, SECONDS_TO_START = 1.5, 10.0
#: Seconds of one core for a thousand images of 128 px shown to a generator, by its method, and for
#: one that is drawn.
SECONDS_A_KIMG, SECONDS_A_KIMG_OF_OTHERS, SECONDS_A_DRAWN = {"embedding": 45.0}, 20.0, 0.005
#: Of those that select from a pool whose features are kept: those of a patient's image, which are
#: kept, too, and weights.
SECONDS_A_SELECTED, SECONDS_TO_SELECT = 0.05, 8.0
#: A training step of blocks costs so many times the features of its images (forward and backward),
#: and one that clips each patient's gradient so many times.
TRAINING, PRIVATE_TRAINING = 3.0, 6.0
#: How many blocks the transformers have of which some are trained.
BLOCKS = 12
#: What people are given, in minutes: nobody knows it better.
_ROUND_MINUTES = (1, 2, 3, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)


def seconds_a_view(backbone: FeatureSettings) -> float:
    """Seconds of one core that a network takes for one view of an image."""
    transformer = _TRANSFORMER.search(backbone.name)
    if transformer is not None:
        size, patch = transformer.groups()
        tokens = (backbone.size_px / int(patch)) ** 2
        return MILLIONS_OF_WEIGHTS[size] * tokens * SECONDS_A_MILLION
    seconds, side = SECONDS_A_VIEW.get(backbone.name, _OTHER)
    scale: float = (backbone.size_px / side) ** 2
    return seconds * scale


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
    trained, total, seen = set[Path](), SECONDS_TO_START, dict[tuple[Path, str], float]()
    shared = set[str]()  # what heads that are trained together have in common
    n_images = _images([settings.data])
    drawn = dict[Path, int]()  # images of the sets that the study makes itself
    for row in rows:
        for call in row.calls:
            if call.out in trained:
                continue
            trained.add(call.out)
            if call.stage in ("train-gan", "generate"):
                drawn[call.out] = getattr(call.settings, "count", 0)
                total += _generator(call) + drawn[call.out] * SECONDS_A_DRAWN
                if call.setting("method") == "selection":
                    data = call.setting("data")
                    seen[data, "selection"] = _images([data]) * SECONDS_A_SELECTED
                continue
            if call.stage == "pretrain":
                n_shown = _images([call.setting("data")], drawn)
                total += _pretraining(n_shown, call.settings)
                continue
            if call.setting("network") is not None:
                total += _network_seconds(settings, call)
                continue
            common = STAGES[call.stage].common(call.settings)
            beside = common is not None and common in shared
            shared.add(common or "")
            total += _head(call.setting("head"), n_images) * (HEAD_BESIDE_ANOTHER if beside else 1)
            sets = [call.setting(key) for key in ("data", "synthetic", "centre")]
            source = str(call.setting("init") or "")
            asked = (call.setting("backbone") or settings.backbone, *call.setting("beside"))
            for path, one in product({path for path in sets if path is not None}, asked):
                key = (path, f"{source} {one.name} {one.views}")
                seen[key] = _images([path], drawn) * one.views * seconds_a_view(one)
    scored = settings.evaluation_sets
    total += sum(seen.values()) + len(rows) * len(scored) * SECONDS_AN_EVALUATION
    others = {on.data.resolve() for on in scored} - {settings.data.resolve()}
    networks = (settings.backbone, *settings.beside)
    total += sum(_images(others) * one.views * seconds_a_view(one) for one in networks)
    workers = 2 if settings.workers == "all" else settings.workers
    n_cores: int = workers * settings.threads
    return total / n_cores


def _network_seconds(settings: StudySettings, call: StageCall) -> float:
    """Of a run that trains a network: its steps, and the images that its model is scored on."""
    network, backbone = call.setting("network"), call.setting("backbone")
    backbone = backbone or settings.trained_backbone or settings.backbone
    # none may be there: a refusal would tell whether the last of the patients is
    trained_on = open_dataset(call.setting("data")).split("train", may_be_empty=True)
    images = Counter(row.patient_id for row in trained_on)
    most = network.max_images or max(images.values(), default=0)
    a_pass = sum(min(n, most) for n in images.values()) * network.views
    seen = a_pass * network.sampling_rate * network.steps
    times = PRIVATE_TRAINING if call.setting("privacy").protects else TRAINING
    scored = sum(
        len(open_dataset(on.data).split(on.manifest_split, may_be_empty=True))
        for on in settings.evaluation_sets
    )
    seconds: float = (seen * times + scored * backbone.views) * seconds_a_view(backbone)
    return seconds


def _generator(call: StageCall) -> float:
    """Of a generator's training; nothing of other stages."""
    if call.stage != "train-gan":
        return 0.0
    if call.setting("method") == "selection":
        return SECONDS_TO_SELECT
    a_kimg = SECONDS_A_KIMG.get(call.setting("method"), SECONDS_A_KIMG_OF_OTHERS)
    seconds: float = call.setting("kimg") * a_kimg * (call.setting("size_px") / 128) ** 2
    return seconds


def _images(paths: Iterable[Path], to_come: Mapping[Path, int] | None = None) -> int:
    """How many images sets have; of those `to_come` it is known before."""
    known = to_come or {}
    return sum(known[path] if path in known else len(open_dataset(path).rows) for path in paths)


def _head(head: Any, n_images: int) -> float:
    """Of the settings of a head; None where the stage has none."""
    steps: int = getattr(head, "steps", 600)
    return (SECONDS_A_HEAD + SECONDS_A_HEAD_OF_1000 * n_images / 1000) * steps / 600


def _pretraining(n_images: int, settings: Any) -> float:
    """Of blocks alone, what is before them is computed once for each image."""
    passes, blocks = TRAINING * settings.epochs, settings.trainable_blocks
    if blocks != "all":
        passes = 1 + passes * min(blocks / BLOCKS, 1)
    seconds: float = passes * n_images * seconds_a_view(settings.backbone)
    return seconds


def estimate_words(seconds: float) -> str:
    """An estimate for people, as coarse as it is: `about 30 minutes`."""
    minutes = next((rounded for rounded in _ROUND_MINUTES if seconds / 60 <= rounded), None)
    if minutes is None:
        return f"about {seconds / 86400:.0f} days"
    if minutes < 90:
        return f"about {minutes} minute{'s' if minutes > 1 else ''}"
    return f"about {minutes // 60 if minutes % 60 == 0 else minutes / 60:g} hours"

"""Which settings `synthdp init` writes for which kind of images."""

from collections.abc import Mapping
from typing import Literal

#: Flat images of one target, such as patches; of several findings; volumes.
Kind = Literal["patches", "findings", "volumes"]

#: What phantoms of masses are labelled for: a head may begin with them, and a generator select from
#: them, where images have the same target.
DRAWN_TARGET = "malignant"
#: The generator of another target, of which there are no phantoms to select from.
MOVED_GENERATOR = "gan/own-private-embedding"
#: The phantoms that a generator selects from: settings of `synthdp data phantoms`.
POOL_FILE, POOL_CONFIG = "pool.yaml", "data/pool-phantoms"

#: Which packaged settings are filled in as which file, and the stage that reads them.
WRITTEN: Mapping[Kind, Mapping[str, tuple[str, str]]] = {
    "patches": {
        "generator.yaml": ("gan/own-private", "train-gan"),
        "study.yaml": ("study/own", "study"),
        "classifier.yaml": ("classify/best", "finetune"),
    },
    "findings": {
        "study.yaml": ("study/own-findings", "study"),
        "classifier.yaml": ("classify/own-findings", "finetune"),
    },
    "volumes": {
        "study.yaml": ("study/own-volumes", "study"),
        "classifier.yaml": ("classify/volumes-head", "finetune"),
    },
}


def selects(kind: Kind, targets: tuple[str, ...]) -> bool:
    """Whether the generator of such images selects among phantoms."""
    return kind == "patches" and targets == (DRAWN_TARGET,)

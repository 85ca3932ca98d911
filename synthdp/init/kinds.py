"""Which settings `synthdp init` writes for which kind of images."""

from collections.abc import Mapping
from typing import Literal

#: Flat images of one target, such as patches; of several findings; volumes.
Kind = Literal["patches", "findings", "volumes"]

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

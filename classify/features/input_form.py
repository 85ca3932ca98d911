"""How files are brought to what a classifier was trained on, kept with it for whoever has new ones.

Side, slices, spacing and window are settings of the import of a set, so they are public, and no
number of them is read from images.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from synthdp.config.settings import Settings
from synthdp.data.description import DatasetInfo
from synthdp.data.volumes.form import VolumeForm, form_differences
from synthdp.errors import InputError
from synthdp.networks.settings import FeatureSettings


class InputForm(Settings):
    """The form of the images of a set.

    size_px: their side; depth: of volumes, the number of slices; volumes: how those were made of
    scans, None where they were drawn.
    """

    size_px: int = Field(ge=8, le=8192)
    depth: int | None = Field(default=None, ge=1, le=1024)
    volumes: VolumeForm | None = None

    def as_json(self) -> dict[str, Any]:
        """What a model's settings say of it."""
        return self.model_dump(mode="json", exclude_none=True)


def input_form(info: DatasetInfo, networks: Iterable[FeatureSettings]) -> InputForm | None:
    """The form that a classifier of this set by these networks keeps.

    It is None for flat images of one target, whose models say no more than they always did:
    `predict` is told the side there. Where noise is taken out it is kept, since noise is told from
    detail at the side that images had in training.
    """
    denoises = any(one.denoise is not None for one in networks)
    if info.depth is None and len(info.targets) == 1 and not denoises:
        return None
    return InputForm(size_px=info.size_px, depth=info.depth, volumes=info.volumes)


def refuse_unlike_images(
    form: InputForm | None, info: DatasetInfo, *, of_volumes: bool, mend: str = ""
) -> None:
    """Refuse a set of volumes for a classifier of flat images, the other way round, and another
    form of volumes than that of the training.

    A network sees other anatomy, or other grey levels, in such, and its scores mean nothing then.

    Args:
        form: what the classifier keeps of its training's set; None of flat images of one target,
            and of models of earlier versions.
        info: of the set.
        of_volumes: whether the classifier sees volumes.
        mend: what else can be done about another form, in words.

    Raises:
        InputError: with what the set holds, or each setting that differs.
    """
    if (info.depth is not None) != of_volumes:
        there = "flat images" if info.depth is None else f"volumes of {info.sides}"
        wanted = "volumes" if of_volumes else "flat images"
        raise InputError(
            f"{info.name}: holds {there}, and the run is a classifier of {wanted}; name a set of "
            "such, or another run"
        )
    if of_volumes and form is not None and (differences := ", ".join(form_differences(info, form))):
        raise InputError(
            f"{info.name}: its volumes are of another form than those that the classifier was "
            f"trained on: {differences}; make the set again with these settings{mend}"
        )


def refuse_other_form(settings: FeatureSettings, info: DatasetInfo) -> None:
    """Refuse volumes for a network of flat images, and the other way round.

    Raises:
        InputError: saying which setting is missing or too much.
    """
    if info.depth is not None and settings.axes is None:
        raise InputError(
            f"{info.name}: holds volumes of {info.sides}, and the network would see flat images; "
            "say along which axes it sees slices, as backbone.axes: [0, 1, 2]"
        )
    if info.depth is None and settings.axes is not None:
        raise InputError(
            f"{info.name}: holds flat images, and backbone.axes is for volumes; leave axes, slices "
            "and slice_pool out"
        )


def refuse_views_for_head(info: DatasetInfo, *, views: int, grain: float | None) -> None:
    """Refuse more views of a volume than itself for a head: none are made.

    Raises:
        InputError: when `views` are several, or one with `grain` is asked for.
    """
    if info.depth is not None and (views > 1 or grain is not None):
        raise InputError(
            f"{info.name}: holds volumes, of which no random views are made for a head; set "
            "head.views: 1, and leave head.image_noise out"
        )


def refuse_kept_views(info: DatasetInfo, views: int) -> None:
    """Refuse more views of a volume than itself for a network that is trained: none are kept.

    Raises:
        InputError: saying what draws them instead.
    """
    if info.depth is not None and views > 1:
        raise InputError(
            f"{info.name}: holds volumes, of which no random views are kept; set augment, which "
            "draws them anew in each pass, or views: 1"
        )


def refuse_attention(settings: FeatureSettings) -> None:
    """Refuse a pooling that is learned where nothing of the network is trained.

    Raises:
        InputError: saying what is possible.
    """
    if settings.slice_pool == "attention":
        raise InputError(
            "backbone.slice_pool: attention is learned, and features of a frozen network are not; "
            "take mean or max, or train the whole network (network.trainable_blocks: all)"
        )

"""Which network of timm is taken, and how features are read from it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from synthdp.config.settings import NONE_WORD, Settings


class BackboneSettings(Settings):
    """A frozen public network of timm: its name, its weights, and the side of its input."""

    name: str = "vit_small_patch14_dinov2"
    """What timm calls the network."""

    weights: Annotated[Path | None, NONE_WORD] = None
    """A local file of its weights (with `sha256`); `hub`: timm downloads them, on request only;
    `none`: a random start.
    Example: hub
    """

    sha256: Annotated[str | None, NONE_WORD] = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the file `weights`, 64 hexadecimal digits; another file is refused.
    Example: 0000000000000000000000000000000000000000000000000000000000000000
    """

    size_px: int = Field(default=126, ge=16, le=1024)
    """Side in pixels at which images enter the network."""


#: How many blocks, counted from the end, are trained; the final norm goes with the last block.
TrainableBlocks = Annotated[int, Field(ge=0)] | Literal["all"]
#: How what a layer gives is made one vector: the class token, the mean over places, the mean under
#: a window around the centre (where a patch holds its mass), the standard deviation over places.
Pool = Literal["class_token", "mean", "centre", "spread"]


#: Settings of features that came later, and stand nowhere while they are unset.
_LATER_FEATURE_KEYS = ("batch_norm", "axes", "slices", "slice_pool", "view_order", "denoise")
#: Which views of an image come first; without one the image, its mirror image, a quarter turn ...
ViewOrder = Literal["turns"]


class FeatureSettings(BackboneSettings):
    """A network, and how features are read from it.

    Of what a public set says about a part (one layer, pooled one way), its mean is subtracted, then
    the part is whitened and scaled to norm 1.
    """

    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Blocks of a transformer, or stages of a convolutional network, that features are read from,
    counted from 0; none: after the last one and its norm.
    Example: [5, 11]
    """

    pools: tuple[Pool, ...] = ()
    """How what a layer gives is made one vector: class token, mean over places, mean under a window
    around the centre (where a patch holds its mass), standard deviation over places. None: class
    token, if there is one, and mean.
    Example: [class_token, mean]
    """

    views: Literal[1, 2, 4, 8] = 1
    """Features are the mean over the first so many of the eight flips and quarter turns of an
    image.
    """

    view_order: ViewOrder | None = None
    """Which 2 or 4 views: when not set, the image and its mirror image, then both after a quarter
    turn; by `turns`, the image and its half turn, then the two quarter turns. Of images without an
    upright, such as patches, turns are nearer to all eight.
    Example: turns
    """

    intensity: Literal["as_is", "standardised"] = "as_is"
    """`standardised` gives each image the same mean and spread first."""

    denoise: Literal["auto"] | None = None
    """`auto` takes white noise out of each flat image before the network sees it, as much as that
    image shows by itself; one with noise of less than 1 % of its range stays as it is. For a head
    that shall hold on another scanner, in training and everywhere after.
    Example: auto
    """

    whiten: float = Field(default=0.0, ge=0, le=1)
    """Power to which the covariance of a public set (`centre`) is divided out of the features: 0
    not at all, 1 wholly.
    """

    weight: float = Field(default=1.0, gt=0, le=100)
    """How many times this network's features count beside those of others."""

    channels: Literal[1, 3] = 3
    """1 builds a network for grey images, onto whose input the weights' three colours are summed.
    """

    precision: Literal["auto", "float32"] = "auto"
    """`auto` multiplies in bfloat16 where the hardware does."""

    batch_norm: Literal["frozen"] | None = None
    """`frozen` lets a network with BatchNorm be trained: its norms keep the statistics that the
    public weights fixed, and never see those of patients. Without it such a network is refused.
    Example: frozen
    """

    axes: tuple[Literal[0, 1, 2], ...] | None = Field(default=None, min_length=1, max_length=3)
    """Of volumes, along which axes the network sees slices: 0 across the stored slices, 1 across
    rows, 2 across columns. Not set for flat images.
    Example: [0, 1, 2]
    """

    slices: int | None = Field(default=None, ge=1, le=1024)
    """Of volumes, how many slices along each axis, evenly spaced; 16 when not set, and all where
    there are fewer.
    Example: 8
    """

    slice_pool: Literal["mean", "max", "attention"] | None = None
    """Of volumes, how what the network gives for slices becomes one vector: their mean when not
    set, the greatest value of each, or a mean whose weights are learned, in a network that is
    trained whole.
    Example: max
    """

    @model_validator(mode="after")
    def _slices_have_axes(self) -> "FeatureSettings":
        if self.axes is None and (self.slices is not None or self.slice_pool is not None):
            raise ValueError("backbone.slices, slice_pool: are of volumes; name their axes too")
        if self.axes is not None and list(self.axes) != sorted(set(self.axes)):
            raise ValueError("backbone.axes: name each axis once, in rising order")
        return self

    @model_validator(mode="after")
    def _flat_images_are_denoised(self) -> "FeatureSettings":
        if self.denoise is not None and self.axes is not None:
            raise ValueError("backbone.denoise: is of flat images; leave it out for volumes")
        return self

    @model_validator(mode="after")
    def _some_views_have_an_order(self) -> "FeatureSettings":
        if self.view_order is not None and self.views not in (2, 4):
            raise ValueError(
                f"backbone.view_order: says nothing of {self.views} view(s); leave it out, or set "
                "views to 2 or 4"
            )
        return self

    @model_validator(mode="after")
    def _layers_and_pools_are_in_order(self) -> "FeatureSettings":
        if list(self.layers) != sorted(set(self.layers)):
            raise ValueError("backbone.layers: name each layer once, in rising order")
        if len(set(self.pools)) != len(self.pools):
            raise ValueError("backbone.pools: a way of pooling stands twice; keep one")
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out later keys where they are unset: names of folders are hashes of this."""
        values: dict[str, Any] = handler(self)
        unset = [name for name in _LATER_FEATURE_KEYS if values.get(name, "") is None]
        return {name: value for name, value in values.items() if name not in unset}

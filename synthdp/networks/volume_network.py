"""A flat network that sees volumes: slices along axes, pooled to one vector, trained as a whole."""

import torch
from torch import Tensor, nn

from synthdp.networks.backbone import Backbone
from synthdp.networks.slices import SLICE_POOL, SLICES, slices_along

#: Units of the layer by which a slice's vector is judged.
ATTENTION_UNITS = 32


class SliceAttention(nn.Module):
    """A mean of vectors whose weights are learned (Ilse et al. 2018, arXiv 1802.04712, eq. 8).

    The weight of a vector h among those of its volume is the softmax of `w . tanh(V h)`. With w at
    zero, where it begins, it is the plain mean.
    """

    def __init__(self, n_features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.hidden = nn.Linear(n_features, ATTENTION_UNITS)
        self.score = nn.Linear(ATTENTION_UNITS, 1, bias=False)  # softmax takes no notice of one
        start = torch.randn(ATTENTION_UNITS, n_features, generator=generator)
        self.hidden.weight.data.copy_(start / n_features**0.5)
        self.hidden.bias.data.zero_()
        self.score.weight.data.zero_()

    def forward(self, vectors: Tensor) -> Tensor:
        """(B, K, D) to (B, D)."""
        weights = torch.softmax(self.score(torch.tanh(self.hidden(vectors))), dim=1)
        return (weights * vectors).sum(dim=1)


class VolumeNetwork(Backbone):
    """A network for volumes (B, D, S, S), all of whose weights are trained.

    Its slices go through the flat network as images do, so that whatever keeps these apart keeps
    slices and volumes apart, and are pooled as the settings say. Each volume gives one vector, and
    so one gradient. A flat image, (B, 1, S, S), is a volume of one slice.
    """

    def __init__(self, flat: Backbone, seed: int) -> None:
        super().__init__(flat.network, flat.settings, flat.trainable_blocks)
        assert flat.settings.axes is not None
        trained = {id(p) for p in flat.parameters() if p.requires_grad}
        for parameter in self.network.parameters():  # what features don't depend on stays frozen
            parameter.requires_grad_(id(parameter) in trained)
        self._flat = flat
        self._axes, self._slices = flat.settings.axes, flat.settings.slices or SLICES
        self._pool = flat.settings.slice_pool or SLICE_POOL
        if self._pool == "attention":  # a part of the network, so that it is kept with it
            generator = torch.Generator().manual_seed(seed)
            self.network.slice_attention = SliceAttention(flat.n_features, generator)

    @property
    def cuts_tokens(self) -> bool:
        """False: all of it is trained."""
        return False

    @property
    def parts(self) -> tuple[int, ...]:
        """The length of each part of a feature vector, in order."""
        return self._flat.parts

    def trunk(self, images: Tensor) -> Tensor:
        """Nothing is frozen: the volumes themselves."""
        return images

    def top(self, tokens: Tensor) -> Tensor:
        """Volumes (B, D, S, S) in [-1, 1] to features (B, F)."""
        planes = slices_along(tokens, self._axes, self._slices, self.settings.size_px)
        flat = planes.flatten(0, 1)
        vectors = self._flat.top(self._flat.trunk(flat)).float().unflatten(0, planes.shape[:2])
        if self._pool == "attention":
            weighted: Tensor = self.network.slice_attention(vectors)
            return weighted
        pooled: Tensor = vectors.amax(dim=1) if self._pool == "max" else vectors.mean(dim=1)
        return pooled

"""The networks that descriptions of generators are of."""

from typing import TypeAlias, overload

import torch
from torch import Tensor

from gan.network.bank import Bank
from gan.network.dcgan import DcganGenerator
from gan.network.generator import Generator
from gan.network.mixture import Mixture
from gan.network.sampling import GENERATORS, AnyGenerator
from gan.package.description import AnyShape, BankShape, MixtureShape, TrainedShape

TrainedGenerator: TypeAlias = Generator | DcganGenerator


def tensors_of(shape: AnyShape) -> dict[str, Tensor]:
    """The tensors of a generator of this shape, without memory: names and shapes alone."""
    with torch.device("meta"):
        tensors: dict[str, Tensor] = build_generator(shape).state_dict()
    return tensors


@overload
def build_generator(shape: TrainedShape) -> TrainedGenerator: ...
@overload
def build_generator(shape: MixtureShape) -> Mixture: ...
@overload
def build_generator(shape: BankShape) -> Bank: ...
def build_generator(shape: AnyShape) -> AnyGenerator:
    """A generator of this shape, drawn from torch's global stream."""
    return GENERATORS[shape.architecture](**shape.arguments)

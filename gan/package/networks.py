"""The networks that descriptions of generators are of."""

from typing import TypeAlias, overload

import torch
from torch import Tensor

from gan.network.bank import Bank
from gan.network.dcgan import DcganGenerator
from gan.network.generator import Generator
from gan.network.mixture import Mixture
from gan.network.sampling import GENERATORS, AnyGenerator
from gan.package.description import (
    AnyShape,
    BankShape,
    BuiltShape,
    MixtureShape,
    PhantomBankShape,
    TrainedShape,
)

TrainedGenerator: TypeAlias = Generator | DcganGenerator


def tensors_of(shape: AnyShape) -> dict[str, Tensor]:
    """The tensors in the file of such a generator, without memory: names and shapes alone."""
    with torch.device("meta"):
        if isinstance(shape, PhantomBankShape):
            return {name: torch.empty(sides) for name, sides in shape.tensors.items()}
        tensors: dict[str, Tensor] = build_generator(shape).state_dict()
    return tensors


@overload
def build_generator(shape: TrainedShape) -> TrainedGenerator: ...
@overload
def build_generator(shape: MixtureShape) -> Mixture: ...
@overload
def build_generator(shape: BankShape) -> Bank: ...
@overload
def build_generator(shape: BuiltShape) -> AnyGenerator: ...
def build_generator(shape: BuiltShape) -> AnyGenerator:
    """A generator of this shape, drawn from torch's global stream."""
    return GENERATORS[shape.architecture](**shape.arguments)

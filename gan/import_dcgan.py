"""Import a checkpoint of the paper's generator, a torch file, into a run that `generate` takes."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from gan.package.description import MAX_STAGES, DcganShape, Description
from gan.package.model import write_generator
from gan.package.networks import build_generator, tensors_of
from gan.plans.generators import plan_import_generator
from gan.settings.finished import ImportGeneratorSettings
from synthdp.config.settings import validate_settings
from synthdp.errors import InputError
from synthdp.runs.cards import model_card
from synthdp.runs.folder import open_run
from synthdp.storage.files import sha256_file
from synthdp.storage.torch_files import load_torch

STAGE = "import-generator"
MAX_BYTES = 2**30
#: The paper's code registers its first layers twice, under this name too.
_DUPLICATES = "first_layers."


def run_import_generator(settings: ImportGeneratorSettings) -> Path:
    """Read the checkpoint and write a finished run, or return at once.

    Raises:
        InputError: when the file is missing, of another sha256, or no such checkpoint.
    """
    with open_run(settings.out, STAGE, settings) as run:
        if run.finished:
            return run.path
        state = read_state(settings.file, settings.sha256)
        shape = shape_of(state, unit_range=settings.unit_range)
        renamed_tensors(state, tensors_of(shape))  # refused before anything is built
        generator = build_generator(shape)
        generator.load_state_dict(renamed_tensors(state, generator.state_dict()))
        description = Description(shape, settings.target, settings.trained_on)
        write_generator(run.path, generator.state_dict(), description)
        statement = plan_import_generator(settings)
        card = model_card(
            title=f"Imported generator of {shape.size_px} px patches",
            summary=f"A conditional DCGAN, trained elsewhere on {settings.trained_on!r}.",
            statement=statement,
            settings=settings.model_dump(mode="json", exclude={"file", "out"}),
        )
        run.finish(statement, card)
        return run.path


def read_state(path: Path, sha256: str | None) -> dict[str, Tensor]:
    """The tensors of the generator in a torch file, read without running anything in it.

    Raises:
        InputError: when the file is missing, too large, of another sha256, or holds no generator.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; name a checkpoint (.pt)")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES:,} bytes, so it was not read")
    digest = sha256_file(path)
    if sha256 is None:
        raise InputError(
            "sha256 is missing: a checkpoint is checked; if this file is the one that you mean, "
            f"set sha256={digest}"
        )
    if digest != sha256:
        raise InputError(f"{path}: its sha256 is {digest}, but {sha256} was asked for")
    content = load_torch(path, what=str(path), max_bytes=MAX_BYTES)
    state = content.get("generator", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise InputError(
            f'{path}: holds no {{"generator": tensors by name}}; name a checkpoint of the generator'
        )
    return {
        str(name).removeprefix("module."): tensor.float()
        for name, tensor in state.items()
        if not str(name).removeprefix("module.").startswith(_DUPLICATES) and tensor.ndim > 0
    }


def shape_of(state: Mapping[str, Tensor], *, unit_range: bool) -> DcganShape:
    """Read the shape of a conditional DCGAN off its tensors.

    Raises:
        InputError: when they are those of another network.
    """
    kernels = [tensor for tensor in state.values() if tensor.ndim == 4]
    if len(kernels) < 3 or kernels[-1].shape[1] != 1 or kernels[0].shape[0] % 2:
        raise InputError(
            "the checkpoint is not of a conditional DCGAN that draws grey images (4x4 transposed "
            "convolutions from latent vector and class down to one channel)"
        )
    z_dim = kernels[0].shape[0] // 2
    widths = [int(kernel.shape[1]) for kernel in kernels[:-1]]
    normed = sum(tensor.ndim == 1 for tensor in state.values()) > 1  # one is the linear bias
    values = {
        "size_px": 4 * 2 ** min(len(widths), MAX_STAGES),
        "channels": tuple(widths),
        "z_dim": int(z_dim),
        "norm": "batch" if normed else "instance",
        "unit_range": unit_range,
    }
    return validate_settings(DcganShape, values, where="the checkpoint's network")


def renamed_tensors(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under our names: by name where they agree, else by shape, in their order.

    Shapes tell all apart, unless the latent vector is as long as a normalised layer is wide.

    Raises:
        InputError: when a tensor has no counterpart.
    """
    unused = dict(state)
    renamed: dict[str, Tensor] = {}
    for name, own in wanted.items():
        if own.ndim == 0:  # how many batches a normalisation has seen
            renamed[name] = own
            continue
        fits = [other for other, tensor in unused.items() if tensor.shape == own.shape]
        if not fits:
            raise InputError(
                f"the checkpoint has no tensor of shape {tuple(own.shape)} for {name}; it is of "
                "another network"
            )
        renamed[name] = unused.pop(name if name in fits else fits[0])
    if unused:
        raise InputError(f"the checkpoint has {len(unused)} tensors that the network does not know")
    return renamed

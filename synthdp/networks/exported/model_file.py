"""A model as one file that runs without synthdp: `torch.export` or ONNX, held against the original.

The file is written, loaded again by the program that will run it, and asked for the same inputs
as the original, in a batch of another size than it was traced with; where the two differ by more
than a tolerance, no file is left.
"""

import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synthdp import __version__
from synthdp.config.card_file import HUB_CARD
from synthdp.errors import InputError, RunError
from synthdp.machine.progress import at_work
from synthdp.networks.exported.card import exported_card, licence_files
from synthdp.networks.exported.settings import ExportModelSettings
from synthdp.networks.public.carried import read_networks
from synthdp.privacy.accounting.bounds import epsilon_text
from synthdp.privacy.promise.statement import Statement
from synthdp.storage.files import atomic_folder, read_json, write_atomic, write_json

logger = logging.getLogger(__name__)

ExportFormat: TypeAlias = Literal["onnx", "torch-export"]
#: What runs a written file on inputs.
Run: TypeAlias = Callable[[Sequence[Tensor]], NDArray[Any]]
FILES: Mapping[ExportFormat, str] = {"onnx": "model.onnx", "torch-export": "model.pt2"}
#: What a program needs to know of the file, beside it.
ABOUT_FILE = "export.json"
#: Key of the metadata inside the file.
ABOUT_KEY = "synthdp"


@dataclass(frozen=True)
class Port:
    """An input or the output: its name, what it is in words, and its shape after the batch."""

    name: str
    meaning: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    def as_json(self) -> dict[str, Any]:
        """As it stands in `export.json`; the batch is of any size."""
        return {
            "name": self.name,
            "shape": ["batch", *self.shape],
            "dtype": self.dtype,
            "meaning": self.meaning,
        }


@dataclass(frozen=True)
class Interface:
    """What goes in, in order, and what comes out."""

    inputs: tuple[Port, ...]
    output: Port


def export_folder(
    settings: ExportModelSettings,
    *,
    statement: Statement,
    weights_sha256: str,
    write: Callable[[Path, Mapping[str, Any]], float],
) -> Path:
    """The folder of an exported model: the file, what it is, its card, promise and licences.

    Guarantee: it holds what the released run holds, and the public networks that it stands on.

    Args:
        settings: of the stage; the run has no private part.
        statement: what the run promises.
        weights_sha256: of the run's own weights.
        write: writes the file into a folder, with what it is to say of itself; gives the largest
            difference from the original.

    Raises:
        InputError: when the run has a private part, or `out` holds another model.
    """
    if (settings.run / "private").exists():
        raise InputError(
            f"{settings.run}: has a private part; copy out what may leave first, with `synthdp "
            "privacy --release RUN OUT`, and name OUT"
        )
    about = {
        "epsilon": epsilon_text(statement.epsilon),
        "privacy": statement.model_dump(mode="json"),
        "size_px": settings.size_px,
        "run_weights_sha256": weights_sha256,
    }
    if (settings.out / ABOUT_FILE).is_file():
        there = read_json(settings.out / ABOUT_FILE)
        if any(there.get(key) != value for key, value in about.items()) or (
            there.get("format") != settings.format
        ):
            raise InputError(f"{settings.out}: holds another exported model; name a new folder")
        return settings.out
    with atomic_folder(settings.out) as folder:
        write_atomic(folder / "privacy.json", (settings.run / "privacy.json").read_bytes())
        with at_work("writing the file, and asking it for the same inputs"):
            difference = write(folder, about)
        networks = read_networks(settings.run / "model").networks
        card = exported_card(settings.run, statement, read_json(folder / ABOUT_FILE), networks)
        for name, text in {HUB_CARD: card, **licence_files(networks)}.items():
            write_atomic(folder / name, text)
    logger.info("checked: what the file gives differs by at most %.1g", difference)
    return settings.out


def write_exported(
    folder: Path,
    file_format: ExportFormat,
    module: nn.Module,
    interface: Interface,
    *,
    example: Sequence[Tensor],
    original: NDArray[np.floating],
    tolerance: float,
    about: Mapping[str, Any],
) -> float:
    """Write a module and `export.json` into a folder, and hold it against the original.

    Args:
        folder: where both files go.
        file_format: which kind of file.
        module: in evaluation, on the CPU; its forward takes the inputs in order.
        interface: their names and meanings.
        example: the inputs, (B, ...) each, of at least three rows.
        original: what the original gives for them, (B, ...).
        tolerance: the largest difference from it that is let pass.
        about: what else the file says of itself, such as the statement.

    Returns:
        The largest difference from the original.

    Raises:
        InputError: when the extra `onnx` is missing.
        RunError: when the module can't be exported, or the file gives something else.
    """
    if file_format == "onnx":
        _refuse_missing_onnx()
    described = {
        "synthdp": __version__,
        "format": file_format,
        "file": FILES[file_format],
        "inputs": [port.as_json() for port in interface.inputs],
        "output": interface.output.as_json(),
        **about,
    }
    path = folder / FILES[file_format]
    traced = tuple(rows[:2] for rows in example)
    batch = torch.export.Dim("batch")
    try:
        with torch.no_grad():
            program = torch.export.export(
                module.eval(),
                traced,
                dynamic_shapes=tuple({0: batch} for _ in example),
                strict=False,
            )
        run = _write_onnx if file_format == "onnx" else _write_torch
        given = run(program, path, interface, described)(example)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        path.unlink(missing_ok=True)
        raise RunError(
            f"{file_format}: this model can't be exported by the torch that is installed "
            f"({type(error).__name__}); try the other format"
        ) from error
    difference = (
        float(np.abs(given - original).max()) if given.shape == original.shape else math.nan
    )
    if not difference <= tolerance:  # nan too
        path.unlink()
        raise RunError(
            f"{file_format}: the exported model differs from the original by {difference:.2g}, "
            f"more than {tolerance:g}, so it was not kept"
        )
    check = {"rows": len(original), "largest_difference": difference, "tolerance": tolerance}
    write_json(folder / ABOUT_FILE, {**described, "checked": check})
    return difference


def _refuse_missing_onnx() -> None:
    try:
        import onnx  # noqa: F401, PLC0415 (an extra)
        import onnxruntime  # noqa: F401, PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise InputError(
            "format: onnx needs packages that are not installed; install them with "
            "pip install 'synthdp[onnx]', or take torch-export"
        ) from error


@contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers from telling of each constant that they fold."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _write_torch(program: Any, path: Path, _: Interface, about: Mapping[str, Any]) -> Run:
    """Write the file, and give what runs it on inputs."""
    with warnings.catch_warnings():  # of tensors that share memory; what is loaded is compared
        warnings.simplefilter("ignore", UserWarning)
        torch.export.save(program, path, extra_files={f"{ABOUT_KEY}.json": json.dumps(about)})
        module = torch.export.load(path).module()

    def run(inputs: Sequence[Tensor]) -> NDArray[Any]:
        with torch.no_grad():
            output: Tensor = module(*inputs)
        result: NDArray[Any] = output.numpy()
        return result

    return run


def _write_onnx(program: Any, path: Path, interface: Interface, about: Mapping[str, Any]) -> Run:
    """Write the file, and give what runs it on inputs."""
    import onnx  # noqa: PLC0415 (an extra)
    import onnxruntime  # noqa: PLC0415

    names = [port.name for port in interface.inputs]
    with _quiet("onnx_ir", "onnxscript", "torch.onnx"):
        made = torch.onnx.export(
            program,
            input_names=names,
            output_names=[interface.output.name],
            dynamo=True,
            verbose=False,
        )
    assert made is not None  # it is None where a file is named
    model = made.model_proto
    onnx.helper.set_model_props(model, {ABOUT_KEY: json.dumps(about)})
    model.doc_string, model.producer_name = "", f"synthdp {__version__}"
    for node in model.graph.node:  # lines of source code, with folders of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.initializer):
        del value.metadata_props[:]
    onnx.save_model(model, path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(inputs: Sequence[Tensor]) -> NDArray[Any]:
        given = {name: rows.numpy() for name, rows in zip(names, inputs, strict=True)}
        output: NDArray[Any] = session.run(None, given)[0]
        return output

    return run

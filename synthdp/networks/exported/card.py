"""The card of a model that was written as one file: what stands in its folder, and how it is run.

It is that of the run, in which the sections that tell of the run's own files are written anew.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synthdp.config.card_file import card_file, split_card, with_header
from synthdp.networks.public.carried import PublicNetwork
from synthdp.networks.public.known import FREE_LICENCES, licence_file_text
from synthdp.privacy.promise.statement import Statement
from synthdp.runs.cards import (
    FILES,
    LICENCE,
    RUNS,
    listed,
    model_card,
    one_line,
    section_text,
    with_section,
)

#: What a card says of its generator that is true of a run alone.
_OF_A_RUN = re.compile(r"`synthdp generate` makes a data set with it\.\s?")
_OWN = "- the model's own weights:"
#: The Hub's name for what reads the file, and what is installed for it.
_LIBRARY = {"onnx": ("onnx", "numpy onnxruntime"), "torch-export": ("pytorch", "torch")}
#: How many rows the code of the card asks for.
_ROWS = 2


def exported_card(
    run: Path, statement: Statement, about: Mapping[str, Any], networks: Sequence[PublicNetwork]
) -> str:
    """The card of an exported model.

    Args:
        run: whose card is taken; where it has none, one is written of its promise alone.
        statement: what the run promises.
        about: what `export.json` holds.
        networks: the public networks inside the file.
    """
    text = with_header(base_card(run, statement), {"library_name": _LIBRARY[about["format"]][0]})
    sections = {
        LICENCE: _licence_text(section_text(text, LICENCE), networks, about["file"]),
        RUNS: _use_text(about),
        FILES: listed(_files(about, licence_files(networks))),
    }
    for name, body in sections.items():
        text = with_section(text, name, body, before="Use")
    return text


def base_card(run: Path, statement: Statement) -> str:
    """The card of a run without what is true of the run's folder alone, or a bare one."""
    card = card_file(run)
    text = "" if card is None else card.read_text(encoding="utf-8")
    if not split_card(text)[0]:
        words = f"A {statement.subject}."
        text = model_card(
            title=statement.subject.capitalize(), summary=words, statement=statement, settings={}
        )
    return _OF_A_RUN.sub("", text)


def licence_files(networks: Sequence[PublicNetwork]) -> dict[str, str]:
    """The text of each free licence under which a network inside the file stands, by file name."""
    files = {}
    for licence in FREE_LICENCES:
        credits = [f"{one.name}: {one.credit}" for one in networks if one.licence == licence]
        if credits:
            files[f"LICENSE-{licence}.txt"] = licence_file_text(licence, "\n".join(credits))
    return files


def _licence_text(before: str, networks: Sequence[PublicNetwork], file: str) -> str:
    """The terms of the model's own weights as they were told, and those of each network inside."""
    lines = [line for line in before.splitlines() if line.startswith(_OWN)]
    for one in networks:
        terms = one.licence or "licence not known, so ask before you pass this folder on"
        if one.licence and one.licence not in FREE_LICENCES:
            terms += ", which may not let you pass this folder on"
        credit = f"; {one_line(one.credit)}" if one.credit else ""
        lines.append(f"- {one_line(one.name)}: {one_line(terms)}, inside `{file}`{credit}")
    return "\n".join(lines)


def _files(about: Mapping[str, Any], licences: Mapping[str, str]) -> dict[str, str]:
    """What each file of the folder is."""
    what = "ONNX" if about["format"] == "onnx" else "torch.export"
    return {
        "README.md": "this card: Markdown, with a header in YAML",
        str(about["file"]): f"the whole {about['kind']} ({what}), and its promise as metadata",
        "export.json": "inputs, output, and how closely the file was held against the original",
        "privacy.json": "the promise, for programs: every figure of the text above",
        **dict.fromkeys(licences, "the licence of public networks inside the file, and credits"),
    }


def _use_text(about: Mapping[str, Any]) -> str:
    """What goes in, what comes out, and code that runs as it stands."""
    installed = _LIBRARY[about["format"]][1]
    ports = "\n".join(_port_text(one) for one in about["inputs"])
    code = _onnx_code(about) if about["format"] == "onnx" else _torch_code(about)
    words = (
        f"`{about['file']}` runs without synthdp. Inputs, for any number of rows at once:\n\n"
        f"{ports}\n\nOutput:\n\n{_port_text(about['output'])}\n\nIn the folder that this file "
        f"stands in:\n\n```sh\npip install {installed}\n```\n\n```python\n{code}```"
    )
    thresholds = ", ".join(f"{n} {value:.3g}" for n, value in about.get("thresholds", {}).items())
    return f"{words}\n\nPositive from this probability on: {thresholds}." if thresholds else words


def _port_text(port: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, port["shape"]))
    return f"- `{port['name']}`, {port['dtype']} ({shape}): {port['meaning']}"


def _onnx_code(about: Mapping[str, Any]) -> str:
    names = ", ".join(f'"{one["name"]}": {one["name"]}' for one in about["inputs"])
    output = about["output"]["name"]
    made = "".join(
        f"{one['name']} = {_numpy_example(one, about['kind'])}\n" for one in about["inputs"]
    )
    return (
        "import numpy as np\nimport onnxruntime\n\n"
        f'session = onnxruntime.InferenceSession("{about["file"]}")\n'
        f"chance = np.random.default_rng()  # put your own in the place of what it draws\n{made}"
        f"({output},) = session.run(None, {{{names}}})\nprint({output}.shape)\n"
    )


def _numpy_example(port: Mapping[str, Any], kind: str) -> str:
    shape = (_ROWS, *port["shape"][1:])
    if port["dtype"] == "int64":
        return f'np.zeros({shape}, dtype="int64")'
    drawn = "random" if kind == "classifier" else "standard_normal"
    return f'chance.{drawn}({shape}, dtype="float32")'


def _torch_code(about: Mapping[str, Any]) -> str:
    names = ", ".join(str(one["name"]) for one in about["inputs"])
    output = about["output"]["name"]
    made = "".join(
        f"{one['name']} = {_torch_example(one, about['kind'])}\n" for one in about["inputs"]
    )
    return (
        f'import torch\n\nmodel = torch.export.load("{about["file"]}").module()\n'
        f"# put your own in the place of what is drawn here\n{made}"
        f"with torch.no_grad():\n    {output} = model({names})\nprint(tuple({output}.shape))\n"
    )


def _torch_example(port: Mapping[str, Any], kind: str) -> str:
    shape = (_ROWS, *port["shape"][1:])
    if port["dtype"] == "int64":
        return f"torch.zeros({shape}, dtype=torch.int64)"
    return f"torch.{'rand' if kind == 'classifier' else 'randn'}({shape})"

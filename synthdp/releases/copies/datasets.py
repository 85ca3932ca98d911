"""A synthetic or phantom data set, copied as it may leave."""

import shutil
from pathlib import Path

from synthdp.config.card_file import card_file
from synthdp.data.dataset import open_dataset
from synthdp.data.looks.contact_sheet import CONTACT_SHEET_FILE, contact_sheet_of
from synthdp.data.manifest.hub_form import write_hub_form
from synthdp.data.writer import manifest_cells
from synthdp.errors import InputError
from synthdp.machine.progress import progress
from synthdp.privacy.promise.plan import set_statement
from synthdp.privacy.promise.statement import Statement
from synthdp.releases.copies.runs import card_of
from synthdp.releases.files import plain_file
from synthdp.runs.cards import restated
from synthdp.storage.files import write_atomic, write_json


def copy_dataset(root: Path, folder: Path) -> Statement:
    """Copy the images that the manifest names, the manifest, the description and the card.

    Raises:
        InputError: when the set holds patients' images, public ones too, or names a private file.
    """
    for name in ("dataset.json", "manifest.csv"):
        plain_file(root, name)
    dataset = open_dataset(root)
    if dataset.info.protects_patients:
        raise InputError(
            f"{dataset.info.name}: holds patients' images (or phantoms made to stand for them), "
            "which never leave; release a synthetic set made from them, or a model"
        )
    if dataset.info.kind == "public":
        raise InputError(
            f"{dataset.info.name}: is a public set, whose images are others' to pass on; name its "
            "source and its licence, and release what was trained on it"
        )
    names = list(dict.fromkeys(row.image for row in dataset.rows))
    for name in progress(names, what="copying", public_unit="images"):
        if Path(name).parts[0] == dataset.private.name:
            raise InputError(
                f"{root.name}/manifest.csv: names a file of private/, which never leaves; keep the "
                "set's images in images/"
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(plain_file(root, name), folder / name)
    left = dataset.info.model_copy(update={"ledger": None})  # which stays
    write_json(folder / "dataset.json", left.as_json())
    shutil.copyfile(root / "manifest.csv", folder / "manifest.csv")
    if (root / CONTACT_SHEET_FILE).exists():  # drawn again, from the very images that leave
        sheet = contact_sheet_of(dataset)
        if sheet is not None:
            write_atomic(folder / CONTACT_SHEET_FILE, sheet)
    statement = set_statement(dataset)
    card = card_file(root)
    if card is not None:
        text = restated(card_of(root, card.name), statement)
        columns, cells = manifest_cells(dataset.rows, dataset.info.targets)
        write_hub_form(folder, text, columns, cells, dataset.info.targets)
    return statement

"""The closest pairs of a synthetic and a patient's image, as a picture and a table: private."""

import csv
import io
from collections.abc import Sequence

import numpy as np
import torch

from gan.measured_sets import turned
from gan.memorisation import closest_pairs, near_copies
from gan.memorisation_figures import Array, Judged
from synthdp.data.dataset import Dataset, Row, load_images
from synthdp.data.images import encode_png, to_uint8

SHOWN = 16
COLUMNS = 4
GAP_PX = 12
WHITE = 255


def draw_closest_pairs(
    judged: Judged,
    *,
    synthetic: Dataset,
    synthetic_rows: Sequence[Row],
    real: Dataset,
    train_rows: Sequence[Row],
) -> bytes:
    """A PNG of the 16 most suspect pairs, one a patient, row by row: patient left, synthetic right.

    The patient's image is mirrored and turned as it matches.

    Raises:
        InputError: when an image is unreadable.
    """
    spaces = judged.spaces
    size_px = real.info.size_px
    pairs = []
    for image, space in closest_pairs(spaces, judged.patients, SHOWN):
        found = spaces[space].judged
        patient = load_images(real, [train_rows[found.place[image]]], size_px)
        patient = turned(torch.from_numpy(patient), int(found.copy[image])).numpy()
        made_up = load_images(synthetic, [synthetic_rows[image]], size_px)
        pairs.append(np.concatenate([patient[0, 0], made_up[0, 0]], axis=1))
    return encode_png(_on_a_sheet([to_uint8(pair) for pair in pairs]))


def _on_a_sheet(pairs: Sequence[Array]) -> Array:
    height, width = pairs[0].shape
    columns = min(COLUMNS, len(pairs))
    rows = -(-len(pairs) // columns)
    size = (rows * (height + GAP_PX) + GAP_PX, columns * (width + GAP_PX) + GAP_PX)
    sheet = np.full(size, WHITE, dtype=np.uint8)
    for number, pair in enumerate(pairs):
        top = GAP_PX + number // columns * (height + GAP_PX)
        left = GAP_PX + number % columns * (width + GAP_PX)
        sheet[top : top + height, left : left + width] = pair
    return sheet


def nearest_table(judged: Judged, synthetic_rows: Sequence[Row], train_rows: Sequence[Row]) -> str:
    """CSV text: for each synthetic image the nearest train image in each space, and the verdict.

    `copy` says how the patient's image was turned: 0 to 3 quarter turns, 4 to 7 mirrored before.
    `ratio` is the distance over that to the next patient. Thumbnails are of unit length: their
    correlation is 1 - distance^2 / 2.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    kinds = ("distance", "ratio", "image", "copy")
    columns = [f"{space}_{kind}" for space in judged.by_space for kind in kinds]
    writer.writerow(["image", "near_copy", *columns])
    copied = near_copies(judged.spaces)
    for number, row in enumerate(synthetic_rows):
        cells: list[str] = []
        for found in (space.judged for space in judged.spaces):
            image = train_rows[found.place[number]].image
            numbers = [f"{value[number]:.6g}" for value in (found.distance, found.ratio)]
            cells += [*numbers, image, str(found.copy[number])]
        writer.writerow([row.image, int(copied[number]), *cells])
    return stream.getvalue()

import base64
import inspect
import io
import json
import re
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gan.quality.reading.key import new_codes, read_key
from gan.quality.reading.kit import make_kit
from gan.quality.reading.page import reader_page
from gan.reader import run_reader
from gan.settings.reader import ReaderSettings
from synthdp.data.dataset import open_dataset
from synthdp.data.decoding import decode_pixels
from synthdp.data.description import DatasetInfo
from synthdp.data.images import encode_png
from synthdp.data.writer import create_dataset
from synthdp.errors import InputError
from synthdp.privacy.lineage import Lineage, Release
from synthdp.privacy.units import Unit


def settings_of(sets: Path, out: Path, **changes: object) -> ReaderSettings:
    about = {"synthetic": sets / "synthetic", "real": sets / "real", "per_kind": 6, **changes}
    return ReaderSettings(out=out, **about)


def shown_on(kit: Path) -> list[tuple[str, bytes]]:
    """Codes and files of a page, in its order."""
    text = (kit / "reader.html").read_text(encoding="utf-8")
    held = re.search(r'<script type="application/json" id="kit">(.*?)</script>', text)
    assert held is not None
    return [(code, base64.b64decode(file)) for code, file in json.loads(held[1])["images"]]


def chunks(png: bytes) -> list[tuple[bytes, int]]:
    """Kind and length of each part of a PNG file."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], length))
        at += 12 + length
    return found


def test_no_byte_but_the_pixels_tells_real_from_synthetic(kit: Path, sets: Path) -> None:
    """Synthetic ones were stored with 16 bits at another size, and are shown as real ones are."""
    files = [file for _, file in shown_on(kit)]
    assert len(files) == 8
    assert len({len(file) for file in files}) == 1  # noise and a flat image take as many bytes
    assert len({tuple(chunks(file)) for file in files}) == 1
    assert {kind for kind, _ in chunks(files[0])} == {b"IHDR", b"IDAT", b"IEND"}
    assert len({file[16:29] for file in files}) == 1  # size, depth and kind of colour


def test_files_of_any_pixels_are_equally_long() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    several = (noise, np.zeros_like(noise), np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    assert len({len(encode_png(pixels, compress_level=0)) for pixels in several}) == 1


def test_page_is_made_of_codes_and_pixels_alone() -> None:
    """What the truth is not given to, can't tell it."""
    assert list(inspect.signature(reader_page).parameters) == ["kit", "target", "shown", "holds"]


def test_page_holds_no_name_of_an_image_or_a_patient(kit: Path) -> None:
    text = (kit / "reader.html").read_text(encoding="utf-8")
    words = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for one in read_key(kit).images:
        assert one.image not in text
        assert one.patient not in text
        assert one.code not in words


def test_order_and_codes_come_from_the_operating_system(
    sets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same seed the same images stand in the order, and under the codes, it gives."""
    drawn: list[int] = []

    class Reversed:
        def sample(self, population: list[object] | range, k: int) -> list[object]:
            drawn.append(k)
            return [*population][::-1][:k]

    monkeypatch.setattr("secrets.SystemRandom", Reversed)
    about = {"target": None, "split": "all", "per_kind": 4, "size_px": None, "seed": 0}
    made = make_kit(open_dataset(sets / "real"), open_dataset(sets / "synthetic"), **about)
    assert drawn == [9, 8]  # a name for the kit and 8 codes, then the order
    kinds = [made.key.by_code[code].kind for code, _ in made.shown]
    assert kinds == ["synthetic"] * 4 + ["real"] * 4  # as they were put, turned round
    assert len(set(new_codes(500))) == 500


def test_half_of_either_kind_has_the_target_and_patients_are_as_many_as_can_be(
    sets: Path, tmp_path: Path
) -> None:
    key = read_key(run_reader(settings_of(sets, tmp_path / "kit", per_kind=8)))
    assert Counter((one.kind, one.label) for one in key.images) == {
        ("real", 0): 4, ("real", 1): 4, ("synthetic", 0): 4, ("synthetic", 1): 4,
    }  # fmt: skip
    real = [one.patient for one in key.images if one.kind == "real"]
    assert len(set(real)) == 8
    named = {row.image: row for row in open_dataset(sets / "real").rows}
    for one in key.images:
        if one.kind == "real":
            assert (one.patient, one.label) == (
                named[one.image].patient_id,
                named[one.image].targets[0],
            )


def test_codes_are_those_of_the_images_in_the_key(kit: Path, sets: Path) -> None:
    key = read_key(kit)
    for code, file in shown_on(kit):
        one = key.by_code[code]
        if one.kind == "real":
            pixels = np.asarray(Image.open(io.BytesIO(file)))
            assert np.array_equal(pixels, decode_pixels(sets / "real" / one.image))


def test_patients_are_shown_by_the_users_word_alone(sets: Path, tmp_path: Path) -> None:
    asked = settings_of(sets, tmp_path / "kit", real=sets / "clinic")
    with pytest.raises(InputError, match=r"holds images of patients.*--yes-show-patients"):
        run_reader(asked)
    assert not (tmp_path / "kit").exists()
    made = run_reader(asked.model_copy(update={"yes_show_patients": True}))
    assert "Images of patients" in (made / "reader.html").read_text(encoding="utf-8")
    assert (made / "private" / "key.json").stat().st_mode & 0o077 == 0
    phantoms = run_reader(settings_of(sets, tmp_path / "free"))
    assert "holds no patients" in (phantoms / "reader.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("unit", ["patient", "image"])
def test_the_page_says_to_whom_its_synthetic_images_promise_something(
    unit: Unit, tmp_path: Path
) -> None:
    release = Release(stage="train-gan", data="clinic", mu=1.0, unit=unit)
    lineages = {"real": Lineage(), "made": Lineage(releases=(release,))}
    for name, kind in (("real", "phantom"), ("made", "synthetic")):
        about = DatasetInfo(name=name, kind=kind, size_px=8, unit=unit, lineage=lineages[name])
        with create_dataset(tmp_path / name, about) as writer:
            for number in range(4):
                pixels = np.full((8, 8), number, np.uint8)
                writer.add(pixels, patient_id=f"p-{number}", split="train", targets=[number % 2])
    sets = open_dataset(tmp_path / "real"), open_dataset(tmp_path / "made")
    about = {"target": None, "split": "all", "per_kind": 2, "size_px": None, "seed": 0}
    assert (
        f"its promise to each {unit} that it was made from is" in make_kit(*sets, **about).holds[1]
    )


def test_of_several_targets_readers_rate_the_one_that_is_named(tmp_path: Path) -> None:
    for name, kind in (("chest", "phantom"), ("made", "synthetic")):
        about = DatasetInfo(name=name, kind=kind, size_px=8, targets=("mass", "effusion"))
        with create_dataset(tmp_path / name, about) as writer:
            for number in range(8):
                pixels = np.full((8, 8), number, np.uint8)
                targets = [1.0, float(number % 4 == 0)]
                writer.add(pixels, patient_id=f"p-{number}", split="train", targets=targets)
    about = {"real": tmp_path / "chest", "synthetic": tmp_path / "made", "per_kind": 4}
    with pytest.raises(InputError, match="target: made has mass, effusion; name the one"):
        run_reader(ReaderSettings(out=tmp_path / "kit", **about))
    made = run_reader(ReaderSettings(out=tmp_path / "kit", target="effusion", **about))
    labels = [(one.label, one.image) for one in read_key(made).images if one.kind == "real"]
    assert sorted(label for label, _ in labels) == [0, 0, 1, 1]
    text = (made / "reader.html").read_text(encoding="utf-8")
    assert "Does it show effusion?" in text
    assert "Surely no effusion" in text
    assert "BI-RADS" not in text


def test_a_finished_kit_returns_at_once_with_its_codes(sets: Path, tmp_path: Path) -> None:
    asked = settings_of(sets, tmp_path / "kit")
    codes = read_key(run_reader(asked)).by_code.keys()
    assert read_key(run_reader(asked)).by_code.keys() == codes
    with pytest.raises(InputError, match="other settings"):
        run_reader(asked.model_copy(update={"per_kind": 4}))


def test_bad_input_is_refused_before_anything_is_written(sets: Path, tmp_path: Path) -> None:
    for changes, message in (
        (
            {"per_kind": 400},
            "phantoms: 200 images with malignant 1 .*there are fewer",
        ),
        ({"synthetic": sets / "deep"}, "size_px: .*16 px, those of deep 32 px.*size_px=8"),
        ({"target": "effusion"}, "target: synthetic has malignant"),
        ({"split": "val"}, "no image has split 'val'"),
        ({"real": sets / "synthetic"}, "is a synthetic set"),
        ({"synthetic": sets / "clinic"}, "holds patients' images"),
    ):
        with pytest.raises(InputError, match=message):
            run_reader(settings_of(sets, tmp_path / "kit", **changes))
    assert not (tmp_path / "kit").exists()

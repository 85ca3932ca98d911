from pathlib import Path

import numpy as np
import pytest
import torch

from synthdp.data.decoding import square_image
from synthdp.data.images import encode_png, path_problem, resize, resize_pixels, to_float, to_uint8

GREY_8 = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
GREY_16 = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1300


def test_png_holds_no_text_or_time() -> None:
    content = encode_png(GREY_8)
    assert not any(kind in content for kind in (b"tEXt", b"iTXt", b"zTXt", b"tIME", b"eXIf"))
    assert encode_png(GREY_8) == content


def test_floats_span_minus_one_to_one(tmp_path: Path) -> None:
    for top, dtype in ((255, np.uint8), (65535, np.uint16)):
        ends = to_float(np.array([[0, top]], dtype=dtype))
        assert ends.dtype == np.float32
        assert ends.tolist() == [[-1.0, 1.0]]
    (tmp_path / "y.png").write_bytes(encode_png(GREY_8[:, :6]))
    assert np.array_equal(to_uint8(square_image(tmp_path / "y.png")), GREY_8[:, :6])
    assert to_uint8(np.array([-3.0, 3.0])).tolist() == [0, 255]


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../x.png", "a/../../x.png", "a\\..\\x.png", "out/x.png", "link.png"],
)
def test_paths_that_lead_outside(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (tmp_path / "elsewhere" / "x.png").write_bytes(b"x")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "link.png").symlink_to(tmp_path / "elsewhere" / "x.png")
    message = path_problem(name, root)
    assert message is not None
    assert message.startswith("the path leads outside the folder")
    by_link = name in ("out/x.png", "link.png")
    linked = [(tmp_path / "elsewhere").resolve()]
    assert (path_problem(name, root, linked) is None) == by_link


def test_paths_that_stay_inside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x..y.png").write_bytes(b"x")
    (tmp_path / "link.png").symlink_to(tmp_path / "a" / "x..y.png")
    assert path_problem("a/x..y.png", tmp_path) is None
    assert path_problem("link.png", tmp_path) is None


@pytest.mark.parametrize("name", ["none.png", "a", "x\0.png", "loop", "n" * 5000])
def test_paths_to_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert path_problem(name, tmp_path) in ("the file is missing", "the file cannot be reached")


def test_resizing_keeps_a_flat_image_and_its_mean() -> None:
    flat = torch.full((2, 1, 48, 48), 0.3)
    assert torch.allclose(resize(flat, 20), torch.full((2, 1, 20, 20), 0.3))
    image = np.random.default_rng(0).uniform(-1, 1, (64, 64)).astype(np.float32)
    assert abs(float(resize_pixels(image, 32).mean() - image.mean())) < 0.01
    assert resize_pixels(image, 64) is not None
    assert np.array_equal(resize_pixels(image, 64), image)

"""The function of a package that medigan calls, once synthdp has copied this folder into one.

medigan (Osuala et al., arXiv 2209.14472) calls `generate` again and again with batches of 32, and
takes a class of 0 for malignant. This file alone also needs Pillow.
"""

import logging
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .sampling import GENERATORS, AnyGenerator, draw_findings, prior_codes, sample_images

BATCH = 32

logger = logging.getLogger(__name__)


def generate(  # noqa: PLR0917 (medigan calls it so)
    model_file: str | Path,
    num_samples: int,
    output_path: str | Path,
    save_images: bool,
    condition: float | None = None,
    z: Any = None,
    input_latent_vector: Any = None,
    seed: int | None = None,
    **kwargs: Any,
) -> list[tuple[NDArray[np.uint8], str]] | None:
    """Draw images, and save them or give them back.

    Args:
        model_file: the weights.
        num_samples: how many; 0 is allowed.
        output_path: folder for `{i}_{label}.png`, made when it is missing.
        save_images: save them there, and return None.
        condition: 0 malignant, 1 benign, numbers between go to the nearer one; None balances both.
            A generator of several findings takes None alone, and draws them as they stand in it.
        z: latent vectors (num_samples, size) or (num_samples, size, 1, 1), as an array or a tensor;
            an image still has a texture of its own, of `seed`, or of 0.
        input_latent_vector: another name for z.
        seed: of a call: the same one draws the same images. None takes another one each time; only
            then does a long series of calls repeat nothing.
        kwargs: what other packages take; not used.

    Returns:
        Pairs of an image (H, W) uint8 and its label in words, or None. Of several findings the
        words are those that it has, joined by `+`, or `none`.

    Raises:
        ValueError: when an argument is out of its range.
        FileNotFoundError: when there are no weights.
    """
    logger.debug("generate: %s images, condition %s, unused %s", num_samples, condition, [*kwargs])
    if num_samples < 0:
        raise ValueError(f"num_samples is {num_samples}; 0 or more are allowed")
    generator, content = _loaded(str(model_file), Path(model_file).stat().st_mtime_ns)
    vectors = _latent_vectors(z, input_latent_vector, num_samples, generator.z_dim)
    if seed is None:
        seed = secrets.randbits(62) if vectors is None else 0
        first = seed % 2  # so that single images are of either class
    else:
        first = 0
    if "findings" in content:
        if condition is not None:
            raise ValueError("this generator draws several findings; leave condition None")
        names = content["findings"]
        labels, codes = draw_findings(content["prior"], num_samples, seed, len(names))
        words = [_joined(names, row) for row in labels.tolist()]
    else:
        labels = _labels(condition, num_samples, first)
        words = [content["words"][label] for label in labels.tolist()]
        codes = prior_codes(generator, content["prior"], labels, seed)
    batches = sample_images(generator, labels, codes, seed, batch=BATCH, vectors=vectors)
    images = [pixels for batch in batches for pixels in as_pixels(batch[:, 0].cpu().numpy())]
    if not save_images:
        return list(zip(images, words, strict=True))
    folder = Path(output_path)
    folder.mkdir(parents=True, exist_ok=True)
    for number, (image, word) in enumerate(zip(images, words, strict=True)):
        Image.fromarray(image).save(folder / f"{number}_{word}.png")
    return None


@lru_cache(maxsize=1)
def _loaded(model_file: str, changed_ns: int) -> tuple[AnyGenerator, dict[str, Any]]:
    """The generator on the GPU, where there is one, and what the weights file says of it.

    It is kept between calls until the file changes.
    """
    content: dict[str, Any] = torch.load(model_file, map_location="cpu", weights_only=True)
    arguments = dict(content["arguments"])
    build = GENERATORS[arguments.pop("architecture")]
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn, and thrown away
        generator = build(**arguments)
    generator.load_state_dict(content.pop("weights"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    logger.debug("loaded %s of %s on %s", type(generator).__name__, changed_ns, device)
    return generator.eval().requires_grad_(False).to(device), content


def _latent_vectors(z: Any, other: Any, count: int, size: int) -> Tensor | None:
    if z is not None and other is not None:
        raise ValueError("z and input_latent_vector are the same thing; give one of them")
    given = z if z is not None else other
    if given is None:
        return None
    vectors = torch.as_tensor(given).detach().float().cpu()
    if vectors.numel() != count * size or not torch.isfinite(vectors).all():
        raise ValueError(
            f"latent vectors of shape {tuple(vectors.shape)}: num_samples = {count} asks for "
            f"finite ones of shape {(count, size)} or {(count, size, 1, 1)}"
        )
    return vectors.reshape(count, size)


def _joined(names: list[str], labels: list[int]) -> str:
    """The findings that an image has, in one word."""
    has = [name for name, label in zip(names, labels, strict=True) if label == 1]
    return "+".join(has) or "none"


def _labels(condition: float | None, count: int, first: int) -> Tensor:
    """Labels (count,) of the network, 1 malignant, from a condition, 0 malignant."""
    if condition is None:
        return (torch.arange(count) + first) % 2
    if not 0 <= condition <= 1:
        raise ValueError(f"condition is {condition}; 0 malignant, 1 benign or None are allowed")
    return torch.full((count,), int(condition < 0.5))


def as_pixels(images: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Images in [-1, 1] as 8-bit pixels, values beyond clamped: as synthdp writes its own."""
    pixels: NDArray[np.uint8] = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    return pixels

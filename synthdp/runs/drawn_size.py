"""By which setting a generator is asked for a number of images, as its description has it."""

from pathlib import Path

from synthdp.storage.files import read_json


def size_setting(run: Path) -> str:
    """`per_class`, or `total` of a generator of several findings, which stand together.

    Args:
        run: of a finished generator, or a release of one.

    Raises:
        InputError: when its description is missing or damaged.
    """
    content = read_json(run / "model" / "settings.json")
    conditions = content.get("conditions") if isinstance(content, dict) else None
    several = isinstance(conditions, dict) and conditions.get("findings")
    return "total" if several else "per_class"

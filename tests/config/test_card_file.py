from pathlib import Path

import pytest

from synthdp.config.card_file import card_file, split_card, with_header
from synthdp.errors import InputError


def test_a_header_gets_keys_in_their_places_and_a_text_without_one_gets_a_header() -> None:
    card = "---\nlicense: mit\ntags:\n- synthetic\n---\n\n# A set\n"
    assert split_card(with_header(card, {"license": "other"})) == (
        {"license": "other", "tags": ["synthetic"]},
        "\n# A set\n",
    )
    assert with_header("# A set\n", {"license": "mit"}) == "---\nlicense: mit\n---\n\n# A set\n"


@pytest.mark.parametrize("header", ["- a list\n", "one word\n", "a: [\n"])
def test_a_header_that_is_no_mapping_is_refused(header: str) -> None:
    with pytest.raises(InputError, match="header of a card"):
        split_card(f"---\n{header}---\n\n# A set\n")


def test_the_hub_s_name_comes_first(tmp_path: Path) -> None:
    assert card_file(tmp_path) is None
    (tmp_path / "card.md").write_text("# A run\n")
    assert card_file(tmp_path) == tmp_path / "card.md"
    (tmp_path / "README.md").write_text("# A release\n")
    assert card_file(tmp_path) == tmp_path / "README.md"

from pathlib import Path

import pytest

from synthdp.privacy.keys import keep_key


def test_a_key_is_kept_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    key = keep_key(path)
    assert len(key) == 32
    assert keep_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("left", [b"", b"torn"])
def test_a_torn_key_is_replaced(tmp_path: Path, left: bytes) -> None:
    path = tmp_path / "secret.key"
    path.write_bytes(left)
    assert len(keep_key(path)) == 32

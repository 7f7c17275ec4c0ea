"""The delimiter of quoted passages."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ragpool.errors import StoreError
from ragpool.prompts.delimiter import delimiter, delimiter_key


def test_it_stays_for_a_pool_and_differs_between_pools_and_keys() -> None:
    assert delimiter("a passage") == delimiter("a passage")
    words = {delimiter(first, key) for first in ("a", "b", "", "\ud800") for key in (b"1", b"2")}
    assert len(words) == 8
    assert all(len(word) == 16 and int(word, 16) >= 0 for word in words)


def test_the_key_is_kept_and_private(tmp_path: Path) -> None:
    key = delimiter_key(tmp_path / "prompts")
    assert delimiter_key(tmp_path / "prompts") == key != delimiter_key(tmp_path / "others")
    (file,) = (tmp_path / "prompts").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert delimiter_key(None) == delimiter_key(None) != key


def test_a_key_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "delimiter.key").write_bytes(b"short")
    with pytest.raises(StoreError, match="delete it"):
        delimiter_key(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="another prefix_folder"):
        delimiter_key(tmp_path / "file")

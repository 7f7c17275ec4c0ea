from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, StreamingChat, served


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests of a module that leave no traces which others would mind."""
    with served(tmp_path_factory.mktemp("serve") / "store") as running:
        yield running


@pytest.fixture(autouse=True)
def _reset(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "shared" in request.fixturenames:
        chat: StreamingChat = request.getfixturevalue("shared").chat
        chat.gate.open()
        chat.words, chat.pause = "", 0.0
        chat.failures.clear()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"

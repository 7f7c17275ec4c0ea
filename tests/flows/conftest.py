from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import scripted
from fakes import HashEmbedder
from ragpool.flows.home import LocalServer


@pytest.fixture(autouse=True)
def _prefects_sockets() -> Iterator[None]:
    """Prefect leaves connections to its server for the garbage collector; they go here, not in a later test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Prefect server over a file of its own; started once, since that takes seconds."""
    with LocalServer(tmp_path_factory.mktemp("prefect")) as server:
        server.wait(300)
        yield server.url


@pytest.fixture
def server_url(prefect_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A user with a Prefect server: PREFECT_API_URL is set, and Prefect's home is in the test's folder."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_server)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    return prefect_server


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The small world, indexed with the embedder that has no weights."""
    return scripted.build_store(tmp_path / "store", HashEmbedder())


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return scripted.write_questions(tmp_path / "questions.jsonl")

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import HashEmbedder
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from ragpool.flows.evaluate import run_evaluation
from ragpool.flows.evaluate_flow import Parts, parts
from ragpool.flows.home import prefect_home
from trials import SETTINGS, ThinkingChat, write_dataset

from ragpool.index import Index
from ragpool.sdk import RagPool
from ragpool.settings import Settings


@pytest.fixture
def _without_models() -> Iterator[None]:
    chat = ThinkingChat()

    def open_rag(place: Path, settings: Settings) -> RagPool:
        return RagPool(
            place, settings, Index.open(place, settings, create=True, embedder=HashEmbedder()), chat
        )

    token = parts.set(Parts(SETTINGS, chat, open_rag))
    yield
    parts.reset(token)


@pytest.mark.usefixtures("_without_models", "server_url")
async def test_the_flow_compares_writes_and_shows_the_table(tmp_path: Path) -> None:
    questions, store = write_dataset(tmp_path / "set", 1), str(tmp_path / "s")
    out = tmp_path / "e.json"
    state = run_evaluation([str(questions)], store=store, methods="single,s2g", figures=str(out))
    assert state.is_completed()
    assert state.message == "2 answers compared; 1 files written"
    value = json.loads(out.read_text(encoding="utf-8"))
    assert [value["methods"][name]["em"] for name in ("single", "s2g")] == [0.0, 1.0]
    with prefect_home(Path(store)) as ready:
        ready()
        async with get_client() as client:
            shown = await client.read_artifacts(
                artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["evaluation"]))
            )
    assert any("| all evidence within 8 | .000 | 1.000 |" in str(artifact.data) for artifact in shown)


@pytest.mark.usefixtures("_without_models", "server_url")
def test_a_data_set_that_fails_fails_the_run(tmp_path: Path) -> None:
    state = run_evaluation([str(tmp_path / "nowhere.json")], store=str(tmp_path / "s"))
    assert state.is_failed()


def test_the_entry_does_not_import_prefect() -> None:
    code = "import sys, ragpool.flows.evaluate; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

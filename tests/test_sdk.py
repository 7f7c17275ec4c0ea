from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import HashEmbedder
from scripted import CAPITALS, FOUNDERS, ScriptedChat, build_store, open_rag, question

import ragpool
from ragpool import AnswerStatus, RagPool, Settings
from ragpool.errors import InputError, LoadError, RagpoolError, StoreNotFoundError
from ragpool.events import Answered, Pooled

FOUNDER = FOUNDERS[CAPITALS["Ardona"]]


@pytest.fixture
def rag(tmp_path: Path) -> Iterator[RagPool]:
    embedder = HashEmbedder()
    with open_rag(build_store(tmp_path / "store", embedder), ScriptedChat(), embedder) as opened:
        yield opened


def test_a_prompted_model_plans_reads_and_answers_with_checked_citations(rag: RagPool) -> None:
    answer = rag.ask(question("Ardona"))
    assert (answer.answer, answer.status) == (FOUNDER, AnswerStatus.ANSWERED)
    assert [c.document_id for c in answer.citations] == [CAPITALS["Ardona"]]
    assert answer.citations[0].supported
    assert answer.models["planner"].startswith("prompted@")


def test_stream_ends_with_the_answer_that_ask_gives(rag: RagPool) -> None:
    events = list(rag.stream(question("Brevia")))
    assert any(isinstance(e, Pooled) for e in events)
    assert isinstance(events[-1], Answered)
    assert events[-1].answer.answer == rag.ask(question("Brevia")).answer


def test_batch_keeps_the_order(rag: RagPool) -> None:
    answers = rag.batch([question(c) for c in CAPITALS], workers=4)
    assert [a.answer for a in answers] == [FOUNDERS[town] for town in CAPITALS.values()]


def test_a_job_answers_a_question_once(rag: RagPool) -> None:
    first = rag.ask(question("Ardona"), id="q1", job="nightly")
    assert rag.ask(question("Ardona"), id="q1", job="nightly") == first
    assert rag.ask(question("Ardona"), id="q1", job="nightly", effort="low").run_id != first.run_id
    assert rag.ask(question("Ardona")).run_id != first.run_id


def test_runs_of_a_scope_share_evidence(rag: RagPool) -> None:
    first = rag.ask(question("Ardona"), scope="talk")
    second = rag.ask(question("Ardona"), scope="talk")
    assert {e.passage_id for e in rag.pools.pool(second.run_id).admitted} >= {
        e.passage_id for e in first.evidence
    }
    assert rag.pools.pool(second.run_id).scope == "talk"


async def test_async_twins(rag: RagPool) -> None:
    answer = await rag.aask(question("Corvane"))
    assert answer.answer == FOUNDERS[CAPITALS["Corvane"]]
    assert [a.answer for a in await rag.abatch([question("Corvane")])] == [answer.answer]
    kinds = [type(e).__name__ async for e in rag.astream(question("Corvane"))]
    assert kinds[-1] == "Answered"


async def test_leaving_a_stream_cancels_the_run(rag: RagPool) -> None:
    stream = rag.astream(question("Dunmore"))
    async for event in stream:
        if type(event).__name__ == "Pooled":
            break
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    [run] = rag.pools.runs(limit=1)
    assert run.status is None  # nothing was written after the caller left


def test_langchain_sees_a_retriever_and_a_runnable(rag: RagPool) -> None:
    documents = rag.as_retriever(k=2).invoke("capital of Ardona")
    assert len(documents) == 2
    assert documents[0].metadata["document_id"] == "Ardona"
    assert rag.as_runnable().invoke(question("Ardona")).answer == FOUNDER


def test_documents_are_added_and_asked_about_at_once(rag: RagPool, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "Ironvale.txt").write_text("The capital of Ironvale is Rookhaven. It is a country.")
    (tmp_path / "more" / "Rookhaven.txt").write_text("The founder of Rookhaven was Ines Cole, a smith.")
    assert rag.add(tmp_path / "more").added == 2
    assert rag.ask(question("Ironvale")).answer == "Ines Cole"


def test_a_source_that_cannot_be_read(rag: RagPool, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"none\.txt"):
        rag.add(tmp_path / "none.txt")
    failed: list[LoadError] = []
    (tmp_path / "good.txt").write_text("A text.")
    rag.add([tmp_path / "none.txt", tmp_path / "good.txt"], on_error=failed.append)
    assert len(failed) == 1


def test_wrong_calls_say_what_to_do(rag: RagPool, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="empty"):
        rag.ask("  ")
    with pytest.raises(StoreNotFoundError, match="ragpool index"):
        RagPool.open(tmp_path / "nowhere")


def test_public_names() -> None:
    assert len(ragpool.__all__) <= 15
    assert all(getattr(ragpool, name) is not None for name in ragpool.__all__)
    assert issubclass(StoreNotFoundError, RagpoolError)
    with pytest.raises(AttributeError):
        _ = ragpool.NoSuchName
    assert Settings is ragpool.Settings

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted
from fakes import HashEmbedder
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from ragpool.flows.answer import BatchReport, run_batch
from ragpool.flows.batch import job_name, opened_work
from ragpool.flows.home import prefect_home

from ragpool.errors import InputError, StoreLockedError, StoreNotFoundError
from ragpool.types import Answer


@pytest.fixture
def run(server_url: str, store: Path, questions: Path, tmp_path: Path) -> Callable[..., BatchReport]:
    def run(chat: scripted.ScriptedChat, **options: Any) -> BatchReport:
        arguments: dict[str, Any] = {
            "questions": questions,
            "out": tmp_path / "answers.jsonl",
            "settings": scripted.settings(),
            "open_rag": lambda: scripted.open_rag(store, chat, HashEmbedder()),
            **options,
        }
        return run_batch(store=store, **arguments)

    return run


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_question_is_answered_once(run: Callable[..., BatchReport], store: Path, tmp_path: Path) -> None:
    out, calls = tmp_path / "answers.jsonl", tmp_path / "calls"
    seen: list[tuple[int, int, Answer | None]] = []
    report = run(scripted.ScriptedChat(calls=calls), workers=2, on_progress=lambda *step: seen.append(step))
    assert (report.answered, report.already, report.failed) == (8, 0, ())
    assert report.job == job_name(out)
    answered = {line["id"]: line for line in lines(out)}
    assert len(lines(out)) == 8
    assert [answered[f"q{n}"]["answer"] for n in range(8)] == list(scripted.FOUNDERS.values())
    assert {c["document_id"] for c in answered["q0"]["citations"]} == {"Selwick"}
    assert [(done, total) for done, total, _ in seen] == [(n, 8) for n in range(9)]
    assert {answer.id for _, _, answer in seen if answer is not None} == set(answered)

    # again: nothing to do, Prefect is not started, no model is called
    before = calls.read_bytes()
    again = run(scripted.ScriptedChat(calls=calls))
    assert (again.answered, again.already, again.flow_run_id) == (0, 8, None)

    # the file is lost: its lines come from the pool
    out.unlink()
    written = run(scripted.ScriptedChat(calls=calls))
    assert (written.answered, written.already, written.flow_run_id) == (0, 8, None)
    assert {line["id"]: line for line in lines(out)} == answered
    assert calls.read_bytes() == before


async def test_what_prefect_shows(run: Callable[..., BatchReport], store: Path, tmp_path: Path) -> None:
    report = run(
        scripted.ScriptedChat(), limit=3, job="Three of them"
    )  # with a loop running, as in a notebook
    with prefect_home(store) as ready:
        ready()
        async with get_client() as client:
            assert report.flow_run_id is not None
            flow_run = await client.read_flow_run(report.flow_run_id)
            found = await client.read_artifacts(
                artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
            )
            tasks = await client.read_task_runs(
                task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run.id]))
            )
    assert flow_run.state is not None
    assert (flow_run.state.name, flow_run.state.message) == ("Completed", "3 of 3 answered")
    assert sorted(task.name for task in tasks) == ["q0", "q1", "q2"]
    assert {task.state_name for task in tasks} == {"Completed"}
    by_key = {artifact.key: artifact.data for artifact in found}
    assert by_key["three-of-them-progress"] == 100.0
    table = json.loads(by_key["three-of-them-answers"])
    assert {row["answer"] for row in table} == {"Ana Veld", "Bors Tamm", "Cela Orne"}
    assert {"question", "status", "rounds", "stop reason", "citations"} <= table[0].keys()
    assert "| sufficient | 3 |" in by_key["three-of-them-report"]
    assert "](data:image/png;base64," in by_key["three-of-them-report"]
    kept = [json.loads(path.read_text()) for path in (store / "prefect" / "storage").rglob("*.json")]
    assert len(kept) == 3


def test_network_errors_are_tried_again_and_others_reported(
    run: Callable[..., BatchReport], tmp_path: Path
) -> None:
    out, calls = tmp_path / "answers.jsonl", tmp_path / "calls"
    wrong = [ConnectionError("refused"), TimeoutError("slow"), ValueError("the model is\nbroken")]
    report = run(scripted.ScriptedChat(calls=calls, failures=wrong), limit=3, retry_delays=[0.01] * 3)
    assert (report.answered, report.failed) == (2, (("q0", "ValueError: the model is broken"),))
    assert sorted(line["id"] for line in lines(out)) == ["q1", "q2"]
    later = run(scripted.ScriptedChat(calls=calls), limit=3)
    assert (later.answered, later.already, later.failed) == (1, 2, ())
    assert sorted(line["id"] for line in lines(out)) == ["q0", "q1", "q2"]


def test_a_network_that_stays_away_is_given_up(run: Callable[..., BatchReport]) -> None:
    gone = [ConnectionError("refused") for _ in range(3)]
    report = run(scripted.ScriptedChat(failures=gone), limit=1, retry_delays=[0.01, 0.01])
    assert report.failed == (("q0", "ConnectionError: refused"),)


def test_a_batch_that_is_stopped_says_so_and_goes_on(run: Callable[..., BatchReport], tmp_path: Path) -> None:
    seen = threading.Event()

    def interrupt(done: int, _total: int, answer: Answer | None) -> None:
        if answer is not None and not seen.is_set():
            seen.set()
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="run the same command again") as stopped:
        run(scripted.ScriptedChat(delay=0.05), on_progress=interrupt)
    left = len(lines(tmp_path / "answers.jsonl"))
    assert f"{left} of 8" in str(stopped.value)
    assert left < 8
    assert signal.getsignal(signal.SIGINT) is before
    report = run(scripted.ScriptedChat())
    assert (report.answered, report.already) == (8 - left, left)
    assert len({line["id"] for line in lines(tmp_path / "answers.jsonl")}) == 8


def test_one_batch_writes_a_file_at_a_time(store: Path, questions: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"
    with (
        opened_work(questions, store, out, scripted.settings()) as work,
        pytest.raises(StoreLockedError, match="another batch is writing"),
        opened_work(questions, store, out, scripted.settings()),
    ):
        pass
    assert work.job == job_name(out)


def test_wrong_calls(store: Path, questions: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "answers.jsonl", scripted.settings()
    with pytest.raises(StoreNotFoundError, match="ragpool index"):
        run_batch(questions, tmp_path / "none", out, settings=settings)
    with pytest.raises(InputError, match="workers 0"):
        run_batch(questions, store, out, settings=settings, workers=0)
    twice = tmp_path / "twice.jsonl"
    twice.write_text('{"id": "q", "question": "Who?"}\n{"id": "q", "question": "Why?"}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"twice\.jsonl"):
        run_batch(twice, store, out, settings=settings)
    assert not out.exists()


def test_the_entry_does_not_import_prefect() -> None:
    code = "import sys, ragpool.flows.answer; sys.exit('prefect' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

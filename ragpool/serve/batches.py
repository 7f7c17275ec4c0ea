"""POST /v1/batches: a list of questions as the Prefect flow of ``ragpool batch``, one batch at a time.

A batch's folder is ``batches/OWNER/ID`` in the store: questions.jsonl, answers.jsonl. The flow is loaded by name: the
library does not know it.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import threading
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import FileResponse

from ragpool.errors import RagpoolError
from ragpool.sdk import RagPool
from ragpool.serve.errors import ApiError, invalid, missing, responses
from ragpool.serve.services import Owner, Parts

log = logging.getLogger("ragpool.serve")

router = APIRouter(tags=["batches"])

_ID = re.compile(r"[0-9a-f]{32}")
State = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch: ``failed`` are [id, reason] of questions without an answer."""

    id: str
    state: State
    answered: int
    total: int
    failed: tuple[tuple[str, str], ...] = ()
    error: str | None = None


class _Borrowed(RagPool):
    """The server's open store for the flow, which closes what it opens."""

    def close(self) -> None:
        """Left to the server."""


class Batches:
    """The batches of a store. One runs at a time: each starts a Prefect server of its own, and the models are one."""

    def __init__(self, rag: RagPool) -> None:
        self._rag = rag
        self._lock = threading.Lock()
        self._running: dict[str, Batch] = {}
        self._thread: threading.Thread | None = None

    def start(self, owner: str, questions: list[dict[str, Any]], **chosen: str) -> Batch:
        """Write the questions and start the flow. Raises ApiError 409 while another batch runs."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                raise ApiError(409, "a batch is running: wait for it", code="batch_running", retry_after=30)
            identifier = uuid.uuid4().hex
            folder = self._folder(owner, identifier)
            folder.mkdir(parents=True)
            lines = "".join(json.dumps(question, ensure_ascii=False) + "\n" for question in questions)
            (folder / "questions.jsonl").write_text(lines, encoding="utf-8")
            batch = Batch(identifier, "running", 0, len(questions))
            self._running[identifier] = batch
            self._thread = threading.Thread(
                target=self._run, args=(owner, batch, chosen), name="ragpool-batch", daemon=True
            )
            self._thread.start()
        return batch

    def get(self, owner: str, identifier: str) -> Batch:
        """How far a batch is; one that a restart cut off is "interrupted"."""
        folder = self._existing(owner, identifier)
        with self._lock:
            known = self._running.get(identifier)
        if known is not None:
            return known
        total, answered = _lines(folder / "questions.jsonl"), _lines(folder / "answers.jsonl")
        return Batch(identifier, "done" if answered == total else "interrupted", answered, total)

    def answers(self, owner: str, identifier: str) -> Path | None:
        """The answers so far; None when there is none yet."""
        path = self._existing(owner, identifier) / "answers.jsonl"
        return path if path.is_file() else None

    def close(self, timeout: float) -> None:
        """Wait for a running batch, not for long: what it has committed stays, and it can be run again."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _folder(self, owner: str, identifier: str) -> Path:
        return self._rag.folder / "batches" / owner / identifier

    def _existing(self, owner: str, identifier: str) -> Path:
        if _ID.fullmatch(identifier):
            folder = self._folder(owner, identifier)
            if folder.is_dir():
                return folder
        raise missing(f"batch {identifier[:64]!r}")

    def _run(self, owner: str, batch: Batch, chosen: dict[str, str]) -> None:
        folder = self._folder(owner, batch.id)
        settings = self._rag.settings.model_copy(update=chosen)

        def progress(done: int, total: int, _: object) -> None:
            self._set(replace(batch, answered=done, total=total))

        try:
            run_batch = importlib.import_module("ragpool.flows.answer").run_batch
            report = run_batch(
                folder / "questions.jsonl",
                self._rag.folder,
                folder / "answers.jsonl",
                settings=settings,
                job=f"batch:{owner}:{batch.id}",
                on_progress=progress,
                open_rag=lambda: _Borrowed(self._rag.folder, settings, self._rag.index, self._rag.chat),
            )
            state: State = "failed" if report.failed else "done"
            self._set(
                replace(batch, state=state, answered=report.answered + report.already, failed=report.failed)
            )
        except Exception as error:  # a thread's end: whoever follows the batch reads the reason
            if not isinstance(error, RagpoolError):
                log.exception("a batch failed")
            said = (
                str(error) if isinstance(error, RagpoolError) else "unexpected error; the server's log has it"
            )
            answered = _lines(folder / "answers.jsonl")
            self._set(replace(batch, state="failed", answered=answered, error=said))

    def _set(self, batch: Batch) -> None:
        with self._lock:
            self._running[batch.id] = batch


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0


# -- routes --------------------------------------------------------------------------------------------------------


class BatchQuestion(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1, max_length=200)]
    question: Annotated[str, Field(min_length=1, max_length=4_000)]


class BatchRequest(BaseModel):
    """Questions with ids of your own, each once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    questions: Annotated[list[BatchQuestion], Field(min_length=1)]
    effort: Literal["low", "medium", "high"] = "medium"
    method: Literal["ragpool", "single"] = "ragpool"


class FailedQuestion(BaseModel):
    id: str
    reason: str


class BatchView(BaseModel):
    """How far a batch is; its answers are at /v1/batches/{id}/answers."""

    id: str
    state: State
    answered: int
    total: int
    failed: list[FailedQuestion]
    error: str | None


def _view(batch: Batch) -> BatchView:
    return BatchView(
        id=batch.id,
        state=batch.state,
        answered=batch.answered,
        total=batch.total,
        failed=[FailedQuestion(id=i, reason=r) for i, r in batch.failed],
        error=batch.error,
    )


@router.post("/v1/batches", status_code=202, responses=responses(409))
def start_batch(body: BatchRequest, parts: Parts, owner: Owner) -> BatchView:
    """Answer many questions in the background, as a Prefect flow."""
    limit = parts.options.batch_questions
    if len(body.questions) > limit:
        raise invalid(f"questions: at most {limit}", "questions")
    if len({q.id for q in body.questions}) != len(body.questions):
        raise invalid("questions: two have the same id", "questions")
    if any(not q.id.strip() or not q.question.strip() for q in body.questions):
        raise invalid("questions: one is empty", "questions")
    questions = [q.model_dump() for q in body.questions]
    return _view(parts.batches.start(owner, questions, effort=body.effort, method=body.method))


@router.get("/v1/batches/{batch_id}", responses=responses(404))
def show_batch(batch_id: str, parts: Parts, owner: Owner) -> BatchView:
    """How far one of your batches is."""
    return _view(parts.batches.get(owner, batch_id))


@router.get(
    "/v1/batches/{batch_id}/answers",
    response_class=Response,
    responses={**responses(404), 200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}}},
)
def batch_answers(batch_id: str, parts: Parts, owner: Owner) -> Response:
    """The answers so far, one JSON line each."""
    path = parts.batches.answers(owner, batch_id)
    if path is None:
        return Response(b"", media_type="application/x-ndjson")
    return FileResponse(path, media_type="application/x-ndjson", filename=f"answers-{batch_id[:12]}.jsonl")

"""POST /v1/ask: the library's events as they happen. POST /v1/search: the index alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from sse_starlette import EventSourceResponse
from starlette.concurrency import run_in_threadpool

from ragpool.events import Answered, Started, Token
from ragpool.pool import PoolStore
from ragpool.serve.conversations import ID_PATTERN, new_id
from ragpool.serve.engine import Ask, Job
from ragpool.serve.errors import from_error, invalid, responses
from ragpool.serve.prose import Link, Prose, linked
from ragpool.serve.services import Owner, Parts
from ragpool.serve.wire import answered_data, citation_data, event_data, evidence_data, frame, known

router = APIRouter(tags=["ragpool"])

EVENTS = """The events, each with JSON in `data`, in the order in which they come:

| event | data |
|---|---|
| `queued` | `conversation`, `waiting` (questions before this one), `threshold` (the judge's) |
| `started` | `run_id`, `asked`, `question` (stand-alone), `plan` (empty until `planned`, but for a run that goes on), `operation`, `planner`, `known` (evidence of earlier turns, as in `pooled`) |
| `planned` | after round 0: `question`, `plan` [[subject, relation, object]], `operation`, `planner` |
| `retrieved` | `round`, `query` {text, kind, gap}, `hits` [{passage_id, document_id, title, score, retriever}] |
| `pooled` | `round`, `evidence` [{passage_id, document_id, title, text, spans, status, reason, query, gap, score}] |
| `judged` | `round`, `sufficient`, `probability`, `gaps` [{text, triple}], `bindings` [{slot, value, quote, passage_id, confidence, supposed}] |
| `refined` | `round`, `queries` [{text, kind, gap}]: what the next round asks |
| `stopped` | `round`, `reason` |
| `token` | `text`: a piece of the answer, without marks |
| `citation` | `marker`, `document_id`, `passage_id`, `title`, `quote`, `supported`, `url` |
| `answered` | a line of answers.jsonl, with `text` ([n] marks), `content` (without), `conversation`: the last event |
| `error` | `error` {message, type, param, code}: instead of the rest |
"""


_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": re.findall(r"^\| `(\w+)`", EVENTS, re.MULTILINE)},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}


class AskRequest(BaseModel):
    """A question, and how to go about it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    question: Annotated[str, Field(pattern=r"\S")]
    conversation: str | None = Field(
        None, pattern=ID_PATTERN, description="go on with this conversation; without it a new one"
    )
    effort: Literal["low", "medium", "high"] = "medium"
    method: Literal["ragpool", "single"] = "ragpool"
    deadline: float | None = Field(None, gt=0, description="seconds, waiting included; at most the server's")


def _whole(value: Any) -> Any:
    """45.0 is an integer to JSON, which knows one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class SearchRequest(BaseModel):
    """A query of the index."""

    model_config = ConfigDict(extra="forbid", strict=True)

    query: Annotated[str, Field(pattern=r"\S", max_length=4_000)]
    k: Annotated[int, Field(ge=1, le=100), BeforeValidator(_whole)] = 10
    mode: Literal["hybrid", "dense", "bm25"] | None = None


class SearchHit(BaseModel):
    """A passage; ``score`` grows with relevance, ``ranks`` says who found it where."""

    passage_id: str
    document_id: str
    title: str
    text: str
    score: float
    retriever: str
    ranks: dict[str, int]


class SearchResult(BaseModel):
    hits: list[SearchHit]


@router.post(
    "/v1/ask",
    response_class=EventSourceResponse,
    description=f"Answer a question; everything that happens on the way is an event.\n\n{EVENTS}",
    responses={
        **responses(),
        200: {
            "description": "Server-sent events",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
    },
)
async def ask(request: Request, body: AskRequest, parts: Parts, owner: Owner) -> EventSourceResponse:
    question = body.question.strip()
    if not question:
        raise invalid("question: it is empty", "question")
    if len(question) > parts.options.question_chars:
        raise invalid(f"question: longer than {parts.options.question_chars} characters", "question")
    conversation = body.conversation or new_id()
    deadline = min(body.deadline or parts.options.deadline, parts.options.deadline)
    job = parts.engine.submit(
        Ask(
            question,
            owner,
            conversation,
            body.effort,
            body.method,
            deadline,
            goes_on=body.conversation is not None,
        )
    )  # fmt: skip
    threshold = parts.rag.settings.model_copy(update={"effort": body.effort}).preset.threshold
    first = {
        "conversation": conversation,
        "waiting": max(parts.engine.busy[1] - 1, 0),
        "threshold": threshold,
    }
    events = _events(job, first, linked(str(request.base_url)), parts.rag.pools)
    return EventSourceResponse(events, sep="\n", send_timeout=30)


async def _events(job: Job, first: dict[str, Any], link: Link, pools: PoolStore) -> AsyncIterator[bytes]:
    prose = Prose()
    yield frame(first, "queued")
    try:
        async for event in job.events():
            if isinstance(event, Token):
                if text := prose.feed(event.text):
                    yield frame({"text": text}, "token")
            elif isinstance(event, Answered):
                if rest := prose.finish(event.answer):
                    yield frame({"text": rest}, "token")
                for citation in event.answer.citations:
                    yield frame(citation_data(citation, event.answer, link), "citation")
                data = answered_data(event.answer, prose.text, job.ask.conversation, link)
                yield frame(data, "answered")
            else:
                name, data = event_data(event)
                if isinstance(event, Started):
                    data |= {"asked": job.ask.question, "known": []}
                    if job.ask.goes_on:
                        data["known"] = await run_in_threadpool(_known, pools, event.run_id)
                yield frame(data, name)
    except Exception as error:  # noqa: BLE001 - the status is sent already: the error is the last event
        yield frame(from_error(error).body, "error")


def _known(pools: PoolStore, run_id: str) -> list[dict[str, Any]]:
    return [evidence_data(e) for e in known(pools.pool(run_id))]


@router.post("/v1/search", responses=responses())
def search(body: SearchRequest, parts: Parts, owner: Owner) -> SearchResult:
    """The best passages for a query, without any loop."""
    if not body.query.strip():
        raise invalid("query: it is empty", "query")
    hits = parts.rag.search(body.query, k=body.k, mode=body.mode)
    return SearchResult(
        hits=[
            SearchHit(
                passage_id=hit.passage.id,
                document_id=hit.passage.document_id,
                title=hit.passage.title,
                text=hit.passage.text,
                score=hit.score,
                retriever=hit.retriever,
                ranks=dict(hit.ranks),
            )
            for hit in hits
        ]
    )

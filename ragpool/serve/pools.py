"""Pools and conversations of the caller: list, show, export, delete. Nobody sees another's."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel
from starlette.responses import JSONResponse

from ragpool.events import Answered
from ragpool.pool import Pool
from ragpool.serve.conversations import ID_PATTERN, Turn, checked_id
from ragpool.serve.errors import missing, responses
from ragpool.serve.prose import Link, Prose, linked
from ragpool.serve.services import Owner, Parts
from ragpool.serve.wire import answered_data, event_data, evidence_data, known, replay

router = APIRouter(tags=["ragpool"])

Limit = Annotated[int, Query(ge=1, le=500)]
ConversationId = Annotated[str, Path(pattern=ID_PATTERN)]


class PoolInfo(BaseModel):
    """A run at a glance. Times are seconds since the epoch; without ``finished`` it has no answer."""

    id: str
    conversation: str | None
    question: str
    method: str
    created: float
    finished: float | None
    status: str | None
    stop_reason: str | None


class PoolList(BaseModel):
    pools: list[PoolInfo]


class NamedEvent(BaseModel):
    """An event of POST /v1/ask."""

    event: str
    data: dict[str, Any]


class PoolView(BaseModel):
    """A run as the events that it gave."""

    id: str
    question: str
    events: list[NamedEvent]


class ConversationInfo(BaseModel):
    """A conversation at a glance; ``title`` is its first question."""

    id: str
    title: str
    turns: int
    created: float
    updated: float


class ConversationList(BaseModel):
    conversations: list[ConversationInfo]


class TurnView(BaseModel):
    """A turn as the events that it gave; ``asked`` is the question as it was typed."""

    run_id: str
    asked: str
    question: str
    status: str | None
    stop_reason: str | None
    created: float
    events: list[NamedEvent]


class ConversationView(BaseModel):
    id: str
    turns: list[TurnView]


@router.get("/v1/pools", responses=responses())
def list_pools(parts: Parts, owner: Owner, limit: Limit = 50) -> PoolList:
    """Your runs, the newest first."""
    return PoolList(pools=[PoolInfo(**asdict(run)) for run in parts.conversations.runs(owner, limit)])


@router.get("/v1/pools/{run_id}", responses=responses(404))
def show_pool(request: Request, run_id: str, parts: Parts, owner: Owner) -> PoolView:
    """One run, round by round, as the events of POST /v1/ask."""
    pool = parts.conversations.pool(owner, run_id)
    events = _events(pool, None, linked(str(request.base_url)))
    return PoolView(id=pool.run_id, question=pool.question_text, events=events)


@router.get(
    "/v1/pools/{run_id}/export",
    responses={
        **responses(404),
        200: {
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "text/markdown": {"schema": {"type": "string"}},
            }
        },
    },
    response_class=Response,
)
def export_pool(
    run_id: str, parts: Parts, owner: Owner, format: Literal["json", "markdown"] = "json"
) -> Response:
    """Everything that is known of a run: JSON, or Markdown for people."""
    pool = parts.conversations.pool(owner, run_id)
    name = f'attachment; filename="ragpool-{pool.run_id[:12]}.{"md" if format == "markdown" else "json"}"'
    headers = {"Content-Disposition": name}
    if format == "markdown":
        return Response(markdown(pool), media_type="text/markdown; charset=utf-8", headers=headers)
    return JSONResponse(pool.export(), headers=headers)


@router.delete("/v1/pools/{run_id}", status_code=204, responses=responses(404))
def delete_pool(run_id: str, parts: Parts, owner: Owner) -> Response:
    """Delete a run; its evidence goes with the last run of its conversation."""
    parts.conversations.delete_run(owner, run_id)
    return Response(status_code=204)


@router.get("/v1/conversations", responses=responses())
def list_conversations(parts: Parts, owner: Owner, limit: Limit = 50) -> ConversationList:
    """Your conversations, the last used first."""
    found = parts.conversations.all(owner, limit)
    return ConversationList(conversations=[ConversationInfo(**asdict(c)) for c in found])


@router.get("/v1/conversations/{conversation}", responses=responses(404))
def show_conversation(
    request: Request, conversation: ConversationId, parts: Parts, owner: Owner
) -> ConversationView:  # fmt: skip
    """All turns with their events."""
    turns = parts.conversations.turns(owner, checked_id(conversation))
    if not turns:
        raise missing(f"conversation {conversation[:64]!r}")
    link = linked(str(request.base_url))

    def view(turn: Turn) -> TurnView:
        events = _events(parts.conversations.pool(owner, turn.run_id), conversation, link)
        started = next((e for e in events if e.event == "started"), None)
        if started is not None:
            started.data["asked"] = turn.asked
        return TurnView(
            run_id=turn.run_id,
            asked=turn.asked,
            question=turn.question,
            status=turn.status,
            stop_reason=turn.stop_reason,
            created=turn.created,
            events=events,
        )

    return ConversationView(id=conversation, turns=[view(turn) for turn in turns])


@router.delete("/v1/conversations/{conversation}", status_code=204, responses=responses(404))
def delete_conversation(conversation: ConversationId, parts: Parts, owner: Owner) -> Response:
    """Delete a conversation with its runs and its evidence."""
    parts.conversations.delete(owner, checked_id(conversation))
    return Response(status_code=204)


def _events(pool: Pool, conversation: str | None, link: Link) -> list[NamedEvent]:
    found = []
    for event in replay(pool):
        if isinstance(event, Answered):
            prose = Prose()
            prose.finish(event.answer)
            data = answered_data(event.answer, prose.text, conversation, link)
            found.append(NamedEvent(event="answered", data=data))
        else:
            name, data = event_data(event)
            if name == "started":
                data["known"] = [evidence_data(e) for e in known(pool)]
            found.append(NamedEvent(event=name, data=data))
    return found


def markdown(pool: Pool) -> str:
    """A run for people: question, answer, sources, and what was looked for round by round."""
    lines = [f"# {_line(pool.question_text)}", ""]
    answer = pool.answer
    if answer is not None:
        lines += [_line(answer.text) or "*The documents do not answer this.*", ""]
        lines += [
            f"{c.marker}. {_line(c.document_id)}: “{_line(c.quote)}”" for c in answer.citations if c.supported
        ]
        if answer.missing:
            lines += ["", "Missing: " + "; ".join(_line(gap) for gap in answer.missing)]
        judged = f"judge's probability {answer.judgement.probability:.2f}"
        lines += ["", f"*{answer.status.value}, {answer.stop_reason.value}, {judged}*"]
    judgements = dict(pool.judgements)
    for number in range(pool.last_round + 1):
        lines += ["", f"## Round {number}", ""]
        lines += [f"Query: {_line(query.text)}" for query in pool.queries_of(number)]
        lines.append("")
        for e in pool.evidence:
            if e.round == number:
                why = f" ({_line(e.reason)})" if e.reason else ""
                lines.append(
                    f"- **{_line(e.title)}**, {e.status.value}{why}: {_line(' … '.join(e.sentences))}"
                )
        if number in judgements:
            lines += ["", f"Judged {judgements[number].probability:.2f}"]
    return "\n".join(lines) + "\n"


def _line(text: str) -> str:
    """Foreign text on one line that Markdown takes for nothing but text."""
    plain = " ".join(text.split())
    for sign in "\\`*_<>[]#|":
        plain = plain.replace(sign, f"\\{sign}")
    return plain

"""The library's events as named server-sent events. One function an event; the page and clients read the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ragpool.events import (
    Answered,
    Event,
    Judged,
    Planned,
    Pooled,
    Refined,
    Retrieved,
    Started,
    Stopped,
    Token,
)
from ragpool.pool import Pool, answer_json
from ragpool.serve.prose import Link
from ragpool.types import Answer, Citation, Evidence, EvidenceStatus, Judgement, Query, Question

Data = dict[str, Any]


_LINE_ENDS = str.maketrans({c: f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"})


def frame(data: Data, name: str = "") -> bytes:
    """One server-sent event. JSON is one line, also for readers that end lines where only Unicode does."""
    text = json.dumps(data, ensure_ascii=False).translate(_LINE_ENDS)
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {text}\n\n".encode("utf-8", "replace")


def event_data(event: Event) -> tuple[str, Data]:
    """The event's name and its data. Answered is left to ``answered_data``, which knows more."""
    if isinstance(event, Started):
        return "started", {
            "run_id": event.run_id,
            "resumed_round": event.resumed_round,
            **question_data(event.question),
        }
    if isinstance(event, Planned):
        return "planned", question_data(event.question)
    if isinstance(event, Retrieved):
        hits = [
            {
                "passage_id": hit.passage.id,
                "document_id": hit.passage.document_id,
                "title": hit.passage.title,
                "score": hit.score,
                "retriever": hit.retriever,
            }
            for hit in event.hits
        ]
        return "retrieved", {"round": event.round, "query": query_data(event.query), "hits": hits}
    if isinstance(event, Pooled):
        return "pooled", {"round": event.round, "evidence": [evidence_data(e) for e in event.evidence]}
    if isinstance(event, Judged):
        return "judged", {"round": event.round, **judgement_data(event.judgement)}
    if isinstance(event, Refined):
        return "refined", {"round": event.round, "queries": [query_data(q) for q in event.queries]}
    if isinstance(event, Stopped):
        return "stopped", {"round": event.round, "reason": event.reason.value}
    if isinstance(event, Token):
        return "token", {"text": event.text}
    return "answered", answer_json(event.answer)


def question_data(question: Question) -> Data:
    return {
        "question": question.text,
        "plan": [[t.subject, t.relation, t.object] for t in question.triples],
        "operation": question.operation.value,
        "planner": question.planner,
    }


def query_data(query: Query) -> Data:
    return {"text": query.text, "kind": query.kind, "gap": query.gap}


def evidence_data(evidence: Evidence) -> Data:
    return {
        "passage_id": evidence.passage_id,
        "document_id": evidence.document_id,
        "title": evidence.title,
        "text": evidence.text,
        "spans": [[span.start, span.end] for span in evidence.spans],
        "round": evidence.round,
        "query": evidence.query,
        "gap": evidence.gap,
        "score": evidence.score,
        "status": evidence.status.value,
        "reason": evidence.reason,
    }


def judgement_data(judgement: Judgement) -> Data:
    return {
        "sufficient": judgement.sufficient,
        "probability": judgement.probability,
        "judge": judgement.judge,
        "gaps": [
            {
                "text": gap.text,
                "triple": None
                if gap.triple is None
                else [gap.triple.subject, gap.triple.relation, gap.triple.object],
            }
            for gap in judgement.gaps
        ],
        "bindings": [
            {
                "slot": b.slot,
                "value": b.value,
                "passage_id": b.passage_id,
                "quote": b.quote,
                "confidence": b.confidence,
                "supposed": b.supposed,
            }
            for b in judgement.bindings
        ],
    }


def citation_data(citation: Citation, answer: Answer, link: Link) -> Data:
    titles = {e.passage_id: e.title for e in answer.evidence}
    return {
        "marker": citation.marker,
        "document_id": citation.document_id,
        "passage_id": citation.passage_id,
        "title": titles.get(citation.passage_id, ""),
        "quote": citation.quote,
        "supported": citation.supported,
        "url": link(citation),
    }


def answered_data(answer: Answer, content: str, conversation: str | None, link: Link) -> Data:
    """The line of answers.jsonl, ``content`` (the text without marks) and citations with titles and addresses."""
    return {
        **answer_json(answer),
        "citations": [citation_data(c, answer, link) for c in answer.citations],
        "content": content,
        "conversation": conversation,
    }


def known(pool: Pool) -> list[Evidence]:
    """The admitted evidence that earlier turns of the conversation had found when this run began."""
    first = next((row.id for row in pool.history if row.run_id == pool.run_id), None)
    found = [
        row.evidence
        for row in pool.history
        if row.run_id != pool.run_id and (first is None or row.id < first)
    ]
    return [e for e in found if e.status is EvidenceStatus.ADMITTED]


def replay(pool: Pool) -> Iterator[Event]:
    """A stored run as the events that it gave when it ran; without hits, which are not stored."""
    yield Started(pool.run_id, Question(pool.question_text))
    judged = dict(pool.judgements)
    own = [row.evidence for row in pool.history if row.run_id == pool.run_id and row.supersedes is None]
    for number in range(pool.last_round + 1):
        if number > 0:
            yield Refined(number - 1, pool.queries_of(number))
        for query in pool.queries_of(number):
            yield Retrieved(number, query, ())
        yield Pooled(number, tuple(e for e in own if e.round == number))
        if number == 0 and pool.question is not None:
            yield Planned(pool.question)
        if number in judged:
            yield Judged(number, judged[number])
    answer = pool.answer
    if answer is not None:
        yield Stopped(max(pool.last_round, 0), answer.stop_reason)
        yield Answered(answer)

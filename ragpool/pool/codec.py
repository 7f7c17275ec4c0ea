"""The pool's values as rows and as JSON, and back, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ragpool.pool.normal import query_key, storable
from ragpool.types import (
    Answer,
    Binding,
    Citation,
    Evidence,
    EvidenceStatus,
    Gap,
    Judgement,
    Operation,
    Query,
    Question,
    Span,
    Triple,
    Usage,
)

Row = Mapping[str, Any] | sa.RowMapping
Record = dict[str, Any]


def usage_record(usage: Usage) -> Record:
    return {
        "llm_calls": usage.llm_calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "retrievals": usage.retrievals,
    }


def usage_from(record: Row) -> Usage:
    return Usage(**record)


def question_record(question: Question) -> Record:
    return {
        "text": question.text,
        "triples": [_triple_record(triple) for triple in question.triples],
        "operation": question.operation.value,
        "compared": list(question.compared),
        "planner": question.planner,
    }


def question_from(record: Row) -> Question:
    return Question(
        text=record["text"],
        triples=tuple(Triple(*triple) for triple in record["triples"]),
        operation=Operation(record["operation"]),
        compared=tuple(record["compared"]),
        planner=record["planner"],
    )


def query_record(query: Query) -> Record:
    gap = None if query.gap is None else storable(query.gap)
    return {"text": storable(query.text), "key": query_key(query.text), "kind": query.kind, "gap": gap}


def query_from(row: Row) -> Query:
    return Query(text=row["text"], kind=row["kind"], gap=row["gap"])


def evidence_record(evidence: Evidence) -> Record:
    return {
        "passage_id": evidence.passage_id,
        "document_id": evidence.document_id,
        "title": evidence.title,
        "text": evidence.text,
        "spans": [[span.start, span.end] for span in evidence.spans],
        "round": evidence.round,
        "query": storable(evidence.query),
        "gap": None if evidence.gap is None else storable(evidence.gap),
        "score": evidence.score,
        "status": evidence.status.value,
        "reason": storable(evidence.reason),
        "metadata": dict(evidence.metadata),
    }


def evidence_from(row: Row) -> Evidence:
    return Evidence(
        passage_id=row["passage_id"],
        document_id=row["document_id"],
        title=row["title"],
        text=row["text"],
        spans=tuple(Span(*span) for span in row["spans"]),
        round=row["round"],
        query=row["query"],
        gap=row["gap"],
        score=row["score"],
        status=EvidenceStatus(row["status"]),
        reason=row["reason"],
        metadata=row["metadata"],
    )


def judgement_record(judgement: Judgement) -> Record:
    return {
        "sufficient": judgement.sufficient,
        "probability": judgement.probability,
        "gaps": [_gap_record(gap) for gap in judgement.gaps],
        "judge": storable(judgement.judge),
        "bindings": [
            [b.slot, b.value, b.passage_id, b.quote, b.confidence, b.supposed] for b in judgement.bindings
        ],
    }


def judgement_from(row: Row) -> Judgement:
    return Judgement(
        sufficient=row["sufficient"],
        probability=row["probability"],
        gaps=tuple(_gap_from(gap) for gap in row["gaps"]),
        judge=row["judge"],
        bindings=tuple(Binding(*binding) for binding in row["bindings"]),
    )


def citation_record(citation: Citation) -> Record:
    return {
        "marker": citation.marker,
        "document_id": citation.document_id,
        "passage_id": citation.passage_id,
        "quote": citation.quote,
        "supported": citation.supported,
    }


def citation_from(record: Row) -> Citation:
    return Citation(**record)


def answer_json(answer: Answer) -> Record:
    """One line of answers.jsonl: the answer as plain JSON values.

    ``evidence`` begins with what was given to the generator, in that order.
    """
    return {
        "id": answer.id,
        "question": answer.question,
        "answer": answer.answer,
        "text": answer.text,
        "status": answer.status.value,
        "citations": [citation_record(citation) for citation in answer.citations],
        "evidence": [
            {
                "document_id": evidence.document_id,
                "passage_id": evidence.passage_id,
                "title": evidence.title,
                "round": evidence.round,
                "query": evidence.query,
                "score": evidence.score,
                "status": evidence.status.value,
            }
            for evidence in answer.evidence
        ],
        "queries": [query.text for query in answer.queries],
        "rounds": answer.rounds,
        "stop_reason": answer.stop_reason.value,
        "judgement": {
            "sufficient": answer.judgement.sufficient,
            "probability": answer.judgement.probability,
            "gaps": [gap.text for gap in answer.judgement.gaps],
        },
        "missing": list(answer.missing),
        "usage": usage_record(answer.usage),
        "seconds": answer.seconds,
        "models": dict(answer.models),
        "run_id": answer.run_id,
        "config_hash": answer.config_hash,
    }


def _triple_record(triple: Triple) -> list[str]:
    return [triple.subject, triple.relation, triple.object]


def _gap_record(gap: Gap) -> Record:
    return {"text": gap.text, "triple": None if gap.triple is None else _triple_record(gap.triple)}


def _gap_from(record: Row) -> Gap:
    triple = record["triple"]
    return Gap(text=record["text"], triple=None if triple is None else Triple(*triple))

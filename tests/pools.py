"""Runs and evidence for the tests of the pool."""

from __future__ import annotations

import sys
from typing import Any

from ragpool.db import Database
from ragpool.pool import Pool, PoolStore
from ragpool.types import (
    Answer,
    AnswerStatus,
    Evidence,
    EvidenceStatus,
    Judgement,
    Query,
    Span,
    StopReason,
    Usage,
)

WORDS = [
    "harbour",
    "lantern",
    "treaty",
    "copper",
    "violin",
    "meadow",
    "captain",
    "glacier",
    "orchard",
    "railway",
    "senate",
    "falcon",
    "marble",
    "comet",
    "weaver",
    "salt",
    "bridge",
    "dynasty",
    "ember",
    "quarry",
]


def open_run(store: PoolStore, question: str = "Who built it?", **changes: Any) -> Pool:
    values: dict[str, Any] = {
        "question_id": "q1",
        "question": question,
        "method": "ragpool",
        "config_hash": "c" * 16,
        "corpus_version": "v1",
        "models": {"chat": "small"},
        "prompts": {"answer": "abc"},
        "job": "job",
    }
    return store.open_run(**{**values, **changes})


def prose(seed: int, words: int = 60) -> str:
    """Deterministic text; two seeds share no five words in a row, but for chance."""
    state = seed * 2654435761 + 12345
    chosen = []
    for _ in range(words):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        chosen.append(WORDS[(state >> 33) % len(WORDS)])
    return " ".join(chosen)


def evidence(name: str, text: str | None = None, **changes: Any) -> Evidence:
    text = prose(sum(ord(c) * 31**i for i, c in enumerate(name))) if text is None else text
    values: dict[str, Any] = {
        "passage_id": name,
        "document_id": f"document of {name}",
        "title": f"Title {name}",
        "text": text,
        "spans": (Span(0, min(7, len(text))),),
        "round": 0,
        "query": "who built it",
        "score": 0.25,
        "status": EvidenceStatus.ADMITTED,
    }
    return Evidence(**{**values, **changes})


def finish(pool: Pool, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "answer": "Ada",
        "text": "Ada [1]",
        "status": AnswerStatus.ANSWERED,
        "stop_reason": StopReason.SUFFICIENT,
        "rounds": 1,
        "citations": (),
        "given": (),
        "missing": (),
        "usage": Usage(llm_calls=1),
        "seconds": 1.0,
    }
    return pool.save_answer(**{**values, **changes})


def write_rounds(pool: Pool, count: int) -> None:
    """Go on from the last committed round: two passages of one's own and one that all bring, and a judgement."""
    name = pool.question_id
    for number in range(pool.last_round + 1, count):
        found = [evidence(f"{name}-{number}-a"), evidence(f"{name}-{number}-b"), evidence(f"common-{number}")]
        pool.add(number, [Query(f"{name} {number}", "gap")], found, Usage(retrievals=1), 0.0)
        pool.save_judgement(number, Judgement(False, 0.5), Usage(1), 0.0)
        print(number, flush=True)  # noqa: T201 - the acknowledgement that the parent process reads


if __name__ == "__main__":
    url, question_id, rounds = sys.argv[1:]
    write_rounds(open_run(PoolStore(Database(url)), question_id=question_id, scope="shared"), int(rounds))

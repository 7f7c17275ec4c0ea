"""What a run has committed, as the rows say."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from ragpool import db
from ragpool.pool import codec
from ragpool.types import Evidence, Judgement, Query, Question, Usage

NO_JUDGEMENT = Judgement(sufficient=False, probability=0.0, judge="none")
"""The judgement in an answer whose run was never judged (single-shot)."""


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """A row of the pool's history; ``supersedes`` is the id of the row it replaces."""

    id: int
    run_id: str
    supersedes: int | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Steps:
    """What one run has committed, evidence apart.

    ``keys`` are the digests of its queries' normal forms; ``answer`` is the answer's row.
    """

    question: Question | None
    rounds: tuple[int, ...]
    queries: tuple[tuple[int, Query], ...]
    keys: frozenset[str]
    judgements: tuple[tuple[int, Judgement], ...]
    usage: Usage
    seconds: float
    answer: sa.RowMapping | None


def load_steps(connection: sa.Connection, run_id: str) -> Steps:
    """Read the steps of a run."""

    def rows(table: sa.Table, order: str = "run_id") -> list[sa.RowMapping]:
        select = sa.select(table).where(table.c.run_id == run_id).order_by(table.c[order])
        return list(connection.execute(select).mappings())

    plans, rounds, judged = rows(db.plan), rows(db.pool_round, "round"), rows(db.judgement, "round")
    queries = rows(db.query, "id")
    calls = list(connection.execute(sa.select(db.call.c.usage).where(db.call.c.run_id == run_id)).scalars())
    steps = [*plans, *rounds, *judged]
    usage = sum((codec.usage_from(usage) for usage in [*calls, *(row["usage"] for row in steps)]), Usage())
    seconds = sum((row["seconds"] for row in steps), 0.0)
    answer = next(iter(rows(db.answer)), None)
    return Steps(
        question=codec.question_from(plans[0]["question"]) if plans else None,
        rounds=tuple(row["round"] for row in rounds),
        queries=tuple((row["round"], codec.query_from(row)) for row in queries),
        keys=frozenset(row["key"] for row in queries),
        judgements=tuple((row["round"], codec.judgement_from(row)) for row in judged),
        usage=usage if answer is None else codec.usage_from(answer["usage"]),
        seconds=seconds if answer is None else answer["seconds"],
        answer=answer,
    )

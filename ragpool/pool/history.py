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


def _of_run(table: sa.Table, order: str = "run_id") -> sa.Select[tuple[object, ...]]:
    return sa.select(table).where(table.c.run_id == sa.bindparam("run")).order_by(table.c[order])


# built once: these are read after every step of every run
NEWER = (
    sa.select(db.evidence)
    .where(db.evidence.c.scope == sa.bindparam("of"), db.evidence.c.id > sa.bindparam("last"))
    .order_by(db.evidence.c.id)
)
_PLAN, _ROUNDS, _JUDGEMENTS = (
    _of_run(db.plan),
    _of_run(db.pool_round, "round"),
    _of_run(db.judgement, "round"),
)
_QUERIES, _ANSWER = _of_run(db.query, "id"), _of_run(db.answer)
_CALLS = sa.select(db.call.c.usage).where(db.call.c.run_id == sa.bindparam("run"))


def load_steps(connection: sa.Connection, run_id: str) -> Steps:
    """Read the steps of a run."""

    def rows(select: sa.Select[tuple[object, ...]]) -> list[sa.RowMapping]:
        return list(connection.execute(select, {"run": run_id}).mappings())

    plans, rounds, judged, queries = rows(_PLAN), rows(_ROUNDS), rows(_JUDGEMENTS), rows(_QUERIES)
    calls = list(connection.execute(_CALLS, {"run": run_id}).scalars())
    steps = [*plans, *rounds, *judged]
    usage = sum((codec.usage_from(usage) for usage in [*calls, *(row["usage"] for row in steps)]), Usage())
    seconds = sum((row["seconds"] for row in steps), 0.0)
    answer = next(iter(rows(_ANSWER)), None)
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

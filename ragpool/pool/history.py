"""What a run has committed, as the rows say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def _of_run(table: sa.Table, order: str = "run_id") -> sa.Select[tuple[object, ...]]:
    return sa.select(table).where(table.c.run_id == sa.bindparam("run")).order_by(table.c[order])


# built once: these are read after every step of every run
NEWER = (
    sa.select(db.evidence)
    .where(db.evidence.c.scope == sa.bindparam("of"), db.evidence.c.id > sa.bindparam("last"))
    .order_by(db.evidence.c.id)
)
_TIMED = (db.plan, db.pool_round, db.judgement)
_SELECTS = {
    db.plan: _of_run(db.plan),
    db.pool_round: _of_run(db.pool_round, "round"),
    db.query: _of_run(db.query, "id"),
    db.judgement: _of_run(db.judgement, "round"),
    db.call: sa.select(db.call.c.usage).where(db.call.c.run_id == sa.bindparam("run")),
    db.answer: _of_run(db.answer),
}

Read = Callable[[sa.Select[tuple[object, ...]], Mapping[str, Any]], Sequence[sa.RowMapping]]


class Steps:
    """What one run has committed, evidence apart. Each table is read when it is first asked for, and kept.

    A run asks after every step; reading all tables each time was half of the statements of a question.
    """

    def __init__(self, read: Read, run_id: str) -> None:
        self._read = read
        self._run_id = run_id
        self._kept: dict[sa.Table, Sequence[sa.RowMapping]] = {}

    def forget(self, *tables: sa.Table) -> None:
        """These have changed; without any, all of them may have."""
        for table in tables or tuple(_SELECTS):
            self._kept.pop(table, None)

    @classmethod
    def snapshot(cls, connection: sa.Connection, run_id: str) -> Steps:
        """All tables as they are in one transaction."""
        steps = cls(lambda select, values: list(connection.execute(select, values).mappings()), run_id)
        for table in _SELECTS:
            steps._rows(table)
        return steps

    def _rows(self, table: sa.Table) -> Sequence[sa.RowMapping]:
        if table not in self._kept:
            self._kept[table] = self._read(_SELECTS[table], {"run": self._run_id})
        return self._kept[table]

    @property
    def question(self) -> Question | None:
        """The plan."""
        return next((codec.question_from(row["question"]) for row in self._rows(db.plan)), None)

    @property
    def rounds(self) -> tuple[int, ...]:
        return tuple(row["round"] for row in self._rows(db.pool_round))

    @property
    def queries(self) -> tuple[tuple[int, Query], ...]:
        """(round, query) in the order in which they were committed."""
        return tuple((row["round"], codec.query_from(row)) for row in self._rows(db.query))

    @property
    def keys(self) -> frozenset[str]:
        """The digests of the queries' normal forms."""
        return frozenset(row["key"] for row in self._rows(db.query))

    @property
    def judgements(self) -> tuple[tuple[int, Judgement], ...]:
        return tuple((row["round"], codec.judgement_from(row)) for row in self._rows(db.judgement))

    @property
    def usage(self) -> Usage:
        """Of all steps and calls; of the answer, which has the sum, once there is one."""
        if self.answer is not None:
            return codec.usage_from(self.answer["usage"])
        rows = [row for table in (db.call, *_TIMED) for row in self._rows(table)]
        return sum((codec.usage_from(row["usage"]) for row in rows), Usage())

    @property
    def seconds(self) -> float:
        """Of all steps; a call's are part of the step that made it."""
        if self.answer is not None:
            return float(self.answer["seconds"])
        return float(sum(row["seconds"] for table in _TIMED for row in self._rows(table)))

    @property
    def answer(self) -> sa.RowMapping | None:
        """The answer's row."""
        return next(iter(self._rows(db.answer)), None)

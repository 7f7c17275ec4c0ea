"""One run's pool: the evidence of its scope, its queries, judgements and answer."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from ragpool import db
from ragpool.errors import NotFoundError
from ragpool.pool import codec
from ragpool.pool.duplicates import NearDuplicates
from ragpool.pool.history import NEWER, NO_JUDGEMENT, EvidenceRow, Steps
from ragpool.pool.normal import query_key, storable
from ragpool.types import (
    Answer,
    AnswerStatus,
    Citation,
    Evidence,
    EvidenceStatus,
    Judgement,
    Query,
    Question,
    StopReason,
    Usage,
)


class Pool:
    """One run's pool, append-only. Made by PoolStore; use one from one thread at a time.

    A scope may be shared: evidence that other runs of the scope committed, also in other processes, is seen
    at every read. Methods that write commit before they return. A run that has its answer takes no further
    rounds or judgements: such calls change nothing. Writing to a run that was deleted raises NotFoundError; a
    database that fails raises StoreError.
    """

    def __init__(self, database: db.Database, row: sa.RowMapping) -> None:
        self._database = database
        self._run = row
        self.run_id: str = row["id"]
        self.scope: str = row["scope"]
        self.job: str = row["job"]
        self.question_id: str = row["question_id"]
        self.question_text: str = row["question"]
        self._history: list[EvidenceRow] = []
        self._latest: dict[str, EvidenceRow] = {}  # by passage, in the order of admission
        self._known: NearDuplicates | None = None
        self._steps = Steps(database.rows, self.run_id)

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def question(self) -> Question | None:
        """The plan; None until it is saved."""
        return self._steps.question

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Every passage of the scope as it stands now, in the order of admission."""
        return tuple(row.evidence for row in self._view().values())

    @property
    def admitted(self) -> tuple[Evidence, ...]:
        """The evidence that the judge and the generator may see, in the order of admission."""
        return tuple(e for e in self.evidence if e.status is EvidenceStatus.ADMITTED)

    @property
    def passage_ids(self) -> frozenset[str]:
        """Every passage of the scope, whatever its status: what retrieval leaves out."""
        return frozenset(self._view())

    @property
    def history(self) -> tuple[EvidenceRow, ...]:
        """Every row that was ever written to the scope, in order."""
        self._view()
        return tuple(self._history)

    @property
    def queries(self) -> tuple[Query, ...]:
        """This run's queries in the order in which they were committed."""
        return tuple(query for _, query in self._steps.queries)

    def queries_of(self, round: int) -> tuple[Query, ...]:
        """The queries of one committed round."""
        return tuple(query for number, query in self._steps.queries if number == round)

    def asked(self, text: str) -> bool:
        """Whether this run has sent a query with the same normal form."""
        return query_key(text) in self._steps.keys

    @property
    def judgements(self) -> tuple[tuple[int, Judgement], ...]:
        """(round, judgement) in the order of rounds."""
        return self._steps.judgements

    @property
    def last_round(self) -> int:
        """The last committed round; -1 before the first."""
        return max(self._steps.rounds, default=-1)

    @property
    def usage(self) -> Usage:
        """What is committed so far has cost."""
        return self._steps.usage

    @property
    def seconds(self) -> float:
        """How long what is committed so far has taken."""
        return self._steps.seconds

    @property
    def answer(self) -> Answer | None:
        """The stored answer; the evidence in it is the scope's as it stood when the answer was written."""
        row = self._steps.answer
        return None if row is None else self._answer(row)

    # -- writing ---------------------------------------------------------------------------------------------

    def save_plan(self, question: Question, usage: Usage, seconds: float) -> None:
        """Commit the plan. A run has one plan: when there is one already it stays."""
        with self._write(db.plan) as connection:
            values = {"question": codec.question_record(question), "seconds": seconds}
            self._insert_once(connection, db.plan, usage=codec.usage_record(usage), **values)

    def add(
        self,
        round: int,
        queries: Sequence[Query],
        candidates: Sequence[Evidence],
        usage: Usage,
        seconds: float,
    ) -> tuple[Evidence, ...]:
        """Commit a round: its queries and the evidence it brought, all or nothing.

        ``candidates`` that repeat a passage of the scope become DUPLICATE, with the reason; a candidate that
        comes in with another status than ADMITTED keeps it; passages that the scope holds already are left
        out. Returns what was written, in order. A round that is committed already is not written again: the
        stored evidence of that round is returned.
        """
        with self._write(db.pool_round, db.query) as connection:
            if self._finished(connection):
                return ()
            self._refresh(connection)
            if not self._insert_once(
                connection, db.pool_round, round=round, usage=codec.usage_record(usage), seconds=seconds
            ):
                return tuple(
                    row.evidence
                    for row in self._history
                    if row.run_id == self.run_id and row.evidence.round == round and row.supersedes is None
                )
            for query in queries:
                self._insert_once(connection, db.query, round=round, **codec.query_record(query))
            written = self._sift(round, candidates)
            if written:
                rows = [
                    {"scope": self.scope, "run_id": self.run_id, **codec.evidence_record(evidence)}
                    for evidence in written
                ]
                connection.execute(sa.insert(db.evidence), rows)
        return written

    def save_judgement(self, round: int, judgement: Judgement, usage: Usage, seconds: float) -> None:
        """Commit the judgement of a round. A round has one judgement: when there is one already it stays."""
        with self._write(db.judgement) as connection:
            if not self._finished(connection):
                values = {**codec.judgement_record(judgement), "usage": codec.usage_record(usage)}
                self._insert_once(connection, db.judgement, round=round, seconds=seconds, **values)

    def recall(self, key: str) -> dict[str, Any] | None:
        """The output of a model call that this run has paid for already; None when there is none."""
        stored = sa.select(db.call.c.output).where(db.call.c.run_id == self.run_id, db.call.c.key == key)
        found = self._database.rows(stored)
        return found[0]["output"] if found else None

    def record(self, key: str, kind: str, output: Mapping[str, Any], usage: Usage, seconds: float) -> None:
        """Commit one model call inside a round: a resumed run recalls it instead of paying again.

        ``key`` is a digest (64 characters at most) of the model's name and the prompt. The first call with a
        key stays. Its usage counts for the run, its seconds do not: they are part of the step that made the
        call.
        """
        with self._write(db.call) as connection:
            values = {"kind": kind, "output": dict(output), "usage": codec.usage_record(usage)}
            self._insert_once(connection, db.call, key=key, seconds=seconds, **values)

    def supersede(self, passage_id: str, status: EvidenceStatus, reason: str) -> None:
        """Give a passage of the scope another status; the earlier row stays in the history.

        Nothing is written when that is its status and reason already. Raises NotFoundError for a passage that
        is not in the scope.
        """
        with self._write() as connection:
            self._refresh(connection)
            row = self._latest.get(passage_id)
            if row is None:
                raise NotFoundError(
                    f"no passage {passage_id!r} in the pool of run {self.run_id}: see pool show"
                )
            if (row.evidence.status, row.evidence.reason) == (status, reason):
                return
            values = codec.evidence_record(replace(row.evidence, status=status, reason=reason))
            connection.execute(
                sa.insert(db.evidence).values(
                    scope=self.scope, run_id=self.run_id, supersedes=row.id, **values
                )
            )

    def save_answer(
        self,
        *,
        answer: str,
        text: str,
        status: AnswerStatus,
        stop_reason: StopReason,
        rounds: int,
        citations: Sequence[Citation],
        given: Sequence[str],
        missing: Sequence[str],
        usage: Usage,
        seconds: float,
    ) -> Answer:
        """Commit the answer and return it with the run's totals of usage and seconds.

        ``given`` are the passage ids in the order in which the generator saw them; ``usage`` and ``seconds``
        are those of this last step. A run has one answer: when there is one already, that one is returned.
        """
        with self._write() as connection:
            self._refresh(connection)
            steps = Steps.snapshot(connection, self.run_id)
            self._insert_once(
                connection,
                db.answer,
                answer=storable(answer),
                text=storable(text),
                status=status.value,
                stop_reason=stop_reason.value,
                rounds=rounds,
                citations=[codec.citation_record(citation) for citation in citations],
                given=list(given),
                missing=list(missing),
                usage=codec.usage_record(steps.usage + usage),
                seconds=steps.seconds + seconds,
                finished=time.time(),
                as_of=self._history[-1].id if self._history else 0,
            )
        stored = self.answer
        if stored is None:
            raise NotFoundError(f"run {self.run_id} was deleted: ask the question again")
        return stored

    def export(self) -> dict[str, Any]:
        """Everything that is known of the run as plain JSON values, with all history rows of its scope."""
        with self._database.read() as connection:
            steps = Steps.snapshot(connection, self.run_id)
        run = {name: value for name, value in self._run.items() if name not in ("id", "question_key")}
        answer = self.answer
        return {
            "run_id": self.run_id,
            **run,
            "plan": None if steps.question is None else codec.question_record(steps.question),
            "rounds": list(steps.rounds),
            "queries": [
                {"round": number, "text": query.text, "kind": query.kind, "gap": query.gap}
                for number, query in steps.queries
            ],
            "evidence": [
                {
                    "row": row.id,
                    "run_id": row.run_id,
                    "supersedes": row.supersedes,
                    **codec.evidence_record(row.evidence),
                }
                for row in self.history
            ],
            "judgements": [
                {"round": number, **codec.judgement_record(judgement)}
                for number, judgement in steps.judgements
            ],
            "usage": codec.usage_record(steps.usage),
            "seconds": steps.seconds,
            "answer": None if answer is None else codec.answer_json(answer),
        }

    # -- inside ----------------------------------------------------------------------------------------------

    @contextmanager
    def _write(self, *tables: sa.Table) -> Iterator[sa.Connection]:
        """A transaction that may change ``tables`` of this run."""
        committed = False
        try:
            with self._database.write() as connection:
                if not self._database.is_sqlite:
                    # one writer a scope: row ids grow in the order of commits, which _refresh relies on, and
                    # two runs cannot both admit copies of one text (SQLite has one writer anyway)
                    digest = hashlib.sha256(self.scope.encode("utf-8", "surrogatepass")).digest()
                    key = int.from_bytes(digest[:8], signed=True)
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
                yield connection
            committed = True
        except IntegrityError as error:  # the run's row is gone, and everything refers to it
            raise NotFoundError(f"run {self.run_id} was deleted: ask the question again") from error
        finally:
            self._steps.forget(*tables)
            if not committed:
                self._known = None  # may hold passages that were never written

    def _insert_once(self, connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
        """Insert a row of this run; False when the table's unique key is taken."""
        return self._database.insert_once(connection, table, {"run_id": self.run_id, **values})

    def _finished(self, connection: sa.Connection) -> bool:
        found = sa.select(db.answer.c.run_id).where(db.answer.c.run_id == self.run_id)
        return connection.execute(found).first() is not None

    def _view(self) -> dict[str, EvidenceRow]:
        self._take(self._database.rows(NEWER, self._seen()))
        return self._latest

    def _refresh(self, connection: sa.Connection) -> None:
        self._take(connection.execute(NEWER, self._seen()).mappings())

    def _seen(self) -> dict[str, Any]:
        return {"of": self.scope, "last": self._history[-1].id if self._history else 0}

    def _take(self, rows: Iterable[sa.RowMapping]) -> None:
        for row in rows:
            entry = EvidenceRow(row["id"], row["run_id"], row["supersedes"], codec.evidence_from(row))
            self._history.append(entry)
            self._latest[entry.evidence.passage_id] = entry

    def _sift(self, round: int, candidates: Sequence[Evidence]) -> tuple[Evidence, ...]:
        """The candidates that are new to the scope, near duplicates marked."""
        if self._known is None:
            self._known = NearDuplicates()
        for row in self._history:  # what was once more than a duplicate stays an original to compare with
            found = row.evidence
            if found.status is not EvidenceStatus.DUPLICATE and found.passage_id not in self._known:
                self._known.add(found)
        written: dict[str, Evidence] = {}
        for candidate in candidates:
            if candidate.passage_id in self._latest or candidate.passage_id in written:
                continue
            evidence = replace(candidate, round=round)
            if evidence.status is EvidenceStatus.ADMITTED:
                original = self._known.original_of(evidence)
                if original is not None:
                    name, similarity = original
                    how = "same text as" if similarity == 1.0 else f"{similarity:.2f} of the text of"
                    evidence = replace(evidence, status=EvidenceStatus.DUPLICATE, reason=f"{how} {name}")
            if evidence.status is not EvidenceStatus.DUPLICATE:
                self._known.add(evidence)
            written[evidence.passage_id] = evidence
        return tuple(written.values())

    def _answer(self, row: sa.RowMapping) -> Answer:
        steps = self._steps
        self._view()
        then: dict[str, EvidenceRow] = {}
        for entry in self._history:
            if entry.id <= row["as_of"]:
                then[entry.evidence.passage_id] = entry
        given = [then[name].evidence for name in row["given"] if name in then]
        rest = [
            entry.evidence
            for entry in then.values()
            if entry.evidence.passage_id not in set(row["given"]) and entry.run_id == self.run_id
        ]
        return Answer(
            id=self.question_id,
            question=self.question_text,
            answer=row["answer"],
            text=row["text"],
            status=AnswerStatus(row["status"]),
            citations=tuple(codec.citation_from(citation) for citation in row["citations"]),
            evidence=(*given, *rest),
            queries=self.queries,
            rounds=row["rounds"],
            stop_reason=StopReason(row["stop_reason"]),
            judgement=steps.judgements[-1][1] if steps.judgements else NO_JUDGEMENT,
            usage=codec.usage_from(row["usage"]),
            seconds=row["seconds"],
            run_id=self.run_id,
            config_hash=self._run["config_hash"],
            missing=tuple(row["missing"]),
            models=self._run["models"],
        )

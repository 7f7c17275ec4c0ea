"""All runs of a store: open, find, list and delete them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ragpool import db
from ragpool.errors import NotFoundError
from ragpool.pool.normal import question_key, storable
from ragpool.pool.run import Pool
from ragpool.types import Answer

_AD_HOC = "ask:"


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run at a glance. ``created`` and ``finished`` are seconds since the epoch.

    ``finished``, ``status`` and ``stop_reason`` are None while the run has no answer. ``evidence`` counts the
    passages of its scope.
    """

    run_id: str
    job: str
    scope: str
    question_id: str
    question: str
    method: str
    config_hash: str
    created: float
    finished: float | None
    status: str | None
    stop_reason: str | None
    rounds: int
    evidence: int


class PoolStore:
    """The runs of a store. Safe to share between threads."""

    def __init__(self, database: db.Database) -> None:
        self._database = database

    def open_run(
        self,
        *,
        question_id: str,
        question: str,
        method: str,
        config_hash: str,
        corpus_version: str,
        models: Mapping[str, str],
        prompts: Mapping[str, str],
        job: str = "",
        scope: str | None = None,
    ) -> Pool:
        """The run of this question in this job with this configuration: found, or made.

        Two processes that open the same run get the same one. Without a job the run is always a new one. Runs
        with the same ``scope`` share their evidence; None gives the run a scope of its own. A run that is
        found keeps the scope, corpus version, models and prompts with which it was made.
        """
        run_id = uuid.uuid4().hex
        key = question_key(question_id, question)
        if job:
            found = self._find(job, key, config_hash)
            if found is not None:
                return found
        job = job or f"{_AD_HOC}{run_id}"
        row = {
            "id": run_id,
            "scope": scope if scope is not None else run_id,
            "job": job,
            "question_key": key,
            "question_id": storable(question_id),
            "question": storable(question),
            "method": method,
            "config_hash": config_hash,
            "corpus_version": corpus_version,
            "models": dict(models),
            "prompts": dict(prompts),
            "created": time.time(),
        }
        with self._database.write() as connection:
            self._database.insert_once(connection, db.run, row)
        pool = self._find(job, key, config_hash)
        if pool is None:
            raise NotFoundError(f"run {run_id} was deleted while it was opened: ask the question again")
        return pool

    def find_answer(self, *, job: str, question_id: str, question: str, config_hash: str) -> Answer | None:
        """The answer of a finished run; None when there is no such run or it has no answer yet."""
        pool = self._find(job, question_key(question_id, question), config_hash)
        return None if pool is None else pool.answer

    def answers(self, job: str) -> Iterator[Answer]:
        """The job's answers in the order in which they were finished."""
        select = (
            sa.select(db.run)
            .join(db.answer, db.answer.c.run_id == db.run.c.id)
            .where(db.run.c.job == job)
            .order_by(db.answer.c.finished, db.run.c.id)
        )
        for row in self._rows(select):
            answer = Pool(self._database, row).answer
            if answer is not None:
                yield answer

    def runs(self, *, job: str | None = None, limit: int = 50) -> list[RunInfo]:
        """The newest runs first; of one job, or of all."""
        run, answer = db.run.c, db.answer.c
        rounds = sa.select(sa.func.count()).where(db.pool_round.c.run_id == run.id).scalar_subquery()
        passages = (
            sa.select(sa.func.count())
            .where(db.evidence.c.scope == run.scope, db.evidence.c.supersedes.is_(None))
            .scalar_subquery()
        )
        select = (
            sa.select(
                run.id.label("run_id"),
                run.job,
                run.scope,
                run.question_id,
                run.question,
                run.method,
                run.config_hash,
                run.created,
                answer.finished,
                answer.status,
                answer.stop_reason,
                sa.func.coalesce(answer.rounds, rounds).label("rounds"),
                passages.label("evidence"),
            )
            .select_from(db.run.outerjoin(db.answer, answer.run_id == run.id))
            .order_by(run.created.desc(), run.id)
            .limit(limit)
        )
        if job is not None:
            select = select.where(run.job == job)
        return [RunInfo(**row) for row in self._rows(select)]

    def pool(self, run_id: str) -> Pool:
        """The pool of a run, by its id or the beginning of it; NotFoundError when none or several fit."""
        return Pool(self._database, self._resolve(run_id))

    def delete(self, run_id: str) -> None:
        """Delete a run, by its id or the beginning of it. Its evidence goes with the last run of its scope.

        Raises NotFoundError when none or several runs fit.
        """
        self._delete(db.run.c.id == self._resolve(run_id)["id"])

    def delete_job(self, job: str) -> int:
        """Delete all runs of a job, and say how many they were."""
        return self._delete(db.run.c.job == job)

    def _delete(self, which: sa.ColumnElement[bool]) -> int:
        with self._database.write() as connection:
            scopes = list(connection.execute(sa.select(db.run.c.scope).distinct().where(which)).scalars())
            deleted = connection.execute(sa.delete(db.run).where(which)).rowcount
            for scope in scopes:
                left = sa.select(db.run.c.id).where(db.run.c.scope == scope)
                connection.execute(sa.delete(db.evidence).where(db.evidence.c.scope == scope, ~left.exists()))
        return deleted

    def _find(self, job: str, key: str, config_hash: str) -> Pool | None:
        run = db.run.c
        select = sa.select(db.run).where(
            run.job == job, run.question_key == key, run.config_hash == config_hash
        )
        rows = self._rows(select)
        return Pool(self._database, rows[0]) if rows else None

    def _resolve(self, run_id: str) -> sa.RowMapping:
        if run_id:
            starts = db.run.c.id.startswith(run_id, autoescape=True)
            rows = self._rows(sa.select(db.run).where(starts).limit(3))
            exact = [row for row in rows if row["id"] == run_id]
            if len(exact or rows) == 1:
                return (exact or rows)[0]
            if rows:
                raise NotFoundError(f"several runs begin with {run_id}: give more of the id")
        raise NotFoundError(f"no run {run_id!r}: list them with ragpool pool ls")

    def _rows(self, select: sa.Select[tuple[object, ...]]) -> list[sa.RowMapping]:
        return self._database.rows(select)

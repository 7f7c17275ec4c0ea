"""Who owns which run, and which runs make a conversation.

Nothing is stored for it: a conversation is the scope ``chat:OWNER:ID`` of its runs, so its evidence is shared by its
turns and survives a restart. A run's question id is the question as it was typed, its question the stand-alone form.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ragpool import db
from ragpool.pool import Pool, PoolStore
from ragpool.serve.errors import invalid, missing
from ragpool.serve.keys import LOCAL

ID_PATTERN = "^[A-Za-z0-9_.-]{1,64}$"
_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_RUN_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of a conversation and what was answered; ``answer`` is "" while there is none."""

    run_id: str
    asked: str  # as it was typed
    question: str  # as it was sent into the loop
    answer: str  # the short answer
    text: str
    status: str | None
    stop_reason: str | None
    created: float
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation at a glance. Times are seconds since the epoch."""

    id: str
    title: str
    turns: int
    created: float
    updated: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run of one owner at a glance; ``conversation`` is None for a run of the command line or of a batch."""

    id: str
    conversation: str | None
    question: str
    method: str
    created: float
    finished: float | None
    status: str | None
    stop_reason: str | None


def scope_of(owner: str, conversation: str) -> str:
    """The pool's scope of one conversation."""
    return f"chat:{owner}:{conversation}"


def checked_id(conversation: str) -> str:
    """A client's name for its conversation. Raises a 400 when it cannot be one."""
    if not _ID.fullmatch(conversation):
        raise invalid(
            "a conversation's id has 1 to 64 letters, digits, dots, dashes or underscores", "conversation"
        )
    return conversation


def new_id() -> str:
    return uuid.uuid4().hex


class Conversations:
    """The runs in the store's database, seen by their owner. Every method takes the owner and shows no one else's."""

    def __init__(self, database: db.Database, pools: PoolStore) -> None:
        self._database = database
        self._pools = pools

    def turns(self, owner: str, conversation: str) -> tuple[Turn, ...]:
        """Oldest first; () when there is no such conversation of this owner."""
        return self._turns(db.run.c.scope == scope_of(owner, conversation))

    def all(self, owner: str, limit: int) -> list[Conversation]:
        """The last used first; a conversation's title is its first question."""
        run, prefix = db.run.c, scope_of(owner, "")
        grouped = (
            sa.select(
                run.scope,
                sa.func.count().label("turns"),
                sa.func.min(run.created).label("created"),
                sa.func.max(run.created).label("updated"),
            )
            .where(run.scope.startswith(prefix, autoescape=True))
            .group_by(run.scope)
            .order_by(sa.func.max(run.created).desc())
            .limit(limit)
            .subquery()
        )
        first = (
            sa.select(run.question_id)
            .where(run.scope == grouped.c.scope)
            .order_by(run.created, run.id)
            .limit(1)
            .scalar_subquery()
        )
        with self._database.read() as connection:
            rows = connection.execute(
                sa.select(grouped, first.label("title")).order_by(grouped.c.updated.desc())
            ).mappings()
            return [
                Conversation(
                    row["scope"][len(prefix) :], row["title"], row["turns"], row["created"], row["updated"]
                )
                for row in rows
            ]

    def runs(self, owner: str, limit: int) -> list[Run]:
        """The newest first."""
        run, answer = db.run.c, db.answer.c
        select = (
            sa.select(
                run.id, run.scope, run.question_id, run.question, run.method, run.created,
                answer.finished, answer.status, answer.stop_reason,
            )
            .select_from(db.run.outerjoin(db.answer, answer.run_id == run.id))
            .where(_owned(owner))
            .order_by(run.created.desc(), run.id)
            .limit(limit)
        )  # fmt: skip
        prefix = scope_of(owner, "")
        with self._database.read() as connection:
            return [
                Run(
                    row["id"],
                    row["scope"][len(prefix) :] if row["scope"].startswith(prefix) else None,
                    row["question_id"] if row["scope"].startswith(prefix) else row["question"],
                    row["method"],
                    row["created"],
                    row["finished"],
                    row["status"],
                    row["stop_reason"],
                )
                for row in connection.execute(select).mappings()
            ]

    def pool(self, owner: str, run_id: str) -> Pool:
        """The pool of a run. A 404 when it is not there or another's."""
        if _RUN_ID.fullmatch(run_id):
            mine = sa.select(db.run.c.id).where(db.run.c.id == run_id, _owned(owner))
            with self._database.read() as connection:
                found = connection.execute(mine).first() is not None
            if found:
                return self._pools.pool(run_id)
        raise missing(f"pool {run_id[:64]!r}")

    def delete_run(self, owner: str, run_id: str) -> None:
        """Delete a run; its evidence goes with the last run of its conversation."""
        self._pools.delete(self.pool(owner, run_id).run_id)

    def delete(self, owner: str, conversation: str) -> int:
        """Delete a conversation with all its runs and evidence; says how many runs there were."""
        turns = self.turns(owner, conversation)
        if not turns:
            raise missing(f"conversation {conversation[:64]!r}")
        for turn in turns:
            self._pools.delete(turn.run_id)
        return len(turns)

    def find(self, owner: str, earlier: Sequence[tuple[str, str]]) -> str:
        """The conversation that ``earlier`` (question, answer as the client has it) comes from.

        Clients send the whole conversation and no id. The run that gave the last earlier answer tells where it
        was; where none did (the client spoke with another server before), the digest of the messages is the id.
        """
        if not earlier:
            return new_id()
        asked, said = earlier[-1]
        prefix = scope_of(owner, "")
        mine = db.run.c.scope.startswith(prefix, autoescape=True) & (db.run.c.question_id == asked)
        best, score = "", 0
        for turn in reversed(self._turns(mine)[-50:]):
            if _same_answer(turn, said):
                conversation = turn.scope[len(prefix) :]
                known = {t.asked for t in self.turns(owner, conversation)}
                matched = sum(question in known for question, _ in earlier)
                if matched > score:
                    best, score = conversation, matched
        if best:
            return best
        digest = hashlib.sha256("\0".join(f"{q}\0{a}" for q, a in earlier).encode("utf-8", "replace"))
        return f"d-{digest.hexdigest()[:32]}"

    def _turns(self, which: sa.ColumnElement[bool]) -> tuple[Turn, ...]:
        run, answer = db.run.c, db.answer.c
        select = (
            sa.select(
                run.id, run.scope, run.question_id, run.question, run.created,
                answer.answer, answer.text, answer.status, answer.stop_reason,
            )
            .select_from(db.run.outerjoin(db.answer, answer.run_id == run.id))
            .where(which)
            .order_by(run.created, run.id)
        )  # fmt: skip
        with self._database.read() as connection:
            return tuple(
                Turn(
                    row["id"],
                    row["question_id"],
                    row["question"],
                    row["answer"] or "",
                    row["text"] or "",
                    row["status"],
                    row["stop_reason"],
                    row["created"],
                    row["scope"],
                )
                for row in connection.execute(select).mappings()
            )


def _owned(owner: str) -> sa.ColumnElement[bool]:
    """Runs of the owner's conversations and batches; on this machine without keys also those of the command line."""
    run = db.run.c
    mine = run.scope.startswith(scope_of(owner, ""), autoescape=True) | run.job.startswith(
        f"batch:{owner}:", autoescape=True
    )
    if owner != LOCAL:
        return mine
    return mine | ~(
        run.scope.startswith("chat:", autoescape=True) | run.job.startswith("batch:", autoescape=True)
    )


def _same_answer(turn: Turn, said: str) -> bool:
    """Whether the client's text is this turn's answer, whatever was appended to it for people."""
    return turn.status is not None and _letters(said).startswith(_letters(turn.text)[:200])


def _letters(text: str) -> str:
    return re.sub(r"\W+", "", re.sub(r"\[(?:\d{1,3}|unverified)\]", "", text))

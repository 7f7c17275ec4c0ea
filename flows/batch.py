"""A batch while it runs: the open store, the questions that are left, the file their answers go to.

Nothing here knows Prefect. The tasks of the flow find the batch of their process in ``current``.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from ragpool.corpus import QuestionRecord, read_questions
from ragpool.db import DATABASE_FILE, Database
from ragpool.errors import InputError, StoreLockedError, StoreNotFoundError
from ragpool.events import Answered
from ragpool.pool import PoolStore
from ragpool.sdk import RagPool
from ragpool.settings import Settings
from ragpool.types import Answer

from .lines import AnswersFile

Progress = Callable[[int, int, Answer | None], None]
"""Called with (finished, total, the answer that just came or None)."""


class Interrupted(Exception):
    """The batch was told to stop; what the question has committed so far stays."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a batch has to do: ``already`` questions have their line, ``left`` have none and no stored answer."""

    job: str
    file: AnswersFile
    total: int
    already: int
    left: tuple[QuestionRecord, ...]


@dataclass(slots=True)
class Batch:
    """A batch in this process. ``answer`` may be called from several threads."""

    work: Work
    rag: RagPool
    on_progress: Progress | None = None
    retry_delays: Sequence[float] | None = None  # seconds; None: the task's own
    stop: threading.Event = field(default_factory=threading.Event)
    answered: dict[str, Answer] = field(default_factory=dict)
    errors: dict[str, Exception] = field(
        default_factory=dict
    )  # the last one of each question that has no answer
    flow_run_id: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question_id: str, question: str) -> Answer:
        """Answer one question and write its line. Raises what the loop raises, and Interrupted."""
        try:
            answer = self._asked(question_id, question)
            self.work.file.append(answer)
        except Exception as error:  # kept for the report; the task's own state is Prefect's affair
            self.errors[question_id] = error
            raise
        with self._lock:
            self.errors.pop(question_id, None)
            self.answered[question_id] = answer
            self._progress(answer)
        return answer

    def give_up(self, question_id: str, error: Exception) -> None:
        """The question failed for good; the rest goes on."""
        with self._lock:
            self.errors.setdefault(question_id, error)
            self._progress(None)

    @property
    def failed(self) -> tuple[tuple[str, str], ...]:
        """(id, reason in one line) of the questions that failed, in the order of the file."""
        found = ((q.id, self.errors[q.id]) for q in self.work.left if q.id in self.errors)
        return tuple((name, reason(error)) for name, error in found if not isinstance(error, Interrupted))

    @property
    def finished(self) -> int:
        return self.work.already + len(self.answered)

    def _asked(self, question_id: str, question: str) -> Answer:
        # not ask(cancelled=...): that would commit an answer that says "cancelled", and a later run would keep it
        for event in self.rag.stream(question, id=question_id, job=self.work.job):
            if isinstance(event, Answered):
                return event.answer
            if self.stop.is_set():
                raise Interrupted("the batch was stopped")
        raise AssertionError("a run ends with Answered")

    def _progress(self, answer: Answer | None) -> None:
        if self.on_progress is not None:
            self.on_progress(self.finished + len(self.failed), self.work.total, answer)


current: ContextVar[Batch] = ContextVar("ragpool_batch")


def job_name(out: Path) -> str:
    """The default name of the job that writes ``out``: the file's name and six digits of its full path."""
    digest = hashlib.sha256(str(out.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{out.stem}-{digest[:6]}"


@contextmanager
def opened_work(
    questions: Path,
    store: Path,
    out: Path,
    settings: Settings,
    job: str | None = None,
    limit: int | None = None,
) -> Iterator[Work]:
    """Read the questions, take the right to write ``out``, and find what is left to do.

    Answers that the pool has and the file lacks are written to the file here, without any model. Raises InputError
    for a bad questions file or an ``out`` that is not a batch's, StoreNotFoundError, StoreLockedError.
    """
    if not store.is_dir():
        raise StoreNotFoundError(f"no index at {store}: ragpool index PATH --store {store}")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit}: give a number of questions from 1 up")
    records = read_questions(questions)[:limit]
    asked = {record.id: record.question.strip() for record in records}
    job = job or job_name(out)
    with _writing(store, out):
        file = AnswersFile(out, asked, settings.config_hash())
        missing = [record for record in records if record.id not in file.done]
        left = list(_unanswered(missing, file, store, settings, job)) if missing else []
        yield Work(job, file, len(records), len(records) - len(left), tuple(left))


def reason(error: BaseException) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (
        text
        if text and type(error).__module__.startswith("ragpool.")
        else f"{name}: {text}"[:500].rstrip(": ")
    )


def _unanswered(
    records: Sequence[QuestionRecord], file: AnswersFile, store: Path, settings: Settings, job: str
) -> Iterator[QuestionRecord]:
    if settings.database_url is None and not (store / DATABASE_FILE).is_file():
        yield from records
        return
    database = Database.in_folder(store, settings.database_url)
    try:
        pools = PoolStore(database)
        for record in records:
            stored = pools.find_answer(
                job=job,
                question_id=record.id,
                question=record.question.strip(),
                config_hash=settings.config_hash(),
            )
            if stored is None:
                yield record
            else:
                file.append(stored)
    finally:
        database.close()


@contextmanager
def _writing(store: Path, out: Path) -> Iterator[None]:
    folder = store / "batches"
    folder.mkdir(exist_ok=True)
    lock = FileLock(folder / f"{job_name(out)}.lock", thread_local=False)
    try:
        lock.acquire(timeout=1)
    except Timeout as error:
        raise StoreLockedError(
            f"another batch is writing {out}: wait until it is done, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()

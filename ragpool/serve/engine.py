"""Questions from many clients to the loop: a bounded queue, a few threads, and events back to the event loop.

The loop is synchronous and its models use the processor; so the number of threads is small (one by default) and what
comes beyond the queue is refused at once. A client that leaves or a deadline that passes stops the work at its next
event, and the run is recorded with that reason.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from ragpool.errors import RagpoolError
from ragpool.events import Answered, Event, Judged, Retrieved, Started, Token
from ragpool.sdk import RagPool
from ragpool.serve.conversations import Conversations, scope_of
from ragpool.serve.errors import ApiError
from ragpool.serve.followup import Exchange, Rewriter
from ragpool.serve.metrics import Metrics
from ragpool.serve.prose import Prose
from ragpool.settings import Effort, Method
from ragpool.types import Answer, AnswerStatus, StopReason, Usage

log = logging.getLogger("ragpool.serve")

_BUFFER = 256  # events that may wait for a slow client; then the work waits for it
_PACE = 0.05  # seconds between two sendings of an answer's pieces: nobody reads faster, and each one costs the loop
_GRACE = 5.0  # seconds after the deadline within which the work may still notice it
_ROUNDS_SHARE = 0.8  # of the time goes to the rounds, the rest to writing the answer


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of one client. ``earlier`` is its conversation as the client sent it, oldest first."""

    question: str
    owner: str
    conversation: str
    effort: Effort
    method: Method
    deadline: float  # seconds from now, waiting included
    earlier: tuple[Exchange, ...] = ()
    goes_on: bool = True  # the conversation may hold evidence already


class Job:
    """A question that waits or is in work. ``events`` is for the event loop, the rest is safe in any thread."""

    def __init__(self, ask: Ask, engine: Engine) -> None:
        self.ask = ask
        self.arrived = time.monotonic()
        self.ends = self.arrived + ask.deadline
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._items: deque[Event | _End] = deque()
        self._ready = asyncio.Event()
        self._woken = False  # the event loop knows that there is something
        self._room = threading.Semaphore(_BUFFER)
        self._left = threading.Event()

    async def events(self) -> AsyncIterator[Event]:
        """The events as they come, the last one is Answered. Leaving early cancels the work.

        Pieces of the answer that come within ``_PACE`` leave as one. Raises what the loop raises, and ApiError 504
        when the work did not notice its deadline in time.
        """
        late = ApiError(504, "no answer within the deadline: ask with less effort", code="deadline")
        timer = self._loop.call_later(max(self.ends - time.monotonic(), 0) + _GRACE, self._send, _End(late))
        try:
            while True:
                event = await self._next()
                if isinstance(event, _End):
                    if event.error is not None:
                        raise event.error
                    return
                if isinstance(event, Token):
                    yield self._joined(event)
                    await asyncio.sleep(_PACE)
                else:
                    yield event
        finally:
            timer.cancel()
            self.cancel()

    async def _next(self) -> Event | _End:
        while not self._items:
            self._ready.clear()
            self._woken = False
            if not self._items:  # what is appended from here on sees that nobody was woken
                await self._ready.wait()
        self._room.release()
        return self._items.popleft()

    def _joined(self, token: Token) -> Token:
        """The token with those that wait behind it."""
        pieces = [token.text]
        while self._items and isinstance(following := self._items[0], Token):
            self._items.popleft()
            self._room.release()
            pieces.append(following.text)
        return Token("".join(pieces))

    def cancel(self) -> None:
        """The client is gone: a question that waits is dropped, one in work stops at its next event."""
        self._left.set()
        self._engine._drop(self)

    def stopped(self) -> StopReason | None:
        """Why the work should stop now, if it should."""
        if self._left.is_set():
            return StopReason.CANCELLED
        if time.monotonic() >= self.ends:
            return StopReason.DEADLINE
        return None

    def _put(self, event: Event) -> None:
        while not self._room.acquire(timeout=0.25):
            if self.stopped() is not None:
                return  # nobody reads; the caller sees the same reason next
        self._send(event)

    def _send(self, item: Event | _End) -> None:
        self._items.append(item)
        if self._woken:
            return
        self._woken = True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the event loop is gone, and the client with it
            self._left.set()


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


@dataclass(slots=True)
class _Progress:
    """What a run has shown so far: enough to record it when it is cut off."""

    run_id: str = ""
    pieces: list[str] = field(default_factory=list)  # of the answer


class Engine:
    """The threads that answer. ``submit`` refuses past the queue's length; ``close`` waits for what is in work."""

    def __init__(
        self,
        rag: RagPool,
        conversations: Conversations,
        rewriter: Rewriter,
        metrics: Metrics,
        *,
        workers: int,
        waiting: int,
    ) -> None:
        self._rag = rag
        self._conversations = conversations
        self._rewriter = rewriter
        self._metrics = metrics
        self._workers = workers
        self._limit = waiting
        self._waiting: deque[Job] = deque()
        self._running: set[Job] = set()
        self._changed = threading.Condition()
        self._closed = False
        self._usual = 5.0  # seconds a question takes, a running mean
        self._threads = [
            threading.Thread(target=self._serve, name=f"ragpool-answer-{n}", daemon=True)
            for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy(self) -> tuple[int, int]:
        """(questions in work, questions that wait)."""
        with self._changed:
            return len(self._running), len(self._waiting)

    def submit(self, ask: Ask) -> Job:
        """Queue a question. Raises ApiError 429 with Retry-After when the queue is full, 503 when closing."""
        job = Job(ask, self)
        with self._changed:
            if self._closed:
                raise ApiError(503, "the server is stopping: ask again in a moment", retry_after=5)
            free = self._workers - len(self._running)
            if len(self._waiting) >= self._limit + max(free, 0):
                self._metrics.rejected.labels("queue").inc()
                wait = min(max(round(self._usual * (len(self._waiting) + 1) / self._workers), 1), 120)
                raise ApiError(
                    429,
                    f"{len(self._waiting)} questions wait already: try again in {wait} s",
                    code="queue_full",
                    retry_after=wait,
                )
            self._waiting.append(job)
            self._measure()
            self._changed.notify()
        return job

    def close(self, timeout: float) -> bool:
        """Take no more, drop what waits, stop what runs and wait for it. False when a thread is still busy then."""
        with self._changed:
            self._closed = True
            dropped = list(self._waiting)
            self._waiting.clear()
            for job in self._running:
                job._left.set()
            self._changed.notify_all()
        for job in dropped:
            job._send(_End(ApiError(503, "the server is stopping: ask again in a moment", retry_after=5)))
        end = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0))
        return not any(thread.is_alive() for thread in self._threads)

    # -- in the threads ----------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            begun = time.monotonic()
            self._metrics.queued.observe(begun - job.arrived)
            try:
                for event in self._events(job):
                    job._put(event)
                end = _End()
            except Exception as error:  # a thread outlives any question; the client gets the error
                self._metrics.failures.inc()
                if not isinstance(error, RagpoolError | ApiError):
                    log.exception("a question failed")
                end = _End(error)
            job._send(end)
            with self._changed:
                self._running.discard(job)
                self._usual += (time.monotonic() - begun - self._usual) * 0.2
                self._measure()

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting:
                if self._closed:
                    return None
                self._changed.wait()
            job = self._waiting.popleft()
            self._running.add(job)
            self._measure()
            return job

    def _events(self, job: Job) -> Iterator[Event]:
        """The run's events; cut off with an answer that says why when the client left or time is over."""
        ask, progress = job.ask, _Progress()
        if job.stopped() is StopReason.DEADLINE:
            raise ApiError(504, "the question waited longer than its deadline: ask again", code="deadline")
        question = self._rewriter.rewrite(ask.question, self._earlier(ask))
        begun = time.monotonic()
        left = job.ends - begun
        stream = self._rag.stream(
            question,
            id=ask.question,
            scope=scope_of(ask.owner, ask.conversation),
            effort=ask.effort,
            method=ask.method,
            deadline=left * _ROUNDS_SHARE,
            cancelled=job._left.is_set,
        )
        reason: StopReason | None = None
        with closing(stream):  # type: ignore[type-var]
            for event in stream:
                self._note(event, job, progress, begun)
                yield event
                reason = None if isinstance(event, Answered) else job.stopped()
                if reason is not None:
                    break
        if reason is not None:
            answer = self._cut(progress, reason)
            self._metrics.answered(answer, ask.effort)
            yield Answered(answer)

    def _note(self, event: Event, job: Job, progress: _Progress, begun: float) -> None:
        metrics = self._metrics
        if isinstance(event, Started):
            progress.run_id = event.run_id
            metrics.first_event.observe(time.monotonic() - begun)
        elif isinstance(event, Retrieved) and event.round == 0:
            metrics.first_evidence.observe(time.monotonic() - job.arrived)
        elif isinstance(event, Judged):
            metrics.judged(event.judgement)
        elif isinstance(event, Token):
            if not progress.pieces:
                metrics.first_token.observe(time.monotonic() - job.arrived)
            progress.pieces.append(event.text)
        elif isinstance(event, Answered):
            metrics.answered(event.answer, job.ask.effort)

    def _cut(self, progress: _Progress, reason: StopReason) -> Answer:
        """Record why the run ended; what was written so far is kept, unchecked and without citations."""
        pool = self._rag.pools.pool(progress.run_id)
        text = Prose().feed("".join(progress.pieces)).strip()
        judged = pool.judgements
        return pool.save_answer(
            answer=text,
            text=text,
            status=AnswerStatus.PARTIAL if text else AnswerStatus.INSUFFICIENT,
            stop_reason=reason,
            rounds=pool.last_round + 1,
            citations=(),
            given=(),
            missing=tuple(gap.text for gap in judged[-1][1].gaps) if judged else (),
            usage=Usage(),
            seconds=0.0,
        )

    def _earlier(self, ask: Ask) -> tuple[Exchange, ...]:
        """The conversation so far: as stored, which has the stand-alone questions, else as the client sent it."""
        turns = [t for t in self._conversations.turns(ask.owner, ask.conversation) if t.status is not None]
        while turns and turns[-1].asked == ask.question:  # the same question again
            turns.pop()
        return tuple(Exchange(t.question, t.answer) for t in turns) or ask.earlier

    def _drop(self, job: Job) -> None:
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
                self._measure()

    def _measure(self) -> None:
        self._metrics.waiting.set(len(self._waiting))
        self._metrics.running.set(len(self._running))

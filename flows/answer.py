"""``run_batch``: a questions file to an answers file, as a Prefect flow, from any folder, with or without a server.

Importing this module does not import prefect, and a batch with nothing left to do does not start it.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ragpool.errors import InputError, RagpoolError
from ragpool.sdk import RagPool
from ragpool.settings import Settings

from .batch import Batch, Progress, Work, current, opened_work
from .home import outside_loop, prefect_home

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas import State


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What a batch did.

    ``answered`` questions were answered now, ``already`` had their answer; ``failed`` are (id, reason) of those that
    have none and are tried again by the next run. ``flow_run_id`` is None when there was nothing to do.
    """

    answered: int
    already: int
    failed: tuple[tuple[str, str], ...]
    seconds: float
    flow_run_id: str | None
    job: str


def run_batch(
    questions: Path,
    store: Path,
    out: Path,
    *,
    settings: Settings,
    workers: int = 1,
    job: str | None = None,
    limit: int | None = None,
    on_progress: Progress | None = None,
    open_rag: Callable[[], RagPool] | None = None,
    retry_delays: Sequence[float] | None = None,
) -> BatchReport:
    """Answer the questions of ``questions`` and append a line for each to ``out``, in the order in which they finish.

    The pool is the checkpoint: a batch that was killed goes on from the last committed step of each question, and
    what the pool has answered is only written. ``limit`` takes the first questions alone. Without ``job`` the name
    comes from ``out``. ``open_rag`` opens the store in another way, for models that settings cannot name;
    ``retry_delays`` are the seconds before each further try after a network or rate error.

    Raises InputError for a bad questions file or an ``out`` that is not of this batch, StoreNotFoundError,
    StoreLockedError when another process writes ``out``, and KeyboardInterrupt, after a clean stop, on Ctrl-C.
    """
    if workers < 1:
        raise InputError(f"workers {workers}: give a number from 1 up")
    begun = time.monotonic()
    with opened_work(questions, store, out, settings, job, limit) as work:
        if on_progress is not None:
            on_progress(work.already, work.total, None)
        if not work.left:
            return BatchReport(0, work.already, (), time.monotonic() - begun, None, work.job)
        opened = open_rag or (lambda: RagPool.open(store, settings=settings))
        with prefect_home(store) as ready, opened() as rag:
            rag.steps  # noqa: B018 - models load here, while the server starts
            ready()
            batch = Batch(work, rag, on_progress, retry_delays)
            parameters = {
                "questions": str(questions),
                "store": str(store),
                "out": str(out),
                "workers": workers,
                "job": work.job,
                "limit": limit,
                "effort": settings.effort,
                "method": settings.method,
            }
            _run_flow(batch, parameters)
    if batch.stop.is_set():
        raise KeyboardInterrupt(_stopped(batch, work))
    return BatchReport(
        len(batch.answered), work.already, batch.failed, time.monotonic() - begun, batch.flow_run_id, work.job
    )


def _run_flow(batch: Batch, parameters: dict[str, Any]) -> None:
    from .answer_flow import answer_batch

    token = current.set(batch)
    try:
        with _interruptible(batch):
            state = outside_loop(lambda: asyncio.run(_called(answer_batch, parameters)))
    finally:
        current.reset(token)
    if state.is_crashed() or (state.is_failed() and not batch.failed):
        raise RagpoolError(f"the flow run ended early: {state.message}; run the same command again to go on")


async def _called(flow: Flow[..., Any], parameters: dict[str, Any]) -> State[Any]:
    state: State[Any] = await flow(**parameters, return_state=True)  # type: ignore[misc]
    return state


@contextmanager
def _interruptible(batch: Batch) -> Iterator[None]:
    """The first Ctrl-C stops the batch at the next step of each question, the second one at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        batch.stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stopped(batch: Batch, work: Work) -> str:
    return (
        f"stopped with {batch.finished} of {work.total} questions answered; nothing is lost, "
        "run the same command again to go on"
    )
